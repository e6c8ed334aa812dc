"""Tables of results as text, as wide as there is room for."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Column", "text_table"]


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        head: Its name, as wide as the column.
        cells: What stands below, of the same width.
        spare: How soon it is left out where there is no room, with all others of this number; 0 never.
        note: What is to be known of it, said below where it is there.
    """

    head: str
    cells: Sequence[str]
    spare: int = 0
    note: str = ""


def text_table(columns: Sequence[Column], below: str, width: int | None = None) -> str:
    """A head, a line, the rows, and what is to be known of them.

    Args:
        columns: The columns, from left to right.
        below: Lines of text below, without the full stop; those that are too long are broken between words.
        width: Characters of a line; None for as many as it takes. Columns that can be spared give way.
    """
    kept = list(columns)
    while width is not None and _width(kept) > width and any(column.spare for column in kept):
        # Those that belong together go together.
        most = max(column.spare for column in kept)
        kept = [column for column in kept if column.spare < most]
    lines = _lines(kept)
    below += "".join(dict.fromkeys(column.note for column in kept)) + "."
    if width is None:
        return "\n".join([*lines, below])
    said = [" ".join(below.split())]
    if len(kept) < len(columns):
        names = ", ".join(column.head.strip() for column in columns if column not in kept)
        said.append(f"A wider terminal shows more: {names}.")
    return "\n".join([*lines, *(textwrap.fill(text, width) for text in said)])


def _lines(columns: Sequence[Column]) -> list[str]:
    head = "".join(column.head for column in columns).rstrip()
    rows = zip(*(column.cells for column in columns), strict=True)
    return [head, "-" * len(head), *("".join(row).rstrip() for row in rows)]


def _width(columns: Sequence[Column]) -> int:
    return max(map(len, _lines(columns)))

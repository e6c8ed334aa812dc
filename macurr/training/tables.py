"""The tables of a run: CSV files that grow by a row for each update, and may end in half a row after a crash."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from macurr.persistence import write_atomically

__all__ = ["append_row", "cut_rows", "read_csv"]


def append_row(file: Path, row: Mapping[str, Any]) -> None:
    """Append a row; the first one brings the names of the columns, and later ones may add columns.

    Args:
        file: The table.
        row: Values by column; what is missing stays empty.

    Raises:
        OSError: it cannot be written, or only a part of it.
    """
    header = _header(file)
    names = [*header, *(name for name in row if name not in header)]
    if header and len(names) > len(header):
        wider = _text(names, _complete(_content(file))[1], head=True)
        write_atomically(file, wider.encode())
    text = _text(names, [[row.get(name, "") for name in names]], head=not header)
    with file.open("a", newline="") as out:
        out.write(text)


def cut_rows(file: Path, update: int) -> None:
    """Drop the rows of later updates, and a row that was not written to its end.

    Args:
        file: The table; it may be missing.
        update: The last update to keep.

    Raises:
        OSError: it cannot be rewritten.
    """
    if not file.exists():
        return
    header, rows = _complete(_content(file))
    if not header:
        file.unlink()
        return
    kept = [row for row in rows if row[0].isdigit() and int(row[0]) <= update]
    write_atomically(file, _text(header, kept, head=True).encode())


def read_csv(file: Path) -> dict[str, list[float]]:
    """The columns of a table of numbers, by name; empty where there is none. A cell without a number is NaN.

    Args:
        file: The table. A run may be writing to it: half a row at its end is left out.
    """
    if not file.exists():
        return {}
    header, rows = _complete(_content(file))
    columns = zip(*rows, strict=True) if rows else ()
    return {name: [*map(_number, column)] for name, column in zip(header, columns, strict=False)}


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:  # empty, or damaged by a crash of the machine
        return math.nan


def _content(file: Path) -> str:
    """The text of a table, with a mark for each byte that is none of it."""
    return file.read_text(errors="replace")


def _complete(text: str) -> tuple[list[str], list[list[str]]]:
    """The header and the rows that were written to their end. A row before a column was added is padded."""
    whole, newline, _ = text.rpartition("\n")
    header, *rows = list(csv.reader(io.StringIO(whole + newline))) or [[]]
    return header, [row for row in rows if len(row) == len(header)]


def _header(file: Path) -> list[str]:
    if not file.exists():
        return []
    with file.open(newline="") as lines:
        first = lines.readline()
    return next(csv.reader([first])) if first.endswith("\n") else []


def _text(names: list[str], rows: Iterable[list[Any]], *, head: bool) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    if head:
        writer.writerow(names)
    writer.writerows([*row, *[""] * (len(names) - len(row))] for row in rows)
    return out.getvalue()

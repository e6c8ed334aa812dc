"""What became of the members of a population, one JSON line each time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from macurr.persistence import write_atomically

__all__ = ["PopulationHistory", "read_history"]


class PopulationHistory:
    """A file that lines are added to.

    Args:
        path: The file, which is made with the first line; its folder exists.

    Attributes:
        lines: How many lines it holds, for `cut`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = 0

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a line of plain values.

        Raises:
            OSError: the file cannot be written.
        """
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        self.lines += 1

    def cut(self, lines: int) -> None:
        """Drop what was written after a checkpoint: it will be written again.

        Args:
            lines: How many lines the checkpoint knows.

        Raises:
            OSError: the file cannot be written.
        """
        kept = read_history(self.path)[:lines]
        self.lines = len(kept)
        if self.path.exists():
            write_atomically(self.path, "".join(json.dumps(row) + "\n" for row in kept).encode())


def read_history(path: Path) -> list[dict[str, Any]]:
    """The lines of a history, oldest first; none where there is no file.

    A line that is still being written, that its writer left unfinished as it died, or that is damaged ends them.

    Args:
        path: `population.jsonl` of a run, or `members/<name>/history.jsonl` of a population's directory.
    """
    try:
        lines = path.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return []
    rows: list[dict[str, Any]] = []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            break
        if not isinstance(row, dict):
            break
        rows.append(row)
    return rows

"""A list of the letters that have been applied since the last checkpoint: so that a loss can be counted.

Their contents are kept by who wrote them and sent again. A worker that dies together with the actor cannot do that;
what it had told is lost then, and this list says how much it was. Records are appended and not flushed to the disk:
they survive the end of the process, not always that of the machine.
"""

from __future__ import annotations

import logging
import os
import struct
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from macurr.errors import StateError

__all__ = ["Journal"]

_RECORD = struct.Struct("<16sQI")  # incarnation, number of the letter, updates in it

_logger = logging.getLogger("macurr")


class Journal:
    """The letters that a restart has undone or would undo.

    Args:
        path: The file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._file: int | None = None
        self._lost: dict[str, dict[int, int]] = {}

    def note(self, incarnation: str, seq: int, updates: int) -> None:
        """Note that a letter has been applied, with so many updates: if it was lost before, it is not any more."""
        lost = self._lost.get(incarnation)
        if lost is not None:
            lost.pop(seq, None)
        try:
            if self._file is None:
                self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            os.write(self._file, _RECORD.pack(uuid.UUID(incarnation).bytes, seq, updates))
        except OSError as error:
            _logger.warning("A loss could not be counted if one happened now: %s: %s", self._path, error)

    def clear(self) -> None:
        """Begin anew, after a checkpoint: a restart would undo none of these letters."""
        try:
            if self._file is None:
                self._path.unlink(missing_ok=True)
            else:
                os.ftruncate(self._file, 0)
        except OSError as error:
            _logger.warning("%s: %s", self._path, error)  # numbers that are in the checkpoint are not counted

    def recover(self, durable: Mapping[str, int]) -> None:
        """After a restart: what was noted and is in no checkpoint is lost until it comes again.

        Args:
            durable: By incarnation, the number of its last letter that is in the checkpoint.
        """
        data = self._path.read_bytes() if self._path.exists() else b""
        for start in range(0, len(data) - _RECORD.size + 1, _RECORD.size):
            raw, seq, updates = _RECORD.unpack_from(data, start)
            incarnation = uuid.UUID(bytes=raw).hex
            if seq > durable.get(incarnation, 0):
                self._lost.setdefault(incarnation, {})[seq] = updates

    def metrics(self) -> dict[str, float]:
        """How much is lost now. It becomes less while the workers send again what they have."""
        return {
            "exchanges_lost": float(sum(map(len, self._lost.values()))),
            "updates_lost": float(sum(sum(lost.values()) for lost in self._lost.values())),
        }

    def state(self) -> dict[str, Any]:
        """What is lost, as a state."""
        return {
            incarnation: [[seq, updates] for seq, updates in sorted(lost.items())]
            for incarnation, lost in self._lost.items()
            if lost
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from `state()`.

        Raises:
            StateError: it is damaged.
        """
        try:
            self._lost = {
                name: {int(seq): int(updates) for seq, updates in lost} for name, lost in state.items()
            }
        except (AttributeError, TypeError, ValueError) as error:
            raise StateError(f"The checkpoint's account of what was lost is damaged: {error}") from error

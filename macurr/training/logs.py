"""The curves of a run for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from typing_extensions import Self

__all__ = ["TensorBoard"]

_GROUPS = {
    "win": "play",
    "draw": "play",
    "loss": "play",
    "learner_return": "play",
    "episode_length": "play",
    "episodes": "play",
    "pool": "play",
    "level_score": "levels",
    "levels_seen": "levels",
}


class TensorBoard:
    """Writes event files. It is a context manager.

    Args:
        folder: Where to.
        step: The step from which on to write: what is there from later ones is hidden.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._writer: Any = SummaryWriter(str(folder), purge_step=step or None)

    def write(self, row: Mapping[str, Any], timing: Mapping[str, float], synced: Any, step: int) -> None:
        """Write one update.

        Args:
            row: The row of metrics.csv.
            timing: The row of timing.csv.
            synced: The curriculum, which has metrics of its own.
            step: Environment steps so far.
        """
        for name, value in row.items():
            if name not in ("update", "steps"):
                self._writer.add_scalar(f"{_GROUPS.get(name, 'learner')}/{name}", value, step)
        for name, value in timing.items():
            self._writer.add_scalar(f"time/{name}", value, step)
        synced.log_metrics(self._writer, step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

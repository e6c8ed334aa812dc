"""When the state of a run is captured, and when it is written to the disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from macurr.opponents import AgentPool
from macurr.training.rundir import RunDir

__all__ = ["Checkpoints", "settle_pool"]

_SHARE = 100.0
"""A capture may come again after so many times what the last one took: captures cost one percent at most."""

Capture = Callable[[], dict[str, Any]]


class Checkpoints:
    """Captures the state of a run and writes it down.

    Where collection and training alternate, a whole state can be had between two updates only. It is captured then as
    often as costs one percent of the time, so that a failure in the middle of an update loses little; where they go on
    at the same time, only when it is to be written.

    Args:
        run: The run's directory.
        minutes: Minutes between two checkpoints on the disk.
    """

    def __init__(self, run: RunDir, minutes: float) -> None:
        self._run, self._seconds = run, 60 * minutes
        self._state: dict[str, Any] | None = None
        self._written = True
        self._saved_at = time.monotonic()
        self._free_at = 0.0

    @property
    def empty(self) -> bool:
        """Whether no state was captured or loaded yet."""
        return self._state is None

    def loaded(self, state: Mapping[str, Any]) -> None:
        """Note that the run goes on from a state."""
        self._state, self._written = dict(state), True

    def offer(self, capture: Capture, *, often: bool, first: bool) -> None:
        """An update is over: capture and save what is due.

        Args:
            capture: Gives the state.
            often: Whether to capture it as often as costs little, besides when it is to be written.
            first: Whether nothing was ever saved, so that it is high time.
        """
        due = first or time.monotonic() - self._saved_at >= self._seconds
        if due or (often and time.monotonic() >= self._free_at):
            self.capture(capture)
        if due:
            self.save()

    def capture(self, capture: Capture) -> None:
        """Take the state as it is now."""
        begun = time.monotonic()
        self._state, self._written = capture(), False
        ended = time.monotonic()
        self._free_at = ended + _SHARE * (ended - begun)

    def note_snapshots(self, ids: Collection[int]) -> None:
        """Note that snapshots were added since the state was captured."""
        if self._state is not None:
            self._state["snapshots"], self._written = list(ids), False

    def save(self) -> None:
        """Write down the latest state, unless it is written already.

        Raises:
            ConfigError: the disk refuses; the checkpoint before is still there.
        """
        if self._state is not None and not self._written:
            self._run.save(self._state)
            self._written = True
        self._saved_at = time.monotonic()


def settle_pool(pool: AgentPool, known: Collection[int], update: int) -> None:
    """Bring the pool of a run that was killed to where its checkpoint was.

    Snapshots of later updates go: those updates are made again. A snapshot of the checkpoint's own update was added
    right after it, and stays.

    Args:
        pool: The pool.
        known: The ids that the checkpoint knows.
        update: The checkpoint's update.

    Raises:
        PoolError: the pool cannot be read or written.
    """
    pool.settle()
    for stray in set(pool.ids) - set(known):
        if pool.metadata(stray).get("update") != update:
            pool.remove(stray)

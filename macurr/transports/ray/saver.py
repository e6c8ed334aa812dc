"""When checkpoints are written, and how an actor begins with one."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any, NamedTuple

from macurr.errors import StateError, UsageError
from macurr.host import CurriculumHost
from macurr.persistence import load_state, save_state
from macurr.transports.ray.checkpoint import host_state, restore, snapshot
from macurr.transports.ray.journal import Journal
from macurr.transports.ray.workers import Worker, Workers

__all__ = ["Saver", "Saving"]

ID_BLOCK = 256
"""Ids of environments are reserved on disk by that many at a time, so that none is given twice."""

_logger = logging.getLogger("macurr")


class Saving(NamedTuple):
    """Where and when the actor writes checkpoints.

    Attributes:
        path: The file.
        letters: After how many letters at the latest.
        seconds: After how many seconds at the latest, if there is anything new.
        run: A name of this run; the file of another run is not read but on `resume`.
        resume: Whether to begin with what another run has left in the file.
    """

    path: str
    letters: int
    seconds: float
    run: str
    resume: bool


class Saver:
    """Writes the checkpoints of an actor.

    Args:
        saving: Where and when.
        host: The host.
        workers: Who writes to it.
    """

    def __init__(self, saving: Saving, host: CurriculumHost, workers: Workers) -> None:
        self._saving, self._host, self._workers = saving, host, workers
        self._journal = Journal(f"{saving.path}.journal")
        self.life = 0
        self._reserved = self._unsaved = self._saves = self._failed = 0
        self._saved_at, self._seconds = time.monotonic(), 0.0

    def begin(self, *, restarted: bool) -> None:
        """Go on from the checkpoint, if there is one, and write the first one.

        Args:
            restarted: Whether an earlier life of this actor has ended, so that there has to be one.

        Raises:
            UsageError: there is one of another run, and it was not said to resume it.
            StateError: it cannot be read, or it ought to be there and is not.
            OSError: none can be written.
        """
        state = self._found(restarted)
        if state is not None and state.get("run") == self._saving.run:
            restore(self._host, self._workers, state)
            self.life = state["life"] + 1
            self._journal.load(state["lost"])
            self._journal.recover({w.incarnation: w.seq for w in self._workers.by_name.values()})
            self._host.reserve_ids(state["reserved_ids"])
        elif state is not None:  # that run's environments are gone; their tasks are handed out again first
            self._host.load_state_dict(host_state(state))
        self.save()

    def _found(self, restarted: bool) -> dict[str, Any] | None:
        saving = self._saving
        if not Path(saving.path).exists():
            if restarted:
                raise StateError(
                    f"The actor was restarted, and its checkpoint {saving.path} is not to be found where it runs "
                    "now. Put checkpoints on a file system that every node shares."
                )
            return None
        state = load_state(saving.path)
        if state.get("run") == saving.run or (saving.resume and not restarted):
            return state
        raise UsageError(
            f"There is a checkpoint of another run at {saving.path}. Pass resume=True to go on from it, or another "
            "path, or remove it."
        )

    def note(self, worker: Worker, updates: int) -> None:
        """Note that a letter of a worker has been applied, with so many updates."""
        self._unsaved += 1
        self._journal.note(worker.incarnation, worker.seq, updates)
        if self._host.next_id > self._reserved:  # no id may be given again, whatever happens
            self.save_if_due(demanded=True)

    def save_if_due(self, *, demanded: bool) -> None:
        """Write a checkpoint if it is time, or if somebody wants one and there is anything new."""
        if self._unsaved == 0 or self._host.failure is not None:
            return
        late = time.monotonic() - self._saved_at >= self._saving.seconds
        if demanded or late or self._unsaved >= self._saving.letters:
            try:
                self.save()
            except OSError as error:
                # Training goes on; the workers keep their letters for as long as they can.
                self._failed += 1
                self._saved_at = time.monotonic()
                _logger.warning("The checkpoint %s could not be written: %s", self._saving.path, error)

    def save(self) -> None:
        """Write a checkpoint.

        Raises:
            OSError: it cannot be written; the one before is still there.
        """
        begun = time.monotonic()
        reserved = max(self._reserved, self._host.next_id + ID_BLOCK)
        state = snapshot(self._host, self._workers)
        state.update(run=self._saving.run, life=self.life, reserved_ids=reserved, lost=self._journal.state())
        save_state(self._saving.path, state)
        self._journal.clear()
        for worker in self._workers.by_name.values():
            worker.durable = worker.seq
        self._reserved, self._unsaved, self._saved_at = reserved, 0, time.monotonic()
        self._saves, self._seconds = self._saves + 1, self._saved_at - begun

    def metrics(self) -> dict[str, float]:
        """What has been written, and what a restart has cost."""
        return {
            **self._journal.metrics(),
            "restarts": float(self.life),
            "checkpoints": float(self._saves),
            "checkpoints_failed": float(self._failed),
            "checkpoint_seconds": self._seconds,
        }

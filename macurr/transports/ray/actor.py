"""The actor that owns a curriculum: the same host as everywhere, reached by numbered letters.

Nothing here imports Ray: an actor is an object whose methods are called, one letter at a time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import cloudpickle  # type: ignore[import-untyped]

from macurr.errors import CurriculumError, MacurrError, StateError, TransportError, UsageError
from macurr.host import CurriculumHost
from macurr.persistence import load_state, save_state
from macurr.transports.ray.checkpoint import restore, snapshot
from macurr.transports.ray.mail import open_letter
from macurr.transports.ray.messages import Answers, Failure, Outcome, Reply, Settings, outcome_of
from macurr.transports.ray.workers import Worker, Workers

__all__ = ["CurriculumActor", "Saving"]

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


class CurriculumActor:
    """Serves a curriculum to workers and to the learner, and comes back after it was killed.

    Args:
        parcel: The pickled curriculum.
        max_envs: Only the first that many environments send step updates; None for all.
        settings: Those of the link.
        saving: Where and when checkpoints are written; None for nowhere.
        restarted: Whether an earlier life of this actor has ended.
    """

    def __init__(
        self,
        parcel: bytes,
        max_envs: int | None,
        settings: Settings,
        saving: Saving | None = None,
        restarted: bool = False,
    ) -> None:
        self._settings, self._saving = settings, saving
        self._lock = threading.RLock()
        self._life = self._reserved = self._unsaved = self._saves = self._failed_saves = 0
        self._letters = self._duplicates = self._again = 0
        self._saved_at, self._save_seconds = time.monotonic(), 0.0
        self._busy: tuple[str, float] | None = None
        self._closing = False
        # A constructor that raises would be run again by Ray, for ever: the refusal is told to who asks.
        self._opened = outcome_of(lambda: self._open(parcel, max_envs, restarted))

    def _open(self, parcel: bytes, max_envs: int | None, restarted: bool) -> None:
        self._host = CurriculumHost(cloudpickle.loads(parcel), max_envs)
        self._workers = Workers(self._host, self._settings.worker_timeout)
        if self._saving is None:
            return
        state = self._found(self._saving, restarted)
        if state is not None:
            self._go_on(state, same_run=state.get("run") == self._saving.run)
        self._save()

    def _found(self, saving: Saving, restarted: bool) -> dict[str, Any] | None:
        """The checkpoint to begin with.

        Raises:
            UsageError: there is one of another run, and it was not said to resume it.
            StateError: it cannot be read, or it ought to be there and is not.
        """
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

    def _go_on(self, state: dict[str, Any], *, same_run: bool) -> None:
        if same_run:
            restore(self._host, self._workers, state)
            self._life = state["life"] + 1
            self._host.reserve_ids(state["reserved_ids"])
        else:  # the environments of that run are gone; their tasks are handed out again first
            self._host.load_state_dict(state["resumable"])

    # Environments

    def settings(self) -> Settings:
        """The settings of the link.

        Raises:
            MacurrError: the curriculum could not be served at all.
        """
        self._opened.value()
        return self._settings

    def exchange(
        self, name: str, incarnation: str, seq: int, frames: bytes, known: Answers | None, flags: str
    ) -> Reply:
        """Apply a worker's letter, unless that has been done before, and answer it.

        Args:
            name: The worker.
            incarnation: Which of the processes that have had this name it is.
            seq: The letter's number: one more than that of the one before.
            frames: What it says; see `macurr.transports.ray.mail`.
            known: What it was answered with in an earlier life of this actor; None if nobody knows.
            flags: "s": write a checkpoint; "d": the worker's last letter.

        Returns:
            The reply. Its `seq` is smaller than the letter's where earlier letters are to be sent again.
        """
        with self._doing("letter of a worker"):
            if self._host.failure is not None:
                return Reply(self._life, seq, 0, failure=_failed(self._host), closing=self._closing)
            worker = self._workers.find(name, incarnation)
            if worker is None:
                return Reply(self._life, seq, 0, failure=_replaced(name))
            self._workers.sweep()
            if seq == worker.seq + 1:
                self._read(worker, seq, frames, known)
            elif seq <= worker.seq and frames:
                self._duplicates += 1
            worker.drained = "d" in flags
            self._save_if_due(demanded="s" in flags)
            return self._reply(worker, seq)

    def _read(self, worker: Worker, seq: int, frames: bytes, known: Answers | None) -> None:
        self._again += known is not None
        self._letters += 1
        self._unsaved += 1
        opened = open_letter(self._host, worker.env_ids, frames, known)
        worker.seq, worker.updates = seq, worker.updates + opened.updates
        worker.reply = Reply(
            self._life, seq, 0, opened.answers, tuple(opened.refusals), outcome=opened.outcome
        )
        if self._saving is not None and self._host.next_id > self._reserved:
            self._save()  # no id may be given again, whatever happens

    def _reply(self, worker: Worker, seq: int) -> Reply:
        failure = self._host.failure
        told = None if failure is None else _failed(self._host)
        if worker.reply is None or worker.seq != seq:
            return Reply(self._life, worker.seq, worker.durable, failure=told, closing=self._closing)
        return worker.reply._replace(
            life=self._life, durable=worker.durable, failure=told, closing=self._closing
        )

    # The learner

    def read(self, what: str, parcel: bytes) -> Outcome:
        """Answer a question of the learner that changes nothing that could not be asked again.

        Args:
            what: "call" a method of the curriculum, "get" an attribute, "state", "load" or "metrics".
            parcel: The pickled arguments.
        """

        def work() -> Any:
            self._opened.value()
            arguments, keywords = cloudpickle.loads(parcel)
            with self._doing(f"{what} of the learner"):
                self._workers.sweep()
                return getattr(self, f"_{what}")(*arguments, **keywords)

        return outcome_of(work)

    def _call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        with self._host.locked() as curriculum:
            return getattr(curriculum, name)(*args, **kwargs)

    def _get(self, name: str) -> Any:
        return self._host.get(name)

    def _state(self) -> dict[str, Any]:
        return self._host.state_dict()

    def _load(self, state: dict[str, Any]) -> None:
        self._host.load_state_dict(state)
        if self._saving is not None:
            self._save()

    def _metrics(self) -> dict[str, float]:
        return {
            **self._host.metrics(),
            **self._workers.metrics(),
            "exchanges": float(self._letters),
            "exchanges_repeated": float(self._duplicates),
            "exchanges_resent": float(self._again),
            "restarts": float(self._life),
            "checkpoints": float(self._saves),
            "checkpoints_failed": float(self._failed_saves),
            "checkpoint_seconds": self._save_seconds,
        }

    def health(self) -> dict[str, Any]:
        """How the actor is, without waiting for what it is doing.

        Returns:
            The number of restarts, what it is busy with and for how many seconds, and the error that ended
            its service, if there was one.
        """
        busy, failure = self._busy, self._host.failure if self._opened.ok else None
        return {
            "restarts": self._life,
            "busy_with": None if busy is None else busy[0],
            "busy_seconds": 0.0 if busy is None else time.monotonic() - busy[1],
            "failure": None if failure is None else f"{type(failure).__name__}: {failure}",
        }

    # The end

    def stop(self) -> list[str]:
        """Tell the workers to send what they have; the names of those who have not done so yet."""
        with self._doing("end"):
            self._closing = True
            serving = self._opened.ok and self._host.failure is None
            return self._workers.writing() if serving else []

    def hand_over(self) -> Outcome:
        """The host, to be kept by the learner: this actor serves no more. A last checkpoint is written."""

        def work() -> Any:
            self._opened.value()
            with self._doing("end"):
                self._save_if_due(demanded=True)
                metrics = self._metrics()
                self._host.close()
                return self._host, metrics

        return outcome_of(work)

    # Checkpoints

    def _save_if_due(self, *, demanded: bool) -> None:
        if self._saving is None or self._unsaved == 0 or self._host.failure is not None:
            return
        late = time.monotonic() - self._saved_at >= self._saving.seconds
        if demanded or late or self._unsaved >= self._saving.letters:
            try:
                self._save()
            except OSError as error:
                # Training goes on; the workers keep their letters for as long as they can.
                self._failed_saves += 1
                _logger.warning("The checkpoint %s could not be written: %s", self._saving.path, error)

    def _save(self) -> None:
        if self._saving is None:
            return
        begun = time.monotonic()
        self._reserved = max(self._reserved, self._host.next_id + ID_BLOCK)
        state = snapshot(self._host, self._workers)
        state.update(
            run=self._saving.run,
            life=self._life,
            reserved_ids=self._reserved,
            resumable=self._host.state_dict(),
        )
        save_state(self._saving.path, state)
        for worker in self._workers.by_name.values():
            worker.durable = worker.seq
        self._unsaved, self._saved_at = 0, time.monotonic()
        self._saves, self._save_seconds = self._saves + 1, self._saved_at - begun

    @contextmanager
    def _doing(self, what: str) -> Iterator[None]:
        with self._lock:
            self._busy = (what, time.monotonic())
            try:
                yield
            finally:
                self._busy = None


def _replaced(name: str) -> Failure:
    return Failure.of(
        TransportError(
            f"Another process has taken the place of worker {name} at the curriculum, as a restarted one does. "
            "This one's environments are disconnected."
        )
    )


def _failed(host: CurriculumHost) -> Failure:
    try:
        host.check()
    except MacurrError as error:
        return Failure.of(error, host.failure)
    return Failure.of(CurriculumError("The curriculum has failed."))

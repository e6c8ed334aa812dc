"""The actor that owns a curriculum: the same host as everywhere, reached by numbered letters.

Nothing here imports Ray: an actor is an object whose methods are called, one letter at a time.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cloudpickle  # type: ignore[import-untyped]

from macurr.errors import CurriculumError, TransportError
from macurr.host import CurriculumHost
from macurr.transports.ray.door import Door
from macurr.transports.ray.mail import open_letter
from macurr.transports.ray.messages import (
    Failure,
    Letter,
    Outcome,
    Reply,
    Settings,
    letter_of,
    outcome_of,
    packed,
)
from macurr.transports.ray.saver import Saver, Saving
from macurr.transports.ray.workers import Worker, Workers

__all__ = ["CurriculumActor"]

_logger = logging.getLogger("macurr")


class CurriculumActor:
    """Serves a curriculum to workers and to the learner, and comes back after it was killed.

    What goes wrong while it is made is told to who asks: a constructor that raises would be run by Ray for ever.

    Args:
        parcel: The pickled curriculum.
        max_envs: Only the first that many environments send step updates; None for all.
        settings: Those of the link.
        saving: Where and when checkpoints are written; None for nowhere.
        restarted: Whether an earlier life of this actor has ended.
    """

    _host: CurriculumHost
    _workers: Workers

    def __init__(
        self,
        parcel: bytes,
        max_envs: int | None,
        settings: Settings,
        saving: Saving | None = None,
        restarted: bool = False,
    ) -> None:
        self._settings = settings
        self._lock = threading.RLock()
        self._letters = self._repeated = self._resent = 0
        self._busy: tuple[str, float] | None = None
        self._closing = False
        self._saver: Saver | None = None
        self._door: Door | None = None
        self._refusal: Failure | None = None
        self._opened = outcome_of(lambda: self._open(parcel, max_envs, saving, restarted))

    def _open(self, parcel: bytes, max_envs: int | None, saving: Saving | None, restarted: bool) -> None:
        try:
            self._host = CurriculumHost(cloudpickle.loads(parcel), max_envs)
            self._workers = Workers(self._host, self._settings.worker_timeout)
            if saving is not None:
                self._saver = Saver(saving, self._host, self._workers)
                self._saver.begin(restarted=restarted)
        except Exception as error:
            self._refusal = Failure.of(error)
            raise

    def listen(self, ip: str) -> None:
        """Take letters on direct connections, too.

        Args:
            ip: The address of this node by which others know it.
        """
        try:
            self._door = Door(ip, self.exchange)
        except OSError as error:  # then by Ray only
            _logger.warning("The curriculum's actor cannot listen at %s: %s", ip, error)
        else:
            self._settings = self._settings._replace(door=self._door.address)

    # Environments

    def settings(self) -> Outcome:
        """The settings of the link, or why the curriculum cannot be served."""
        return outcome_of(lambda: self._settings) if self._opened.ok else self._opened

    def exchange(self, parcel: bytes) -> bytes:
        """Apply a letter, unless that has been done before, and answer it.

        Args:
            parcel: The pickled `Letter`.

        Returns:
            The pickled `Reply`. Its `seq` is smaller than the letter's where earlier letters are to be sent again.
        """
        letter = letter_of(parcel)
        with self._doing("letter of a worker"):
            try:
                return packed(self._answer(letter))
            except CurriculumError:  # over the tasks of a worker that is gone
                return packed(Reply(letter.seq, 0, failure=self._failure(), closing=self._closing))

    def _answer(self, letter: Letter) -> Reply:
        failure = self._failure()
        worker = self._workers.find(letter.name, letter.incarnation) if failure is None else None
        if worker is None:
            return Reply(letter.seq, 0, failure=failure or _replaced(letter.name), closing=self._closing)
        self._workers.sweep()
        if letter.frames and letter.seq == worker.seq + 1:
            self._resent += letter.known is not None
            self._read(worker, letter)
        elif letter.frames and letter.seq <= worker.seq:
            self._repeated += 1
        worker.drained = letter.last
        if self._saver is not None:
            self._saver.save_if_due(demanded=letter.save)
        reply = (
            worker.reply if worker.seq == letter.seq and worker.reply is not None else Reply(worker.seq, 0)
        )
        return reply._replace(durable=worker.durable, failure=self._failure(), closing=self._closing)

    def _read(self, worker: Worker, letter: Letter) -> None:
        opened = open_letter(self._host, worker.env_ids, letter.frames, letter.known)
        self._letters += 1
        worker.seq += 1
        worker.updates += opened.updates
        worker.reply = Reply(worker.seq, 0, opened.answers, tuple(opened.refusals), outcome=opened.outcome)
        if self._saver is not None:
            self._saver.note(worker, opened.updates)

    def _failure(self) -> Failure | None:
        if self._refusal is not None:
            return self._refusal
        try:
            self._host.check()
        except CurriculumError as error:
            return Failure.of(error, self._host.failure)
        return None

    # The learner

    def read(self, what: str, parcel: bytes) -> Outcome:
        """Answer a question of the learner that changes nothing that could not be asked again.

        Args:
            what: "call" a method of the curriculum, "get" an attribute, "state", "load" or "metrics".
            parcel: The pickled arguments.
        """

        def work() -> Any:
            arguments, keywords = cloudpickle.loads(parcel)
            with self._doing(f"{what} of the learner"):
                self._workers.sweep()
                return getattr(self, f"_{what}")(*arguments, **keywords)

        return outcome_of(work) if self._opened.ok else self._opened

    def _call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        with self._host.locked() as curriculum:
            return getattr(curriculum, name)(*args, **kwargs)

    def _get(self, name: str) -> Any:
        return self._host.get(name)

    def _state(self) -> dict[str, Any]:
        return self._host.state_dict()

    def _load(self, state: dict[str, Any]) -> None:
        self._host.load_state_dict(state)
        if self._saver is not None:
            self._saver.save()

    def _metrics(self) -> dict[str, float]:
        return {
            **self._host.metrics(),
            **self._workers.metrics(),
            "exchanges": float(self._letters),
            "exchanges_repeated": float(self._repeated),
            "exchanges_resent": float(self._resent),
            **({} if self._saver is None else self._saver.metrics()),
        }

    def health(self) -> dict[str, Any]:
        """How the actor is, without waiting for what it is doing.

        Returns:
            The process and the CPU time it has used, the number of restarts, what the actor is busy with and for
            how many seconds, and the error that ended its service, if there was one.
        """
        busy, failure = self._busy, self._failure()
        return {
            "pid": os.getpid(),
            "cpu_seconds": time.process_time(),
            "restarts": 0 if self._saver is None else self._saver.life,
            "busy_with": None if busy is None else busy[0],
            "busy_seconds": 0.0 if busy is None else time.monotonic() - busy[1],
            "failure": None if failure is None else failure.message,
        }

    # The end

    def stop(self) -> list[str]:
        """Tell the workers to send what they have; the names of those who have not done so yet."""
        with self._doing("end"):
            self._closing = True
            return self._workers.writing() if self._failure() is None else []

    def hand_over(self) -> Outcome:
        """The host and the last metrics, to be kept by the learner. A last checkpoint is written."""
        if self._door is not None:  # nothing may change the host while it is pickled
            self._settings = self._settings._replace(door=None)
            self._door.close()
            self._door = None

        def work() -> Any:
            with self._doing("end"):
                if self._saver is not None:
                    self._saver.save_if_due(demanded=True)
                metrics = self._metrics()
                self._host.close()
                return self._host, metrics

        return outcome_of(work) if self._opened.ok else self._opened

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

"""The collector in a process of its own, as the learner sees it: told what to act by, heard, missed, begun anew.

Training and collection each have an interpreter then, and neither waits for the other's.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from macurr.errors import UsageError, WorkerLost
from macurr.training.channel import (
    GO,
    JOBS,
    NEWS,
    PAUSE,
    PULSE,
    TAKEN,
    WARNING,
    WEIGHTS,
    Message,
    Part,
    wait_for,
)
from macurr.training.children import PATIENCE, ChildProcess
from macurr.training.clock import Clock
from macurr.training.collector import replaced, worn_out
from macurr.training.frames import FrameShape
from macurr.training.learner import Learner
from macurr.training.orders import CollectorJob, News, Start, Weights
from macurr.training.parcels import packed, unpacked
from macurr.training.processes import packed_jobs
from macurr.training.rollout import Episode, Rollout
from macurr.training.worker import Job

__all__ = ["CollectorProcess"]

_logger = logging.getLogger("macurr")


class CollectorProcess:
    """Stands for a collector that goes on by itself in a process of its own, with the workers as its children.

    Whenever the learner publishes policies, they are sent; only the newest matter. A process that dies is replaced as
    workers are: what it had not handed over is lost. It is a context manager.

    Args:
        jobs: What each group of environments steps.
        shapes: The sizes of their frames.
        splits: Groups that share a worker.
        job: What the collector is built of.
        learner: Where the live policies come from.
        generator: The state of the generator of actions, uint8.
        state: The collector's state of a checkpoint to go on from; None to begin.
        timeout: Seconds after which a worker that has not answered is replaced; None to wait for ever.

    Attributes:
        clock: Seconds of the process's "env_wait" and "inference", and what the learner adds.
        strays: Episodes that ended outside of rollouts. Whoever reads them empties the list.
        restarted: How many workers were replaced; a process of the collector counts as one.
        lost_steps: Environment steps of rollouts that were given up, as far as they are known.

    Raises:
        ConfigError: an environment's arguments cannot be sent.
        TransportError: the process cannot be started.
        StateError: the state is of another run.
        MacurrError: an environment failed, or workers died more often than they may.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        shapes: Sequence[FrameShape],
        splits: int,
        job: CollectorJob,
        learner: Learner,
        generator: NDArray[np.uint8],
        state: Mapping[str, Any] | None,
        timeout: float | None = None,
    ) -> None:
        self._workers = {
            "jobs": packed_jobs(jobs),
            "shapes": list(shapes),
            "splits": splits,
            "timeout": timeout,
        }
        self._job, self._learner, self._generator, self._state = job, learner, generator, state
        self.clock, self.strays = Clock(), list[Episode]()
        self.restarted, self.lost_steps = 0, 0
        self._steps = self._unfinished = 0
        self._early: list[Rollout] = []  # what some groups finished before the last one had begun
        self._begun = False
        self._pause, self._pauses, self._still = 0, 0, 0
        self._sending = threading.RLock()
        self._sent = 0
        self._bell, self._ear = socket.socketpair()
        for end in (self._bell, self._ear):
            end.setblocking(False)
        try:
            self._start()
            learner.on_publish = self._offer
            while not self._begun:
                self._early.extend(self._pump())
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        with self._sending:
            self._child = _Child()
            weights = self._weights()
            more = Start(self._job, self._generator, self._state, self.restarted, weights)
            self._workers["more"] = bytearray(b"".join(packed(more)))
            self._post(JOBS, packed(self._workers))
            self._still = 0
            if self._pause:
                self._post(PAUSE, (), self._pause)

    # What the learner asks for

    @property
    def paused(self) -> bool:
        """Whether nobody is to act."""
        return self._pause > 0

    @paused.setter
    def paused(self, paused: bool) -> None:
        if paused == self.paused:
            return
        self._pauses += paused
        self._pause = self._pauses if paused else 0
        self._post(PAUSE if paused else GO, (), self._pause)

    @property
    def busy(self) -> bool:
        """Whether frames or rollouts may be under way: until the process has come to rest in a pause."""
        return not self.paused or self._still != self._pause

    def pump(self) -> list[Rollout]:
        """What has come from the process; waits until there is something, or for `wake`.

        Returns:
            The rollouts that were finished.

        Raises:
            MacurrError: an environment or the curriculum failed, or workers died more often than they may.
        """
        rollouts = self._early or self._pump()
        self._early = []
        if rollouts:
            self._post(TAKEN, (), len(rollouts))
        return rollouts

    def wake(self) -> None:
        """Let who waits in `pump` in another thread return."""
        with suppress(OSError):  # it rings already, or all is over
            self._bell.send(b"!")

    def take_steps(self) -> int:
        """Environment steps since they were last taken."""
        taken, self._steps = self._steps, 0
        return taken

    def state_dict(self, *, whole: bool) -> dict[str, Any]:
        """Chance, as of the latest news of the process; see `Collector.state_dict`.

        Raises:
            UsageError: the environments are asked for, or the process has not told anything yet.
        """
        if whole or self._state is None:
            raise UsageError(
                "The state of environments in mid-episode cannot be had from a process of its own."
            )
        return dict(self._state)

    def close(self) -> None:
        """End the process, and with it the environments. May be called twice."""
        self._learner.on_publish = _nothing
        child = getattr(self, "_child", None)
        with self._sending:
            if child is not None:
                child.hang_up()
        if child is not None:
            child.end(PATIENCE + _FAREWELL)
        self._bell.close()
        self._ear.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Sending: whoever trains sends policies, and whoever pumps everything else

    def _offer(self) -> None:
        """Send the newest policies, unless something else is being sent: then whoever pumps does, when it is."""
        with self._sending:
            self._flush()
            if self._sent != self._learner.publications and not self._child.blocked:
                self._post(WEIGHTS, packed(self._weights()))

    def _weights(self) -> Weights:
        with self._learner.acting() as crew:
            self._sent = self._learner.publications
            return Weights(list(crew.versions), [policy.arrays() for policy in crew.policies])

    def _post(self, kind: bytes, parts: Sequence[Part] = (), number: int = 0) -> None:
        with self._sending, suppress(OSError):  # a process that is gone is missed by who reads
            self._child.post(kind, parts, number)

    def _flush(self) -> None:
        with suppress(OSError):
            self._child.flush()

    # Hearing

    def _pump(self) -> list[Rollout]:
        self._offer()
        child = self._child
        child.read()
        if not child.news and not child.over:
            self._wait(child)
        rollouts: list[Rollout] = []
        while child.news:
            rollouts += self._hear(unpacked(child.news.popleft()))
        if child.over and not rollouts:
            self._miss(child)
        return rollouts

    def _wait(self, child: _Child) -> None:
        """Wait for news or the bell, and send what has not been sent meanwhile."""
        found = wait_for([child, self._ear], PULSE, [child] if child.blocked else [])
        if self._ear.fileno() in found:
            self._ear.recv(1 << 12)
        if not found:
            with self._sending:
                child.look()
        self._offer()
        child.read()

    def _hear(self, news: News) -> Sequence[Rollout]:
        self._state = news.state
        self.strays += news.strays
        self._steps += news.steps
        self.clock.gain(news.seconds)
        self.restarted = news.restarted
        self.lost_steps += news.lost
        self._unfinished, self._begun, self._still = news.unfinished, news.begun, news.still
        return news.rollouts

    def _miss(self, child: _Child) -> None:
        """Begin anew with another process, unless the old one has said what is wrong."""
        try:
            with self._sending:
                child.fail()
        except WorkerLost as error:
            if child.explained:
                raise
            self._replace(child, error)

    def _replace(self, child: _Child, error: WorkerLost) -> None:
        if self.restarted >= self._job.restarts:
            raise worn_out(error, self.restarted, self._job.restarts) from error
        with self._sending:
            child.hang_up()
        child.end(0.0)
        self.restarted += 1
        _logger.warning("%s", replaced(error, self.restarted, self._job.restarts))
        self.lost_steps += self._unfinished
        self._unfinished = 0
        self._start()


class _Child(ChildProcess):
    """The process.

    Attributes:
        news: What it has told and nobody has read yet, oldest first.
    """

    def __init__(self) -> None:
        self.news: deque[bytearray] = deque()
        super().__init__("macurr.training.collector_worker", "The collector")

    def _take(self, message: Message) -> None:
        if message.kind == NEWS:
            self.news.append(message.content)
        elif message.kind == WARNING:
            _logger.warning("%s", message.content.decode())


_FAREWELL = 2.0
"""Seconds that the process gets to end after its workers have ended."""


def _nothing() -> None:
    """Nobody is told of policies."""

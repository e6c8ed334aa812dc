"""A worker process as who collects sees it: started, spoken to, missed, begun anew. No torch is imported."""

from __future__ import annotations

import logging
import pickle
import time
from collections.abc import Sequence
from contextlib import suppress

from typing_extensions import override

from macurr.errors import ConfigError, WorkerLost
from macurr.training.channel import ACT, FRAME, JOBS, RESET, SLOW, Message, Part
from macurr.training.children import PATIENCE, ChildProcess
from macurr.training.worker import Job

__all__ = ["PATIENCE", "WorkerProcess", "packed_jobs"]

_logger = logging.getLogger("macurr")

_START = 60.0
"""Seconds that a process may take to start and to make its environments, besides what an answer may take."""


class WorkerProcess(ChildProcess):
    """A process that steps several groups of environments.

    Args:
        jobs: What each of its groups steps.
        number: What to call the worker in errors.
        timeout: Seconds after which a worker that has not answered counts as lost, its first answer apart, which may
            take a minute longer; None to wait for ever.

    Attributes:
        groups: How many groups it steps.
        frames: By group, the content of a message that nobody has taken yet.

    Raises:
        ConfigError: an environment's arguments cannot be sent.
        TransportError: the process cannot be started.
    """

    def __init__(self, jobs: Sequence[Job], number: int, timeout: float | None = None) -> None:
        self._jobs = packed_jobs(jobs)
        self.groups = len(jobs)
        self._timeout, self._late = timeout, 2.0 * min(job.late for job in jobs) + 2.0
        super().__init__("macurr.training.worker", f"Worker {number}")

    def _start(self) -> None:
        self.frames: dict[int, bytearray] = {}
        self._asked, self._heard, self._told = 0, time.monotonic(), False
        self._more = _START
        super()._start()
        self.send(JOBS, (self._jobs,), 0)

    def restart(self) -> None:
        """Begin anew: another process with the same environments, whose first frames are under way.

        What the old one had not handed over is lost.
        """
        self.hang_up()
        self.end(0.0)
        with suppress(WorkerLost):  # then its groups say so
            self._start()
            for group in range(self.groups):
                self.send(RESET, (), group)

    def take(self, group: int) -> bytearray:
        """A group's message.

        Raises:
            WorkerLost: the process is gone, and the message did not come.
            MacurrError: it has said what is wrong.
        """
        content = self.frames.pop(group, None)
        if content is None:
            self.fail()
        return content

    @override
    def send(self, kind: bytes, parts: Sequence[Part], group: int) -> None:
        if kind in {ACT, RESET}:
            if not self._asked:
                self._heard = time.monotonic()
            self._asked += 1
        super().send(kind, parts, group)

    @override
    def look(self) -> None:
        super().look()
        self.read()  # what has come while nobody listened is not late
        silent = time.monotonic() - self._heard
        over = silent - self._more
        if not self._asked or self.over:
            return
        if self._timeout is not None and over > self._timeout:
            self.give_up(
                f"has not answered for {silent:.0f} s (worker_timeout={self._timeout:g})",
                "Find out what its environments wait for, or raise worker_timeout",
            )
        elif over > self._late and not self._told:
            # It tells where it hangs by itself, unless even that hangs.
            self._told = True
            _logger.warning("%s (process %d) has not answered for %.0f s.", self._name, self.pid, silent)

    @override
    def _take(self, message: Message) -> None:
        if message.kind == SLOW:
            self._told = True
            text = message.content.decode()
            _logger.warning("%s (process %d) is slow: %s", self._name, self.pid, text)
        elif message.kind == FRAME:
            self.frames[message.group] = message.content
            self._asked, self._heard, self._told = self._asked - 1, time.monotonic(), False
            self._more = 0.0


def packed_jobs(jobs: Sequence[Job]) -> bytes:
    """Jobs as bytes for another process.

    Raises:
        ConfigError: an environment's arguments cannot be sent.
    """
    try:
        return pickle.dumps(list(jobs))
    except Exception as error:  # whatever the arguments' own methods raise
        raise ConfigError(
            f"The environment's arguments cannot be sent to a worker process: {error}. Give plain values (env_args), "
            "or step the environments in this process (transport local)."
        ) from error

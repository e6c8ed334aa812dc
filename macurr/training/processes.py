"""A worker process as who collects sees it: started, spoken to, missed, begun anew. No torch is imported."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from contextlib import suppress

from macurr.errors import ConfigError, WorkerLost
from macurr.training.channel import JOBS, RESET, Message
from macurr.training.children import PATIENCE, ChildProcess
from macurr.training.worker import Job

__all__ = ["PATIENCE", "WorkerProcess", "packed_jobs"]


class WorkerProcess(ChildProcess):
    """A process that steps several groups of environments.

    Args:
        jobs: What each of its groups steps.
        number: What to call the worker in errors.

    Attributes:
        groups: How many groups it steps.
        frames: By group, the content of a message that nobody has taken yet.

    Raises:
        ConfigError: an environment's arguments cannot be sent.
        TransportError: the process cannot be started.
    """

    def __init__(self, jobs: Sequence[Job], number: int) -> None:
        self._jobs = packed_jobs(jobs)
        self.groups = len(jobs)
        super().__init__("macurr.training.worker", f"Worker {number}")

    def _start(self) -> None:
        self.frames: dict[int, bytearray] = {}
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

    def _take(self, message: Message) -> None:
        self.frames[message.group] = message.content


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

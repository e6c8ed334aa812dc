"""What runs in a worker process: environments, and nothing that a policy needs.

Started in a fresh interpreter that never runs the user's script, so that it works from any script, notebook or
thread. It gets its jobs over a socket and serves until that is closed.
"""

from __future__ import annotations

import os
import pickle
import socket
import traceback
from collections.abc import Hashable, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from macurr.errors import MacurrError, TransportError
from macurr.training.channel import ACT, FAILED, FRAME, SLOW, Channel
from macurr.training.children import failure, inherited
from macurr.training.envs import EnvSource, make_scheduled_env, make_training_env
from macurr.training.frames import Finals
from macurr.training.guard import LATE, Guard, deaf
from macurr.training.layout import Layout
from macurr.training.stepping import EnvBatch
from macurr.transports import shared

__all__ = ["Job", "Steppers", "build", "main"]


@dataclass(frozen=True)
class Job:
    """What a group of environments is.

    Attributes:
        source: The environment.
        seats: The numbers of each environment's learners.
        task_width: Numbers of a task.
        components: The curriculum's handle; None where schedules are played.
        schedules: (number, seed) of the episodes of each environment; None where a curriculum decides.
        tuned: For each environment what the names of its arguments begin with; None where no population tunes them.
        late: Seconds after which a step or reset that has not come back is told of.
    """

    source: EnvSource
    seats: tuple[tuple[int, ...], ...]
    task_width: int
    components: Any = None
    schedules: tuple[tuple[tuple[int, int], ...], ...] | None = None
    tuned: tuple[str, ...] | None = None
    late: float = LATE


def build(job: Job) -> EnvBatch:
    """Make the environments of a job."""
    if job.schedules is None:
        tuned = job.tuned or (None,) * len(job.seats)
        components = shared(job.components)
        envs = [
            make_training_env(job.source, components, learners, prefix)
            for learners, prefix in zip(job.seats, tuned, strict=True)
        ]
    else:
        envs = [make_scheduled_env(job.source, schedule) for schedule in job.schedules]
    return EnvBatch(envs, job.seats, Layout(envs[0], job.source.path), job.task_width)


def main(handle: int | None) -> None:
    """Serve the learner at the other end of an inherited socket.

    Args:
        handle: The socket's number; None where it comes over standard input (on Windows).
    """
    deaf()
    sock = inherited(handle)
    learner = Channel(sock)
    os.dup2(2, 1)  # what environments print belongs to the error stream, not into what the learner prints
    try:
        serve(learner, sock)
    except (EOFError, OSError):
        return  # the learner is gone, and with it the reason to run
    except Exception as error:  # a defect here: the learner is told, whatever it is
        text = f"A worker failed: {error}\n{traceback.format_exc()}"
        learner.send(FAILED, (failure(TransportError(), text),))


def serve(learner: Channel, sock: socket.socket) -> None:
    """Take jobs, then step their environments on demand.

    Args:
        learner: The channel to the learner.
        sock: Its socket.

    Raises:
        EOFError: the learner has closed the channel.
    """
    packed = learner.recv().content
    steppers: Steppers | None = None

    def doing() -> tuple[Hashable, str] | None:
        return (None, "it has been making its environments") if steppers is None else steppers.doing

    def tell(words: str) -> None:
        with suppress(OSError):  # the learner is gone, which the guard notices next
            learner.send(SLOW, (words.encode(),))

    guard = Guard(sock, doing, tell)
    jobs: Sequence[Job] = pickle.loads(packed)
    guard.late = min(job.late for job in jobs)
    try:
        with closing(Steppers(jobs)) as steppers:
            while True:
                message = learner.recv()
                content = message.content if message.kind == ACT else None
                learner.send(FRAME, steppers.answer(message.group, content), message.group)
    except MacurrError as error:
        # CurriculumLost is a ConnectionError too: it is told here, not taken for the end of this channel.
        learner.send(FAILED, (failure(error),))


class Steppers:
    """The groups of environments of a worker, which answer bytes with bytes.

    Args:
        jobs: What each group steps.

    Raises:
        ConfigError: an environment cannot be made.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        with ExitStack() as opened:
            self._batches: list[EnvBatch] = []
            for job in jobs:
                self._batches.append(build(job))
                opened.callback(self._batches[-1].close)
            self._opened = opened.pop_all()
        self._turns, self._group = 0, -1

    @property
    def doing(self) -> tuple[Hashable, str] | None:
        """What it is at, for who watches; None while it waits for the learner."""
        turn, group = self._turns, self._group
        if group < 0:
            return None
        env, words = self._batches[group].doing
        number = sum(batch.shape.envs for batch in self._batches[:group]) + env
        return (turn, env), f"environment {number} {words}"

    def answer(self, group: int, content: bytes | bytearray | None) -> tuple[bytes | bytearray, ...]:
        """Reset a group, or step it.

        Args:
            group: Its number.
            content: The bytes of its actions, and of who is held if anybody is; None to reset.

        Returns:
            The bytes of the frame, then those of what truncated learners saw last.

        Raises:
            MacurrError: an environment or the curriculum failed.
        """
        batch = self._batches[group]
        self._turns, self._group = self._turns + 1, group
        if content is None:
            batch.reset()
            parts: tuple[bytes | bytearray, ...] = (batch.frame.buffer,)
        else:
            parts = (batch.frame.buffer, *_step(batch, content).packed())
        self._group = -1
        return parts

    def close(self) -> None:
        """Close every environment."""
        self._opened.close()


def _step(batch: EnvBatch, content: bytes | bytearray) -> Finals:
    envs, layout = batch.shape.envs, batch.layout
    shape = (envs, batch.shape.agents, *layout.action_shape)
    count = int(np.prod(shape))
    actions = np.frombuffer(content, layout.action_dtype, count).reshape(shape)
    if len(content) == actions.nbytes:
        return batch.step(actions)
    return batch.step(actions, np.frombuffer(content, np.bool_, envs, actions.nbytes))

"""What runs in a worker process: environments, and nothing that a policy needs.

Started in a fresh interpreter that never runs the user's script, so that it works from any script, notebook or
thread. It gets its job over its standard input and serves until that ends. It is in a process group of its own:
Ctrl-C reaches the learner, which closes it.
"""

from __future__ import annotations

import json
import os
import pickle
import traceback
from dataclasses import dataclass
from typing import Any

import numpy as np

from macurr.errors import MacurrError
from macurr.training.channel import ACT, FAILED, FRAME, HEAD, RESET, Channel
from macurr.training.envs import EnvSource, ScheduledWrapper, make_training_env
from macurr.training.layout import Layout
from macurr.training.stepping import EnvBatch, Finals

__all__ = ["Job", "build", "main"]


@dataclass(frozen=True)
class Job:
    """What a worker is to step.

    Attributes:
        source: The environment.
        seats: The number of each environment's learner.
        task_width: Numbers of a task.
        components: The curriculum's handle; None where schedules are played.
        schedules: (number, seed) of the episodes of each environment; None where a curriculum decides.
    """

    source: EnvSource
    seats: tuple[int, ...]
    task_width: int
    components: Any = None
    schedules: tuple[tuple[tuple[int, int], ...], ...] | None = None


def build(job: Job) -> EnvBatch:
    """Make the environments of a job."""
    if job.schedules is None:
        envs = [make_training_env(job.source, job.components, seat) for seat in job.seats]
    else:
        envs = [ScheduledWrapper(job.source.make(), schedule) for schedule in job.schedules]
    return EnvBatch(envs, job.seats, Layout(envs[0], job.source.path), job.task_width)


def main() -> None:
    """Serve the learner at the other end of standard input and output."""
    # What environments print goes to the error stream: standard output carries frames.
    learner = Channel(os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)
    learner.widen()
    try:
        serve(learner)
    except (EOFError, OSError):
        return  # the learner is gone, and with it the reason to run
    except Exception as error:  # a defect here: the learner is told, whatever it is
        learner.send(
            FAILED, json.dumps(["TransportError", f"A worker failed: {error}\n{traceback.format_exc()}"])
        )


def serve(learner: Channel) -> None:
    """Take a job, then step its environments on demand.

    Raises:
        EOFError: the learner has closed the channel.
    """
    job: Job = pickle.loads(memoryview(learner.recv())[HEAD:])
    try:
        batch = build(job)
        try:
            while True:
                message = learner.recv()
                _answer(learner, batch, message)
        finally:
            batch.close()
    except MacurrError as error:
        # CurriculumLost is a ConnectionError too: it is told here, not taken for the end of this channel.
        learner.send(FAILED, json.dumps([type(error).__name__, str(error)]))


def _answer(learner: Channel, batch: EnvBatch, message: bytearray) -> None:
    finals = None
    if message[:1] == RESET:
        batch.reset()
    elif message[:1] == ACT:
        kind = np.int64 if batch.discrete else np.float32
        actions = np.frombuffer(message, kind, offset=HEAD)
        finals = batch.step(actions.reshape(batch.shape.envs, batch.shape.agents, *batch.coordinates))
    learner.send(FRAME, batch.frame.buffer, *_packed(finals))


def _packed(finals: Finals | None) -> tuple[bytes, ...]:
    if finals is None or not len(finals.envs):
        return ()
    return finals.envs.tobytes(), finals.observations.tobytes()

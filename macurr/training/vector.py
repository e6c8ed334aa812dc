"""The learner's side of the environments: groups of them, in this process or in workers."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from macurr import errors
from macurr.errors import MacurrError, TransportError
from macurr.training.channel import ACT, FAILED, HEAD, JOB, RESET, Channel
from macurr.training.stepping import Finals, Frame, FrameShape
from macurr.training.worker import Job, build

__all__ = ["EnvGroup", "LocalGroup", "VectorEnv", "WorkerGroup"]

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop()); "
    "from macurr.training.worker import main; main()"
)
"""What a fresh interpreter runs: it finds the modules that this one finds, and never runs the user's script."""

_PATIENCE = 5.0
"""Seconds that a worker gets to end by itself."""

_NO_FINALS = Finals(np.zeros(0, np.int64), np.zeros((0, 0), np.float32))


class EnvGroup(Protocol):
    """Environments that are stepped together. `reset` or `act` is answered by one `frame`."""

    shape: FrameShape

    def reset(self) -> None:
        """Begin an episode everywhere."""

    def act(self, actions: NDArray[Any]) -> None:
        """Step everywhere; see `EnvBatch.step`."""

    def frame(self) -> tuple[Frame, Finals]:
        """What came of it; valid until the next `act`.

        Raises:
            MacurrError: an environment or the curriculum failed, or the worker died.
        """

    def close(self) -> None:
        """Close the environments. May be called twice."""


class LocalGroup:
    """Environments in this process.

    Args:
        job: What to step.
    """

    def __init__(self, job: Job) -> None:
        self._batch = build(job)
        self.shape = self._batch.shape
        self._finals = _NO_FINALS

    def reset(self) -> None:
        """Begin an episode everywhere."""
        self._batch.reset()
        self._finals = _NO_FINALS

    def act(self, actions: NDArray[Any]) -> None:
        """Step everywhere."""
        self._finals = self._batch.step(actions)

    def frame(self) -> tuple[Frame, Finals]:
        """What came of it."""
        return self._batch.frame, self._finals

    def close(self) -> None:
        """Close the environments."""
        self._batch.close()


class WorkerGroup:
    """Environments in a process of their own.

    Args:
        job: What to step.
        shape: The sizes of its frames.
        number: What to call the worker in errors.
    """

    def __init__(self, job: Job, shape: FrameShape, number: int) -> None:
        self.shape = shape
        self._number = number
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BOOT, json.dumps([path or str(Path.cwd()) for path in sys.path])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **_one_thread()},
            start_new_session=True,
        )
        reader, writer = self._process.stdout, self._process.stdin
        if reader is None or writer is None:  # never: both were asked for
            raise TransportError("The worker has no pipes.")
        self._channel = Channel(reader, writer)
        self._send(JOB, pickle.dumps(job))

    def reset(self) -> None:
        """Begin an episode everywhere."""
        self._send(RESET)

    def act(self, actions: NDArray[Any]) -> None:
        """Step everywhere."""
        self._send(ACT, np.ascontiguousarray(actions).tobytes())

    def frame(self) -> tuple[Frame, Finals]:
        """What came of it."""
        try:
            message = self._channel.recv()
        except EOFError:
            self._explain_loss()
        if message[:1] == FAILED:
            self._raise(*json.loads(message[HEAD:]))
        frame = Frame(self.shape, message, HEAD)
        return frame, self._finals(message, HEAD + frame.size)

    def close(self) -> None:
        """End the process: by itself where it listens, by force where it does not."""
        self._channel.close()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _finals(self, message: bytearray, start: int) -> Finals:
        row = 8 + 4 * self.shape.features
        count = (len(message) - start) // row
        if not count:
            return _NO_FINALS
        envs = np.frombuffer(message, np.int64, count, start)
        seen = np.frombuffer(message, np.float32, count * self.shape.features, start + 8 * count)
        return Finals(envs, seen.reshape(count, self.shape.features))

    def _send(self, kind: bytes, *parts: bytes | str) -> None:
        try:
            self._channel.send(kind, *parts)
        except OSError:
            # It may have said why before it died.
            self.frame()
            self._explain_loss()

    def _raise(self, name: str, message: str) -> None:
        kind = getattr(errors, name, TransportError)
        raise kind(message) if issubclass(kind, MacurrError) else TransportError(message)

    def _explain_loss(self) -> Any:
        self._channel.close()
        try:
            status: Any = self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            status = "unknown"
        raise TransportError(
            f"Worker {self._number} (process {self._process.pid}) died with status {status}, without a word. If it was "
            "killed, look for a lack of memory and use fewer workers or environments; go on with --resume."
        )


class VectorEnv:
    """All environments of a run or an evaluation, in groups. It is a context manager.

    Args:
        jobs: What each group steps.
        shapes: The sizes of their frames.
        local: Whether to step them in this process.
    """

    def __init__(self, jobs: Sequence[Job], shapes: Sequence[FrameShape], *, local: bool) -> None:
        self.groups: list[EnvGroup] = []
        try:
            for number, (job, shape) in enumerate(zip(jobs, shapes, strict=True)):
                self.groups.append(LocalGroup(job) if local else WorkerGroup(job, shape, number))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close every group. May be called twice."""
        for group in self.groups:
            group.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _one_thread() -> dict[str, str]:
    """Workers step environments: the thread pools of linear algebra would only steal the learner's cores."""
    return dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")

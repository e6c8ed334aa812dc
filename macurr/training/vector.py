"""The learner's side of the environments: groups of them, in this process or in workers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from macurr.curriculum import check_state
from macurr.errors import UsageError
from macurr.training.channel import ACT, PULSE, RESET, Line, wait_for
from macurr.training.frames import Finals, Frame, FrameShape
from macurr.training.processes import PATIENCE, WorkerProcess
from macurr.training.worker import Job, build

__all__ = ["EnvGroup", "Environments", "LocalGroup", "VectorEnv", "WorkerGroup", "check_splits"]


class EnvGroup(Protocol):
    """Environments that are stepped together. Each `reset` or `act` is answered by one `frame`."""

    shape: FrameShape

    def reset(self) -> None:
        """Begin an episode everywhere."""

    def act(self, actions: NDArray[Any], held: NDArray[np.bool_] | None = None) -> None:
        """Step; see `EnvBatch.step`.

        Raises:
            WorkerLost: the process that steps is gone.
        """

    def ready(self) -> bool:
        """Whether `frame` would answer at once, be it with an error."""

    def frame(self) -> tuple[Frame, Finals]:
        """What came of it, waited for; valid until the next `act`.

        Raises:
            WorkerLost: the process that steps is gone.
            MacurrError: an environment or the curriculum failed.
        """

    def close(self) -> None:
        """Close the environments. May be called twice."""


class Environments(Protocol):
    """Groups of environments, wherever they run."""

    groups: Sequence[EnvGroup]

    def wait(self, groups: Sequence[EnvGroup], timeout: float | None = None) -> list[EnvGroup]:
        """Those that are ready; see `VectorEnv.wait`."""

    def restart(self, group: EnvGroup) -> list[EnvGroup]:
        """Begin lost environments anew; see `VectorEnv.restart`."""

    def close(self) -> None:
        """Close every group. May be called twice."""


class LocalGroup:
    """Environments in this process.

    Args:
        job: What to step.
    """

    def __init__(self, job: Job) -> None:
        self._batch = build(job)
        self.shape = self._batch.shape
        self._finals = Finals.none(self.shape)

    def reset(self) -> None:
        """Begin an episode everywhere."""
        self._batch.reset()
        self._finals = Finals.none(self.shape)

    def act(self, actions: NDArray[Any], held: NDArray[np.bool_] | None = None) -> None:
        """Step."""
        self._finals = self._batch.step(actions, held)

    def ready(self) -> bool:
        """Always: it is done when `act` returns."""
        return True

    def frame(self) -> tuple[Frame, Finals]:
        """What came of it."""
        return self._batch.frame, self._finals

    def state_dict(self) -> dict[str, Any] | None:
        """The environments in mid-episode and what came of their last step; see `EnvBatch.state_dict`.

        Returns:
            Arrays and numbers; None where an environment cannot be pickled.

        Raises:
            UsageError: the curriculum is not served in this process.
        """
        batch = self._batch.state_dict()
        if batch is None:
            return None
        last = self._finals
        finals = {"envs": last.envs, "agents": last.agents, "observations": last.observations}
        return {
            "type": "LocalGroup",
            "batch": batch,
            "finals": {name: values.copy() for name, values in finals.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()` instead of a reset; see `EnvBatch.load_state_dict`.

        Raises:
            StateError: the state is not one of such environments, or the curriculum does not have their tasks.
            UsageError: an episode has begun here already.
        """
        check_state(state, "LocalGroup", {"batch", "finals"})
        check_state({"type": "Finals", **state["finals"]}, "Finals", {"envs", "agents", "observations"})
        self._batch.load_state_dict(state["batch"])
        self._finals = Finals(**state["finals"])

    def close(self) -> None:
        """Close the environments."""
        self._batch.close()


class WorkerGroup:
    """Environments in a worker process, which may step other groups too.

    Args:
        process: The process.
        index: The group's number in it.
        shape: The sizes of its frames.
    """

    def __init__(self, process: WorkerProcess, index: int, shape: FrameShape) -> None:
        self.process, self._index = process, index
        self.shape = shape

    def reset(self) -> None:
        """Begin an episode everywhere."""
        self.process.send(RESET, (), self._index)

    def act(self, actions: NDArray[Any], held: NDArray[np.bool_] | None = None) -> None:
        """Step."""
        parts = [np.ascontiguousarray(actions).tobytes()]
        if held is not None:
            parts.append(held.tobytes())
        self.process.send(ACT, parts, self._index)

    def ready(self) -> bool:
        """Whether the answer is here, or will never come."""
        process = self.process
        if self._index not in process.frames:
            process.read()
        return self._index in process.frames or process.over

    def frame(self) -> tuple[Frame, Finals]:
        """What came of it."""
        _wait([self], None)
        content = self.process.take(self._index)
        frame = Frame(self.shape, content)
        return frame, Finals.unpacked(self.shape, content, frame.size)

    def close(self) -> None:
        """End the process, and with it its other groups."""
        self.process.hang_up()
        self.process.end()


class VectorEnv:
    """All environments of a run or an evaluation, in groups. It is a context manager.

    Args:
        jobs: What each group steps.
        shapes: The sizes of their frames.
        local: Whether to step them in this process.
        splits: Groups that share a worker process: while one steps, the learner acts for another. Groups
            0 to splits - 1 are the first worker's, and so on.
        timeout: Seconds after which a worker that has not answered counts as lost; None to wait for ever.

    Attributes:
        groups: The groups.
        beside: A line that ends the waiting too, once something comes over it, or what it has to send has room.

    Raises:
        UsageError: the groups cannot be dealt out to workers.
    """

    groups: Sequence[EnvGroup]

    def __init__(
        self,
        jobs: Sequence[Job],
        shapes: Sequence[FrameShape],
        *,
        local: bool,
        splits: int = 1,
        timeout: float | None = None,
    ) -> None:
        check_splits(len(jobs), splits)
        groups: list[EnvGroup] = []
        self.groups = groups
        self._looked = time.monotonic()
        self.beside: Line | None = None
        self._processes: list[WorkerProcess] = []
        try:
            if local:
                groups.extend(map(LocalGroup, jobs))
                return
            for first in range(0, len(jobs), splits):
                process = WorkerProcess(jobs[first : first + splits], first // splits, timeout)
                self._processes.append(process)
                shared = shapes[first : first + splits]
                groups.extend(WorkerGroup(process, index, shape) for index, shape in enumerate(shared))
        except BaseException:
            self.close()
            raise

    def wait(self, groups: Sequence[EnvGroup], timeout: float | None = None) -> list[EnvGroup]:
        """Those of the groups that have a frame, or an error to raise instead of one.

        Args:
            groups: Groups that have been asked for a frame. Local ones are ready at once.
            timeout: Seconds to wait for the first; None: until there is one.

        Returns:
            At least one of them, in the order given; none where the time is over, none was given, or for `beside`.
        """
        if time.monotonic() - self._looked > PULSE:
            self._looked = time.monotonic()
            for process in self._processes:  # those that hang while others keep us busy
                process.look()
        return _wait(groups, timeout, self.beside)

    def restart(self, group: EnvGroup) -> list[EnvGroup]:
        """Begin the environments of a lost worker anew, after `WorkerLost`.

        The old process is killed if it lives. The new one is not waited for; `frame` tells whether it can begin.

        Args:
            group: One of its groups.

        Returns:
            All groups of that worker: each of them has begun new episodes and will have a frame. What was asked of
            them before is lost.

        Raises:
            UsageError: it is not a worker's.
        """
        if not isinstance(group, WorkerGroup):
            raise UsageError("Only the groups of worker processes can be lost and restarted.")
        group.process.restart()
        return [
            each for each in self.groups if isinstance(each, WorkerGroup) and each.process is group.process
        ]

    def close(self) -> None:
        """Close every group. May be called twice."""
        for process in self._processes:
            process.hang_up()  # all of them first, so that they end at the same time
        deadline = time.monotonic() + PATIENCE
        for process in self._processes:
            process.end(deadline - time.monotonic())
        for group in self.groups:
            group.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def check_splits(groups: int, splits: int) -> None:
    """Refuse groups that do not fill their workers.

    Raises:
        UsageError: their number is no multiple of `splits`.
    """
    if splits < 1 or groups % splits:
        raise UsageError(
            f"{groups} groups cannot be dealt out to workers of {splits} each. Use a multiple of splits."
        )


def _wait(groups: Sequence[EnvGroup], timeout: float | None, beside: Line | None = None) -> list[EnvGroup]:
    """Those of the groups that are ready, waited for in slices, between which the workers are looked after."""
    deadline = None if timeout is None else time.monotonic() + timeout
    lines = [] if beside is None else [beside]
    while True:
        ready = [group for group in groups if group.ready()]
        left = PULSE if deadline is None else min(PULSE, deadline - time.monotonic())
        if ready or left <= 0.0 or not groups:
            return ready
        processes = {group.process for group in groups if isinstance(group, WorkerGroup)}
        found = wait_for([*processes, *lines], left, [line for line in lines if line.blocked])
        if not found:
            for process in processes:
                process.look()
        elif beside is not None and beside.fileno() in found:
            return [group for group in groups if group.ready()]

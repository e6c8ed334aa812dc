"""Environments in Ray actors, on whatever nodes a cluster has. Needs the extra `ray`.

Each worker is an actor that steps several groups, as a worker process does; actions and frames travel as bytes.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from macurr import Curriculum, errors, make_ray_curriculum
from macurr.errors import (
    ConfigError,
    MacurrError,
    MissingDependencyError,
    TransportError,
    UsageError,
    WorkerLost,
)
from macurr.training.frames import Finals, Frame, FrameShape
from macurr.training.processes import PATIENCE
from macurr.training.vector import EnvGroup, check_splits
from macurr.training.worker import Job, Steppers

__all__ = ["RayEnv", "RayGroup", "ray_served", "ray_session"]

_ROOM = 60.0
"""Seconds that a cluster gets to find room for the workers."""

_GONE = ("RayActorError", "ActorDiedError", "ActorUnavailableError", "NodeDiedError", "WorkerCrashedError")
"""Ray's errors that say that an actor is no more."""


@contextmanager
def ray_session(address: str | None) -> Iterator[Any]:
    """Ray, connected for the time of a `with` block; a connection that is there already is used and left open.

    Args:
        address: Of the cluster; None for one that runs on this machine, or else a local one, made for this run.

    Raises:
        MissingDependencyError: Ray is not installed.
        ConfigError: there is no cluster at the address.
    """
    ray = _ray()
    if ray.is_initialized():
        yield ray
        return
    found = address or os.environ.get("RAY_ADDRESS")
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=found, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"No Ray cluster answers at {found!r} ({error}). Start one by `ray start --head`, or leave --ray-address "
            "out."
        ) from error
    main = threading.current_thread() is threading.main_thread()
    try:
        if main and callable(before):
            signal.signal(signal.SIGTERM, before)  # who has an answer to it keeps it
        yield ray
    finally:
        ray.shutdown()
        if main:
            signal.signal(signal.SIGTERM, before)  # Ray leaves a handler of its own behind


@contextmanager
def ray_served(curriculum: Curriculum, name: str, checkpoint: Path) -> Iterator[Any]:
    """A curriculum in an actor on this node, where the run's directory is, for the time of a `with` block.

    Args:
        curriculum: The curriculum.
        name: The actor's name.
        checkpoint: From what file it goes on after a restart.
    """
    ray = _ray()
    node = ray.get_runtime_context().get_node_id()
    strategies = importlib.import_module("ray.util.scheduling_strategies")
    here = strategies.NodeAffinitySchedulingStrategy(node, soft=True)
    options = {"scheduling_strategy": here, "runtime_env": {"env_vars": _found()}}
    with make_ray_curriculum(curriculum, name, checkpoint=checkpoint, actor_options=options) as synced:
        yield synced


class _Worker:
    """What runs in the actor.

    Args:
        jobs: What each of its groups steps.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._jobs = jobs
        self._steppers: Steppers | None = None

    def answer(self, group: int, content: bytes | None) -> tuple[str, Any]:
        """Reset a group, or step it by the bytes of its actions.

        Returns:
            ("frame", bytes), or (the name of an error of macurr, its text): exceptions stay what they are.
        """
        try:
            if self._steppers is None:
                self._steppers = Steppers(self._jobs)
            return "frame", b"".join(self._steppers.answer(group, content))
        except MacurrError as error:
            return type(error).__name__, str(error)

    def pid(self) -> int:
        """The process."""
        return os.getpid()

    def close(self) -> None:
        """Close the environments, which take their leave of the curriculum."""
        if self._steppers is not None:
            self._steppers.close()


class RayGroup:
    """Environments in an actor, which may step other groups too.

    Args:
        worker: The actor.
        index: The group's number in it.
        shape: The sizes of its frames.
    """

    def __init__(self, worker: RayWorker, index: int, shape: FrameShape) -> None:
        self.worker, self.index, self.shape = worker, index, shape
        self.answer: Any = None

    def reset(self) -> None:
        """Begin an episode everywhere."""
        self.answer = self.worker.ask(self.index, None)

    def act(self, actions: NDArray[Any], held: NDArray[np.bool_] | None = None) -> None:
        """Step."""
        content = np.ascontiguousarray(actions).tobytes()
        self.answer = self.worker.ask(self.index, content if held is None else content + held.tobytes())

    def ready(self) -> bool:
        """Whether the answer is here, or will never come."""
        return bool(_ray().wait([self.answer], timeout=0)[0])

    def frame(self) -> tuple[Frame, Finals]:
        """What came of it."""
        content = bytearray(self.worker.take(self.answer))
        frame = Frame(self.shape, content)
        return frame, Finals.unpacked(self.shape, content, frame.size)

    def close(self) -> None:
        """End the actor, and with it its other groups."""
        self.worker.end()


class RayWorker:
    """An actor as the learner sees it.

    Args:
        jobs: What each of its groups steps.
        number: What to call it in errors.
    """

    def __init__(self, jobs: Sequence[Job], number: int) -> None:
        self._jobs, self._number = list(jobs), number
        self._ended = False
        self.start()

    def start(self) -> None:
        """Start the actor, wherever there is room."""
        ray = _ray()
        # One CPU each, so that a cluster spreads them. One that finds no room waits for it.
        kind = ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0, scheduling_strategy="SPREAD")(
            _Worker
        )
        threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self.actor = kind.options(runtime_env={"env_vars": {**threads, **_found()}}).remote(self._jobs)

    def ask(self, group: int, content: bytes | None) -> Any:
        """Send a message about a group; the answer is a reference."""
        return self.actor.answer.remote(group, content)

    def take(self, answer: Any) -> bytes:
        """What the actor answered.

        Raises:
            WorkerLost: it is gone.
            MacurrError: it has said what is wrong.
        """
        try:
            name, content = _ray().get(answer)
        except Exception as error:  # Ray's errors share no useful base
            self._explain(error)
        if name == "frame":
            frame: bytes = content
            return frame
        kind = getattr(errors, name, TransportError)
        raise kind(content) if issubclass(kind, MacurrError) else TransportError(content)

    def end(self, patience: float = PATIENCE) -> None:
        """Close the environments and end the actor. May be called twice."""
        if not self._ended:
            self._ended = True
            with contextlib.suppress(Exception):  # Ray may be gone, and the actor with it
                _ray().wait([self.actor.close.remote()], timeout=patience)
                _ray().kill(self.actor)

    def restart(self) -> None:
        """Another actor in its place."""
        self.end(0.0)
        self._ended = False
        self.start()

    def _explain(self, error: Exception) -> NoReturn:
        if any(kind.__name__ in _GONE for kind in type(error).__mro__):
            raise WorkerLost(
                f"Worker {self._number}, a Ray actor, is gone: {str(error).splitlines()[0]} If it was killed, look for "
                "a lack of memory; go on with --resume."
            ) from error
        raise TransportError(f"Worker {self._number}, a Ray actor, failed: {error}") from error


class RayEnv:
    """All environments of a run, in actors. It is a context manager; see `VectorEnv`.

    Args:
        jobs: What each group steps.
        shapes: The sizes of their frames.
        splits: Groups that share an actor.

    Raises:
        UsageError: the groups cannot be dealt out to workers.
        ConfigError: the cluster has no room for the workers.
    """

    groups: Sequence[EnvGroup]

    def __init__(self, jobs: Sequence[Job], shapes: Sequence[FrameShape], *, splits: int = 1) -> None:
        check_splits(len(jobs), splits)
        self._workers = [
            RayWorker(jobs[first : first + splits], first // splits) for first in range(0, len(jobs), splits)
        ]
        self._groups = [RayGroup(self._workers[i // splits], i % splits, shapes[i]) for i in range(len(jobs))]
        self.groups = self._groups
        self._find_room()

    def _find_room(self) -> None:
        ray = _ray()
        begun = [worker.actor.pid.remote() for worker in self._workers]
        placed, _ = ray.wait(begun, num_returns=len(begun), timeout=_ROOM)
        if len(placed) < len(begun):
            self.close()
            cpus = ray.cluster_resources().get("CPU", 0)
            raise ConfigError(
                f"{len(begun)} workers need a CPU each, and the Ray cluster found room for {len(placed)} within "
                f"{_ROOM:g} s (it has {cpus:g} CPUs). Lower --workers, or add nodes."
            )

    def wait(self, groups: Sequence[EnvGroup], timeout: float | None = None) -> list[EnvGroup]:
        """Those of the groups that are ready; see `VectorEnv.wait`."""
        asked = {group.answer: group for group in groups if isinstance(group, RayGroup)}
        if not asked:
            return []
        ready, _ = _ray().wait(list(asked), num_returns=1, timeout=timeout)
        others = [answer for answer in asked if answer not in ready]
        more = _ray().wait(others, num_returns=len(others), timeout=0)[0] if ready and others else []
        here = {id(asked[answer]) for answer in [*ready, *more]}
        return [group for group in groups if id(group) in here]

    def restart(self, group: EnvGroup) -> list[EnvGroup]:
        """Begin lost environments anew; see `VectorEnv.restart`."""
        if not isinstance(group, RayGroup):
            raise UsageError("Only the groups of Ray actors can be lost and restarted here.")
        group.worker.restart()
        mine: list[EnvGroup] = [each for each in self._groups if each.worker is group.worker]
        for each in mine:
            each.reset()
        return mine

    def close(self) -> None:
        """End every actor. May be called twice."""
        for worker in self._workers:
            worker.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ModuleNotFoundError as error:
        raise MissingDependencyError.for_extra("ray", "ray", "engine='ray'") from error


def _found() -> dict[str, str]:
    """Lets an actor find the modules that this process finds: on other nodes, those of directories that they have."""
    return {"PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)}

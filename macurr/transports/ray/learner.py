"""The learner's side: a curriculum that lives in a Ray actor, as if it were here."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Concatenate, ParamSpec, TypeVar

import cloudpickle  # type: ignore[import-untyped]
import numpy as np
from typing_extensions import override

from macurr.curriculum import Curriculum, State
from macurr.errors import CurriculumLost, TransportError, UsageError
from macurr.statistics import StatRecorder
from macurr.transports.base import Owner, SyncedCurriculum
from macurr.transports.ray.actor import CurriculumActor
from macurr.transports.ray.agent import HEARTBEAT, agents
from macurr.transports.ray.courier import Courier
from macurr.transports.ray.engine import ActorPort, check_process, connected_ray, load_ray
from macurr.transports.ray.links import RayComponents
from macurr.transports.ray.messages import Outcome, Settings
from macurr.transports.ray.saver import Saving
from macurr.transports.wire import pack

__all__ = ["RayCurriculum", "RemoteHost", "get_ray_curriculum", "make_ray_curriculum"]

WATCH = "watch"
"""The concurrency group of calls that do not wait in line behind the workers' letters."""
WATCHERS = 4
"""How many such calls there may be at a time: one that is stuck must not hold up the question why."""
CHANGES = frozenset(
    {
        "register_env",
        "unregister_env",
        "set_options",
        "update_on_abort",
        "update_on_demand",
        "update_on_episode",
        "update_on_step",
        "update_on_step_batch",
        "update_task_progress",
    }
)
"""The calls that change the curriculum: each is applied once, and again if a restart undoes it."""

P = ParamSpec("P")
T = TypeVar("T")
_logger = logging.getLogger("macurr")


class RemoteHost:
    """The stand-in, in this process, for the host in an actor.

    Args:
        port: The way to the actor.

    Raises:
        CurriculumLost: the actor is gone.
        MacurrError: the actor could not serve the curriculum.
    """

    def __init__(self, port: ActorPort) -> None:
        self.port = port
        self.settings: Settings = port.ask("settings").value()
        name = f"learner {uuid.uuid4().hex}"
        self._courier = Courier(port, name, saves=self.settings.saves)
        self._lock = threading.Lock()

    def call(
        self, method: Callable[Concatenate[Curriculum, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call a method of the curriculum by its name, in turn with the environments' updates.

        Raises:
            CurriculumError: the curriculum has failed; its exception is the cause.
            CurriculumLost: the actor is gone.
            TransportError: the actor does not answer in time.
        """
        name = method.__name__
        value: T = (self._change if name in CHANGES else self._ask_for)(name, args, kwargs)
        return value

    def get(self, name: str) -> Any:
        """Read an attribute of the curriculum: a copy."""
        return self._read("get", name)

    def metrics(self) -> dict[str, float]:
        """The counters of the host and of the actor."""
        found: dict[str, float] = self._read("metrics")
        return found

    def state_dict(self) -> State:
        """The host's state."""
        state: State = self._read("state")
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()`."""
        self._read("load", dict(state))

    def ask(self, method: str, *args: Any, group: str | None = None) -> Any:
        """Call a method of the actor.

        Raises:
            TransportError: it does not answer in time.
        """
        return self.port.ask(method, *args, group=group, patience=self._patience())

    def _ask_for(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        return self._read("call", name, *args, **kwargs)

    def _read(self, what: str, *args: Any, **kwargs: Any) -> Any:
        outcome: Outcome = self.ask("read", what, cloudpickle.dumps((args, kwargs)), group=WATCH)
        return outcome.value()

    def _change(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        frame = pack("learn", cloudpickle.dumps((name, args, kwargs)))
        with self._lock:
            reply = self._courier.bring(frame, patience=self._patience())
        if reply.outcome is not None:
            return reply.outcome.value()
        if reply.failure is not None:
            reply.failure.throw()
        return None

    def _patience(self) -> Callable[[], None]:
        seconds = self.settings.timeout
        deadline = time.monotonic() + seconds

        def check() -> None:
            if time.monotonic() > deadline:
                raise TransportError(
                    f"The curriculum's actor {self.port.name!r} has not answered for {seconds:g} s: it is busy, stuck, "
                    "or waits for a node on which it can be restarted. See health(), or raise timeout."
                )

        return check


class RayCurriculum(SyncedCurriculum):
    """A curriculum in a Ray actor.

    After `close()` the curriculum is in this process, so that it can still be read.

    Args:
        port: The way to the actor.
        components: The handle for environments.
    """

    host: Owner

    def __init__(self, port: ActorPort, components: RayComponents) -> None:
        self._remote: RemoteHost | None = RemoteHost(port)
        self._last_metrics: dict[str, float] = {}
        super().__init__(self._remote, components)

    # What a curriculum that lives elsewhere is now, rather than what it was when this object was made. The base
    # class assigns these; there is nothing to be kept.

    @property
    def task_space(self) -> Any:
        """The curriculum's task space as it is now."""
        return self.host.get("task_space")

    @task_space.setter
    def task_space(self, value: Any) -> None:
        pass

    @property
    def rng(self) -> np.random.Generator:
        """The curriculum's generator as it is now: a copy; what is drawn from it changes nothing."""
        generator: np.random.Generator = self.host.get("rng")
        return generator

    @rng.setter
    def rng(self, value: np.random.Generator) -> None:
        pass

    @property
    def stats(self) -> StatRecorder | None:
        """The running statistics as they are now: a copy."""
        recorder: StatRecorder | None = self.host.get("stats")
        return recorder

    @stats.setter
    def stats(self, value: StatRecorder | None) -> None:
        pass

    def health(self) -> dict[str, Any]:
        """How the actor is; answered also while it is busy or stuck.

        Returns:
            "pid", "cpu_seconds", "restarts", "busy_with", "busy_seconds" and "failure".

        Raises:
            CurriculumLost: the curriculum has been closed, or the actor is gone.
        """
        if self._remote is None:
            raise CurriculumLost("The curriculum has been closed, and its actor is gone.")
        found: dict[str, Any] = self._remote.ask("health", group=WATCH)
        return found

    @override
    def link_metrics(self) -> dict[str, float]:
        return {**self._last_metrics, **super().link_metrics()}

    @override
    def close(self) -> None:
        """Have all that environments have sent applied, take the curriculum into this process, end the actor.

        Environments of other processes are given three seconds to send what they have. A last checkpoint is
        written, if there are any.
        """
        remote, self._remote = self._remote, None
        if remote is None:
            return
        try:
            self._drain(remote)
            outcome: Outcome = remote.ask("hand_over")
        except CurriculumLost as error:
            _logger.warning("The curriculum's actor was gone before it was closed: %s", error)
            return
        if outcome.ok:
            self.host, self._last_metrics = outcome.value()
            end_actor(remote.port)
        else:
            _logger.warning(
                "The curriculum cannot be pickled and stays in its actor, from where it can be read until this "
                "process ends:\n%s",
                outcome.trace,
            )

    def _drain(self, remote: RemoteHost) -> None:
        handle = self.components
        deadline = time.monotonic() + 3 * HEARTBEAT
        while True:
            waiting = remote.ask("stop")
            if isinstance(handle, RayComponents):
                for agent in agents(handle.actor_name, handle.namespace):
                    agent.finish(remote.settings.timeout)
            if not waiting or time.monotonic() > deadline:
                break
            time.sleep(0.01)
        if waiting:
            _logger.warning("These workers did not say that they are done: %s", sorted(waiting))


def end_actor(port: ActorPort) -> None:
    """End the actor for good, and free its name."""
    with contextlib.suppress(Exception):  # it may be gone already, and so may Ray
        port.kill()


def make_ray_curriculum(
    curriculum: Curriculum,
    actor_name: str = "curriculum",
    *,
    namespace: str | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int = 1000,
    checkpoint_seconds: float = 10.0,
    resume: bool = False,
    timeout: float = 60.0,
    maxsize: int = 64,
    max_envs: int | None = None,
    worker_timeout: float = 30.0,
    detached: bool = False,
    actor_options: Mapping[str, Any] | None = None,
) -> RayCurriculum:
    """Serve a curriculum to environments anywhere in a Ray cluster, from an actor of its own.

    Ray is started on this machine if this process is not connected to a cluster yet.

    Args:
        curriculum: The curriculum; a copy of it goes to the actor, and only the returned object reaches that.
        actor_name: The name under which environments find it.
        namespace: The actor's namespace in Ray; that of this process by default. Environments of other Ray jobs
            find only actors of a namespace that has a name.
        checkpoint: A file, on a file system that all nodes share, from which the actor goes on after it or its
            node has died. Without one, its end is the end of the run.
        checkpoint_every: Write it after that many exchanges with workers,
        checkpoint_seconds: or after that many seconds, if there is anything new; whichever comes first.
        resume: Whether to begin with what an earlier run has left in the file. Without it, such a file is refused.
        timeout: Seconds that an environment may wait for a task or for room for its updates, and the learner for
            an answer. Longer than a restart of the actor takes.
        maxsize: Number of updates that one environment may have under way; past it the environment waits.
        max_envs: Only the first that many environments send step updates; None for all.
        worker_timeout: Seconds of silence after which a process counts as dead: its unfinished tasks go back. If
            it was only slow, it goes on where it was. One that is restarted by Ray replaces itself at once.
        detached: Whether the actor outlives this process; `get_ray_curriculum` then finds it again.
        actor_options: Further options of Ray for the actor, such as `resources` or `scheduling_strategy`.

    Returns:
        The synced curriculum. Give its `components` to the environments' sync wrappers, or use `RaySyncWrapper`
        with the actor's name.

    Raises:
        MissingDependencyError: Ray is not installed.
        UsageError: an argument is out of range, the curriculum cannot be pickled, the name is taken, or the
            file holds another run.
        StateError: the checkpoint to be resumed cannot be read, or is of another curriculum.
    """
    ray = _ray_of_learner()
    _check(timeout, maxsize, worker_timeout, checkpoint_every, checkpoint_seconds)
    saving = None
    if checkpoint is not None:
        path = os.path.abspath(os.fspath(checkpoint))
        saving = Saving(path, checkpoint_every, checkpoint_seconds, uuid.uuid4().hex, resume)
    settings = Settings(timeout, maxsize, worker_timeout, saving is not None)
    context = ray.get_runtime_context()
    options = {
        "name": actor_name,
        "namespace": namespace,
        "num_cpus": 0,
        "max_restarts": 0 if saving is None else -1,
        "max_task_retries": 0,  # letters have numbers; Ray's own retries know nothing of them
        "lifetime": "detached" if detached else None,
        "enable_task_events": False,  # a quarter of a call's cost; nobody looks at single letters
        **(actor_options or {}),
    }
    actor = ray.remote(concurrency_groups={WATCH: WATCHERS})(ServedActor).options(**options)
    try:
        handle = actor.remote(_parcel(curriculum), max_envs, settings, saving)
    except ValueError as error:
        raise UsageError(
            f"The name {actor_name!r} is taken in Ray's namespace {namespace or context.namespace!r}: {error}. Close "
            "the other curriculum, or pass another actor_name."
        ) from error
    port = ActorPort(ray, actor_name, namespace, handle)
    try:
        return RayCurriculum(port, RayComponents(actor_name, namespace).resolved())
    except BaseException:
        end_actor(port)
        raise


def get_ray_curriculum(actor_name: str = "curriculum", *, namespace: str | None = None) -> RayCurriculum:
    """The learner's face of a curriculum that another process has made, or this one before it was restarted.

    Args:
        actor_name: The actor's name.
        namespace: Its namespace; that of this process by default.

    Raises:
        CurriculumLost: there is no such actor.
        UsageError: this process is not connected to Ray.
    """
    ray = connected_ray(None, namespace, "get_ray_curriculum")
    return RayCurriculum(
        ActorPort(ray, actor_name, namespace), RayComponents(actor_name, namespace).resolved()
    )


class ServedActor(CurriculumActor):
    """The actor as Ray makes it; Ray tells whether it had an earlier life."""

    def __init__(
        self, parcel: bytes, max_envs: int | None, settings: Settings, saving: Saving | None
    ) -> None:
        context = load_ray("The curriculum's actor").get_runtime_context()
        restarted = bool(context.was_current_actor_reconstructed)
        super().__init__(parcel, max_envs, settings, saving, restarted)


def _ray_of_learner() -> Any:
    check_process()
    ray = load_ray("make_ray_curriculum")
    if not ray.is_initialized():
        ray.init()
    return ray


def _parcel(curriculum: Curriculum) -> bytes:
    if not isinstance(curriculum, Curriculum):
        raise UsageError(f"make_ray_curriculum serves a macurr.Curriculum; got {curriculum!r}.")
    try:
        data: bytes = cloudpickle.dumps(curriculum)
    except Exception as error:  # whatever an object's own methods raise
        raise UsageError(
            f"This {type(curriculum).__name__} cannot be sent to an actor: {error}. What it holds (evaluators, "
            "functions, open files) has to be picklable; let the learner send scores by update_on_demand instead."
        ) from error
    return data


def _check(timeout: float, maxsize: int, worker_timeout: float, letters: int, seconds: float) -> None:
    if min(timeout, worker_timeout, seconds) <= 0 or min(maxsize, letters) < 1:
        raise UsageError(
            "timeout, worker_timeout, maxsize, checkpoint_every and checkpoint_seconds must be positive; got "
            f"{timeout}, {worker_timeout}, {maxsize}, {letters} and {seconds}."
        )

"""How a curriculum gets into an actor, and how it is found again."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from typing import Any

import cloudpickle  # type: ignore[import-untyped]

from macurr.curriculum import Curriculum
from macurr.errors import UsageError
from macurr.transports.ray.actor import CurriculumActor
from macurr.transports.ray.engine import WATCH, ActorPort, check_process, connected_ray, load_ray
from macurr.transports.ray.learner import RayCurriculum, end_actor
from macurr.transports.ray.links import RayComponents
from macurr.transports.ray.messages import Settings
from macurr.transports.ray.saver import Saving

__all__ = ["get_ray_curriculum", "make_ray_curriculum"]

WATCHERS = 4
"""How many such calls there may be at a time: one that is stuck must not hold up the question why."""


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
    direct: bool = True,
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
        direct: Whether processes of environments open a connection of their own to the actor, which takes them a
            third of the CPU time of Ray's calls. Needs free TCP ports between nodes; where there are none, and whenever
            such a connection breaks, Ray's calls are used.
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
    options = {
        "name": actor_name,
        "namespace": namespace,
        "lifetime": "detached" if detached else None,
        **(actor_options or {}),
    }
    port = ActorPort(
        ray,
        actor_name,
        namespace,
        _started(ray, options, _parcel(curriculum), max_envs, settings, direct, saving),
    )
    try:
        return RayCurriculum(port, RayComponents(actor_name, namespace).resolved())
    except BaseException:
        end_actor(port)
        raise


def _started(ray: Any, options: Mapping[str, Any], parcel: bytes, *arguments: Any) -> Any:
    """The handle of a new actor; the last of the arguments says how it saves itself, if it does."""
    options = {
        "num_cpus": 0,
        "max_restarts": 0 if arguments[-1] is None else -1,
        "max_task_retries": 0,  # letters have numbers; Ray's own retries know nothing of them
        "enable_task_events": False,  # a quarter of a call's cost; nobody looks at single letters
        **options,
    }
    actor = ray.remote(concurrency_groups={WATCH: WATCHERS})(ServedActor).options(**options)
    try:
        return actor.remote(parcel, *arguments)
    except ValueError as error:
        if "taken" not in str(error):
            raise UsageError(f"Ray does not make an actor with the options {options}: {error}") from error
        where = options["namespace"] or ray.get_runtime_context().namespace
        raise UsageError(
            f"The name {options['name']!r} is taken in Ray's namespace {where!r}: {error}. Close the other curriculum, "
            "or pass another actor_name."
        ) from error


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
        self, parcel: bytes, max_envs: int | None, settings: Settings, direct: bool, saving: Saving | None
    ) -> None:
        ray = load_ray("The curriculum's actor")
        restarted = bool(ray.get_runtime_context().was_current_actor_reconstructed)
        super().__init__(parcel, max_envs, settings, saving, restarted)
        if direct:
            self.listen(ray.util.get_node_ip_address())


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

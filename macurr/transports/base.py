"""The protocol that every transport speaks, and the curriculum's face on the learner's side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self, override

from macurr.curriculum import Curriculum, State
from macurr.host import Assignment
from macurr.messages import EnvSpec, StepBatch, Update

__all__ = ["Components", "Link", "Owner", "ResumableLink", "Shareable", "SyncedCurriculum", "shared"]


@runtime_checkable
class Link(Protocol):
    """One environment's connection to the host."""

    env_id: int
    step_fields: frozenset[str]

    def send(self, update: Update) -> None:
        """Hand over one update. It is applied after everything this link has sent before.

        Raises:
            CurriculumError: the curriculum has failed.
            CurriculumLost: the curriculum's owner is gone.
            BacklogError: too many updates wait to be applied.
            TransportError: the update cannot be sent as it is.
        """

    def send_all(self, updates: Sequence[Update], want: int) -> None:
        """Hand over several updates, in order, and ask for that many tasks for the stock, in one message.

        The tasks are drawn after the updates where the curriculum keeps up, and before them where it does not.

        Raises:
            CurriculumError: as for `send`, like the others.
        """

    def request(self, k: int, *, start: bool) -> None:
        """Ask for k tasks.

        Args:
            k: How many tasks are wanted.
            start: The first of them is begun at once: it is drawn after everything sent before has been applied.
        """

    def started(self, wait: float) -> None:
        """Tell that the oldest task asked for without `start` is begun, after `wait` seconds of waiting."""

    def task(self) -> Assignment:
        """The oldest task that was asked for; waits for it.

        Raises:
            TaskTimeoutError: none came within the transport's timeout.
            CurriculumError: the curriculum has failed.
            CurriculumLost: the curriculum's owner is gone.
        """

    def close(self) -> None:
        """Let go of the connection; an unfinished episode is aborted. May be called twice."""


@runtime_checkable
class ResumableLink(Link, Protocol):
    """A connection whose environment can be saved in mid-episode and taken up again, by its owner's process."""

    def state_dict(self) -> dict[str, Any]:
        """The tasks that are out, begun or ahead, as objects that can be pickled."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up these tasks. The host has them from the state that it has loaded; nothing is drawn or counted.

        Raises:
            StateError: the host does not have them; nothing is changed.
        """


@runtime_checkable
class Components(Protocol):
    """The address of a curriculum: small, picklable, valid in every process that can reach the host."""

    def connect(self, spec: EnvSpec) -> Link:
        """Register one environment.

        Raises:
            UsageError: the curriculum cannot work with such an environment, or not from here.
            CurriculumLost: nobody serves this address any more.
        """

    def connect_many(self, spec: EnvSpec, count: int) -> Sequence[Link]:
        """Register several environments that are stepped together, and may share a connection."""


@runtime_checkable
class Shareable(Components, Protocol):
    """An address whose environments can share a connection though each connects for itself."""

    def shared(self) -> Components:
        """The same address for environments that one thread of a process steps: they share one connection."""


def shared(components: Any) -> Any:
    """The handle to give to several environments that one thread of a process steps; shared where that is cheaper."""
    return components.shared() if isinstance(components, Shareable) else components


P = ParamSpec("P")
T = TypeVar("T")


class Owner(Protocol):
    """Who owns a curriculum, as the learner reaches it: a `CurriculumHost`, here or in another process."""

    def call(
        self, method: Callable[Concatenate[Curriculum, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call a method of the curriculum by its name, in turn with the environments' updates.

        Raises:
            CurriculumError: the curriculum has failed; its exception is the cause.
        """

    def get(self, name: str) -> Any:
        """Read an attribute of the curriculum."""

    def metrics(self) -> dict[str, float]:
        """The counters of the host."""

    def state_dict(self) -> State:
        """The curriculum's state, the counters, and the tasks that are out."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()`."""


class SyncedCurriculum(Curriculum):
    """A hosted curriculum, for the learner: every call waits its turn among the environments' updates.

    It is a context manager. Pickled, it becomes its `components`, so that an environment function that captures
    it by mistake still reaches the real curriculum and never a copy.

    Args:
        host: Who owns the curriculum: the host that serves it, or its stand-in in this process.
        components: The handle for environments.
    """

    def __init__(self, host: Owner, components: Components) -> None:
        self.host = host
        self.components = components
        super().__init__(host.get("task_space"))
        self.rng = host.get("rng")
        self.task_names = host.get("task_names")
        self.stats = host.get("stats")
        self.single_agent = host.get("single_agent")

    def close(self) -> None:
        """Apply everything that environments have sent, then stop serving. May be called twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> Any:
        return _identity, (self.components,)

    @override
    @property
    def requires_step_updates(self) -> bool:
        return bool(self.host.get("requires_step_updates"))

    @override
    @property
    def step_fields(self) -> frozenset[str]:
        return frozenset(self.host.get("step_fields"))

    @override
    def register_env(self, env_id: int, spec: EnvSpec) -> None:
        self.host.call(Curriculum.register_env, env_id, spec)

    @override
    def unregister_env(self, env_id: int) -> None:
        self.host.call(Curriculum.unregister_env, env_id)

    @override
    def sample(self, k: int = 1) -> list[Any]:
        return self.host.call(Curriculum.sample, k)

    @override
    def task_info(self, task: Any) -> Mapping[str, float]:
        return self.host.call(Curriculum.task_info, task)

    @override
    def distribution(self) -> NDArray[np.float64] | None:
        return self.host.call(Curriculum.distribution)

    @override
    def update_on_step(self, *args: Any, **kwargs: Any) -> None:
        self.host.call(Curriculum.update_on_step, *args, **kwargs)

    @override
    def update_on_step_batch(self, batch: StepBatch) -> None:
        self.host.call(Curriculum.update_on_step_batch, batch)

    @override
    def update_on_episode(self, *args: Any, **kwargs: Any) -> None:
        self.host.call(Curriculum.update_on_episode, *args, **kwargs)

    @override
    def update_on_abort(self, task: Any, env_id: int | None = None) -> None:
        self.host.call(Curriculum.update_on_abort, task, env_id)

    @override
    def update_task_progress(self, task: Any, progress: Any, env_id: int | None = None) -> None:
        self.host.call(Curriculum.update_task_progress, task, progress, env_id)

    @override
    def update_on_demand(self, metrics: Mapping[str, Any]) -> None:
        self.host.call(Curriculum.update_on_demand, metrics)

    @override
    def get_options(self) -> dict[str, Any]:
        return self.host.call(Curriculum.get_options)

    @override
    def tunable_options(self) -> dict[str, tuple[float, float]]:
        return self.host.call(Curriculum.tunable_options)

    @override
    def check_options(self, **options: Any) -> None:
        self.host.call(_anyhow(Curriculum.check_options), **options)

    @override
    def set_options(self, **options: Any) -> None:
        self.host.call(_anyhow(Curriculum.set_options), **options)

    @override
    def normalize(self, reward: float, task: Any) -> float:
        return self.host.call(Curriculum.normalize, reward, task)

    @override
    def metrics(self) -> dict[str, float]:
        """The curriculum's metrics, and the link's own under "sync/"."""
        own = {f"sync/{name}": value for name, value in self.link_metrics().items()}
        return {**self.host.call(Curriculum.metrics), **own}

    @override
    def _scalars(self, log_n_tasks: int) -> dict[str, float]:
        own = {f"curriculum/sync/{name}": value for name, value in self.link_metrics().items()}
        return {**self.host.call(Curriculum._scalars, log_n_tasks), **own}

    def link_metrics(self) -> dict[str, float]:
        """The counters of the host, and what the transport adds to them."""
        return self.host.metrics()

    @override
    def state_dict(self) -> State:
        """The host's state: the curriculum, and the tasks that are out."""
        return self.host.state_dict()

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.host.load_state_dict(state)


def _anyhow(method: Callable[..., None]) -> Callable[..., None]:
    """A method that takes any keywords: `self` might be one of them, for all that the types say."""
    return method


def _identity(components: Components) -> Components:
    return components

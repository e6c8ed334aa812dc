"""What a host hands out, and what it notes: tasks, environments, running totals."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from macurr.errors import StateError
from macurr.messages import EnvSpec


class Assignment(NamedTuple):
    """A task for one episode.

    Attributes:
        encoded: As the curriculum knows it.
        decoded: As the environment receives it.
        info: Further numbers for `infos[agent]` (see `Curriculum.task_info`).
    """

    encoded: Any
    decoded: Any
    info: Mapping[str, float]


class Welcome(NamedTuple):
    """What an environment learns when it connects: its id, and which step fields it has to send."""

    env_id: int
    step_fields: frozenset[str]


@dataclass(slots=True)
class EnvRecord:
    """What the host knows of a connected environment.

    Attributes:
        spec: Who plays.
        begun: The tasks whose end has not been applied yet, oldest first. The word that the next one has begun
            may overtake the result of the one before, which waits its turn behind other updates.
        stock: The tasks drawn ahead, each with the version at its draw.
    """

    spec: EnvSpec
    begun: deque[Any] = field(default_factory=deque)
    stock: deque[tuple[Any, int]] = field(default_factory=deque)

    @property
    def outstanding(self) -> list[Any]:
        """The tasks that are out, oldest first."""
        return [*self.begun, *(task for task, _ in self.stock)]


@dataclass(slots=True)
class Counters:
    """Running totals; lags count updates applied between a task's draw and its use."""

    updates: int = 0
    steps: int = 0
    episodes: int = 0
    aborted: int = 0
    tasks: int = 0
    started: int = 0
    lag_sum: int = 0
    lag_max: int = 0
    wait_sum: float = 0.0
    wait_max: float = 0.0
    lost_frames: int = 0
    late: int = 0

    @classmethod
    def of(cls, state: Any) -> Counters:
        """The counters that `state()` was made of.

        Raises:
            StateError: these are no counters.
        """
        if not isinstance(state, Mapping) or set(state) != set(cls.__slots__):
            raise StateError(f"The host's counters are {sorted(cls.__slots__)}; got {state!r}.")
        wrong = {name: value for name, value in state.items() if type(value) not in {int, float}}
        if wrong:
            raise StateError(f"The host's counters are numbers; got {wrong}.")
        return cls(**state)

    def state(self) -> dict[str, Any]:
        """The totals by their names."""
        return {name: getattr(self, name) for name in self.__slots__}

"""How long levels have not been visited, and draws that favour the longest.

The staleness of a level grows by 1 with every task that is drawn, and is 0 when the level itself is drawn.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import override

from macurr.curricula.plr.priorities import make_priority
from macurr.curricula.plr.priority import Priority
from macurr.curricula.plr.transforms import STALENESS_TRANSFORMS
from macurr.errors import UsageError
from macurr.sampling import AgeTree, Partition

Floats = NDArray[np.float64]


class Staleness(ABC):
    """The clock, the time of each level's last visit, and draws from the members.

    Args:
        members: Which levels have a score, kept in step with `add` and `discard` by its owner.
    """

    def __init__(self, members: Partition) -> None:
        self.members = members

    @property
    @abstractmethod
    def clock(self) -> int:
        """The number of ticks so far."""

    @property
    @abstractmethod
    def times(self) -> NDArray[np.int64]:
        """A copy of the times of the last visits, shape (capacity,), of members and others."""

    @abstractmethod
    def tick(self) -> None:
        """Let every level's staleness grow by 1."""

    @abstractmethod
    def touch(self, index: int, time: int | None = None) -> None:
        """Record a visit, now unless an earlier time is given."""

    @abstractmethod
    def add(self, index: int) -> None:
        """Make a level a member."""

    @abstractmethod
    def discard(self, index: int) -> None:
        """Make a level no member."""

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> int:
        """A member, with the probability that its staleness gives it."""

    @abstractmethod
    def probabilities(self) -> Floats:
        """The probability of each level, shape (capacity,)."""

    @abstractmethod
    def load(self, times: ArrayLike, clock: int) -> None:
        """Replace all times and the clock; the members are those of `members`."""

    @abstractmethod
    def grow(self, capacity: int) -> None:
        """Make place for more levels, visited now."""

    @property
    def scale(self) -> float:
        """What, beside times and clock, the next draws depend on to the last bit."""
        return 0.0

    @scale.setter
    def scale(self, scale: float) -> None:
        pass

    def _inside(self) -> NDArray[np.bool_]:
        inside = np.zeros(self.members.capacity, np.bool_)
        inside[self.members.members] = True
        return inside


class PowerStaleness(Staleness):
    """`power`: C ** (1 / temperature), uniform where every staleness is 0."""

    def __init__(self, members: Partition, temperature: float) -> None:
        super().__init__(members)
        self._ages = AgeTree(members.capacity, 1.0 / temperature)

    @property
    @override
    def clock(self) -> int:
        return self._ages.clock

    @property
    @override
    def scale(self) -> float:
        return float(self._ages.bound)

    @scale.setter
    def scale(self, scale: float) -> None:
        self._ages.bound = int(scale)

    @property
    @override
    def times(self) -> NDArray[np.int64]:
        return self._ages.times

    @override
    def tick(self) -> None:
        self._ages.tick()

    @override
    def touch(self, index: int, time: int | None = None) -> None:
        self._ages.touch(index, time)

    @override
    def add(self, index: int) -> None:
        self._ages.add(index)

    @override
    def discard(self, index: int) -> None:
        self._ages.discard(index)

    @override
    def draw(self, rng: np.random.Generator) -> int:
        return self._ages.draw(rng) if self._ages.total > 0 else self.members.draw(rng.random())

    @override
    def probabilities(self) -> Floats:
        if self._ages.total > 0 or len(self.members) == 0:
            return self._ages.probabilities()
        return self._inside() / len(self.members)

    @override
    def load(self, times: ArrayLike, clock: int) -> None:
        self._ages.load(times, self._inside(), clock)

    @override
    def grow(self, capacity: int) -> None:
        self._ages.grow(capacity)


class OrderedStaleness(Staleness):
    """Transforms that a shift of all ages does not change: those of the order, `softmax` and `constant`.

    They are drawn from minus the time of the last visit, which no tick has to touch.
    """

    def __init__(self, members: Partition, priority: Priority) -> None:
        super().__init__(members)
        self._priority = priority
        self._times = np.zeros(members.capacity, np.int64)
        self._clock = 0

    @property
    @override
    def clock(self) -> int:
        return self._clock

    @property
    @override
    def times(self) -> NDArray[np.int64]:
        return np.array(self._times)

    @property
    @override
    def scale(self) -> float:
        return self._priority.scale

    @scale.setter
    def scale(self, scale: float) -> None:
        self._priority.scale = scale

    @override
    def tick(self) -> None:
        self._clock += 1

    @override
    def touch(self, index: int, time: int | None = None) -> None:
        self._times[index] = self._clock if time is None else time
        if index in self.members:
            self.add(index)

    @override
    def add(self, index: int) -> None:
        self._priority.set(index, -float(self._times[index]))

    @override
    def discard(self, index: int) -> None:
        self._priority.discard(index)

    @override
    def draw(self, rng: np.random.Generator) -> int:
        return self._priority.draw(rng)

    @override
    def probabilities(self) -> Floats:
        return self._priority.probabilities()

    @override
    def load(self, times: ArrayLike, clock: int) -> None:
        self._times, self._clock = np.array(times, np.int64), int(clock)
        self._priority.load(np.where(self._inside(), -self._times.astype(np.float64), np.nan))

    @override
    def grow(self, capacity: int) -> None:
        self._times = np.append(self._times, np.full(capacity - len(self._times), self._clock))
        self._priority.grow(capacity)


def make_staleness(name: str, members: Partition, *, temperature: float, eps: float) -> Staleness:
    """The staleness for a transform's name.

    Raises:
        UsageError: there is no such transform of a staleness.
    """
    if name == "power":
        return PowerStaleness(members, temperature)
    if name not in STALENESS_TRANSFORMS:
        raise UsageError(
            f"There is no staleness transform {name!r}; choose one of {', '.join(STALENESS_TRANSFORMS)}."
        )
    return OrderedStaleness(
        members, make_priority(name, members, temperature=temperature, eps=eps, offset=0.0)
    )

"""Ages of entries under a clock: draws that favour what has not been visited for long."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from macurr.errors import TaskError, UsageError
from macurr.sampling.views import Viewed, check_capacity, int_view, outside


class AgeTree(Viewed):
    """Entries and the time since their last visit, drawn in proportion to a power of it.

    An entry's age is the clock minus its time. Every node of the tree holds the number of members below it
    and the sum of their times, so its total age is `clock * count - times`: the clock can tick for all
    entries at once, in O(1). The arithmetic is on integers and exact. 24 bytes per entry; times are kept for
    entries that are no members too.

    Draws proportional to the age (`exponent` 1) are one walk down the tree. For another exponent p,
    candidates come from the age-proportional draw (p > 1) or the uniform one (p < 1), and are kept with the
    probability that makes the result exact; on ages spread evenly that takes (p + 1) / 2 or p + 1 candidates.
    Where ages are spread so unevenly that `_TRIES` candidates fail, one exact draw over all members replaces
    them, in O(capacity).

    Args:
        capacity: The number of entries; none is a member at first, and all were last visited at time 0.
        exponent: The power p of the age, positive.

    Raises:
        TaskError: the exponent is not positive and finite.

    Example:
        >>> tree = AgeTree(3)
        >>> for index in (0, 1):
        ...     tree.add(index)
        >>> for index in (0, 1, 1):
        ...     tree.tick()
        ...     tree.touch(index)
        >>> tree.tick()
        >>> tree.ages.tolist(), tree.probabilities().tolist()
        ([3, 1, 4], [0.75, 0.25, 0.0])
    """

    _TRIES = 64

    def __init__(self, capacity: int, exponent: float = 1.0) -> None:
        if not 0.0 < exponent < np.inf:
            raise TaskError(f"The exponent of an age must be positive and finite; got {exponent!r}.")
        self.exponent = float(exponent)
        self.clock = 0
        self._sums = np.zeros(2 * check_capacity(capacity), np.int64)
        self._counts = np.zeros(2 * capacity, np.int32)
        self._oldest = 0
        self._bind()

    def _bind(self) -> None:
        self._sum, self._count = int_view(self._sums), int_view(self._counts)

    @property
    def capacity(self) -> int:
        """The number of entries."""
        return len(self._sums) // 2

    def __len__(self) -> int:
        """The number of members."""
        return self._count[1]

    def __contains__(self, index: int) -> bool:
        """Whether an entry is a member."""
        return bool(self._count[self._leaf(index)])

    @property
    def times(self) -> NDArray[np.int64]:
        """A copy of all last visits, shape (capacity,)."""
        times: NDArray[np.int64] = self._sums[self.capacity :].copy()
        return times

    @property
    def ages(self) -> NDArray[np.int64]:
        """The ages of all entries, members or not, shape (capacity,)."""
        return self.clock - self.times

    @property
    def members(self) -> NDArray[np.bool_]:
        """Which entries are members, shape (capacity,)."""
        members: NDArray[np.bool_] = self._counts[self.capacity :] > 0
        return members

    @property
    def total(self) -> int:
        """The sum of the members' ages."""
        return self._age(1)

    @property
    def bound(self) -> int:
        """A time not after the earliest of the members': candidates are kept by it, so it decides the next draws."""
        return self._oldest

    @bound.setter
    def bound(self, time: int) -> None:
        visits = self.times[self.members]
        self._oldest = min(int(time), int(visits.min())) if len(visits) else int(time)

    def age(self, index: int) -> int:
        """The age of one entry, member or not."""
        return self.clock - self._sum[self._leaf(index)]

    def tick(self) -> None:
        """Let every age grow by 1."""
        self.clock += 1

    def touch(self, index: int, time: int | None = None) -> None:
        """Record a visit of an entry, now unless an earlier `time` is given.

        Raises:
            TaskError: the entry is outside the capacity, or the time is in the future.
        """
        node = self._leaf(index)
        moment = self.clock if time is None else time
        if moment > self.clock:
            raise TaskError(f"Time {moment} is in the future of clock {self.clock}.")
        difference = moment - self._sum[node]
        self._sum[node] = moment
        if self._count[node]:
            self._oldest = min(self._oldest, moment)
            self._add_above(node, 0, difference)

    def add(self, index: int) -> None:
        """Make an entry a member, if it is none."""
        node = self._leaf(index)
        if not self._count[node]:
            self._count[node] = 1
            self._oldest = min(self._oldest, self._sum[node])
            self._add_above(node, 1, self._sum[node])

    def discard(self, index: int) -> None:
        """Make an entry no member, if it is one."""
        node = self._leaf(index)
        if self._count[node]:
            self._count[node] = 0
            self._add_above(node, -1, -self._sum[node])

    def draw(self, rng: np.random.Generator) -> int:
        """A member, with probability proportional to its age to the power of `exponent`.

        Raises:
            UsageError: no member has an age above 0.
        """
        if self.total <= 0:
            raise UsageError("Nothing can be drawn: no member has an age above 0. Let the clock tick first.")
        if self.exponent == 1.0:
            return self.draw_linear(rng.random())
        for attempt in range(self._TRIES):
            if attempt == self._TRIES // 2:
                self._oldest = int(self.times[self.members].min())
            candidate = self._candidate(rng)
            if rng.random() < self._acceptance(self.age(candidate)):
                return candidate
        return int(rng.choice(self.capacity, p=self.probabilities()))

    def draw_linear(self, uniform: float) -> int:
        """The member that `uniform`, from [0, 1), selects in proportion to the ages themselves."""
        total = self.total
        if total <= 0:
            raise UsageError("Nothing can be drawn: no member has an age above 0. Let the clock tick first.")
        value = min(int(uniform * total), total - 1)
        sums, counts, clock = self._sum, self._count, self.clock
        capacity = len(sums) >> 1
        node = 1
        while node < capacity:
            node *= 2
            # The leaf of an entry that is no member still holds its time: only its count says so.
            left = clock * counts[node] - sums[node] if counts[node] else 0
            if value >= left:
                value -= left
                node += 1
        return node - capacity

    def probabilities(self) -> NDArray[np.float64]:
        """The probability of each entry, shape (capacity,); all 0 where no member has an age above 0."""
        ages = np.where(self.members, self.ages, 0).astype(np.float64)
        if not ages.any():
            return ages
        weights = (ages / ages.max()) ** self.exponent
        probabilities: NDArray[np.float64] = weights / weights.sum()
        return probabilities

    def load(self, times: ArrayLike, members: ArrayLike, clock: int) -> None:
        """Replace all last visits, memberships and the clock.

        Args:
            times: Last visits, shape (capacity,).
            members: Which entries are members, shape (capacity,).
            clock: The time now, not before any visit.

        Raises:
            TaskError: a shape is another, or a visit is in the future.
        """
        visits, inside = np.asarray(times, np.int64), np.asarray(members, np.bool_)
        if visits.shape != (self.capacity,) or inside.shape != (self.capacity,):
            raise TaskError(f"Expected shape ({self.capacity},); got {visits.shape} and {inside.shape}.")
        if visits.max() > clock:
            raise TaskError(f"Time {visits.max()} is in the future of clock {clock}.")
        self.clock = int(clock)
        self._oldest = int(visits.min())
        self._counts[self.capacity :] = inside
        self._sums[self.capacity :] = np.where(inside, visits, 0)
        self._sum_inner()
        self._sums[self.capacity :] = visits

    def grow(self, capacity: int) -> None:
        """Make place for more entries: no members, last visited now. O(capacity)."""
        times, members, size = self.times, self.members, check_capacity(capacity, least=self.capacity)
        more = size - self.capacity
        self._sums, self._counts = np.zeros(2 * size, np.int64), np.zeros(2 * size, np.int32)
        self._bind()
        visits = np.concatenate([times, np.full(more, self.clock)])
        self.load(visits, np.concatenate([members, np.zeros(more, np.bool_)]), self.clock)

    def _leaf(self, index: int) -> int:
        capacity = len(self._sums) >> 1
        if not 0 <= index < capacity:
            raise outside(index, capacity)
        return capacity + index

    def _age(self, node: int) -> int:
        return self.clock * self._count[node] - self._sum[node] if self._count[node] else 0

    def _add_above(self, node: int, count: int, time: int) -> None:
        sums, counts = self._sum, self._count
        while node > 1:
            node >>= 1
            sums[node] += time
            if count:
                counts[node] += count

    def _sum_inner(self) -> None:
        high = self.capacity
        while high > 1:
            low = (high + 1) // 2
            for nodes in (self._sums, self._counts):
                nodes[low:high] = nodes[2 * low : 2 * high : 2] + nodes[2 * low + 1 : 2 * high : 2]
            high = low

    def _candidate(self, rng: np.random.Generator) -> int:
        if self.exponent > 1.0:
            return self.draw_linear(rng.random())
        return self._nth(int(rng.random() * len(self)))

    def _acceptance(self, age: int) -> float:
        # `_oldest` is never later than the oldest member's time, so this is never above 1.
        bound = self.clock - self._oldest
        return float((age / bound) ** (self.exponent - 1.0 if self.exponent > 1.0 else self.exponent))

    def _nth(self, nth: int) -> int:
        """The member at position `nth` in the tree's own order."""
        counts, node = self._count, 1
        capacity = len(counts) >> 1
        while node < capacity:
            node *= 2
            if nth >= counts[node]:
                nth -= counts[node]
                node += 1
        return node - capacity

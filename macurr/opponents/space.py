"""The task space of opponents: the ids of a pool, as it is at every moment."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from typing_extensions import override

from macurr.errors import PoolError, TaskError
from macurr.opponents.pool import AgentPool
from macurr.spaces import TaskSpace

__all__ = ["OpponentTaskSpace"]


class OpponentTaskSpace(TaskSpace):
    """The snapshots of a pool, encoded and decoded as their ids. It grows and shrinks with the pool.

    Its tasks, and their positions, are those of the snapshots in the pool now, oldest first. An id that the pool has
    let go is still *contained*: an episode that was given it may yet begin or end.

    Args:
        pool: The pool.
    """

    def __init__(self, pool: AgentPool) -> None:
        self.pool = pool
        self._highest = -1

    @property
    @override
    def num_tasks(self) -> int:
        return len(self.pool)

    @property
    @override
    def gym_space(self) -> gymnasium.spaces.Discrete:
        return gymnasium.spaces.Discrete(max(1, self._latest() + 1))

    @override
    def contains(self, task: Any) -> bool:
        if type(task) is int and 0 <= task <= self._highest:
            return True
        if not isinstance(task, int | np.integer) or isinstance(task, bool):
            return False
        number = int(task)
        if number > self._highest and number in self.pool:  # the pool looks for what it does not know yet
            self._highest = number
        return 0 <= number <= self._highest or 0 <= number <= self._latest()

    @override
    def check(self, task: Any) -> int:
        if type(task) is int and 0 <= task <= self._highest:
            return task  # nearly always, and several times for each episode
        return int(super().check(task))

    @override
    def sample(self, rng: np.random.Generator) -> int:
        ids = self.tasks
        if not ids:
            raise PoolError(f"{self!r} is empty. Add a snapshot first: that of the untrained policy will do.")
        return ids[int(rng.integers(len(ids)))]

    @property
    @override
    def tasks(self) -> Sequence[int]:
        """The ids in the pool now, oldest first."""
        return self.pool.ids

    @override
    def index(self, task: Any) -> int:
        snapshot, ids = self.check(task), self.pool.ids
        place = bisect.bisect_left(ids, snapshot)
        if place == len(ids) or ids[place] != snapshot:
            raise TaskError(f"Snapshot {snapshot} has left {self!r}, so it has no position in it.")
        return place

    @override
    def from_index(self, index: int) -> int:
        ids = self.pool.ids
        if not 0 <= index < len(ids):
            raise TaskError(f"There is no position {index!r} in {self!r}.")
        return ids[index]

    def __eq__(self, other: object) -> bool:
        return self.pool.path == other.pool.path if isinstance(other, OpponentTaskSpace) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.pool.path)

    def __repr__(self) -> str:
        return f"OpponentTaskSpace({self.pool!r})"

    def _latest(self) -> int:
        """The greatest id ever seen."""
        self._highest = max([self._highest, *self.pool.ids[-1:]])
        return self._highest

    @override
    def _wanted(self) -> str:
        return "the id of a snapshot"

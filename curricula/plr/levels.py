"""The levels that can be replayed: all tasks of a finite space, or a bounded buffer over any space."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from macurr.curricula.plr.mixture import ReplayDistribution
from macurr.curricula.plr.strategies import Outcomes
from macurr.errors import StateError, UsageError
from macurr.spaces import DiscreteTaskSpace, TaskSpace

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Schedule:
    """When to replay a seen level rather than draw a new one.

    Attributes:
        name: "fixed" or "proportionate".
        replay_prob: Probability of a replay under "fixed", and its upper bound for a buffer.
        rho: The share of levels that must have been seen, or of the buffer that must be filled, before any
            replay.
    """

    name: str
    replay_prob: float
    rho: float


_TRIES = 64
"""Draws of an unseen level, before those that are left in the space are listed."""


class Levels(ABC):
    """Levels in numbered slots, with their scores and what the strategy remembers of each.

    Args:
        space: The task space.
        replay: The replay distribution over the slots.
        outcomes: What to remember of each level.
        alpha: Weight of a new score in a level's moving average.
        schedule: When to replay.

    Attributes:
        replayed: Whether the latest draw of the level in each slot was a replay.
    """

    def __init__(
        self,
        space: TaskSpace,
        replay: ReplayDistribution,
        outcomes: Outcomes,
        alpha: float,
        schedule: Schedule,
    ) -> None:
        self.space, self.replay, self.outcomes = space, replay, outcomes
        self._alpha, self._schedule = alpha, schedule
        self._rows = np.tile(outcomes.fresh(), (replay.capacity, 1))
        self.replayed = np.zeros(replay.capacity, np.bool_)

    def configure(self, outcomes: Outcomes, alpha: float, schedule: Schedule) -> None:
        """Change how scores are averaged and when levels are replayed; what is remembered of them stays."""
        self.outcomes, self._alpha, self._schedule = outcomes, alpha, schedule

    @abstractmethod
    def slot(self, task: Any) -> int | None:
        """The slot of an encoded task, None where it has none.

        Raises:
            TaskError: the task is not in the space.
        """

    @abstractmethod
    def task(self, slot: int) -> Any:
        """The encoded task in a slot."""

    @abstractmethod
    def replay_probability(self) -> float:
        """The probability that the next task is a replayed one."""

    @abstractmethod
    def draw_new(self, rng: np.random.Generator) -> tuple[Any, int | None]:
        """A task that has not been seen, and its slot if it has one."""

    @abstractmethod
    def new_probabilities(self) -> Floats | None:
        """The distribution of `draw_new` over a finite space, None where there is none."""

    @abstractmethod
    def distribution(self) -> Floats | None:
        """The distribution of the next task over a finite space, None where there is none."""

    @abstractmethod
    def put(self, task: Any, score: float, row: Floats | None = None) -> None:
        """Give a level a new score.

        Args:
            task: The encoded task.
            score: What its latest episode scored.
            row: What the strategy remembers of it now; None to leave that as it is.
        """

    def put_many(self, tasks: Sequence[Any] | NDArray[Any], scores: Floats) -> None:
        """`put` for many tasks, in order; all are checked before any is changed."""
        checked = [self.space.check(task) for task in tasks]
        for task, score in zip(checked, scores.tolist(), strict=True):
            self.put(task, score)

    def row(self, task: Any) -> Floats:
        """What the strategy remembers of a level."""
        slot = self.slot(task)
        return self.outcomes.fresh() if slot is None else np.array(self._rows[slot])

    def follow(self) -> None:
        """Make place for tasks that the space has gained, and forget those that it has lost."""

    def state(self) -> dict[str, Any]:
        """Everything, as plain values and arrays."""
        return {"replay": self.replay.state(), "rows": self._rows.copy(), "replayed": self.replayed.copy()}

    def check(self, state: Mapping[str, Any]) -> None:
        """Check that `load` would succeed.

        Raises:
            StateError: it would not.
        """
        if not isinstance(state, Mapping) or {"replay", "rows", "replayed"} - set(state):
            raise StateError("The state of the levels lacks their replay distribution, rows or replays.")
        if (
            np.shape(state["replayed"]) != self.replayed.shape
            or np.asarray(state["replayed"]).dtype != np.bool_
        ):
            raise StateError(
                f"The state is about {np.size(state['replayed'])} levels; this curriculum has {self.replayed.size}."
            )
        if np.shape(state["rows"]) != self._rows.shape:
            raise StateError(
                f"The state remembers {np.shape(state['rows'])} numbers of its levels, where this curriculum's "
                f"strategy {self.outcomes.strategy.name!r} keeps {self._rows.shape}."
            )
        self.replay.check(state["replay"])

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from `state()`, which `check` has accepted."""
        self.replay.load(state["replay"])
        self._rows = np.array(state["rows"], np.float64)
        self.replayed = np.array(state["replayed"], np.bool_)

    def _average(self, slot: int, score: float) -> float:
        old = self.replay.score(slot) if slot in self.replay.members else 0.0
        return (1.0 - self._alpha) * old + self._alpha * score


class FiniteLevels(Levels):
    """Every task of a finite space has its own slot: its position."""

    _gone: frozenset[int] = frozenset()

    @override
    def slot(self, task: Any) -> int:
        index = self.space.index(task)
        if index >= self.replay.capacity:
            self.follow()
        return index

    @override
    def task(self, slot: int) -> Any:
        return self.space.from_index(slot)

    @override
    def replay_probability(self) -> float:
        seen, size = self.replay.seen, self.replay.capacity - len(self._gone)
        if seen == 0 or seen / size < self._schedule.rho:
            return 0.0
        if seen == size:
            return 1.0
        return self._schedule.replay_prob if self._schedule.name == "fixed" else seen / size

    @override
    def draw_new(self, rng: np.random.Generator) -> tuple[Any, int | None]:
        slot = self.replay.draw_unseen(rng)
        for _ in range(_TRIES if self._gone else 0):
            if slot not in self._gone:
                break
            slot = self.replay.draw_unseen(rng)
        else:
            if slot in self._gone:  # nearly all unseen levels have left the space
                slot = int(rng.choice(np.flatnonzero(self.new_probabilities())))
        return self.task(slot), slot

    @override
    def new_probabilities(self) -> Floats:
        left = self.replay.capacity - self.replay.seen - len(self._gone)
        found = np.full(self.replay.capacity, 1.0 / max(1, left))
        found[self.replay.members.members] = 0.0
        found[list(self._gone)] = 0.0
        return found

    @override
    def distribution(self) -> Floats:
        share = self.replay_probability()
        mixed: Floats = share * self.replay.probabilities() + (1.0 - share) * self.new_probabilities()
        return mixed

    @override
    def put(self, task: Any, score: float, row: Floats | None = None) -> None:
        slot = self.slot(task)
        self.replay.set_score(slot, self._average(slot, score))
        if row is not None:
            self._rows[slot] = row

    @override
    def put_many(self, tasks: Sequence[Any] | NDArray[Any], scores: Floats) -> None:
        slots = [self.slot(task) for task in (tasks.tolist() if isinstance(tasks, np.ndarray) else tasks)]
        # Rebuilding everything takes as long as changing one level in some fifty.
        if len(slots) * 50 > self.replay.capacity and len(slots) > 1000 and len(set(slots)) == len(slots):
            self._put_all(np.array(slots), scores)
            return
        for slot, score in zip(slots, scores.tolist(), strict=True):
            self.replay.set_score(slot, self._average(slot, score))

    def _put_all(self, slots: NDArray[np.int64], scores: Floats) -> None:
        every = self.replay.scores
        old = np.nan_to_num(every[slots], nan=0.0)
        every[slots] = (1.0 - self._alpha) * old + self._alpha * scores
        self.replay.set_scores(every)

    @override
    def follow(self) -> None:
        self._grow()
        if self.space.num_removed != len(self._gone):
            gone = frozenset(self.space.removed.tolist())
            for slot in gone - self._gone:
                self.replay.forget(slot)
            self._gone = gone

    def _grow(self) -> None:
        size = self.space.num_tasks
        if size is None or size == self.replay.capacity:
            return
        if size < self.replay.capacity or not isinstance(self.space, DiscreteTaskSpace):
            raise UsageError(
                f"{self.space!r} has changed from {self.replay.capacity} to {size} tasks, and the positions of its "
                "tasks with it. Only discrete task spaces can grow; use buffer_size for the others."
            )
        fresh = np.tile(self.outcomes.fresh(), (size - self.replay.capacity, 1))
        self._rows = np.concatenate([self._rows, fresh])
        self.replayed = np.append(self.replayed, np.zeros(len(fresh), np.bool_))
        self.replay.grow(size)

"""A bounded buffer of levels over any space."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from typing_extensions import override

from macurr.curricula.plr.levels import Floats, Levels, Schedule
from macurr.curricula.plr.mixture import ReplayDistribution
from macurr.curricula.plr.strategies import Outcomes
from macurr.errors import StateError
from macurr.spaces import TaskSpace
from macurr.spaces.forms import frozen, plain

LISTED = 10**7
"""The largest space whose tasks are listed one by one for its distribution."""


class LevelBuffer(Levels):
    """The best levels found so far of a space that may be endless.

    A drawn level waits outside until its first score comes in. Then it takes an empty slot, or that of the
    level
    it replaces: the one with the least replay probability or the least score, if that one's score is not
    higher. Levels are known by their tasks, so a task that is drawn twice takes one slot, and a score that
    arrives late for a level that has been replaced never reaches the level that replaced it.

    Args:
        space: The task space.
        replay: The replay distribution over the slots.
        outcomes: What to remember of each level.
        alpha: Weight of a new score in a level's moving average.
        schedule: When to replay.
        priority: "replay_support" to replace the least likely level, "score" for the one with the least
            score.
    """

    def __init__(
        self,
        space: TaskSpace,
        replay: ReplayDistribution,
        outcomes: Outcomes,
        alpha: float,
        schedule: Schedule,
        priority: str,
    ) -> None:
        super().__init__(space, replay, outcomes, alpha, schedule)
        self._priority = priority
        self._tasks: list[Any] = [None] * replay.capacity
        self._slots: dict[Hashable, int] = {}
        # Drawn levels that wait for their first score, with the time when they were drawn. An episode may be
        # given up and never score, so the oldest are dropped: their levels then count as created when scored.
        self._waiting: dict[Hashable, tuple[Any, int]] = {}
        self._most_waiting = max(1024, replay.capacity)
        self._removed = 0

    @override
    def slot(self, task: Any) -> int | None:
        return self._slots.get(self._key(task))

    @override
    def task(self, slot: int) -> Any:
        return self._tasks[slot]

    @override
    def replay_probability(self) -> float:
        filled = self.replay.seen / self.replay.capacity
        if self._schedule.name == "fixed":
            return self._schedule.replay_prob if filled > 0.0 and filled >= self._schedule.rho else 0.0
        return min(filled, self._schedule.replay_prob)

    @override
    def draw_new(self, rng: np.random.Generator) -> tuple[Any, int | None]:
        task = self.space.sample(rng)
        return task, self.expect(task)

    def expect(self, task: Any) -> int | None:
        """Note that a task has just been drawn; returns its slot if it has one.

        Raises:
            TaskError: the task is not in the space.
        """
        key = self._key(task)
        slot = self._slots.get(key)
        if slot is None:
            self._waiting.pop(key, None)
            # The clock ticks once this task has been drawn.
            self._waiting[key] = (task, self.replay.clock + 1)
            if len(self._waiting) > self._most_waiting:
                del self._waiting[next(iter(self._waiting))]
        return slot

    @override
    def new_probabilities(self) -> Floats | None:
        size = self.space.num_tasks
        if size is None or size > LISTED:
            return None
        found = np.full(size, 1.0 / (size - self.space.num_removed))
        found[self.space.removed] = 0.0
        return found

    @override
    def distribution(self) -> Floats | None:
        found = self.new_probabilities()
        if found is not None:
            share, replay = self.replay_probability(), self.replay.probabilities()
            found *= 1.0 - share
            for slot in self._slots.values():
                found[self.space.index(self._tasks[slot])] += share * replay[slot]
        return found

    @override
    def follow(self) -> None:
        if self.space.num_removed == self._removed:
            return
        self._removed = self.space.num_removed
        for key, slot in list(self._slots.items()):
            if self.space.was_removed(self._tasks[slot]):
                del self._slots[key]
                self._tasks[slot] = None
                self.replay.forget(slot)
        self._waiting = {
            key: kept for key, kept in self._waiting.items() if not self.space.was_removed(kept[0])
        }

    @override
    def put(self, task: Any, score: float, row: Floats | None = None) -> None:
        self.follow()
        task = self.space.check(task)
        key = self._key(task)
        slot = self._slots.get(key)
        if slot is not None:
            self.replay.set_score(slot, self._average(slot, score))
            if row is not None:
                self._rows[slot] = row
            return
        _, drawn = self._waiting.pop(key, (task, self.replay.clock))
        slot = self._place_for(self._alpha * score)
        if slot is not None:
            self._tasks[slot], self._slots[key] = task, slot
            self._rows[slot] = self.outcomes.fresh() if row is None else row
            self.replayed[slot] = False
            self.replay.set_visit(slot, drawn)
            self.replay.set_score(slot, self._alpha * score)

    def _place_for(self, score: float) -> int | None:
        if self.replay.seen < self.replay.capacity:
            return self.replay.members.draw_outside(0.0)
        ranking = self.replay.scores if self._priority == "score" else self.replay.probabilities()
        victim = int(np.argmin(ranking))
        if self.replay.score(victim) > score:
            return None
        del self._slots[self._key(self._tasks[victim])]
        self.replay.forget(victim)
        return victim

    def _key(self, task: Any) -> Hashable:
        if self.space.num_tasks is not None:
            return self.space.index(task)
        return frozen(self.space.check(task))

    @override
    def state(self) -> dict[str, Any]:
        return {
            **super().state(),
            "tasks": [None if task is None else plain(task) for task in self._tasks],
            "waiting": [[plain(task), time] for task, time in self._waiting.values()],
        }

    @override
    def check(self, state: Mapping[str, Any]) -> None:
        super().check(state)
        self._restored(state)

    @override
    def load(self, state: Mapping[str, Any]) -> None:
        self._tasks, self._slots, self._waiting = self._restored(state)
        self._removed = 0
        super().load(state)

    def _restored(
        self, state: Mapping[str, Any]
    ) -> tuple[list[Any], dict[Hashable, int], dict[Hashable, tuple[Any, int]]]:
        try:
            tasks = [None if task is None else self.space.check(task) for task in state["tasks"]]
            waiting = [(self.space.check(task), int(time)) for task, time in state["waiting"]]
        except (KeyError, TypeError, ValueError) as error:
            raise StateError(f"The state's buffered levels are not of {self.space!r}: {error}") from error
        slots = {self._key(task): slot for slot, task in enumerate(tasks) if task is not None}
        filled = np.flatnonzero(~np.isnan(state["replay"]["scores"]))
        if sorted(slots.values()) != filled.tolist() or len(tasks) != self.replay.capacity:
            raise StateError("The state's buffered levels and their scores contradict each other.")
        return tasks, slots, {self._key(task): (task, time) for task, time in waiting}

"""Curricula that do as they are told: tasks by hand, a fixed order, or no curriculum at all."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import override

from macurr.curricula._states import StateReader
from macurr.curricula.basic import MOST_TASKS, Constant
from macurr.curriculum import Curriculum
from macurr.errors import TaskError, UsageError
from macurr.spaces import TaskSpace

__all__ = ["FixedSequence", "Manual", "Noop"]


class Noop(Constant):
    """No curriculum: always the default task. For switching a curriculum off and leaving the wrappers on.

    Args:
        task_space: The space that the task belongs to.
        task: The encoded task; by default the first one of a finite space.
        options: The base class's keywords.

    Raises:
        UsageError: no task is given for a space that is not finite.
        TaskError: the task is not in the space.
    """

    def __init__(self, task_space: TaskSpace, task: Any = None, **options: Any) -> None:
        if task is None:
            if task_space.num_tasks is None:
                raise UsageError(f"{task_space!r} has no first task. Pass the default task as `task`.")
            task = task_space.tasks[0]
        super().__init__(task_space, task, **options)


class Manual(Curriculum):
    """Draws from the tasks that the user names, in proportion to the user's weights, both changeable any time.

    Args:
        task_space: The space that the tasks belong to.
        tasks: Encoded tasks.
        weights: A weight for each, not all 0; equal ones by default.
        options: The base class's keywords.

    Raises:
        TaskError: a task is not in the space, there is none, or the weights do not fit.
    """

    def __init__(
        self, task_space: TaskSpace, tasks: Sequence[Any], weights: ArrayLike | None = None, **options: Any
    ) -> None:
        super().__init__(task_space, **options)
        self.set_tasks(tasks, weights)

    def set_tasks(self, tasks: Sequence[Any], weights: ArrayLike | None = None) -> None:
        """Draw from these tasks from now on.

        Raises:
            TaskError: as for the constructor; nothing is changed.
        """
        checked = [self.task_space.check(task) for task in tasks]
        values = np.ones(len(checked)) if weights is None else np.array(weights, np.float64)
        fits = values.shape == (len(checked),) and np.isfinite(values).all() and (values >= 0).all()
        if not checked or not fits or not values.any():
            raise TaskError(
                f"Manual needs at least one task, and for each a finite weight of at least 0, not all 0; got "
                f"{len(checked)} tasks and weights {weights!r}."
            )
        self._tasks, self._weights = checked, values / values.sum()

    @override
    def update_on_demand(self, metrics: Mapping[str, Any]) -> None:
        """Take new tasks.

        Args:
            metrics: "tasks", and "weights" if they differ; other entries are ignored.

        Raises:
            TaskError: as for the constructor; nothing is changed.
        """
        super().update_on_demand(metrics)
        if "tasks" in metrics:
            self.set_tasks(metrics["tasks"], metrics.get("weights"))

    @override
    def _sample(self, k: int) -> list[Any]:
        here = np.array([not self.task_space.was_removed(task) for task in self._tasks])
        sums = np.cumsum(self._weights * here)
        if sums[-1] <= 0:
            raise UsageError("Every task that Manual was given has been removed. Name others by set_tasks.")
        drawn = np.searchsorted(sums, self.rng.random(k) * sums[-1], side="right")
        return [self._tasks[i] for i in np.minimum(drawn, np.flatnonzero(self._weights * here)[-1])]

    @override
    def distribution(self) -> NDArray[np.float64] | None:
        n = self.task_space.num_tasks
        if n is None or n > MOST_TASKS:
            return None
        probabilities = np.zeros(n)
        for task, weight in zip(self._tasks, self._weights, strict=True):
            if not self.task_space.was_removed(task):
                probabilities[self.task_space.index(task)] += weight
        normalised: NDArray[np.float64] = probabilities / probabilities.sum()
        return normalised

    @override
    def state_dict(self) -> dict[str, Any]:
        return {
            **super().state_dict(),
            "tasks": list(map(self.task_space.plain, self._tasks)),
            "weights": self._weights.copy(),
        }

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        reader = StateReader(state, type(self).__name__, {"tasks", "weights"})
        tasks = reader.tasks("tasks", self.task_space)
        weights = reader.array("weights", (len(tasks),), low=0.0)
        if not weights.any():
            raise reader.fail("weights", "not all 0")
        super().load_state_dict(state)
        self._tasks, self._weights = tasks, weights


class FixedSequence(Curriculum):
    """Tasks in a given order, then again from the first. A task whose episode was aborted comes next again.

    Args:
        task_space: The space that the tasks belong to.
        tasks: Encoded tasks in order.
        options: The base class's keywords.

    Raises:
        TaskError: a task is not in the space, or there is none.
    """

    def __init__(self, task_space: TaskSpace, tasks: Sequence[Any], **options: Any) -> None:
        super().__init__(task_space, **options)
        self._tasks = [task_space.check(task) for task in tasks]
        if not self._tasks:
            raise TaskError("FixedSequence needs at least one task; got none.")
        self._given = 0
        self._back: deque[Any] = deque()

    @property
    def rounds(self) -> int:
        """How often the whole sequence has been handed out."""
        return self._given // len(self._tasks)

    @override
    def _sample(self, k: int) -> list[Any]:
        return [self._next() for _ in range(k)]

    def _next(self) -> Any:
        while self._back:
            task = self._back.popleft()
            if not self.task_space.was_removed(task):
                return task
        for _ in self._tasks:
            task = self._tasks[self._given % len(self._tasks)]
            self._given += 1
            if not self.task_space.was_removed(task):
                return task
        raise UsageError("Every task of the sequence has been removed from its space.")

    @override
    def update_on_abort(self, task: Any, env_id: int | None = None) -> None:
        if not self.task_space.was_removed(task):
            self._back.append(self.task_space.check(task))

    @override
    def metrics(self) -> dict[str, float]:
        return {"rounds": float(self.rounds), "tasks_given_back": float(len(self._back))}

    @override
    def state_dict(self) -> dict[str, Any]:
        return {
            **super().state_dict(),
            "given": self._given,
            "back": list(map(self.task_space.plain, self._back)),
        }

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        reader = StateReader(state, type(self).__name__, {"given", "back"})
        given, back = reader.integer("given"), reader.tasks("back", self.task_space)
        super().load_state_dict(state)
        self._given, self._back = given, deque(back)

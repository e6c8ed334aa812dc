"""The baselines: uniform tasks, and one task for ever."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from macurr.curriculum import Curriculum, check_state
from macurr.errors import StateError, TaskError
from macurr.spaces import TaskSpace

__all__ = ["Constant", "DomainRandomization"]

MOST_TASKS = 10_000_000
"""Larger spaces, such as all seeds, have no distribution as an array."""


def uniform_probabilities(space: TaskSpace) -> NDArray[np.float64]:
    """The same probability for every task of a finite space, and 0 where a task was removed; by position."""
    n = space.num_tasks or 0
    probabilities = np.full(n, 1.0 / (n - space.num_removed))
    probabilities[space.removed] = 0.0
    return probabilities


class DomainRandomization(Curriculum):
    """Draws tasks uniformly: the baseline without which no claim is honest (Tobin et al., 2017).

    Args:
        task_space: The tasks to choose from; finite or not.
        options: The base class's keywords (`seed`, `task_names`, `record_stats`).
    """

    def __init__(self, task_space: TaskSpace, **options: Any) -> None:
        super().__init__(task_space, **options)

    @override
    def _sample(self, k: int) -> list[Any]:
        return [self.task_space.sample(self.rng) for _ in range(k)]

    @override
    def distribution(self) -> NDArray[np.float64] | None:
        n = self.task_space.num_tasks
        return None if n is None or n > MOST_TASKS else uniform_probabilities(self.task_space)


class Constant(Curriculum):
    """Always the same task.

    Args:
        task_space: The space that the task belongs to.
        task: The encoded task.
        options: The base class's keywords.

    Raises:
        TaskError: the task is not in the space.
    """

    def __init__(self, task_space: TaskSpace, task: Any, **options: Any) -> None:
        super().__init__(task_space, **options)
        self._task = task_space.check(task)

    @property
    def task(self) -> Any:
        """The encoded task."""
        return self._task

    def set_task(self, task: Any) -> None:
        """Make another task the one from now on.

        Raises:
            TaskError: the task is not in the space.
        """
        self._task = self.task_space.check(task)

    @override
    def _sample(self, k: int) -> list[Any]:
        return [self._task] * k

    @override
    def distribution(self) -> NDArray[np.float64] | None:
        n = self.task_space.num_tasks
        if n is None or n > MOST_TASKS:
            return None
        probabilities = np.zeros(n)
        probabilities[self.task_space.index(self._task)] = 1.0
        return probabilities

    @override
    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "task": self.task_space.plain(self._task)}

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_state(state, type(self).__name__, {"task"})
        try:
            task = self.task_space.check(state["task"])
        except TaskError as error:
            raise StateError(f"The state's task does not fit: {error}") from error
        super().load_state_dict(state)
        self._task = task

"""What curricula that keep numbers for every task of a finite space share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from typing_extensions import override

from macurr.curricula._states import is_finite
from macurr.curriculum import Curriculum
from macurr.errors import TaskError, UsageError
from macurr.spaces import TaskSpace

__all__ = ["FiniteCurriculum"]


class FiniteCurriculum(Curriculum):
    """A curriculum with numbers for each position of a finite task space, which may grow and shrink.

    Results of tasks that have been removed from the space are ignored: their episodes were under way.

    Args:
        task_space: A finite space.
        options: The base class's keywords.

    Raises:
        UsageError: the space is not finite.
    """

    def __init__(self, task_space: TaskSpace, **options: Any) -> None:
        super().__init__(task_space, **options)
        if task_space.num_tasks is None:
            raise UsageError(
                f"{type(self).__name__} keeps numbers for every task; {task_space!r} is not finite. Use a finite "
                "space, or a curriculum for boxes such as AbsoluteLearningProgressGMM."
            )
        self._n = task_space.num_tasks
        self._removed = 0

    @abstractmethod
    def _grow(self, n: int) -> None:
        """Make place for n tasks."""

    @abstractmethod
    def _forget(self, index: int) -> None:
        """Never draw the removed task at this position again; does nothing if that was said before."""

    def _follow(self) -> None:
        """Catch up with the tasks that were added and removed since the last call."""
        n = self.task_space.num_tasks or 0
        if n > self._n:
            self._grow(n)
            self._n = n
        if self.task_space.num_removed != self._removed:
            for index in self.task_space.removed.tolist():
                self._forget(index)
            self._removed = self.task_space.num_removed

    @override
    def update_on_episode(
        self, episode_return: Any, length: int, task: Any, progress: Any, env_id: int | None = None
    ) -> None:
        self.check_env(env_id)
        if self.task_space.was_removed(task):
            return
        self._follow()
        self.check_episode(episode_return, length, task)
        self._learn(self.task_space.index(task), episode_return, progress, env_id)
        super().update_on_episode(episode_return, length, task, progress, env_id)

    @abstractmethod
    def _learn(self, index: int, episode_return: Any, progress: Any, env_id: int | None) -> None:
        """Learn from a checked result of the task at a position; raises before it changes anything."""

    def _told(self, metrics: Mapping[str, Any], key: str) -> tuple[list[int], Sequence[Any]]:
        """The positions and values of evaluation results, which come in one of three forms.

        Raises:
            TaskError: a task is unknown, or tasks and values do not fit together.
        """
        values = metrics[key]
        if isinstance(values, Mapping):
            tasks, values = list(values), list(values.values())
        elif "tasks" in metrics:
            tasks = list(metrics["tasks"])
        else:
            tasks = list(self.task_space.tasks)
        if len(tasks) != len(values):
            raise TaskError(
                f"{key!r} holds {len(values)} values for {len(tasks)} tasks. Give one value for each of "
                '"tasks", a mapping from task to value, or one value for each task of the space in order.'
            )
        return [self.task_space.index(task) for task in tasks], values


def check_success(value: Any) -> float:
    """Return a rate of success if it is one.

    Raises:
        TaskError: it is not a number from 0 to 1.
    """
    if not is_finite(value) or not 0.0 <= value <= 1.0:
        raise TaskError(f"A rate of success must be a number from 0 to 1; got {value!r}.")
    return float(value)


def enlarged(array: Any, n: int) -> Any:
    """The array with place for at least n rows, by a factor if it has to grow; new rows are 0."""
    if n <= len(array):
        return array
    more = max(n, len(array) + len(array) // 4) - len(array)
    return np.concatenate([array, np.zeros((more, *array.shape[1:]), array.dtype)])

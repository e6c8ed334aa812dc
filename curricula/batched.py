"""Uniform tasks that stay the same for a while, in all environments at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from macurr.curricula._states import StateReader
from macurr.curricula.basic import MOST_TASKS, uniform_probabilities
from macurr.curriculum import Curriculum
from macurr.errors import UsageError
from macurr.spaces import TaskSpace

__all__ = ["BatchedDomainRandomization", "SyncedBatchedDomainRandomization"]


class _Batched(Curriculum):
    """Hands out one task until the batch is over, then draws the next one uniformly."""

    def __init__(self, task_space: TaskSpace, **options: Any) -> None:
        super().__init__(task_space, **options)
        self._task: Any = None
        self._batches = 0

    @property
    def task(self) -> Any:
        """The current batch's task, encoded; None before the first draw of each batch."""
        return self._task

    @property
    def batches(self) -> int:
        """How many batches are over."""
        return self._batches

    def _end_batch(self) -> None:
        self._task = None
        self._batches += 1

    @override
    def _sample(self, k: int) -> list[Any]:
        if self._task is None or not self.task_space.contains(self._task):
            self._task = self.task_space.sample(self.rng)
        return [self._task] * k

    @override
    def distribution(self) -> NDArray[np.float64] | None:
        n = self.task_space.num_tasks
        if n is None or n > MOST_TASKS:
            return None
        if self._task is None or not self.task_space.contains(self._task):
            return uniform_probabilities(self.task_space)
        probabilities = np.zeros(n)
        probabilities[self.task_space.index(self._task)] = 1.0
        return probabilities

    @override
    def metrics(self) -> dict[str, float]:
        return {**super().metrics(), "batches": float(self._batches)}

    @override
    def state_dict(self) -> dict[str, Any]:
        task = None if self._task is None else self.task_space.plain(self._task)
        return {**super().state_dict(), "task": task, "batches": self._batches}

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        reader = StateReader(state, type(self).__name__, {"task", "batches"})
        task = None if reader["task"] is None else reader.task("task", self.task_space)
        batches = reader.integer("batches")
        super().load_state_dict(state)
        self._task, self._batches = task, batches


class BatchedDomainRandomization(_Batched):
    """One uniformly drawn task for all environments until `batch_size` steps of it have been reported.

    Steps count when their episode ends, so a batch is a little longer than `batch_size`; steps of episodes begun
    in an earlier batch with another task, and aborted episodes, do not count.

    Args:
        task_space: The tasks to choose from.
        batch_size: Environment steps per batch.
        warmup_batches: How many batches to begin with have a new task in every episode.
        options: The base class's keywords.

    Raises:
        UsageError: `batch_size` is less than 1 or `warmup_batches` negative.
    """

    def __init__(
        self, task_space: TaskSpace, batch_size: int, *, warmup_batches: int = 0, **options: Any
    ) -> None:
        super().__init__(task_space, **options)
        if batch_size < 1 or warmup_batches < 0:
            raise UsageError(
                f"batch_size must be 1 or more and warmup_batches 0 or more; got {batch_size!r} and {warmup_batches!r}."
            )
        self.batch_size, self.warmup_batches = batch_size, warmup_batches
        self._steps = 0

    @property
    def _warming_up(self) -> bool:
        return self._batches < self.warmup_batches

    @override
    def _sample(self, k: int) -> list[Any]:
        if self._warming_up:
            return [self.task_space.sample(self.rng) for _ in range(k)]
        return super()._sample(k)

    @override
    def update_on_episode(
        self, episode_return: Any, length: int, task: Any, progress: Any, env_id: int | None = None
    ) -> None:
        self.check_env(env_id)
        if self.task_space.was_removed(task):
            return
        super().update_on_episode(episode_return, length, task, progress, env_id)
        if not self._warming_up and not np.array_equal(task, self._task):
            return
        self._steps += length
        if self._steps >= self.batch_size:
            self._steps = 0
            self._end_batch()

    @override
    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "steps": self._steps}

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        steps = StateReader(state, type(self).__name__, {"steps"}).integer("steps")
        super().load_state_dict(state)
        self._steps = steps


class SyncedBatchedDomainRandomization(_Batched):
    """One uniformly drawn task for all environments until the learner says that its batch is complete.

    The learner says so by `update_on_demand({"new_batch": True})`, after each of its updates.

    Args:
        task_space: The tasks to choose from.
        options: The base class's keywords.
    """

    @override
    def update_on_demand(self, metrics: Mapping[str, Any]) -> None:
        """End the batch.

        Args:
            metrics: "new_batch": True to end it; other entries are ignored.
        """
        super().update_on_demand(metrics)
        if metrics.get("new_batch"):
            self._end_batch()

"""Boxes that move or grow on a fixed schedule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import override

from macurr.curricula._states import StateReader
from macurr.curriculum import Curriculum
from macurr.errors import UsageError
from macurr.spaces import BoxTaskSpace

__all__ = ["AnnealingBox", "ExpandingBox"]


class _Scheduled(Curriculum):
    """Counts how much of its schedule is over. Steps count when their episode ends, aborted ones never."""

    def __init__(self, task_space: BoxTaskSpace, total: int, by: str, **options: Any) -> None:
        super().__init__(task_space, **options)
        if not isinstance(task_space, BoxTaskSpace):
            raise UsageError(f"{type(self).__name__} needs a BoxTaskSpace; got {task_space!r}.")
        if total < 1 or by not in ("steps", "episodes"):
            raise UsageError(f"total must be 1 or more, by 'steps' or 'episodes'; got {total!r}, {by!r}.")
        self.box = task_space
        self.total, self.by = total, by
        self._count = 0

    @property
    def fraction(self) -> float:
        """How much of the schedule is over, from 0 to 1."""
        return min(1.0, self._count / self.total)

    def _between(self, start: NDArray[Any], end: NDArray[Any]) -> NDArray[np.float64]:
        between: NDArray[np.float64] = start + self.fraction * (np.asarray(end, np.float64) - start)
        return between

    def _task(self, values: NDArray[np.float64]) -> NDArray[Any]:
        # Rounding to the space's dtype may step over a bound.
        task: NDArray[Any] = np.clip(values.astype(self.box.dtype), self.box.low, self.box.high)
        return task

    @override
    def update_on_episode(
        self, episode_return: Any, length: int, task: Any, progress: Any, env_id: int | None = None
    ) -> None:
        super().update_on_episode(episode_return, length, task, progress, env_id)
        self._count += length if self.by == "steps" else 1

    @override
    def metrics(self) -> dict[str, float]:
        return {"fraction": self.fraction}

    @override
    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "count": self._count}

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        count = StateReader(state, type(self).__name__, {"count"}).integer("count")
        super().load_state_dict(state)
        self._count = count


class AnnealingBox(_Scheduled):
    """One task at a time, which moves in a straight line from `start` to `end` and stays there.

    Args:
        task_space: The box.
        start: The first task.
        end: The last task.
        total: How many steps, or episodes, the way takes.
        by: "steps" (of ended episodes) or "episodes".
        options: The base class's keywords.

    Raises:
        UsageError: the space is no box, or an option is out of its range.
        TaskError: `start` or `end` is not in the box.
    """

    def __init__(
        self,
        task_space: BoxTaskSpace,
        start: ArrayLike,
        end: ArrayLike,
        total: int,
        *,
        by: str = "steps",
        **options: Any,
    ) -> None:
        super().__init__(task_space, total, by, **options)
        self.start, self.end = task_space.check(start), task_space.check(end)

    @override
    def _sample(self, k: int) -> list[Any]:
        return [self._task(self._between(self.start, self.end)) for _ in range(k)]


class ExpandingBox(_Scheduled):
    """Uniform tasks from a box that grows from a part of the space to all of it, or to another part.

    Args:
        task_space: The box.
        start: Lowest and highest task of the first box; the same task twice for a point.
        total: How many steps, or episodes, it takes to grow.
        end: Lowest and highest task of the last box; by default those of the space.
        by: "steps" (of ended episodes) or "episodes".
        options: The base class's keywords.

    Raises:
        UsageError: the space is no box, an option is out of its range, or low exceeds high.
        TaskError: a corner is not in the space.
    """

    def __init__(
        self,
        task_space: BoxTaskSpace,
        start: tuple[ArrayLike, ArrayLike],
        total: int,
        *,
        end: tuple[ArrayLike, ArrayLike] | None = None,
        by: str = "steps",
        **options: Any,
    ) -> None:
        super().__init__(task_space, total, by, **options)
        self.start = task_space.check(start[0]), task_space.check(start[1])
        last = (task_space.low, task_space.high) if end is None else end
        self.end = task_space.check(last[0]), task_space.check(last[1])
        for low, high in (self.start, self.end):
            if (low > high).any():
                raise UsageError(f"A box needs low <= high; got {low.tolist()} and {high.tolist()}.")

    @property
    def bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lowest and highest task of the box as it is now."""
        return self._between(self.start[0], self.end[0]), self._between(self.start[1], self.end[1])

    @override
    def _sample(self, k: int) -> list[Any]:
        low, high = self.bounds
        return [self._task(self.rng.uniform(low, high)) for _ in range(k)]

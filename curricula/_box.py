"""Tasks of a box as points of the unit cube, whatever their units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from macurr.curricula._states import StateReader
from macurr.curriculum import Curriculum
from macurr.errors import UsageError
from macurr.spaces import BoxTaskSpace, TaskSpace

__all__ = ["BoxCurriculum", "UnitCube"]


class UnitCube:
    """Translates between the tasks of a box and points of [0, 1]^d.

    Only coordinates with room between their bounds count: d of them.

    Args:
        box: The task space.

    Raises:
        UsageError: no coordinate has room.
    """

    def __init__(self, box: BoxTaskSpace) -> None:
        self._box = box
        low, high = box.low.ravel().astype(np.float64), box.high.ravel().astype(np.float64)
        self._free = high > low
        if not self._free.any():
            raise UsageError(f"{box!r} holds a single task; there is nothing to choose.")
        self._low, self._span = low, (high - low)
        self.dimensions = int(self._free.sum())

    def point(self, task: Any) -> NDArray[np.float64]:
        """The point of a task, shape (d,)."""
        values = (np.asarray(task, np.float64).ravel() - self._low)[self._free] / self._span[self._free]
        point: NDArray[np.float64] = np.clip(values, 0.0, 1.0)
        return point

    def task(self, point: NDArray[np.float64]) -> NDArray[Any]:
        """The task of a point."""
        values = self._low.copy()
        values[self._free] += point * self._span[self._free]
        box = self._box
        # Rounding to the box's dtype may step over a bound.
        task: NDArray[Any] = np.clip(values.reshape(box.shape).astype(box.dtype), box.low, box.high)
        return task


class BoxCurriculum(Curriculum):
    """A curriculum over a box that learns from one agent's returns.

    Args:
        task_space: The box.
        options: The base class's keywords.

    Raises:
        UsageError: the space is no box, or holds a single task.
    """

    single_agent = True

    def __init__(self, task_space: TaskSpace, **options: Any) -> None:
        super().__init__(task_space, **options)
        if not isinstance(task_space, BoxTaskSpace):
            raise UsageError(f"{type(self).__name__} needs a BoxTaskSpace; got {task_space!r}.")
        self.cube = UnitCube(task_space)

    @override
    def update_on_episode(
        self, episode_return: Any, length: int, task: Any, progress: Any, env_id: int | None = None
    ) -> None:
        self.check_env(env_id)
        self.check_episode(episode_return, length, task)
        self._learn(task, float(episode_return), progress, env_id)
        super().update_on_episode(episode_return, length, task, progress, env_id)

    def _learn(self, task: Any, episode_return: float, progress: Any, env_id: int | None) -> None:
        """Learn from a checked result; raises before it changes anything."""
        raise NotImplementedError


class History:
    """The latest points and numbers that belong to them, oldest first.

    Args:
        columns: How many numbers each row has.
        most: How many rows are kept.
    """

    def __init__(self, columns: int, most: int) -> None:
        self._rows = np.zeros((0, columns))
        self._most = most
        self._start = 0
        self._end = 0

    def __len__(self) -> int:
        return self._end - self._start

    @property
    def rows(self) -> NDArray[np.float64]:
        """A view of the rows, shape (n, columns)."""
        return self._rows[self._start : self._end]

    def append(self, row: NDArray[np.float64]) -> None:
        """Add a row, and drop the oldest if there are too many."""
        if self._end == len(self._rows):
            kept = self.rows.copy()
            self._rows = np.zeros((2 * len(kept) + 16, self._rows.shape[1]))
            self._rows[: len(kept)] = kept
            self._start, self._end = 0, len(kept)
        self._rows[self._end] = row
        self._end += 1
        self._start = max(self._start, self._end - self._most)

    def clear(self) -> None:
        """Forget all rows."""
        self._start = self._end = 0

    def read(self, reader: StateReader, key: str) -> NDArray[np.float64]:
        """Rows that `load` can take, from a state."""
        rows: NDArray[np.float64] = reader.array(key, (None, self._rows.shape[1]))
        if len(rows) > self._most:
            raise reader.fail(key, f"at most {self._most} rows")
        return rows

    def load(self, rows: NDArray[np.float64]) -> None:
        """Hold exactly these rows."""
        self._rows, self._start, self._end = rows.copy(), 0, len(rows)


def check_options(owner: str, positive: Mapping[str, float]) -> None:
    """Refuse options that are not above 0 or not finite.

    Raises:
        UsageError: one is.
    """
    for name, value in positive.items():
        if not 0 < value < np.inf:
            raise UsageError(f"{name} of {owner} must be above 0 and finite; got {value!r}.")

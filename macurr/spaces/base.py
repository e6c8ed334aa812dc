"""What a task space is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from macurr.errors import TaskError
from macurr.spaces.forms import plain


class TaskSpace(ABC):
    """A set of tasks, with their encoded and decoded forms."""

    @property
    def num_tasks(self) -> int | None:
        """The number of positions, or None where the space is not finite.

        Every position holds a task, except where tasks have been removed from the space.
        """
        return None

    @property
    def num_removed(self) -> int:
        """How many positions of a finite space hold no task any more. It never decreases."""
        return 0

    @property
    def removed(self) -> NDArray[np.int64]:
        """The positions that hold no task any more, in ascending order."""
        return np.zeros(0, np.int64)

    def was_removed(self, task: Any) -> bool:
        """Whether `task` was an encoded task of this space before it was removed. Never raises."""
        return False

    @abstractmethod
    def contains(self, task: Any) -> bool:
        """Whether `task` is an encoded task of this space. Never raises."""

    @abstractmethod
    def sample(self, rng: np.random.Generator) -> Any:
        """One encoded task, uniformly distributed."""

    @property
    @abstractmethod
    def gym_space(self) -> gymnasium.Space[Any]:
        """The Gymnasium space of the encoded tasks, as it is now."""

    def encode(self, task: Any) -> Any:
        """The encoded form of a decoded task.

        Raises:
            TaskError: the task is not in the space.
        """
        return self.check(task)

    def decode(self, task: Any) -> Any:
        """The decoded form of an encoded task: what the environment receives.

        Raises:
            TaskError: the task is not in the space.
        """
        return self.check(task)

    def check(self, task: Any) -> Any:
        """Return the encoded `task` in its plain form.

        Raises:
            TaskError: the task is not in the space.
        """
        if not self.contains(task):
            raise TaskError(f"Task {task!r} is not in {self!r}. Pass an encoded task: {self._wanted()}.")
        return task

    def plain(self, task: Any) -> Any:
        """An encoded task as states hold it: a nest of dicts, lists, numbers and arrays. `check` reads it back.

        Tasks that have been removed have a plain form too: their episodes may still be under way.

        Raises:
            TaskError: the task is not in the space.
        """
        return plain(task if self.was_removed(task) else self.check(task))

    def index(self, task: Any) -> int:
        """The position of an encoded task in a finite space.

        Raises:
            TaskError: the task is not in the space, or the space is not finite.
        """
        raise self._not_finite()

    def from_index(self, index: int) -> Any:
        """The encoded task at a position of a finite space.

        Raises:
            TaskError: there is no such position, or the space is not finite.
        """
        raise self._not_finite()

    @property
    def tasks(self) -> Sequence[Any]:
        """All encoded tasks of a finite space, in the order of their positions.

        Raises:
            TaskError: the space is not finite.
        """
        if self.num_tasks is None:
            raise self._not_finite()
        if self.num_removed:
            left = np.setdiff1d(np.arange(self.num_tasks), self.removed, assume_unique=True)
            return [self.from_index(i) for i in left.tolist()]
        return _Enumeration(self, self.num_tasks)

    def name(self, task: Any) -> str:
        """What to call an encoded task in logs and plots."""
        return str(self.decode(task))

    def _wanted(self) -> str:
        return str(self.gym_space)

    def _not_finite(self) -> TaskError:
        return TaskError(
            f"{self!r} is not finite, so its tasks have no positions. "
            "Use a discrete task space, or a curriculum for continuous spaces."
        )


class _Enumeration(Sequence[Any]):
    """The tasks of a finite space as a lazy sequence: seeds may number billions."""

    def __init__(self, space: TaskSpace, size: int) -> None:
        self._space, self._size = space, size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._space.from_index(i) for i in range(*index.indices(self._size))]
        return self._space.from_index(range(self._size)[index])

    def __iter__(self) -> Iterator[Any]:
        return map(self._space.from_index, range(self._size))

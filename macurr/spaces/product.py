"""Task spaces made of other task spaces: multi-discrete, tuple and mapping."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import namedtuple
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from macurr.errors import TaskError
from macurr.spaces.base import TaskSpace
from macurr.spaces.discrete import DiscreteTaskSpace

_SEQUENCES = (tuple, list, np.ndarray)


class _ProductTaskSpace(TaskSpace):
    """What the product spaces share: a task is taken apart, each part handled by its space, and rebuilt."""

    def __init__(self, parts: Sequence[TaskSpace]) -> None:
        if len(parts) == 0:
            raise TaskError(f"A {type(self).__name__} needs at least one part; got none.")
        wrong = [part for part in parts if not isinstance(part, TaskSpace)]
        if wrong:
            raise TaskError(f"The parts of a {type(self).__name__} must be task spaces; got {wrong[0]!r}.")
        self._parts = tuple(parts)

    @abstractmethod
    def _split(self, task: Any) -> Sequence[Any] | None:
        """The parts of `task` in order, or None where it has another form."""

    @abstractmethod
    def make(self, parts: Iterable[Any]) -> Any:
        """A task of this space from its parts in order, unchecked."""

    @override
    @property
    def num_tasks(self) -> int | None:
        sizes = [part.num_tasks for part in self._parts]
        return None if None in sizes else math.prod(size for size in sizes if size is not None)

    @override
    @property
    def num_removed(self) -> int:
        if not any(part.num_removed for part in self._parts):
            return 0
        left = math.prod(
            size - part.num_removed for part, size in zip(self._parts, self._sizes(), strict=True)
        )
        return math.prod(self._sizes()) - left

    @override
    @property
    def removed(self) -> NDArray[np.int64]:
        if not self.num_removed:
            return np.zeros(0, np.int64)
        present = np.ones(1, bool)
        for part, size in zip(self._parts, self._sizes(), strict=True):
            here = np.ones(size, bool)
            here[part.removed] = False
            present = np.logical_and.outer(present, here).ravel()
        return np.flatnonzero(~present)

    @override
    def was_removed(self, task: Any) -> bool:
        values = self._split(task)
        if values is None:
            return False
        gone = [part.was_removed(value) for part, value in zip(self._parts, values, strict=True)]
        if not any(gone):
            return False
        here = [part.contains(value) for part, value in zip(self._parts, values, strict=True)]
        return all(g or h for g, h in zip(gone, here, strict=True))

    @override
    def contains(self, task: Any) -> bool:
        values = self._split(task)
        return values is not None and all(
            part.contains(value) for part, value in zip(self._parts, values, strict=True)
        )

    def _sizes(self) -> list[int]:
        """The number of positions of every part of a finite space."""
        return [part.num_tasks or 0 for part in self._parts]

    @override
    def sample(self, rng: np.random.Generator) -> Any:
        return self.make(part.sample(rng) for part in self._parts)

    @override
    def check(self, task: Any) -> Any:
        return self.make([part.check(value) for part, value in self._pairs(task)])

    @override
    def encode(self, task: Any) -> Any:
        return self.make([part.encode(value) for part, value in self._pairs(task)])

    @override
    def decode(self, task: Any) -> Any:
        return self.make([part.decode(value) for part, value in self._pairs(task)])

    @override
    def index(self, task: Any) -> int:
        if self.num_tasks is None:
            raise self._not_finite()
        position = 0
        for part, value in self._pairs(task):
            position = position * (part.num_tasks or 0) + part.index(value)
        return position

    @override
    def from_index(self, index: int) -> Any:
        size = self.num_tasks
        if size is None:
            raise self._not_finite()
        if isinstance(index, bool) or not isinstance(index, int | np.integer) or not 0 <= index < size:
            raise TaskError(f"{self!r} has positions 0 to {size - 1}; got {index!r}.")
        values, rest = [], int(index)
        for part in reversed(self._parts):
            rest, position = divmod(rest, part.num_tasks or 0)
            values.append(part.from_index(position))
        return self.make(reversed(values))

    def _pairs(self, task: Any) -> Iterable[tuple[TaskSpace, Any]]:
        values = self._split(task)
        if values is None:
            raise TaskError(f"Task {task!r} is not in {self!r}. Pass a task of the form {self._wanted()}.")
        return zip(self._parts, values, strict=True)


class TupleTaskSpace(_ProductTaskSpace):
    """An ordered product of task spaces, encoded as a tuple.

    Args:
        spaces: The parts, in order.
        names: Names of the parts; with them, tasks are named tuples.

    Raises:
        TaskError: no parts, parts that are no task spaces, or names that do not fit.

    Example:
        >>> from macurr import DiscreteTaskSpace
        >>> space = TupleTaskSpace([DiscreteTaskSpace(2), DiscreteTaskSpace(3)], names=["agent", "env"])
        >>> space.from_index(5)
        Task(agent=1, env=2)
    """

    def __init__(self, spaces: Sequence[TaskSpace], names: Sequence[str] | None = None) -> None:
        super().__init__(spaces)
        self.spaces = self._parts
        self.names = None if names is None else tuple(names)
        if self.names is not None and (
            len(set(self.names)) != len(self.spaces) or not all(name.isidentifier() for name in self.names)
        ):
            raise TaskError(f"{len(self.spaces)} parts need as many distinct names; got {list(self.names)}.")

    @override
    @property
    def gym_space(self) -> gymnasium.Space[Any]:
        return gymnasium.spaces.Tuple([space.gym_space for space in self.spaces])

    @override
    def make(self, parts: Iterable[Any]) -> tuple[Any, ...]:
        made: tuple[Any, ...] = tuple(parts) if self.names is None else task_type(self.names)._make(parts)
        return made

    @override
    def _split(self, task: Any) -> Sequence[Any] | None:
        return _sequence(task, len(self.spaces))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TupleTaskSpace) and self.spaces == other.spaces and self.names == other.names

    __hash__ = None  # type: ignore[assignment]  # discrete parts can grow

    def __repr__(self) -> str:
        return f"TupleTaskSpace({list(self.spaces)}, names={self.names})"


class DictTaskSpace(_ProductTaskSpace):
    """A product of task spaces by key, encoded as a dict.

    Args:
        spaces: The parts by key; keys are names of parameters, or agents.

    Raises:
        TaskError: no parts, or parts that are no task spaces.
    """

    def __init__(self, spaces: Mapping[str, TaskSpace]) -> None:
        super().__init__(list(spaces.values()))
        self.spaces = dict(spaces)

    @override
    @property
    def gym_space(self) -> gymnasium.Space[Any]:
        return gymnasium.spaces.Dict({key: space.gym_space for key, space in self.spaces.items()})

    @override
    def make(self, parts: Iterable[Any]) -> dict[str, Any]:
        return dict(zip(self.spaces, parts, strict=True))

    @override
    def _split(self, task: Any) -> Sequence[Any] | None:
        if not isinstance(task, Mapping) or set(task) != set(self.spaces):
            return None
        return [task[key] for key in self.spaces]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DictTaskSpace) and self.spaces == other.spaces

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"DictTaskSpace({self.spaces})"


class MultiDiscreteTaskSpace(_ProductTaskSpace):
    """Every combination of several finite choices, encoded as a tuple of ints.

    Args:
        choices: For each coordinate, the number of its values or the decoded values themselves.

    Raises:
        TaskError: no coordinates, or one without values.

    Example:
        >>> space = MultiDiscreteTaskSpace([["north", "south"], 3])
        >>> space.decode((1, 2)), space.num_tasks, space.index((1, 0))
        (('south', 2), 6, 3)
    """

    def __init__(self, choices: Sequence[int | Iterable[Any]]) -> None:
        super().__init__([DiscreteTaskSpace(choice) for choice in choices])

    @override
    @property
    def gym_space(self) -> gymnasium.Space[Any]:
        return gymnasium.spaces.MultiDiscrete(np.array([part.num_tasks for part in self._parts]))

    @override
    def make(self, parts: Iterable[Any]) -> tuple[Any, ...]:
        return tuple(parts)

    @override
    def _split(self, task: Any) -> Sequence[Any] | None:
        return _sequence(task, len(self._parts))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MultiDiscreteTaskSpace) and self._parts == other._parts

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"MultiDiscreteTaskSpace({[part.num_tasks for part in self._parts]})"


def _sequence(task: Any, length: int) -> Sequence[Any] | None:
    if not isinstance(task, _SEQUENCES) or (isinstance(task, np.ndarray) and task.ndim == 0):
        return None
    return task if len(task) == length else None  # type: ignore[return-value]


@lru_cache(maxsize=128)
def task_type(names: tuple[str, ...]) -> Any:
    """The named-tuple class of tasks with these field names, one class per tuple of names."""
    make: Any = namedtuple  # behind a variable: type checkers want literal names
    made = make("Task", names)
    # Tasks are unpickled in other processes, where this class has to be made anew.
    made.__reduce__ = lambda self: (_make_task, (names, tuple(self)))
    return made


def _make_task(names: tuple[str, ...], parts: tuple[Any, ...]) -> Any:
    return task_type(names)._make(parts)

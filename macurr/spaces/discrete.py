"""Finite task spaces: numbers, names, and names in strata."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from macurr.errors import TaskError
from macurr.spaces.base import TaskSpace


class DiscreteTaskSpace(TaskSpace):
    """A finite set of tasks, encoded as ints from 0 to n - 1.

    Tasks may come and go while a curriculum runs (`add_task`, `remove_task`). A code is never given twice and
    never changes its task, so arrays by code stay right: `num_tasks` counts the codes ever given.

    Args:
        n_or_tasks: The number of tasks (then every task decodes to its own number, as seeds do), or the decoded
            tasks themselves in order.

    Raises:
        TaskError: the space would be empty, or a task is given twice.

    Example:
        >>> space = DiscreteTaskSpace(["easy", "hard"])
        >>> space.encode("hard"), space.decode(0), space.num_tasks
        (1, 'easy', 2)
    """

    def __init__(self, n_or_tasks: int | Iterable[Any]) -> None:
        self._values: list[Any] | None = None
        self._lookup: dict[Hashable, int] = {}
        self._removed: list[int] = []  # in ascending order
        if isinstance(n_or_tasks, int | np.integer):
            self._n = int(n_or_tasks)
        elif not isinstance(n_or_tasks, Iterable):
            raise TaskError(
                f"A discrete task space is made of the number of its tasks or of the tasks; got {n_or_tasks!r}."
            )
        else:
            self._values = list(n_or_tasks)
            self._n = len(self._values)
            self._lookup = {_key(value): i for i, value in enumerate(self._values)}
            if len(self._lookup) != self._n:
                raise TaskError(f"The tasks {self._values!r} hold duplicates. Give every task once.")
        if self._n < 1:
            raise TaskError(f"A task space needs at least one task; got {n_or_tasks!r}.")

    @property
    @override
    def num_tasks(self) -> int:
        return self._n

    @property
    @override
    def gym_space(self) -> gymnasium.Space[Any]:
        return gymnasium.spaces.Discrete(self._n)

    @property
    @override
    def num_removed(self) -> int:
        return len(self._removed)

    @property
    @override
    def removed(self) -> NDArray[np.int64]:
        return np.array(self._removed, np.int64)

    @override
    def contains(self, task: Any) -> bool:
        return self._given(task) and not self.was_removed(task)

    @override
    def was_removed(self, task: Any) -> bool:
        if not self._removed or not self._given(task):
            return False
        return _holds(self._removed, task)

    def _given(self, task: Any) -> bool:
        return isinstance(task, int | np.integer) and not isinstance(task, bool) and 0 <= int(task) < self._n

    @override
    def sample(self, rng: np.random.Generator) -> int:
        drawn = int(rng.integers(self._n - len(self._removed)))
        return drawn if not self._removed else drawn + self._removed_before(drawn)

    def _removed_before(self, rank: int) -> int:
        """How many removed codes are smaller than the code that is `rank`-th among those left."""
        low, high = 0, len(self._removed)
        while low < high:
            middle = (low + high) >> 1
            if self._removed[middle] - middle <= rank:
                low = middle + 1
            else:
                high = middle
        return low

    @override
    def check(self, task: Any) -> int:
        if type(task) is int and 0 <= task < self._n and not self._removed:
            return task  # nearly always, and several times for each episode
        return int(super().check(task))

    @override
    def index(self, task: Any) -> int:
        return self.check(task)

    @override
    def from_index(self, index: int) -> int:
        return self.check(index)

    @override
    def encode(self, task: Any) -> int:
        if self._values is None:
            return self.check(task)
        code = self._lookup.get(_key(task))
        if code is None:
            raise TaskError(f"Task {task!r} is not in {self!r}. Its tasks are {_shortened(self._values)}.")
        return code

    @override
    def decode(self, task: Any) -> Any:
        code = self.check(task)
        return code if self._values is None else self._values[code]

    def add_task(self, task: Any = None) -> int:
        """Append a task while the curriculum runs; returns its code.

        Args:
            task: The decoded task. Leave it out where tasks are plain numbers.

        Raises:
            TaskError: the task is there already, or is missing where tasks have values.
        """
        if self._values is None:
            if task is not None and task != self._n:
                raise TaskError(f"The next task of {self!r} is {self._n}; got {task!r}. Leave it out.")
        else:
            if _key(task) in self._lookup:
                raise TaskError(f"Task {task!r} is already in {self!r}.")
            self._values.append(task)
            self._lookup[_key(task)] = self._n
        self._n += 1
        return self._n - 1

    def remove_task(self, task: int) -> None:
        """Take a task out while the curriculum runs. The other tasks keep their codes; this one's stays unused.

        Episodes of the task that are still being played may report afterwards: see `was_removed`.

        Args:
            task: The encoded task.

        Raises:
            TaskError: the task is not in the space, or is its last one.
        """
        code = self.check(task)
        if len(self._removed) + 1 == self._n:
            raise TaskError(f"Task {task!r} is the last one of {self!r}. Add another one before removing it.")
        if self._values is not None:
            del self._lookup[_key(self._values[code])]
        insort(self._removed, code)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DiscreteTaskSpace) or type(self) is not type(other):
            return NotImplemented
        return (
            self._n == other._n
            and self._removed == other._removed
            and list(self._lookup) == list(other._lookup)
        )

    __hash__ = None  # type: ignore[assignment]  # spaces can grow

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._n if self._values is None else _shortened(self._values)})"


class StratifiedDiscreteTaskSpace(DiscreteTaskSpace):
    """A finite set of tasks in named strata, such as levels by difficulty.

    Args:
        strata: The decoded tasks of each stratum, by name. Codes run through the strata in order.

    Example:
        >>> space = StratifiedDiscreteTaskSpace({"small": [5, 6], "large": [12]})
        >>> space.stratum(2), list(space.codes("small"))
        ('large', [0, 1])
    """

    def __init__(self, strata: Mapping[str, Sequence[Any]]) -> None:
        super().__init__([task for tasks in strata.values() for task in tasks])
        sizes = [len(tasks) for tasks in strata.values()]
        if 0 in sizes:
            raise TaskError(f"Every stratum needs at least one task; got sizes {sizes}.")
        ends = np.cumsum(sizes).tolist()
        self._codes = {
            name: list(range(end - size, end)) for name, size, end in zip(strata, sizes, ends, strict=True)
        }

    @property
    def strata(self) -> tuple[str, ...]:
        """The names of the strata, in order."""
        return tuple(self._codes)

    def codes(self, stratum: str) -> Sequence[int]:
        """The codes of one stratum's tasks.

        Raises:
            TaskError: there is no such stratum.
        """
        return tuple(self._stratum(stratum))

    def stratum(self, task: Any) -> str:
        """The name of the stratum that an encoded task belongs to."""
        code = self.check(task)
        return next(name for name, codes in self._codes.items() if _holds(codes, code))

    @override
    def add_task(self, task: Any = None, stratum: str | None = None) -> int:
        codes = self._stratum(self.strata[-1] if stratum is None else stratum)
        codes.append(super().add_task(task))
        return codes[-1]

    @override
    def remove_task(self, task: int) -> None:
        stratum = self.stratum(task)
        super().remove_task(task)
        self._codes[stratum].remove(task)

    def _stratum(self, name: str) -> list[int]:
        if name not in self._codes:
            raise TaskError(f"There is no stratum {name!r}. The strata are {list(self.strata)}.")
        return self._codes[name]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StratifiedDiscreteTaskSpace):
            return NotImplemented
        return super().__eq__(other) and self._codes == other._codes

    __hash__ = None


def _holds(codes: Sequence[int], code: int) -> bool:
    """Whether ascending codes hold one."""
    place = bisect_left(codes, code)
    return place < len(codes) and codes[place] == code


def _key(task: Any) -> Hashable:
    """A hashable stand-in for a decoded task, which may be an array, a list or a mapping."""
    if isinstance(task, np.ndarray):
        return ("array", task.shape, task.tobytes())
    if isinstance(task, Mapping):
        return ("mapping", tuple((key, _key(value)) for key, value in sorted(task.items())))
    if isinstance(task, list | tuple):
        return ("sequence", tuple(_key(value) for value in task))
    if not isinstance(task, Hashable):
        raise TaskError(
            f"Task {task!r} cannot be looked up. Use numbers, strings, arrays, lists or mappings."
        )
    return task


def _shortened(values: Sequence[Any], most: int = 6) -> str:
    shown = ", ".join(repr(value) for value in values[:most])
    return f"[{shown}]" if len(values) <= most else f"[{shown}, ... {len(values)} in all]"

"""Take saved states apart: every value is checked for its kind before anything is written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from macurr.curriculum import check_state
from macurr.errors import StateError, TaskError
from macurr.spaces import TaskSpace

__all__ = ["StateReader"]


class StateReader:
    """Reads the values of a curriculum's state; each method raises StateError where a value is damaged.

    Args:
        state: What `state_dict` returned.
        owner: The name of the class that it has to belong to.
        keys: What it has to hold.

    Raises:
        StateError: it belongs to another class, or lacks something.
    """

    def __init__(self, state: Mapping[str, Any], owner: str, keys: set[str]) -> None:
        check_state(state, owner, keys | {"started"})
        self._state, self._owner = state, owner
        self.integer("started")

    def fail(self, key: str, wanted: str) -> StateError:
        """The error for a value that is not what is wanted."""
        return StateError(f"The state of {self._owner} is damaged: {key!r} should be {wanted}.")

    def __getitem__(self, key: str) -> Any:
        return self._state[key]

    def integer(self, key: str, least: int = 0, most: float = math.inf) -> int:
        """A whole number."""
        value = self._state[key]
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not whole or not least <= value <= most:
            raise self.fail(key, f"a whole number from {least} to {most}")
        return int(value)

    def number(self, key: str, low: float = -math.inf, high: float = math.inf) -> float:
        """A finite number."""
        value = self._state[key]
        if not is_finite(value) or not low <= value <= high:
            raise self.fail(key, f"a finite number from {low} to {high}")
        return float(value)

    def numbers(self, key: str, most: int | None = None) -> list[float]:
        """A list of finite numbers, at most `most` of them."""
        values = self._state[key]
        if not isinstance(values, list) or not all(map(is_finite, values)):
            raise self.fail(key, "a list of finite numbers")
        if most is not None and len(values) > most:
            raise self.fail(key, f"at most {most} numbers")
        return [float(value) for value in values]

    def array(
        self,
        key: str,
        shape: tuple[int | None, ...],
        dtype: DTypeLike = np.float64,
        low: float = -math.inf,
        high: float = math.inf,
    ) -> NDArray[Any]:
        """A copy of an array of finite numbers; None in `shape` stands for any length."""
        value = self._state[key]
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "iufb":
            raise self.fail(key, "an array of numbers")
        fits = len(value.shape) == len(shape) and all(
            w is None or w == n for w, n in zip(shape, value.shape, strict=True)
        )
        if not fits:
            raise self.fail(key, f"an array of shape {shape}; it has {value.shape}")
        if value.size and not (np.isfinite(value).all() and low <= value.min() and value.max() <= high):
            raise self.fail(key, f"finite numbers from {low} to {high}")
        return np.array(value, dtype)

    def task(self, key: str, space: TaskSpace) -> Any:
        """An encoded task of the space, or one that was removed from it."""
        try:
            return _checked(self._state[key], space)
        except TaskError as error:
            raise self.fail(key, f"a task of {space!r}") from error

    def tasks(self, key: str, space: TaskSpace) -> list[Any]:
        """A list of encoded tasks."""
        values = self._state[key]
        if not isinstance(values, list):
            raise self.fail(key, "a list of tasks")
        try:
            return [_checked(value, space) for value in values]
        except TaskError as error:
            raise self.fail(key, f"a list of tasks of {space!r}") from error


def is_finite(value: Any) -> bool:
    """Whether a value is a finite number; booleans are none."""
    return (
        isinstance(value, int | float | np.integer | np.floating)
        and not isinstance(value, bool)
        and math.isfinite(value)
    )


def _checked(task: Any, space: TaskSpace) -> Any:
    return task if space.was_removed(task) else space.check(task)

"""Scalar access to numpy arrays without numpy's per-element cost."""

from __future__ import annotations

from typing import Any, cast

from macurr.errors import TaskError


class Viewed:
    """A structure over numpy arrays that its methods read and write through memoryviews.

    One element of a memoryview costs a fifth of one element of an array, which is what keeps pure-Python
    trees within microseconds. Memoryviews can be neither pickled nor copied, so they are left out of the
    pickled form and made again by `_bind`.
    """

    def _bind(self) -> None:
        """Make the memoryviews over the arrays as they are now."""
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if not isinstance(value, memoryview)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._bind()


def float_view(array: Any) -> memoryview[float]:
    """A writable view of a contiguous float array whose elements are Python floats."""
    return cast("memoryview[float]", memoryview(array))


def int_view(array: Any) -> memoryview[int]:
    """A writable view of a contiguous integer array whose elements are Python ints."""
    return memoryview(array)


def outside(index: int, capacity: int) -> TaskError:
    """The error for an entry that a structure has no place for."""
    return TaskError(
        f"Entry {index!r} is outside 0 to {capacity - 1}. Call `grow` before using more entries."
    )


def check_capacity(capacity: int, least: int = 1) -> int:
    """Return `capacity` if a structure can have it.

    Raises:
        TaskError: it is less than `least`, or more than 32-bit entries can number.
    """
    if not least <= capacity < 2**31:
        raise TaskError(f"The number of entries must be {least} to {2**31 - 1}; got {capacity!r}.")
    return int(capacity)

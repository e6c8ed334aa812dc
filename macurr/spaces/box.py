"""Task spaces of real numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import override

from macurr.errors import TaskError
from macurr.spaces.base import TaskSpace


class BoxTaskSpace(TaskSpace):
    """A box of real-valued tasks, encoded as arrays of its shape and dtype.

    Args:
        low: The lowest value, or one per coordinate.
        high: The highest value, or one per coordinate.
        shape: The tasks' shape; by default that of `low` and `high`.
        dtype: The tasks' floating dtype.

    Raises:
        TaskError: bounds that are not finite, not ordered, or of different shapes.
    """

    def __init__(
        self,
        low: ArrayLike,
        high: ArrayLike,
        shape: Sequence[int] | None = None,
        dtype: np.dtype[Any] | type = np.float32,
    ) -> None:
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        try:
            wanted = np.broadcast_shapes(np.shape(low), np.shape(high)) if shape is None else tuple(shape)
            self.low = np.broadcast_to(np.asarray(low, self.dtype), wanted).copy()
            self.high = np.broadcast_to(np.asarray(high, self.dtype), wanted).copy()
        except ValueError as error:
            raise TaskError(
                f"The bounds low={low!r} and high={high!r} do not fit together: {error}."
            ) from error
        if not (
            np.isfinite(self.low).all() and np.isfinite(self.high).all() and (self.low <= self.high).all()
        ):
            raise TaskError(f"A box needs finite bounds with low <= high; got low={low!r} and high={high!r}.")

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one task."""
        shape: tuple[int, ...] = self.low.shape
        return shape

    @property
    @override
    def gym_space(self) -> gymnasium.Space[Any]:
        return gymnasium.spaces.Box(self.low, self.high, dtype=self.dtype.type)

    @override
    def contains(self, task: Any) -> bool:
        try:
            given = np.asarray(task)
        except (TypeError, ValueError):  # ragged, or no array at all
            return False
        if given.dtype.kind not in "fiu":
            return False
        with np.errstate(over="ignore"):  # what is too large for the dtype becomes infinite, and lies outside
            array = given.astype(self.dtype, copy=False)
        return array.shape == self.shape and bool(((array >= self.low) & (array <= self.high)).all())

    @override
    def sample(self, rng: np.random.Generator) -> NDArray[Any]:
        # Cast, then clip: rounding to a narrower dtype may step over a bound.
        task = np.asarray(rng.uniform(self.low, self.high), self.dtype)
        return np.asarray(np.clip(task, self.low, self.high))

    @override
    def check(self, task: Any) -> NDArray[Any]:
        return np.array(super().check(task), dtype=self.dtype)

    @override
    def name(self, task: Any) -> str:
        return np.array2string(self.check(task), precision=3, separator=", ")

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, BoxTaskSpace)
            and self.dtype == other.dtype
            and np.array_equal(self.low, other.low)
            and np.array_equal(self.high, other.high)
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"BoxTaskSpace(low={self.low.tolist()}, high={self.high.tolist()})"

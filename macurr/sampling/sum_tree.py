"""A tree of partial sums: draws in proportion to weights that change one at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from macurr.errors import TaskError, UsageError
from macurr.sampling.views import Viewed, check_capacity, float_view, outside


class SumTree(Viewed):
    """Non-negative weights of `capacity` entries, drawn in proportion.

    Node `i` is the sum of nodes `2i` and `2i + 1`, and the entries are nodes `capacity` to `2 * capacity -
    1`, which
    is a tree for every capacity and not only for powers of two: 16 bytes per entry. A change sets its
    ancestors anew from their children instead of adding a difference, so rounding errors never accumulate.
    One change or draw is O(log capacity).

    Args:
        capacity: The number of entries; all weights start at 0.

    Example:
        >>> tree = SumTree(3)
        >>> tree.set(0, 1.0)
        >>> tree.set(2, 3.0)
        >>> tree.total, [tree.draw(u) for u in (0.1, 0.2, 0.3, 0.9)].count(2)
        (4.0, 3)
    """

    def __init__(self, capacity: int) -> None:
        self._nodes = np.zeros(2 * check_capacity(capacity))
        self._bind()

    def _bind(self) -> None:
        self._view = float_view(self._nodes)

    @property
    def capacity(self) -> int:
        """The number of entries."""
        return len(self._nodes) // 2

    @property
    def total(self) -> float:
        """The sum of all weights."""
        return self._view[1]

    @property
    def weights(self) -> NDArray[np.float64]:
        """A copy of the weights, shape (capacity,)."""
        weights: NDArray[np.float64] = self._nodes[self.capacity :].copy()
        return weights

    def __getitem__(self, index: int) -> float:
        """The weight of one entry."""
        if not 0 <= index < self.capacity:
            raise outside(index, self.capacity)
        return self._view[self.capacity + index]

    def set(self, index: int, weight: float) -> None:
        """Change the weight of one entry.

        Raises:
            TaskError: the entry is outside the tree, or the weight is negative or not finite.
        """
        view = self._view
        capacity = len(view) >> 1
        if not 0 <= index < capacity:
            raise outside(index, capacity)
        if not 0.0 <= weight < np.inf:
            raise TaskError(f"A weight must be finite and not negative; got {weight!r} for entry {index}.")
        node = capacity + index
        view[node] = weight
        while node > 1:
            node >>= 1
            view[node] = view[2 * node] + view[2 * node + 1]

    def set_many(self, indices: ArrayLike, weights: ArrayLike) -> None:
        """Change several weights at once; where an entry is named twice, its last weight holds.

        Args:
            indices: Entries, shape (k,).
            weights: Their weights, shape (k,).

        Raises:
            TaskError: as `set`; nothing is changed.
        """
        entries, values = np.asarray(indices, np.int64), np.asarray(weights, np.float64)
        if entries.shape != values.shape or entries.ndim != 1:
            raise TaskError(f"Entries and weights differ in shape: {entries.shape} and {values.shape}.")
        if entries.size == 0:
            return
        if entries.min() < 0 or entries.max() >= self.capacity:
            raise outside(int(entries.max() if entries.min() >= 0 else entries.min()), self.capacity)
        if not (np.isfinite(values).all() and (values >= 0).all()):
            raise TaskError("Weights must be finite and not negative; got at least one that is not.")
        self._nodes[entries + self.capacity] = values
        self._sum_upwards(np.unique(entries + self.capacity))

    def _sum_upwards(self, nodes: NDArray[np.int64]) -> None:
        # The deepest level comes last in node order, so the entries of the shallower level join one round
        # later.
        nodes_left = nodes
        while nodes_left.size and nodes_left[-1] > 1:
            deepest = 1 << (int(nodes_left[-1]).bit_length() - 1)
            split = int(np.searchsorted(nodes_left, deepest))
            parents = np.unique(nodes_left[split:] >> 1)
            self._nodes[parents] = self._nodes[2 * parents] + self._nodes[2 * parents + 1]
            nodes_left = np.union1d(nodes_left[:split], parents)

    def find(self, value: float) -> int:
        """The entry whose share of [0, total) holds `value`; never an entry of weight 0.

        Raises:
            UsageError: all weights are 0.
        """
        view = self._view
        capacity = len(view) >> 1
        if not view[1] > 0.0:
            raise UsageError("Nothing can be drawn: every weight is 0. Set a weight first.")
        node = 1
        while node < capacity:
            node *= 2
            left = view[node]
            # Rounding may leave a remainder at the very end of a subtree: weight 0 is never entered for it.
            if value >= left and view[node + 1] > 0.0:
                value -= left
                node += 1
        return node - capacity

    def draw(self, uniform: float) -> int:
        """The entry that `uniform`, from [0, 1), selects in proportion to the weights."""
        return self.find(uniform * self.total)

    def draw_many(self, uniforms: ArrayLike) -> NDArray[np.int64]:
        """`draw` for many numbers at once.

        Args:
            uniforms: Numbers in [0, 1), shape (k,).

        Returns:
            Entries, shape (k,).
        """
        if not self.total > 0.0:
            raise UsageError("Nothing can be drawn: every weight is 0. Set a weight first.")
        values = np.asarray(uniforms, np.float64) * self.total
        nodes = np.ones(values.shape, np.int64)
        inner = nodes < self.capacity
        while inner.any():
            left = np.where(inner, 2 * nodes, 0)
            sums = self._nodes[left]
            right = inner & (values >= sums) & (self._nodes[np.where(inner, left + 1, 0)] > 0.0)
            values = np.where(right, values - sums, values)
            nodes = np.where(inner, left + right, nodes)
            inner = nodes < self.capacity
        return nodes - self.capacity

    def load(self, weights: ArrayLike) -> None:
        """Replace all weights.

        Args:
            weights: The new weights, shape (capacity,).

        Raises:
            TaskError: the shape is another, or a weight is negative or not finite.
        """
        values = np.asarray(weights, np.float64)
        if values.shape != (self.capacity,):
            raise TaskError(f"Expected {self.capacity} weights; got an array of shape {values.shape}.")
        if not (np.isfinite(values).all() and (values >= 0).all()):
            raise TaskError("Weights must be finite and not negative; got at least one that is not.")
        self._nodes[self.capacity :] = values
        high = self.capacity
        # Level by level from the bottom: a level's parents lie below `high`, and their children are ready.
        while high > 1:
            low = (high + 1) // 2
            self._nodes[low:high] = (
                self._nodes[2 * low : 2 * high : 2] + self._nodes[2 * low + 1 : 2 * high : 2]
            )
            high = low

    def grow(self, capacity: int) -> None:
        """Make place for more entries, of weight 0. O(capacity), so grow by a factor and not by one."""
        old = self.weights
        self._nodes = np.zeros(2 * check_capacity(capacity, least=len(old)))
        self._bind()
        self.load(np.concatenate([old, np.zeros(capacity - len(old))]))

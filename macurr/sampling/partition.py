"""A set split in two, with uniform draws from either side."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from macurr.errors import UsageError
from macurr.sampling.views import Viewed, check_capacity, int_view, outside


class Partition(Viewed):
    """Entries, each inside or outside; O(1) to move one and to draw uniformly from a side.

    Entries are numbered from 0 and stand in one array with those inside first: 8 bytes per entry.

    Args:
        capacity: The number of entries; all start outside.

    Example:
        >>> seen = Partition(3)
        >>> seen.add(2)
        >>> len(seen), 2 in seen, seen.draw(0.9), seen.draw_outside(0.9) != 2
        (1, True, 2, True)
    """

    def __init__(self, capacity: int) -> None:
        self._items = np.arange(check_capacity(capacity), dtype=np.int32)
        self._places = self._items.copy()
        self._inside = 0
        self._bind()

    def _bind(self) -> None:
        self._item, self._place = int_view(self._items), int_view(self._places)

    @property
    def capacity(self) -> int:
        """The number of entries on both sides."""
        return len(self._items)

    def __len__(self) -> int:
        """The number of entries inside."""
        return self._inside

    def __contains__(self, index: int) -> bool:
        """Whether an entry is inside."""
        if not 0 <= index < len(self._items):
            raise outside(index, self.capacity)
        return self._place[index] < self._inside

    def add(self, index: int) -> None:
        """Move an entry inside, if it is not there."""
        if index not in self:
            self._swap(index, self._inside)
            self._inside += 1

    def discard(self, index: int) -> None:
        """Move an entry outside, if it is not there."""
        if index in self:
            self._inside -= 1
            self._swap(index, self._inside)

    def _swap(self, index: int, place: int) -> None:
        other, old = self._item[place], self._place[index]
        self._item[place], self._item[old] = index, other
        self._place[index], self._place[other] = place, old

    def draw(self, uniform: float) -> int:
        """The entry inside that `uniform`, from [0, 1), selects.

        Raises:
            UsageError: no entry is inside.
        """
        if self._inside == 0:
            raise UsageError("Nothing can be drawn: no entry is inside. Add one first.")
        return self._item[int(uniform * self._inside)]

    def draw_outside(self, uniform: float) -> int:
        """The entry outside that `uniform`, from [0, 1), selects.

        Raises:
            UsageError: every entry is inside.
        """
        if self._inside == self.capacity:
            raise UsageError("Nothing can be drawn: every entry is inside.")
        return self._item[self._inside + int(uniform * (self.capacity - self._inside))]

    @property
    def members(self) -> NDArray[np.int32]:
        """A copy of the entries inside, in no particular order."""
        members: NDArray[np.int32] = self._items[: self._inside].copy()
        return members

    @property
    def items(self) -> NDArray[np.int32]:
        """A copy of all entries, those inside first: with `len`, all there is to save."""
        items: NDArray[np.int32] = self._items.copy()
        return items

    def load(self, items: ArrayLike, inside: int) -> None:
        """Take over the order of `items` and the number inside that another partition had.

        Raises:
            UsageError: `items` is not a permutation of all entries, or `inside` does not fit.
        """
        order = np.asarray(items)
        entries = np.arange(self.capacity)
        if order.shape != entries.shape or not np.array_equal(np.sort(order), entries):
            raise UsageError(f"Expected every entry from 0 to {self.capacity - 1} once.")
        if not 0 <= inside <= self.capacity:
            raise UsageError(f"The number inside must be 0 to {self.capacity}; got {inside!r}.")
        self._items[:] = order
        self._places[order] = entries
        self._inside = int(inside)

    def grow(self, capacity: int) -> None:
        """Make place for more entries, which start outside. O(capacity)."""
        more = np.arange(self.capacity, check_capacity(capacity, least=self.capacity), dtype=np.int32)
        self._items = np.concatenate([self._items, more])
        self._places = np.concatenate([self._places, more])
        self._bind()

"""Draws in proportion to the sigmoid of z-scores, where one changed value moves every probability a little."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from macurr.sampling import Partition, SumTree

_UNIT = 2**60
_MOST_TRIES = 200
_STEEPEST = 700.0
"""Beyond it, exp overflows; the sigmoid is 0 there in double precision."""


class ProgressPool:
    """Entries with values from 0 to 1, drawn with weight `weight * sigmoid((value - mean) / deviation)`.

    Mean and population standard deviation are those of the entries present, so a change of one value changes
    every probability; nothing of it is stored. A draw proposes an entry in proportion to its weight and accepts
    it with probability sigmoid(z). At least half of any numbers have z > -1 (Cantelli's inequality), so with
    equal weights a proposal is accepted with probability 0.13 at the very least, usually 0.5: the draw is exact
    and takes O(1) expected, a change O(1) (both O(log capacity) with weights).

    The sums behind mean and deviation are exact integers in units of 2^-60: they do not drift over millions of
    changes, and a reloaded pool has the very same ones.

    Args:
        capacity: The number of entries there may be; none is present at first.
        weighted: Whether entries have weights other than 1.
    """

    def __init__(self, capacity: int, weighted: bool = False) -> None:
        self._values = np.zeros(capacity)
        self._present = Partition(capacity)
        self._weights = SumTree(capacity) if weighted else None
        self._total = 0
        self._squares = 0

    def __len__(self) -> int:
        """The number of entries present."""
        return len(self._present)

    @property
    def capacity(self) -> int:
        """The number of entries there may be."""
        return len(self._values)

    @property
    def drawable(self) -> bool:
        """Whether an entry can be drawn: one is present, and not all weights are 0."""
        return len(self._present) > 0 and (self._weights is None or self._weights.total > 0)

    @property
    def mean(self) -> float:
        """The mean value of the entries present; 0 where there is none."""
        return self._total / (len(self) * _UNIT) if len(self) else 0.0

    @property
    def deviation(self) -> float:
        """The population standard deviation of the entries present."""
        n = len(self)
        return math.sqrt(n * self._squares - self._total**2) / (n * _UNIT) if n else 0.0

    def weight(self, index: int) -> float | None:
        """The weight of an entry; None if it is not present."""
        if index not in self._present:
            return None
        return 1.0 if self._weights is None else self._weights[index]

    def set(self, index: int, value: float, weight: float = 1.0) -> None:
        """Add an entry or change it."""
        self.discard(index)
        units = int(math.ldexp(value, 60))
        self._total += units
        self._squares += units * units
        self._values[index] = value
        self._present.add(index)
        if self._weights is not None:
            self._weights.set(index, weight)

    def discard(self, index: int) -> None:
        """Take an entry out, if it is present."""
        if index not in self._present:
            return
        units = int(math.ldexp(float(self._values[index]), 60))
        self._total -= units
        self._squares -= units * units
        self._present.discard(index)
        if self._weights is not None:
            self._weights.set(index, 0.0)

    def draw(self, rng: np.random.Generator) -> int:
        """One entry."""
        mean, deviation = self.mean, self.deviation
        for _ in range(_MOST_TRIES):
            index = self._propose(rng.random())
            if deviation == 0.0:
                return index
            z = (float(self._values[index]) - mean) / deviation
            if rng.random() * (1.0 + math.exp(min(-z, _STEEPEST))) < 1.0:
                return index
        # Weights may favour entries of very low z: the formula itself draws from the same distribution.
        return int(rng.choice(self.capacity, p=self.probabilities()))

    def _propose(self, uniform: float) -> int:
        return self._present.draw(uniform) if self._weights is None else self._weights.draw(uniform)

    def probabilities(self) -> NDArray[np.float64]:
        """The probability of each entry by the formula, shape (capacity,); zeros if none is drawable."""
        probabilities = np.zeros(self.capacity)
        if not self.drawable:
            return probabilities
        members, deviation = np.sort(self._present.members), self.deviation
        z = (self._values[members] - self.mean) / (deviation or 1.0)
        weights = 1.0 / (1.0 + np.exp(np.minimum(-z, _STEEPEST))) if deviation else np.ones(len(members))
        if self._weights is not None:
            weights = weights * self._weights.weights[members]
        probabilities[members] = weights / weights.sum()
        return probabilities

    def grow(self, capacity: int) -> None:
        """Make place for more entries. O(capacity)."""
        self._values = np.concatenate([self._values, np.zeros(capacity - self.capacity)])
        self._present.grow(capacity)
        if self._weights is not None:
            self._weights.grow(capacity)

    @property
    def members(self) -> NDArray[np.int32]:
        """The entries present, in the order that draws depend on: with their values, all there is to save."""
        return self._present.members

    def load(
        self, members: NDArray[np.int32], values: NDArray[np.float64], weights: NDArray[np.float64]
    ) -> None:
        """Hold exactly these entries, in this order, with these values and weights (one for each of them)."""
        rest = np.setdiff1d(np.arange(self.capacity), members)
        self._present.load(np.concatenate([members, rest]), len(members))
        self._values[members] = values
        units = [int(math.ldexp(value, 60)) for value in values.tolist()]
        self._total, self._squares = sum(units), sum(unit * unit for unit in units)
        if self._weights is not None:
            kept = np.zeros(self.capacity)
            kept[members] = weights
            self._weights.load(kept)

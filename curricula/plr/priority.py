"""What every draw from a transform of the levels' scores can do."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import ArrayLike, NDArray

from macurr.sampling import Partition

Floats = NDArray[np.float64]


class Priority(ABC):
    """Draws members in proportion to a transform of their scores.

    Args:
        members: Which levels have a score. Whoever owns it keeps it in step with `set` and `discard`; draws
            in which all members are alike come from it.
    """

    def __init__(self, members: Partition) -> None:
        self.members = members

    @property
    @abstractmethod
    def scores(self) -> Floats:
        """A copy of the scores, shape (capacity,), NaN for levels that are no members."""

    @abstractmethod
    def score(self, index: int) -> float:
        """The score of one level, NaN if it is no member."""

    @abstractmethod
    def set(self, index: int, score: float) -> None:
        """Make a level a member, or change its score."""

    @abstractmethod
    def discard(self, index: int) -> None:
        """Make a level no member."""

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> int:
        """A member, with the probability that the transform gives it."""

    @abstractmethod
    def probabilities(self) -> Floats:
        """The probability of each level, shape (capacity,), from the same numbers that `draw` uses."""

    @abstractmethod
    def load(self, scores: ArrayLike) -> None:
        """Replace all scores, shape (capacity,), NaN for levels that are no members."""

    @abstractmethod
    def grow(self, capacity: int) -> None:
        """Make place for more levels."""

    @property
    def scale(self) -> float:
        """What, beside the scores, the next draws depend on to the last bit."""
        return 0.0

    @scale.setter
    def scale(self, scale: float) -> None:
        pass

    def _uniform(self) -> Floats:
        found = np.zeros(self.members.capacity)
        if len(self.members):
            found[self.members.members] = 1.0 / len(self.members)
        return found

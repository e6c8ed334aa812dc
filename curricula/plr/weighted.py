"""Draws in proportion to a weight of each score, or of all alike: power, softmax, match and constant."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from typing_extensions import override

from macurr.curricula.plr import transforms
from macurr.curricula.plr.priority import Floats, Priority
from macurr.sampling import Partition, SumTree


class _Kept(Priority):
    """What the transforms that need no order have in common: an array of scores."""

    def __init__(self, members: Partition) -> None:
        super().__init__(members)
        self._scores = np.full(members.capacity, np.nan)

    @property
    @override
    def scores(self) -> Floats:
        scores: Floats = self._scores.copy()
        return scores

    @override
    def score(self, index: int) -> float:
        return float(self._scores[index])

    @override
    def set(self, index: int, score: float) -> None:
        self._scores[index] = score

    @override
    def discard(self, index: int) -> None:
        self._scores[index] = np.nan

    @override
    def load(self, scores: ArrayLike) -> None:
        self._scores = np.array(scores, np.float64)

    @override
    def grow(self, capacity: int) -> None:
        self._scores = np.append(self._scores, np.full(capacity - len(self._scores), np.nan))


class ConstantPriority(_Kept):
    """`constant`: any member."""

    @override
    def draw(self, rng: np.random.Generator) -> int:
        return self.members.draw(rng.random())

    @override
    def probabilities(self) -> Floats:
        return self._uniform()


class WeightPriority(_Kept):
    """`power`, `softmax` and `match`: a weight for each score, uniform where every weight is 0.

    Weights are kept as exp(log weight - scale), and the scale follows the largest weight in steps far apart,
    each of which costs O(capacity): so S ** 10 and exp(S / 0.01) neither overflow nor vanish.
    """

    _HIGH, _LOW = 300.0, 1e-150

    def __init__(self, members: Partition, name: str, temperature: float, offset: float) -> None:
        super().__init__(members)
        self._name, self._temperature, self._offset = name, temperature, offset
        self._tree = SumTree(members.capacity)
        self._scale = 0.0
        self._positive = 0

    @property
    @override
    def scale(self) -> float:
        return self._scale

    @scale.setter
    def scale(self, scale: float) -> None:
        self._scale = scale
        self._refresh()

    @override
    def set(self, index: int, score: float) -> None:
        self._positive += (self._log(score) > -math.inf) - (self._log(self.score(index)) > -math.inf)
        super().set(index, score)
        self._weigh(index, self._log(score))

    @override
    def discard(self, index: int) -> None:
        self._positive -= self._log(self.score(index)) > -math.inf
        super().discard(index)
        self._weigh(index, -math.inf)

    @override
    def draw(self, rng: np.random.Generator) -> int:
        if self._positive == 0:
            return self.members.draw(rng.random())
        return self._tree.draw(rng.random())

    @override
    def probabilities(self) -> Floats:
        return self._tree.weights / self._tree.total if self._positive else self._uniform()

    @override
    def load(self, scores: ArrayLike) -> None:
        super().load(scores)
        self._rescale()

    @override
    def grow(self, capacity: int) -> None:
        super().grow(capacity)
        self._tree.grow(capacity)

    def _weigh(self, index: int, log: float) -> None:
        if log - self._scale > self._HIGH:
            self._rescale()
            return
        self._tree.set(index, math.exp(log - self._scale))
        if self._positive and self._tree.total < self._LOW:
            self._rescale()

    def _log(self, score: float) -> float:
        """The scalar form of `transforms.log_weights`, -inf for NaN."""
        if self._name == "softmax":
            return score / self._temperature if score == score else -math.inf  # noqa: PLR0124
        base = max(score, 0.0) + self._offset if self._name == "power" else score * (1.0 - score)
        return math.log(base) / self._temperature if base > 0.0 else -math.inf

    def _logs(self) -> Floats:
        logs = np.full(len(self._scores), -np.inf)
        known = ~np.isnan(self._scores)
        logs[known] = transforms.log_weights(
            self._scores[known], self._name, temperature=self._temperature, offset=self._offset
        )
        return logs

    def _rescale(self) -> None:
        highest = self._logs().max()
        self.scale = float(highest) if highest > -np.inf else 0.0

    def _refresh(self) -> None:
        logs = self._logs()
        self._positive = int((logs > -np.inf).sum())
        self._tree.load(np.exp(logs - self._scale))

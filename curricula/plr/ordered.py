"""Draws that depend on the order of the scores: rank, match_rank, eps_greedy and max."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from typing_extensions import override

from macurr.curricula.plr.priority import Floats, Priority
from macurr.sampling import OrderIndex, Partition, RankWeights


class _Ordered(Priority):
    """What the transforms that look at the order of the scores have in common."""

    def __init__(self, members: Partition) -> None:
        super().__init__(members)
        self._order = OrderIndex(members.capacity)

    @property
    @override
    def scores(self) -> Floats:
        return self._order.keys

    @override
    def score(self, index: int) -> float:
        return self._order[index]

    @override
    def set(self, index: int, score: float) -> None:
        self._order.set(index, score)

    @override
    def discard(self, index: int) -> None:
        self._order.discard(index)

    @override
    def load(self, scores: ArrayLike) -> None:
        self._order.load(scores)

    @override
    def grow(self, capacity: int) -> None:
        self._order.grow(capacity)


class RankPriority(_Ordered):
    """`rank`: (1 / rank) ** (1 / temperature), ties by position."""

    def __init__(self, members: Partition, temperature: float) -> None:
        super().__init__(members)
        self._ranks = RankWeights(temperature)

    @override
    def draw(self, rng: np.random.Generator) -> int:
        return self._order.select(self._ranks.draw(rng.random(), len(self._order)))

    @override
    def probabilities(self) -> Floats:
        found = np.zeros(self._order.capacity)
        found[self._order.ranking] = self._ranks.probabilities(len(self._order))
        return found


class MatchRankPriority(RankPriority):
    """`match_rank`: the rank of S * (1 - S). The scores themselves take another 8 bytes per level."""

    def __init__(self, members: Partition, temperature: float) -> None:
        super().__init__(members, temperature)
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
        super().set(index, score * (1.0 - score))
        self._scores[index] = score

    @override
    def discard(self, index: int) -> None:
        super().discard(index)
        self._scores[index] = np.nan

    @override
    def load(self, scores: ArrayLike) -> None:
        values = np.array(scores, np.float64)
        super().load(values * (1.0 - values))
        self._scores = values

    @override
    def grow(self, capacity: int) -> None:
        super().grow(capacity)
        self._scores = np.append(self._scores, np.full(capacity - len(self._scores), np.nan))


class GreedyPriority(_Ordered):
    """`eps_greedy`: the first of the highest scores with probability 1 - eps, otherwise any member."""

    def __init__(self, members: Partition, eps: float) -> None:
        super().__init__(members)
        self._eps = eps

    @override
    def draw(self, rng: np.random.Generator) -> int:
        uniform = rng.random()
        if uniform < self._eps:
            return self.members.draw(uniform / self._eps)
        return self._order.select(0)

    @override
    def probabilities(self) -> Floats:
        found = self._eps * self._uniform()
        if len(self._order):
            found[self._order.select(0)] += 1.0 - self._eps
        return found


class MaxPriority(_Ordered):
    """`max`: any of the highest scores."""

    @override
    def draw(self, rng: np.random.Generator) -> int:
        return self._order.select(int(rng.random() * self._ties()))

    @override
    def probabilities(self) -> Floats:
        found = np.zeros(self._order.capacity)
        if len(self._order):
            found[self._order.ranking[: self._ties()]] = 1.0 / self._ties()
        return found

    def _ties(self) -> int:
        return self._order.count_from(self._order[self._order.select(0)])

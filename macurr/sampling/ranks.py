"""Weights that depend on the rank alone."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

from macurr.errors import TaskError, UsageError
from macurr.sampling.views import Viewed, float_view


class RankWeights(Viewed):
    """Draws rank r = 1, 2, ..., n with weight (1 / r) ** (1 / temperature), for any n.

    The sums of the first r weights do not depend on n, so one table serves every n; it is extended when a
    larger n is asked for, at 8 bytes per rank. It ends where a further weight would not change the sum in
    double precision: at temperature 0.1 that is after some 40 ranks.

    Args:
        temperature: Positive; towards 0 only rank 1 is drawn, towards infinity all ranks alike.

    Raises:
        TaskError: the temperature is not positive and finite.

    Example:
        >>> weights = RankWeights(temperature=1.0)
        >>> weights.probabilities(3).round(3).tolist()
        [0.545, 0.273, 0.182]
    """

    def __init__(self, temperature: float) -> None:
        if not 0.0 < temperature < np.inf:
            raise TaskError(f"A temperature must be positive and finite; got {temperature!r}.")
        self.temperature = float(temperature)
        self._sums = np.ones(1)
        self._complete = False
        self._bind()

    def _bind(self) -> None:
        self._sum = float_view(self._sums)

    def draw(self, uniform: float, n: int) -> int:
        """The rank, counted from 0, that `uniform` from [0, 1) selects among `n`.

        Raises:
            UsageError: n is 0.
        """
        if n < 1:
            raise UsageError("No rank can be drawn among 0 entries.")
        known = self._extend(n)
        rank = bisect_right(self._sum, uniform * self._sum[known - 1], 0, known)
        return min(rank, known - 1)

    def probabilities(self, n: int) -> NDArray[np.float64]:
        """The probability of each of `n` ranks, shape (n,)."""
        weights = self.weights(n)
        probabilities: NDArray[np.float64] = weights / weights.sum() if n else weights
        return probabilities

    def weights(self, n: int) -> NDArray[np.float64]:
        """The weights of `n` ranks before they are normalised, shape (n,)."""
        weights: NDArray[np.float64] = np.arange(1, n + 1, dtype=np.float64) ** (-1.0 / self.temperature)
        return weights

    def _extend(self, n: int) -> int:
        """How many of the first `n` ranks the table holds, after extending it."""
        known = len(self._sums)
        if known >= n or self._complete:
            return min(known, n)
        size = max(n, known + known // 4, 64)
        more = np.arange(known + 1, size + 1, dtype=np.float64) ** (-1.0 / self.temperature)
        sums = np.cumsum(np.concatenate([self._sums[-1:], more]))[1:]
        unchanged = np.flatnonzero(np.diff(sums, prepend=self._sums[-1]) == 0.0)
        if unchanged.size:
            sums, self._complete = sums[: unchanged[0]], True
        self._sums = np.concatenate([self._sums, sums])
        self._bind()
        return min(len(self._sums), n)

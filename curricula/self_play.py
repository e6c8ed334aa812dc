"""Self-play: against the latest self, or against all past ones, evenly or by how hard they are to beat."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import override

from macurr.curricula.opponents import LEARNER, OpponentCurriculum
from macurr.errors import UsageError
from macurr.opponents import AgentPool, pfsp_weights
from macurr.opponents.sampling import check_weighting, plain_weights

__all__ = [
    "DeltaUniformSelfPlay",
    "FictitiousSelfPlay",
    "PrioritizedFictitiousSelfPlay",
    "SelfPlay",
]


_FEW = 64
"""Opponents up to which plain numbers are quicker than arrays."""


class SelfPlay(OpponentCurriculum):
    """Always the newest snapshot.

    The simplest and the most prone to going in circles: what beat the one before last is soon forgotten.

    Args:
        pool: The snapshots.
        options: The keywords of `OpponentCurriculum` (`outcome`, `decay`, `window`, `seed`, ...).
    """

    def __init__(self, pool: AgentPool, **options: Any) -> None:
        super().__init__(pool, **options)

    @override
    def probabilities(self, ids: Sequence[int]) -> NDArray[np.float64]:
        weights = np.zeros(len(ids))
        weights[-1] = 1.0
        return weights


class FictitiousSelfPlay(OpponentCurriculum):
    """Every snapshot equally often: fictitious play (Brown 1951; Heinrich et al. 2015) over checkpoints.

    Args:
        pool: The snapshots.
        options: The keywords of `OpponentCurriculum`.
    """

    def __init__(self, pool: AgentPool, **options: Any) -> None:
        super().__init__(pool, **options)

    @override
    def probabilities(self, ids: Sequence[int]) -> NDArray[np.float64]:
        return np.full(len(ids), 1.0 / len(ids))


class DeltaUniformSelfPlay(OpponentCurriculum):
    """Uniform over the newest part of the snapshots (Bansal et al. 2018).

    Of snapshots 0 to v, those from delta * v on: all of them for delta = 0, the newest only for delta = 1.

    Args:
        pool: The snapshots.
        delta: Where the part begins, from 0 to 1.
        options: The keywords of `OpponentCurriculum`.

    Raises:
        UsageError: `delta` is out of range.
    """

    def __init__(self, pool: AgentPool, *, delta: float = 0.5, **options: Any) -> None:
        if not 0 <= delta <= 1:
            raise UsageError(f"delta must be between 0 (all snapshots) and 1 (the newest only); got {delta}.")
        super().__init__(pool, **options)
        self.delta = delta

    @override
    def probabilities(self, ids: Sequence[int]) -> NDArray[np.float64]:
        first = math.ceil(self.delta * (len(ids) - 1))
        weights = np.zeros(len(ids))
        weights[first:] = 1.0 / (len(ids) - first)
        return weights


class PrioritizedFictitiousSelfPlay(OpponentCurriculum):
    """Snapshots by how often the learner beats them (Vinyals et al. 2019).

    See `macurr.opponents.pfsp_weights` for the weightings. An opponent without results counts as even (0.5). "hard"
    never draws one that is always beaten: `exploration` checks on those from time to time.

    Args:
        pool: The snapshots.
        weighting: "hard", "easy", "variance", "linear", "linear_capped", "squared", or a function from win rates to
            weights.
        power: The exponent of "hard" and "easy".
        exploration: The chance of drawing uniformly instead.
        options: The keywords of `OpponentCurriculum`.

    Raises:
        UsageError: an option is unknown or out of range.
    """

    def __init__(
        self,
        pool: AgentPool,
        *,
        weighting: str | Callable[[NDArray[np.float64]], ArrayLike] = "hard",
        power: float = 2.0,
        exploration: float = 0.0,
        **options: Any,
    ) -> None:
        check_weighting(weighting, power)
        check_chance("exploration", exploration)
        super().__init__(pool, **options)
        self.weighting = weighting
        self.power = power
        self.exploration = exploration

    @override
    def get_options(self) -> dict[str, Any]:
        """`power` and `exploration`. No population tunes them: weaker opponents would look like a better policy."""
        return {"power": self.power, "exploration": self.exploration}

    @override
    def check_options(self, **options: Any) -> None:
        super().check_options(**options)
        wanted = {**self.get_options(), **options}
        check_weighting(self.weighting, wanted["power"])
        check_chance("exploration", wanted["exploration"])

    @override
    def probabilities(self, ids: Sequence[int]) -> NDArray[np.float64]:
        weights = pfsp_weights(self.win_rates(ids), self.weighting, self.power)
        return (1.0 - self.exploration) * weights + self.exploration / len(ids)

    @override
    def _heights(self, ids: Sequence[int]) -> list[float]:
        # Once for each episode. Subclasses may have win rates and probabilities of their own.
        own = type(self) is PrioritizedFictitiousSelfPlay and len(ids) <= _FEW
        weights = plain_weights(self.payoffs.rates(LEARNER, ids), self.weighting, self.power) if own else None
        if weights is None:
            return super()._heights(ids)
        share, least = 1.0 - self.exploration, self.exploration / len(ids)
        return list(accumulate([share * weight + least for weight in weights]))


def check_chance(name: str, value: float) -> None:
    """Check that an option is a probability.

    Raises:
        UsageError: it is not.
    """
    if not 0 <= value <= 1:
        raise UsageError(f"{name} is a probability, from 0 to 1; got {value}.")

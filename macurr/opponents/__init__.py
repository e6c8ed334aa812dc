"""Opponents: snapshots on disk, results between them, and what game theory makes of the results.

Solvers that need SciPy (`nash`, `nash_averaging`) and the ratings are loaded at their first use.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING
from typing import Any as _Any

from macurr.opponents.alpharank import alpha_rank, marginals
from macurr.opponents.games import as_game, nash_conv
from macurr.opponents.meta_solvers import projected_replicator_dynamics, regret_matching, uniform
from macurr.opponents.payoffs import Counts, Payoffs, PlayerKey
from macurr.opponents.pool import AgentPool
from macurr.opponents.sampling import pfsp_weights
from macurr.opponents.space import OpponentTaskSpace

if TYPE_CHECKING:
    from macurr.opponents.elo import RatingTable, elo_ratings
    from macurr.opponents.ratings import BayesianRatings, EloRatings, SkillRating
    from macurr.opponents.zero_sum import NashAverage, nash, nash_averaging

__all__ = [
    "AgentPool",
    "BayesianRatings",
    "Counts",
    "EloRatings",
    "NashAverage",
    "OpponentTaskSpace",
    "Payoffs",
    "PlayerKey",
    "RatingTable",
    "SkillRating",
    "alpha_rank",
    "as_game",
    "elo_ratings",
    "marginals",
    "nash",
    "nash_averaging",
    "nash_conv",
    "pfsp_weights",
    "projected_replicator_dynamics",
    "regret_matching",
    "uniform",
]

_LAZY = {
    **dict.fromkeys(("NashAverage", "nash", "nash_averaging"), "macurr.opponents.zero_sum"),
    **dict.fromkeys(("RatingTable", "elo_ratings"), "macurr.opponents.elo"),
    **dict.fromkeys(("BayesianRatings", "EloRatings", "SkillRating"), "macurr.opponents.ratings"),
}


def __getattr__(name: str) -> _Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_import_module(_LAZY[name]), name)

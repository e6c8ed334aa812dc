"""Draws from a transform of the levels' scores while the scores change one at a time.

The formulas are those of `macurr.curricula.plr.transforms`; here each has the structure that keeps one draw
and one change at microseconds for a million levels.
"""

from __future__ import annotations

from macurr.curricula.plr.ordered import GreedyPriority, MatchRankPriority, MaxPriority, RankPriority
from macurr.curricula.plr.priority import Priority
from macurr.curricula.plr.transforms import SCORE_TRANSFORMS
from macurr.curricula.plr.weighted import ConstantPriority, WeightPriority
from macurr.errors import UsageError
from macurr.sampling import Partition


def make_priority(
    name: str, members: Partition, *, temperature: float, eps: float, offset: float
) -> Priority:
    """The priority for a transform's name (see `transforms.transform` for the formulas).

    Raises:
        UsageError: there is no such transform.
    """
    if name == "rank":
        return RankPriority(members, temperature)
    if name == "match_rank":
        return MatchRankPriority(members, temperature)
    if name == "eps_greedy":
        return GreedyPriority(members, eps)
    if name == "max":
        return MaxPriority(members)
    if name == "constant":
        return ConstantPriority(members)
    if name in ("power", "softmax", "match"):
        return WeightPriority(members, name, temperature, offset)
    raise UsageError(f"There is no transform {name!r}; choose one of {', '.join(SCORE_TRANSFORMS)}.")

"""Prioritized Level Replay: the curriculum, its scores and its formulas."""

from macurr.curricula.plr.curriculum import PrioritizedLevelReplay
from macurr.curricula.plr.robust import ACCEL, RobustPLR
from macurr.curricula.plr.strategies import STRATEGIES, Strategy

__all__ = ["ACCEL", "STRATEGIES", "PrioritizedLevelReplay", "RobustPLR", "Strategy"]

"""Prioritized Level Replay: the curriculum, its scores and its formulas."""

from macurr.curricula.plr.curriculum import PrioritizedLevelReplay
from macurr.curricula.plr.strategies import STRATEGIES, Strategy

__all__ = ["STRATEGIES", "PrioritizedLevelReplay", "Strategy"]

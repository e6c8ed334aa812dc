"""The curriculum of a run: an opponent and a level for each episode, put together from macurr's public parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from macurr import Curriculum, DiscreteTaskSpace
from macurr.curricula import (
    DomainRandomization,
    FictitiousSelfPlay,
    PrioritizedFictitiousSelfPlay,
    SelfPlay,
)
from macurr.curricula.plr import PrioritizedLevelReplay
from macurr.opponents import AgentPool
from macurr.training.config import TrainConfig
from macurr.training.rollout import Episode
from macurr.wrappers import DualCurriculumWrapper

__all__ = ["LEVEL", "OPPONENT", "TASK_WIDTH", "build_curriculum", "score_message"]

OPPONENT, LEVEL = 0, 1
"""Places of the parts of a task, `Task(agent, env)`, in `infos[agent]["task"]`."""
TASK_WIDTH = 2

_EXPLORATION = 0.1
"""PFSP's share of opponents drawn uniformly: one that is always beaten might beat a later policy."""


def build_curriculum(config: TrainConfig, pool: AgentPool) -> DualCurriculumWrapper:
    """The curriculum of a run.

    Args:
        config: The run's settings.
        pool: The snapshots to play against.
    """
    levels, opponents = np.random.SeedSequence(config.seed).spawn(2)
    return DualCurriculumWrapper(
        _levels(config, np.random.default_rng(levels)),
        _opponents(config, pool, np.random.default_rng(opponents)),
    )


def score_message(config: TrainConfig, scored: Sequence[tuple[Episode, float]]) -> dict[str, Any] | None:
    """What to tell the curriculum by `update_on_demand`; None where it does not ask for scores.

    Args:
        config: The run's settings.
        scored: Finished episodes and their levels' scores.
    """
    if config.curriculum != "plr" or not scored:
        return None
    return {
        "tasks": [(episode.opponent, episode.level) for episode, _ in scored],
        "scores": [score for _, score in scored],
    }


def _levels(config: TrainConfig, rng: np.random.Generator) -> Curriculum:
    space = DiscreteTaskSpace(config.tasks.levels)
    if config.curriculum == "dr":
        return DomainRandomization(space, seed=rng)
    return PrioritizedLevelReplay(
        space,
        strategy=config.tasks.score,
        temperature=config.tasks.temperature,
        staleness_coef=config.tasks.staleness_coef,
        replay_schedule="fixed",
        replay_prob=config.tasks.replay_prob,
        rho=0.0,
        gamma=config.ppo.gamma,
        gae_lambda=config.ppo.gae_lambda,
        seed=rng,
    )


def _opponents(config: TrainConfig, pool: AgentPool, rng: np.random.Generator) -> Curriculum:
    if config.opponents == "self":
        return SelfPlay(pool, seed=rng)
    if config.opponents == "fsp":
        return FictitiousSelfPlay(pool, seed=rng)
    return PrioritizedFictitiousSelfPlay(pool, exploration=_EXPLORATION, seed=rng)

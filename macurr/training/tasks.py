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
from macurr.training.levels import LEARNABILITY
from macurr.training.rollout import Episode
from macurr.wrappers import DualCurriculumWrapper

__all__ = ["LEVEL", "OPPONENT", "TASK_WIDTH", "build_curriculum", "score_message"]

OPPONENT, LEVEL = 0, 1
"""Places of the parts of a task, `Task(agent, env)`, in `infos[agent]["task"]`."""
TASK_WIDTH = 2

_EXPLORATION = 0.1
"""PFSP's share of opponents drawn uniformly: one that is always beaten might beat a later policy. In the same way the
share that the joint curriculum does not choose by scores."""


def build_curriculum(config: TrainConfig, pool: AgentPool) -> DualCurriculumWrapper:
    """The curriculum of a run.

    Args:
        config: The run's settings.
        pool: The snapshots to play against.
    """
    seeds = np.random.SeedSequence(config.seed).spawn(2)
    levels, others = (np.random.default_rng(seed) for seed in seeds)
    opponents = _opponents(config, pool, others)
    if config.curriculum == "joint":
        return DualCurriculumWrapper(
            lambda rng: _replay(config, rng), opponents, joint=True, uniform_prob=_EXPLORATION, seed=levels
        )
    replayed = config.curriculum == "plr"
    return DualCurriculumWrapper((_replay if replayed else _uniform)(config, levels), opponents)


def score_message(config: TrainConfig, scored: Sequence[tuple[Episode, float]]) -> dict[str, Any] | None:
    """What to tell the curriculum by `update_on_demand`; None where it does not ask for scores.

    Args:
        config: The run's settings.
        scored: Finished episodes and their levels' scores.
    """
    if config.curriculum == "dr" or not scored:
        return None
    return {
        "tasks": [(episode.opponent, episode.level) for episode, _ in scored],
        "scores": [score for _, score in scored],
    }


def _uniform(config: TrainConfig, rng: np.random.Generator) -> Curriculum:
    return DomainRandomization(DiscreteTaskSpace(config.tasks.levels), seed=rng)


def _replay(config: TrainConfig, rng: np.random.Generator) -> Curriculum:
    score = config.tasks.score
    return PrioritizedLevelReplay(
        DiscreteTaskSpace(config.tasks.levels),
        # The trainer's scores come ready-made. The strategy of this name would score episodes on its own besides.
        strategy="value_l1" if score == LEARNABILITY else score,
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

"""The curriculum of a run: an opponent and a level for each episode, put together from macurr's public parts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
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
from macurr.training.tuned import TunedArguments
from macurr.wrappers import DualCurriculumWrapper, MultiagentSharedCurriculumWrapper

__all__ = ["Places", "build_curriculum", "level_entropy", "score_message"]


@dataclass(frozen=True)
class Places:
    """Where the parts of a task are in `infos[agent]["task"]`.

    Attributes:
        opponent: Of the opponent; None where every agent learns.
        level: Of the level.
        width: Numbers of a task.
    """

    opponent: int | None
    level: int
    width: int

    @classmethod
    def of(cls, config: TrainConfig) -> Places:
        """Those of a run: a task is `Task(agent, env)`, or the level alone where nobody plays against the learners."""
        return cls(None, 0, 1) if config.opponents == "none" else cls(0, 1, 2)


_EXPLORATION = 0.1
"""PFSP's share of opponents drawn uniformly: one that is always beaten might beat a later policy. In the same way the
share that the joint curriculum does not choose by scores."""


def build_curriculum(config: TrainConfig, pool: AgentPool) -> Curriculum:
    """The curriculum of a run.

    Args:
        config: The run's settings.
        pool: The snapshots to play against.
    """
    curriculum = _levels_and_opponents(config, pool)
    if not config.pbt.pbt_env_args:
        return curriculum
    arguments = {name: config.env_args[name] for name in config.pbt.pbt_env_args}
    return TunedArguments(curriculum, arguments, config.argument_groups)


def _levels_and_opponents(config: TrainConfig, pool: AgentPool) -> Curriculum:
    seeds = np.random.SeedSequence(config.seed).spawn(2)
    levels, others = (np.random.default_rng(seed) for seed in seeds)
    if config.opponents == "none":
        alone = (_replay if config.curriculum == "plr" else _uniform)(config, levels)
        return MultiagentSharedCurriculumWrapper(alone) if alone.single_agent else alone
    opponents = _opponents(config, pool, others)
    if config.curriculum == "joint":
        return DualCurriculumWrapper(
            lambda rng: _replay(config, rng), opponents, joint=True, uniform_prob=_EXPLORATION, seed=levels
        )
    replayed = config.curriculum == "plr"
    return DualCurriculumWrapper((_replay if replayed else _uniform)(config, levels), opponents)


def score_message(
    config: TrainConfig, scored: Sequence[tuple[Episode, float]], versions: Sequence[int] = ()
) -> dict[str, Any] | None:
    """What to tell the curriculum by `update_on_demand`; None where it does not ask for scores.

    Args:
        config: The run's settings.
        scored: Finished episodes and their levels' scores.
        versions: For each, the version of the policy that played it: for a curriculum that looks at their age.
    """
    if config.curriculum == "dr" or not scored:
        return None
    alone = config.opponents == "none"
    message: dict[str, Any] = {
        "tasks": [episode.level if alone else (episode.opponent, episode.level) for episode, _ in scored],
        "scores": [score for _, score in scored],
    }
    return {**message, "versions": list(versions)} if len(versions) else message


def level_entropy(config: TrainConfig, curriculum: Curriculum) -> float:
    """Entropy in nats of the next level's distribution, over all opponents; NaN where there is none."""
    probabilities = curriculum.distribution()
    if probabilities is None:
        return math.nan
    levels = probabilities.reshape(-1, config.tasks.levels).sum(axis=0)
    positive = levels[levels > 0]
    return float(-(positive * np.log(positive)).sum())


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

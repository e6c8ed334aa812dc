"""A curriculum under RLlib's multi-agent PPO (new API stack): levels, level scores, and opponents as modules.

`curriculum_ppo` makes a `PPOConfig` with everything in place; the other names are its parts, for those who put them
together in another way. Needs the extra `rllib`.
"""

from __future__ import annotations

from macurr.errors import MissingDependencyError as _MissingDependencyError

try:
    import ray.rllib  # noqa: F401
    import torch  # noqa: F401
except ImportError as error:
    raise _MissingDependencyError.for_extra("RLlib", "rllib", "macurr.integrations.rllib") from error

from macurr.integrations.rllib.algorithm import CurriculumPPO, curriculum_ppo
from macurr.integrations.rllib.callback import CurriculumCallback, make_curriculum_callback
from macurr.integrations.rllib.env import EpisodeTag, RLlibCurriculumEnv, make_rllib_env
from macurr.integrations.rllib.episodes import EpisodeAssembler, EpisodePart, FinishedEpisode, score_messages
from macurr.integrations.rllib.learner import CurriculumPPOLearner
from macurr.integrations.rllib.mapping import TaskMapping

__all__ = [
    "CurriculumCallback",
    "CurriculumPPO",
    "CurriculumPPOLearner",
    "EpisodeAssembler",
    "EpisodePart",
    "EpisodeTag",
    "FinishedEpisode",
    "RLlibCurriculumEnv",
    "TaskMapping",
    "curriculum_ppo",
    "make_curriculum_callback",
    "make_rllib_env",
    "score_messages",
]

"""The settings of a training run: one tree of frozen dataclasses, checked, and saved with the run."""

from macurr.training.config.fields import Setting, settings_of
from macurr.training.config.parts import (
    MAPPINGS,
    RECURRENT,
    SIDES,
    CurriculumConfig,
    EvaluationConfig,
    ModelConfig,
    PBTConfig,
    PoliciesConfig,
    PPOConfig,
)
from macurr.training.config.tree import (
    CURRICULA,
    DEFAULT_MINUTES,
    DEFAULT_STEPS,
    ENGINES,
    FORMAT_VERSION,
    OPPONENTS,
    TRANSPORTS,
    TrainConfig,
)

__all__ = [
    "CURRICULA",
    "DEFAULT_MINUTES",
    "DEFAULT_STEPS",
    "ENGINES",
    "FORMAT_VERSION",
    "MAPPINGS",
    "OPPONENTS",
    "RECURRENT",
    "SIDES",
    "TRANSPORTS",
    "CurriculumConfig",
    "EvaluationConfig",
    "ModelConfig",
    "PBTConfig",
    "PPOConfig",
    "PoliciesConfig",
    "Setting",
    "TrainConfig",
    "settings_of",
]

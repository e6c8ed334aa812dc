"""The options of Prioritized Level Replay, checked once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from macurr.curricula.plr.strategies import STRATEGIES
from macurr.curricula.plr.transforms import SCORE_TRANSFORMS, STALENESS_TRANSFORMS
from macurr.errors import UsageError

_CHOICES = {
    "strategy": tuple(STRATEGIES),
    "score_transform": SCORE_TRANSFORMS,
    "staleness_transform": STALENESS_TRANSFORMS,
    "replay_schedule": ("fixed", "proportionate"),
    "buffer_priority": ("replay_support", "score"),
}
CHANGEABLE = (
    "temperature",
    "staleness_coef",
    "staleness_temperature",
    "replay_prob",
    "rho",
    "alpha",
    "max_score_coef",
    "eps",
)
"""What may change while levels are replayed. The others decide what is kept of levels and of open episodes."""

_SHARES = (
    "staleness_coef",
    "replay_prob",
    "rho",
    "alpha",
    "max_score_coef",
    "eps",
    "gamma",
    "gae_lambda",
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """See `PrioritizedLevelReplay` for what each option means.

    Raises:
        UsageError: an option is none of its choices or outside its range.
    """

    strategy: str
    score_transform: str
    temperature: float
    staleness_coef: float
    staleness_transform: str
    staleness_temperature: float
    replay_schedule: str
    replay_prob: float
    rho: float
    alpha: float
    max_score_coef: float
    eps: float
    gamma: float
    gae_lambda: float
    buffer_size: int | None
    buffer_priority: str
    window: int

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise UsageError(f"{name} must be one of {', '.join(choices)}; got {getattr(self, name)!r}.")
        for name in _SHARES:
            share = getattr(self, name)
            if not isinstance(share, Real) or not 0.0 <= float(share) <= 1.0:
                raise UsageError(f"{name} must be from 0 to 1; got {share!r}.")
        for name in ("temperature", "staleness_temperature"):
            warmth = getattr(self, name)
            if not isinstance(warmth, Real) or not 0.0 < float(warmth) < math.inf:
                raise UsageError(f"{name} must be positive and finite; got {warmth!r}.")
        if self.alpha == 0.0:
            raise UsageError("alpha must be above 0, or no score would ever change; got 0.")
        if not _whole(self.window, 2):
            raise UsageError(f"tscl_window_size must be an integer of 2 or more; got {self.window!r}.")
        if self.buffer_size is not None and not _whole(self.buffer_size, 1):
            raise UsageError(
                f"buffer_size must be an integer of 1 or more, or None; got {self.buffer_size!r}."
            )


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, Integral) and int(value) >= least

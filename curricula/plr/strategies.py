"""The table of scoring strategies: what each is called, what it needs, and how it scores an episode.

Strategies come in three kinds. Those of the *steps* score an episode from what the learner's networks said at
each step. Those of the *outcome* need nothing but episode results and keep a few numbers per level. The
others decide the order of the levels or leave scoring to the learner.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from macurr.curricula.plr import scores

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Stretch:
    """Consecutive steps of one episode, to be scored.

    Attributes:
        columns: What is known of each step, by name: "rewards" and "values" (T,), "action_probs" (T, A),
            "alternative_values" (T,), "value_ensemble" (T, E).
        ended: Whether the episode ended with the last step.
        final_value: Value of what follows the last step: 0 after a termination.
        alternative_final_value: The same from the second critic.
        best_return: The best undiscounted return ever seen on the level, this episode included.
        gamma: Discount.
        gae_lambda: Trace decay.
    """

    columns: Mapping[str, NDArray[Any]]
    ended: bool
    final_value: float = 0.0
    alternative_final_value: float = 0.0
    best_return: float = 0.0
    gamma: float = 0.999
    gae_lambda: float = 0.95

    def advantages(self) -> Floats:
        """The first critic's advantages, (T,)."""
        return scores.gae_advantages(
            self.columns["rewards"],
            self.columns["values"],
            self.final_value,
            gamma=self.gamma,
            gae_lambda=self.gae_lambda,
        )

    def alternative_returns(self) -> Floats:
        """The second critic's lambda-returns, (T,)."""
        values = self.columns["alternative_values"]
        advantages = scores.gae_advantages(
            self.columns["rewards"],
            values,
            self.alternative_final_value,
            gamma=self.gamma,
            gae_lambda=self.gae_lambda,
        )
        returns: Floats = advantages + values
        return returns


@dataclass(frozen=True)
class Strategy:
    """A way to score levels.

    Attributes:
        name: What it is called.
        needs: The columns of a `Stretch` that it reads beside the rewards.
        score_steps: Scores each step of a stretch; None where steps are not scored.
        grounded: Whether it needs the best return ever seen on the level.
    """

    name: str
    needs: frozenset[str] = frozenset()
    score_steps: Callable[[Stretch], Floats] | None = None
    grounded: bool = False


# Named functions rather than lambdas: a curriculum can be pickled.


def _value_l1(stretch: Stretch) -> Floats:
    return scores.value_l1(stretch.advantages())


def _signed(stretch: Stretch) -> Floats:
    return scores.signed_value_loss(stretch.advantages())


def _positive(stretch: Stretch) -> Floats:
    return scores.positive_value_loss(stretch.advantages())


def _td_error(stretch: Stretch) -> Floats:
    # The reference leaves the last step of an episode out. It is all that there is of an episode of one step.
    leave_out = stretch.ended and len(stretch.columns["rewards"]) > 1
    return scores.one_step_td_error(
        stretch.columns["rewards"],
        stretch.columns["values"],
        gamma=stretch.gamma,
        final_value=None if leave_out else stretch.final_value,
    )


def _max_mc(stretch: Stretch) -> Floats:
    return scores.max_mc(stretch.columns["values"], stretch.best_return)


def _grounded_positive(stretch: Stretch) -> Floats:
    return scores.grounded_positive_value_loss(stretch.columns["values"], stretch.best_return)


def _alternative(stretch: Stretch) -> Floats:
    return scores.alt_advantage_abs(stretch.alternative_returns(), stretch.columns["values"])


def _entropy(stretch: Stretch) -> Floats:
    return scores.policy_entropy(stretch.columns["action_probs"])


def _least_confidence(stretch: Stretch) -> Floats:
    return scores.least_confidence(stretch.columns["action_probs"])


def _min_margin(stretch: Stretch) -> Floats:
    return scores.min_margin(stretch.columns["action_probs"])


def _disagreement(stretch: Stretch) -> Floats:
    return scores.value_disagreement(stretch.columns["value_ensemble"])


_VALUES, _PROBS = frozenset({"values"}), frozenset({"action_probs"})

_STRATEGIES = (
    Strategy("value_l1", _VALUES, _value_l1),
    Strategy("gae", _VALUES, _signed),
    Strategy("signed_value_loss", _VALUES, _signed),
    Strategy("positive_value_loss", _VALUES, _positive),
    Strategy("one_step_td_error", _VALUES, _td_error),
    Strategy("max_mc", _VALUES, _max_mc, grounded=True),
    Strategy("grounded_signed_value_loss", _VALUES, _max_mc, grounded=True),
    Strategy("grounded_positive_value_loss", _VALUES, _grounded_positive, grounded=True),
    Strategy("alt_advantage_abs", frozenset({"values", "alternative_values"}), _alternative),
    Strategy("policy_entropy", _PROBS, _entropy),
    Strategy("least_confidence", _PROBS, _least_confidence),
    Strategy("min_margin", _PROBS, _min_margin),
    Strategy("value_disagreement", frozenset({"value_ensemble"}), _disagreement),
    Strategy("learnability"),
    Strategy("tscl_window"),
    Strategy("uniform"),
    Strategy("random"),
    Strategy("sequential"),
)

STRATEGIES: Mapping[str, Strategy] = MappingProxyType({strategy.name: strategy for strategy in _STRATEGIES})
"""Every strategy by name."""


@dataclass(frozen=True)
class Outcomes:
    """What a strategy remembers of a level from one episode to the next: one row of numbers per level.

    | strategy | row |
    |---|---|
    | grounded ones | best return |
    | learnability | visits, success rate |
    | tscl_window | visits, then the latest returns, a ring of `window` |
    | others | nothing |

    Args:
        strategy: The strategy.
        alpha: Weight of the newest outcome in the success rate; 1 for the plain mean over all visits.
        window: How many of the latest returns `tscl_window` looks at.
    """

    strategy: Strategy
    alpha: float = 1.0
    window: int = 10
    width: int = field(init=False)

    def __post_init__(self) -> None:
        widths = {"learnability": 2, "tscl_window": 1 + self.window}
        object.__setattr__(self, "width", widths.get(self.strategy.name, int(self.strategy.grounded)))

    def fresh(self) -> Floats:
        """The row of a level that has not been visited."""
        row: Floats = np.full(self.width, -math.inf if self.strategy.grounded else 0.0)
        return row

    def remember(self, row: Floats, episode_return: float, success: float) -> Floats:
        """The row after one more episode."""
        after: Floats = row.copy()
        if self.strategy.grounded:
            after[0] = max(row[0], episode_return)
        elif self.strategy.name == "learnability":
            after[0] += 1.0
            weight = 1.0 / after[0] if self.alpha == 1.0 else max(self.alpha, 1.0 / after[0])
            after[1] += weight * (success - row[1])
        elif self.strategy.name == "tscl_window":
            after[1 + int(row[0]) % self.window] = episode_return
            after[0] += 1.0
        return after

    def score(self, row: Floats) -> float | None:
        """The score that follows from a row alone, or None where the strategy needs steps or the learner."""
        if self.strategy.name == "learnability":
            return float(scores.learnability(row[1]))
        if self.strategy.name == "tscl_window":
            visits = int(row[0])
            latest = (
                np.roll(row[1:], -(visits % self.window)) if visits > self.window else row[1 : 1 + visits]
            )
            return scores.tscl_window(latest)
        return 1.0 if self.strategy.name in ("uniform", "random", "sequential") else None

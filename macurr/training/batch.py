"""The arithmetic of batches: what one round of collection gives, and what one update of each policy wants."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from macurr.errors import ConfigError

if TYPE_CHECKING:
    from macurr.training.config import TrainConfig

__all__ = ["BatchPlan", "batch_plan"]


@dataclass(frozen=True)
class BatchPlan:
    """How much is collected for an update.

    Attributes:
        total: Samples of one round: every learning agent of every environment plays one rollout.
        per_policy: R, samples of one round for each policy, `total / num_policies`, exactly.
        wanted: S, samples of one update of each policy.
        policies: Number of policies, P.
        rounds: Rollouts of every environment for one update: S * P / total. In asynchronous mode any number of
            samples is fine, and this is rounded up.
    """

    total: int
    per_policy: Fraction
    wanted: int
    policies: int
    rounds: int

    @property
    def dataset(self) -> int:
        """Samples of one update of all policies together."""
        return self.wanted * self.policies


def batch_plan(config: TrainConfig, learners_per_env: Sequence[int]) -> BatchPlan:
    """What an update is made of; checked before anything starts.

    Args:
        config: The settings.
        learners_per_env: For each environment, how many of its agents learn.

    Raises:
        ConfigError: in synchronous mode S is no positive whole multiple of R; the message holds the sum and the
            nearest sizes that work. Or without a batch_size, a round gives fewer samples than there are minibatches.
    """
    policies, rollout = config.policies.num_policies, config.ppo.rollout
    total = sum(learners_per_env) * rollout
    share = Fraction(total, policies)
    if config.ppo.batch_size is None:
        if share < config.ppo.minibatches:
            raise ConfigError(_too_small(config, learners_per_env, share))
        return BatchPlan(total, share, math.ceil(share), policies, 1)
    wanted = config.ppo.batch_size * config.ppo.minibatches
    ratio = wanted / share
    if not config.asynchronous and ratio.denominator != 1:
        raise ConfigError(_refusal(config, learners_per_env, wanted, share))
    return BatchPlan(total, share, wanted, policies, math.ceil(ratio))


def _refusal(config: TrainConfig, learners_per_env: Sequence[int], wanted: int, share: Fraction) -> str:
    ppo = config.ppo
    return (
        f"In synchronous mode an update has to use up whole rounds of collection. "
        f"{_round(config, learners_per_env, share)} An update takes S = batch_size={ppo.batch_size} x "
        f"minibatches={ppo.minibatches} = {wanted} samples of each: S / R = {_text(wanted / share)}, and a whole "
        f"number is wanted. {_advice(config, wanted, share)}"
    )


def _too_small(config: TrainConfig, learners_per_env: Sequence[int], share: Fraction) -> str:
    return (
        f"{_round(config, learners_per_env, share)} That is too small for minibatches={config.ppo.minibatches} of an "
        "update. Lower minibatches (--minibatches), raise rollout (--rollout) or envs_per_worker "
        "(--envs-per-worker), or give the size of a minibatch by batch_size (--batch-size)."
    )


def _round(config: TrainConfig, learners_per_env: Sequence[int], share: Fraction) -> str:
    """What one round gives, with the sum."""
    policies = config.policies.num_policies
    low, high = min(learners_per_env), max(learners_per_env)
    each = (
        f"{low}"
        if low == high
        else f"{low} to {high} (mean {Fraction(sum(learners_per_env), config.num_envs)})"
    )
    return (
        f"One round is {config.workers} workers x {config.envs_per_worker} environments x {each} learning agents x "
        f"rollout={config.ppo.rollout} = {share * policies} samples, which is R = {_text(share)} for each of "
        f"num_policies={policies}."
    )


def _advice(config: TrainConfig, wanted: int, share: Fraction) -> str:
    # S = k R with S / minibatches whole: k is a multiple of the denominator of R / minibatches.
    step = (share / config.ppo.minibatches).denominator
    size = int(share * step / config.ppo.minibatches)
    if config.model.recurrent != "none":
        size = math.lcm(size, config.ppo.rollout)  # whole rollouts
    below = config.ppo.batch_size // size * size if config.ppo.batch_size is not None else size
    near = [str(value) for value in (below, below + size) if value > 0]
    return (
        f"The nearest sizes that work: batch_size={' or '.join(near)} (--batch-size). Without a batch_size, an update "
        "takes what one round gives; in asynchronous mode (--async-rl) any size works."
    )


def _text(number: Fraction) -> str:
    return str(number) if number.denominator == 1 else f"{number} ({float(number):.4g})"

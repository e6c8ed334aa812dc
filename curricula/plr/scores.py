"""What an episode says about its level: the scores of Prioritized Level Replay as pure functions of arrays.

Functions of an episode return one number per step, shape (T,): a level's score is their mean over the
episode, or mixed with their maximum (`max_score_coef`). `T` counts the agent's own steps, so an agent that
dies early is averaged over its own life. Sources: Jiang et al., "Prioritized Level Replay" (2021);
"Replay-Guided Adversarial Environment Design" (2021) for the grounded scores; Dennis et al., PAIRED (2020);
Rutherford et al., "No Regrets" (2024) for learnability; Matiisen et al., "Teacher-Student Curriculum
Learning" (2017).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def discounted_sums(values: ArrayLike, factor: float) -> Floats:
    """For each step t, the sum over k >= 0 of factor**k * values[t + k].

    Sums over windows of 1, 2, 4, ... steps, so that log2(T) array operations do the work of T scalar ones,
    without the overflow of dividing by powers of the factor.

    Args:
        values: Shape (T,).
        factor: From 0 to 1.
    """
    sums = np.array(values, np.float64)
    width = 1
    while width < len(sums) and factor > 0.0:
        sums[:-width] += factor * sums[width:]
        factor, width = factor * factor, 2 * width
    return sums


def gae_advantages(
    rewards: ArrayLike, values: ArrayLike, final_value: float, *, gamma: float, gae_lambda: float
) -> Floats:
    """Generalized advantage estimates (Schulman et al. 2016, equation 16) of one stretch of steps.

    Args:
        rewards: Reward of each step, shape (T,).
        values: The critic's value before each step, shape (T,).
        final_value: The value of what follows the last step: 0 where the episode terminated, the critic's
            value of the last observation where it was truncated or is still going on.
        gamma: Discount.
        gae_lambda: Trace decay.

    Returns:
        Advantages, shape (T,). Adding `values` gives the lambda-returns.
    """
    before = np.asarray(values, np.float64)
    after = np.append(before[1:], final_value)
    return discounted_sums(np.asarray(rewards, np.float64) + gamma * after - before, gamma * gae_lambda)


def value_l1(advantages: ArrayLike) -> Floats:
    """Magnitude of the value loss, |A_t| (PLR's default)."""
    return np.abs(np.asarray(advantages, np.float64))


def signed_value_loss(advantages: ArrayLike) -> Floats:
    """The value loss with its sign, A_t; also known as `gae`."""
    return np.array(advantages, np.float64)


def positive_value_loss(advantages: ArrayLike) -> Floats:
    """The value loss where it is positive, max(0, A_t): a proxy of regret."""
    return np.maximum(np.asarray(advantages, np.float64), 0.0)


def one_step_td_error(
    rewards: ArrayLike, values: ArrayLike, *, gamma: float, final_value: float | None = None
) -> Floats:
    """|r_t + gamma * V_{t+1} - V_t|.

    Args:
        rewards: Reward of each step, shape (T,).
        values: Value before each step, shape (T,).
        gamma: Discount.
        final_value: Value after the last step. None leaves the last step out, as the reference does for an
            episode's end.

    Returns:
        Shape (T,), or (T - 1,) without `final_value`.
    """
    before = np.asarray(values, np.float64)
    gains = np.asarray(rewards, np.float64)
    if final_value is None:
        return np.abs(gains[:-1] + gamma * before[1:] - before[:-1])
    return np.abs(gains + gamma * np.append(before[1:], final_value) - before)


def max_mc(values: ArrayLike, best_return: float) -> Floats:
    """Best return ever seen on the level minus the value, Rmax - V_t; also `grounded_signed_value_loss`."""
    return best_return - np.asarray(values, np.float64)


def grounded_positive_value_loss(values: ArrayLike, best_return: float) -> Floats:
    """`max_mc` where it is positive, max(0, Rmax - V_t)."""
    return np.maximum(max_mc(values, best_return), 0.0)


def alt_advantage_abs(alternative_returns: ArrayLike, values: ArrayLike) -> Floats:
    """|R'_t - V_t|: a second critic's lambda-returns against the first critic's values."""
    return np.abs(np.asarray(alternative_returns, np.float64) - np.asarray(values, np.float64))


def policy_entropy(action_probs: ArrayLike) -> Floats:
    """Entropy of the policy as a share of the largest possible, H(pi) / log(A); 0 where there is one action.

    Args:
        action_probs: Shape (T, A).
    """
    probs = np.asarray(action_probs, np.float64)
    if probs.shape[-1] == 1:
        return np.zeros(len(probs))
    logs = np.log(np.where(probs > 0.0, probs, 1.0))
    entropies: Floats = -(probs * logs).sum(axis=-1) / np.log(probs.shape[-1])
    return entropies


def least_confidence(action_probs: ArrayLike) -> Floats:
    """1 minus the probability of the most likely action.

    Args:
        action_probs: Shape (T, A).
    """
    lacks: Floats = 1.0 - np.asarray(action_probs, np.float64).max(axis=-1)
    return lacks


def min_margin(action_probs: ArrayLike) -> Floats:
    """1 minus the margin of the most likely action over the second; 0 where there is one action.

    Args:
        action_probs: Shape (T, A).
    """
    probs = np.sort(np.asarray(action_probs, np.float64), axis=-1)
    second = probs[..., -2] if probs.shape[-1] > 1 else 0.0
    margins: Floats = 1.0 - (probs[..., -1] - second)
    return margins


def value_disagreement(values: ArrayLike) -> Floats:
    """Population standard deviation of an ensemble of critics' values.

    Args:
        values: Shape (T, E), a column for each critic.
    """
    deviations: Floats = np.asarray(values, np.float64).std(axis=-1)
    return deviations


def relative_regret(antagonist_returns: ArrayLike, protagonist_returns: ArrayLike) -> float:
    """max(0, best return of the antagonist - mean return of the protagonist), PAIRED's estimate of regret.

    Args:
        antagonist_returns: Undiscounted episode returns on the level, shape (m,).
        protagonist_returns: Undiscounted episode returns on the level, shape (n,).
    """
    return max(
        0.0, float(np.max(antagonist_returns)) - float(np.mean(np.asarray(protagonist_returns, np.float64)))
    )


def population_regret(returns: ArrayLike) -> float:
    """Best return of any member of a population minus the mean over members of their mean returns.

    Args:
        returns: Undiscounted episode returns on the level, shape (members, episodes).
    """
    table = np.asarray(returns, np.float64)
    return float(table.max() - table.mean(axis=1).mean())


def learnability(success_rate: ArrayLike) -> Floats:
    """The variance of success, p * (1 - p): highest where the outcome is a coin flip."""
    rate = np.asarray(success_rate, np.float64)
    variance: Floats = rate * (1.0 - rate)
    return variance


def tscl_window(returns: ArrayLike) -> float:
    """|slope| of the least-squares line through the returns of the latest visits; 0 before there are two.

    Args:
        returns: Episode returns in order, shape (w,).
    """
    gains = np.asarray(returns, np.float64)
    if len(gains) < 2:
        return 0.0
    visits = np.arange(len(gains)) - (len(gains) - 1) / 2.0
    return abs(float((visits * gains).sum() / (visits * visits).sum()))

"""Generalised advantage estimation (Schulman et al., 2016) over a rollout of many environments."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["advantages"]

Floats = NDArray[np.float32]


def advantages(
    rewards: Floats,
    values: Floats,
    dones: NDArray[np.bool_],
    last_values: Floats,
    gamma: float,
    gae_lambda: float,
) -> Floats:
    """A_t = sum over l of (gamma * lambda)^l * delta_{t+l}, with delta_t = r_t + gamma V_{t+1} - V_t.

    Sums stop at the end of an episode, which is worth nothing; where an episode was truncated, the caller adds
    gamma times the value of its last observation to the last reward.

    Args:
        rewards: float32 (T, E).
        values: float32 (T, E), of the observations before each step.
        dones: bool (T, E), whether the episode ended with the step.
        last_values: float32 (E,), of the observations after the last step.
        gamma: Discount.
        gae_lambda: Trace decay.

    Returns:
        float32 (T, E); adding `values` gives the returns to fit the critic to.
    """
    out = np.zeros_like(rewards)
    trace = np.zeros_like(last_values)
    following = last_values
    for t in range(len(rewards) - 1, -1, -1):
        goes_on = (~dones[t]).astype(np.float32)
        delta = rewards[t] + gamma * following * goes_on - values[t]
        trace = delta + gamma * gae_lambda * goes_on * trace
        out[t] = trace
        following = values[t]
    return out

"""Generalised advantage estimation (Schulman et al., 2016) over a rollout of many streams."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["advantages"]

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


def advantages(
    rewards: Floats,
    values: Floats,
    dones: Bools,
    last_values: Floats,
    gamma: float,
    gae_lambda: float,
    valid: Bools | None = None,
    starts: Bools | None = None,
) -> Floats:
    """A_t = sum over l of (gamma * lambda)^l * delta_{t+l}, with delta_t = r_t + gamma V_{t+1} - V_t.

    Sums stop at the end of an episode, which is worth nothing; where an episode was truncated, the caller adds
    gamma times the value of its last observation to the last reward.

    With `valid`, t + 1 is the stream's next step at which it acts: what it is paid and whether its episode ends while
    it does not act, in the turns of others or after its death, counts as the outcome of its last act, undiscounted.
    What comes before its first act has no act to go to and is left out.

    Args:
        rewards: float32 (T, S).
        values: float32 (T, S), of the observations before each step.
        dones: bool (T, S), whether the episode ended with the step.
        last_values: float32 (S,), of the observations after the last step.
        gamma: Discount.
        gae_lambda: Trace decay.
        valid: bool (T, S), whether the stream acted; None where all always do.
        starts: bool (T, S), whether the step is the first of an episode. With `valid`, it keeps what is paid in an
            episode before a stream's first act from the last act of the episode before. None knows no such steps.

    Returns:
        float32 (T, S), 0 where a stream did not act; adding `values` gives the returns to fit the critic to.
    """
    out = np.zeros_like(rewards)
    trace = np.zeros_like(last_values)
    following = last_values
    if valid is None:
        for t in range(len(rewards) - 1, -1, -1):
            trace = _estimate(rewards[t], values[t], dones[t], following, trace, gamma, gae_lambda)
            out[t] = trace
            following = values[t]
        return out
    paid, over = np.zeros_like(last_values), np.zeros(last_values.shape, np.bool_)
    for t in range(len(rewards) - 1, -1, -1):
        acts = valid[t]
        paid, over = paid + rewards[t], over | dones[t]
        new = _estimate(paid, values[t], over, following, trace, gamma, gae_lambda)
        trace, following = np.where(acts, new, trace), np.where(acts, values[t], following)
        out[t] = np.where(acts, new, 0.0)
        # An episode that began here has nothing to do with what the stream did before.
        fresh = acts if starts is None else acts | starts[t]
        paid, over = np.where(fresh, np.float32(0), paid), over & ~acts
        if starts is not None:
            over |= starts[t]
    return out


def _estimate(
    rewards: Floats,
    values: Floats,
    dones: Bools,
    following: Floats,
    trace: Floats,
    gamma: float,
    gae_lambda: float,
) -> Floats:
    goes_on = (~dones).astype(np.float32)
    delta = rewards + gamma * following * goes_on - values
    return np.asarray(delta + gamma * gae_lambda * goes_on * trace, np.float32)

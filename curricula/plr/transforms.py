"""From scores to probabilities: the formulas of Prioritized Level Replay on whole arrays.

They are the definition: `macurr.curricula.plr.priorities` draws from the same distributions one change at a
time, and its tests compare the two. Jiang et al., "Prioritized Level Replay" (2021), equations 1 to 3, and
the reference code's further transforms. They are applied to the levels that have been seen, and to those
alone: the reference ranks all levels with 0 for the unseen, which puts unseen levels before those with
negative scores.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from macurr.errors import UsageError

Floats = NDArray[np.float64]

SCORE_TRANSFORMS = ("rank", "power", "softmax", "eps_greedy", "max", "constant", "match", "match_rank")
STALENESS_TRANSFORMS = ("power", "rank", "softmax", "eps_greedy", "max", "constant")


def descending_ranks(keys: ArrayLike) -> NDArray[np.int64]:
    """The rank of each key, 1 for the highest, ties by position: the order is the same on every machine."""
    order = np.argsort(-np.asarray(keys, np.float64), kind="stable")
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(1, len(order) + 1)
    return ranks


def transform(
    scores: ArrayLike, name: str, *, temperature: float = 1.0, eps: float = 0.05, offset: float = 0.0
) -> Floats:
    """Probabilities proportional to a transform of the scores.

    | name | weight of score S |
    |---|---|
    | rank | (1 / rank) ** (1 / temperature) |
    | power | (max(S, 0) + offset) ** (1 / temperature) |
    | softmax | exp(S / temperature) |
    | eps_greedy | 1 - eps for the first of the highest, and eps / n for each |
    | max | 1 for each of the highest |
    | constant | 1 |
    | match | (S * (1 - S)) ** (1 / temperature), 0 where S is outside (0, 1) |
    | match_rank | rank of S * (1 - S) |

    Args:
        scores: Scores of the seen levels, shape (n,).
        name: One of the names above.
        temperature: Positive.
        eps: Share of `eps_greedy` that is uniform.
        offset: What `power` adds.

    Returns:
        Probabilities, shape (n,), uniform where every weight is 0.

    Raises:
        UsageError: there is no such transform.
    """
    values = np.asarray(scores, np.float64)
    if name not in SCORE_TRANSFORMS:
        raise UsageError(f"There is no transform {name!r}; choose one of {', '.join(SCORE_TRANSFORMS)}.")
    if len(values) == 0:
        empty: Floats = values.copy()
        return empty
    if name in ("rank", "match_rank"):
        weights = descending_ranks(values if name == "rank" else values * (1.0 - values)) ** (
            -1.0 / temperature
        )
    elif name == "eps_greedy":
        weights = np.full(len(values), eps / len(values))
        weights[np.argmax(values)] += 1.0 - eps
    elif name in ("max", "constant"):
        weights = (values == values.max()).astype(np.float64) if name == "max" else np.ones(len(values))
    else:
        logs = log_weights(values, name, temperature=temperature, offset=offset)
        weights = np.exp(logs - logs.max()) if logs.max() > -np.inf else np.ones(len(values))
    probabilities: Floats = weights / weights.sum()
    return probabilities


def log_weights(scores: ArrayLike, name: str, *, temperature: float, offset: float = 0.0) -> Floats:
    """Logarithms of the weights of `power`, `softmax` and `match`: cold temperatures overflow without them.

    Args:
        scores: Shape (n,).
        name: "power", "softmax" or "match".
        temperature: Positive.
        offset: What `power` adds.
    """
    values = np.asarray(scores, np.float64)
    if name == "softmax":
        exponents: Floats = values / temperature
        return exponents
    base = np.maximum(values, 0.0) + offset if name == "power" else np.maximum(values * (1.0 - values), 0.0)
    logs: Floats = np.full(len(values), -np.inf)
    np.log(base, out=logs, where=base > 0.0)
    logs /= temperature
    return logs


def mix(score_probs: ArrayLike, staleness_probs: ArrayLike, staleness_coef: float) -> Floats:
    """The replay distribution, (1 - c) * P_S + c * P_C (equation 3, where c is rho)."""
    mixed: Floats = (1.0 - staleness_coef) * np.asarray(score_probs) + staleness_coef * np.asarray(
        staleness_probs
    )
    return mixed

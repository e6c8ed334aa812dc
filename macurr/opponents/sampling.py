"""Prioritised fictitious self-play: how likely each opponent is, given how often it is beaten."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from operator import add
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from macurr.errors import TaskError, UsageError

__all__ = ["WEIGHTINGS", "pfsp_weights"]

Weighting = Callable[[NDArray[np.float64], float], NDArray[np.float64]]

WEIGHTINGS = MappingProxyType[str, Weighting](
    {
        "hard": lambda x, power: (1.0 - x) ** power,
        "easy": lambda x, power: x**power,
        "variance": lambda x, _: x * (1.0 - x),
        "linear": lambda x, _: 1.0 - x,
        "linear_capped": lambda x, _: np.minimum(0.5, 1.0 - x),
        "squared": lambda x, _: (1.0 - x) ** 2,
    }
)
"""The weightings f(x, power) by name; x is the chance of beating an opponent."""

_PLAIN: dict[tuple[object, float], Callable[[float], float]] = {
    ("hard", 1.0): lambda x: 1.0 - x,
    ("hard", 2.0): lambda x: (1.0 - x) * (1.0 - x),
    ("easy", 1.0): lambda x: x,
    ("easy", 2.0): lambda x: x * x,
    ("variance", 0.0): lambda x: x * (1.0 - x),
    ("linear", 0.0): lambda x: 1.0 - x,
    ("linear_capped", 0.0): lambda x: min(0.5, 1.0 - x),
    ("squared", 0.0): lambda x: (1.0 - x) * (1.0 - x),
}
"""Those that plain floats give to the last bit, by name and power."""


def pfsp_weights(
    win_rates: ArrayLike,
    weighting: str | Callable[[NDArray[np.float64]], ArrayLike] = "hard",
    power: float = 2.0,
) -> NDArray[np.float64]:
    """The probability of each opponent, in proportion to f(x), where x is the chance of beating it.

    | weighting | f(x) | prefers | also known as |
    |---|---|---|---|
    | `"hard"` | (1 - x)^power | who beats us | f_hard (Vinyals et al. 2019) |
    | `"easy"` | x^power | whom we beat | f_easy |
    | `"variance"` | x (1 - x) | equals | f_var; learnability |
    | `"linear"` | 1 - x | who beats us | f_hard with power 1 |
    | `"linear_capped"` | min(1/2, 1 - x) | whom we do not beat yet | AlphaStar's league exploiters |
    | `"squared"` | (1 - x)^2 | who beats us | f_hard with power 2: AlphaStar's main agents |

    Where all f(x) vanish (their sum is below 1e-10: with "hard", everyone is always beaten), the answer is uniform.

    Args:
        win_rates: Chance of beating each opponent, shape (n,), draws counted half; 0.5 before any game.
        weighting: A name of the table, or a function from x (n,) to weights (n,).
        power: The exponent of "hard" and "easy"; the others have none.

    Returns:
        Probabilities, shape (n,).

    Raises:
        UsageError: the weighting is unknown, the power is not positive, or there is no opponent.
        TaskError: a win rate is not a number between 0 and 1, or a weight is negative or not finite.
    """
    x = np.asarray(win_rates, dtype=np.float64)
    if x.ndim != 1 or x.size == 0:
        raise UsageError(
            f"pfsp_weights needs one win rate for each opponent; got an array of shape {x.shape}."
        )
    if not ((x >= 0) & (x <= 1)).all():
        raise TaskError(f"Win rates are numbers from 0 to 1; got {x[~((x >= 0) & (x <= 1))][0]}.")
    weights = _weights(x, weighting, power)
    total = weights.sum()
    return weights / total if total >= 1e-10 else np.full(len(x), 1.0 / len(x))


def plain_weights(win_rates: Sequence[float], weighting: object, power: float) -> list[float] | None:
    """`pfsp_weights` of a few win rates, to the last bit, at a fraction of the cost of that many NumPy calls.

    Args:
        win_rates: Numbers from 0 to 1, at least one.
        weighting: As for `pfsp_weights`.
        power: The exponent of "hard" and "easy".

    Returns:
        None where NumPy's powers, or the user's function, are wanted.
    """
    if not isinstance(weighting, str):
        return None
    plain = _PLAIN.get((weighting, power if weighting in ("hard", "easy") else 0.0))
    if plain is None:
        return None
    weights = [plain(x) for x in win_rates]
    n = len(weights)
    # NumPy's order of adding up, which is the plain one for fewer than eight.
    total = reduce(add, weights) if n < 8 else float(np.add.reduce(weights))
    return [weight / total for weight in weights] if total >= 1e-10 else [1.0 / n] * n


def check_weighting(weighting: object, power: float) -> None:
    """Check that `pfsp_weights` would take these options.

    Raises:
        UsageError: it would not.
    """
    if not callable(weighting) and weighting not in WEIGHTINGS:
        raise UsageError(
            f"The weighting {weighting!r} is unknown. Use one of {sorted(WEIGHTINGS)}, or a function of the win rates."
        )
    if not 0 < power < np.inf:
        raise UsageError(f"The power of a weighting must be positive and finite; got {power}.")


def _weights(
    x: NDArray[np.float64], weighting: str | Callable[[NDArray[np.float64]], ArrayLike], power: float
) -> NDArray[np.float64]:
    check_weighting(weighting, power)
    if isinstance(weighting, str):
        return WEIGHTINGS[weighting](x, power)
    weights = np.asarray(weighting(x), dtype=np.float64)
    if weights.shape != x.shape or not np.isfinite(weights).all() or (weights < 0).any():
        raise TaskError(
            f"The weighting {weighting!r} returned {weights!r}. It must return one finite weight of at least 0 "
            f"for each of the {len(x)} win rates."
        )
    return weights

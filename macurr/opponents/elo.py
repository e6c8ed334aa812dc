"""Elo ratings of a whole table of results at once: the same in whatever order the games were played."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from macurr.errors import SolverError, UsageError

__all__ = ["RatingTable", "elo_ratings"]


class RatingTable(NamedTuple):
    """Ratings with their confidence intervals, each of shape (n,)."""

    ratings: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def elo_ratings(
    points: ArrayLike,
    *,
    prior_games: float = 1.0,
    mean: float = 1500.0,
    scale: float = 400.0,
    confidence: float = 0.95,
) -> RatingTable:
    """Elo ratings of greatest likelihood: the same in whatever order the games were played.

    Maximises the likelihood of the model P(i beats j) = 1 / (1 + 10^((r_j - r_i) / scale)) (Bradley and Terry
    1952), a draw counting as half a win and half a loss, by Newton's method. Intervals come from the Fisher
    information, for each rating relative to the mean of all.

    Args:
        points: Shape (n, n); entry (i, j) is what i scored against j: wins plus half the draws (`Payoffs.points`).
        prior_games: Virtual draws of everyone against a player of mean rating. They keep the rating of one who
            always won finite. At least 0.001, or 0 for the pure likelihood.
        mean: The mean of the ratings.
        scale: Rating points for odds of ten to one.
        confidence: Coverage of the intervals, in (0, 1).

    Returns:
        A `RatingTable`.

    Raises:
        SolverError: the points are no square matrix of finite numbers of at least 0; or, with `prior_games=0`,
            some players never took a point from the others, so that their ratings are infinite.
        UsageError: an option is out of range.
    """
    table = _checked_points(points)
    if not (prior_games == 0 or 1e-3 <= prior_games < math.inf) or not scale > 0:
        raise UsageError(
            f"prior_games must be 0 or at least 0.001, and scale positive; got {prior_games} and {scale}."
        )
    if prior_games == 0:
        _check_connected(table)
    theta = _fit(table, prior_games)
    unit = scale / math.log(10.0)
    reach = quantile(confidence) * unit * np.sqrt(_variances(theta, table, prior_games))
    ratings = mean + unit * (theta - theta.mean())
    return RatingTable(ratings, ratings - reach, ratings + reach)


def quantile(confidence: float) -> float:
    """How many standard deviations the central interval of a normal belief reaches to each side.

    Raises:
        UsageError: `confidence` is out of range.
    """
    if not 0 < confidence < 1:
        raise UsageError(f"confidence must be between 0 and 1; got {confidence}.")
    return NormalDist().inv_cdf((1 + confidence) / 2)


def _checked_points(points: ArrayLike) -> NDArray[np.float64]:
    table = np.array(points, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] != table.shape[1] or table.size == 0:
        raise SolverError(f"Points need one row and one column for each player; got shape {table.shape}.")
    if not (np.isfinite(table).all() and (table >= 0).all()):
        raise SolverError("Points are finite numbers of at least 0: wins plus half the draws.")
    np.fill_diagonal(table, 0.0)
    return table


def _check_connected(table: NDArray[np.float64]) -> None:
    """Ratings are finite exactly when everyone has, along some chain, taken points from everyone (Ford 1957)."""
    reach = (table > 0) | np.eye(len(table), dtype=bool)
    for _ in range(max(1, math.ceil(math.log2(len(table))))):
        reach = (reach.astype(np.float64) @ reach) > 0
    if not reach.all():
        winner, loser = (int(i) for i in np.argwhere(~reach.T)[0])
        raise SolverError(
            f"Player {loser} never took a point from player {winner}, nor through others, so their ratings are "
            "infinitely far apart. Play more games, or set prior_games above 0."
        )


def _fit(table: NDArray[np.float64], prior: float) -> NDArray[np.float64]:
    games = table + table.T
    theta = np.zeros(len(table))

    def likelihood(theta: NDArray[np.float64]) -> float:
        # log of the logistic function: -log(1 + e^-d)
        chances = np.logaddexp(0.0, theta[None, :] - theta[:, None])
        return -float(
            (table * chances).sum() + prior / 2 * (np.logaddexp(0, theta) + np.logaddexp(0, -theta)).sum()
        )

    for _ in range(200):
        expected = _logistic(theta[:, None] - theta[None, :])
        gradient = (table - games * expected).sum(axis=1) + prior * (0.5 - _logistic(theta))
        step = np.linalg.solve(_information(theta, games, prior), gradient)
        if np.abs(step).max() < 1e-12:
            return theta
        length = 1.0
        while length > 1e-9 and likelihood(theta + length * step) < likelihood(theta) - 1e-12 * games.sum():
            length /= 2.0
        theta = theta + length * step
        theta -= theta.mean() if prior == 0 else 0.0
    raise SolverError("The Elo ratings did not converge in 200 Newton steps. Set prior_games to 1 or more.")


def _logistic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.5 * (1.0 + np.tanh(0.5 * x))  # the same as 1 / (1 + e^-x), and cannot overflow


def _information(theta: NDArray[np.float64], games: NDArray[np.float64], prior: float) -> NDArray[np.float64]:
    """The Fisher information, made regular along the direction in which all ratings shift together."""
    chance, against_mean = _logistic(theta[:, None] - theta[None, :]), _logistic(theta)
    spread = games * chance * (1.0 - chance)
    own = spread.sum(axis=1) + prior * against_mean * (1.0 - against_mean)
    return np.diag(own) - spread + (np.full_like(games, 1.0 / len(games)) if prior == 0 else 0.0)


def _variances(theta: NDArray[np.float64], table: NDArray[np.float64], prior: float) -> NDArray[np.float64]:
    """Variances of the ratings less their mean."""
    centre = np.eye(len(theta)) - 1.0 / len(theta)
    covariance = centre @ np.linalg.inv(_information(theta, table + table.T, prior)) @ centre
    return np.maximum(np.diag(covariance), 0.0)

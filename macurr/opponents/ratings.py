"""Ratings: one number for each player, with an interval.

A single number cannot show cycles (A beats B beats C beats A): look at `nash_averaging` or the matrix beside it.
`elo_ratings` fits a whole table at once and does not depend on the order of games, which suits reports; `EloRatings`
and `BayesianRatings` follow games as they come.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from macurr.errors import MissingDependencyError, SolverError, StateError, TaskError, UsageError
from macurr.opponents.payoffs import PlayerKey, as_key

try:
    from openskill import models as _openskill
except ImportError:  # the extra is not installed; BayesianRatings says so when it is made
    _openskill = None

__all__ = ["BayesianRatings", "EloRatings", "RatingTable", "SkillRating", "elo_ratings"]

_MODELS = {
    "plackett_luce": "PlackettLuce",
    "bradley_terry": "BradleyTerryFull",
    "thurstone_mosteller": "ThurstoneMostellerFull",
}


class RatingTable(NamedTuple):
    """Ratings with their confidence intervals, each of shape (n,)."""

    ratings: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


class SkillRating(NamedTuple):
    """A normal belief about a player's skill."""

    mu: float
    sigma: float

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """The central interval that holds the skill with probability `confidence`."""
        reach = _quantile(confidence) * self.sigma
        return self.mu - reach, self.mu + reach


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
    reach = _quantile(confidence) * unit * np.sqrt(_variances(theta, table, prior_games))
    ratings = mean + unit * (theta - theta.mean())
    return RatingTable(ratings, ratings - reach, ratings + reach)


class EloRatings:
    """Elo ratings that follow the games as they come.

    After each game a rating moves by k * (score - expected score), expected = 1 / (1 + 10^((other - own) / scale)).

    Args:
        k: The largest change by one game, in rating points.
        initial: The rating of a player before its first game.
        scale: Rating points for odds of ten to one.

    Raises:
        UsageError: `k` or `scale` is not positive.
    """

    def __init__(self, k: float = 32.0, initial: float = 1500.0, scale: float = 400.0) -> None:
        if not k > 0 or not scale > 0:
            raise UsageError(f"k and scale must be positive; got k={k} and scale={scale}.")
        self.k = k
        self.initial = initial
        self.scale = scale
        self._ratings: dict[PlayerKey, float] = {}

    def record(self, row: PlayerKey, column: PlayerKey, outcome: float) -> None:
        """Count one game in: positive where `row` won, 0 for a draw, negative where `column` won.

        Raises:
            TaskError: the outcome is not a number, or both players are the same.
        """
        row, column, score = _checked_game(row, column, outcome)
        change = self.k * (score - self.expected(row, column))
        self._ratings[row] = self.rating(row) + change
        self._ratings[column] = self.rating(column) - change

    def rating(self, key: PlayerKey) -> float:
        """A player's rating."""
        return self._ratings.get(key, self.initial)

    def expected(self, row: PlayerKey, column: PlayerKey) -> float:
        """The expected score of `row` against `column`, from 0 to 1."""
        # Beyond 300 powers of ten the answer is 0 or 1 to the last digit, and the power would overflow.
        exponent = (self.rating(column) - self.rating(row)) / self.scale
        return 1.0 / (1.0 + math.pow(10.0, min(max(exponent, -300.0), 300.0)))

    def state_dict(self) -> dict[str, Any]:
        """All ratings, as plain values."""
        return {"keys": _plain_keys(self._ratings), "ratings": list(self._ratings.values())}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()`.

        Raises:
            StateError: the state is not one of `EloRatings`; nothing is changed.
        """
        self._ratings = dict(zip(*_columns(state, "ratings"), strict=True))


class BayesianRatings:
    """Skill as a normal belief that each game narrows (Weng and Lin 2011), by the openskill library.

    Takes games of two players, of teams and of many sides.

    Args:
        model: "plackett_luce", "bradley_terry" or "thurstone_mosteller".
        mu: Mean skill of a player before its first game.
        sigma: Standard deviation of that belief.

    Raises:
        MissingDependencyError: openskill is not installed.
        UsageError: there is no such model, or `sigma` is not positive.
    """

    def __init__(self, model: str = "plackett_luce", *, mu: float = 25.0, sigma: float = 25.0 / 3.0) -> None:
        if _openskill is None:
            raise MissingDependencyError.for_extra("openskill", "ratings", "BayesianRatings")
        if model not in _MODELS or not sigma > 0:
            raise UsageError(
                f"model must be one of {sorted(_MODELS)} and sigma positive; got {model!r} and {sigma}."
            )
        self.model = model
        self.initial = SkillRating(mu, sigma)
        self._model: Any = getattr(_openskill, _MODELS[model])(mu=mu, sigma=sigma)
        self._ratings: dict[PlayerKey, SkillRating] = {}

    def record(self, row: PlayerKey, column: PlayerKey, outcome: float) -> None:
        """Count one game in: positive where `row` won, 0 for a draw, negative where `column` won.

        Raises:
            TaskError: the outcome is not a number, or both players are the same.
        """
        row, column, score = _checked_game(row, column, outcome)
        self.record_match([[row], [column]], [score, 1.0 - score])

    def record_match(self, teams: Sequence[Sequence[PlayerKey]], scores: Sequence[float]) -> None:
        """Count in one game between any number of teams of any size.

        Args:
            teams: The players of each team.
            scores: Each team's score; the greatest wins, equal ones draw.

        Raises:
            TaskError: there are fewer than two teams, one is empty, a player appears twice, or a score is not a
                finite number.
        """
        teams = [[as_key(key) for key in team] for team in teams]
        players = [key for team in teams for key in team]
        if len(teams) < 2 or not all(teams) or len(set(players)) < len(players):
            raise TaskError(f"A match needs two or more teams, each with players of its own; got {teams!r}.")
        if len(scores) != len(teams) or not all(math.isfinite(score) for score in scores):
            raise TaskError(f"A match needs one finite score for each of {len(teams)} teams; got {scores!r}.")
        before = [[self._model.rating(*self.rating(key)) for key in team] for team in teams]
        after = self._model.rate(before, scores=[float(score) for score in scores])
        for team, beliefs in zip(teams, after, strict=True):
            self._ratings.update(
                (key, SkillRating(b.mu, b.sigma)) for key, b in zip(team, beliefs, strict=True)
            )

    def rating(self, key: PlayerKey) -> SkillRating:
        """The belief about a player's skill; `interval` gives its bounds."""
        return self._ratings.get(key, self.initial)

    def expected(self, row: PlayerKey, column: PlayerKey) -> float:
        """The chance that `row` beats `column`, from 0 to 1."""
        return float(
            self._model.predict_win([[self._model.rating(*self.rating(key))] for key in (row, column)])[0]
        )

    def state_dict(self) -> dict[str, Any]:
        """All beliefs, as plain values."""
        return {
            "keys": _plain_keys(self._ratings),
            "beliefs": [list(belief) for belief in self._ratings.values()],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()`.

        Raises:
            StateError: the state is not one of `BayesianRatings`; nothing is changed.
        """
        keys, beliefs = _columns(state, "beliefs")
        if beliefs.shape[1:] != (2,) or not (beliefs[:, 1] > 0).all():
            raise StateError(
                "The state of BayesianRatings needs a mean and a positive deviation for each player."
            )
        self._ratings = {
            key: SkillRating(*belief) for key, belief in zip(keys, beliefs.tolist(), strict=True)
        }


def _checked_game(row: PlayerKey, column: PlayerKey, outcome: float) -> tuple[PlayerKey, PlayerKey, float]:
    """The players' plain keys, and the first one's score: 1, 1/2 or 0."""
    row, column = as_key(row), as_key(column)
    if row == column or math.isnan(outcome):
        raise TaskError(f"A game needs two players and an outcome; got {row!r}, {column!r} and {outcome!r}.")
    return row, column, 0.5 + 0.5 * (int(outcome > 0) - int(outcome < 0))


def _quantile(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise UsageError(f"confidence must be between 0 and 1; got {confidence}.")
    return NormalDist().inv_cdf((1 + confidence) / 2)


def _plain_keys(keys: Mapping[PlayerKey, Any]) -> list[Any]:
    return [list(key) if isinstance(key, tuple) else key for key in keys]


def _columns(state: Mapping[str, Any], values: str) -> tuple[list[PlayerKey], NDArray[np.float64]]:
    try:
        keys = [tuple(key) if isinstance(key, list) else key for key in state["keys"]]
        column = np.array(state[values], dtype=np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise StateError(f"The state of these ratings needs keys and {values}: {error!r}.") from error
    if len(set(keys)) != len(keys) or len(column) != len(keys) or not np.isfinite(column).all():
        raise StateError(f"The state of these ratings needs one finite entry of {values} for each key.")
    return keys, column


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

"""Ratings that follow games as they come: one number for each player, or a belief about it.

A single number cannot show cycles (A beats B beats C beats A): look at `nash_averaging` or the matrix beside it.
`macurr.opponents.elo_ratings` fits a whole table at once and does not depend on the order of games, which suits
reports.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from macurr.errors import MissingDependencyError, StateError, TaskError, UsageError
from macurr.opponents.elo import quantile
from macurr.opponents.payoffs import PlayerKey, as_key

try:
    from openskill import models as _openskill
except ImportError:  # the extra is not installed; BayesianRatings says so when it is made
    _openskill = None

__all__ = ["BayesianRatings", "EloRatings", "SkillRating"]

_MODELS = {
    "plackett_luce": "PlackettLuce",
    "bradley_terry": "BradleyTerryFull",
    "thurstone_mosteller": "ThurstoneMostellerFull",
}


class SkillRating(NamedTuple):
    """A normal belief about a player's skill."""

    mu: float
    sigma: float

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """The central interval that holds the skill with probability `confidence`."""
        reach = quantile(confidence) * self.sigma
        return self.mu - reach, self.mu + reach


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

"""What a matrix of results makes of its players: ratings, and what ratings cannot show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from macurr.errors import MissingDependencyError, SolverError
from macurr.opponents import BayesianRatings, alpha_rank, elo_ratings, nash_averaging
from macurr.training.scoring import wilson

__all__ = ["Results", "Standings", "cycles_of", "standings_of"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Results:
    """Outcomes of a cross-play, in which a level counts once for each pair however many seats there are.

    Attributes:
        pairs: (a player's place, the other's), each met pair in one order or both.
        scores: float64 (pairs, levels), the first one's mean score over the seats, 0 to 1.
        players: Number of players, n.
    """

    pairs: tuple[tuple[int, int], ...]
    scores: Floats
    players: int

    @property
    def levels(self) -> int:
        """Number of levels."""
        return int(self.scores.shape[1])

    def advantage(self) -> Floats:
        """Mean score of the row against the column, (n, n): those of both orders averaged, 1/2 on the diagonal."""
        total = np.zeros((self.players, self.players))
        count = np.zeros_like(total)
        for (i, j), mean in zip(self.pairs, self.scores.mean(axis=1), strict=True):
            total[i, j] += mean
            total[j, i] += 1.0 - mean
            count[i, j] += 1
            count[j, i] += 1
        return np.where(count > 0, total / np.maximum(count, 1), 0.5)


@dataclass(frozen=True)
class Standings:
    """Numbers of each player, (n,) each; None where they are not to be had, and why is in the notes.

    Attributes:
        elo: Elo ratings of greatest likelihood.
        elo_low: Lower ends of their 95 % intervals.
        elo_high: Upper ends.
        skill: Mean of the Bayesian belief about each player.
        skill_low: Lower ends of the central 95 %.
        skill_high: Upper ends.
        nash: Weights of the Nash equilibrium of greatest entropy.
        masses: Masses of alpha-rank.
        notes: Why something is missing.
    """

    elo: Floats
    elo_low: Floats
    elo_high: Floats
    skill: Floats | None
    skill_low: Floats | None
    skill_high: Floats | None
    nash: Floats | None
    masses: Floats | None
    notes: tuple[str, ...]


def standings_of(results: Results, seed: int) -> Standings:
    """Rate the players.

    Args:
        results: What was played.
        seed: Seed of the order in which games reach the Bayesian ratings.
    """
    notes: list[str] = []
    advantage = results.advantage()
    points = results.levels * advantage
    np.fill_diagonal(points, 0.0)
    elo = elo_ratings(points)
    skills = _skills(results, seed, notes)
    skill, low, high = (None, None, None) if skills is None else skills.T
    # To the last digit what one wins the other loses: a half of a difference, not a difference to a half.
    nash, masses = _population((advantage - advantage.T) / 2, notes)
    return Standings(elo.ratings, elo.low, elo.high, skill, low, high, nash, masses, tuple(notes))


def cycles_of(results: Results) -> list[tuple[int, int, int]]:
    """Triples of which each beats the next and the last the first, every score clear of 1/2 at 95 %; closest last.

    Args:
        results: What was played.
    """
    advantage = results.advantage()
    beats = np.array([[wilson(score, results.levels)[0] > 0.5 for score in row] for row in advantage])
    found = []
    for i in range(results.players):
        for j in np.flatnonzero(beats[i]):
            # Each cycle once, from its first player.
            found += [(i, int(j), int(k)) for k in np.flatnonzero(beats[j] & beats[:, i]) if i < min(j, k)]
    return sorted(
        found, key=lambda c: -min(advantage[c[0], c[1]], advantage[c[1], c[2]], advantage[c[2], c[0]])
    )


def _skills(results: Results, seed: int, notes: list[str]) -> Floats | None:
    """Mean, lower and upper end for each player, (n, 3)."""
    try:
        ratings = BayesianRatings()
    except MissingDependencyError as error:
        notes.append(f"{error}.")
        return None
    # The last games weigh most, so none may come last by its level or pair.
    order = np.random.default_rng(seed).permutation(results.scores.size)
    flat = results.scores.ravel()
    for number in order.tolist():
        i, j = results.pairs[number // results.levels]
        ratings.record(i, j, float(flat[number] - 0.5))
    beliefs = [ratings.rating(i) for i in range(results.players)]
    return np.array([(belief.mu, *belief.interval()) for belief in beliefs])


def _population(payoffs: Floats, notes: list[str]) -> tuple[Floats | None, Floats | None]:
    """Nash averaging's weights and alpha-rank's masses."""
    nash: Floats | None = None
    try:
        nash = nash_averaging(payoffs).rows
    except SolverError as error:
        notes.append(f"Nash averaging found no solution: {error}")
    masses: Floats | None = None
    try:
        masses = alpha_rank(payoffs)
    except SolverError as error:
        notes.append(f"Alpha-rank found no solution: {error}")
    return nash, masses

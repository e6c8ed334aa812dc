"""Alpha-rank: strategies ranked by how long evolution stays with them (Omidshafiei et al. 2019)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from macurr.errors import SolverError
from macurr.opponents.games import Game, as_game

__all__ = ["alpha_rank", "marginals"]


def alpha_rank(
    payoffs: ArrayLike,
    *,
    alpha: float = 1.0,
    population: int = 50,
    local_selection: bool = True,
    epsilon: float = 0.01,
) -> NDArray[np.float64]:
    """The stationary distribution of the Markov chain of alpha-rank.

    One population (a symmetric game) moves between its strategies; several populations move between joint
    profiles, one population at a time. A mutant r takes over a population of m players of s with the fixation
    probability (1 - e^-u) / (1 - e^-mu), u = alpha * (fitness of r - fitness of s), or 1/m where u is 0. The
    chain is solved in the log domain by the elimination of Grassmann, Taksar and Heyman (1985), which subtracts
    nothing: large `alpha` and nearly separate cycles do no harm.

    Args:
        payoffs: One square matrix whose entry (i, j) is what i earns against j in a symmetric game; or a payoff
            array for each player, as `as_game` takes it.
        alpha: Intensity of selection. `math.inf` is the limit in which better replies always win, perturbed by
            `epsilon` so that the chain stays irreducible.
        population: Players in each population (m).
        local_selection: For one population: whether a mutant's fitness is its payoff against the resident only,
            or its mean payoff in the whole population.
        epsilon: With `alpha=math.inf`, the chance of a step to a worse reply (a better one has 1 - epsilon, an
            equal one half).

    Returns:
        Probabilities: of shape (n,) for one population, else of the shape of the payoff arrays. Time grows with
        the cube of the number of entries.

    Raises:
        SolverError: the payoffs are no game, a single matrix is not square, or an option is out of range.
    """
    game = as_game(payoffs)
    if math.isnan(alpha) or alpha < 0 or population < 2 or not 0 < epsilon < 1:
        raise SolverError(
            f"alpha must be 0 or more, population at least 2 and epsilon between 0 and 1; got alpha={alpha}, "
            f"population={population}, epsilon={epsilon}."
        )
    if not math.isinf(alpha) and not math.isfinite(
        alpha * population * 2 * max(np.abs(p).max() for p in game)
    ):
        raise SolverError(f"alpha={alpha} is too large for these payoffs. Pass alpha=math.inf for the limit.")
    if np.ndim(payoffs) != 2:
        log_rates = _profile_log_rates(game, alpha, population, epsilon)
        return _stationary(log_rates).reshape(game[0].shape)
    matrix = game[0]
    if matrix.shape[0] != matrix.shape[1]:
        raise SolverError(
            f"alpha_rank takes one square matrix for a symmetric game; got shape {matrix.shape}. Pass both "
            "players' matrices for an asymmetric game: [payoffs, -payoffs] where it is zero-sum."
        )
    if math.isinf(alpha):
        return _stationary(_log_infinite(matrix - matrix.T, epsilon).T)
    if local_selection:
        return _stationary(_log_fixation(alpha * (matrix - matrix.T), population).T)
    return _stationary(_log_fixation_global(matrix, alpha, population).T)


def marginals(joint: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Each player's own probabilities under a distribution over joint profiles.

    Args:
        joint: Probabilities of profiles, one axis for each player.

    Returns:
        A probability vector for each player.
    """
    axes = range(joint.ndim)
    return [joint.sum(axis=tuple(axis for axis in axes if axis != player)) for player in axes]


def _log_fixation(u: NDArray[np.float64], m: int) -> NDArray[np.float64]:
    """log((1 - e^-u) / (1 - e^-mu)), elementwise and without overflow."""
    size = np.abs(u)
    safe = np.where(size > 0, size, 1.0)
    # For u > 0 both terms as they stand; for u < 0 both are multiplied by e^u and e^mu to keep them bounded.
    logs = np.log(-np.expm1(-safe)) - np.log(-np.expm1(-m * safe)) + np.where(u < 0, (1 - m) * safe, 0.0)
    return np.where(size > 0, logs, -math.log(m))


def _log_fixation_global(matrix: NDArray[np.float64], alpha: float, m: int) -> NDArray[np.float64]:
    """Entry (r, s): log fixation of r among s, where fitness is the mean payoff in the mixed population."""
    own = np.diag(matrix)
    mutants = np.arange(1, m)[:, None, None]
    fitness_r = ((mutants - 1) * own[:, None] + (m - mutants) * matrix) / (m - 1)
    fitness_s = ((m - mutants - 1) * own[None, :] + mutants * matrix.T) / (m - 1)
    exponents = -alpha * np.cumsum(fitness_r - fitness_s, axis=0)
    top = np.maximum(exponents.max(axis=0), 0.0)
    total: NDArray[np.float64] = top + np.log(np.exp(-top) + np.exp(exponents - top).sum(axis=0))
    return -total


def _log_infinite(gain: NDArray[np.float64], epsilon: float) -> NDArray[np.float64]:
    chance = np.where(gain > 0, 1.0 - epsilon, epsilon)
    chance[np.isclose(gain, 0.0, rtol=0.0, atol=1e-14)] = 0.5
    return np.log(chance)


def _profile_log_rates(game: Game, alpha: float, m: int, epsilon: float) -> NDArray[np.float64]:
    """Log rates between joint profiles, from row to column; -inf where more than one player would change."""
    shape = game[0].shape
    profiles = np.array(list(np.ndindex(*shape)))
    log_rates = np.full((len(profiles), len(profiles)), -np.inf)
    for player, payoff in enumerate(game):
        for strategy in range(shape[player]):
            source = np.flatnonzero(profiles[:, player] != strategy)
            changed = profiles[source].copy()
            changed[:, player] = strategy
            target = np.ravel_multi_index(tuple(changed.T), shape)
            gain = payoff.ravel()[target] - payoff.ravel()[source]
            log_rates[source, target] = (
                _log_infinite(gain, epsilon) if math.isinf(alpha) else _log_fixation(alpha * gain, m)
            )
    return log_rates


def _stationary(log_rates: NDArray[np.float64]) -> NDArray[np.float64]:
    """The stationary distribution of a chain with rates exp(log_rates) from row to column; diagonals are ignored.

    A common factor of all rates only changes how often the chain stays where it is, so none is applied.
    """
    rates = log_rates.copy()
    np.fill_diagonal(rates, -np.inf)
    n = len(rates)
    for k in range(n - 1, 0, -1):
        leaving = np.logaddexp.reduce(rates[k, :k])
        rates[:k, k] -= leaving
        rates[:k, :k] = np.logaddexp(rates[:k, :k], rates[:k, k, None] + rates[k, None, :k])
    logs = np.zeros(n)
    for k in range(1, n):
        logs[k] = np.logaddexp.reduce(logs[:k] + rates[:k, k])
    weights = np.exp(logs - logs.max())
    result: NDArray[np.float64] = weights / weights.sum()
    return result

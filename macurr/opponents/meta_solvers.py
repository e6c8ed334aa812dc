"""Meta-solvers for games between policies: how much weight each policy of a population deserves.

A solver takes a game (see `as_game`) and returns a probability vector for each player. None of them draws random
numbers: equal games get equal answers. `nash` and `nash_averaging` (`macurr.opponents.zero_sum`) solve two-player
zero-sum games exactly; `alpha_rank` (`macurr.opponents.alpharank`) ranks the strategies of any game.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from macurr.errors import SolverError
from macurr.opponents.games import Game, as_game, deviation_values, nash_conv

__all__ = ["projected_replicator_dynamics", "regret_matching", "uniform"]

Strategies = list[NDArray[np.float64]]
Step = Callable[[Game, Strategies], Strategies]


def uniform(payoffs: ArrayLike) -> Strategies:
    """The same weight for every policy: fictitious play's answer.

    Args:
        payoffs: A game, as `as_game` takes it.

    Returns:
        A probability vector for each player.

    Raises:
        SolverError: the payoffs are no game.
    """
    return [np.full(n, 1.0 / n) for n in as_game(payoffs)[0].shape]


def projected_replicator_dynamics(
    payoffs: ArrayLike,
    *,
    iterations: int = 10_000,
    dt: float = 1e-2,
    gamma: float = 1e-6,
    tolerance: float | None = None,
) -> Strategies:
    """Projected replicator dynamics (Lanctot et al. 2017), averaged over all iterates.

    Every player moves x by dt * x * (values - x . values), and is projected back (in Euclidean distance) onto the
    strategies that give each policy at least `gamma`. The average includes the uniform start.

    Args:
        payoffs: A game of any number of players, as `as_game` takes it.
        iterations: Number of steps.
        dt: Length of a step. The paper's time of 100 is reached by 10,000 steps of 0.01.
        gamma: The least probability of a policy while the dynamics run.
        tolerance: The largest acceptable NashConv of the average; None accepts any.

    Returns:
        A probability vector for each player.

    Raises:
        SolverError: the payoffs are no game, an option is out of range, or NashConv stays above `tolerance`.
    """
    game = as_game(payoffs)
    if dt <= 0 or not 0 <= gamma * max(game[0].shape) <= 1:
        raise SolverError(
            f"dt must be positive and gamma between 0 and 1/{max(game[0].shape)} for this game; got dt={dt}, "
            f"gamma={gamma}."
        )

    def step(game: Game, strategies: Strategies) -> Strategies:
        moved = []
        for player, x in enumerate(strategies):
            values = deviation_values(game[player], strategies, player)
            moved.append(project_to_simplex(x + dt * x * (values - values @ x), gamma))
        return moved

    return _average(game, step, iterations, tolerance, "projected_replicator_dynamics")


def regret_matching(
    payoffs: ArrayLike,
    *,
    iterations: int = 2_000,
    gamma: float = 1e-6,
    tolerance: float | None = None,
) -> Strategies:
    """Regret matching (Hart and Mas-Colell 2000), averaged over all iterates.

    Every player plays each policy in proportion to its positive regret so far. In two-player zero-sum games the
    average approaches a Nash equilibrium as 1/sqrt(iterations), in others the players' joint play approaches the
    coarse correlated equilibria. Beyond a few thousand iterations rounding decides between equilibria.

    Args:
        payoffs: A game of any number of players, as `as_game` takes it.
        iterations: Number of steps.
        gamma: Share of uniform exploration in every step.
        tolerance: The largest acceptable NashConv of the average; None accepts any.

    Returns:
        A probability vector for each player.

    Raises:
        SolverError: the payoffs are no game, an option is out of range, or NashConv stays above `tolerance`.
    """
    game = as_game(payoffs)
    if not 0 <= gamma <= 1:
        raise SolverError(f"gamma must be between 0 and 1; got {gamma}.")
    # Equal and tiny first regrets: the first step follows the game, and ties start out uniform.
    regrets = [np.full(n, 1e-6) for n in game[0].shape]

    def step(game: Game, strategies: Strategies) -> Strategies:
        moved = []
        for player, x in enumerate(strategies):
            values = deviation_values(game[player], strategies, player)
            regrets[player] += values - values @ x
            moved.append(_matched(regrets[player], gamma))
        return moved

    return _average(game, step, iterations, tolerance, "regret_matching")


def project_to_simplex(x: NDArray[np.float64], floor: float = 0.0) -> NDArray[np.float64]:
    """The probability vector nearest to `x` whose entries are all at least `floor`.

    Euclidean projection (Wang and Carreira-Perpinan 2013): subtract one number from every entry, cut at the floor.
    """
    n = len(x)
    mass = 1.0 - n * floor
    if mass <= 0:
        return np.full(n, 1.0 / n)
    descending = np.sort(x - floor)[::-1]
    shifts = (np.cumsum(descending) - mass) / np.arange(1, n + 1)
    kept = int(np.flatnonzero(descending > shifts)[-1])
    projected: NDArray[np.float64] = np.maximum(x - floor - shifts[kept], 0.0) + floor
    return projected


def _matched(regret: NDArray[np.float64], gamma: float) -> NDArray[np.float64]:
    positive = np.maximum(regret, 0.0)
    total = positive.sum()
    n = len(regret)
    return gamma / n + (1.0 - gamma) * positive / total if total > 0 else np.full(n, 1.0 / n)


def _average(game: Game, step: Step, iterations: int, tolerance: float | None, name: str) -> Strategies:
    if iterations < 1:
        raise SolverError(f"{name} needs at least one iteration; got {iterations}.")
    strategies = uniform(game)
    sums = list(strategies)
    for _ in range(iterations):
        strategies = step(game, strategies)
        sums = [total + x for total, x in zip(sums, strategies, strict=True)]
    averages = [total / total.sum() for total in sums]
    gap = 0.0 if tolerance is None else nash_conv(game, averages)
    if tolerance is not None and not gap <= tolerance:
        raise SolverError(
            f"{name} did not converge: NashConv is {gap:.3g} after {iterations} iterations, tolerance is "
            f"{tolerance:.3g}. Raise iterations, or the tolerance."
        )
    return averages

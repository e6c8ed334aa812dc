"""Normal-form games as the meta-solvers take them: one payoff array for each player."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from macurr.errors import SolverError

__all__ = ["Game", "as_game", "as_matrix", "deviation_values", "nash_conv"]

Game = list[NDArray[np.float64]]
"""One payoff array for each player; axis p of every array numbers player p's strategies."""


def as_game(payoffs: ArrayLike) -> Game:
    """The game that `payoffs` describe.

    Args:
        payoffs: Either one matrix (m, n): the row player's payoffs in a two-player zero-sum game; or a payoff
            array for each of P players, all of the same shape (n_1, ..., n_P).

    Returns:
        A list of P float64 arrays.

    Raises:
        SolverError: the shapes fit no game, there are no strategies, or a payoff is not finite.
    """
    array = _finite(payoffs)
    if array.ndim == 2:
        return [array, -array]
    if array.ndim == 0 or array.ndim != len(array) + 1:
        raise SolverError(
            f"Payoffs of shape {array.shape} are no game. Pass one matrix (a two-player zero-sum game), or one "
            "array for each player with one axis for each player: two players need two matrices."
        )
    return list(array)


def as_matrix(payoffs: ArrayLike) -> NDArray[np.float64]:
    """The payoff matrix (m, n) of a two-player zero-sum game.

    Args:
        payoffs: The row player's matrix, or both players' matrices, which must sum to zero.

    Raises:
        SolverError: it is no such game.
    """
    game = as_game(payoffs)
    if len(game) != 2 or np.abs(game[0] + game[1]).max() > 1e-9 * max(1.0, np.abs(game[0]).max()):
        raise SolverError(
            "The game is not two-player zero-sum, so its equilibrium is no linear program. Use "
            "projected_replicator_dynamics, regret_matching or alpha_rank."
        )
    return game[0]


def deviation_values(
    payoff: NDArray[np.float64], strategies: Sequence[NDArray[np.float64]], player: int
) -> NDArray[np.float64]:
    """What each pure strategy of a player earns against the mixed strategies of the others, shape (n_player,)."""
    values = np.moveaxis(payoff, player, 0)
    for other in reversed([p for p in range(len(strategies)) if p != player]):
        values = values @ strategies[other]
    return values


def nash_conv(payoffs: ArrayLike, strategies: Sequence[ArrayLike]) -> float:
    """How much all players together could gain by deviating; 0 exactly at a Nash equilibrium.

    NashConv (Lanctot et al. 2017) sums max over pure deviations of their value, less the value of the profile,
    over the players. Half of it is the exploitability in a two-player zero-sum game.

    Args:
        payoffs: A game, as `as_game` takes it.
        strategies: A probability vector for each player.

    Raises:
        SolverError: the payoffs are no game, or the strategies do not fit it.
    """
    game = as_game(payoffs)
    mixed = [np.asarray(strategy, dtype=np.float64) for strategy in strategies]
    if [strategy.shape for strategy in mixed] != [(n,) for n in game[0].shape]:
        raise SolverError(
            f"Strategies of shapes {[strategy.shape for strategy in mixed]} do not fit a game of shape "
            f"{game[0].shape}. Pass a probability vector for each player."
        )
    values = [deviation_values(payoff, mixed, player) for player, payoff in enumerate(game)]
    return float(sum(value.max() - value @ strategy for value, strategy in zip(values, mixed, strict=True)))


def _finite(payoffs: ArrayLike) -> NDArray[np.float64]:
    try:
        array = np.array(payoffs, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise SolverError(f"The payoffs are no numeric array of one shape: {error}.") from error
    if array.size == 0:
        raise SolverError(
            f"Payoffs of shape {array.shape} hold no strategies. Every player needs at least one."
        )
    if not np.isfinite(array).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise SolverError(
            f"Payoff {where} is {array[where]}. A solver needs finite payoffs: play the missing games, or fill "
            "the gap with 0.5 wins."
        )
    return array

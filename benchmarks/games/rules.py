"""The rules of five games, as trees.

A node is `("end", payoff)`, with what the first player is paid; `("chance", [(probability, node), ...])`; or
`("move", player, key, [node, ...])`, where nodes of one key cannot be told apart by the player to move.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from games.sequence_form import SequenceGame

Node = tuple[Any, ...]


def matrix_game(payoffs: NDArray[np.float64]) -> SequenceGame:
    """Both choose at once. Payoffs between -1 and 1 are chances of winning 1 rather than losing it."""
    n, m = payoffs.shape
    rows = [("move", 1, "second", [_lottery(float(payoffs[i, j])) for j in range(m)]) for i in range(n)]
    return SequenceGame(("move", 0, "first", rows))


def _lottery(mean: float) -> Node:
    if mean in (-1.0, 0.0, 1.0):
        return ("end", mean)
    return ("chance", [((1 + mean) / 2, ("end", 1.0)), ((1 - mean) / 2, ("end", -1.0))])


def rock_paper_scissors() -> SequenceGame:
    return matrix_game(np.array([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]))


def blotto(soldiers: int = 5, fields: int = 3) -> SequenceGame:
    """Colonel Blotto: whoever has more soldiers on more fields wins."""
    plans = np.array([p for p in itertools.product(range(soldiers + 1), repeat=fields) if sum(p) == soldiers])
    margins = np.sign(plans[:, None] - plans[None]).sum(axis=2)
    return matrix_game(np.sign(margins).astype(float))


def random_game(strategies: int = 30, seed: int = 0) -> SequenceGame:
    """A symmetric game with payoffs drawn at random, between -1 and 1."""
    upper = np.triu(np.random.default_rng(seed).uniform(-1, 1, (strategies, strategies)), 1)
    return matrix_game(upper - upper.T)


def kuhn_poker() -> SequenceGame:
    """Kuhn (1950): three cards, an ante of 1, one bet of 1. Its value for the first player is -1/18."""

    def play(cards: tuple[int, int], history: str) -> Node:
        sign = 1.0 if cards[0] > cards[1] else -1.0
        match history:
            case "pp":
                return ("end", sign)
            case "bb" | "pbb":
                return ("end", 2 * sign)
            case "bp":
                return ("end", 1.0)
            case "pbp":
                return ("end", -1.0)
        player = len(history) % 2
        return ("move", player, (cards[player], history), [play(cards, history + move) for move in "pb"])

    deals = list(itertools.permutations(range(3), 2))
    return SequenceGame(("chance", [(1 / 6, play(deal, "")) for deal in deals]))


def leduc_poker() -> SequenceGame:
    """Leduc hold'em (Southey et al. 2005): three ranks in two suits, two rounds, raises of 2 and 4, two a round.

    Its value for the first player is -0.0856. Suits decide nothing, so cards are told apart by rank alone.
    """
    left = [2, 2, 2]
    deals = []
    for a, b in itertools.product(range(3), repeat=2):
        chance = left[a] / 6 * (left[b] - (a == b)) / 5
        deals.append((chance, _bet((a, b), None, "", (1, 1), 0)))
    return SequenceGame(("chance", deals))


def _bet(cards: tuple[int, int], public: int | None, history: str, pot: tuple[int, int], raises: int) -> Node:
    """One player to move: fold ("f") where there is a bet, call or check ("c"), or raise ("r")."""
    this_round = history.rpartition("/")[2]
    player = len(this_round) % 2
    moves: list[Node] = []
    if pot[player] < pot[1 - player]:
        moves.append(("end", float(pot[1]) if player else -float(pot[0])))
    even = (max(pot), max(pot))
    closes = len(this_round) > 0
    moves.append(
        _deal(cards, public, history + "c", even)
        if closes
        else _bet(cards, public, "c" if public is None else history + "c", even, raises)
    )
    if raises < 2:
        stake = max(pot) + (2 if public is None else 4)
        raised = (stake, pot[1]) if player == 0 else (pot[0], stake)
        moves.append(_bet(cards, public, history + "r", raised, raises + 1))
    return ("move", player, (cards[player], public, history), moves)


def _deal(cards: tuple[int, int], public: int | None, history: str, pot: tuple[int, int]) -> Node:
    """The end of a round: the public card, or the showdown."""
    if public is not None:
        strength = [10 * (card == public) + card for card in cards]
        return ("end", float(np.sign(strength[0] - strength[1])) * pot[0])
    left = [2 - (rank == cards[0]) - (rank == cards[1]) for rank in range(3)]
    return (
        "chance",
        [(n / 4, _bet(cards, rank, history + "/", pot, 0)) for rank, n in enumerate(left) if n],
    )


GAMES: dict[str, Callable[[], SequenceGame]] = {
    "rock-paper-scissors": rock_paper_scissors,
    "Blotto(5, 3)": blotto,
    "random 30 x 30": random_game,
    "Kuhn poker": kuhn_poker,
    "Leduc poker": leduc_poker,
}

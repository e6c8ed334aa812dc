"""What games come to: outcomes by seat, and one player's results against one opponent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Row", "by_seat", "outcomes", "row_of", "rows_table", "wilson"]

_MOST_SEATS, _WIDTH, _NAME = 3, 11, 13
"""Seats that a table has columns for, how wide they are, and the least width of names."""


@dataclass(frozen=True)
class Row:
    """A policy against one opponent.

    Attributes:
        opponent: "random", "snapshot <id>", or the name of a player of another run.
        steps: Environment steps after which the opponent was taken; None where nobody knows.
        games: Number of games: levels times seats.
        win: Share of games won: more return than the mean of the others.
        draw: Share of games drawn.
        loss: Share of games lost.
        score: win + draw / 2.
        low: Lower end of the score's 95 % interval.
        high: Upper end.
        mean_return: Mean return of the policy.
        seats: Its score from each seat, in the order of the environment's agents.
    """

    opponent: str
    steps: int | None
    games: int
    win: float
    draw: float
    loss: float
    score: float
    low: float
    high: float
    mean_return: float
    seats: tuple[float, ...]


def by_seat(returns: NDArray[np.float64], pairs: int, agents: int) -> NDArray[np.float64]:
    """Own return and the others' mean, from the returns of `seat_matches`.

    Args:
        returns: float64 (pairs * levels * A, A), as `Arena.play` gives them.
        pairs: Number of pairs.
        agents: Agents of the environment, A.

    Returns:
        float64 (pairs, levels, A, 2).
    """
    table = returns.reshape(pairs, -1, agents, agents)
    own = np.einsum("psaa->psa", table)
    rest = (table.sum(axis=-1) - own) / max(agents - 1, 1)
    return np.stack([own, rest], axis=-1)


def outcomes(played: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 for a win, 1/2 for a draw, 0 for a loss: (..., A) from own and others' returns (..., A, 2)."""
    results: NDArray[np.float64] = (np.sign(played[..., 0] - played[..., 1]) + 1) / 2
    return results


def row_of(opponent: str, steps: int | None, played: NDArray[np.float64]) -> Row:
    """The row of one opponent.

    Args:
        opponent: What to call it.
        steps: When it was taken.
        played: float64 (levels, A, 2), own return and the others' mean.
    """
    outcome = outcomes(played)
    score = float(outcome.mean())
    low, high = wilson(score, len(outcome))
    return Row(
        opponent=opponent,
        steps=steps,
        games=outcome.size,
        win=float((outcome == 1).mean()),
        draw=float((outcome == 0.5).mean()),
        loss=float((outcome == 0).mean()),
        score=score,
        low=low,
        high=high,
        mean_return=float(played[..., 0].mean()),
        seats=tuple(outcome.mean(axis=0).tolist()),
    )


def rows_table(rows: Sequence[Row], agents: Sequence[str], played: str) -> str:
    """The rows as text, with a column for each seat where there are few.

    Args:
        rows: One for each opponent.
        agents: The environment's agents.
        played: Who played where, for the line below.
    """
    width = max([_NAME, *(len(row.opponent) + 1 for row in rows)])
    shown = agents if 1 < len(agents) <= _MOST_SEATS else ()
    names = "".join(f"{name:>8}" for name in ("win", "draw", "loss", "score"))
    seats = "".join(f"  {agent[:_WIDTH]:>{_WIDTH}}" for agent in shown)
    head = f"{'opponent':<{width}}{'at step':>11}{'games':>7}{names}   95 % interval{'return':>9}{seats}"
    lines = [head, "-" * len(head)]
    for row in rows:
        when = "-" if row.steps is None else f"{row.steps:,}"
        each = "".join(f"  {seat:>{_WIDTH}.1%}" for seat in row.seats[: len(shown)])
        lines.append(
            f"{row.opponent:<{width}}{when:>11}{row.games:>7}{row.win:>8.1%}{row.draw:>8.1%}{row.loss:>8.1%}"
            f"{row.score:>8.1%}   {row.low:>5.1%} - {row.high:>6.1%}{row.mean_return:>8.2f}{each}"
        )
    lines.append(
        f"{played}, from every seat. score = win + draw / 2;\nintervals count levels, not games"
        + ("; the last columns are scores by seat." if shown else ".")
    )
    return "\n".join(lines)


def wilson(rate: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's 95 % interval of a rate observed in n trials (Wilson, 1927); it stays inside 0 to 1."""
    middle = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, middle - half), min(1.0, middle + half)

"""What games come to: outcomes by seat, and one player's results against one opponent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from macurr.training.text_tables import Column, text_table

__all__ = [
    "Row",
    "Team",
    "by_seat",
    "outcomes",
    "row_of",
    "rows_table",
    "student_half",
    "team_of",
    "teams_table",
    "wilson",
]

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
        seats: Its score from each seat: as each agent, or as each role where those of a role play together.
        returns: Its mean return from each seat.
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
    returns: tuple[float, ...] = ()


def by_seat(returns: NDArray[np.float64], pairs: int, sides: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """Own return and the others', each a mean over agents, from the returns of `seat_matches`.

    Args:
        returns: float64 (pairs * levels * S, A), as `Arena.play` gives them.
        pairs: Number of pairs.
        sides: The numbers of the agents of each side, S of them.

    Returns:
        float64 (pairs, levels, S, 2).
    """
    agents = returns.shape[-1]
    table = returns.reshape(pairs, -1, len(sides), agents)
    members = np.zeros((len(sides), agents, 2))
    for place, side in enumerate(sides):
        members[place, list(side), 0] = 1.0
    members[..., 1] = 1.0 - members[..., 0]
    sums = np.einsum("pksa,saw->pksw", table, members)
    played: NDArray[np.float64] = sums / np.maximum(members.sum(axis=1), 1.0)
    return played


def outcomes(played: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 for a win, 1/2 for a draw, 0 for a loss: (..., S) from own and others' returns (..., S, 2)."""
    own, rest = played[..., 0], played[..., 1]
    # Means of equal numbers may differ in their last bit, and are a draw.
    equal = np.isclose(own, rest, rtol=1e-9, atol=1e-9)
    results: NDArray[np.float64] = np.where(equal, 0.5, (own > rest).astype(np.float64))
    return results


def row_of(opponent: str, steps: int | None, played: NDArray[np.float64]) -> Row:
    """The row of one opponent.

    Args:
        opponent: What to call it.
        steps: When it was taken.
        played: float64 (levels, S, 2), own return and the others'.
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
        returns=tuple(played[..., 0].mean(axis=0).tolist()),
    )


def rows_table(rows: Sequence[Row], agents: Sequence[str], played: str, width: int | None = None) -> str:
    """The rows as text, with a column for each seat where there are few.

    Args:
        rows: One for each opponent.
        agents: The names of the seats.
        played: Who played where, for the line below.
        width: Characters of a line, for which columns give way; None for as many as it takes.
    """
    wide = max([_NAME, *(len(row.opponent) + 1 for row in rows)])
    shown = agents if 1 < len(agents) <= _MOST_SEATS else ()
    columns = [
        Column(f"{'opponent':<{wide}}", [f"{row.opponent:<{wide}}" for row in rows]),
        Column(f"{'at step':>11}", [f"{_when(row.steps):>11}" for row in rows], 1),
        Column(f"{'games':>7}", [f"{row.games:>7}" for row in rows], 2),
        Column(f"{'win':>8}", [f"{row.win:>8.1%}" for row in rows], 5),
        Column(f"{'draw':>8}", [f"{row.draw:>8.1%}" for row in rows], 4),
        Column(f"{'loss':>8}", [f"{row.loss:>8.1%}" for row in rows], 3),
        Column(f"{'score':>8}", [f"{row.score:>8.1%}" for row in rows]),
        Column("   95 % interval", [f"   {row.low:>5.1%} - {row.high:>6.1%}" for row in rows]),
        Column(f"{'return':>9}", [f"{row.mean_return:>8.2f}" for row in rows], 6),
    ]
    for place, agent in enumerate(shown):
        seats = [f"  {row.seats[place]:>{_WIDTH}.1%}" for row in rows]
        said = "; the last columns are scores by seat"
        columns.append(Column(f"  {agent[:_WIDTH]:>{_WIDTH}}", seats, 7, said))
    below = f"{played}, from every seat. score = win + draw / 2;\nintervals count levels, not games"
    return text_table(columns, below, width)


def _when(steps: int | None) -> str:
    return "-" if steps is None else f"{steps:,}"


@dataclass(frozen=True)
class Team:
    """A policy that plays all agents together.

    Attributes:
        name: "final policy", "snapshot <id>" or "random".
        steps: Environment steps after which it was taken; None where nobody knows.
        games: Number of games, one on each level.
        mean_return: Mean return, over agents and levels.
        low: Lower end of its 95 % interval over levels (Student's t).
        high: Upper end.
        agents: Mean return of each agent.
    """

    name: str
    steps: int | None
    games: int
    mean_return: float
    low: float
    high: float
    agents: tuple[float, ...]


def team_of(name: str, steps: int | None, returns: NDArray[np.float64]) -> Team:
    """The row of a policy that played all agents.

    Args:
        name: What to call it.
        steps: When it was taken.
        returns: float64 (levels, A).
    """
    each = returns.mean(axis=1)
    mean = float(each.mean())
    half = student_half(each)
    return Team(name, steps, len(each), mean, mean - half, mean + half, tuple(returns.mean(axis=0).tolist()))


def teams_table(teams: Sequence[Team], agents: Sequence[str], played: str, width: int | None = None) -> str:
    """The rows of teams as text, with a column for each agent where there are few.

    Args:
        teams: One for each policy.
        agents: The environment's agents.
        played: Who played where, for the line below.
        width: Characters of a line, for which columns give way; None for as many as it takes.
    """
    wide = max([_NAME, *(len(team.name) + 1 for team in teams)])
    shown = agents if 1 < len(agents) <= _MOST_SEATS else ()
    intervals = [f"{team.low:.2f} to {team.high:.2f}" for team in teams]
    columns = [
        Column(f"{'all agents':<{wide}}", [f"{team.name:<{wide}}" for team in teams]),
        Column(f"{'at step':>11}", [f"{_when(team.steps):>11}" for team in teams], 1),
        Column(f"{'games':>7}", [f"{team.games:>7}" for team in teams], 2),
        Column(f"{'return':>10}", [f"{team.mean_return:>10.2f}" for team in teams]),
        Column(f"   {'95 % interval':<21}", [f"   {interval:<21}" for interval in intervals]),
    ]
    for place, agent in enumerate(shown):
        values = [f"  {team.agents[place]:>{_WIDTH}.2f}" for team in teams]
        columns.append(Column(f"  {agent[:_WIDTH]:>{_WIDTH}}", values, 3))
    below = f"{played}. return: mean over agents and levels;\nintervals are over levels"
    return text_table(columns, below, width)


def student_half(values: NDArray[np.float64]) -> float:
    """Half of the 95 % interval of a mean by Student's t; infinite for a single value."""
    if len(values) < 2:
        return math.inf
    spread = float(values.std(ddof=1)) / math.sqrt(len(values))
    return float(stdtrit(len(values) - 1, 0.975)) * spread


def wilson(rate: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's 95 % interval of a rate observed in n trials (Wilson, 1927); it stays inside 0 to 1."""
    middle = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, middle - half), min(1.0, middle + half)

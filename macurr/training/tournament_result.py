"""What a tournament came to: standings, the matrix of results, and both as text and files."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from macurr.training.players import Player
from macurr.training.standings import Results, Standings

__all__ = ["Entry", "Tournament"]

_FORMAT = 1
_MOST_CYCLES = 3
"""Cycles that the table tells."""

Matrix = tuple[tuple[Any, ...], ...]


@dataclass(frozen=True)
class Entry:
    """A player and its ratings.

    Attributes:
        name: The run's name; with ":<id>" for a snapshot; or "random".
        run: The run's directory; None for "random".
        snapshot: The snapshot's id; None for the final policy and "random".
        steps: Environment steps after which it was taken; None where nobody knows.
        score: Mean score against all others, 0 to 1.
        elo: Elo rating of greatest likelihood; the mean of all is 1500.
        elo_low: Lower end of its 95 % interval.
        elo_high: Upper end.
        skill: Mean of the Bayesian belief about its skill; None where openskill is not installed.
        skill_low: Lower end of the central 95 %.
        skill_high: Upper end.
        nash: Weight in the Nash equilibrium of greatest entropy; None where none was found.
        alpha_rank: Mass under alpha-rank (alpha = 1, population 50); None where none was found.
    """

    name: str
    run: str | None
    snapshot: int | None
    steps: int | None
    score: float
    elo: float
    elo_low: float
    elo_high: float
    skill: float | None
    skill_low: float | None
    skill_high: float | None
    nash: float | None
    alpha_rank: float | None

    @classmethod
    def of(cls, player: Player, place: int, results: Results, standings: Standings) -> Entry:
        """A player's entry.

        Args:
            player: The player.
            place: Its place in the results.
            results: What was played.
            standings: What came of it.
        """

        def at(values: NDArray[np.float64] | None) -> float | None:
            return None if values is None else float(values[place])

        return cls(
            name=player.name,
            run=None if player.run is None else str(player.run.directory.path),
            snapshot=player.snapshot,
            steps=player.steps,
            score=float(np.delete(results.advantage()[place], place).mean()),
            elo=float(standings.elo[place]),
            elo_low=float(standings.elo_low[place]),
            elo_high=float(standings.elo_high[place]),
            skill=at(standings.skill),
            skill_low=at(standings.skill_low),
            skill_high=at(standings.skill_high),
            nash=at(standings.nash),
            alpha_rank=at(standings.masses),
        )


@dataclass(frozen=True)
class Tournament:
    """What was played. Matrices have the players' order, the best first; their diagonals are None.

    Attributes:
        env: Import path of the environment.
        env_args: Its keywords.
        agents: The seats: its agents, or their roles where those of a role play together.
        levels: The seeds that each pair played from every seat.
        held_out: Whether no run was trained on any of them.
        described: The levels in words.
        seed: Seed of the policies' choices.
        players: The players with their ratings, by Elo, the best first.
        wins: Games that the row won against the column.
        draws: Games drawn.
        losses: Games that the row lost.
        returns: Mean return of the row against the column.
        cycles: Triples of names of which each beats the next and the last the first, all clear of 1/2 at 95 %.
        notes: Why a number is missing.
    """

    env: str
    env_args: dict[str, Any]
    agents: tuple[str, ...]
    levels: tuple[int, ...]
    held_out: bool
    described: str
    seed: int
    players: tuple[Entry, ...]
    wins: Matrix
    draws: Matrix
    losses: Matrix
    returns: Matrix
    cycles: tuple[tuple[str, str, str], ...]
    notes: tuple[str, ...]

    @property
    def scores(self) -> NDArray[np.float64]:
        """Score of the row against the column: wins plus half the draws, by the games; NaN on the diagonal."""
        wins, draws, losses = (
            np.array(matrix, np.float64) for matrix in (self.wins, self.draws, self.losses)
        )
        scores: NDArray[np.float64] = (wins + draws / 2) / (wins + draws + losses)
        return scores

    def player(self, name: str) -> Entry:
        """The entry of a player.

        Raises:
            KeyError: there is none of that name.
        """
        for entry in self.players:
            if entry.name == name:
                return entry
        raise KeyError(name)

    def table(self) -> str:
        """The standings as text, the best first, with what ratings hide below."""
        width = max(8, *(len(entry.name) + 1 for entry in self.players))
        rated = self.players[0].skill is not None
        skill = f"{'skill':>9}   95 % interval" if rated else ""
        shares = f"{'Nash':>8}{'alpha-rank':>12}"
        head = f"{'player':<{width}}{'at step':>11}{'score':>8}{'Elo':>7}   95 % interval{skill}{shares}"
        lines = [head, "-" * len(head)]
        lines += [_line(entry, width) for entry in self.players]
        games = len(self.levels) * len(self.agents) * (1 if len(self.agents) == 2 else 2)
        lines.append(
            f"{self.env}, {self.described}: {games} games of each pair, from every seat.\n"
            "score = win + draw / 2, against all others; intervals count levels, not games. Nash and alpha-rank are\n"
            "weights in the population: they show what ratings hide, cycles and clones."
        )
        for cycle in self.cycles[:_MOST_CYCLES]:
            lines.append(f"Cycle: {' beats '.join((*cycle, cycle[0]))}.")
        if len(self.cycles) > _MOST_CYCLES:
            lines.append(f"{len(self.cycles) - _MOST_CYCLES} more cycles are in the JSON.")
        return "\n".join([*lines, *self.notes])

    def to_json(self) -> str:
        """Everything as a JSON text."""
        scores = [[None if np.isnan(x) else x for x in row] for row in self.scores.tolist()]
        data = {"macurr_tournament": _FORMAT, **dataclasses.asdict(self), "scores": scores}
        return json.dumps(data, indent=2, default=str) + "\n"

    def matrix_csv(self) -> str:
        """The scores as a table, row against column, the diagonal empty."""
        names = [entry.name for entry in self.players]
        rows = [
            [name, *("" if np.isnan(x) else repr(x) for x in row)]
            for name, row in zip(names, self.scores.tolist(), strict=True)
        ]
        return _csv([["player", *names], *rows])

    def ratings_csv(self) -> str:
        """The standings as a table, one row for each player."""
        names = [item.name for item in dataclasses.fields(Entry)]
        rows = [[_cell(getattr(entry, name)) for name in names] for entry in self.players]
        return _csv([names, *rows])


def _line(entry: Entry, width: int) -> str:
    when = "-" if entry.steps is None else f"{entry.steps:,}"
    skill = ""
    if entry.skill is not None:
        skill = f"{entry.skill:>9.1f}   {entry.skill_low:>5.1f} - {entry.skill_high:>5.1f}"
    return (
        f"{entry.name:<{width}}{when:>11}{entry.score:>8.1%}{entry.elo:>7.0f}   {entry.elo_low:>5.0f} - "
        f"{entry.elo_high:>5.0f}{skill}{_share(entry.nash):>8}{_share(entry.alpha_rank):>12}"
    )


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _cell(value: Any) -> str:
    return "" if value is None else str(value)


def _csv(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()

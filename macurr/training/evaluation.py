"""How a finished run's policy fares on levels that it has never seen: against chance, and against its own past."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from macurr.errors import ConfigError
from macurr.persistence import write_atomically
from macurr.training.duels import all_pairs, checked_workers, play, play_together
from macurr.training.players import RANDOM_PLAYER, OpenRun, Player, check_players
from macurr.training.scoring import Row, Team, outcomes, row_of, rows_table, team_of, teams_table
from macurr.training.stage import Stage

__all__ = ["Evaluation", "Row", "Team", "evaluate"]

_SEED_OFFSET = 1_000_003
"""Apart from the seeds of training, so that evaluating changes no run."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Evaluation:
    """What was played.

    Attributes:
        rows: The final policy against each opponent, on held-out levels and from every seat. None where all agents
            learned together (opponents "none").
        seeds: Number of held-out levels; the intervals count each once, for its seats are no independent games.
        first_seed: The first of them.
        snapshots: Ids of the snapshots in the matrix, oldest first.
        matrix: score of each snapshot (rows) against each (columns); None on the diagonal.
        matrix_seeds: Number of levels of each pair in the matrix.
        agents: The seats: the environment's agents, or their roles where those of a role play together.
        teams: Where all agents learned together: the final policy, each snapshot before it and the random policy, as
            all agents, on held-out levels.
    """

    rows: tuple[Row, ...]
    seeds: int
    first_seed: int
    snapshots: tuple[int, ...]
    matrix: tuple[tuple[float | None, ...], ...]
    matrix_seeds: int
    agents: tuple[str, ...]
    teams: tuple[Team, ...] = ()

    def row(self, opponent: str) -> Row:
        """The row of one opponent.

        Raises:
            KeyError: there is none.
        """
        for row in self.rows:
            if row.opponent == opponent:
                return row
        raise KeyError(opponent)

    def team(self, name: str) -> Team:
        """The row of one policy that played all agents.

        Raises:
            KeyError: there is none.
        """
        for team in self.teams:
            if team.name == name:
                return team
        raise KeyError(name)

    def table(self, width: int | None = None) -> str:
        """The rows as text.

        Args:
            width: Characters of a line, for which columns give way; None for as many as it takes.
        """
        where = f"held-out levels {self.first_seed} to {self.first_seed + self.seeds - 1}"
        if self.teams:
            return teams_table(self.teams, self.agents, f"Played on {where}", width)
        return rows_table(self.rows, self.agents, f"Final policy on {where}", width)

    def to_json(self) -> str:
        """Everything as a JSON text."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Evaluation:
        """From `to_json`."""
        data = json.loads(text)
        data["rows"] = tuple(
            Row(**{**row, "seats": tuple(row["seats"]), "returns": tuple(row["returns"])})
            for row in data["rows"]
        )
        data["teams"] = tuple(Team(**{**team, "agents": tuple(team["agents"])}) for team in data["teams"])
        data["agents"] = tuple(data["agents"])
        data["snapshots"] = tuple(data["snapshots"])
        data["matrix"] = tuple(tuple(row) for row in data["matrix"])
        return cls(**data)


def evaluate(path: str | os.PathLike[str], on_progress: Progress | None = None) -> Evaluation:
    """Evaluate the final policy of a run, and write evaluation.json.

    Args:
        path: The run's directory.
        on_progress: Is told how many of how many matches are over.

    Raises:
        ConfigError: there is no finished run.
        PoolError: a snapshot cannot be read, or is of another architecture than the run.
        MacurrError: the environment failed.
    """
    own = OpenRun(path)
    if not own.finished:
        raise ConfigError(
            f"{own.directory.policy} is not there: the run has not been finished. Finish it by --resume first."
        )
    stage = Stage.of([own], own.config.evaluation.seeds)
    # The newest snapshot of a finished run is the final policy itself.
    players = [own.player(None), *(own.player(i) for i in own.past())]
    check_players(players, stage.layout, stage.source.path)
    together = own.config.opponents == "none" or len(stage.sides) < 2
    result = (_as_teams if together else _against_others)(own, players, stage, on_progress)
    write_atomically(own.directory.evaluation, result.to_json().encode())
    return result


def _as_teams(
    own: OpenRun, players: Sequence[Player], stage: Stage, on_progress: Progress | None
) -> Evaluation:
    everyone = [*players, RANDOM_PLAYER]
    returns = play_together(
        everyone, stage, workers=checked_workers(None, [own]), seed=_seed(own), on_progress=on_progress
    )
    return Evaluation(
        rows=(),
        seeds=len(stage.levels),
        first_seed=stage.levels[0],
        snapshots=(),
        matrix=(),
        matrix_seeds=0,
        agents=stage.layout.agents,
        teams=tuple(team_of(_name(p), p.steps, part) for p, part in zip(everyone, returns, strict=True)),
    )


def _against_others(
    own: OpenRun, players: Sequence[Player], stage: Stage, on_progress: Progress | None
) -> Evaluation:
    workers, seats = checked_workers(None, [own]), len(stage.sides)
    opponents = [RANDOM_PLAYER, *players[1:]]
    games = [(0, place) for place in range(1, len(opponents) + 1)]
    # In the matrix the final policy is the newest of the snapshots.
    past = [*players[1:], players[0]]
    pairs = all_pairs(len(past), seats)
    small = dataclasses.replace(stage, levels=stage.levels[: own.config.evaluation.matrix_seeds])
    count = len(games) * len(stage.levels) * seats
    total = count + len(pairs) * len(small.levels) * seats
    played = play(
        [players[0], *opponents],
        games,
        stage,
        workers=workers,
        seed=_seed(own),
        on_progress=_shifted(on_progress, 0, total),
    )
    matrix = np.full((len(past), len(past)), np.nan)
    if pairs:
        between = play(
            past,
            pairs,
            small,
            workers=workers,
            seed=_seed(own) + 1,
            on_progress=_shifted(on_progress, count, total),
        )
        _fill(matrix, pairs, between)
    return Evaluation(
        rows=tuple(row_of(_name(p), p.steps, part) for p, part in zip(opponents, played, strict=True)),
        seeds=len(stage.levels),
        first_seed=stage.levels[0],
        snapshots=tuple(own.pool.ids),
        matrix=tuple(tuple(None if math.isnan(x) else float(x) for x in line) for line in matrix),
        matrix_seeds=len(small.levels),
        agents=stage.seats,
    )


def _seed(own: OpenRun) -> int:
    return own.config.seed + _SEED_OFFSET


def _name(player: Player) -> str:
    if player.run is None:
        return "random"
    return "final policy" if player.snapshot is None else f"snapshot {player.snapshot}"


def _fill(matrix: NDArray[np.float64], pairs: Sequence[tuple[int, int]], played: NDArray[np.float64]) -> None:
    for (i, j), part in zip(pairs, played, strict=True):
        score = float(outcomes(part).mean())
        matrix[i, j] = score
        if np.isnan(matrix[j, i]):
            matrix[j, i] = 1.0 - score


def _shifted(on_progress: Progress | None, before: int, total: int) -> Progress | None:
    if on_progress is None:
        return None
    listener = on_progress
    return lambda done, _: listener(before + done, total)

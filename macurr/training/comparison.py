"""One policy of a run against chance, its past and other runs, on levels and in an environment of one's choice."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from macurr.errors import ConfigError
from macurr.persistence import write_atomically
from macurr.training.duels import Progress, checked_seed, checked_workers, play, play_together
from macurr.training.opponents import RANDOM
from macurr.training.players import RANDOM_PLAYER, OpenRun, Player, check_players, labels_of
from macurr.training.scoring import Row, Team, row_of, rows_table, team_of, teams_table
from macurr.training.stage import Stage

__all__ = ["Comparison", "compare"]

COMPARISON = "comparison.json"
"""Where in a run's directory a result goes."""

_FORMAT = 1
_RANDOM, _POOL = "random", "pool"


@dataclass(frozen=True)
class Comparison:
    """What was played.

    Attributes:
        run: The run's directory.
        player: The policy's name: the run's, with ":<id>" for a snapshot.
        steps: Environment steps after which it was taken; None where nobody knows.
        env: Import path of the environment.
        env_args: Its keywords.
        agents: The seats: its agents, or their roles where those of a role play together.
        levels: The seeds that were played, from every seat.
        held_out: Whether no run among the players was trained on any of them.
        described: The levels in words.
        seed: Seed of the policies' choices.
        rows: The policy against each opponent.
        teams: Where all agents learned together instead: the policy, then each other one, as all agents.
    """

    run: str
    player: str
    steps: int | None
    env: str
    env_args: dict[str, Any]
    agents: tuple[str, ...]
    levels: tuple[int, ...]
    held_out: bool
    described: str
    seed: int
    rows: tuple[Row, ...]
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

    def table(self, width: int | None = None) -> str:
        """The rows as text.

        Args:
            width: Characters of a line, for which columns give way; None for as many as it takes.
        """
        played = f"{self.player} in {self.env},\n{self.described}"
        if self.teams:
            return teams_table(self.teams, self.agents, played, width)
        return rows_table(self.rows, self.agents, played, width)

    def to_json(self) -> str:
        """Everything as a JSON text."""
        data = {"macurr_comparison": _FORMAT, **dataclasses.asdict(self)}
        return json.dumps(data, indent=2, default=str) + "\n"


def compare(
    run: str | os.PathLike[str],
    against: Sequence[str | os.PathLike[str]] = (_RANDOM, _POOL),
    *,
    snapshot: int | None = None,
    levels: int | Sequence[int] | None = None,
    env: str | None = None,
    env_args: Mapping[str, Any] | None = None,
    workers: int | None = None,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    on_progress: Progress | None = None,
) -> Comparison:
    """Play one policy of a run against others, on every level from every seat.

    Where all agents learned together (opponents "none"), each policy plays all agents instead, on every level.

    Unlike `evaluate`, which repeats the evaluation that a run ends with and that its report shows, this leaves all
    else in the run's directory as it is. The same arguments give the same result.

    Args:
        run: The run's directory; RUN:ID names a snapshot by its id, RUN@STEPS the one taken nearest to so many steps.
        against: "random", "pool" (the run's other snapshots), or other runs, named like `run`.
        snapshot: The id of one of its snapshots; None for the one named in `run`, or the final policy.
        levels: How many levels, from the first seed that no run among the players was trained on; or the seeds
            themselves; None for as many as the run's evaluation had.
        env: Another environment to play, of the same shape; None for that of the run.
        env_args: Keywords for it; without `env`, keywords to change of the run's own.
        workers: Processes that step environments; 0 for none, everything in this one; None as the runs had.
        seed: Seed of the policies' choices.
        out: The file for the result, as JSON; None for comparison.json in the run's directory.
        on_progress: Is told how many of how many games are over.

    Returns:
        The result.

    Raises:
        ConfigError: there is no such run, nobody to play against, or the runs play different environments.
        PoolError: a snapshot is damaged, was dropped, or is of another architecture than its run.
        MacurrError: the environment failed.
    """
    checked_seed(seed)
    own = OpenRun(run)
    target = _checked_target(own.directory.path / COMPARISON if out is None else Path(out))
    if snapshot is not None:
        own.pick(snapshot)
    others = [_named(name) for name in against]
    runs = [own, *(other for other in others if isinstance(other, OpenRun))]
    players = _players(own, others, labels_of(runs))
    count = checked_workers(workers, runs)
    stage = Stage.of(runs, own.config.evaluation.seeds if levels is None else levels, env, env_args)
    check_players(players, stage.layout, stage.source.path)
    games = _Games(players, stage, count, seed, on_progress)
    result = _result(own, games)
    write_atomically(target, result.to_json().encode())
    return result


class _Games(NamedTuple):
    """Who plays whom, where and how; the first player is the one that is compared."""

    players: Sequence[Player]
    stage: Stage
    workers: int
    seed: int
    on_progress: Progress | None

    def teams(self) -> tuple[Team, ...]:
        """Every player as all agents."""
        returns = play_together(
            self.players, self.stage, workers=self.workers, seed=self.seed, on_progress=self.on_progress
        )
        return tuple(team_of(p.name, p.steps, part) for p, part in zip(self.players, returns, strict=True))

    def rows(self) -> tuple[Row, ...]:
        """The first against each other one."""
        played = play(
            self.players,
            [(0, i) for i in range(1, len(self.players))],
            self.stage,
            workers=self.workers,
            seed=self.seed,
            on_progress=self.on_progress,
        )
        return tuple(row_of(p.name, p.steps, part) for p, part in zip(self.players[1:], played, strict=True))


def _result(own: OpenRun, games: _Games) -> Comparison:
    players, stage = games.players, games.stage
    together = own.config.opponents == "none" or len(stage.sides) < 2
    return Comparison(
        run=str(own.directory.path),
        player=players[0].name,
        steps=players[0].steps,
        env=stage.source.path,
        env_args=dict(stage.source.args),
        agents=stage.layout.agents if together else stage.seats,
        levels=stage.levels,
        held_out=stage.held_out,
        described=stage.described,
        seed=games.seed,
        rows=() if together else games.rows(),
        teams=games.teams() if together else (),
    )


def _named(name: str | os.PathLike[str]) -> str | OpenRun:
    text = os.fspath(name)
    return text if text in (_RANDOM, _POOL) else OpenRun(text)


def _players(own: OpenRun, others: Sequence[str | OpenRun], labels: Mapping[Path, str]) -> list[Player]:
    """The policy itself, then each opponent once, in the order asked for."""
    (chosen,) = own.chosen("last")
    found = {(own.key, chosen): own.player(chosen, labels[own.key])}
    for other in others:
        if other == _RANDOM:
            found[own.key, RANDOM] = RANDOM_PLAYER
        elif isinstance(other, OpenRun):
            for pick in other.chosen("last"):
                found.setdefault((other.key, pick), other.player(pick, labels[other.key]))
        else:
            # The newest snapshot is no opponent of the final policy, which it is.
            past = own.past() if chosen is None else own.pool.ids
            for pick in past:
                found.setdefault((own.key, pick), own.player(pick, labels[own.key]))
    if len(found) < 2:
        raise ConfigError(
            f"There is nobody for {own.label} to play against. Name random, pool or another run by --against."
        )
    return list(found.values())


def _checked_target(path: Path) -> Path:
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise ConfigError(
            f"The file {path} cannot be written. Name a file in a folder that you may write to by --out."
        )
    return path

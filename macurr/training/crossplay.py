"""Cross-play: snapshots of one or more runs against each other on levels that none was trained on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from macurr.errors import ConfigError
from macurr.training.duels import Progress, all_pairs, checked_seed, checked_workers, play
from macurr.training.players import RANDOM_PLAYER, OpenRun, Player, check_players, labels_of
from macurr.training.scoring import outcomes
from macurr.training.stage import Stage
from macurr.training.standings import Results, cycles_of, standings_of
from macurr.training.tournament_files import claimed, write_files
from macurr.training.tournament_result import Entry, Tournament

__all__ = ["tournament"]


def tournament(
    runs: Sequence[str | os.PathLike[str]],
    *,
    snapshots: str | int = "last",
    include_random: bool = False,
    levels: int | Sequence[int] = 100,
    env: str | None = None,
    env_args: Mapping[str, Any] | None = None,
    workers: int | None = None,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    on_progress: Progress | None = None,
) -> Tournament:
    """Let policies of one or more runs play each other, every pair on every level from every seat, and rate them.

    A game is won by more mean return than that of the other agents. With more than two sides, each player plays one
    side against teams of each other one; sides are those that the runs were trained with. Policies may have different
    hidden layers and memories, as long as they were made for the same environment. The same arguments give the same
    result.

    Args:
        runs: Directories of runs; RUN:ID names a snapshot by its id, RUN@STEPS the one taken nearest to so many steps.
        snapshots: Who plays of a run that is named without a snapshot: "last" (its final policy), "all", or how
            many, spread evenly over the run, the final one included.
        include_random: Whether the policy that chooses uniformly plays too.
        levels: How many levels, from the first seed that no run was trained on; or the seeds themselves.
        env: Another environment to play, of the same shape; None for that of the runs.
        env_args: Keywords for it; without `env`, keywords to change of the runs' own.
        workers: Processes that step environments; 0 for none, everything in this one; None as the runs had.
        seed: Seed of the policies' choices, and of the order in which games reach the Bayesian ratings.
        out: A new or empty directory for tournament.json, matrix.csv, ratings.csv and matrix.png; None writes nothing.
        on_progress: Is told how many of how many games are over.

    Returns:
        The result; `table()` is what the command prints.

    Raises:
        ConfigError: there are fewer than two players, a run cannot be used, the runs play different environments,
            or `out` holds something.
        PoolError: a snapshot is damaged, was dropped, or is of another architecture than its run.
        MacurrError: the environment failed. Nothing is left behind, and no run is changed, whatever is raised.
    """
    _check_snapshots(snapshots)
    checked_seed(seed)
    opened = [OpenRun(run) for run in runs]
    players = _players(opened, snapshots, include_random)
    count = checked_workers(workers, opened)
    stage = Stage.of(opened, levels, env, env_args)
    stage.check_meeting()
    check_players(players, stage.layout, stage.source.path)
    with claimed(out) as directory:
        pairs = all_pairs(len(players), len(stage.sides))
        played = play(players, pairs, stage, workers=count, seed=seed, on_progress=on_progress)
        result = _result(players, pairs, played, stage, seed)
        if directory is not None:
            write_files(result, directory)
    return result


def _check_snapshots(snapshots: str | int) -> None:
    many = isinstance(snapshots, int) and not isinstance(snapshots, bool) and snapshots >= 1
    if snapshots not in ("all", "last") and not many:
        raise ConfigError(
            f"snapshots={snapshots!r} cannot be used: give 'all', 'last', or a whole number of at least 1."
        )


def _players(runs: Sequence[OpenRun], snapshots: str | int, include_random: bool) -> list[Player]:
    """Everyone once, in the order asked for."""
    if not runs:
        raise ConfigError("No run is named, and a tournament needs two players. Name directories of runs.")
    labels = labels_of(runs)
    found = {
        (run.key, snapshot): run.player(snapshot, labels[run.key])
        for run in runs
        for snapshot in run.chosen(snapshots)
    }
    players = [*found.values(), *([RANDOM_PLAYER] if include_random else [])]
    if len(players) < 2:
        raise ConfigError(
            f"{players[0].name} is the only player, and a tournament needs two. Name more runs, RUN:ID for a snapshot, "
            "--snapshots all for every snapshot, or add --include-random."
        )
    return players


def _result(
    players: Sequence[Player], pairs: Sequence[tuple[int, int]], played: Any, stage: Stage, seed: int
) -> Tournament:
    outcome = outcomes(played)
    n, seats = len(players), outcome.shape[-1]
    results = Results(tuple(pairs), outcome.mean(axis=-1), n)
    standings = standings_of(results, seed)
    wins, draws, losses = (np.zeros((n, n), np.int64) for _ in range(3))
    returns = np.full((n, n), np.nan)
    swapped = seats == 2
    for (i, j), own, both in zip(pairs, outcome, played, strict=True):
        won, drawn = int((own == 1).sum()), int((own == 0.5).sum())
        wins[i, j], draws[i, j], losses[i, j] = won, drawn, own.size - won - drawn
        returns[i, j] = both[..., 0].mean()
        if swapped:
            wins[j, i], draws[j, i], losses[j, i] = losses[i, j], drawn, won
            returns[j, i] = both[..., 1].mean()
    entries = [Entry.of(player, place, results, standings) for place, player in enumerate(players)]
    order = sorted(range(n), key=lambda i: -entries[i].elo)
    best_first = np.ix_(order, order)
    return Tournament(
        env=stage.source.path,
        env_args=dict(stage.source.args),
        agents=stage.seats,
        levels=stage.levels,
        held_out=stage.held_out,
        described=stage.described,
        seed=seed,
        players=tuple(entries[i] for i in order),
        wins=_rows(wins[best_first]),
        draws=_rows(draws[best_first]),
        losses=_rows(losses[best_first]),
        returns=_rows(returns[best_first]),
        cycles=tuple((players[i].name, players[j].name, players[k].name) for i, j, k in cycles_of(results)),
        notes=standings.notes,
    )


def _rows(matrix: Any) -> tuple[tuple[Any, ...], ...]:
    """Plain numbers, None on the diagonal: nobody plays itself."""
    return tuple(
        tuple(None if i == j else value for j, value in enumerate(row))
        for i, row in enumerate(matrix.tolist())
    )

"""How a finished run's policy fares on levels that it has never seen: against chance, and against its own past."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from macurr.errors import ConfigError
from macurr.opponents import AgentPool
from macurr.persistence import write_atomically
from macurr.training.config import TrainConfig
from macurr.training.envs import EnvSource
from macurr.training.matches import Arena, seat_matches
from macurr.training.opponents import RANDOM, PolicyBank
from macurr.training.players import OpenRun, check_players
from macurr.training.policy import PolicySpec
from macurr.training.rundir import RunDir
from macurr.training.scoring import Row, by_seat, outcomes, row_of, rows_table
from macurr.training.session import probe
from macurr.training.threads import bounded_threads

__all__ = ["Evaluation", "Row", "evaluate"]

_FINAL = -2
_SEED_OFFSET = 1_000_003
"""Apart from the seeds of training, so that evaluating changes no run."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Evaluation:
    """What was played.

    Attributes:
        rows: The final policy against each opponent, on held-out levels and from every seat.
        seeds: Number of held-out levels; the intervals count each once, for its seats are no independent games.
        first_seed: The first of them.
        snapshots: Ids of the snapshots in the matrix, oldest first.
        matrix: score of each snapshot (rows) against each (columns); None on the diagonal.
        matrix_seeds: Number of levels of each pair in the matrix.
        agents: The environment's agents: the seats.
    """

    rows: tuple[Row, ...]
    seeds: int
    first_seed: int
    snapshots: tuple[int, ...]
    matrix: tuple[tuple[float | None, ...], ...]
    matrix_seeds: int
    agents: tuple[str, ...]

    def row(self, opponent: str) -> Row:
        """The row of one opponent.

        Raises:
            KeyError: there is none.
        """
        for row in self.rows:
            if row.opponent == opponent:
                return row
        raise KeyError(opponent)

    def table(self) -> str:
        """The rows as text."""
        last = self.first_seed + self.seeds - 1
        where = f"Final policy on held-out levels {self.first_seed} to {last}"
        return rows_table(self.rows, self.agents, where)

    def to_json(self) -> str:
        """Everything as a JSON text."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Evaluation:
        """From `to_json`."""
        data = json.loads(text)
        data["rows"] = tuple(Row(**{**row, "seats": tuple(row["seats"])}) for row in data["rows"])
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
    run, config = RunDir.open(os.fspath(path))
    with bounded_threads(config.threads):
        return _evaluate(run, config, on_progress)


def _evaluate(run: RunDir, config: TrainConfig, on_progress: Progress | None) -> Evaluation:
    source = EnvSource(config.env, dict(config.env_args))
    layout = probe(source)
    pool = AgentPool(run.snapshots, create=False)
    final = _final(run.policy)
    own = OpenRun(run.path)
    check_players([own.player(snapshot) for snapshot in (None, *pool.ids)], layout, source.path)
    bank = PolicyBank(
        PolicySpec.of(layout, config.model.hidden),
        lambda i: final if i == _FINAL else pool.get(i),
        capacity=256,
    )
    generator = torch.Generator().manual_seed(config.seed + _SEED_OFFSET)
    arena = Arena(source, layout, bank, generator, 0 if config.transport == "local" else config.workers)
    snapshots, agents, first = pool.ids, len(layout.agents), config.tasks.levels
    # The newest snapshot is the final policy itself.
    opponents = [RANDOM, *snapshots[:-1]]
    seeds = range(first, first + config.evaluation.seeds)
    games = seat_matches([(_FINAL, opponent) for opponent in opponents], seeds, agents)
    pairs = [(i, j) for i in snapshots for j in snapshots if (i < j if agents == 2 else i != j)]
    small = range(first, first + config.evaluation.matrix_seeds)
    duels = seat_matches(pairs, small, agents)
    total = len(games) + len(duels)
    returns = arena.play(games, _shifted(on_progress, 0, total))
    rows = [
        _row(opponent, part, pool)
        for opponent, part in zip(opponents, by_seat(returns, len(opponents), agents), strict=True)
    ]
    matrix = np.full((len(snapshots), len(snapshots)), np.nan)
    if pairs:
        between = arena.play(duels, _shifted(on_progress, len(games), total))
        _fill(matrix, snapshots, pairs, by_seat(between, len(pairs), agents))
    result = Evaluation(
        rows=tuple(rows),
        seeds=len(seeds),
        first_seed=first,
        snapshots=tuple(snapshots),
        matrix=tuple(tuple(None if math.isnan(x) else float(x) for x in line) for line in matrix),
        matrix_seeds=len(small),
        agents=layout.agents,
    )
    write_atomically(run.evaluation, result.to_json().encode())
    return result


def _final(path: Path) -> Mapping[str, NDArray[Any]]:
    try:
        loaded: dict[str, NDArray[Any]] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ConfigError(
            f"{path} cannot be read ({error}): the run has not been finished. Finish it by --resume first."
        ) from error
    return loaded


def _row(opponent: int, played: NDArray[np.float64], pool: AgentPool) -> Row:
    if opponent == RANDOM:
        return row_of("random", None, played)
    return row_of(f"snapshot {opponent}", int(pool.metadata(opponent)["steps"]), played)


def _fill(
    matrix: NDArray[np.float64],
    snapshots: Sequence[int],
    pairs: Sequence[tuple[int, int]],
    played: NDArray[np.float64],
) -> None:
    place = {snapshot: i for i, snapshot in enumerate(snapshots)}
    for (i, j), part in zip(pairs, played, strict=True):
        score = float(outcomes(part).mean())
        matrix[place[i], place[j]] = score
        if np.isnan(matrix[place[j], place[i]]):
            matrix[place[j], place[i]] = 1.0 - score


def _shifted(on_progress: Progress | None, before: int, total: int) -> Progress | None:
    if on_progress is None:
        return None
    listener = on_progress
    return lambda done, _: listener(before + done, total)

"""What the directory of a run says, also of one that is still going on, was killed, or was never evaluated."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from macurr.errors import ConfigError, MacurrError, PoolError
from macurr.opponents import AgentPool
from macurr.training.config import TrainConfig
from macurr.training.evaluation import Evaluation
from macurr.training.population_history import read_history
from macurr.training.reporting.series import Floats
from macurr.training.rundir import RunDir, read_csv

__all__ = ["FINAL", "History", "Record", "Snapshot", "read_record"]

FINAL = "final policy"
"""What an evaluation calls it."""

_NONE = np.zeros(0)


@dataclass(frozen=True)
class Snapshot:
    """A policy of the run's past.

    Attributes:
        id: Its id in the pool.
        steps: Environment steps after which it was taken.
    """

    id: int
    steps: int


@dataclass(frozen=True)
class History:
    """How often each level and each opponent was played, and what levels scored, at some points in time.

    Attributes:
        steps: float64 (n,), the points in time.
        plays: int64 (n, levels), episodes so far.
        scores: float64 (n, levels), the latest score; not a number before the first.
        opponents: int64 (k,), the ids of the snapshots that were played.
        taken: int64 (k,), environment steps after which each was taken; -1 where that is not known.
        met: int64 (n, k), episodes against each so far.
    """

    steps: Floats
    plays: NDArray[np.int64]
    scores: Floats
    opponents: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    taken: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    met: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 0), np.int64))

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> History:
        """From the state of a `PlayHistory`."""
        history = cls(
            np.asarray(kept["steps"], np.float64),
            np.asarray(kept["past_plays"], np.int64),
            np.asarray(kept["past_scores"], np.float64),
        )
        if "past_opponents" not in kept:  # a run of an earlier macurr
            return history
        met = np.asarray(kept["past_opponents"], np.int64)[:-1]
        played = met.any(axis=0)
        return replace(
            history,
            opponents=np.asarray(kept["opponents"], np.int64)[played],
            taken=np.asarray(kept["taken"], np.int64)[played],
            met=met[:, played],
        )

    @property
    def intervals(self) -> NDArray[np.int64]:
        """Episodes of each level since the point in time before, int64 (n, levels)."""
        return np.asarray(np.diff(self.plays, axis=0, prepend=0), np.int64)

    @property
    def known(self) -> NDArray[np.int64]:
        """The points in time at which some level had a score."""
        return np.flatnonzero(np.isfinite(self.scores).any(axis=1))

    @property
    def total(self) -> NDArray[np.int64]:
        """Episodes of each level, int64 (levels,)."""
        return np.asarray(self.plays[-1])


@dataclass(frozen=True)
class Record:
    """A run, as far as its directory tells.

    Attributes:
        directory: The directory.
        config: The settings.
        metrics: Columns of metrics.csv.
        timing: Columns of timing.csv.
        state: The checkpoint; empty where there is none.
        evaluation: What was played at the end; None where nothing was.
        snapshots: The pool's policies, oldest first.
        notes: What cannot be shown, and why.
        population: The lines of population.jsonl, oldest first.
    """

    directory: RunDir
    config: TrainConfig
    metrics: Mapping[str, Floats]
    timing: Mapping[str, Floats]
    state: Mapping[str, Any]
    evaluation: Evaluation | None
    snapshots: tuple[Snapshot, ...]
    notes: tuple[str, ...]
    population: tuple[Mapping[str, Any], ...] = ()

    @property
    def steps(self) -> int:
        """Environment steps so far."""
        steps = self.metrics.get("steps", _NONE)
        return int(steps[-1]) if len(steps) else 0

    @property
    def updates(self) -> int:
        """Updates so far."""
        return len(self.metrics.get("steps", _NONE))

    @property
    def seconds(self) -> float:
        """Seconds of training so far."""
        seconds = self.timing.get("seconds", _NONE)
        return float(seconds[-1]) if len(seconds) else 0.0

    @property
    def done(self) -> float | None:
        """Share of the run that is done; None where the run has no bound that tells."""
        shares = []
        if self.config.max_steps is not None:
            shares.append(self.steps / self.config.max_steps)
        if self.config.max_minutes is not None:
            shares.append(self.seconds / 60 / self.config.max_minutes)
        return min(max(shares), 1.0) if shares else None

    @property
    def evaluated(self) -> bool:
        """Whether the evaluation is of the policy that the run has come to."""
        if self.evaluation is None or not self.snapshots or self.snapshots[-1].steps < self.steps:
            return False
        newest = self.snapshots[-1]
        final = next((team.steps for team in self.evaluation.teams if team.name == FINAL), None)
        return self.evaluation.snapshots[-1:] == (newest.id,) or final == newest.steps

    @cached_property
    def history(self) -> History | None:
        """The levels over time; None before the first."""
        kept = self.state.get("history")
        if not kept or not len(kept["steps"]):
            return None
        return History.of(kept)

    def steps_of(self, snapshot: int) -> int | None:
        """When a snapshot was taken; None where it has left the pool."""
        return next((each.steps for each in self.snapshots if each.id == snapshot), None)

    def column(self, name: str) -> Floats | None:
        """A column of metrics.csv that holds numbers, or None."""
        values = self.metrics.get(name)
        return None if values is None or not np.isfinite(values).any() else values


def read_record(path: str | os.PathLike[str]) -> Record:
    """Read a run's directory.

    Args:
        path: The directory.

    Raises:
        ConfigError: it is no run, or one that has not made an update yet.
    """
    run, config = RunDir.open(os.fspath(path))
    metrics = _table(run.metrics)
    if not len(metrics.get("steps", ())):
        raise ConfigError(
            f"The run {run.path} has no numbers yet: its metrics.csv is empty or missing. Wait for its first update."
        )
    notes: list[str] = []
    return Record(
        run,
        config,
        metrics,
        _table(run.timing),
        _state(run, notes),
        _evaluation(run, notes),
        _snapshots(run, notes),
        tuple(notes),
        tuple(read_history(run.path / "population.jsonl")),
    )


def _table(file: Path) -> dict[str, Floats]:
    return {name: np.array(values, np.float64) for name, values in read_csv(file).items()}


def _state(run: RunDir, notes: list[str]) -> Mapping[str, Any]:
    try:
        state = run.load()
    except ConfigError:
        state = None
    if state is None:
        notes.append("It has no readable checkpoint, so nothing is known of single levels.")
        return {}
    return state


def _evaluation(run: RunDir, notes: list[str]) -> Evaluation | None:
    if not run.evaluation.exists():
        return None
    try:
        return Evaluation.from_json(run.evaluation.read_text())
    except (OSError, ValueError, TypeError, KeyError):
        notes.append("Its evaluation.json cannot be read. `macurr evaluate` writes it anew.")
        return None


def _snapshots(run: RunDir, notes: list[str]) -> tuple[Snapshot, ...]:
    if not run.snapshots.exists():
        return ()
    try:
        pool = AgentPool(run.snapshots, create=False)
    except (MacurrError, OSError) as error:
        notes.append(f"Its snapshots cannot be read: {error}")
        return ()
    found = []
    for snapshot in pool.ids:
        with suppress(PoolError):  # a run that is going on has dropped it meanwhile
            found.append(Snapshot(snapshot, int(pool.metadata(snapshot).get("steps", 0))))
    return tuple(found)

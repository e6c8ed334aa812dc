"""Rollouts from the learner, cut into the episodes that they hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from macurr.curricula.plr.strategies import Strategy
from macurr.errors import TaskError
from macurr.spaces.forms import frozen

CRITICS = ("values", "alternative_values")
"""The columns that are critics' values."""


@dataclass(frozen=True)
class Segment:
    """Consecutive steps of one episode in one column of a rollout.

    Attributes:
        column: The column.
        steps: The steps, in order, shape (n,).
        task: The encoded task.
        ended: Whether the episode ended with the last of them.
        truncated: Whether it ended by a truncation.
    """

    column: int
    steps: NDArray[np.int64]
    task: Any
    ended: bool
    truncated: bool


@dataclass(frozen=True, eq=False)
class Rollout:
    """T steps of N environments or agents, as the learner keeps them.

    Attributes:
        tasks: `tasks[t][n]` is the encoded task of the episode that step t of column n belongs to.
        rewards: Shape (T, N).
        terminations: Whether the episode terminated with the step, shape (T, N).
        truncations: Whether it was truncated with the step, shape (T, N).
        columns: What the strategy needs of each step, by name, each (T, N, ...).
        final_values: By name of the critic's column, the value of what follows each step, (T, N); read only
            at truncations.
        active: Which steps are data, shape (T, N): not the padding after an agent's death.
    """

    tasks: Sequence[Any]
    rewards: NDArray[np.float64]
    terminations: NDArray[np.bool_]
    truncations: NDArray[np.bool_]
    columns: dict[str, NDArray[Any]]
    final_values: dict[str, NDArray[np.float64]]
    active: NDArray[np.bool_]

    def segments(self) -> Iterator[Segment]:
        """The pieces of episodes, column by column, in order.

        Raises:
            TaskError: a column changes its task within an episode.
        """
        for column in range(self.rewards.shape[1]):
            steps = np.flatnonzero(self.active[:, column])
            ends = np.flatnonzero((self.terminations | self.truncations)[steps, column]) + 1
            for start, end in zip([0, *ends], [*ends, len(steps)], strict=True):
                if start < end:
                    yield self._segment(column, steps[start:end])

    def _segment(self, column: int, steps: NDArray[np.int64]) -> Segment:
        terminated, truncated = self.terminations[steps[-1], column], self.truncations[steps[-1], column]
        task, last = self.tasks[steps[0]][column], self.tasks[steps[-1]][column]
        if frozen(task) != frozen(last):
            raise TaskError(
                f"Column {column} of the rollout goes from task {task!r} to {last!r} between steps {steps[0]} and "
                f"{steps[-1]} without an episode's end. tasks[t][n] is the task in which step t was taken."
            )
        return Segment(
            column,
            steps,
            task,
            ended=bool(terminated or truncated),
            truncated=bool(truncated and not terminated),
        )

    def final_value(self, segment: Segment, name: str) -> float:
        """The value of what follows an ended segment: 0 unless it was truncated."""
        if not segment.truncated or name not in self.columns:
            return 0.0
        return float(self.final_values[name][segment.steps[-1], segment.column])


def make_rollout(
    strategy: Strategy,
    tasks: Sequence[Any],
    rewards: ArrayLike,
    terminations: ArrayLike,
    truncations: ArrayLike | None,
    columns: dict[str, ArrayLike | None],
    final_values: dict[str, ArrayLike | None],
    active: ArrayLike | None,
) -> Rollout:
    """Check a rollout and make arrays of it.

    Raises:
        TaskError: a shape does not fit, a number is not finite, or something is missing that the strategy
        needs.
    """
    gains = _finite("rewards", rewards)
    if gains.ndim != 2 or len(tasks) != len(gains):
        raise TaskError(
            f"Rollouts need rewards of shape (T, N) and T rows of tasks; got {gains.shape} and {len(tasks)} rows."
        )
    done = _shaped("terminations", np.asarray(terminations, np.bool_), gains.shape)
    cut = np.zeros_like(done) if truncations is None else np.asarray(truncations, np.bool_)
    rows = np.ones_like(done) if active is None else np.asarray(active, np.bool_)
    needed = {}
    for name in sorted(strategy.needs):
        given = columns.get(name)
        if given is None:
            raise TaskError(f"Strategy {strategy.name!r} scores rollouts by their {name}; pass them as well.")
        needed[name] = _shaped(name, _finite(name, given), gains.shape)
    _shaped("truncations", cut, gains.shape)
    _shaped("active", rows, gains.shape)
    return Rollout(tasks, gains, done, cut, needed, _finals(strategy, cut & ~done & rows, final_values), rows)


def _finals(
    strategy: Strategy, truncated: NDArray[np.bool_], given: dict[str, ArrayLike | None]
) -> dict[str, NDArray[np.float64]]:
    finals = {}
    for name in [name for name in CRITICS if name in strategy.needs]:
        values = given.get(name)
        if values is None:
            if truncated.any() and not strategy.grounded:
                raise TaskError(
                    "The rollout holds truncated episodes, whose scores need the value of the observation after "
                    f"their last step: pass final_{name} of shape {truncated.shape} as well."
                )
            finals[name] = np.zeros(truncated.shape)
            continue
        finals[name] = _shaped(f"final_{name}", np.asarray(values, np.float64), truncated.shape)
        if not np.isfinite(finals[name][truncated]).all():
            raise TaskError(f"final_{name} must be finite at every truncation.")
    return finals


def _finite(name: str, given: ArrayLike) -> NDArray[np.float64]:
    try:
        values = np.asarray(given, np.float64)
    except (TypeError, ValueError) as error:
        raise TaskError(f"The rollout's {name} must be an array of numbers: {error}.") from error
    if not np.isfinite(values).all():
        raise TaskError(f"The rollout's {name} must be finite; got NaN or infinity among them.")
    return values


def _shaped(name: str, values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    if values.shape[: len(shape)] != shape:
        raise TaskError(
            f"The rollout's {name} must have shape {shape}, like its rewards; got {values.shape}."
        )
    return values

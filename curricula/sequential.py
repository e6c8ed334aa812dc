"""Stages one after another, each until its stopping condition holds."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from macurr.curricula._composite import Composite
from macurr.curricula._outcomes import mean_of
from macurr.curricula._states import StateReader
from macurr.curricula.basic import Constant, DomainRandomization
from macurr.curricula.expressions import Condition, parse_condition
from macurr.curricula.manual import Manual
from macurr.curriculum import Curriculum
from macurr.errors import TaskError, UsageError
from macurr.spaces import TaskSpace

__all__ = ["STAGE_METRICS", "Schedule", "Sequential"]

_COUNTS = ("steps", "episodes", "tasks")
STAGE_METRICS = (
    *_COUNTS,
    "episode_return",
    "episode_length",
    "progress",
    *(f"total_{name}" for name in _COUNTS),
)
"""What stopping conditions may compare."""


class Sequential(Composite):
    """Curricula in stages: each serves until its stopping condition holds, then the next one takes over.

    Conditions see the numbers of the current stage's episodes: `steps` and `episodes` that ended, `tasks` drawn
    less those aborted, the means `episode_return`, `episode_length` and `progress` of the last `window`
    episodes (nothing compares with them before the first), and `total_steps`, `total_episodes`, `total_tasks`
    over all stages. Steps count when their episode ends. Several agents' returns and progress enter as their
    mean. What an episode of an earlier stage still reports goes to the curriculum that drew it and to the totals.

    Args:
        task_space: The tasks; those of every stage lie in it.
        stages: Curricula; or for short a task space (uniform over it), a list of encoded tasks (uniform over
            them), or an encoded task (always that one).
        conditions: For each stage but the last: text such as `"episode_return>=0.9&episodes>=50"` (see
            `macurr.curricula.expressions`), or a function of the mapping of these numbers.
        window: How many of the latest episodes the means are over.
        options: The base class's keywords.

    Raises:
        UsageError: there is not one condition fewer than stages, or a condition cannot be read.
        TaskError: a stage's task is not in the space.

    Example:
        >>> from macurr import DiscreteTaskSpace
        >>> space = DiscreteTaskSpace(10)
        >>> stages = [0, [0, 1, 2], space]
        >>> curriculum = Sequential(space, stages, ["episodes>=2", "progress>=0.9 | steps>=1000"])
        >>> curriculum.sample(2), curriculum.stage
        ([0, 0], 0)
    """

    def __init__(
        self,
        task_space: TaskSpace,
        stages: Sequence[Any],
        conditions: Sequence[str | Condition],
        *,
        window: int = 100,
        **options: Any,
    ) -> None:
        if len(conditions) != len(stages) - 1:
            raise UsageError(
                f"{len(stages)} stages need {len(stages) - 1} conditions, for all but the last one; "
                f"got {len(conditions)}."
            )
        if window < 1:
            raise UsageError(f"window must be 1 or more; got {window!r}.")
        rng = np.random.default_rng(options.get("seed"))
        super().__init__(task_space, [_stage(stage, task_space, rng) for stage in stages], **options)
        self._conditions = [
            parse_condition(condition, STAGE_METRICS) if isinstance(condition, str) else condition
            for condition in conditions
        ]
        self._stage = 0
        self._counts = dict.fromkeys(_COUNTS, 0)
        self._totals = dict.fromkeys(_COUNTS, 0)
        self._latest: dict[str, deque[float]] = {
            name: deque(maxlen=window) for name in ("episode_return", "episode_length", "progress")
        }

    @property
    def stage(self) -> int:
        """The number of the current stage, from 0."""
        return self._stage

    @property
    def stage_metrics(self) -> dict[str, float]:
        """The numbers that conditions see; NaN for means of nothing."""
        means = {
            name: math.fsum(values) / len(values) if values else math.nan
            for name, values in self._latest.items()
        }
        totals = {f"total_{name}": float(count) for name, count in self._totals.items()}
        return {**{name: float(count) for name, count in self._counts.items()}, **means, **totals}

    @override
    def _sample(self, k: int) -> list[Any]:
        drawn = []
        for _ in range(k):
            self._advance()
            drawn.append(self._draw_from(self._stage))
            self._add("tasks", 1)
        return drawn

    @override
    def _receivers(self, task: Any, source: int | None) -> Sequence[int]:
        if source is not None:
            return (source,)
        return (self._stage,) if self.parts[self._stage].task_space.contains(task) else ()

    @override
    def update_on_episode(
        self, episode_return: Any, length: int, task: Any, progress: Any, env_id: int | None = None
    ) -> None:
        numbers = {
            "episode_return": mean_of(episode_return),
            "episode_length": float(length),
            "progress": mean_of(progress),
        }
        if not math.isfinite(numbers["progress"]):
            raise TaskError(f"The progress {progress!r} on task {task!r} is not finite.")
        source = self._origins.peek(task, env_id)
        super().update_on_episode(episode_return, length, task, progress, env_id)
        self._totals["steps"] += length
        self._totals["episodes"] += 1
        if source in (None, self._stage):
            self._counts["steps"] += length
            self._counts["episodes"] += 1
            for name, value in numbers.items():
                self._latest[name].append(value)
        self._advance()

    @override
    def update_on_abort(self, task: Any, env_id: int | None = None) -> None:
        source = self._origins.peek(task, env_id)
        super().update_on_abort(task, env_id)
        if source is not None:
            self._totals["tasks"] -= 1
            self._counts["tasks"] -= source == self._stage

    def _add(self, name: str, count: int) -> None:
        self._counts[name] += count
        self._totals[name] += count

    def _advance(self) -> None:
        """Go on to the next stage if the condition of this one holds."""
        if self._stage == len(self._conditions) or not self._conditions[self._stage](self.stage_metrics):
            return
        self._stage += 1
        self._counts = dict.fromkeys(_COUNTS, 0)
        for values in self._latest.values():
            values.clear()

    @override
    def distribution(self) -> NDArray[np.float64] | None:
        self._advance()
        part = self.parts[self._stage]
        return part.distribution() if part.task_space.num_tasks == self.task_space.num_tasks else None

    @override
    def metrics(self) -> dict[str, float]:
        numbers = {name: value for name, value in self.stage_metrics.items() if not math.isnan(value)}
        return {**super().metrics(), "stage": float(self._stage), **numbers}

    @override
    def state_dict(self) -> dict[str, Any]:
        return {
            **super().state_dict(),
            "stage": self._stage,
            "counts": [self._counts[name] for name in _COUNTS],
            "totals": [self._totals[name] for name in _COUNTS],
            **{name: list(values) for name, values in self._latest.items()},
        }

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        reader = StateReader(state, type(self).__name__, {"stage", "counts", "totals", *self._latest})
        stage = reader.integer("stage", 0, len(self._conditions))
        counts = [_counts(reader, key) for key in ("counts", "totals")]
        latest = {name: reader.numbers(name, values.maxlen) for name, values in self._latest.items()}
        if len({len(values) for values in latest.values()}) > 1:
            raise reader.fail("episode_return", "of the same length as episode_length and progress")
        super().load_state_dict(state)
        self._stage = stage
        self._counts, self._totals = counts
        for name, values in latest.items():
            self._latest[name].clear()
            self._latest[name].extend(values)


class Schedule(Sequential):
    """Curricula that take turns at fixed times.

    Args:
        task_space: The tasks; those of every stage lie in it.
        stages: As for `Sequential`.
        times: When the second, third, ... stage begins, counted from the very beginning, in ascending order.
        by: What is counted: "steps" of ended episodes, "episodes" ended, or "tasks" drawn.
        options: The keywords of `Sequential`.

    Raises:
        UsageError: the times are not ascending, or do not fit the stages.
    """

    def __init__(
        self,
        task_space: TaskSpace,
        stages: Sequence[Any],
        times: Sequence[int],
        *,
        by: str = "steps",
        **options: Any,
    ) -> None:
        if by not in _COUNTS:
            raise UsageError(f"by must be one of {list(_COUNTS)}; got {by!r}.")
        if any(later <= earlier for earlier, later in pairwise(times)):
            raise UsageError(f"The times of a schedule must ascend; got {list(times)}.")
        super().__init__(task_space, stages, [f"total_{by}>={time}" for time in times], **options)


def _stage(stage: Any, space: TaskSpace, rng: np.random.Generator) -> Curriculum:
    if isinstance(stage, Curriculum):
        return stage
    seed = int(rng.integers(2**63))
    if isinstance(stage, TaskSpace):
        return DomainRandomization(stage, seed=seed)
    return Manual(space, stage, seed=seed) if isinstance(stage, list) else Constant(space, stage, seed=seed)


def _counts(reader: StateReader, key: str) -> dict[str, int]:
    values = reader.numbers(key, len(_COUNTS))
    if len(values) != len(_COUNTS) or any(value != int(value) for value in values):
        raise reader.fail(key, f"{len(_COUNTS)} whole numbers")
    return dict(zip(_COUNTS, map(int, values), strict=True))

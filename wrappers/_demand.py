"""What the learner tells about dual tasks, `{"tasks": ..., "scores": ...}` or `{"rollout": {...}}`, taken apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from macurr.errors import TaskError

Message = dict[str, Any]
Metrics = Mapping[str, Any]

_LISTS = (tuple, list)


def pair(task: Any) -> tuple[Any, Any]:
    """Opponent and level of a dual task.

    Raises:
        TaskError: it does not have these two parts.
    """
    sequence = isinstance(task, _LISTS) or (isinstance(task, np.ndarray) and task.ndim > 0)
    if not sequence or len(task) != 2:
        raise TaskError(f"A dual task is a pair (agent, env) of an opponent and a level; got {task!r}.")
    return task[0], task[1]


def about_tasks(metrics: Metrics) -> bool:
    """Whether a message is about tasks."""
    return "tasks" in metrics or "rollout" in metrics


def map_tasks(metrics: Metrics, choose: Callable[[Any], Any]) -> Message:
    """The message with every task replaced by what `choose` makes of it."""
    message = dict(metrics)
    if "tasks" in metrics:
        tasks = metrics["tasks"]
        message["tasks"] = choose(tasks) if _about_one(metrics) else [choose(task) for task in tasks]
    if "rollout" in metrics:
        rows = [
            [None if task is None else choose(task) for task in row] for row in metrics["rollout"]["tasks"]
        ]
        message["rollout"] = {**metrics["rollout"], "tasks": rows}
    return message


def by_opponent(
    metrics: Metrics, checked: Callable[[Any], tuple[int, Any]]
) -> list[tuple[int, Message]] | None:
    """A message about dual tasks as one message about levels for each opponent that it names.

    Args:
        metrics: The message. Of its entries beside "tasks", those with one number for each task are split along;
            the others go to every opponent.
        checked: The number of a task's opponent and its level; raises TaskError for a task that is none.

    Returns:
        By number of the opponent; None where the message is about no tasks.

    Raises:
        TaskError: lengths differ, or a score is not finite.
    """
    if not about_tasks(metrics):
        return None
    messages: dict[int, Message] = {}
    rest = {key: value for key, value in metrics.items() if key not in ("tasks", "rollout")}
    if "tasks" in metrics:
        one = _about_one(metrics)
        tasks = [metrics["tasks"]] if one else metrics["tasks"]
        rows = {key: _rows(key, [value] if one else value, len(tasks)) for key, value in rest.items()}
        split = {key: values for key, values in rows.items() if values is not None}
        rest = {key: value for key, value in rest.items() if key not in split}
        for slot, where, levels in _grouped([checked(task) for task in tasks]):
            messages[slot] = {"tasks": levels, **{key: values[where] for key, values in split.items()}}
    if "rollout" in metrics:
        for slot, rollout in _rollouts(metrics["rollout"], checked):
            messages.setdefault(slot, {})["rollout"] = rollout
    return [(slot, {**rest, **message}) for slot, message in messages.items()]


def _about_one(metrics: Metrics) -> bool:
    scores = metrics.get("scores", ())
    return not isinstance(scores, Mapping) and np.ndim(scores) == 0


def _rows(key: str, value: Any, n: int) -> NDArray[Any] | None:
    """A message's entry as an array with one row for each of n tasks; None where it is something else."""
    if key in ("scores", "max_scores") and value is not None:
        scores = np.asarray(value, np.float64)
        if scores.shape != (n,) or not np.isfinite(scores).all():
            raise TaskError(f"{key} must be {n} finite numbers, one for each task; got {value!r}.")
        return scores
    if isinstance(value, str | Mapping) or not hasattr(value, "__len__") or len(value) != n:
        return None
    return np.asarray(value)


def _grouped(taken: Sequence[tuple[int, Any]]) -> list[tuple[int, list[int], list[Any]]]:
    """For each opponent, the places of its tasks and their levels."""
    places: dict[int, list[int]] = {}
    for place, (slot, _) in enumerate(taken):
        places.setdefault(slot, []).append(place)
    return [(slot, where, [taken[place][1] for place in where]) for slot, where in places.items()]


def _rollouts(rollout: Metrics, checked: Callable[[Any], tuple[int, Any]]) -> list[tuple[int, Message]]:
    """A rollout for each opponent: the same columns, of which only the steps against it are active."""
    tasks = rollout["tasks"]
    shape = (len(tasks), len(tasks[0]) if len(tasks) else 0)
    given = rollout.get("active")
    active = np.ones(shape, dtype=bool) if given is None else np.asarray(given, dtype=bool)
    if active.shape != shape or any(len(row) != shape[1] for row in tasks):
        raise TaskError(
            f"A rollout's tasks are {shape[0]} rows of {shape[1]}; its mask has shape {active.shape}."
        )
    slots = np.full(shape, -1)
    levels: list[list[Any]] = [[None] * shape[1] for _ in range(shape[0])]
    for t, column in np.argwhere(active):
        slots[t, column], levels[t][column] = checked(tasks[t][column])
    return [
        (int(slot), {**rollout, "tasks": levels, "active": active & (slots == slot)})
        for slot in np.unique(slots[active])
    ]

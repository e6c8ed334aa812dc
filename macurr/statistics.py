"""Running statistics of the episodes on each task."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

from macurr.errors import StateError, TaskError
from macurr.spaces import TaskSpace

__all__ = ["StatRecorder", "TaskStats"]


class TaskStats:
    """Count, mean, variance, exponential mean and a window of one task's returns.

    Mean and variance are Welford's (1962): exact in one pass, without cancellation.
    """

    __slots__ = ("_squares", "count", "ema", "length", "mean", "window")

    def __init__(self, window: int) -> None:
        self.count = 0
        self.mean = 0.0
        self.ema = 0.0
        self.length = 0.0
        self._squares = 0.0
        self.window: deque[float] = deque(maxlen=window)

    @property
    def variance(self) -> float:
        """Population variance of the returns; 0 before there are two."""
        return self._squares / self.count if self.count > 1 else 0.0

    def add(self, value: float, length: int, ema_alpha: float) -> None:
        """Count one episode in."""
        self.count += 1
        delta = value - self.mean
        self.mean += delta / self.count
        self._squares += delta * (value - self.mean)
        self.ema = value if self.count == 1 else self.ema + ema_alpha * (value - self.ema)
        self.length += (length - self.length) / self.count
        self.window.append(value)

    def state(self) -> list[Any]:
        """Everything, as plain values."""
        return [self.count, self.mean, self.ema, self.length, self._squares, list(self.window)]

    def load(self, state: list[Any]) -> None:
        """Go on from `state()`."""
        self.count, self.mean, self.ema, self.length, self._squares = int(state[0]), *map(float, state[1:5])
        self.window.clear()
        self.window.extend(float(value) for value in state[5])


class StatRecorder:
    """Per-task running statistics of episode returns and lengths.

    Multi-agent returns are recorded as the mean over agents. Tasks of a finite space are kept by position, so
    memory grows with the tasks seen, not with the space.

    Args:
        task_space: The tasks.
        ema_alpha: Weight of the newest episode in the exponential mean.
        window: How many of the latest returns to keep for each task.
    """

    def __init__(self, task_space: TaskSpace, ema_alpha: float = 0.1, window: int = 10) -> None:
        if not 0 < ema_alpha <= 1 or window < 1:
            raise TaskError(f"ema_alpha must be in (0, 1] and window positive; got {ema_alpha} and {window}.")
        self.task_space = task_space
        self.ema_alpha = ema_alpha
        self.window = window
        self._tasks: dict[Any, TaskStats] = {}
        self._all = TaskStats(window)

    def record(self, task: Any, episode_return: Any, length: int) -> None:
        """Count in an episode.

        Raises:
            TaskError: the task is not in the space, or the return is not finite.
        """
        value = _mean(episode_return)
        if not math.isfinite(value):
            raise TaskError(f"The return {episode_return!r} on task {task!r} is not finite.")
        key = self._key(task)
        if key not in self._tasks:
            self._tasks[key] = TaskStats(self.window)
        self._tasks[key].add(value, length, self.ema_alpha)
        self._all.add(value, length, self.ema_alpha)

    def task(self, task: Any) -> TaskStats:
        """The statistics of one task; empty where it has not been seen.

        Raises:
            TaskError: the task is not in the space.
        """
        return self._tasks.get(self._key(task)) or TaskStats(self.window)

    @property
    def overall(self) -> TaskStats:
        """The statistics over all tasks."""
        return self._all

    def normalize(self, reward: float, task: Any) -> float:
        """A reward divided by the standard deviation of its task's returns, or unchanged while that is 0."""
        deviation = math.sqrt(self.task(task).variance)
        return reward / deviation if deviation > 0 else reward

    def metrics(self) -> dict[str, float]:
        """Overall numbers, ready to be logged."""
        return {
            "episodes": float(self._all.count),
            "tasks_seen": float(len(self._tasks)),
            "return_mean": self._all.mean,
            "return_ema": self._all.ema,
            "length_mean": self._all.length,
        }

    def state_dict(self) -> dict[str, Any]:
        """Everything, as plain values."""
        return {
            "keys": list(self._tasks),
            "tasks": [stats.state() for stats in self._tasks.values()],
            "all": self._all.state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()`.

        Raises:
            StateError: the state is no state of a recorder; nothing is changed.
        """
        try:
            tasks = {
                self._known(key): self._loaded(saved)
                for key, saved in zip(state["keys"], state["tasks"], strict=True)
            }
            everything = self._loaded(state["all"])
        except (KeyError, IndexError, OverflowError, TypeError, ValueError) as error:
            raise StateError(f"This is no state of a StatRecorder: {error!r}.") from error
        self._tasks, self._all = tasks, everything

    def _loaded(self, state: list[Any]) -> TaskStats:
        stats = TaskStats(self.window)
        stats.load(state)
        return stats

    def _known(self, key: Any) -> int | str:
        wanted: type = str if self.task_space.num_tasks is None else int
        if not isinstance(key, int | str) or type(key) is not wanted:
            raise ValueError(f"{key!r} is no key of a task")
        return key

    def _key(self, task: Any) -> int | str:
        # Continuous tasks hardly ever repeat exactly; their digits are as good a key as any.
        return (
            self.task_space.index(task)
            if self.task_space.num_tasks is not None
            else self.task_space.name(task)
        )


def _mean(episode_return: Any) -> float:
    if not isinstance(episode_return, Mapping):
        return float(episode_return)
    return sum(map(float, episode_return.values())) / len(episode_return) if episode_return else 0.0

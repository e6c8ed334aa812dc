"""What an episode's result says about success, and numbers by agent."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from macurr.errors import TaskError, UsageError

__all__ = ["Success", "SuccessRule", "check_fraction", "mean_of"]

Success = str | Callable[[float, float], float]
"""How an episode's return and final progress become a success from 0 to 1: a name, or a function of both."""


def _by_progress(_: float, progress: float) -> float:
    return min(max(float(progress), 0.0), 1.0)


def _solved(episode_return: float, progress: float) -> float:
    return 1.0 if episode_return > 0 or progress >= 1.0 else 0.0


def _by_return(episode_return: float, _: float) -> float:
    return 1.0 if episode_return > 0 else 0.0


_RULES: dict[str, Callable[[float, float], float]] = {
    "solved": _solved,
    "progress": _by_progress,
    "return": _by_return,
}


class SuccessRule:
    """A function of an episode's return, final progress and task that gives its success.

    Args:
        rule: "solved": 1 where the return is positive or the task completed, else 0. "progress": the task
            completion at the episode's end, clipped to [0, 1]. "return": 1 where the return is positive, else 0.
            Or a function of return and progress.

    Raises:
        UsageError: there is no such rule.
    """

    def __init__(self, rule: Success) -> None:
        if not callable(rule) and rule not in _RULES:
            raise UsageError(
                f"success must be one of {sorted(_RULES)} or a function of return and progress; got {rule!r}."
            )
        self._function = rule if callable(rule) else _RULES[rule]

    def __call__(self, episode_return: float, progress: float, task: Any) -> float:
        """The success, from 0 to 1.

        Raises:
            TaskError: the progress is not finite, or the rule gave something else.
        """
        if not math.isfinite(progress):
            raise TaskError(f"The progress {progress!r} on task {task!r} is not finite.")
        value = float(self._function(episode_return, progress))
        if not 0.0 <= value <= 1.0:
            raise TaskError(
                f"success({episode_return!r}, {progress!r}) on task {task!r} is {value!r}. "
                "It has to be from 0 to 1."
            )
        return value


def mean_of(values: Any) -> float:
    """One number from numbers by agent, their mean (0 if there are none), or from a plain one."""
    if isinstance(values, Mapping):
        return float(np.mean([float(value) for value in values.values()])) if values else 0.0
    return 0.0 if values is None else float(values)


def check_fraction(name: str, value: float, *, zero: bool = True) -> float:
    """Return `value` if it is from 0 to 1, and not 0 unless `zero`.

    Raises:
        UsageError: it is not.
    """
    if not 0.0 <= value <= 1.0 or (value == 0.0 and not zero):
        raise UsageError(
            f"{name} must be {'from' if zero else 'above'} 0 {'to' if zero else 'and at most'} 1; got {value!r}."
        )
    return float(value)

"""A handle that leads to no curriculum: what environments cost without one."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from macurr.host import Assignment
from macurr.spaces.product import task_type

Task = task_type(("agent", "env"))


class Alone:
    """A link that leads nowhere: tasks are drawn here, opponent 0 and any level, and updates are thrown away."""

    env_id = 0
    step_fields: frozenset[str] = frozenset()

    def __init__(self, levels: int) -> None:
        self._levels, self._rng = levels, np.random.default_rng(os.getpid())

    def send(self, update: Any) -> None:
        pass

    def send_all(self, updates: Any, want: int) -> None:
        pass

    def request(self, k: int, *, start: bool) -> None:
        pass

    def started(self, wait: float) -> None:
        pass

    def task(self) -> Assignment:
        task = Task(0, int(self._rng.integers(self._levels)))
        return Assignment(task, task, {})

    def close(self) -> None:
        pass


class Nowhere:
    """The address of no curriculum.

    Args:
        levels: Number of levels that tasks are drawn from.
    """

    def __init__(self, levels: int) -> None:
        self._levels = levels

    def connect(self, spec: Any) -> Alone:
        return Alone(self._levels)

    def connect_many(self, spec: Any, count: int) -> list[Alone]:
        return [self.connect(spec) for _ in range(count)]

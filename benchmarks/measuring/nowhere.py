"""A handle that leads to no curriculum: what environments cost without one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Drawn(NamedTuple):
    """What a link hands out."""

    encoded: Any
    decoded: Any
    info: dict[str, float]


class Alone:
    """A link that leads nowhere: tasks are drawn here, uniformly, and updates are thrown away."""

    env_id = 0
    step_fields: frozenset[str] = frozenset()

    def __init__(self, tasks: Sequence[Drawn]) -> None:
        self._tasks, self._rng = tasks, np.random.default_rng(os.getpid())

    def send(self, update: Any) -> None:
        pass

    def send_all(self, updates: Any, want: int) -> None:
        pass

    def request(self, k: int, *, start: bool) -> None:
        pass

    def started(self, wait: float) -> None:
        pass

    def task(self) -> Drawn:
        return self._tasks[int(self._rng.integers(len(self._tasks)))]

    def close(self) -> None:
        pass


class Nowhere:
    """The address of no curriculum.

    Args:
        tasks: What environments draw from.
    """

    def __init__(self, tasks: Sequence[Drawn]) -> None:
        self._tasks = tasks

    def connect(self, spec: Any) -> Alone:
        return Alone(self._tasks)

    def connect_many(self, spec: Any, count: int) -> list[Alone]:
        return [self.connect(spec) for _ in range(count)]

"""Who drew a task: so that what comes of it reaches the one that chose it."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Any

import numpy as np

from macurr.curricula._states import StateReader
from macurr.errors import StateError
from macurr.spaces import TaskSpace

__all__ = ["Origins"]

MOST = 100_000
"""Tasks remembered: those drawn longest ago are forgotten when nobody ever reports on them."""


class Origins:
    """Remembers for each task that is out who drew it.

    Equal tasks are interchangeable: the first result belongs to the first draw. From an episode's first step or
    progress to its end, the task belongs to its environment.

    Args:
        task_space: The tasks.
    """

    def __init__(self, task_space: TaskSpace) -> None:
        self._space = task_space
        self._out: OrderedDict[Any, deque[int]] = OrderedDict()
        self._tasks: dict[Any, Any] = {}
        self._playing: dict[int, tuple[Any, int]] = {}
        self._count = 0

    def drew(self, task: Any, source: int) -> None:
        """Note that `source` drew a task."""
        key = self._key(task)
        self._out.setdefault(key, deque()).append(source)
        self._tasks[key] = task
        self._count += 1
        while self._count > MOST:
            oldest = next(iter(self._out))
            self._take(oldest)

    def current(self, task: Any, env_id: int | None) -> int | None:
        """Who drew the task that an environment is playing; None if that is not known.

        Raises:
            TaskError: the task is not in the space.
        """
        key = self._key(task)
        bound = self._bound(key, env_id)
        if bound is None and key in self._out:
            bound = self._take(key)
            if env_id is None:
                self._out.setdefault(key, deque()).appendleft(bound)
                self._tasks[key] = task
                self._count += 1
            else:
                self._playing[env_id] = (key, bound)
                self._tasks[key] = task
        return bound

    def peek(self, task: Any, env_id: int | None) -> int | None:
        """`current`, without a change.

        Raises:
            TaskError: the task is not in the space.
        """
        key = self._key(task)
        bound = self._bound(key, env_id)
        return self._out[key][0] if bound is None and key in self._out else bound

    def ended(self, task: Any, env_id: int | None) -> None:
        """Note that an episode of a task ended or was given up."""
        key = self._key(task)
        if self._bound(key, env_id) is not None and env_id is not None:
            del self._playing[env_id]
        elif key in self._out:
            self._take(key)
        if key not in self._out and all(key != other for other, _ in self._playing.values()):
            self._tasks.pop(key, None)

    def _bound(self, key: Any, env_id: int | None) -> int | None:
        if env_id not in self._playing:
            return None
        other, source = self._playing[env_id]
        return source if other == key else None

    def _take(self, key: Any) -> int:
        sources = self._out[key]
        source = sources.popleft()
        self._count -= 1
        if not sources:
            del self._out[key]
            if all(key != other for other, _ in self._playing.values()):
                self._tasks.pop(key, None)
        return source

    def _key(self, task: Any) -> Any:
        return _frozen(task if self._space.was_removed(task) else self._space.check(task))

    def state(self) -> dict[str, Any]:
        """The tasks that are out, those being played first, and who drew them."""
        pairs = [*self._playing.values()]
        pairs += [(key, source) for key, sources in self._out.items() for source in sources]
        return {
            "tasks": [self._space.plain(self._tasks[key]) for key, _ in pairs],
            "sources": [source for _, source in pairs],
        }

    def loaded(self, state: Any, sources: int) -> Origins:
        """What `state()` was taken from, with sources numbered below `sources`.

        Raises:
            StateError: the state is damaged.
        """
        if not isinstance(state, dict) or set(state) != {"tasks", "sources"}:
            raise StateError("The state's tasks that are out are damaged.")
        reader = StateReader({**state, "type": "Origins", "started": 0}, "Origins", {"tasks", "sources"})
        tasks, numbers = reader.tasks("tasks", self._space), reader["sources"]
        if (
            not isinstance(numbers, list)
            or len(numbers) != len(tasks)
            or not all(isinstance(number, int) and 0 <= number < sources for number in numbers)
        ):
            raise reader.fail("sources", f"one number below {sources} for each task")
        origins = Origins(self._space)
        for task, number in zip(tasks, numbers, strict=True):
            origins.drew(task, number)
        return origins


def _frozen(task: Any) -> Any:
    if isinstance(task, np.ndarray):
        return task.tobytes()
    if isinstance(task, dict):
        return tuple((key, _frozen(value)) for key, value in task.items())
    return tuple(map(_frozen, task)) if isinstance(task, tuple | list) else task

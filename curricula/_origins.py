"""Who drew a task: so that what comes of it reaches the one that chose it."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Any

from macurr.curricula._states import StateReader
from macurr.errors import StateError
from macurr.spaces import TaskSpace
from macurr.spaces.forms import frozen

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
        self._out: OrderedDict[Any, tuple[Any, deque[int]]] = (
            OrderedDict()
        )  # by key: the task, and who drew it
        self._playing: dict[int, tuple[Any, Any, int]] = {}  # by environment: key, task, who drew it
        self._count = 0

    def drew(self, task: Any, source: int) -> None:
        """Note that `source` drew a task."""
        self._out.setdefault(self._key(task), (task, deque()))[1].append(source)
        self._count += 1
        if self._count > MOST:
            self._take(next(iter(self._out)))

    def peek(self, task: Any, env_id: int | None) -> int | None:
        """Who drew the task that an environment is playing or about to play; None if that is not known.

        Raises:
            TaskError: the task is not in the space.
        """
        key = self._key(task)
        if self._plays(env_id, key) and env_id is not None:
            return self._playing[env_id][2]
        return self._out[key][1][0] if key in self._out else None

    def current(self, task: Any, env_id: int | None) -> int | None:
        """`peek`, and the task belongs to this environment from now on.

        Raises:
            TaskError: the task is not in the space.
        """
        source, key = self.peek(task, env_id), self._key(task)
        if source is not None and env_id is not None and not self._plays(env_id, key):
            self._playing[env_id] = (key, task, self._take(key))
        return source

    def ended(self, task: Any, env_id: int | None) -> None:
        """Note that an episode of a task ended or was given up."""
        key = self._key(task)
        if self._plays(env_id, key) and env_id is not None:
            del self._playing[env_id]
        elif key in self._out:
            self._take(key)

    def left(self, env_id: int) -> None:
        """Note that an environment is gone."""
        self._playing.pop(env_id, None)

    def _plays(self, env_id: int | None, key: Any) -> bool:
        return env_id in self._playing and self._playing[env_id][0] == key

    def _take(self, key: Any) -> int:
        sources = self._out[key][1]
        source = sources.popleft()
        self._count -= 1
        if not sources:
            del self._out[key]
        return source

    def _key(self, task: Any) -> Any:
        return frozen(task if self._space.was_removed(task) else self._space.check(task))

    def state(self) -> dict[str, Any]:
        """The tasks that are out, those being played first, and who drew them."""
        pairs = [(task, source) for _, task, source in self._playing.values()]
        pairs += [(task, source) for task, sources in self._out.values() for source in sources]
        return {
            "tasks": [self._space.plain(task) for task, _ in pairs],
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

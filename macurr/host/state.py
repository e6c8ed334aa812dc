"""The state of a host: saved, loaded, and the tasks that were out meanwhile."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from macurr.curriculum import Curriculum, check_state
from macurr.errors import StateError, TaskError, UsageError
from macurr.host.records import Counters
from macurr.host.roster import Roster
from macurr.spaces.forms import frozen


class Resumable(Roster):
    """A roster that can be saved. Tasks that were out then are handed out again, or taken up where they were.

    Args:
        curriculum: The curriculum; nobody else may call it from now on.
        max_envs: Only the first that many environments send step updates; None for all.

    Raises:
        UsageError: `curriculum` is no curriculum, or `max_envs` is negative.
    """

    def __init__(self, curriculum: Curriculum, max_envs: int | None = None) -> None:
        super().__init__(curriculum, max_envs)
        self._returned: deque[Any] = deque()

    def state_dict(self, *, tasks_of_envs: bool = True) -> dict[str, Any]:
        """The curriculum's state, the counters, and the tasks that are out: drawn or played, not finished.

        Args:
            tasks_of_envs: Whether tasks that connected environments hold are among those that are out. Without
                them, who loads the state has to `reconnect` the environments.
        """
        with self.locked() as curriculum:
            envs = self._envs.values() if tasks_of_envs else ()
            out = [task for env in envs for task in env.outstanding]
            return {
                "type": "CurriculumHost",
                "curriculum": curriculum.state_dict(),
                "outstanding": [curriculum.task_space.plain(task) for task in [*self._returned, *out]],
                "counters": self.counters.state(),
            }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()`. The tasks that were out are handed out again, before any new ones.

        Raises:
            StateError: the state is not a host's, or not of this curriculum; nothing is changed.
            UsageError: environments are connected already.
        """
        check_state(state, "CurriculumHost", {"curriculum", "outstanding", "counters"})
        with self.locked() as curriculum:
            if self._envs:
                raise UsageError(
                    f"{len(self._envs)} environments are connected; load a state before the first reset."
                )
            counters = Counters.of(state["counters"])
            before = curriculum.state_dict()
            curriculum.load_state_dict(state["curriculum"])
            try:
                # Only now: what a curriculum loads may make its space grow.
                space = curriculum.task_space
                out = [task for task in state["outstanding"] if not space.was_removed(task)]
                self._returned = deque([space.check(task) for task in out])
            except (TaskError, TypeError) as error:
                curriculum.load_state_dict(before)
                raise StateError(f"The state's tasks that are out are damaged: {error}") from error
            self.counters = counters

    def adopt(self, env_id: int, task: Any) -> None:
        """Note a task that an environment was given in an earlier life of the curriculum; nothing is drawn.

        Raises:
            UsageError: the environment is not connected.
        """
        with self._held():
            env, key = self._env(env_id), frozen(task)
            for i, returned in enumerate(self._returned):
                if frozen(returned) == key:  # it was handed out again already, to this very environment
                    del self._returned[i]
                    break
            self.counters.tasks += 1
            env.stock.append((task, self.counters.updates))

    def resume(self, env_id: int, begun: Sequence[Any], stock: Sequence[tuple[Any, int]]) -> None:
        """Give a new environment tasks that were out when the state was saved that this host has loaded.

        They are neither drawn nor counted again.

        Args:
            env_id: The environment, which has no tasks yet.
            begun: The tasks whose end had not been applied.
            stock: The tasks drawn ahead, each with the version at its draw (see `EnvRecord`).

        Raises:
            UsageError: the environment is not connected, or has tasks.
            StateError: the host does not have these tasks to hand out; nothing is changed.
        """
        with self._held():
            env = self._env(env_id)
            if env.outstanding:
                raise UsageError(
                    f"Environment {env_id} has tasks already; only a new one can take up others."
                )
            left = list(self._returned)
            keys = [frozen(task) for task in left]
            for task in [*begun, *(task for task, _ in stock)]:
                if (key := frozen(task)) not in keys:
                    raise StateError(
                        f"Task {task!r} was out in environment {env_id} when its episode was saved, and the curriculum "
                        "has no such task to hand out. Load the curriculum's state of the same moment first."
                    )
                del left[keys.index(key)], keys[keys.index(key)]
            self._returned = deque(left)
            env.begun, env.stock = deque(begun), deque(stock)

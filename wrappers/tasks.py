"""Task wrappers: how a task reaches an environment.

Each takes the task from `options["task"]`, the only channel that other wrappers pass on, or from the keyword
`new_task`; of a dual task (an opponent and a level) it takes the part `env`. Without a task, `reset` means what
it means for the wrapped environment. What a curriculum says of a draw (`Curriculum.task_info`) comes with the task, as
`options["task_info"]`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
from gymnasium.utils.env_checker import data_equivalence
from pettingzoo import AECEnv, ParallelEnv
from pettingzoo.utils.wrappers.base_parallel import BaseParallelWrapper
from typing_extensions import override

from macurr.errors import TaskError, UsageError
from macurr.spaces import DiscreteTaskSpace, TaskSpace

__all__ = [
    "OptionsTaskWrapper",
    "PettingZooTaskWrapper",
    "ReinitTaskWrapper",
    "SeedTaskWrapper",
    "TaskWrapper",
]

Reset = tuple[dict[str, Any], dict[str, Any]]

_CHANNEL = ("task", "task_info")
"""The options that task wrappers read; environments do not see them."""


class PettingZooTaskWrapper(BaseParallelWrapper[str, Any, Any]):
    """Gives a Parallel environment tasks. Subclass it and define `change_task`, or `_reset_to`.

    Args:
        env: The environment.
        task_space: The tasks that it can play.

    Attributes:
        task: The decoded task of this episode; None before the first.
        task_space: The tasks.

    Raises:
        UsageError: the environment is turn-based.
    """

    def __init__(self, env: ParallelEnv[str, Any, Any], task_space: TaskSpace | None = None) -> None:
        if isinstance(env, AECEnv):
            raise UsageError(
                f"{type(self).__name__} needs a PettingZoo ParallelEnv; {env} is turn-based (AEC). Use "
                "AECSeedTaskWrapper, or subclass AECTaskWrapper."
            )
        super().__init__(env)
        self.task_space = task_space
        self.task: Any = None

    def change_task(self, task: Any) -> None:
        """Make `task` the task from now on: the next episode's, or this one's where the environment can do that.

        Args:
            task: The decoded task.
        """
        raise UsageError(
            f"{type(self).__name__} does not define change_task(task), so it cannot change its task."
        )

    def task_completion(self, infos: Mapping[str, Any]) -> dict[str, float]:
        """How far each agent has completed the task, from 0 to 1; by default nobody says."""
        return {}

    @override
    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None, new_task: Any = None
    ) -> Reset:
        task, options = take_task(options, new_task)
        if task is not None:
            self.task = task
            return self._reset_to(task, seed, options)
        return self.env.reset(seed=seed, options=options)

    @override
    def step(self, actions: dict[str, Any]) -> tuple[Any, Any, Any, Any, Any]:
        result = self.env.step(actions)
        for agent, completion in self.task_completion(result[4]).items():
            result[4].setdefault(agent, {})["task_completion"] = completion
        return result

    def _reset_to(self, task: Any, seed: int | None, options: dict[str, Any] | None) -> Reset:
        self.change_task(task)
        return self.env.reset(seed=seed, options=options)


class SeedTaskWrapper(PettingZooTaskWrapper):
    """The task is the reset seed: any seeded Parallel environment becomes a space of levels.

    Whether the same seed really is the same level is worth checking: some environments keep state from one
    episode to the next.

    Args:
        env: The environment.
        task_space: The seeds: a discrete task space, or their number.

    Raises:
        UsageError: the tasks are no seeds.

    Example:
        >>> from macurr.envs import apple_race_v0
        >>> env = SeedTaskWrapper(apple_race_v0.parallel_env(), 200)
        >>> observations, infos = env.reset(options={"task": 7})
        >>> env.task
        7
    """

    def __init__(self, env: ParallelEnv[str, Any, Any], task_space: TaskSpace | int = 2**31 - 1) -> None:
        super().__init__(env, seeds(task_space, type(self).__name__))

    @override
    def _reset_to(self, task: Any, seed: int | None, options: dict[str, Any] | None) -> Reset:
        return self.env.reset(seed=check_seed(task), options=options)


class OptionsTaskWrapper(PettingZooTaskWrapper):
    """The task is a mapping that goes into the environment's reset options.

    Args:
        env: The environment.
        task_space: The tasks, such as a `DictTaskSpace` of the options.
        key: Put the task under this one key instead; then it need not be a mapping.
    """

    def __init__(
        self, env: ParallelEnv[str, Any, Any], task_space: TaskSpace | None = None, key: str | None = None
    ) -> None:
        super().__init__(env, task_space)
        self._key = key

    @override
    def _reset_to(self, task: Any, seed: int | None, options: dict[str, Any] | None) -> Reset:
        if self._key is not None:
            task = {self._key: task}
        if not isinstance(task, Mapping):
            raise TaskError(
                f"OptionsTaskWrapper merges the task into the reset options, so it must be a mapping; got {task!r}. "
                "Use a DictTaskSpace, or name the option by key=."
            )
        return self.env.reset(seed=seed, options={**(options or {}), **task})


class ReinitTaskWrapper(PettingZooTaskWrapper):
    """The task is the environment's constructor arguments: each new task builds the environment anew.

    Args:
        make_env: Makes an environment from a task: called with the mapping as keywords, or with the task itself.
        task_space: The tasks.
        first_task: The task of the environment made now, whose agents and spaces all others must share.

    Raises:
        TaskError: (at reset) the new environment has other agents than the first.
    """

    def __init__(
        self, make_env: Callable[..., ParallelEnv[str, Any, Any]], task_space: TaskSpace, first_task: Any
    ) -> None:
        self._make_env = make_env
        super().__init__(_made(make_env, first_task), task_space)
        self._built: Any = first_task

    @override
    def change_task(self, task: Any) -> None:
        if data_equivalence(task, self._built):
            return
        env = _made(self._make_env, task)
        if list(env.possible_agents) != list(self.env.possible_agents):
            agents = list(env.possible_agents)
            env.close()  # type: ignore[no-untyped-call]
            raise TaskError(
                f"Task {task!r} makes an environment with agents {agents}; this one has "
                f"{list(self.env.possible_agents)}. Use tasks that keep possible_agents."
            )
        self.env.close()  # type: ignore[no-untyped-call]
        self.env, self._built = env, task


class TaskWrapper(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Gives a Gymnasium environment tasks. Subclass it and define `change_task`.

    Args:
        env: The environment.
        task_space: The tasks that it can play.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], task_space: TaskSpace | None = None) -> None:
        super().__init__(env)
        self.task_space = task_space
        self.task: Any = None

    def change_task(self, task: Any) -> None:
        """Make `task` the task from now on."""
        raise UsageError(
            f"{type(self).__name__} does not define change_task(task), so it cannot change its task."
        )

    @override
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None, new_task: Any = None
    ) -> tuple[Any, dict[str, Any]]:
        task, options = take_task(options, new_task)
        if task is not None:
            self.task = task
            self.change_task(task)
        return self.env.reset(seed=seed, options=options)


def take_task(options: dict[str, Any] | None, new_task: Any) -> tuple[Any, dict[str, Any] | None]:
    """The environment's part of the task, and the options that are left for the environment."""
    if options is not None and not options.keys().isdisjoint(_CHANNEL):
        new_task = options.get("task") if new_task is None else new_task
        options = {key: value for key, value in options.items() if key not in _CHANNEL} or None
    while "env" in getattr(new_task, "_fields", ()):  # a dual task: an opponent and a level
        new_task = new_task.env
    return new_task, options


def seeds(task_space: TaskSpace | int, owner: str) -> DiscreteTaskSpace:
    """The space of the seeds that a wrapper was given, or their number.

    Raises:
        UsageError: it is no space of whole numbers.
    """
    space = DiscreteTaskSpace(task_space) if isinstance(task_space, int) else task_space
    if not isinstance(space, DiscreteTaskSpace):
        raise UsageError(f"Seeds are whole numbers: {owner} needs a DiscreteTaskSpace, not {space!r}.")
    return space


def check_seed(task: Any) -> int:
    """A task that is a reset seed.

    Raises:
        TaskError: it is no whole number, or below 0.
    """
    if not hasattr(task, "__index__") or int(task) < 0:
        raise TaskError(f"A seed is a whole number of 0 or more; got the task {task!r}.")
    return int(task)


def _made(make_env: Callable[..., ParallelEnv[str, Any, Any]], task: Any) -> ParallelEnv[str, Any, Any]:
    return make_env(**task) if isinstance(task, Mapping) else make_env(task)

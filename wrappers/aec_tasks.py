"""Task wrappers of turn-based environments (see `macurr.wrappers.tasks`)."""

from __future__ import annotations

from typing import Any

from pettingzoo import AECEnv, ParallelEnv
from pettingzoo.utils.wrappers.base import BaseWrapper
from typing_extensions import override

from macurr.errors import UsageError
from macurr.spaces import TaskSpace
from macurr.wrappers.tasks import check_seed, seeds, take_task

__all__ = ["AECSeedTaskWrapper", "AECTaskWrapper"]


class AECTaskWrapper(BaseWrapper[str, Any, Any]):
    """Gives a turn-based environment tasks. Subclass it and define `change_task`, or `_reset_to`.

    Args:
        env: The environment.
        task_space: The tasks that it can play.

    Attributes:
        task: The decoded task of this episode; None before the first.
        task_space: The tasks.

    Raises:
        UsageError: not an AEC environment.
    """

    def __init__(self, env: AECEnv[str, Any, Any], task_space: TaskSpace | None = None) -> None:
        if not isinstance(env, AECEnv):
            hint = " Use PettingZooTaskWrapper or SeedTaskWrapper." if isinstance(env, ParallelEnv) else ""
            raise UsageError(f"{type(self).__name__} needs a PettingZoo AECEnv; got {env!r}.{hint}")
        super().__init__(env)
        self.task_space = task_space
        self.task: Any = None

    def change_task(self, task: Any) -> None:
        """Make `task` the task of the next episode.

        Args:
            task: The decoded task.
        """
        raise UsageError(
            f"{type(self).__name__} does not define change_task(task), so it cannot change its task."
        )

    @override
    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None, new_task: Any = None
    ) -> None:
        task, options = take_task(options, new_task)
        if task is None:
            self.env.reset(seed=seed, options=options)
        else:
            self.task = task
            self._reset_to(task, seed, options)

    def _reset_to(self, task: Any, seed: int | None, options: dict[str, Any] | None) -> None:
        self.change_task(task)
        self.env.reset(seed=seed, options=options)


class AECSeedTaskWrapper(AECTaskWrapper):
    """The task is the reset seed, as with `SeedTaskWrapper`: a seeded turn-based environment becomes a space of levels.

    Args:
        env: The environment.
        task_space: The seeds: a discrete task space, or their number.

    Raises:
        UsageError: not an AEC environment, or the tasks are no seeds.

    Example:
        >>> from pettingzoo.utils.conversions import parallel_to_aec
        >>> from macurr.envs import apple_race_v0
        >>> env = AECSeedTaskWrapper(parallel_to_aec(apple_race_v0.parallel_env()), 200)
        >>> env.reset(options={"task": 7})
        >>> env.task
        7
    """

    def __init__(self, env: AECEnv[str, Any, Any], task_space: TaskSpace | int = 2**31 - 1) -> None:
        super().__init__(env, seeds(task_space, type(self).__name__))

    @override
    def _reset_to(self, task: Any, seed: int | None, options: dict[str, Any] | None) -> None:
        self.env.reset(seed=check_seed(task), options=options)

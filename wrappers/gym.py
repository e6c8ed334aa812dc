"""The sync wrapper of single-agent Gymnasium environments."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import gymnasium
from gymnasium.utils import RecordConstructorArgs
from typing_extensions import override

from macurr.errors import UsageError
from macurr.host import Assignment
from macurr.messages import SINGLE_AGENT, EnvSpec
from macurr.wrappers._client import TaskClient, handle, reset_arguments, takes_new_task, task_info

__all__ = ["GymnasiumSyncWrapper"]


class GymnasiumSyncWrapper(gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Connects a Gymnasium environment to a curriculum, which then receives plain values.

    Put it on the environment (on its task wrapper) and under the other wrappers. It works inside
    `gymnasium.vector.SyncVectorEnv` and `AsyncVectorEnv`: the task is fetched at every reset, also at those that
    a vector environment makes by itself. `info["task"]` holds the encoded task as numbers.

    Args:
        env: The environment.
        components: `curriculum.components` of a synced curriculum.
        batch_size: Steps sent together. Only what the curriculum reads is sent.
        buffer_size: Tasks fetched ahead. 0: the task is drawn at the reset, after this environment's last result
            has been applied. 1: it was drawn before the previous episode began, and a reset need not wait.
        remove_keys: Keys of infos that are never sent.
        change_task_on_completion: Change to a new task in mid-episode once `info["task_completion"]` is 1.
        info_keys: Whether to add `"task"` to the info.

    Raises:
        UsageError: not a Gymnasium environment, not a handle, or sizes out of range.
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        components: Any,
        batch_size: int = 128,
        buffer_size: int = 1,
        remove_keys: Iterable[str] = (),
        change_task_on_completion: bool = False,
        info_keys: bool = True,
    ) -> None:
        if not isinstance(env, gymnasium.Env):
            hint = " Use PettingZooSyncWrapper." if hasattr(env, "possible_agents") else ""
            raise UsageError(f"GymnasiumSyncWrapper needs a gymnasium.Env; got {env!r}.{hint}")
        remove_keys = tuple(remove_keys)
        # So that `env.spec` can make such an environment again, as Gymnasium's own wrappers let it.
        RecordConstructorArgs.__init__(
            self,
            components=handle(components),
            batch_size=batch_size,
            buffer_size=buffer_size,
            remove_keys=remove_keys,
            change_task_on_completion=change_task_on_completion,
            info_keys=info_keys,
        )
        super().__init__(env)
        agents = (SINGLE_AGENT,)
        self._client = TaskClient(
            components,
            EnvSpec(agents, agents, single_agent=True),
            batch_size=batch_size,
            buffer_size=buffer_size,
            remove_keys=remove_keys,
        )
        self._info_keys = info_keys
        self._task_info: dict[str, Any] = {}
        self._takes_new_task = takes_new_task(env)
        self._changes_task = change_task_on_completion
        if change_task_on_completion and not env.has_wrapper_attr("change_task"):
            raise UsageError(
                f"change_task_on_completion needs an environment with change_task(task); {env} has none. Subclass "
                "macurr.wrappers.TaskWrapper to give it one."
            )

    @property
    def env_id(self) -> int | None:
        """The id that the curriculum gave this environment; None before the first reset."""
        return self._client.env_id

    @property
    def task(self) -> Any:
        """The encoded task of this episode; None between episodes."""
        return self._client.task

    @override
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        assignment = self._client.reset()
        arguments = reset_arguments(assignment, options, by_keyword=self._takes_new_task)
        observation, info = self.env.reset(seed=seed, **arguments)
        self._begin(assignment, observation)
        return observation, self._annotated(info)

    @override
    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        client = self._client
        infos = {SINGLE_AGENT: info}
        changed = "task_completion" in info and client.note_progress(infos)
        full = client.record(
            {SINGLE_AGENT: observation},
            {SINGLE_AGENT: float(reward)},
            {SINGLE_AGENT: terminated},
            {SINGLE_AGENT: truncated},
            infos,
        )
        info = self._annotated(info)
        over = bool(terminated or truncated)
        completed = changed and not over and self._changes_task and client.completed
        if changed:
            client.send_progress(ends=over or completed)
        elif full and not over:
            client.send_steps(ends=False)
        if over:
            client.end()
        elif completed:
            self._change_task(observation)
        return observation, reward, terminated, truncated, info

    @override
    def close(self) -> None:
        self._client.close()
        super().close()

    def _begin(self, assignment: Assignment, observation: Any) -> None:
        self._client.begin({SINGLE_AGENT: observation})
        task = task_info(assignment.encoded, (SINGLE_AGENT,))[SINGLE_AGENT]
        self._task_info = {"task": task, **assignment.info}

    def _annotated(self, info: dict[str, Any]) -> dict[str, Any]:
        if self._info_keys:
            info.update(self._task_info)
        return info

    def _change_task(self, observation: Any) -> None:
        self._client.end()
        assignment = self._client.reset()
        self.env.get_wrapper_attr("change_task")(assignment.decoded)
        self._begin(assignment, observation)

"""Sync wrappers: an environment that fetches its task at each reset and sends its updates to the curriculum."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pettingzoo import ParallelEnv
from pettingzoo.utils.wrappers.base_parallel import BaseParallelWrapper

from macurr.errors import UsageError
from macurr.host import Assignment
from macurr.messages import EnvSpec
from macurr.wrappers._client import TaskClient, reset_arguments, takes_new_task, task_info

__all__ = ["MultiProcessingSyncWrapper", "PettingZooSyncWrapper"]


class PettingZooSyncWrapper(BaseParallelWrapper[str, Any, Any]):
    """Connects a PettingZoo Parallel environment to a curriculum.

    Put it right on the environment (on its task wrapper, such as `SeedTaskWrapper`) and under every SuperSuit
    wrapper: there it sees the true returns, lengths and endings. At each reset it fetches a task and passes it on
    as `options["task"]`, or as `new_task` where the environment's `reset` takes that. The environment is
    otherwise unchanged; `infos[agent]["task"]` holds the encoded task as numbers, and what else the curriculum says
    of the draw (`Curriculum.task_info`) stands beside it; the reset gets it as `options["task_info"]`.

    It connects at the first reset, so it can be pickled, cloned and forked: every copy is an environment of its
    own. A reset before the first step plays the same task again; a reset in mid-episode aborts the episode.

    Args:
        env: The environment.
        components: `curriculum.components` of a synced curriculum.
        batch_size: Steps sent together. Only what the curriculum reads is sent.
        buffer_size: Tasks fetched ahead. 0: the task is drawn at the reset, after this environment's last result
            has been applied. 1: it was drawn before the previous episode began, and a reset need not wait.
        learners: The agents whose experience trains the live policy; all of them by default.
        remove_keys: Keys of infos that are never sent, such as those that cannot be pickled.
        change_task_on_completion: Change to a new task in mid-episode once every agent's `task_completion` is 1,
            by the environment's `change_task`. The finished part is reported as an episode of its task.
        info_keys: Whether to add `"task"` to the agents' infos.

    Raises:
        UsageError: not a Parallel environment, not a handle, unknown learners or sizes out of range.
    """

    def __init__(
        self,
        env: ParallelEnv[str, Any, Any],
        components: Any,
        batch_size: int = 128,
        buffer_size: int = 1,
        learners: Sequence[str] | None = None,
        remove_keys: Iterable[str] = (),
        change_task_on_completion: bool = False,
        info_keys: bool = True,
    ) -> None:
        _check_parallel(env)
        super().__init__(env)
        agents = tuple(env.possible_agents)
        self._client = TaskClient(
            components,
            EnvSpec(agents, agents if learners is None else tuple(learners)),
            batch_size=batch_size,
            buffer_size=buffer_size,
            remove_keys=remove_keys,
        )
        self._info_keys = info_keys
        self._task_infos: dict[str, Any] = {}
        self._more_infos: Mapping[str, float] = {}
        self._dead: set[str] = set()
        self._takes_new_task = takes_new_task(env)
        self._changes_task = change_task_on_completion
        if change_task_on_completion and not hasattr(env, "change_task"):
            raise UsageError(
                f"change_task_on_completion needs an environment with change_task(task); {env} has none. Subclass "
                "PettingZooTaskWrapper to give it one."
            )

    @property
    def agents(self) -> list[str]:  # type: ignore[override]  # a property is quicker than the base's __getattr__
        """The agents that are alive."""
        return self.env.agents

    @property
    def env_id(self) -> int | None:
        """The id that the curriculum gave this environment; None before the first reset."""
        return self._client.env_id

    @property
    def task(self) -> Any:
        """The encoded task of this episode; None between episodes."""
        return self._client.task

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Fetch the next task and begin its episode.

        Raises:
            TaskTimeoutError: no task came in time.
            CurriculumError: the curriculum has failed.
            CurriculumLost: the curriculum is gone.
        """
        assignment = self._client.reset()
        arguments = reset_arguments(assignment, options, by_keyword=self._takes_new_task)
        observations, infos = self.env.reset(seed=seed, **arguments)
        self._begin(assignment, observations)
        self._complete(infos, observations)
        return observations, infos

    def step(
        self, actions: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, float], dict[str, bool], dict[str, bool], dict[str, Any]]:
        """Step the environment and record what came of it."""
        # The hot path: written out flat, for every call counts in an environment of a few microseconds.
        result = self.env.step(actions)
        observations, rewards, terminations, truncations, infos = result
        client = self._client
        reported = False
        tasks = self._task_infos
        try:
            for agent in rewards:
                info = infos[agent]
                if "task_completion" in info:
                    reported = True
                info["task"] = tasks[agent]
            if self._more_infos:
                self._complete(infos, rewards)
        except KeyError:  # an agent without info, or infos that are to be left alone
            reported = self._complete(infos, rewards)
        changed = client.note_progress(infos) if reported else False
        full = client.record(observations, rewards, terminations, truncations, infos)
        over = (True in terminations.values() or True in truncations.values()) and self._over(
            terminations, truncations
        )
        if full or changed or over:
            self._send(full, changed, over, observations)
        return result

    def state_dict(self) -> dict[str, Any]:
        """The episode in progress, without the environment, as objects that can be pickled.

        With the environment's own state, of the same moment, a new wrapper goes on as if nothing had happened.

        Raises:
            UsageError: the curriculum is not served in this process.
        """
        return {
            "client": self._client.state_dict(),
            "task_infos": dict(self._task_infos),
            "more_infos": dict(self._more_infos),
            "dead": set(self._dead),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Connect, and go on with the episode of `state_dict()`.

        The curriculum must have loaded the state that was taken at the same time.

        Raises:
            UsageError: an episode has begun here already, or the curriculum is not served in this process.
            StateError: the curriculum does not have the episode's task.
        """
        self._client.load_state_dict(state["client"])
        self._task_infos, self._more_infos = state["task_infos"], state["more_infos"]
        self._dead = set(state["dead"])

    def close(self) -> None:
        """Disconnect from the curriculum and close the environment."""
        self._client.close()
        super().close()

    def _send(self, full: bool, changed: bool, over: bool, observations: Mapping[str, Any]) -> None:
        client = self._client
        completed = changed and not over and self._changes_task and client.completed
        if changed:
            client.send_progress(ends=over or completed)
        elif full and not over:
            client.send_steps(ends=False)
        if over:
            client.end()
        elif completed:
            self._change_task(observations)

    def _over(self, terminations: Mapping[str, bool], truncations: Mapping[str, bool]) -> bool:
        # Some environments drop finished agents from `agents` at once, others only at the next reset.
        for agent, terminated in terminations.items():
            if terminated or truncations.get(agent):
                self._dead.add(agent)
            else:
                self._dead.discard(agent)
        return self._dead.issuperset(self.env.agents)

    def _begin(self, assignment: Assignment, observations: Mapping[str, Any]) -> None:
        self._client.begin(observations)
        agents = self._client.spec.possible_agents
        self._task_infos = task_info(assignment.encoded, agents) if self._info_keys else {}
        self._more_infos = assignment.info if self._info_keys else {}
        self._dead.clear()

    def _complete(self, infos: dict[str, Any], agents: Iterable[str]) -> bool:
        """Add the task to the agents' infos, also for those that have none; whether anybody tells progress."""
        for agent in agents:
            if agent in self._task_infos:
                if agent not in infos:
                    infos[agent] = {}
                infos[agent]["task"] = self._task_infos[agent]
                infos[agent].update(self._more_infos)
        return any("task_completion" in infos[agent] for agent in agents if agent in infos)

    def _change_task(self, observations: Mapping[str, Any]) -> None:
        self._client.end()
        assignment = self._client.reset()
        change: Any = self.env
        change.change_task(assignment.decoded)
        self._begin(assignment, observations)


MultiProcessingSyncWrapper = PettingZooSyncWrapper
"""The same class under the name that users of other curriculum libraries know."""


def _check_parallel(env: Any) -> None:
    if isinstance(env, ParallelEnv):
        return
    hint = "Wrap a PettingZoo ParallelEnv."
    if hasattr(env, "agent_iter"):
        hint = (
            "It is turn-based (AEC): use AECSyncWrapper, or convert it with pettingzoo.utils.aec_to_parallel."
        )
    elif hasattr(env, "observation_space") and not hasattr(env, "possible_agents"):
        hint = "It has a single agent: use GymnasiumSyncWrapper."
    raise UsageError(f"PettingZooSyncWrapper needs a PettingZoo ParallelEnv; got {env!r}. {hint}")

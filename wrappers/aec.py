"""The sync wrapper of turn-based (AEC) PettingZoo environments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pettingzoo import AECEnv
from pettingzoo.utils.wrappers.base import BaseWrapper
from typing_extensions import override

from macurr.errors import UsageError
from macurr.messages import EnvSpec
from macurr.wrappers._client import TaskClient, reset_arguments, takes_new_task, task_info

__all__ = ["AECSyncWrapper"]


class AECSyncWrapper(BaseWrapper[str, Any, Any]):
    """Connects a turn-based PettingZoo environment to a curriculum.

    A step of an agent is its action and all rewards it is paid until it acts again or the episode ends, so that
    what the opponent's move costs it is its own. The episode is over as soon as every agent is terminated or
    truncated, whether or not the user goes on with the empty steps that PettingZoo then asks for. The episode's
    length is the number of turns.

    Args:
        env: The environment.
        components: `curriculum.components` of a synced curriculum.
        batch_size: Steps sent together. Only what the curriculum reads is sent.
        buffer_size: Tasks fetched ahead (see `PettingZooSyncWrapper`).
        learners: The agents whose experience trains the live policy; all of them by default.
        remove_keys: Keys of infos that are never sent.
        info_keys: Whether to add `"task"` to the agents' infos.

    Raises:
        UsageError: not an AEC environment, not a handle, unknown learners or sizes out of range.
    """

    def __init__(
        self,
        env: AECEnv[str, Any, Any],
        components: Any,
        batch_size: int = 128,
        buffer_size: int = 1,
        learners: Sequence[str] | None = None,
        remove_keys: Iterable[str] = (),
        info_keys: bool = True,
    ) -> None:
        if not isinstance(env, AECEnv):
            hint = " Use PettingZooSyncWrapper." if hasattr(env, "possible_agents") else ""
            raise UsageError(f"AECSyncWrapper needs a PettingZoo AECEnv; got {env!r}.{hint}")
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
        self._paid: dict[str, float] = {}
        self._acted: set[str] = set()
        self._takes_new_task = takes_new_task(env)

    @property
    def env_id(self) -> int | None:
        """The id that the curriculum gave this environment; None before the first reset."""
        return self._client.env_id

    @property
    def task(self) -> Any:
        """The encoded task of this episode; None between episodes."""
        return self._client.task

    @override
    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        assignment = self._client.reset()
        self.env.reset(seed=seed, **reset_arguments(assignment, options, by_keyword=self._takes_new_task))
        self._client.begin({})
        agents = self._client.spec.possible_agents
        self._paid = dict.fromkeys(agents, 0.0)
        self._acted.clear()
        self._task_infos = task_info(assignment.encoded, agents)
        self._more_infos = assignment.info
        self._annotate()

    @override
    def step(self, action: Any) -> None:
        agent = self.env.agent_selection
        if not self._client.playing or self._dead(agent):
            self.env.step(action)
            return
        seen = self._seen(agent)
        if self._finish_turn(agent, seen):
            self._client.send_steps(ends=False)
        self._client.see(seen)
        self.env.step(action)
        self._acted.add(agent)
        for paid, reward in self.env.rewards.items():
            self._paid[paid] = self._paid.get(paid, 0.0) + float(reward)
        self._annotate()
        self._report()

    def state_dict(self) -> dict[str, Any]:
        """The episode in progress, without the environment (see `PettingZooSyncWrapper.state_dict`).

        Raises:
            UsageError: the curriculum is not served in this process.
        """
        return {
            "client": self._client.state_dict(),
            "task_infos": dict(self._task_infos),
            "more_infos": dict(self._more_infos),
            "paid": dict(self._paid),
            "acted": set(self._acted),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Connect, and go on with the episode of `state_dict()`.

        Raises:
            UsageError: an episode has begun here already, or the curriculum is not served in this process.
            StateError: the curriculum does not have the episode's task.
        """
        self._client.load_state_dict(state["client"])
        self._task_infos, self._more_infos = state["task_infos"], state["more_infos"]
        self._paid, self._acted = dict(state["paid"]), set(state["acted"])

    @override
    def close(self) -> None:
        self._client.close()
        super().close()

    def _dead(self, agent: str) -> bool:
        return bool(self.env.terminations.get(agent) or self.env.truncations.get(agent))

    def _seen(self, agent: str) -> dict[str, Any]:
        return {agent: self.env.observe(agent)} if self._client.observing else {}

    def _finish_turn(self, agent: str, seen: dict[str, Any]) -> bool:
        """Record what came of an agent's last action, now that it is over; whether it is time to send."""
        if agent not in self._acted:
            return False
        self._acted.discard(agent)
        paid, self._paid[agent] = self._paid[agent], 0.0
        return self._client.record(
            seen,
            {agent: paid},
            {agent: bool(self.env.terminations.get(agent))},
            {agent: bool(self.env.truncations.get(agent))},
            {agent: self.env.infos.get(agent, {})},
        )

    def _report(self) -> None:
        """Finish the turns of those who are dead, and send what is due."""
        client, infos = self._client, self.env.infos
        dead = [agent for agent in self.env.agents if self._dead(agent)]
        full = True in [self._finish_turn(agent, self._seen(agent)) for agent in dead]
        over = len(dead) == len(self.env.agents)
        told = any("task_completion" in info for info in infos.values())
        if told and client.note_progress(infos):
            client.send_progress(ends=over)
        elif full and not over:
            client.send_steps(ends=False)
        if over:
            # Agents that were paid without ever acting have no step of their own.
            client.add_returns(self._paid)
            client.end()

    def _annotate(self) -> None:
        if self._info_keys:
            for agent, info in self.env.infos.items():
                if agent in self._task_infos:
                    info["task"] = self._task_infos[agent]
                    info.update(self._more_infos)

"""Opponents inside a turn-based environment: it is always a learner's turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pettingzoo import AECEnv, ParallelEnv
from pettingzoo.utils.wrappers.base import BaseWrapper
from typing_extensions import override

from macurr.errors import UsageError
from macurr.wrappers._seats import OpponentSeats, Policy, Pool, divide, episode_task, pay, sync_client
from macurr.wrappers.single_learner import SingleLearnerEnv

__all__ = ["AECOpponentWrapper"]


class AECOpponentWrapper(BaseWrapper[str, Any, Any]):
    """Plays all agents but the learners of a turn-based environment from a pool, by each episode's task.

    It is always a learner's turn. What a learner is paid during the opponents' turns is in its cumulative reward
    (`last()`), and in `rewards`, which sum up all turns since its own. As `OpponentWrapper` does, it belongs outside
    of the sync wrapper (`AECSyncWrapper`).

    Args:
        env: The environment, with its sync wrapper.
        pool: The snapshots, or their folder.
        policy: Makes an acting function from a snapshot's arrays (see `OpponentWrapper`).
        learners: The agents that are left outside; by default what the sync wrapper was told.
        cache_size: How many policies to keep ready to act.
        seed: Seed of the generator; `reset(seed=...)` sets it anew.

    Raises:
        UsageError: not an AEC environment, or learners that do not fit it or the sync wrapper.
        PoolError: there is no pool at this path.
    """

    def __init__(
        self,
        env: AECEnv[str, Any, Any],
        pool: Pool,
        policy: Policy,
        *,
        learners: Sequence[str] | None = None,
        cache_size: int = 8,
        seed: int | None = None,
    ) -> None:
        if not isinstance(env, AECEnv):
            hint = " Use OpponentWrapper." if isinstance(env, ParallelEnv) else ""
            raise UsageError(f"AECOpponentWrapper needs a PettingZoo AECEnv; got {env!r}.{hint}")
        super().__init__(env)
        self._sync = sync_client(env)
        self.possible_agents, others = divide(env, learners, "AECOpponentWrapper")
        self._seats = OpponentSeats(pool, policy, others, cache_size, seed)
        self._paid: dict[str, float] = {}

    @property
    def agents(self) -> list[str]:  # type: ignore[override]
        """The learners that are in the game."""
        return [agent for agent in self.env.agents if agent in self.possible_agents]

    @property
    def rewards(self) -> dict[str, float]:  # type: ignore[override]
        """What the learners were paid by the last action and the opponents' turns after it."""
        return {agent: self._paid.get(agent, 0.0) for agent in self.agents}

    @property
    def terminations(self) -> dict[str, bool]:  # type: ignore[override]
        """Which learners are out."""
        return self._own(self.env.terminations)

    @property
    def truncations(self) -> dict[str, bool]:  # type: ignore[override]
        """Whose episode was cut short."""
        return self._own(self.env.truncations)

    @property
    def infos(self) -> dict[str, Any]:  # type: ignore[override]
        """The learners' infos."""
        return self._own(self.env.infos)

    @property
    def opponents(self) -> dict[str, int]:
        """The snapshot that plays each of the other agents in this episode."""
        return dict(self._seats.assigned)

    @override
    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        task, options = episode_task(self._sync, options)
        self.env.reset(seed=seed, options=options)
        self._seats.begin(task if self._sync is None else self._sync.task, seed)
        self._paid = {}
        self._until_learners_turn()

    @override
    def step(self, action: Any) -> None:
        self._paid = {}
        self._act(action)
        self._until_learners_turn()

    def as_gymnasium(self) -> SingleLearnerEnv:
        """The only learner's view of it as a Gymnasium environment.

        Raises:
            UsageError: there are several learners.
        """
        return SingleLearnerEnv(self)

    def _until_learners_turn(self) -> None:
        while self.env.agents and self.env.agent_selection in self._seats.assigned:
            agent = self.env.agent_selection
            observation, _, terminated, truncated, _ = self.env.last()
            self._act(None if terminated or truncated else self._seats.act(observation, agent))

    def _act(self, action: Any) -> None:
        self.env.step(action)
        pay(self._paid, self.env.rewards)

    def _own(self, by_agent: dict[str, Any]) -> dict[str, Any]:
        return {agent: by_agent[agent] for agent in self.agents if agent in by_agent}

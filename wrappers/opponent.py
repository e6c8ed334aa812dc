"""Opponents inside the environment: the other seats are played from a pool, and only the learners are left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pettingzoo import AECEnv, ParallelEnv
from pettingzoo.utils.wrappers.base_parallel import BaseParallelWrapper
from typing_extensions import override

from macurr.errors import UsageError
from macurr.wrappers._seats import OpponentSeats, Policy, Pool, divide, episode_task, pay, sync_client
from macurr.wrappers.single_learner import SingleLearnerEnv

__all__ = ["OpponentWrapper"]

Transition = tuple[dict[str, Any], dict[str, float], dict[str, bool], dict[str, bool], dict[str, Any]]


class OpponentWrapper(BaseParallelWrapper[str, Any, Any]):
    """Plays all agents but the learners from a pool, by each episode's task.

    From outside it is a Parallel environment with the learners as its only agents; `as_gymnasium` makes a Gymnasium
    environment of one with a single learner. So libraries for a single agent train against a population with nothing
    else changed.

    It belongs outside of the sync wrapper, which stays innermost and sees the returns of all seats, and which it asks
    for the task: `OpponentWrapper(PettingZooSyncWrapper(env, components, learners=["first"]), pool, policy)`. Without
    a sync wrapper beneath, the task is `options["task"]`. The opponents are the part `agent` of a dual task, or the
    whole task: one snapshot's id for all seats, one for each in order, or a mapping by agent.

    The episode goes on within a single `step` while no learner is among the living, so that it has a result.

    Args:
        env: The environment, with its sync wrapper.
        pool: The snapshots, or their folder. It is reopened by its path in workers.
        policy: Makes an acting function from a snapshot's arrays: `policy(parameters) -> act(observation, agent) ->
            action`. If it takes a keyword `rng`, it gets a NumPy generator for random actions. An `act` with a method
            `reset` is reset at the start of each episode.
        learners: The agents that are left outside; by default what the sync wrapper was told.
        play_out: Whether to play on for the opponents once all learners are dead. If not, such an episode is aborted
            by the next reset and counts in no statistic.
        cache_size: How many policies to keep ready to act.
        seed: Seed of the generator; `reset(seed=...)` sets it anew. By default every copy draws its own.

    Raises:
        UsageError: not a Parallel environment, or learners that do not fit it or the sync wrapper.
        PoolError: there is no pool at this path.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from macurr.envs import apple_race_v0
        >>> from macurr.opponents import AgentPool
        >>> pool = AgentPool(tempfile.mkdtemp())
        >>> pool.add({"action": np.array(1)})
        0
        >>> def policy(parameters):
        ...     return lambda observation, agent: int(parameters["action"])
        >>> race = apple_race_v0.parallel_env()
        >>> env = OpponentWrapper(race, pool, policy, learners=race.possible_agents[:1])
        >>> observations, infos = env.reset(seed=0, options={"task": 0})
        >>> env.agents == list(observations) == race.possible_agents[:1], list(env.opponents.values())
        (True, [0])
    """

    def __init__(
        self,
        env: ParallelEnv[str, Any, Any],
        pool: Pool,
        policy: Policy,
        *,
        learners: Sequence[str] | None = None,
        play_out: bool = True,
        cache_size: int = 8,
        seed: int | None = None,
    ) -> None:
        if not isinstance(env, ParallelEnv):
            hint = " Use AECOpponentWrapper." if isinstance(env, AECEnv) else ""
            raise UsageError(f"OpponentWrapper needs a PettingZoo ParallelEnv; got {env!r}.{hint}")
        super().__init__(env)
        self._sync = sync_client(env)
        self.possible_agents, others = divide(env, learners, "OpponentWrapper")
        self._seats = OpponentSeats(pool, policy, others, cache_size, seed)
        self._play_out = play_out
        self._task: Any = None
        self._seen: dict[str, Any] = {}
        self._owed: dict[str, float] = {}
        self._dead: set[str] = set()

    @property
    def agents(self) -> list[str]:  # type: ignore[override]
        """The learners that are alive."""
        return [agent for agent in self.env.agents if agent in self.possible_agents]

    @property
    def opponents(self) -> dict[str, int]:
        """The snapshot that plays each of the other agents in this episode."""
        return dict(self._seats.assigned)

    @override
    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode against the opponents that its task names.

        Raises:
            UsageError: there is no task.
            TaskError: the task names no opponents.
            PoolError: there is no such snapshot.
        """
        task, options = episode_task(self._sync, options)
        observations, infos = self.env.reset(seed=seed, options=options)
        self._task = task if self._sync is None else self._sync.task
        self._seats.begin(self._task, seed)
        self._seen = dict(observations)
        self._owed, self._dead = {}, set()
        result = self._until_learners_act((observations, {}, {}, {}, infos))
        self._owed = result[1]
        return result[0], result[4]

    @override
    def step(self, actions: dict[str, Any]) -> Transition:
        strangers = sorted(set(actions).difference(self.possible_agents))
        if strangers:
            raise UsageError(
                f"{strangers} are played from the pool. Pass actions for {self.possible_agents} alone."
            )
        result = self._until_learners_act(self._play(actions))
        if self._owed:  # paid before the learners' first action
            pay(result[1], self._owed)
            self._owed = {}
        return result

    def as_gymnasium(self) -> SingleLearnerEnv:
        """The only learner's view of it as a Gymnasium environment.

        Raises:
            UsageError: there are several learners.
        """
        return SingleLearnerEnv(self)

    def _play(self, actions: dict[str, Any]) -> Transition:
        moves = dict(actions)
        for agent in self.env.agents:
            if agent in self._seats.assigned:
                moves[agent] = self._seats.act(self._seen[agent], agent)
        result = self.env.step(moves)
        self._seen.update(result[0])
        for agent, terminated in result[2].items():
            if terminated or result[3].get(agent):
                self._dead.add(agent)
            else:
                self._dead.discard(agent)
        task = None if self._sync is None else self._sync.task
        if task is not None and task is not self._task:  # changed in mid-episode
            self._seats.begin(task)
            self._task = task
        return result

    def _until_learners_act(self, result: Transition) -> Transition:
        observations, rewards, terminations, truncations, infos = (self._own(part) for part in result)
        while self._waiting():
            step = self._play({})
            pay(rewards, self._own(step[1]))
            for part, later in zip(
                (observations, terminations, truncations, infos), step[:1] + step[2:], strict=True
            ):
                part.update(self._own(later))
        return observations, rewards, terminations, truncations, infos

    def _own(self, by_agent: dict[str, Any]) -> dict[str, Any]:
        return {agent: by_agent[agent] for agent in self.possible_agents if agent in by_agent}

    def _waiting(self) -> bool:
        """Whether opponents are to act and no learner is."""
        living = self.env.agents
        if self._dead.issuperset(living) or not set(living).isdisjoint(self.possible_agents):
            return False
        return self._play_out or not self._dead.issuperset(self.possible_agents)

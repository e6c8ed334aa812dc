"""The seats that stored policies play: who sits where, and what they do there."""

from __future__ import annotations

import inspect
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from macurr.errors import TaskError, UsageError
from macurr.opponents import AgentPool
from macurr.wrappers._client import TaskClient

Act = Callable[[Any, str], Any]
"""From an observation and an agent to its action."""

Policy = Callable[..., Act]
"""From a snapshot's arrays, and a generator where it takes `rng`, to an acting function."""

Pool = AgentPool | str | os.PathLike[str]
"""The snapshots, or their folder."""


class OpponentSeats:
    """Plays agents by snapshots: at most `cache_size` policies are kept ready to act.

    A copy, made by pickling, deep copy or fork, builds its own policies from the pool. Without a `seed` it also
    draws its own random numbers.

    Args:
        pool: The snapshots, or their folder.
        policy: Makes an acting function from a snapshot's arrays.
        agents: The agents to play.
        cache_size: How many policies to keep.
        seed: Seed for policies that take `rng`.

    Raises:
        PoolError: there is no pool at this path.
        UsageError: `policy` is no function, nobody is to be played, or `cache_size` is not positive.
    """

    def __init__(
        self,
        pool: Pool,
        policy: Policy,
        agents: Sequence[str],
        cache_size: int,
        seed: int | None,
    ) -> None:
        if not callable(policy):
            raise UsageError(
                f"policy is a function from a snapshot's arrays to act(observation, agent); got {policy!r}."
            )
        if cache_size < 1:
            raise UsageError(f"cache_size must be at least 1; got {cache_size}.")
        self.pool = pool if isinstance(pool, AgentPool) else AgentPool(pool, create=False)
        self.agents = tuple(agents)
        self.assigned: dict[str, int] = {}
        self._policy, self._takes_rng = policy, _takes_rng(policy)
        self._cache_size, self._seed = cache_size, seed
        self._rng = np.random.default_rng(seed)
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._built: OrderedDict[int, Act] = OrderedDict()
        self._acts: dict[str, Act] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in {"_built", "_acts", "_pid"}}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)
        self._start()
        self._reseed(None)

    def begin(self, task: Any, seed: int | None = None) -> None:
        """Seat the opponents of an episode.

        Args:
            task: The episode's encoded task.
            seed: The seed that `reset` was given: the same one, the same random numbers.

        Raises:
            TaskError: the task names no opponents.
            PoolError: there is no such snapshot.
        """
        if seed is not None or self._pid != os.getpid():
            self._reseed(seed)
            self._pid = os.getpid()
        assigned = opponents_of(task, self.agents)
        acts = {agent: self._act(snapshot) for agent, snapshot in assigned.items()}
        self.assigned, self._acts = assigned, acts
        for act in {id(act): act for act in acts.values()}.values():
            reset = getattr(act, "reset", None)
            if callable(reset):  # policies with a memory
                reset()

    def act(self, observation: Any, agent: str) -> Any:
        """The action of an agent's snapshot."""
        return self._acts[agent](observation, agent)

    def _act(self, snapshot: int) -> Act:
        act = self._built.get(snapshot)
        if act is None:
            parameters = self.pool.get(snapshot)
            act = self._policy(parameters, rng=self._rng) if self._takes_rng else self._policy(parameters)
            if not callable(act):
                raise UsageError(
                    f"The policy made {act!r} from snapshot {snapshot}. It must return a function "
                    "act(observation, agent) -> action."
                )
            self._built[snapshot] = act
            # All opponents of one episode stay, even where they are more than the cache should hold.
            while len(self._built) > max(self._cache_size, len(self.agents)):
                self._built.popitem(last=False)
        self._built.move_to_end(snapshot)
        return act

    def _reseed(self, seed: int | None) -> None:
        if seed is None and self._seed is not None:
            return
        # In place, since policies hold on to the generator; apart from the environment's stream of the same seed.
        fresh = np.random.SeedSequence(seed, spawn_key=(1,))
        self._rng.bit_generator.state = np.random.default_rng(fresh).bit_generator.state


def opponents_of(task: Any, agents: Sequence[str]) -> dict[str, int]:
    """Who plays each of `agents`: snapshot ids by agent.

    Args:
        task: One id for all of them, a mapping by agent, or one id for each in order; alone, or as the part `agent`
            of a named tuple, such as a dual task (an opponent and a level).
        agents: The agents to be played.

    Raises:
        TaskError: it is none of these.
    """
    part = task
    while "agent" in getattr(part, "_fields", ()):
        part = part.agent
    try:
        if isinstance(part, Mapping):
            return {agent: _snapshot(part[agent]) for agent in agents}
        if isinstance(part, Sequence | np.ndarray) and np.ndim(part) == 1 and not isinstance(part, str):
            return {agent: _snapshot(one) for agent, one in zip(agents, part, strict=True)}
        return dict.fromkeys(agents, _snapshot(part))
    except (KeyError, TypeError, ValueError) as error:
        raise TaskError(
            f"The task {task!r} does not say which snapshots play {list(agents)}. It has to be a snapshot's id, one "
            "for each of them in order, a mapping by agent, or a dual task whose part `agent` is one of these."
        ) from error


def sync_client(env: Any) -> TaskClient | None:
    """The link to the curriculum of the sync wrapper in a stack of wrappers; None where there is none."""
    for layer in _layers(env):
        client = vars(layer).get("_client")
        if isinstance(client, TaskClient):
            return client
    return None


def divide(env: Any, learners: Sequence[str] | None, wrapper: str) -> tuple[list[str], list[str]]:
    """The learners and the others, in the environment's order.

    Args:
        env: The environment.
        learners: Who learns; None for what the sync wrapper was told.
        wrapper: Who asks, for messages.

    Raises:
        UsageError: nobody says who learns, or who learns does not fit the environment or its sync wrapper.
    """
    client = sync_client(env)
    if learners is None and client is not None:
        learners = client.spec.learners
    if learners is None or isinstance(learners, str):
        raise UsageError(
            f"{wrapper} needs learners=[...], the agents that are not played from the pool; got {learners!r}."
        )
    own = [agent for agent in env.possible_agents if agent in learners]
    others = [agent for agent in env.possible_agents if agent not in learners]
    if not own or not others or len(own) < len(set(learners)):
        raise UsageError(
            f"learners={list(learners)} do not fit the agents {list(env.possible_agents)}: name at least one of them, "
            "and leave at least one to the pool (for a sync wrapper beneath, by its own learners=)."
        )
    if client is not None and set(client.spec.learners) != set(own):
        raise UsageError(
            f"{wrapper} is told learners={own}, and the sync wrapper beneath it {list(client.spec.learners)}. Results "
            "would be counted for the wrong side: give both the same."
        )
    return own, others


def _layers(env: Any) -> Iterator[Any]:
    """An environment and those within it, whatever PettingZoo's wrappers call them."""
    seen: set[int] = set()
    while env is not None and id(env) not in seen and hasattr(env, "__dict__"):
        seen.add(id(env))
        yield env
        inside = vars(env)
        env = next((inside[name] for name in ("env", "aec_env", "par_env") if name in inside), None)


def _snapshot(value: Any) -> int:
    number = np.asarray(value)
    if number.ndim != 0 or number.dtype.kind not in "iuf" or number != int(number):
        raise ValueError(f"{value!r} is no id")
    return int(number)


def _takes_rng(policy: Policy) -> bool:
    try:
        return "rng" in inspect.signature(policy).parameters
    except (TypeError, ValueError):  # some built-in callables have no signature
        return False


def episode_task(
    sync: TaskClient | None, options: dict[str, Any] | None
) -> tuple[Any, dict[str, Any] | None]:
    """The task in the options, and what of the options is for the environment.

    Raises:
        UsageError: there is no sync wrapper to ask for a task, and none in the options.
    """
    if sync is not None:
        return None, options
    task = None if options is None else options.get("task")
    if options is None or task is None:
        raise UsageError(
            "No task says who the opponents are. Put a sync wrapper (PettingZooSyncWrapper, AECSyncWrapper) beneath "
            "the opponent wrapper, or pass options={'task': ...} to reset."
        )
    if "env" in getattr(task, "_fields", ()):
        return task, options
    # Used up: an opponent's id is no level for a task wrapper beneath.
    return task, {key: value for key, value in options.items() if key != "task"} or None


def pay(account: dict[str, float], rewards: Mapping[str, float]) -> None:
    """Add rewards to what was paid so far."""
    for agent, reward in rewards.items():
        account[agent] = account.get(agent, 0.0) + reward

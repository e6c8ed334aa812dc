"""One evaluation environment and the episode that is played on it, whatever kind it is."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import gymnasium
from pettingzoo import ParallelEnv
from typing_extensions import override

from macurr.errors import TaskError, UsageError
from macurr.messages import SINGLE_AGENT


class Seat(NamedTuple):
    """Whose observation it is that an action is wanted for.

    Attributes:
        env: The position of the environment.
        agent: The agent; "agent_0" in single-agent environments.
        first: Whether this is the agent's first observation of the episode: where a policy with memory starts anew.
    """

    env: int
    agent: str
    first: bool


class Player(ABC):
    """Plays an episode at a time and keeps its account.

    Args:
        number: The position of the environment.
        env: The environment.
        max_steps: Where episodes are cut.

    Attributes:
        agents: Everybody who may act.
        task: The decoded task of the episode.
        length: Number of steps so far.
        returns: Undiscounted return so far of everybody who has taken part.
        acted: On how many steps each has acted.
        completion: The task completion that each has last reported.
        over: Whether the episode is over.
    """

    agents: tuple[str, ...]

    def __init__(self, number: int, env: Any, max_steps: int | None) -> None:
        self._number, self._env, self._max_steps = number, env, max_steps
        self._takes_new_task = _takes_new_task(number, env)
        self.task: Any = None
        self._begin({})

    def _begin(self, observations: Mapping[str, Any]) -> None:
        self._observations = observations
        self.length, self.over = 0, False
        self.returns: dict[str, float] = {}
        self.acted: dict[str, int] = {}
        self.completion: dict[str, float] = {}
        self._done: set[str] = set()

    @property
    @abstractmethod
    def acting(self) -> list[str]:
        """Who is to act now."""

    def seat(self, agent: str) -> Seat:
        """Where an agent sits."""
        return Seat(self._number, agent, not self.acted.get(agent))

    def seen(self, agent: str) -> Any:
        """What an agent sees now.

        Raises:
            TaskError: it is to act and sees nothing.
        """
        if agent not in self._observations:
            raise TaskError(f"{self._where()} gave {agent!r}, who is to act, no observation.")
        return self._observations[agent]

    def reset(self, task: Any, seed: int) -> None:
        """Begin an episode.

        Raises:
            TaskError: the environment failed.
        """
        self.task = task
        self._begin({})
        with self._named():
            if self._takes_new_task:
                observations, infos = self._env.reset(seed=seed, options=None, new_task=task)
            else:
                observations, infos = self._env.reset(seed=seed, options={"task": task})
            self._begin(self._by_agent(observations))
            self._note(self._by_agent(infos))
            self.over = not self.acting

    def step(self, actions: Mapping[str, Any]) -> None:
        """Play on.

        Raises:
            TaskError: the environment failed, or a reward is not finite.
        """
        with self._named():
            result = self._env.step(self._action(actions))
            observations, rewards, terminations, truncations, infos = map(self._by_agent, result)
        self.length += 1
        self._observations = observations
        for agent in self.agents:
            if agent in rewards:
                self._count(agent, float(rewards[agent]), agent in actions)
            if terminations.get(agent) or truncations.get(agent):
                self._done.add(agent)
            elif agent in rewards:  # some come back to life
                self._done.discard(agent)
        self._note(infos)
        self.over = self._done.issuperset(self.acting) or self.length == self._max_steps

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def _count(self, agent: str, reward: float, acted: bool) -> None:
        if not math.isfinite(reward):
            raise TaskError(f"{self._where()} paid {agent!r} a reward of {reward}.")
        self.returns[agent] = self.returns.get(agent, 0.0) + reward
        self.acted[agent] = self.acted.get(agent, 0) + acted

    def _note(self, infos: Mapping[str, Any]) -> None:
        for agent in self.agents:
            if "task_completion" in infos.get(agent, ()):
                self.completion[agent] = float(infos[agent]["task_completion"])

    @abstractmethod
    def _by_agent(self, value: Any) -> Mapping[str, Any]:
        """A mapping by agent of what the environment returned."""

    @abstractmethod
    def _action(self, actions: Mapping[str, Any]) -> Any:
        """What the environment's step takes."""

    def _where(self) -> str:
        return f"Evaluation environment {self._number}, at step {self.length} of task {self.task!r},"

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise TaskError(f"{self._where()} failed: {type(error).__name__}: {error}") from error


class _ParallelPlayer(Player):
    def __init__(self, number: int, env: ParallelEnv[str, Any, Any], max_steps: int | None) -> None:
        self.agents = tuple(env.possible_agents)
        super().__init__(number, env, max_steps)

    @property
    @override
    def acting(self) -> list[str]:
        return list(self._env.agents)

    @override
    def _by_agent(self, value: Any) -> Mapping[str, Any]:
        by_agent: Mapping[str, Any] = value
        return by_agent

    @override
    def _action(self, actions: Mapping[str, Any]) -> Any:
        return dict(actions)


class _SinglePlayer(Player):
    agents = (SINGLE_AGENT,)

    @property
    @override
    def acting(self) -> list[str]:
        return [SINGLE_AGENT]

    @override
    def _by_agent(self, value: Any) -> Mapping[str, Any]:
        return {SINGLE_AGENT: value}

    @override
    def _action(self, actions: Mapping[str, Any]) -> Any:
        return actions[SINGLE_AGENT]


def make_player(number: int, env: Any, max_steps: int | None) -> Player:
    """The player for an environment of either kind.

    Raises:
        UsageError: it is of neither kind, takes no tasks, or is connected to a curriculum.
    """
    _check_unconnected(number, env)
    if isinstance(env, ParallelEnv):
        return _ParallelPlayer(number, env, max_steps)
    if isinstance(env, gymnasium.Env):
        return _SinglePlayer(number, env, max_steps)
    raise UsageError(
        f"Evaluation environment {number} must be a PettingZoo ParallelEnv or a gymnasium.Env; got {env!r}. Turn-based "
        "environments are converted by pettingzoo.utils.turn_based_aec_to_parallel; of a vector, pass the environments."
    )


def _takes_new_task(number: int, env: Any) -> bool:
    parameters = inspect.signature(env.reset).parameters
    if "new_task" in parameters:
        return True
    if "options" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return False
    raise UsageError(
        f"The reset of evaluation environment {number}, {env!r}, takes neither new_task nor options, so no task can "
        "reach it. Put it into one of macurr.wrappers' task wrappers."
    )


def _check_unconnected(number: int, env: Any) -> None:
    layer = env
    while layer is not None:
        if {"env_id", "task"} <= set(dir(type(layer))) and hasattr(layer, "_client"):
            raise UsageError(
                f"Evaluation environment {number} is connected to a curriculum, which would take the evaluation for "
                f"training and choose the tasks: it is in a {type(layer).__name__}. Pass the environment inside it."
            )
        inner = getattr(layer, "__dict__", {})
        layer = inner.get("env", inner.get("aec_env"))

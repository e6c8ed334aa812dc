"""Turn-based (AEC) environments as members of a batch. Imported by workers: no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pettingzoo import AECEnv
from pettingzoo.utils.wrappers.base import BaseWrapper
from typing_extensions import override

from macurr.errors import ConfigError
from macurr.training.layout import Layout
from macurr.training.members import Final, Place
from macurr.wrappers._client import task_info

__all__ = ["ScheduledTurns", "TurnMember"]

Env = AECEnv[str, Any, Any]


class ScheduledTurns(BaseWrapper[str, Any, Any]):
    """Plays given seeds one after the other, and from the start again after the last.

    Args:
        env: The environment.
        schedule: (number, seed) of each episode.

    Attributes:
        task: The number of the episode in the schedule; None before the first.
    """

    def __init__(self, env: Env, schedule: Sequence[tuple[int, int]]) -> None:
        super().__init__(env)
        self._schedule = list(schedule)
        self._played = 0
        self.task: int | None = None

    @override
    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        self.task, level = self._schedule[self._played % len(self._schedule)]
        self._played += 1
        self.env.reset(seed=level, options=options)

    def state_dict(self) -> dict[str, Any]:
        """Where it is in its schedule."""
        return {"played": self._played, "task": self.task}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()`."""
        self._played, self.task = state["played"], state["task"]


class TurnMember:
    """A turn-based environment. A step of it is the move of the agent whose turn it is.

    Everybody is paid what the move brings it, at once. Agents that are out of the game take the empty step that
    PettingZoo asks of them within the step. The episode is over when all agents are out.

    Args:
        env: The environment, with a `task`.
        place: What it fills.
        layout: How agents are laid out.
    """

    def __init__(self, env: Any, place: Place, layout: Layout) -> None:
        self.env = env
        self._place = place
        self._decoders = layout.decoders
        self._numbers = {agent: k for k, agent in enumerate(layout.agents)}
        self._dead: set[str] = set()

    def reset(self) -> Any:
        """Begin an episode."""
        self.env.reset()
        self._dead.clear()
        if not self.env.agents:
            raise ConfigError(
                f"reset() of {self._place.env_name} left no agents; an episode needs at least one."
            )
        self._place.check_infos(self.env.infos)
        self._see()
        agents = self._place.names
        return np.ravel(task_info(self.env.task, agents)[agents[0]])

    def step(self, row: Any, finals: list[Final]) -> bool:
        """Act."""
        env = self.env
        k = self._numbers[env.agent_selection]
        env.step(self._decoders[k](row[k]))
        paid = self._place.rewards
        for agent, reward in env.rewards.items():
            if agent in self._numbers:
                paid[self._numbers[agent]] += reward
        self._note_ends(finals)
        if not self._dead.issuperset(env.agents):
            self._step_dead()
        if self._dead.issuperset(env.agents):
            self._place.over()
            return True
        self._see()
        return False

    def saved(self) -> dict[str, Any]:
        """The episode in progress."""
        return {
            "env": self.env.env,
            "wrapper": self.env.state_dict(),
            "dead": set(self._dead),
            "said": list(self._place.said),
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Go on with a saved episode."""
        self.env.load_state_dict(saved["wrapper"])
        # The one in its place has played nothing. It is not closed: with pygame that would close for all.
        self.env.env = saved["env"]
        self._dead, self._place.said = saved["dead"], saved["said"]

    def _note_ends(self, finals: list[Final]) -> None:
        env = self.env
        terminations, truncations = env.terminations, env.truncations
        for agent, terminated in terminations.items():
            if agent in self._dead or not (terminated or truncations.get(agent)):
                continue
            self._dead.add(agent)
            k = self._numbers[agent]
            self._place.hear(k, env.infos.get(agent, {}))
            if self._place.end(k, terminated=bool(terminated)):
                finals.append(self._place.final(k, env.observe(agent)))

    def _step_dead(self) -> None:
        """Let the dead take their empty steps, until it is a living agent's turn."""
        env = self.env
        for _ in range(len(self._numbers) + 1):
            if not env.agents or env.agent_selection not in self._dead:
                return
            env.step(None)
        raise ConfigError(
            f"After the empty steps of all who are out of {self._place.env_name}, it is still the turn of "
            f"{env.agent_selection!r}, who is out too. Let step(None) take a dead agent off the environment's agents."
        )

    def _see(self) -> None:
        env, place = self.env, self._place
        listed, turn = env.agents, env.agent_selection
        for k, agent in enumerate(place.names):
            if agent in listed and agent not in self._dead:
                place.see(k, env.observe(agent), acts=agent == turn)
            else:
                place.clear(k)

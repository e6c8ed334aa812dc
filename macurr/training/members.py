"""One environment of a batch whose agents act at the same time. Imported by workers: no torch."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from macurr.errors import ConfigError
from macurr.training.frames import TRUE_OBJECTIVE, Frame
from macurr.training.layout import Layout

__all__ = ["Final", "Member", "ParallelMember", "Place"]

Final = tuple[int, NDArray[Any]]
"""A learner's number, and the row of what it saw last."""


class Place:
    """The part of a frame that one environment fills, agent by agent.

    Args:
        frame: The frame.
        number: The environment's number in it.
        learners: The numbers of the agents that learn.
        layout: How agents are laid out.

    Attributes:
        said: What was said so far of how well each agent did in this episode; NaN where nothing was.
    """

    def __init__(self, frame: Frame, number: int, learners: Collection[int], layout: Layout) -> None:
        self.env_name, self.names = layout.name, layout.agents
        self.rewards = frame.rewards[number]
        self.alive = frame.alive[number]
        self._terminated, self._truncated = frame.terminated[number], frame.truncated[number]
        self._objectives = frame.objectives[number]
        self.said = [math.nan] * len(layout.agents)
        self._rows = list(frame.observations[number])
        self._masks, self._own_masks = list(frame.masks[number]), layout.masks
        self._seen, self._learners = layout.seen, frozenset(learners)
        self._masked = layout.masked
        masks = self._masks if layout.masked else [None] * len(self.names)
        self.writers = [
            layout.writer(k, row, mask) for k, (row, mask) in enumerate(zip(self._rows, masks, strict=True))
        ]
        self._bare_writers = [layout.writer(k, row, None) for k, row in enumerate(self._rows)]

    def see(self, agent: int, observation: Any, *, acts: bool) -> None:
        """Write what a living agent sees, and whether it acts next."""
        self.alive[agent] = acts
        if acts:
            self.writers[agent](observation)
            return
        self._bare_writers[agent](observation)
        self._allow_all(agent)

    def check_infos(self, infos: Mapping[str, Any]) -> None:
        """Refuse action masks that nobody would read.

        Raises:
            ConfigError: masks come in infos, and none in observations.
        """
        if self._masked:
            return
        for agent in self.names:
            if "action_mask" in infos.get(agent, ()):
                raise ConfigError(
                    f"{self.env_name} gives the action mask of {agent!r} in its infos, and this trainer reads masks "
                    "from observations: actions that are not allowed would be played. Wrap it so that observations are "
                    "dicts with an 'observation' and an 'action_mask', as in PettingZoo's classic games; or, if masks "
                    "are not to count, leave them out of the infos."
                )

    def clear(self, agent: int) -> None:
        """An agent that is out of the episode sees nothing and does nothing."""
        self.alive[agent] = False
        self._rows[agent][: self._seen] = 0
        self._allow_all(agent)

    def end(self, agent: int, *, terminated: bool) -> bool:
        """Note that an agent's episode has ended; whether anybody asks what it saw last."""
        (self._terminated if terminated else self._truncated)[agent] = True
        return not terminated and agent in self._learners

    def hear(self, agent: int, info: Mapping[str, Any]) -> None:
        """Note what the environment says of how well an agent did, with its last step."""
        if TRUE_OBJECTIVE in info:
            self.said[agent] = float(info[TRUE_OBJECTIVE])

    def over(self) -> None:
        """Write down what was said of the agents in the episode that has ended."""
        self._objectives[:] = self.said
        self.said = [math.nan] * len(self.said)

    def final(self, agent: int, observation: Any) -> Final:
        """What a learner saw last, as a row of its own."""
        self._bare_writers[agent](observation)
        return agent, self._rows[agent].copy()

    def _allow_all(self, agent: int) -> None:
        if self._masked:
            self._masks[agent][:] = self._own_masks[agent]


class Member(Protocol):
    """One environment, which fills its place in a frame."""

    env: Any

    def reset(self) -> Any:
        """Begin an episode; returns its task as numbers."""

    def step(self, row: Any, finals: list[Final]) -> bool:
        """Act; returns whether the episode is over.

        Args:
            row: The agents' actions, (A, ...); of those that do not act, whatever.
            finals: Takes what truncated learners saw last.
        """

    def saved(self) -> dict[str, Any]:
        """The episode in progress, as objects that can be pickled together with the environment."""

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Go on with a saved episode."""


class ParallelMember:
    """A Parallel environment.

    Who is terminated or truncated is out, whether or not the environment keeps it listed and says so again at each
    step. It is back when it is told to be neither, or is listed again after it was not. The episode is over when
    everybody listed is out, or nobody is listed.

    Args:
        env: The environment.
        place: What it fills.
        layout: How agents are laid out.
    """

    def __init__(self, env: ParallelEnv[str, Any, Any], place: Place, layout: Layout) -> None:
        self.env: Any = env
        self._place = place
        self._table = {
            agent: (k, decode)
            for k, (agent, decode) in enumerate(zip(layout.agents, layout.decoders, strict=True))
        }
        self._writers = dict(zip(layout.agents, place.writers, strict=True))
        self._dead: set[str] = set()
        self._gone: set[str] = set()
        self._agents: Sequence[str] = ()
        self._everybody = False

    def reset(self) -> Any:
        """Begin an episode."""
        observations, infos = self.env.reset()
        if not observations:
            raise ConfigError(
                f"reset() of {self._place.env_name} gave no agents; an episode needs at least one."
            )
        self._place.check_infos(infos)
        self._agents = self.env.agents
        self._dead.clear()
        self._gone.clear()
        self._see(observations)
        return np.ravel(infos[next(iter(observations))]["task"])

    def step(self, row: Any, finals: list[Final]) -> bool:
        """Act."""
        # The hot path: written out flat, for every call counts in an environment of a few microseconds.
        table, place = self._table, self._place
        acts = {}
        for agent in self._agents:
            k, decode = table[agent]
            acts[agent] = decode(row[k])
        observations, rewards, terminations, truncations, infos = self.env.step(acts)
        self._agents = agents = self.env.agents
        paid = place.rewards
        for k, agent in enumerate(place.names):
            if agent in rewards:
                paid[k] = rewards[agent]
        writers = self._writers
        if (
            not self._everybody
            or not len(observations) == len(agents) == len(writers)
            or True in terminations.values()
            or True in truncations.values()
        ):
            return self._step_ragged(observations, terminations, truncations, infos, finals)
        for agent, seen in observations.items():
            writers[agent](seen)
        return False

    def saved(self) -> dict[str, Any]:
        """The episode in progress."""
        return {
            "env": self.env.env,
            "wrapper": self.env.state_dict(),
            "dead": set(self._dead),
            "gone": set(self._gone),
            "agents": list(self._agents),
            "everybody": self._everybody,
            "said": list(self._place.said),
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Go on with a saved episode."""
        self.env.load_state_dict(saved["wrapper"])
        # The one in its place has played nothing. It is not closed: with pygame that would close for all.
        self.env.env = saved["env"]
        self._dead, self._gone = saved["dead"], saved["gone"]
        self._agents, self._everybody = saved["agents"], saved["everybody"]
        self._place.said = saved["said"]

    def _step_ragged(
        self,
        observations: Mapping[str, Any],
        terminations: Mapping[str, bool],
        truncations: Mapping[str, bool],
        infos: Mapping[str, Any],
        finals: list[Final],
    ) -> bool:
        """Where somebody is, goes or comes back."""
        dead = self._dead
        for agent, terminated in terminations.items():
            if not (terminated or truncations.get(agent)):
                dead.discard(agent)
            elif agent not in dead and agent in self._table:
                dead.add(agent)
                k = self._table[agent][0]
                self._place.hear(k, infos.get(agent, {}))
                if self._place.end(k, terminated=bool(terminated)) and agent in observations:
                    finals.append(self._place.final(k, observations[agent]))
        back = self._gone.intersection(self._agents)
        dead -= back
        self._gone = dead.difference(self._agents)
        if dead.issuperset(self._agents):
            for agent in self._table.keys() - dead:  # an environment that ends by listing nobody
                self._place.hear(self._table[agent][0], infos.get(agent, {}))
            self._place.over()
            return True
        self._see({agent: seen for agent, seen in observations.items() if agent not in dead})
        return False

    def _see(self, observations: Mapping[str, Any]) -> None:
        place, listed = self._place, self._agents
        acting = 0
        for k, agent in enumerate(place.names):
            if agent in observations and agent in listed:
                place.see(k, observations[agent], acts=True)
                acting += 1
            else:
                place.clear(k)
        self._everybody = acting == len(place.names)

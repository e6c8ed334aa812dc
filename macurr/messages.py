"""What environments tell a curriculum, in PettingZoo's format: step batches, episode results, task progress.

Messages are about *encoded* tasks. Environments with several agents send mappings by agent, as PettingZoo's
Parallel API does; single-agent environments send plain values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from macurr.errors import UsageError

__all__ = [
    "SINGLE_AGENT",
    "EnvSpec",
    "EpisodeAborted",
    "EpisodeResult",
    "Step",
    "StepBatch",
    "TaskProgress",
    "Update",
]

SINGLE_AGENT = "agent_0"
"""The name of the only agent of a single-agent environment."""


@dataclass(frozen=True, slots=True)
class EnvSpec:
    """Who plays in an environment.

    Attributes:
        possible_agents: Every agent that may ever act, in the environment's order.
        learners: The agents whose experience trains the live policy; the others are opponents or partners.
        single_agent: Whether updates are plain values rather than mappings by agent.

    Raises:
        UsageError: a learner is not one of the agents, or there is no learner.
    """

    possible_agents: tuple[str, ...]
    learners: tuple[str, ...]
    single_agent: bool = False

    def __post_init__(self) -> None:
        strangers = [agent for agent in self.learners if agent not in self.possible_agents]
        if strangers or not self.learners:
            raise UsageError(
                f"learners={list(self.learners)} do not fit the agents {list(self.possible_agents)}. "
                "Name at least one of the environment's possible_agents, and no one else."
            )


class Step(NamedTuple):
    """One step in PettingZoo's format: mappings that hold only the agents that acted.

    For single-agent environments every field is a plain value.
    """

    obs: Any
    reward: Any
    term: Any
    trunc: Any
    info: Any
    progress: Any


@dataclass(frozen=True, slots=True, eq=False)
class StepBatch:
    """Consecutive steps of one environment, one task and one episode, as arrays.

    Attributes:
        task: The encoded task.
        env_id: The environment's id.
        agents: The columns, in order (A of them).
        rewards: float32 (T, A); zero where the agent did not act.
        terminations: bool (T, A).
        truncations: bool (T, A).
        active: bool (T, A); who acted on that step. Columns of dead agents are not data.
        observations: Per agent, what it saw *before* each of its actions, stacked to (T, ...): rows where the
            agent did not act repeat zeros. Spaces that do not stack arrive as a list of length T. Empty unless
            the curriculum asks for "observations".
        final_observations: Per agent, what it saw after the last step of this batch: needed to bootstrap at a
            truncation and at a cut between batches. Empty unless "observations" are asked for.
        infos: Per step, the agents' infos; empty unless asked for.
        progress: float32 (T, A), the task completion that each agent has last reported (0 before); None unless
            asked for.
        starts_episode: Whether the first step of the batch is the first of the episode.
        ends_episode: Whether the episode ended with the last step of the batch.
        single_agent: Whether `steps` yields plain values.
    """

    task: Any
    env_id: int
    agents: tuple[str, ...]
    rewards: NDArray[np.float32]
    terminations: NDArray[np.bool_]
    truncations: NDArray[np.bool_]
    active: NDArray[np.bool_]
    observations: Mapping[str, Any]
    final_observations: Mapping[str, Any]
    infos: tuple[Mapping[str, Any], ...]
    progress: NDArray[np.float32] | None
    starts_episode: bool
    ends_episode: bool
    single_agent: bool = False

    def __len__(self) -> int:
        return len(self.rewards)

    def steps(self) -> Iterator[Step]:
        """The steps one at a time, as PettingZoo's `step` returned them.

        Yields:
            `Step`s; `obs` is what the agents saw after the step, as in PettingZoo, where it was recorded.
        """
        for t in range(len(self)):
            columns = [a for a in range(len(self.agents)) if self.active[t, a]]
            step = Step(
                {self.agents[a]: seen for a in columns if (seen := self._seen_after(t, a)) is not None},
                {self.agents[a]: float(self.rewards[t, a]) for a in columns},
                {self.agents[a]: bool(self.terminations[t, a]) for a in columns},
                {self.agents[a]: bool(self.truncations[t, a]) for a in columns},
                {self.agents[a]: self._info(t, a) for a in columns},
                {}
                if self.progress is None
                else {self.agents[a]: float(self.progress[t, a]) for a in columns},
            )
            yield Step(*(field.get(self.agents[0]) for field in step)) if self.single_agent else step

    def agent(self, agent: str) -> StepBatch:
        """The steps on which one agent acted, as a single-agent batch.

        The batch ends that agent's episode where its own termination or truncation says so, even if the
        others play on.
        """
        column = self.agents.index(agent)
        rows = np.flatnonzero(self.active[:, column])
        ended = bool(len(rows)) and bool(
            self.terminations[rows[-1], column] or self.truncations[rows[-1], column]
        )
        return StepBatch(
            task=self.task,
            env_id=self.env_id,
            agents=(agent,),
            rewards=self.rewards[rows, column, None],
            terminations=self.terminations[rows, column, None],
            truncations=self.truncations[rows, column, None],
            active=np.ones((len(rows), 1), dtype=bool),
            observations=_rows_of(self.observations, agent, rows),
            final_observations={a: seen for a, seen in self.final_observations.items() if a == agent},
            infos=tuple({agent: self._info(int(t), column)} for t in rows) if self.infos else (),
            progress=None if self.progress is None else self.progress[rows, column, None],
            starts_episode=self.starts_episode,
            ends_episode=ended or self.ends_episode,
            single_agent=True,
        )

    def _seen_after(self, t: int, column: int) -> Any:
        agent = self.agents[column]
        later = np.flatnonzero(self.active[t + 1 :, column])
        if len(later) == 0:
            return self.final_observations.get(agent)
        # An agent that comes back from the dead sees a new life's beginning, not the end of the last.
        if agent not in self.observations or self.terminations[t, column] or self.truncations[t, column]:
            return None
        return self.observations[agent][t + 1 + int(later[0])]

    def _info(self, t: int, column: int) -> Any:
        return self.infos[t].get(self.agents[column], {}) if self.infos else {}


@dataclass(frozen=True, slots=True)
class EpisodeResult:
    """An episode that ran to its end.

    Attributes:
        task: The encoded task.
        env_id: The environment's id.
        episode_return: Undiscounted sum of rewards: by agent, or a float for single-agent environments.
        length: Number of environment steps.
        progress: Task completion at the end, by agent or a float; 0 where the environment reports none.
    """

    task: Any
    env_id: int
    episode_return: Any
    length: int
    progress: Any


@dataclass(frozen=True, slots=True)
class TaskProgress:
    """The task completion that an environment reported, by agent or a float (0: not begun, 1: done)."""

    task: Any
    env_id: int
    progress: Any


@dataclass(frozen=True, slots=True)
class EpisodeAborted:
    """An episode that was given up before its end: its task goes back, and it counts in no statistic."""

    task: Any
    env_id: int


Update = StepBatch | EpisodeResult | TaskProgress | EpisodeAborted
"""Whatever an environment can tell."""


def _rows_of(observations: Mapping[str, Any], agent: str, rows: NDArray[np.intp]) -> dict[str, Any]:
    if agent not in observations:
        return {}
    stacked = observations[agent]
    return {agent: [stacked[t] for t in rows] if isinstance(stacked, list) else stacked[rows]}

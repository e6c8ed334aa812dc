"""Data streams: the steps and results of one agent, or of a group that acts as one, out of those of all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from macurr.errors import TaskError, UsageError
from macurr.messages import EnvSpec, Step, StepBatch

Floats = NDArray[np.float64]
Reduction = Callable[[Floats], float]
"""From the numbers of a group's agents, shape (agents,), to one."""

_NAMED: Mapping[str, Callable[..., Floats]] = {"mean": np.mean, "sum": np.sum, "min": np.min, "max": np.max}


def check_rule(rule: Any) -> None:
    """Refuse what is no rule for `reduce_rows`.

    Raises:
        UsageError: it is neither a known name nor a function.
    """
    if not callable(rule) and rule not in _NAMED:
        raise UsageError(f"reduce must be a function or one of {', '.join(_NAMED)}; got {rule!r}.")


def reduce_rows(rule: str | Reduction, values: Floats) -> Floats:
    """Each row of an array reduced to one number, by a named rule or by a function of one row."""
    if callable(rule):
        return np.array([float(rule(row)) for row in values], np.float64)
    return _NAMED[rule](values, axis=1)


class Stream(ABC):
    """One sequence of single-agent episodes, out of those of an environment.

    Args:
        stream_id: What a curriculum knows it by: the id of an environment of its own.
        name: The name of its only agent.
        agents: The environment's agents whose data it is.
    """

    def __init__(self, stream_id: int | None, name: str, agents: Sequence[str]) -> None:
        self.id, self.name, self.agents = stream_id, name, tuple(agents)
        self._open = False

    @property
    def spec(self) -> EnvSpec:
        """The single-agent environment that the stream amounts to."""
        return EnvSpec((self.name,), (self.name,), single_agent=True)

    def plays(self, by_agent: Mapping[str, Any]) -> bool:
        """Whether a mapping by agent says anything of this stream."""
        return any(agent in by_agent for agent in self.agents)

    def forget(self) -> None:
        """Take the next step for the first of an episode."""
        self._open = False

    def cut(self, batch: StepBatch) -> StepBatch | None:
        """This stream's steps of a batch, as a batch of its own.

        It starts the stream's episode where the stream has not acted since the environment's episode began, and
        ends it where the stream is done, although others may play on. A stream that never says it is done ends
        with the environment's episode, if need be by a batch without steps.

        Returns:
            The stream's batch, labelled with its id; None where there is nothing to tell.
        """
        if batch.starts_episode:
            self.forget()
        piece = self._piece(batch)
        if len(piece) == 0 and not (self._open and piece.ends_episode):
            return None
        starts = not self._open
        if piece.ends_episode:
            self.forget()
        else:
            self._open = True
        return replace(piece, env_id=batch.env_id if self.id is None else self.id, starts_episode=starts)

    def check_columns(self, batch: StepBatch) -> None:
        """Refuse a batch that this stream cannot be cut from.

        Raises:
            TaskError: the batch has no column for one of the stream's agents.
        """
        missing = [agent for agent in self.agents if agent not in batch.agents]
        if missing:
            raise TaskError(
                f"A step batch of environment {batch.env_id} has columns for {list(batch.agents)} and none for "
                f"{missing}. Send a column for each of the environment's possible_agents."
            )

    @abstractmethod
    def value(self, by_agent: Mapping[str, Any]) -> float:
        """This stream's number out of numbers by agent; 0 for agents that are not mentioned."""

    @abstractmethod
    def step(self, step: Step) -> Step:
        """This stream's plain values out of a step's mappings by agent."""

    @abstractmethod
    def _piece(self, batch: StepBatch) -> StepBatch:
        """This stream's steps of a batch; `ends_episode` says whether the stream's episode ends with them."""


class AgentStream(Stream):
    """The data of one agent."""

    def __init__(self, stream_id: int | None, agent: str) -> None:
        super().__init__(stream_id, agent, (agent,))

    @override
    def plays(self, by_agent: Mapping[str, Any]) -> bool:
        return self.name in by_agent

    @override
    def value(self, by_agent: Mapping[str, Any]) -> float:
        return float(by_agent.get(self.name, 0.0))

    @override
    def step(self, step: Step) -> Step:
        agent = self.name
        return Step(
            step.obs.get(agent),
            float(step.reward[agent]),
            bool(step.term.get(agent, False)),
            bool(step.trunc.get(agent, False)),
            step.info.get(agent, {}),
            step.progress.get(agent),
        )

    @override
    def _piece(self, batch: StepBatch) -> StepBatch:
        return batch.agent(self.name)


class GroupStream(Stream):
    """The data of a group of agents that acts as one: joint observations, reduced rewards.

    Args:
        stream_id: The stream's id.
        name: What the group is called.
        agents: Its agents.
        rule: How numbers by agent become one (see `reduce_rows`).
    """

    def __init__(
        self, stream_id: int | None, name: str, agents: Sequence[str], rule: str | Reduction
    ) -> None:
        super().__init__(stream_id, name, agents)
        self._rule = rule
        self._done = np.zeros(len(self.agents), dtype=bool)

    @override
    def forget(self) -> None:
        super().forget()
        self._done = np.zeros(len(self.agents), dtype=bool)

    @override
    def value(self, by_agent: Mapping[str, Any]) -> float:
        values = np.array([[float(by_agent.get(agent, 0.0)) for agent in self.agents]])
        return float(reduce_rows(self._rule, values)[0])

    @override
    def step(self, step: Step) -> Step:
        acted = [agent for agent in self.agents if agent in step.reward]
        cut = any(step.trunc.get(agent) for agent in acted)
        ended = [
            agent in acted and bool(step.term.get(agent) or step.trunc.get(agent)) for agent in self.agents
        ]
        self._done |= ended
        over = bool(self._done.all())
        if over:
            self.forget()
        return Step(
            {agent: step.obs[agent] for agent in acted if agent in step.obs},
            self.value(step.reward),
            over and not cut,
            over and cut,
            {agent: step.info.get(agent, {}) for agent in acted},
            self.value(step.progress) if step.progress else None,
        )

    @override
    def _piece(self, batch: StepBatch) -> StepBatch:
        columns = [batch.agents.index(agent) for agent in self.agents]
        active = batch.active[:, columns]
        rows = np.flatnonzero(active.any(axis=1))
        terminated, truncated = self._ends(batch, columns, rows)
        over = bool(len(rows)) and bool(self._done.all())
        rewards = np.where(active, batch.rewards[:, columns], 0.0)[rows].astype(np.float64)
        acting = [[a for a, acts in zip(self.agents, row, strict=True) if acts] for row in active[rows]]
        final = {
            agent: batch.final_observations[agent]
            for agent in self.agents
            if agent in batch.final_observations
        }
        return replace(
            batch,
            agents=(self.name,),
            rewards=reduce_rows(self._rule, rewards).astype(np.float32)[:, None],
            terminations=terminated[:, None],
            truncations=truncated[:, None],
            active=np.ones((len(rows), 1), dtype=bool),
            observations=self._joint_observations(batch, rows, acting),
            final_observations={self.name: final} if final else {},
            infos=self._joint_infos(batch, rows, acting),
            progress=self._joint_progress(batch, columns, rows),
            ends_episode=over or batch.ends_episode,
            single_agent=True,
        )

    def _ends(
        self, batch: StepBatch, columns: list[int], rows: NDArray[np.intp]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Whether the group terminated, and whether it was truncated, at each of `rows`; notes who is done."""
        terminated, truncated = np.zeros((2, len(rows)), dtype=bool)
        if len(rows) == 0:
            return terminated, truncated
        active = batch.active[rows][:, columns]
        term, trunc = (
            batch.terminations[rows][:, columns] & active,
            batch.truncations[rows][:, columns] & active,
        )
        done = np.logical_or.accumulate(term | trunc, axis=0) | self._done
        over = done.all(axis=1)
        last = int(np.argmax(over)) if over.any() else len(rows) - 1
        if over.any() or batch.ends_episode:
            truncated[last] = trunc[last].any()
            terminated[last] = term[last].any() and not truncated[last]
        self._done = done[-1]
        return terminated, truncated

    def _joint_observations(
        self, batch: StepBatch, rows: NDArray[np.intp], acting: list[list[str]]
    ) -> dict[str, list[dict[str, Any]]]:
        seen = batch.observations
        if not any(agent in seen for agent in self.agents):
            return {}
        joint = [
            {agent: seen[agent][t] for agent in agents if agent in seen}
            for t, agents in zip(rows, acting, strict=True)
        ]
        return {self.name: joint}

    def _joint_infos(
        self, batch: StepBatch, rows: NDArray[np.intp], acting: list[list[str]]
    ) -> tuple[dict[str, Any], ...]:
        if not batch.infos:
            return ()
        return tuple(
            {self.name: {agent: batch.infos[t].get(agent, {}) for agent in agents}}
            for t, agents in zip(rows, acting, strict=True)
        )

    def _joint_progress(
        self, batch: StepBatch, columns: list[int], rows: NDArray[np.intp]
    ) -> NDArray[np.float32] | None:
        if batch.progress is None:
            return None
        progress = batch.progress[rows][:, columns].astype(np.float64)
        joint = reduce_rows(self._rule, np.nan_to_num(progress, nan=0.0))
        joint[np.isnan(progress).all(axis=1)] = np.nan
        return joint.astype(np.float32)[:, None]

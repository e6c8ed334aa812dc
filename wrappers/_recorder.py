"""Recording of an episode's steps: as little as possible per step, arrays when a batch is full."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from macurr.messages import EnvSpec, StepBatch

LARGEST_BATCH = 1 << 18
"""Bytes of observations in a batch, after which it is sent: larger writes only wait in the socket."""


class Recorder:
    """Collects the steps of one environment into `StepBatch`es and sums its returns.

    Per step only small copies are kept, so that an environment that reuses its dicts or buffers cannot change
    the past; they are packed into arrays when the batch is full or the episode ends.

    Args:
        env_id: The environment's id.
        spec: Who plays.
        fields: Which step fields the curriculum reads; none: only returns and lengths are kept.
        batch_size: Steps in a batch.
        remove_keys: Keys of infos that are never sent.
        progress: The agents' task completion, as it is now; read at each step.
    """

    def __init__(
        self,
        env_id: int,
        spec: EnvSpec,
        fields: frozenset[str],
        batch_size: int,
        remove_keys: frozenset[str],
        progress: Mapping[str, float],
    ) -> None:
        self._env_id, self._spec, self._batch_size = env_id, spec, batch_size
        self._agents = spec.possible_agents
        self._observing = "observations" in fields
        self._informing = "infos" in fields
        self._progressing = "progress" in fields
        self._now = progress
        self._remove_keys = remove_keys
        self._seen: dict[str, Any] = {}
        self._starts = True
        self.task: Any = None
        self.length = 0
        self.returns: dict[str, float] = {}
        self._most = batch_size
        if not fields:
            self.add = self._add_returns  # type: ignore[method-assign]  # decided once, not at each step
        self._clear()

    def begin(self, task: Any, observations: Mapping[str, Any]) -> None:
        """Start an episode, or a new task within one, from what the agents see now."""
        self.task = task
        self.length = 0
        self.returns = _Returns.fromkeys(self._agents, 0.0)
        self._starts = True
        self._clear()
        if self._observing:
            self._seen = {agent: _copied(seen) for agent, seen in observations.items()}
            size = max(1, sum(_size(seen) for seen in self._seen.values()))
            self._most = min(self._batch_size, max(1, LARGEST_BATCH // size))

    def see(self, observations: Mapping[str, Any]) -> None:
        """Note what agents see before their next step."""
        self._seen.update((agent, _copied(seen)) for agent, seen in observations.items())

    def add(
        self,
        observations: Mapping[str, Any],
        rewards: Mapping[str, float],
        terminations: Mapping[str, bool],
        truncations: Mapping[str, bool],
        infos: Mapping[str, Any],
    ) -> bool:
        """Record one step; returns whether the batch is full."""
        self._rewards.append(dict(rewards))
        self._terminations.append(dict(terminations))
        self._truncations.append(dict(truncations))
        if self._observing:
            self._before.append({agent: self._seen.get(agent) for agent in rewards})
            self.see(observations)
        if self._informing:
            self._infos.append({agent: self._kept(info) for agent, info in infos.items()})
        if self._progressing:
            self._progress.append(dict(self._now))
        return len(self._rewards) >= self._most

    def _add_returns(
        self, observations: Any, rewards: Mapping[str, float], terminations: Any, truncations: Any, infos: Any
    ) -> bool:
        """Record one step for a curriculum that reads no steps."""
        self.length += 1
        returns = self.returns
        for agent, reward in rewards.items():
            returns[agent] += float(reward)
        return False

    def flush(self, *, ends: bool) -> StepBatch | None:
        """Pack what has been recorded since the last flush.

        Args:
            ends: Whether the episode is over.

        Returns:
            The batch; None if there is nothing in it or the curriculum reads no steps.
        """
        steps = len(self._rewards)
        if steps == 0:
            return None
        values, active = self._grid(self._rewards, np.float64)
        for agent, total in zip(self._agents, values.sum(axis=0).tolist(), strict=True):
            self.returns[agent] += total
        self.length += steps
        batch = self._batch(values, active, ends)
        self._starts = False
        self._clear()
        return batch

    @property
    def steps(self) -> int:
        """Steps of the episode so far."""
        return self.length + len(self._rewards)

    def _batch(self, rewards: NDArray[Any], active: NDArray[np.bool_], ends: bool) -> StepBatch:
        return StepBatch(
            task=self.task,
            env_id=self._env_id,
            agents=self._agents,
            rewards=rewards.astype(np.float32),
            terminations=self._grid(self._terminations, np.bool_)[0],
            truncations=self._grid(self._truncations, np.bool_)[0],
            active=active,
            observations=self._stacked() if self._observing else {},
            final_observations=dict(self._seen) if self._observing else {},
            infos=tuple(self._infos),
            progress=self._grid(self._progress, np.float32, np.nan)[0] if self._progressing else None,
            starts_episode=self._starts,
            ends_episode=ends,
            single_agent=self._spec.single_agent,
        )

    def _grid(
        self, rows: Sequence[dict[str, Any]], dtype: type, missing: float = 0
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Mappings by agent as a (T, A) array, and where they held an entry."""
        shape = (len(rows), len(self._agents))
        if all(map(self._agents.__eq__, map(tuple, rows))):  # everybody alive, in order: no lookups
            values = chain.from_iterable(map(dict.values, rows))
            return np.fromiter(values, dtype, shape[0] * shape[1]).reshape(shape), np.ones(shape, dtype=bool)
        grid: NDArray[Any] = np.full(shape, missing, dtype)
        held = np.zeros(shape, dtype=bool)
        column = {agent: a for a, agent in enumerate(self._agents)}
        for t, row in enumerate(rows):
            for agent, value in row.items():
                if agent in column:  # PettingZoo allows further keys such as "common"
                    grid[t, column[agent]], held[t, column[agent]] = value, True
        return grid, held

    def _stacked(self) -> dict[str, Any]:
        acted = [agent for agent in self._agents if any(agent in row for row in self._before)]
        return {agent: _stack([row.get(agent) for row in self._before]) for agent in acted}

    def _kept(self, info: Any) -> Any:
        if not isinstance(info, Mapping):
            return info
        return {key: value for key, value in info.items() if key not in self._remove_keys}

    def _clear(self) -> None:
        self._rewards: list[dict[str, float]] = []
        self._terminations: list[dict[str, bool]] = []
        self._truncations: list[dict[str, bool]] = []
        self._before: list[dict[str, Any]] = []
        self._infos: list[dict[str, Any]] = []
        self._progress: list[dict[str, float]] = []


class _Returns(dict[str, float]):
    """Sums by agent; further keys that PettingZoo allows, such as "common", are summed and left out later."""

    def __missing__(self, key: str) -> float:
        return 0.0


def _copied(observation: Any) -> Any:
    if isinstance(observation, np.ndarray):
        return observation.copy()
    if isinstance(observation, Mapping):
        return {key: _copied(value) for key, value in observation.items()}
    if isinstance(observation, tuple | list):
        return tuple(_copied(value) for value in observation)
    return observation


def _size(observation: Any) -> int:
    if isinstance(observation, Mapping):
        return sum(_size(value) for value in observation.values())
    if isinstance(observation, tuple):
        return sum(_size(value) for value in observation)
    return observation.nbytes if isinstance(observation, np.ndarray) else 8


def _stack(seen: list[Any]) -> Any:
    """Rows as one array with zeros where there is none; as a list where they do not stack."""
    first = next(row for row in seen if row is not None)
    if not isinstance(first, np.ndarray | np.number | int | float):
        return seen
    blank = np.zeros_like(first)
    rows = [blank if row is None else row for row in seen]
    if any(np.shape(row) != np.shape(first) for row in rows):
        return seen
    return np.asarray(rows)

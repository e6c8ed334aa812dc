"""Recording of an episode's steps: as little as possible per step, arrays when a batch is full."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from macurr.messages import EnvSpec, StepBatch

LARGEST_BATCH = 1 << 18
"""Bytes of observations in a batch, after which it is sent: larger writes only wait in the socket."""

_IN_PROGRESS = (
    *("task", "length", "returns", "_starts", "_seen", "_most", "_plain"),
    *("_rows", "_inactive", "_before", "_infos", "_progress"),
)
"""What a recorder remembers of an episode."""


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
        self._width = len(self._agents)
        self._pick = _picker(self._agents)
        self._plain = True
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
        # A new dict: the old one is the record of the step before. Who is silent keeps what it saw last.
        self._seen = dict(self._seen)
        for agent, seen in observations.items():
            self._seen[agent] = seen.copy() if type(seen) is np.ndarray else _copied(seen)

    def add(
        self,
        observations: Mapping[str, Any],
        rewards: Mapping[str, float],
        terminations: Mapping[str, bool],
        truncations: Mapping[str, bool],
        infos: Mapping[str, Any],
    ) -> bool:
        """Record one step; returns whether the batch is full."""
        rows, pick = self._rows, self._pick
        if not rows:  # an environment hands out one kind of things: looking once in a batch is enough
            self._plain = _are_plain(rewards, terminations, truncations)
        try:
            if len(rewards) != self._width or not self._plain:
                raise KeyError
            rows.append(pick(rewards) + pick(terminations) + pick(truncations))
        except KeyError:  # somebody is dead, or values need care
            self._add_ragged(rewards, terminations, truncations)
        if self._observing:
            self._before.append(self._seen)
            self.see(observations)
        if self._informing:
            self._infos.append({agent: self._kept(info) for agent, info in infos.items()})
        if self._progressing:
            self._progress.append([self._now[agent] for agent in self._agents])
        return len(rows) >= self._most

    def _add_ragged(
        self, rewards: Mapping[str, float], terminations: Mapping[str, bool], truncations: Mapping[str, bool]
    ) -> None:
        """Record one step on which not everybody acted; who did not is inactive."""
        self._inactive[len(self._rows)] = [agent not in rewards for agent in self._agents]
        fields = (rewards, terminations, truncations)
        self._rows.append(tuple(float(field.get(agent, 0)) for field in fields for agent in self._agents))

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
        steps, width = len(self._rows), self._width
        if steps == 0:
            return None
        # One flat pass over all values: quicker than an array for each field.
        grid = np.fromiter(chain.from_iterable(self._rows), np.float64, steps * 3 * width)
        grid = grid.reshape(steps, 3 * width)
        for agent, total in zip(self._agents, grid[:, :width].sum(axis=0).tolist(), strict=True):
            self.returns[agent] += total
        self.length += steps
        batch = self._batch(grid, ends)
        self._starts = False
        self._clear()
        return batch

    @property
    def steps(self) -> int:
        """Steps of the episode so far."""
        return self.length + len(self._rows)

    def state_dict(self) -> dict[str, Any]:
        """The episode in progress: what has been recorded and not sent, as objects that can be pickled."""
        return {name: copy(getattr(self, name)) for name in _IN_PROGRESS}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the episode of `state_dict()`."""
        for name in _IN_PROGRESS:
            setattr(self, name, state[name])

    def _batch(self, grid: NDArray[np.float64], ends: bool) -> StepBatch:
        width = self._width
        active = _everybody(len(grid), width)
        if self._inactive:
            active = active.copy()
            for row, absent in self._inactive.items():
                active[row, absent] = False
        flags = grid[:, width:].astype(np.bool_)
        return StepBatch(
            task=self.task,
            env_id=self._env_id,
            agents=self._agents,
            rewards=grid[:, :width].astype(np.float32),
            terminations=flags[:, :width],
            truncations=flags[:, width:],
            active=active,
            observations=self._stacked(active) if self._observing else {},
            final_observations=self._seen if self._observing else {},
            infos=tuple(self._infos),
            progress=np.array(self._progress, np.float32) if self._progressing else None,
            starts_episode=self._starts,
            ends_episode=ends,
            single_agent=self._spec.single_agent,
        )

    def _stacked(self, active: NDArray[np.bool_]) -> dict[str, Any]:
        stacked = {}
        for agent, acted in zip(self._agents, active.T.tolist(), strict=True):
            rows = [seen.get(agent) if a else None for seen, a in zip(self._before, acted, strict=True)]
            if any(row is not None for row in rows):
                stacked[agent] = _stack(rows)
        return stacked

    def _kept(self, info: Any) -> Any:
        if not isinstance(info, Mapping):
            return info
        return {key: value for key, value in info.items() if key not in self._remove_keys}

    def _clear(self) -> None:
        self._rows: list[tuple[float, ...]] = []  # per step: rewards, terminations, truncations of all agents
        self._inactive: dict[int, list[bool]] = {}
        self._before: list[dict[str, Any]] = []
        self._infos: list[dict[str, Any]] = []
        self._progress: list[list[float]] = []


@lru_cache(maxsize=64)
def _everybody(steps: int, width: int) -> NDArray[np.bool_]:
    """Who acted, where everybody did. Read-only: batches share it."""
    active = np.ones((steps, width), dtype=bool)
    active.flags.writeable = False
    return active


def _picker(agents: tuple[str, ...]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    """The values of a mapping in the order of the agents."""
    if len(agents) == 1:
        agent = agents[0]
        return lambda values: (values[agent],)
    return itemgetter(*agents)


def _are_plain(rewards: Mapping[str, Any], *flags: Mapping[str, Any]) -> bool:
    """Whether values can be taken as they are: a default dict would invent those of the dead."""
    dicts = all(type(field) is dict for field in (rewards, *flags))
    return dicts and not any(isinstance(reward, np.ndarray) for reward in rewards.values())


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
    if any(row is None for row in seen):
        blank = np.zeros_like(first)
        seen = [blank if row is None else row for row in seen]
    shape = np.shape(first)
    if isinstance(first, np.ndarray) and any(row.shape != shape for row in seen):
        return seen
    return np.asarray(seen)

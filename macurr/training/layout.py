"""How the agents of an environment are laid out in arrays, as SuperSuit's pad and indicator wrappers do it.

Observations are flattened and padded with zeros to the largest, and a one-hot indicator of the agent is appended.
Discrete actions are padded to the largest number of actions, with the missing ones masked; continuous actions to
the largest number of coordinates. Imported by workers: no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from macurr.errors import ConfigError

__all__ = ["Layout"]

Floats = NDArray[np.float32]
Encoder = Callable[[Any, Floats], None]

_FLAT = (spaces.Box, spaces.Discrete, spaces.MultiBinary, spaces.MultiDiscrete, spaces.Dict, spaces.Tuple)
_MASK = "action_mask"
_OBSERVATION = "observation"


class Layout:
    """The arrays that stand for one environment's observations and actions.

    Args:
        env: The environment.
        name: What to call it in errors.

    Attributes:
        agents: The possible agents, in order; A of them.
        features: Length of an observation row: the largest flattened observation, plus the indicator.
        actions: Discrete: the largest number of actions, N. Continuous: the largest number of coordinates.
        discrete: Whether actions are discrete.
        masks: bool (A, actions): which actions (or coordinates) each agent has at all.
        masked: Whether observations bring an `action_mask`.

    Raises:
        ConfigError: a space that cannot be laid out.
    """

    def __init__(self, env: ParallelEnv[str, Any, Any], name: str) -> None:
        self.name = name
        self.agents: tuple[str, ...] = tuple(env.possible_agents)
        self._spaces = [env.observation_space(agent) for agent in self.agents]
        self._action_spaces = [env.action_space(agent) for agent in self.agents]
        self._with_mask = [_has_mask(space) for space in self._spaces]
        self.masked = any(self._with_mask)
        parts = [self._observed(space) for space in self._spaces]
        for agent, part in zip(self.agents, parts, strict=True):
            self._check_observation(agent, part)
        sizes = [spaces.flatdim(part) for part in parts]
        self._encoders = [_encoder(part, size) for part, size in zip(parts, sizes, strict=True)]
        self.features = max(sizes) + len(self.agents)
        self._seen = max(sizes)
        self.discrete = isinstance(self._action_spaces[0], spaces.Discrete)
        counts = [self._count(agent, sp) for agent, sp in zip(self.agents, self._action_spaces, strict=True)]
        self.actions = max(counts)
        self.masks = np.arange(self.actions) < np.array(counts)[:, None]

    # Observations

    def encode(self, agent: int, observation: Any, row: Floats, mask: NDArray[np.bool_] | None) -> None:
        """Write one agent's observation into its row, whose indicator is left as it is.

        Args:
            agent: The agent's number.
            observation: What it sees.
            row: float32 (features,), written in place.
            mask: bool (actions,), written in place where the observation brings a mask; None where nobody asks.
        """
        if self._with_mask[agent]:
            if mask is not None:
                given = np.asarray(observation[_MASK], dtype=bool)
                mask[: len(given)] = given
            observation = self._unmasked(observation)
        self._encoders[agent](observation, row)

    def indicator(self) -> Floats:
        """Rows of zeros with the agents' indicators, float32 (A, features)."""
        rows = np.zeros((len(self.agents), self.features), np.float32)
        rows[:, self._seen :] = np.eye(len(self.agents), dtype=np.float32)
        return rows

    # Actions

    def decode(self, agent: int, action: Any) -> Any:
        """The action that an agent's space holds, from an int or a float row (actions,)."""
        space = self._action_spaces[agent]
        if isinstance(space, spaces.Discrete):
            return int(action) + int(space.start)
        low, high = space.low.reshape(-1), space.high.reshape(-1)  # type: ignore[attr-defined]  # a Box
        return np.clip(action[: low.size], low, high).astype(space.dtype).reshape(space.shape)

    # Checks

    def _count(self, agent: str, space: gymnasium.Space[Any]) -> int:
        if isinstance(space, spaces.Discrete) and self.discrete:
            return int(space.n)
        floating = (
            isinstance(space, spaces.Box)
            and space.dtype is not None
            and np.issubdtype(space.dtype, np.floating)
        )
        if floating and not self.discrete:
            return int(np.prod(space.shape or (1,)))
        raise ConfigError(
            f"Agent {agent!r} of {self.name} has the action space {space}. This trainer plays Discrete actions, or Box "
            "actions of a floating dtype, the same kind for all agents. Convert the actions with a wrapper."
        )

    def _check_observation(self, agent: str, space: gymnasium.Space[Any]) -> None:
        if not _flattens(space):
            raise ConfigError(
                f"Agent {agent!r} of {self.name} has the observation space {space}, which has no fixed flat size. This "
                "trainer reads Box, Discrete, MultiBinary and MultiDiscrete, and Dict and Tuple of those."
            )

    def _observed(self, space: gymnasium.Space[Any]) -> gymnasium.Space[Any]:
        if not _has_mask(space):
            return space
        rest = {key: part for key, part in space.spaces.items() if key != _MASK}  # type: ignore[attr-defined]
        return rest[_OBSERVATION] if set(rest) == {_OBSERVATION} else spaces.Dict(rest)

    def _unmasked(self, observation: Mapping[str, Any]) -> Any:
        rest = {key: value for key, value in observation.items() if key != _MASK}
        return rest[_OBSERVATION] if set(rest) == {_OBSERVATION} else rest


def _has_mask(space: gymnasium.Space[Any]) -> bool:
    return isinstance(space, spaces.Dict) and _MASK in space.spaces and len(space.spaces) > 1


def _flattens(space: gymnasium.Space[Any]) -> bool:
    if isinstance(space, spaces.Dict):
        return all(_flattens(part) for part in space.spaces.values())
    if isinstance(space, spaces.Tuple):
        return all(_flattens(part) for part in space.spaces)
    return isinstance(space, _FLAT)


def _encoder(space: gymnasium.Space[Any], size: int) -> Encoder:
    """How to write an observation of this space to the front of a row."""
    if isinstance(space, spaces.Box):
        # Images come as bytes; networks want numbers of order one.
        scale = 1 / 255 if space.dtype == np.uint8 and bool((space.high == 255).all()) else None

        def write_box(observation: Any, row: Floats) -> None:
            row[:size] = np.ravel(observation)
            if scale is not None:
                row[:size] *= scale

        return write_box
    if isinstance(space, spaces.Discrete):
        start = int(space.start)

        def write_discrete(observation: Any, row: Floats) -> None:
            row[:size] = 0.0
            row[int(observation) - start] = 1.0

        return write_discrete

    def write_flat(observation: Any, row: Floats) -> None:
        row[:size] = np.asarray(spaces.flatten(space, observation))

    return write_flat

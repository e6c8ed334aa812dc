"""How the agents of an environment are laid out in arrays, as SuperSuit's pad and indicator wrappers do it.

Observations are flattened and padded with zeros to the largest, and a one-hot indicator of the agent is appended;
where all agents see images of one shape, rows are bytes. Actions are padded to the largest space, with what an agent
lacks masked. Imported by workers: no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from pettingzoo import AECEnv, ParallelEnv

from macurr.errors import ConfigError
from macurr.training.actions import ActionLayout, mask_of
from macurr.training.observations import Writer, encoder, flattens, image_encoder, image_of

__all__ = ["Layout"]

_MASK = "action_mask"
_OBSERVATION = "observation"


class Layout:
    """The arrays that stand for one environment's observations and actions.

    A pickled layout says what arrays are like; it neither writes observations nor decodes actions.

    Args:
        env: The environment, Parallel or AEC.
        name: What to call it in errors.

    Attributes:
        agents: The possible agents, in order; A of them.
        turns: Whether the agents act in turns (an AEC environment).
        features: Length of an observation row: the largest flattened observation, plus the indicator.
        seen: Length of the observation in it, without the indicator.
        image: (height, width, channels), where all agents see uint8 images of one shape; None otherwise. A row is
            then the pixels, channels last, and the indicator as 0 and 1.
        dtype: Of observation rows: uint8 for images, float32 otherwise.
        kind: Of actions: "discrete", "multidiscrete" or "continuous".
        nvec: Choices of each part of a multi-discrete action; empty for other kinds.
        actions: Discrete: the largest number of actions, N. Multi-discrete: the sum of `nvec`. Continuous: the largest
            number of coordinates.
        action_shape: Shape of one action: (), (parts,) or (coordinates,).
        action_dtype: int64, or float32 where continuous.
        discrete: Whether an action is one number.
        masks: bool (A, actions): which actions (or coordinates) each agent has at all.
        masked: Whether observations bring an `action_mask`.

    Raises:
        ConfigError: a space that cannot be laid out.
    """

    def __init__(self, env: ParallelEnv[str, Any, Any] | AECEnv[str, Any, Any], name: str) -> None:
        self.name = name
        self.turns = isinstance(env, AECEnv)
        self.agents: tuple[str, ...] = tuple(env.possible_agents)
        self._lay_out_actions([env.action_space(agent) for agent in self.agents])
        self._lay_out_observations([env.observation_space(agent) for agent in self.agents])

    def _lay_out_actions(self, action_spaces: list[gymnasium.Space[Any]]) -> None:
        own = ActionLayout(self.agents, action_spaces, self.name)
        self.kind, self.nvec, self.actions = own.kind, own.nvec, own.size
        self.action_shape, self.action_dtype, self.masks = own.shape, own.dtype, own.masks
        self.discrete = self.kind == "discrete"
        self.decoders, self._slots = own.decoders, own.slots

    def _lay_out_observations(self, observed: list[gymnasium.Space[Any]]) -> None:
        self._with_mask = [_has_mask(space) for space in observed]
        self.masked = any(self._with_mask)
        self._bare = [_is_bare(space) for space in observed]
        parts = [_observed(space) for space in observed]
        for agent, part in zip(self.agents, parts, strict=True):
            self._check_observation(agent, part)
        sizes = [spaces.flatdim(part) for part in parts]
        self.seen = max(sizes)
        self.features = self.seen + len(self.agents)
        self.image = image = image_of(parts)
        self.dtype: type[np.uint8] | type[np.float32] = np.float32 if image is None else np.uint8
        self._encoders = [
            encoder(part, size) if image is None else image_encoder(part, image)
            for part, size in zip(parts, sizes, strict=True)
        ]

    def __getstate__(self) -> dict[str, Any]:
        # What encodes and decodes stays where the environments are: elsewhere only the sizes of arrays count.
        codecs = {"_encoders", "decoders", "_slots"}
        return {name: value for name, value in vars(self).items() if name not in codecs}

    # Observations

    def writer(self, agent: int, row: NDArray[Any], mask: NDArray[np.bool_] | None) -> Writer:
        """What writes an agent's observations into its row, whose indicator is left as it is.

        Args:
            agent: The agent's number.
            row: `dtype` (features,), written in place.
            mask: bool (actions,), written in place where the observation brings a mask; None where nobody asks.
        """
        write = self._encoders[agent](row)
        if not self._with_mask[agent]:
            return write
        bare, slots = self._bare[agent], self._slots[agent]

        def unmask(observation: Any) -> None:
            if mask is not None:
                mask[slots] = mask_of(observation[_MASK])
            write(observation[_OBSERVATION] if bare else _rest(observation))

        return unmask

    def encode(self, agent: int, observation: Any, row: NDArray[Any], mask: NDArray[np.bool_] | None) -> None:
        """Write one observation of an agent; see `writer`."""
        self.writer(agent, row, mask)(observation)

    def indicator(self) -> NDArray[Any]:
        """Rows of zeros with the agents' indicators, `dtype` (A, features)."""
        rows = np.zeros((len(self.agents), self.features), self.dtype)
        rows[:, self.seen :] = np.eye(len(self.agents), dtype=self.dtype)
        return rows

    # Actions

    def decode(self, agent: int, action: Any) -> Any:
        """The action that an agent's space holds, from an int, or an array of `action_shape`."""
        return self.decoders[agent](action)

    # Checks

    def _check_observation(self, agent: str, space: gymnasium.Space[Any]) -> None:
        if not flattens(space):
            raise ConfigError(
                f"Agent {agent!r} of {self.name} has the observation space {space}, which has no fixed flat size. This "
                "trainer reads Box, Discrete, MultiBinary and MultiDiscrete, and Dict and Tuple of those."
            )


def _has_mask(space: gymnasium.Space[Any]) -> TypeGuard[spaces.Dict]:
    return isinstance(space, spaces.Dict) and _MASK in space.spaces and len(space.spaces) > 1


def _is_bare(space: gymnasium.Space[Any]) -> bool:
    """Whether besides the mask there is nothing but the observation."""
    return _has_mask(space) and set(_rest(space.spaces)) == {_OBSERVATION}


def _rest(parts: Mapping[str, Any]) -> dict[str, Any]:
    return {key: part for key, part in parts.items() if key != _MASK}


def _observed(space: gymnasium.Space[Any]) -> gymnasium.Space[Any]:
    """What is left of a space without its mask."""
    if not _has_mask(space):
        return space
    rest = _rest(space.spaces)
    return rest[_OBSERVATION] if _is_bare(space) else spaces.Dict(rest)

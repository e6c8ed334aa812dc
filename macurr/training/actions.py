"""Action spaces as arrays: one number, one number per part, or coordinates. Imported by workers: no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from macurr.errors import ConfigError

__all__ = ["ActionLayout", "Kind", "mask_of"]

Kind = Literal["discrete", "multidiscrete", "continuous"]
Decoder = Callable[[Any], Any]

_WHOLE = (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


class ActionLayout:
    """The agents' actions, padded to one form.

    Where all agents have `Discrete` actions they are padded to the largest number; with a `MultiDiscrete` or a
    `MultiBinary` space among them, each has as many parts as the longest and each part as many choices as the
    largest. What an agent lacks is masked; of a part that it lacks altogether, choice 0 is left.

    Args:
        agents: The agents' names, A of them.
        action_spaces: Their spaces.
        name: What to call the environment in errors.

    Attributes:
        kind: "discrete", "multidiscrete" or "continuous".
        nvec: Choices of each part; empty unless multi-discrete.
        size: Discrete: the number of actions. Multi-discrete: the sum of `nvec`. Continuous: coordinates.
        shape: One action's shape: () or (parts,) or (coordinates,).
        dtype: int64, or float32 where continuous.
        masks: bool (A, size), what each agent has at all.
        slots: The places in a mask that each agent's own mask fills.
        decoders: Each agent's function from an action of `shape` to a member of its space.

    Raises:
        ConfigError: a space of another kind, or kinds that do not mix.
    """

    def __init__(
        self, agents: Sequence[str], action_spaces: Sequence[gymnasium.Space[Any]], name: str
    ) -> None:
        self.kind = _kind(action_spaces[0])
        for agent, space in zip(agents, action_spaces, strict=True):
            if _kind(space) is None or (_kind(space) == "continuous") != (self.kind == "continuous"):
                raise ConfigError(
                    f"Agent {agent!r} of {name} has the action space {space}. This trainer plays Discrete, "
                    "MultiDiscrete and MultiBinary actions, or Box actions of a floating dtype for all agents. Convert "
                    "the actions with a wrapper."
                )
        if any(_kind(space) == "multidiscrete" for space in action_spaces):
            self.kind = "multidiscrete"
        self.nvec: tuple[int, ...] = ()
        self.dtype: type[np.int64] | type[np.float32] = np.int64
        if self.kind == "multidiscrete":
            self._lay_out_parts([_choices(space) for space in action_spaces])
        else:
            self._lay_out_flat([_count(space) for space in action_spaces])
        self.decoders = [_decoder(space, several=self.kind == "multidiscrete") for space in action_spaces]

    def _lay_out_flat(self, counts: list[int]) -> None:
        self.size = max(counts)
        self.shape: tuple[int, ...] = ()
        if self.kind == "continuous":
            self.shape, self.dtype = (self.size,), np.float32
        self.masks = np.arange(self.size) < np.array(counts)[:, None]
        self.slots = [np.arange(count) for count in counts]

    def _lay_out_parts(self, choices: list[list[int]]) -> None:
        parts = max(len(own) for own in choices)
        padded = np.array([own + [1] * (parts - len(own)) for own in choices])
        self.nvec = tuple(padded.max(axis=0).tolist())
        self.size, self.shape = sum(self.nvec), (parts,)
        starts = np.cumsum([0, *self.nvec[:-1]])
        self.masks = np.concatenate(
            [np.arange(most) < padded[:, [part]] for part, most in enumerate(self.nvec)], axis=1
        )
        self.slots = [
            np.concatenate([start + np.arange(n) for start, n in zip(starts, own, strict=False)])
            for own in choices
        ]


def _kind(space: gymnasium.Space[Any]) -> Kind | None:
    if isinstance(space, spaces.Discrete):
        return "discrete"
    if isinstance(space, _WHOLE):
        return "multidiscrete"
    if isinstance(space, spaces.Box) and space.dtype is not None and np.issubdtype(space.dtype, np.floating):
        return "continuous"
    return None


def _count(space: Any) -> int:
    return int(space.n) if isinstance(space, spaces.Discrete) else int(np.prod(space.shape or (1,)))


def _choices(space: Any) -> list[int]:
    if isinstance(space, spaces.Discrete):
        return [int(space.n)]
    if isinstance(space, spaces.MultiBinary):
        return [2] * int(np.prod(space.shape))
    return [int(n) for n in np.ravel(space.nvec)]


def _decoder(space: Any, *, several: bool) -> Decoder:
    """From an int, or a row of parts or coordinates, to a member of the space."""
    if isinstance(space, spaces.Discrete):
        start = int(space.start)
        if several:
            return lambda row: int(row[0]) + start
        return (lambda action: int(action) + start) if start else int
    if isinstance(space, spaces.Box):
        low, high = space.low.reshape(-1), space.high.reshape(-1)
        return lambda row: np.clip(row[: low.size], low, high).astype(space.dtype).reshape(space.shape)
    first = np.ravel(getattr(space, "start", 0))
    count = int(np.prod(space.shape))
    return lambda row: (np.asarray(row[:count]) + first).astype(space.dtype).reshape(space.shape)


def mask_of(given: Any) -> NDArray[np.bool_]:
    """An action mask as a flat array; also where it comes as one array per part."""
    if isinstance(given, tuple | list):
        return np.concatenate([np.ravel(np.asarray(part, dtype=bool)) for part in given])
    return np.ravel(np.asarray(given, dtype=bool))

"""What goes into `reset` and `step` of a two-player game and comes out of them, and the checks of it."""

from __future__ import annotations

from collections.abc import Mapping
from operator import index
from typing import Any, TypeAlias

import numpy as np

from macurr.envs._view import Floats
from macurr.errors import TaskError, UsageError

FIRST, SECOND = "player_0", "player_1"
N_ACTIONS = 5

Observations: TypeAlias = dict[str, Floats]
Infos: TypeAlias = dict[str, dict[str, Any]]
Step: TypeAlias = tuple[Observations, dict[str, float], dict[str, bool], dict[str, bool], Infos]


class LevelSeeds:
    """The seeds of an environment's levels: those given, and between them a stream that the last one given begins."""

    def __init__(self) -> None:
        self._last: int | None = None
        self._stream: np.random.Generator | None = None

    def next(self, seed: int | None) -> int:
        """The seed given, or, without one, the next of the stream.

        The stream is made when it is first needed: clones of an environment that was never seeded differ.
        """
        if seed is not None:
            self._last = checked_seed(seed)
            self._stream = None
            return self._last
        if self._stream is None:
            self._stream = np.random.default_rng(None if self._last is None else [self._last, 1])
        return int(self._stream.integers(2**31))


def checked_seed(seed: Any) -> int:
    """A seed as a plain int."""
    try:
        number = index(seed)
    except TypeError:
        number = -1
    if number < 0:
        raise TaskError(f"a seed is a whole number from 0, got {seed!r}")
    return number


def checked_actions(actions: Mapping[str, int]) -> tuple[int, int]:
    """Both players' actions as plain ints."""
    try:
        first, second = index(actions[FIRST]), index(actions[SECOND])
    except (KeyError, TypeError):
        first = -1
    if first < 0 or first >= N_ACTIONS or second < 0 or second >= N_ACTIONS:
        raise UsageError(
            f"step() needs an action from 0 to {N_ACTIONS - 1} for each of {FIRST!r} and {SECOND!r}, got {actions!r}"
        )
    return first, second


def after_the_end(actions: Mapping[str, int]) -> Step:
    """The answer to a step when nobody plays."""
    if actions:
        raise UsageError("step() after the end of an episode, or before the first: call reset()")
    return {}, {}, {}, {}, {}

"""What was played when: levels, with their scores, and opponents. A report draws it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from macurr.errors import StateError

__all__ = ["PlayHistory"]

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

_MOST_NUMBERS = 2_000_000
"""Numbers that a history may hold."""


class PlayHistory:
    """How often each level and each opponent was played, and what each level scored last, over the run.

    Args:
        levels: Number of levels.
        slots: Most points in time that are kept; past them every other one is dropped. Fewer for many levels.
    """

    def __init__(self, levels: int, slots: int = 64) -> None:
        self.plays = np.zeros(levels, np.int64)
        self.scores = np.full(levels, np.nan)
        self.opponents: dict[int, int] = {}
        self.taken: dict[int, int] = {}
        self._slots = max(2, min(slots, _MOST_NUMBERS // levels))
        self._every, self._marks = 1, 0
        self.steps: list[int] = []
        self.past_plays: list[Counts] = []
        self.past_scores: list[Floats] = []
        self.past_opponents: list[dict[int, int]] = []

    @property
    def seen(self) -> int:
        """Levels played so far."""
        return int((self.plays > 0).sum())

    def add(self, level: int, score: float, opponent: int = -1) -> None:
        """Note one finished episode.

        Args:
            level: The level.
            score: What it scored.
            opponent: The id of the snapshot that played the others; -1 where nobody did.
        """
        self.plays[level] += 1
        self.scores[level] = score
        if opponent >= 0:
            self.opponents[opponent] = self.opponents.get(opponent, 0) + 1

    def meet(self, opponent: int, steps: int) -> None:
        """Note when a snapshot was taken: it may leave the pool."""
        self.taken[opponent] = steps

    def mark(self, step: int) -> None:
        """Keep the present as a point in time."""
        self._marks += 1
        if (self._marks - 1) % self._every:
            return
        self.steps.append(step)
        self.past_plays.append(self.plays.copy())
        self.past_scores.append(self.scores.copy())
        self.past_opponents.append(dict(self.opponents))
        if len(self.steps) > self._slots:
            self._every *= 2
            for kept in (self.steps, self.past_plays, self.past_scores, self.past_opponents):
                del kept[1::2]

    def state_dict(self) -> dict[str, Any]:
        """Everything."""
        shape = (len(self.steps), len(self.plays))
        ids = sorted({*self.opponents, *self.taken})
        past = [[past.get(i, 0) for i in ids] for past in (*self.past_opponents, self.opponents)]
        return {
            "plays": self.plays.copy(),
            "scores": self.scores.copy(),
            "every": self._every,
            "marks": self._marks,
            "steps": np.array(self.steps, np.int64),
            "past_plays": np.array(self.past_plays, np.int64).reshape(shape),
            "past_scores": np.array(self.past_scores, np.float64).reshape(shape),
            "opponents": np.array(ids, np.int64),
            "taken": np.array([self.taken.get(i, -1) for i in ids], np.int64),
            "past_opponents": np.array(past, np.int64).reshape(len(past), len(ids)),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()`.

        Raises:
            StateError: it is of another number of levels.
        """
        if len(state["plays"]) != len(self.plays):
            raise StateError(f"The state is of {len(state['plays'])} levels; there are {len(self.plays)}.")
        ids = state["opponents"].tolist()
        *past, present = [
            {i: n for i, n in zip(ids, row, strict=True) if n} for row in state["past_opponents"].tolist()
        ]
        self.plays, self.scores = state["plays"].copy(), state["scores"].copy()
        self._every, self._marks = int(state["every"]), int(state["marks"])
        self.steps = state["steps"].tolist()
        self.past_plays, self.past_scores = list(state["past_plays"]), list(state["past_scores"])
        self.past_opponents, self.opponents = past, present
        self.taken = {i: at for i, at in zip(ids, state["taken"].tolist(), strict=True) if at >= 0}

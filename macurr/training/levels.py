"""What the learner can say of the levels it played: a score for each finished episode."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from macurr.errors import ConfigError
from macurr.training.rollout import Episode, Rollout

__all__ = ["LEARNABILITY", "SCORES", "LevelScores", "expected_learnability"]

Floats = NDArray[np.float64]

SCORES: Mapping[str, Callable[[Floats, Floats, float], Floats]] = {
    "value_l1": lambda advantages, values, best: np.abs(advantages),
    "signed_value_loss": lambda advantages, values, best: advantages,
    "positive_value_loss": lambda advantages, values, best: np.maximum(advantages, 0.0),
    "max_mc": lambda advantages, values, best: best - values,
    "grounded_positive_value_loss": lambda advantages, values, best: np.maximum(best - values, 0.0),
}
"""Score of each step from advantages and values (T,) and the best return ever seen on the level; the names are
those of `PrioritizedLevelReplay`'s strategies. A level's score is the mean over the learner's episode."""

LEARNABILITY = "learnability"
"""The score of outcomes alone: what p(1 - p) is to be expected of a level's win rate p (Rutherford et al., "No
Regrets", 2024), with every p alike before the first game. A draw is no win."""

_MEMORY = 0.9
"""What is kept of a level's results at each new one: they are of policies that are no more."""

_ANY = -1
"""Stands for the opponent where a level is the same against all."""


class LevelScores:
    """Scores the learner's episodes, which may reach over several rollouts.

    Args:
        strategy: One of `SCORES`, or `LEARNABILITY`.
        per_opponent: Whether a level against one opponent is another than the same against the next: for what is
            remembered of a level, its best return or its results.

    Raises:
        ConfigError: there is no such strategy, or it is not scored by the learner.
    """

    def __init__(self, strategy: str, per_opponent: bool = False) -> None:
        if strategy not in (*SCORES, LEARNABILITY):
            names = ", ".join((*SCORES, LEARNABILITY))
            raise ConfigError(f"score={strategy!r} cannot be used: it must be one of {names}.")
        self._score = SCORES.get(strategy)
        self._per_opponent = per_opponent
        self._open: dict[int, list[tuple[Floats, Floats]]] = {}
        self._known: dict[tuple[int, int], Floats] = {}

    def read(
        self,
        rollout: Rollout,
        advantages: NDArray[np.float32],
        counted: NDArray[np.bool_] | None = None,
    ) -> list[tuple[Episode, float]]:
        """Take in a rollout.

        Args:
            rollout: The rollout.
            advantages: The learners' advantages, float32 (T, S).
            counted: Which steps count, bool (T, S): those that were trained on. By default all at which anybody acted.

        Returns:
            The episodes that ended and the means of their steps' scores, over all learners. Episodes of which no step
            counts are left out.
        """
        steps = _Steps.of(rollout, advantages, rollout.valid if counted is None else counted)
        places = _columns(rollout)
        begun = dict.fromkeys(places, 0)
        for env, streams in places.items():
            if rollout.starts[0, streams.start]:  # what was open was given up with its worker
                self._open.pop(env, None)
        scored = []
        for episode in rollout.episodes:
            env, end = episode.env, episode.step + 1
            self._extend(env, steps, slice(begun[env], end), places[env])
            begun[env] = end
            mean = self._finish(episode)
            if mean is not None:
                scored.append((episode, mean))
        for env, start in begun.items():
            self._extend(env, steps, slice(start, len(advantages)), places[env])
        return scored

    def read_all(
        self,
        rollouts: Sequence[Rollout],
        advantages: Sequence[NDArray[np.float32]],
        counted: Sequence[NDArray[np.bool_]],
    ) -> tuple[list[tuple[Episode, float]], list[int]]:
        """Take in rollouts, oldest first; see `read`.

        Returns:
            The episodes and their scores, and of each the latest version of a policy that played it.
        """
        scored: list[tuple[Episode, float]] = []
        versions: list[int] = []
        for rollout, estimates, rows in zip(rollouts, advantages, counted, strict=True):
            found = self.read(rollout, estimates, rows)
            scored += found
            versions += [rollout.version_of(episode) for episode, _ in found]
        return scored, versions

    def _extend(self, env: int, steps: _Steps, rows: slice, streams: slice) -> None:
        found = steps.cut(rows, streams)
        if len(found[0]):
            self._open.setdefault(env, []).append(found)

    def _finish(self, episode: Episode) -> float | None:
        parts = self._open.pop(episode.env, [])
        known = self._remember(episode)
        if not parts:
            return None
        if self._score is None:
            return expected_learnability(*known[1:].tolist())
        advantages, values = parts[0]
        if len(parts) > 1:
            advantages = np.concatenate([part[0] for part in parts])
            values = np.concatenate([part[1] for part in parts])
        return float(self._score(advantages, values, float(known[0])).mean())

    def _remember(self, episode: Episode) -> Floats:
        """Best return, wins and games not won of the episode's level, after it."""
        key = (episode.opponent if self._per_opponent else _ANY, episode.level)
        best, wins, others = self._known.get(key, (-np.inf, 0.0, 0.0))
        won = episode.outcome > 0
        known = np.array(
            [max(best, episode.learner_return), _MEMORY * wins + won, _MEMORY * others + (not won)]
        )
        self._known[key] = known
        return known

    def keep(self, opponents: Collection[int]) -> None:
        """Forget what is remembered of levels against all but these opponents."""
        kept = {_ANY, *opponents}
        self._known = {key: known for key, known in self._known.items() if key[0] in kept}

    def state_dict(self) -> dict[str, Any]:
        """What is remembered, and what has been seen of the episodes under way."""
        envs = sorted(self._open)
        parts = [[np.concatenate(column) for column in zip(*self._open[env], strict=True)] for env in envs]
        return {
            "keys": np.array(list(self._known), np.int64).reshape(-1, 2),
            "known": np.array(list(self._known.values()), np.float64).reshape(-1, 3),
            "envs": np.array(envs, np.int64),
            "lengths": np.array([len(part[0]) for part in parts], np.int64),
            "open": np.array([np.concatenate(column) for column in zip(*parts, strict=True)]).reshape(2, -1),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()`."""
        keys = [(int(opponent), int(level)) for opponent, level in state["keys"]]
        known = dict(zip(keys, state["known"], strict=True))
        ends = np.cumsum(state["lengths"])[:-1]
        parts = zip(*(np.split(column, ends) for column in state["open"]), strict=True)
        opened = {int(env): [part] for env, part in zip(state["envs"], parts, strict=False)}
        self._known, self._open = known, opened


class _Steps(NamedTuple):
    """A rollout's steps, taken out of it once rather than for each episode.

    Attributes:
        advantages: float64 (T, S).
        values: float64 (T, S).
        counted: Which of them count, bool (T, S); None where all do.
    """

    advantages: Floats
    values: Floats
    counted: NDArray[np.bool_] | None

    @classmethod
    def of(cls, rollout: Rollout, advantages: NDArray[np.float32], counted: NDArray[np.bool_]) -> _Steps:
        values = rollout.values.astype(np.float64)
        return cls(advantages.astype(np.float64), values, None if counted.all() else counted)

    def cut(self, rows: slice, streams: slice) -> tuple[Floats, Floats]:
        """Advantages and values of the steps that count in a block, step by step, as arrays of one dimension."""
        advantages, values = self.advantages[rows, streams], self.values[rows, streams]
        if self.counted is None:
            return advantages.ravel(), values.ravel()
        inside = self.counted[rows, streams]
        return advantages[inside], values[inside]


def _columns(rollout: Rollout) -> dict[int, slice]:
    """The streams of each environment, which stand side by side."""
    envs, first = np.unique(rollout.env_of, return_index=True)
    ends = [*first[1:].tolist(), len(rollout.env_of)]
    return {
        env: slice(start, end) for env, start, end in zip(envs.tolist(), first.tolist(), ends, strict=True)
    }


def expected_learnability(wins: float, others: float) -> float:
    """The mean of p(1 - p) where p is a win rate of which so much was seen, and that was uniform before.

    That is ab / ((a + b)(a + b + 1)) of the Beta distribution with a = 1 + wins and b = 1 + others: 1/6 before the
    first game, 0.25 after many of which half were won.
    """
    a, b = 1.0 + wins, 1.0 + others
    return a * b / ((a + b) * (a + b + 1.0))

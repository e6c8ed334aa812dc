"""Open episodes: what has come in of an episode until it can be scored.

An episode is scored as a whole when it ends, so its score does not depend on how its steps were cut into
batches or rollouts. Only an episode longer than `LIMIT` steps is scored in parts, whose mean is weighted by
their steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from macurr.curricula.plr.strategies import Strategy, Stretch
from macurr.errors import StateError

LIMIT = 4096
"""Steps that an open episode may keep before they are scored in part."""


class OpenEpisode:
    """One episode of one stream.

    Args:
        task: The encoded task.
        strategy: How its steps are scored.
        gamma: Discount.
        gae_lambda: Trace decay.

    Attributes:
        task: The encoded task.
        episode_return: Undiscounted sum of the rewards so far.
        evaluated: What the networks said of the latest observation, where steps come one at a time: it
            belongs to the next step.
    """

    def __init__(self, task: Any, strategy: Strategy, gamma: float, gae_lambda: float) -> None:
        self.task = task
        self.episode_return = 0.0
        self.evaluated: Mapping[str, NDArray[Any]] | None = None
        self._strategy, self._gamma, self._gae_lambda = strategy, gamma, gae_lambda
        self._columns: dict[str, list[NDArray[Any]]] = {}
        self._kept = 0
        self._scored, self._mean, self._max = 0, 0.0, -np.inf

    def add(self, rewards: NDArray[Any], columns: Mapping[str, NDArray[Any]], best_return: float) -> None:
        """Append steps.

        Args:
            rewards: Shape (T,).
            columns: The other columns that the strategy needs, each of length T.
            best_return: Best return known of the level, for a part that has to be scored before the end.
        """
        if len(rewards) == 0:
            return
        self.episode_return += float(np.sum(rewards, dtype=np.float64))
        if self._strategy.score_steps is None:
            return
        if self._kept >= LIMIT:
            self._score(
                ended=False,
                best_return=max(best_return, self.episode_return),
                final_value=_first(columns, "values"),
                alternative_final_value=_first(columns, "alternative_values"),
            )
        for name, column in {**columns, "rewards": rewards}.items():
            self._columns.setdefault(name, []).append(np.array(column))
        self._kept += len(rewards)

    def finish(
        self,
        best_return: float,
        final_value: float = 0.0,
        alternative_final_value: float = 0.0,
        *,
        ended: bool = True,
    ) -> tuple[float, float] | None:
        """The mean and the largest of the steps' scores, or None where no step can be scored.

        Args:
            best_return: Best return of the level, this episode included.
            final_value: Value of what follows the last step: 0 after a termination.
            alternative_final_value: The same from the second critic.
            ended: False where the episode goes on and is scored as far as it has come.
        """
        if self._kept:
            self._score(ended, best_return, final_value, alternative_final_value)
        return (self._mean, self._max) if self._scored else None

    def rest(self) -> OpenEpisode:
        """What follows of this episode once it has been scored as far as it had come."""
        rest = OpenEpisode(self.task, self._strategy, self._gamma, self._gae_lambda)
        rest.episode_return, rest.evaluated = self.episode_return, self.evaluated
        return rest

    def _score(
        self, ended: bool, best_return: float, final_value: float, alternative_final_value: float
    ) -> None:
        if self._strategy.score_steps is None:
            return
        stretch = Stretch(
            {name: np.concatenate(chunks) for name, chunks in self._columns.items()},
            ended,
            final_value,
            alternative_final_value,
            best_return,
            self._gamma,
            self._gae_lambda,
        )
        found = self._strategy.score_steps(stretch)
        self._scored += len(found)
        self._mean += (float(found.mean()) - self._mean) * len(found) / self._scored
        self._max = max(self._max, float(found.max()))
        self._columns, self._kept = {}, 0

    def state(self) -> dict[str, Any]:
        """Everything, as plain values and arrays."""
        return {
            "task": self.task,
            "return": self.episode_return,
            "evaluated": None if self.evaluated is None else dict(self.evaluated),
            "columns": {name: np.concatenate(chunks) for name, chunks in self._columns.items()},
            "scored": [self._scored, self._mean, self._max],
        }

    @classmethod
    def from_state(
        cls, state: Mapping[str, Any], strategy: Strategy, gamma: float, gae_lambda: float
    ) -> OpenEpisode:
        """The episode that `state()` described.

        Raises:
            StateError: it is no such state.
        """
        try:
            episode = cls(state["task"], strategy, gamma, gae_lambda)
            episode.episode_return = float(state["return"])
            found = state["evaluated"]
            episode.evaluated = None if found is None else {name: np.array(found[name]) for name in found}
            episode._columns = {name: [np.array(column)] for name, column in state["columns"].items()}
            episode._kept = len(episode._columns["rewards"][0]) if episode._columns else 0
            scored, episode._mean, episode._max = state["scored"]
            episode._scored = int(scored)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StateError(f"This is no state of an open episode: {error!r}.") from error
        return episode


def _first(columns: Mapping[str, NDArray[Any]], name: str) -> float:
    return float(columns[name][0]) if name in columns else 0.0

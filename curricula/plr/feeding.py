"""From what came of the episodes to scores: open episodes by stream, scored into the levels when they end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from macurr.curricula.plr.episodes import OpenEpisode
from macurr.curricula.plr.levels import Levels
from macurr.curricula.plr.options import Options
from macurr.curricula.plr.rollouts import CRITICS, Rollout
from macurr.curricula.plr.strategies import STRATEGIES
from macurr.errors import StateError, TaskError
from macurr.spaces.forms import frozen, plain

Success = Callable[[float, float], float]
"""Of an episode's return and task completion: whether it was a success, from 0 to 1."""


def default_success(episode_return: float, progress: float) -> float:
    """1 for an episode that returned more than 0 or completed its task, else 0."""
    return float(episode_return > 0.0 or progress >= 1.0)


class Feed:
    """Open episodes and what to do with them when they end.

    A stream is one sequence of episodes: ("step", env_id) for an environment's own steps, ("rollout", column)
    for the learner's rollouts.

    Args:
        levels: Where scores go.
        options: The options.
        success: What counts as a success.
    """

    def __init__(self, levels: Levels, options: Options, success: Success) -> None:
        self._levels, self._options, self._success = levels, options, success
        self._strategy = STRATEGIES[options.strategy]
        self._open: dict[tuple[str, int], OpenEpisode] = {}

    def configure(self, options: Options) -> None:
        """Score the episodes that end from now on with other options."""
        self._options = options

    def get(self, stream: tuple[str, int], task: Any) -> OpenEpisode:
        """The stream's open episode on `task`; one on another task was given up and is dropped."""
        episode = self._open.get(stream)
        if episode is None or not self.holds(stream, task):
            episode = OpenEpisode(task, self._strategy, self._options.gamma, self._options.gae_lambda)
            self._open[stream] = episode
        return episode

    def holds(self, stream: tuple[str, int], task: Any) -> bool:
        """Whether the stream has an open episode on `task`."""
        episode = self._open.get(stream)
        return episode is not None and frozen(episode.task) == frozen(task)

    def drop(self, stream: tuple[str, int]) -> None:
        """Forget the stream's open episode, if there is one."""
        self._open.pop(stream, None)

    def extend(
        self, stream: tuple[str, int], task: Any, rewards: NDArray[Any], columns: Mapping[str, NDArray[Any]]
    ) -> None:
        """Append steps to the stream's open episode; see `OpenEpisode.add`."""
        best = float(self._levels.row(task)[0]) if self._strategy.grounded else 0.0
        self.get(stream, task).add(rewards, columns, best)

    def end(
        self,
        stream: tuple[str, int],
        final_value: float = 0.0,
        alternative_final_value: float = 0.0,
        progress: float = 0.0,
    ) -> None:
        """Score the stream's open episode, which has ended."""
        episode = self._open.pop(stream)
        row = self._remember(episode.task, episode.episode_return, progress)
        best = float(row[0]) if self._strategy.grounded else 0.0
        self._put(episode.task, episode.finish(best, final_value, alternative_final_value), row)

    def flush(self, stream: tuple[str, int], final_value: float, alternative_final_value: float) -> None:
        """Score the stream's open episode as far as it has come; what follows of it is scored apart."""
        episode = self._open.get(stream)
        if episode is None:
            return
        best = episode.episode_return
        if self._strategy.grounded:
            best = max(best, float(self._levels.row(episode.task)[0]))
        found = episode.finish(best, final_value, alternative_final_value, ended=False)
        self._open[stream] = episode.rest()
        if found is not None:
            self._levels.put(episode.task, self.mixed(*found))

    def score_outcome(self, task: Any, episode_return: float, progress: float) -> None:
        """Score an episode from its result alone, where the strategy does that."""
        if self._strategy.score_steps is None:
            self._put(task, None, self._remember(task, episode_return, progress))

    def mixed(self, mean: float, highest: float) -> float:
        """The score of an episode whose steps' scores have this mean and maximum."""
        share = self._options.max_score_coef
        return (1.0 - share) * mean + share * highest if share > 0.0 else mean

    def read_rollout(self, rollout: Rollout, next_values: Mapping[str, NDArray[Any]]) -> None:
        """Append a rollout's steps and score the episodes that end in it; see `update_rollout`.

        Args:
            rollout: The steps.
            next_values: By name of the critic's column, the value of what follows the rollout, shape (N,);
                empty to leave open episodes open.

        Raises:
            TaskError: a task is not in the space; nothing is changed.
        """
        segments = [(segment, self._levels.space.check(segment.task)) for segment in rollout.segments()]
        for segment, task in segments:
            stream, where = ("rollout", segment.column), (segment.steps, segment.column)
            columns = {name: column[where] for name, column in rollout.columns.items()}
            self.extend(stream, task, rollout.rewards[where], columns)
            if segment.ended:
                self.end(
                    stream,
                    rollout.final_value(segment, "values"),
                    rollout.final_value(segment, "alternative_values"),
                )
        for column in range(rollout.rewards.shape[1]) if next_values else ():
            after = [float(next_values[n][column]) if n in next_values else 0.0 for n in CRITICS]
            self.flush(("rollout", column), *after)

    def _remember(self, task: Any, episode_return: float, progress: float) -> NDArray[np.float64]:
        success = self._success(episode_return, progress)
        if not 0.0 <= success <= 1.0:
            raise TaskError(f"success must return a number from 0 to 1; got {success!r}. Check the function.")
        return self._levels.outcomes.remember(self._levels.row(task), episode_return, success)

    def _put(self, task: Any, found: tuple[float, float] | None, row: NDArray[np.float64]) -> None:
        score = self._levels.outcomes.score(row) if found is None else self.mixed(*found)
        if score is not None:
            self._levels.put(task, score, row)

    def state(self) -> list[Any]:
        """The open episodes."""
        return [
            [kind, number, {**episode.state(), "task": plain(episode.task)}]
            for (kind, number), episode in self._open.items()
        ]

    def restored(self, state: Any) -> dict[tuple[str, int], OpenEpisode]:
        """The open episodes that `state()` described, for `load`.

        Raises:
            StateError: they are not of this curriculum.
        """
        try:
            return {
                (str(kind), int(number)): OpenEpisode.from_state(
                    {**saved, "task": self._levels.space.check(saved["task"])},
                    self._strategy,
                    self._options.gamma,
                    self._options.gae_lambda,
                )
                for kind, number, saved in state
            }
        except (KeyError, TypeError, ValueError) as error:
            raise StateError(f"The state's open episodes are damaged: {error!r}.") from error

    def load(self, episodes: Mapping[tuple[str, int], OpenEpisode]) -> None:
        """Go on with other open episodes."""
        self._open = dict(episodes)

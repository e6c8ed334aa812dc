"""What a population is ranked by: a number that says how a policy does, from the episodes it has played lately."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from macurr.errors import ConfigError, StateError
from macurr.training.imports import imported

__all__ = [
    "LEAST_EPISODES",
    "RECENT",
    "Episode",
    "Objective",
    "RecentEpisodes",
    "Statistics",
    "objective_of",
    "objective_value",
]

RECENT = 1000
"""Episodes of a policy that its statistics are over. Over 100 of them, as is usual, the win rates of equals differ by
more than the gap that a replacement asks for."""
LEAST_EPISODES = 30
"""Episodes that a policy must have played since it was last replaced before it has an objective."""

COLUMNS = ("learner_return", "outcome", "length", "level", "opponent", "true_objective")
"""What is kept of an episode."""

Statistics = Mapping[str, NDArray[np.float64]]
"""A policy's last n episodes, oldest first, each array of shape (n,):

- `learner_return`: undiscounted return of the agents that it played, their mean where there are several;
- `outcome`: 1 where the learners got more than those who played against them, 0 where as much, -1 where less; where
  every agent learns, the same of the policy's agents and those of other policies, NaN where there were none;
- `length`: environment steps;
- `level`: the number of the level;
- `opponent`: the id of the snapshot that played the others, -1 where every agent learns;
- `true_objective`: what the environment said in `infos[agent]["true_objective"]` with the last step of the policy's
  agents, their mean where there are several; NaN where it said nothing.
"""

Objective = Callable[[Statistics], float]
"""From a policy's statistics to how it does; the larger the better, and finite."""


def win_rate(statistics: Statistics) -> float:
    """The share of episodes won, draws counted half; of those in which there was somebody to win against."""
    outcomes = statistics["outcome"][~np.isnan(statistics["outcome"])]
    return float((outcomes + 1.0).mean() / 2.0) if len(outcomes) else 0.5


def learner_return(statistics: Statistics) -> float:
    """The mean return."""
    return float(statistics["learner_return"].mean())


def true_objective(statistics: Statistics) -> float:
    """The mean of what the environment says.

    Raises:
        ConfigError: it has said nothing.
    """
    said = statistics["true_objective"][~np.isnan(statistics["true_objective"])]
    if not len(said):
        raise ConfigError(
            "pbt_objective='true_objective' is what the environment says in infos[agent]['true_objective'] with an "
            "agent's last step, and it has said nothing. Let it say a number, or rank by another objective."
        )
    return float(said.mean())


_NAMED: Mapping[str, Objective] = {
    "win_rate": win_rate,
    "learner_return": learner_return,
    "true_objective": true_objective,
}


def objective_of(name: str) -> Objective:
    """The objective of a name, or the user's function at an import path "module:function".

    Raises:
        ConfigError: there is none.
    """
    if name in _NAMED:
        return _NAMED[name]
    objective: Objective = imported(
        "pbt_objective", name, list(_NAMED), "from a policy's statistics to a number"
    )
    return objective


def objective_value(name: str, objective: Objective, statistics: Statistics) -> float:
    """What an objective says of a policy.

    Raises:
        ConfigError: the user's function failed, or gave something that is no finite number.
    """
    try:
        value = float(objective(statistics))
    except ConfigError:
        raise
    except Exception as error:  # whatever the user's function raises
        raise ConfigError(
            f"pbt_objective={name!r} failed with {type(error).__name__}: {error}. It is called with arrays "
            f"{', '.join(COLUMNS)} over a policy's last episodes, by name, and returns a number."
        ) from error
    if not math.isfinite(value):
        raise ConfigError(
            f"pbt_objective={name!r} gave {value!r}: it must give a finite number, larger for better."
        )
    return value


class Episode(Protocol):
    """What is read of an episode; `macurr.training.rollout.Episode` is one."""

    @property
    def opponent(self) -> int:
        """Who played against the learners, -1 where every agent learned."""

    @property
    def level(self) -> int:
        """The level."""

    @property
    def length(self) -> int:
        """Environment steps."""

    @property
    def outcome(self) -> int:
        """How the learners did against the others: 1, 0 or -1."""

    @property
    def policies(self) -> tuple[int, ...]:
        """The policy of each learner."""

    @property
    def returns(self) -> tuple[float, ...]:
        """The return of each learner."""

    @property
    def contested(self) -> bool:
        """Whether anybody played against the learners."""

    @property
    def objectives(self) -> tuple[float, ...]:
        """What the environment said of how well each learner did; NaN, or none at all, where it said nothing."""


class RecentEpisodes:
    """The last episodes of each policy.

    Args:
        policies: Number of policies.
    """

    def __init__(self, policies: int) -> None:
        self._episodes: list[deque[tuple[float, ...]]] = [deque(maxlen=RECENT) for _ in range(policies)]

    def add(self, policy: int, **episode: float) -> None:
        """Note an episode that a policy has played; the keywords are the names of `Statistics`."""
        self._episodes[policy].append(tuple(float(episode.get(name, math.nan)) for name in COLUMNS))

    def add_episode(self, episode: Episode) -> None:
        """Note an episode for each of the policies that played in it."""
        returns = np.array(episode.returns, np.float64)
        said = np.array(episode.objectives or (math.nan,) * len(returns), np.float64)
        for policy in sorted(set(episode.policies)):
            mine = np.equal(episode.policies, policy)
            outcome = float(episode.outcome)
            if not episode.contested:
                outcome = (
                    math.nan if mine.all() else float(np.sign(returns[mine].mean() - returns[~mine].mean()))
                )
            self.add(
                policy,
                learner_return=float(returns[mine].mean()),
                outcome=outcome,
                length=episode.length,
                level=episode.level,
                opponent=episode.opponent,
                true_objective=_mean(said[mine]),
            )

    def of(self, *policies: int) -> dict[str, NDArray[np.float64]] | None:
        """The statistics of one policy, or of several together; None while there are too few episodes of one."""
        parts = [self._episodes[policy] for policy in policies]
        if any(len(part) < LEAST_EPISODES for part in parts):
            return None
        rows = np.array([episode for part in parts for episode in part], np.float64)
        return {name: rows[:, place] for place, name in enumerate(COLUMNS)}

    def clear(self, policy: int) -> None:
        """Forget what a policy has played: it is another one now."""
        self._episodes[policy].clear()

    def state_dict(self) -> dict[str, Any]:
        """Everything."""
        return {"episodes": [np.array(own, np.float64).reshape(-1, len(COLUMNS)) for own in self._episodes]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()`.

        Raises:
            StateError: it is of other policies; nothing is changed.
        """
        episodes = [np.asarray(own, np.float64) for own in state["episodes"]]
        shaped = all(own.ndim == 2 and own.shape[1] == len(COLUMNS) for own in episodes)
        if not shaped or len(episodes) != len(self._episodes):
            raise StateError(
                f"The state holds episodes of {len(episodes)} policies; there are {len(self._episodes)}. Resume the "
                "run it belongs to."
            )
        self._episodes = [deque(map(tuple, own.tolist()), maxlen=RECENT) for own in episodes]


def _mean(said: NDArray[np.float64]) -> float:
    """The mean of what was said; NaN where nothing was."""
    known = said[~np.isnan(said)]
    return float(known.mean()) if len(known) else math.nan

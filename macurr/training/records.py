"""What a run keeps count of, and the rows of its tables."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from macurr.training.config import TrainConfig
from macurr.training.learner import LearnerReport
from macurr.training.rollout import Episode

__all__ = ["Records"]

_RECENT = 1000
"""Episodes that shown numbers are over."""
_LOSSES = (
    "policy_loss",
    "value_loss",
    "entropy",
    "approx_kl",
    "clip_fraction",
    "grad_norm",
    "explained_variance",
    "learning_rate",
)


class Records:
    """Counters of a run and what came of its latest update.

    Args:
        policies: Number of policies.
        contested: Whether anybody plays against the learners: without, there is no win rate.

    Attributes:
        update: Updates so far.
        steps: Environment steps that were trained on, or were too old for it.
        episodes: Episodes that ended.
        seconds: Seconds so far, over all sittings.
        speed: Environment steps per second of the latest update.
        row: The latest update's row of metrics.csv.
        timing: Its row of timing.csv.
    """

    def __init__(self, policies: int, contested: bool) -> None:
        self._policies, self._contested = policies, contested
        self.update, self.steps, self.episodes, self.seconds = 0, 0, 0, 0.0
        self.speed = 0.0
        self.row: dict[str, Any] = {}
        self.timing: dict[str, float] = {}
        self._outcomes: deque[int] = deque(maxlen=_RECENT)
        self._began = time.perf_counter()

    # Shown numbers

    @property
    def win_rate(self) -> float | None:
        """Wins plus half the draws of the latest 1000 episodes.

        None where nobody plays against the learners, or nobody has yet to the end.
        """
        if not self._contested or not self._outcomes:
            return None
        return float((np.array(self._outcomes) + 1).mean() / 2)

    # Bounds

    def progress(self, config: TrainConfig) -> float:
        """How much of the run is done, from 0 to 1; by steps where their number is bounded, else by minutes."""
        if config.max_steps is not None:
            return min(self.steps / config.max_steps, 1.0)
        return 0.0 if config.max_minutes is None else min(self.seconds / 60 / config.max_minutes, 1.0)

    def finished(self, config: TrainConfig) -> bool:
        """Whether a bound is reached."""
        steps, minutes = config.max_steps, config.max_minutes
        return (steps is not None and self.steps >= steps) or (
            minutes is not None and self.seconds >= 60 * minutes
        )

    # An update

    def start(self) -> None:
        """Count seconds from now on."""
        self._began = time.perf_counter()

    def count(self, report: LearnerReport, strays: Sequence[Episode]) -> list[Episode]:
        """Take in an update.

        Args:
            report: What came of it.
            strays: Episodes that ended outside of its rollouts.

        Returns:
            Its episodes and the strays.
        """
        episodes = [*strays, *(episode for rollout in report.rollouts for episode in rollout.episodes)]
        self.update += 1
        self.steps += sum(rollout.env_steps for rollout in report.rollouts)
        self.episodes += len(episodes)
        self._outcomes.extend(episode.outcome for episode in episodes if episode.contested)
        return episodes

    def write_row(
        self,
        report: LearnerReport,
        episodes: Sequence[Episode],
        scores: Sequence[float],
        more: Mapping[str, Any],
    ) -> None:
        """Make the update's row of metrics.csv.

        Args:
            report: What came of the update.
            episodes: Its episodes.
            scores: Its levels' scores.
            more: levels_seen, pool and curriculum_entropy.
        """
        outcomes = np.array([episode.outcome for episode in episodes if episode.contested])
        games = {
            "win": _mean(outcomes > 0),
            "draw": _mean(outcomes == 0),
            "loss": _mean(outcomes < 0),
        }
        self.row = {
            "update": self.update,
            "steps": self.steps,
            "episodes": self.episodes,
            **(games if self._contested else {}),
            "learner_return": _mean([episode.learner_return for episode in episodes]),
            "episode_length": _mean([episode.length for episode in episodes]),
            "level_score": _mean(scores),
            **more,
            **dict(zip(("lag_min", "lag_mean", "lag_max"), report.lags, strict=True)),
            "valid_fraction": report.valid_fraction,
            "same_policy_fraction": report.same_policy_fraction,
            **self._losses(report.metrics),
            **self._by_policy(report.metrics, episodes),
        }

    def write_timing(self, report: LearnerReport, clock: Mapping[str, float], collected: int) -> None:
        """Make the update's row of timing.csv.

        Args:
            report: What came of the update.
            clock: Seconds of "env_wait", "inference", "curriculum", of "train" where nothing else goes on meanwhile,
                and of "paused".
            collected: Environment steps that were collected meanwhile.
        """
        now = time.perf_counter()
        passed, self._began = now - self._began, now
        self.seconds += passed
        steps = sum(rollout.env_steps for rollout in report.rollouts)
        self.speed = steps / max(passed, 1e-9)
        shares = {name: clock.get(name, 0.0) for name in ("env_wait", "inference")}
        collecting = passed - clock.get("train", 0.0) - clock.get("paused", 0.0)
        rest = passed - sum(clock.values())
        self.timing = {
            "update": self.update,
            "seconds": self.seconds,
            "steps_per_second": self.speed,
            "collect_steps_per_second": collected / max(collecting, 1e-9),
            "train_samples_per_second": report.samples / max(report.seconds, 1e-9),
            **shares,
            "train": report.seconds,
            "curriculum": clock.get("curriculum", 0.0),
            "other": max(rest, 0.0) + clock.get("paused", 0.0),
        }

    def _losses(self, metrics: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """Means over the policies that were trained; NaN where none was."""
        trained = [own for own in metrics if own]
        return {name: _mean([own[name] for own in trained], math.nan) for name in _LOSSES}

    def _by_policy(
        self, metrics: Sequence[Mapping[str, float]], episodes: Sequence[Episode]
    ) -> dict[str, float]:
        if self._policies == 1:
            return {}
        found: dict[str, float] = {}
        for p in range(self._policies):
            earned = [
                value
                for episode in episodes
                for policy, value in zip(episode.policies, episode.returns, strict=False)
                if policy == p
            ]
            found[f"learner_return_p{p}"] = _mean(earned, math.nan)
            found |= {f"{name}_p{p}": metrics[p].get(name, math.nan) for name in _LOSSES}
        return found

    # State

    def state_dict(self) -> dict[str, Any]:
        """The counters, and the episodes that shown numbers are over."""
        return {
            "update": self.update,
            "steps": self.steps,
            "episodes": self.episodes,
            "seconds": self.seconds,
            "outcomes": np.array(self._outcomes, np.int64),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()`."""
        self.update, self.steps = int(state["update"]), int(state["steps"])
        self.episodes, self.seconds = int(state["episodes"]), float(state["seconds"])
        self._outcomes = deque(np.asarray(state["outcomes"]).tolist(), maxlen=_RECENT)


def _mean(values: Any, default: float = 0.0) -> float:
    return float(np.mean(values)) if len(values) else default

"""Self-paced learning: a Gaussian over tasks that walks to its target as fast as the learner allows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import override

from macurr.curricula._box import BoxCurriculum, History, check_options
from macurr.curricula._states import StateReader
from macurr.errors import UsageError
from macurr.spaces import BoxTaskSpace

__all__ = ["SelfPaced"]

_MOST_TRIES = 100


@dataclass(frozen=True)
class Gaussian:
    """A Gaussian with independent coordinates: mean and standard deviation, each of shape (d,)."""

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    def towards(self, target: Gaussian, s: float) -> Gaussian:
        """The normalised geometric mean p^(1-s) target^s: precisions and precision-weighted means are mixed.

        Among all distributions as close to `self` in KL(. || self), this one is closest to `target`.
        """
        own, other = (1.0 - s) / self.deviation**2, s / target.deviation**2
        precision = own + other
        return Gaussian((own * self.mean + other * target.mean) / precision, precision**-0.5)

    def divergence(self, other: Gaussian) -> float:
        """KL(self || other) in nats."""
        ratio = (self.deviation / other.deviation) ** 2
        distance = ((self.mean - other.mean) / other.deviation) ** 2
        return float(0.5 * (ratio + distance - 1.0 - np.log(ratio)).sum())

    def log_density(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Log density at each point, shape (n,), without the constant that all Gaussians share."""
        z = (points - self.mean) / self.deviation
        density: NDArray[np.float64] = -0.5 * (z**2).sum(axis=1) - np.log(self.deviation).sum()
        return density


class SelfPaced(BoxCurriculum):
    """Self-paced deep RL: tasks from a Gaussian that moves to a target distribution while returns stay high.

    Klink et al. 2021 (arXiv:2102.13176). After every `episodes_per_update` episodes it becomes the q that solves

        min KL(q || target)   such that   E_q[return] >= performance   and   KL(q || current) <= max_kl

    E_q[return] is estimated from these episodes by self-normalised importance weights. The paper optimises mean and
    covariance numerically. Without the condition on returns the solution is the geometric mean of current and
    target that `max_kl` allows; here q is searched on that path alone, and stays where it is while the mean return
    is below `performance`: no optimiser, and never past what the paper's step could reach, but no step that would
    leave the path to raise returns. Coordinates are independent, measured in units of the box; draws outside the
    box are repeated.

    Args:
        task_space: The box.
        start: The mean task to begin with.
        performance: The return that has to be kept up.
        start_deviation: Standard deviation to begin with, as a fraction of the box's width.
        target: The mean task of the target; by default the middle.
        target_deviation: Its standard deviation, as a fraction of the box's width.
        max_kl: How far, in nats, one update may go.
        episodes_per_update: Episodes between updates.
        options: The base class's keywords.

    Raises:
        UsageError: the space is no box, or an option is out of its range.
        TaskError: `start` or `target` is not in the space.
    """

    def __init__(
        self,
        task_space: BoxTaskSpace,
        start: ArrayLike,
        performance: float,
        *,
        start_deviation: float = 0.1,
        target: ArrayLike | None = None,
        target_deviation: float = 0.5,
        max_kl: float = 0.1,
        episodes_per_update: int = 50,
        **options: Any,
    ) -> None:
        super().__init__(task_space, **options)
        positive = {
            "start_deviation": start_deviation,
            "target_deviation": target_deviation,
            "max_kl": max_kl,
            "episodes_per_update": episodes_per_update,
        }
        check_options(type(self).__name__, positive)
        if not np.isfinite(performance):
            raise UsageError(f"performance must be finite; got {performance!r}.")
        d = self.cube.dimensions
        goal = np.full(d, 0.5) if target is None else self.cube.point(task_space.check(target))
        self.performance, self.max_kl = performance, max_kl
        self.episodes_per_update = episodes_per_update
        self._target = Gaussian(goal, np.full(d, target_deviation))
        self._current = Gaussian(self.cube.point(task_space.check(start)), np.full(d, start_deviation))
        self._latest = History(d + 1, episodes_per_update)

    @override
    def _learn(self, task: Any, episode_return: float, progress: Any, env_id: int | None) -> None:
        self._latest.append(np.append(self.cube.point(task), episode_return))
        if len(self._latest) == self.episodes_per_update:
            self._current = self._next(self._latest.rows[:, :-1], self._latest.rows[:, -1])
            self._latest.clear()

    def _next(self, points: NDArray[np.float64], returns: NDArray[np.float64]) -> Gaussian:
        if returns.mean() < self.performance:
            return self._current
        # Returns are known at the sampled points only, so a coarse grid of the path is as good as a fine one.
        for s in np.linspace(self._furthest(), 0.0, 20):
            q = self._current.towards(self._target, float(s))
            logs = q.log_density(points) - self._current.log_density(points)
            weights = np.exp(logs - logs.max())
            if weights @ returns / weights.sum() >= self.performance:
                return q
        return self._current

    def _furthest(self) -> float:
        """How far along the path to the target `max_kl` allows, from 0 to 1: KL grows with s."""
        if self._target.divergence(self._current) <= self.max_kl:
            return 1.0
        low, high = 0.0, 1.0
        for _ in range(50):
            middle = (low + high) / 2
            inside = self._current.towards(self._target, middle).divergence(self._current) <= self.max_kl
            low, high = (middle, high) if inside else (low, middle)
        return low

    @override
    def _sample(self, k: int) -> list[Any]:
        return [self._draw() for _ in range(k)]

    def _draw(self) -> Any:
        for _ in range(_MOST_TRIES):
            point = self._current.mean + self._current.deviation * self.rng.standard_normal(
                self.cube.dimensions
            )
            if ((point >= 0.0) & (point <= 1.0)).all():
                break
        return self.cube.task(np.clip(point, 0.0, 1.0))

    @override
    def metrics(self) -> dict[str, float]:
        return {
            "kl_to_target": self._current.divergence(self._target),
            "deviation": float(self._current.deviation.mean()),
        }

    @override
    def state_dict(self) -> dict[str, Any]:
        return {
            **super().state_dict(),
            "mean": self._current.mean.copy(),
            "deviation": self._current.deviation.copy(),
            "latest": self._latest.rows.copy(),
        }

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        reader = StateReader(state, type(self).__name__, {"mean", "deviation", "latest"})
        d = self.cube.dimensions
        current = Gaussian(
            reader.array("mean", (d,)), reader.array("deviation", (d,), low=np.nextafter(0.0, 1.0))
        )
        latest = self._latest.read(reader, "latest")
        super().load_state_dict(state)
        self._current = current
        self._latest.load(latest)

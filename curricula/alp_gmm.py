"""Learning progress in a box of tasks: mixtures of Gaussians over tasks and progress."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from macurr.curricula._box import BoxCurriculum, History, check_options
from macurr.curricula._gaussians import GaussianMixture, fit_by_aic
from macurr.curricula._outcomes import check_fraction
from macurr.curricula._states import StateReader
from macurr.errors import UsageError
from macurr.spaces import BoxTaskSpace

__all__ = ["AbsoluteLearningProgressGMM", "CovarGMM"]

_MOST_TRIES = 100


class _GaussianTeacher(BoxCurriculum):
    """Every `fit_rate` episodes, fits Gaussians to the latest episodes and gives each one a value.

    Tasks are then drawn from a Gaussian chosen in proportion to its value.
    """

    columns = 1  # what is recorded of an episode besides its task

    def __init__(
        self,
        task_space: BoxTaskSpace,
        *,
        fit_rate: int = 250,
        max_components: int = 10,
        exploration: float = 0.2,
        border: str = "resample",
        **options: Any,
    ) -> None:
        super().__init__(task_space, **options)
        check_options(type(self).__name__, {"fit_rate": fit_rate, "max_components": max_components})
        if max_components < 2 or fit_rate < 2 * max_components:
            raise UsageError(
                f"max_components must be 2 or more and fit_rate at least twice that; got {max_components!r} and "
                f"{fit_rate!r}."
            )
        if border not in ("resample", "clip"):
            raise UsageError(f"border must be 'resample' or 'clip'; got {border!r}.")
        self.fit_rate, self.max_components, self.border = fit_rate, max_components, border
        self.exploration = check_fraction("exploration", exploration)
        self._latest = History(self.cube.dimensions + self.columns, fit_rate)
        self._since_fit = 0
        self._mixture: GaussianMixture | None = None

    @abstractmethod
    def _record(self, point: NDArray[np.float64], episode_return: float) -> NDArray[np.float64]:
        """What to keep of an episode: `columns` numbers."""

    @abstractmethod
    def _features(self, latest: NDArray[np.float64]) -> NDArray[np.float64]:
        """What the Gaussians are fitted to: the points first, then others; shape (n, d + m)."""

    @abstractmethod
    def _values(self, mixture: GaussianMixture) -> NDArray[np.float64]:
        """How much each Gaussian promises, at least 0; shape (k,)."""

    @override
    def _learn(self, task: Any, episode_return: float, progress: Any, env_id: int | None) -> None:
        point = self.cube.point(task)
        self._latest.append(np.concatenate([point, self._record(point, episode_return)]))
        self._since_fit += 1
        if self._since_fit >= self.fit_rate:
            self._since_fit = 0
            features = self._features(self._latest.rows)
            self._mixture = fit_by_aic(features, self.max_components, self.rng)

    @override
    def _sample(self, k: int) -> list[Any]:
        return [self._draw() for _ in range(k)]

    def _draw(self) -> Any:
        if self._mixture is None or self.rng.random() < self.exploration:
            return self.task_space.sample(self.rng)
        values = self._values(self._mixture)
        if not values.any():
            return self.task_space.sample(self.rng)
        j, d = int(self.rng.choice(len(values), p=values / values.sum())), self.cube.dimensions
        mean, covariance = self._mixture.means[j, :d], self._mixture.covariances[j, :d, :d]
        return self.cube.task(np.clip(self._inside(mean, covariance), 0.0, 1.0))

    def _inside(self, mean: NDArray[np.float64], covariance: NDArray[np.float64]) -> NDArray[np.float64]:
        """A point of the Gaussian, in the cube if `border` wants that and chance allows."""
        root = np.linalg.cholesky(covariance)
        for _ in range(_MOST_TRIES):
            point: NDArray[np.float64] = mean + root @ self.rng.standard_normal(len(mean))
            if self.border == "clip" or ((point >= 0.0) & (point <= 1.0)).all():
                break
        return point

    @override
    def metrics(self) -> dict[str, float]:
        if self._mixture is None:
            return {"components": 0.0}
        values = self._values(self._mixture)
        return {"components": float(len(values)), "value_mean": float(self._mixture.weights @ values)}

    @override
    def state_dict(self) -> dict[str, Any]:
        mixture = self._mixture
        parts = () if mixture is None else (mixture.weights, mixture.means, mixture.covariances)
        return {
            **super().state_dict(),
            "latest": self._latest.rows.copy(),
            "since_fit": self._since_fit,
            "mixture": [part.copy() for part in parts],
        }

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        reader = StateReader(state, type(self).__name__, {"latest", "since_fit", "mixture"})
        latest = self._latest.read(reader, "latest")
        since_fit = reader.integer("since_fit", 0, self.fit_rate)
        mixture = self._read_mixture(reader)
        super().load_state_dict(state)
        self._latest.load(latest)
        self._since_fit, self._mixture = since_fit, mixture

    def _read_mixture(self, reader: StateReader) -> GaussianMixture | None:
        parts = reader["mixture"]
        if not isinstance(parts, list) or len(parts) not in (0, 3):
            raise reader.fail("mixture", "empty, or weights, means and covariances")
        if not parts:
            return None
        names = ("weights", "means", "covariances")
        inner = StateReader(
            {**dict(zip(names, parts, strict=True)), "type": "GaussianMixture", "started": 0},
            "GaussianMixture",
            set(names),
        )
        weights = inner.array("weights", (None,), low=0.0, high=1.0)
        k = len(weights)
        means = inner.array("means", (k, None))
        d = means.shape[1]
        covariances = inner.array("covariances", (k, d, d))
        try:
            np.linalg.cholesky(covariances)
        except np.linalg.LinAlgError as error:
            raise inner.fail("covariances", "positive definite matrices") from error
        return GaussianMixture(weights, means, covariances)


class AbsoluteLearningProgressGMM(_GaussianTeacher):
    """ALP-GMM: Gaussians over tasks and the absolute change of return since the nearest earlier task.

    Portelas et al. 2019 (arXiv:1910.07224). The absolute learning progress of an episode with return r is
    |r - r'|, r' being the return of the nearest task before it (0 for the first `warmup`). Every `fit_rate`
    episodes, mixtures of 2 to `max_components` Gaussians are fitted to (task, ALP) of the last `fit_rate`; the one
    of smallest AIC is kept, and a Gaussian is chosen in proportion to its mean ALP. Tasks are measured in units
    of the box, so that no coordinate counts for more than another.

    Unlike the reference code, which clips, tasks drawn outside the box are drawn again, as clipping piles them up
    on the border; `border="clip"` does as it does. Episodes older than `memory` are forgotten.

    Args:
        task_space: The box.
        fit_rate: Episodes between fits, and in a fit.
        max_components: The largest number of Gaussians tried; at least 2.
        exploration: Probability of a uniform draw.
        border: "resample" or "clip".
        warmup: How many episodes have no progress, for want of neighbours.
        memory: Among how many of the latest episodes the nearest is looked for.
        return_scale: What the changes are divided by: the range of returns, if it is far from 1.
        options: The base class's keywords.

    Raises:
        UsageError: the space is no box, or an option is out of its range.
    """

    def __init__(
        self,
        task_space: BoxTaskSpace,
        *,
        fit_rate: int = 250,
        max_components: int = 10,
        exploration: float = 0.2,
        border: str = "resample",
        warmup: int = 5,
        memory: int = 20_000,
        return_scale: float = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(
            task_space,
            fit_rate=fit_rate,
            max_components=max_components,
            exploration=exploration,
            border=border,
            **options,
        )
        check_options(type(self).__name__, {"memory": memory, "return_scale": return_scale})
        self.warmup, self.return_scale = warmup, return_scale
        self._history = History(self.cube.dimensions + 1, memory)

    @override
    def _record(self, point: NDArray[np.float64], episode_return: float) -> NDArray[np.float64]:
        rows, progress = self._history.rows, 0.0
        if len(rows) > 0 and len(rows) >= self.warmup:
            nearest = int(((rows[:, :-1] - point) ** 2).sum(axis=1).argmin())
            progress = abs(episode_return - float(rows[nearest, -1])) / self.return_scale
        self._history.append(np.append(point, episode_return))
        return np.array([progress])

    @override
    def _features(self, latest: NDArray[np.float64]) -> NDArray[np.float64]:
        return latest

    @override
    def _values(self, mixture: GaussianMixture) -> NDArray[np.float64]:
        values: NDArray[np.float64] = np.maximum(mixture.means[:, -1], 0.0)
        return values

    @override
    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "history": self._history.rows.copy()}

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        history = self._history.read(StateReader(state, type(self).__name__, {"history"}), "history")
        super().load_state_dict(state)
        self._history.load(history)


class CovarGMM(_GaussianTeacher):
    """Covar-GMM: Gaussians over tasks, time and return; progress is how return goes with time in each.

    Moulin-Frier, Nguyen and Oudeyer 2014, as in Portelas et al. 2019. Every `fit_rate` episodes, mixtures are
    fitted to (task, time, return) of the last `fit_rate`, time running from 0 to 1 over them, and chosen by AIC. A
    Gaussian's value is the covariance of time and return in it, 0 where that is negative.

    Args:
        task_space: The box.
        absolute: Whether forgetting, a negative covariance, counts as well.
        return_scale: What returns are divided by: their range, if it is far from 1.
        options: `fit_rate`, `max_components`, `exploration` and `border` as for
            `AbsoluteLearningProgressGMM`, and the base class's keywords.

    Raises:
        UsageError: the space is no box, or an option is out of its range.
    """

    def __init__(
        self, task_space: BoxTaskSpace, *, absolute: bool = False, return_scale: float = 1.0, **options: Any
    ) -> None:
        super().__init__(task_space, **options)
        check_options(type(self).__name__, {"return_scale": return_scale})
        self.absolute, self.return_scale = absolute, return_scale

    @override
    def _record(self, point: NDArray[np.float64], episode_return: float) -> NDArray[np.float64]:
        return np.array([episode_return / self.return_scale])

    @override
    def _features(self, latest: NDArray[np.float64]) -> NDArray[np.float64]:
        time = np.linspace(0.0, 1.0, len(latest))
        return np.column_stack([latest[:, :-1], time, latest[:, -1]])

    @override
    def _values(self, mixture: GaussianMixture) -> NDArray[np.float64]:
        together = mixture.covariances[:, -2, -1]
        values: NDArray[np.float64] = np.abs(together) if self.absolute else np.maximum(together, 0.0)
        return values

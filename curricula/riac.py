"""RIAC: a box cut into regions, and tasks from those where returns change most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from macurr.curricula._box import BoxCurriculum, History, check_options
from macurr.curricula._states import StateReader
from macurr.errors import UsageError
from macurr.spaces import BoxTaskSpace

__all__ = ["RIAC"]

_NOISE = 0.1
"""Standard deviation around the worst task, in widths of its region."""


@dataclass
class _Region:
    """A part of the unit cube with its latest episodes: points and returns in one history."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    history: History

    @property
    def progress(self) -> float:
        return halves_differ(self.history.rows[:, -1])


def halves_differ(returns: NDArray[np.float64]) -> float:
    """Absolute difference between the mean of the later half and of the earlier one; 0 for less than two."""
    half = len(returns) // 2
    return abs(float(returns[-half:].mean() - returns[:half].mean())) if half else 0.0


class RIAC(BoxCurriculum):
    """Robust intelligent adaptive curiosity: regions of the box, by the change of return in them.

    Baranes and Oudeyer 2010, with the figures of Portelas et al. 2019. A region's progress is the absolute
    difference between the mean return of the later and of the earlier half of its latest `max_region_size`
    episodes. A region that is full is cut in two: of `split_attempts` random cuts that leave each side at least
    `min_region_size` episodes and `min_width` of the space, the one with the largest n1 n2 |progress1 - progress2|
    is taken. If no cut is possible, the region goes on with its latest episodes.

    Draws: with probability 0.7 uniform in a region chosen in proportion to progress; with 0.2 uniform in the box;
    with 0.1 near the task of smallest return in a region so chosen.

    Args:
        task_space: The box.
        max_region_size: Episodes that a region holds.
        min_region_size: The least number of episodes on either side of a cut.
        split_attempts: How many cuts are tried.
        min_width: The least width of a region, as a fraction of the space's.
        mixture: The probabilities of the three ways to draw, in the order above.
        options: The base class's keywords.

    Raises:
        UsageError: the space is no box, or an option is out of its range.
    """

    def __init__(
        self,
        task_space: BoxTaskSpace,
        *,
        max_region_size: int = 200,
        min_region_size: int = 20,
        split_attempts: int = 50,
        min_width: float = 0.05,
        mixture: tuple[float, float, float] = (0.7, 0.2, 0.1),
        **options: Any,
    ) -> None:
        super().__init__(task_space, **options)
        check_options(type(self).__name__, {"split_attempts": split_attempts, "min_width": min_width})
        if min_region_size < 2 or max_region_size < 2 * min_region_size:
            raise UsageError(
                f"A region needs min_region_size of 2 or more and max_region_size of at least twice that; got "
                f"{min_region_size!r} and {max_region_size!r}."
            )
        self.mixture = np.array(mixture, np.float64)
        if self.mixture.shape != (3,) or (self.mixture < 0).any() or abs(self.mixture.sum() - 1) > 1e-9:
            raise UsageError(f"mixture must be three probabilities that sum to 1; got {mixture!r}.")
        self.max_region_size, self.min_region_size = max_region_size, min_region_size
        self.split_attempts, self.min_width = split_attempts, min_width
        d = self.cube.dimensions
        self._regions = [self._region(np.zeros(d), np.ones(d))]

    def _region(self, low: NDArray[np.float64], high: NDArray[np.float64]) -> _Region:
        return _Region(low, high, History(self.cube.dimensions + 1, self.max_region_size))

    @override
    def _learn(self, task: Any, episode_return: float, progress: Any, env_id: int | None) -> None:
        point = self.cube.point(task)
        i = next(
            i for i, each in enumerate(self._regions) if ((each.low <= point) & (point <= each.high)).all()
        )
        self._regions[i].history.append(np.append(point, episode_return))
        if len(self._regions[i].history) == self.max_region_size:
            self._regions[i : i + 1] = self._split(self._regions[i])

    def _split(self, region: _Region) -> list[_Region]:
        rows, best, cut = region.history.rows, -1.0, None
        for _ in range(self.split_attempts):
            axis = int(self.rng.integers(self.cube.dimensions))
            at = float(self.rng.uniform(region.low[axis], region.high[axis]))
            left = rows[:, axis] <= at
            counts = int(left.sum()), int((~left).sum())
            if min(counts) < self.min_region_size or not self._wide_enough(region, axis, at):
                continue
            gap = abs(halves_differ(rows[left, -1]) - halves_differ(rows[~left, -1]))
            score = counts[0] * counts[1] * gap
            if score > best:
                best, cut = score, (axis, at)
        return [region] if cut is None else self._cut(region, *cut)

    def _wide_enough(self, region: _Region, axis: int, at: float) -> bool:
        return min(at - float(region.low[axis]), float(region.high[axis]) - at) >= self.min_width

    def _cut(self, region: _Region, axis: int, at: float) -> list[_Region]:
        lower_high, upper_low = region.high.copy(), region.low.copy()
        lower_high[axis] = upper_low[axis] = at
        halves = [self._region(region.low, lower_high), self._region(upper_low, region.high)]
        for row in region.history.rows:
            halves[0 if row[axis] <= at else 1].history.append(row)
        return halves

    @override
    def _sample(self, k: int) -> list[Any]:
        return [self._draw() for _ in range(k)]

    def _draw(self) -> Any:
        way = int(self.rng.choice(3, p=self.mixture))
        progress = np.array([region.progress for region in self._regions])
        if way == 1 or not progress.any():
            return self.task_space.sample(self.rng)
        region = self._regions[int(self.rng.choice(len(progress), p=progress / progress.sum()))]
        if way == 0:
            return self.cube.task(self.rng.uniform(region.low, region.high))
        rows = region.history.rows
        worst = rows[rows[:, -1].argmin(), :-1]
        near = worst + _NOISE * (region.high - region.low) * self.rng.standard_normal(len(worst))
        return self.cube.task(np.clip(near, region.low, region.high))

    @override
    def metrics(self) -> dict[str, float]:
        progress = [region.progress for region in self._regions]
        return {"regions": float(len(progress)), "progress_max": max(progress)}

    @override
    def state_dict(self) -> dict[str, Any]:
        regions = self._regions
        return {
            **super().state_dict(),
            "low": np.array([region.low for region in regions]),
            "high": np.array([region.high for region in regions]),
            "sizes": np.array([len(region.history) for region in regions], np.int64),
            "episodes": np.concatenate([region.history.rows for region in regions]),
        }

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        reader = StateReader(state, type(self).__name__, {"low", "high", "sizes", "episodes"})
        d = self.cube.dimensions
        low = reader.array("low", (None, d), low=0.0, high=1.0)
        high = reader.array("high", low.shape, low=0.0, high=1.0)
        sizes = reader.array("sizes", (len(low),), np.int64, 0, self.max_region_size)
        episodes = reader.array("episodes", (int(sizes.sum()), d + 1))
        if not len(low) or (low >= high).any() or abs((high - low).prod(axis=1).sum() - 1.0) > 1e-6:
            raise reader.fail("low", "regions that fill the box")
        super().load_state_dict(state)
        self._regions = [self._region(*corners) for corners in zip(low, high, strict=True)]
        parts = np.split(episodes, np.cumsum(sizes)[:-1])
        for region, rows in zip(self._regions, parts, strict=True):
            region.history.load(rows)

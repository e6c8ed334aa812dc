"""Learning progress within strata of tasks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from macurr.curricula._progress_pool import ProgressPool
from macurr.curricula.learning_progress import LearningProgress
from macurr.errors import UsageError
from macurr.spaces import StratifiedDiscreteTaskSpace

__all__ = ["StratifiedLearningProgress"]


class StratifiedLearningProgress(LearningProgress):
    """Learning progress within strata: first a stratum is drawn, then a task of it by its z-score there.

    Among few kinds of tasks of different scale, one z-score over all of them sees only the kind whose progress is
    measured in the largest numbers. Strata are compared with themselves.

    Args:
        task_space: The tasks by stratum; it may grow and shrink.
        strata: How a stratum is drawn among those with tasks to draw: "uniform", or "progress", in proportion to
            the mean LP of its tasks kept (uniformly while all are 0).
        options: The keywords of `LearningProgress`.

    Raises:
        UsageError: the space has no strata, or an option is out of its range.
    """

    def __init__(
        self, task_space: StratifiedDiscreteTaskSpace, *, strata: str = "uniform", **options: Any
    ) -> None:
        if not isinstance(task_space, StratifiedDiscreteTaskSpace):
            raise UsageError(
                f"{type(self).__name__} needs a StratifiedDiscreteTaskSpace; got {task_space!r}."
            )
        if strata not in ("uniform", "progress"):
            raise UsageError(f"strata must be 'uniform' or 'progress'; got {strata!r}.")
        self.strata = strata
        self._codes: list[list[int]] = [[] for _ in task_space.strata]
        self._places: list[tuple[int, int]] = []
        self._strata_space = task_space
        self._assign()
        super().__init__(task_space, **options)

    def _assign(self) -> None:
        """Give every new task its entry. Removed tasks keep theirs, so entries never change."""
        new: dict[int, int] = {}
        for number, name in enumerate(self._strata_space.strata):
            new |= {code: number for code in self._strata_space.codes(name) if code >= len(self._places)}
        for code in range(len(self._places), self._strata_space.num_tasks):
            # One that was removed before it was ever seen here has no stratum, and needs none.
            stratum = new.get(code, 0)
            self._places.append((stratum, len(self._codes[stratum])))
            self._codes[stratum].append(code)

    @override
    def _make_pools(self) -> list[ProgressPool]:
        return [ProgressPool(max(1, len(codes)), self._interest is not None) for codes in self._codes]

    @override
    def _grow_pools(self, n: int) -> None:
        self._assign()
        for pool, codes in zip(self._pools, self._codes, strict=True):
            if len(codes) > pool.capacity:
                pool.grow(max(len(codes), pool.capacity + pool.capacity // 4))

    @override
    def _place(self, index: int) -> tuple[int, int]:
        return self._places[index]

    @override
    def _index(self, pool: int, entry: int) -> int:
        return self._codes[pool][entry]

    @override
    def _shares(self) -> NDArray[np.float64]:
        drawable = super()._shares()
        progress = np.array([pool.mean for pool in self._pools]) * drawable
        shares = progress if self.strata == "progress" and progress.any() else drawable
        total = float(shares.sum())
        normalised: NDArray[np.float64] = shares / (total or 1.0)
        return normalised

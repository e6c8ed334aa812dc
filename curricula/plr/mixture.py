"""The replay distribution: scores and staleness, mixed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from macurr.curricula.plr.priorities import make_priority
from macurr.curricula.plr.staleness import make_staleness
from macurr.curricula.plr.transforms import mix
from macurr.errors import StateError
from macurr.sampling import Partition

Floats = NDArray[np.float64]

_KEYS = {"scores", "times", "clock", "items", "inside", "score_scale", "staleness_scale"}


class ReplayDistribution:
    """Which of the seen levels to replay: P = (1 - c) * P_S + c * P_C.

    P_S is a transform of the scores, P_C one of the staleness (Jiang et al. 2021, equation 3; c is
    `staleness_coef`). Levels are numbered from 0; a level is seen once it has a score. A draw picks one of
    the two parts first, so it costs one draw from that part and no normalisation.

    Args:
        capacity: The number of levels.
        transform: Name of the transform of the scores.
        temperature: Its temperature.
        eps: Share of `eps_greedy` that is uniform.
        staleness_coef: The share c of the staleness, 0 to 1.
        staleness_transform: Name of the transform of the staleness.
        staleness_temperature: Its temperature.
    """

    def __init__(
        self,
        capacity: int,
        *,
        transform: str,
        temperature: float,
        eps: float,
        staleness_coef: float,
        staleness_transform: str,
        staleness_temperature: float,
    ) -> None:
        self.members = Partition(capacity)
        self._transforms = transform, staleness_transform
        self._make(temperature, eps, staleness_coef, staleness_temperature)

    def _make(
        self, temperature: float, eps: float, staleness_coef: float, staleness_temperature: float
    ) -> None:
        self.staleness_coef = staleness_coef
        transform, of_staleness = self._transforms
        # The reference adds a little to every score of `power`, but not where staleness already keeps all
        # alive.
        offset = 0.0 if staleness_coef > 0.0 else 1e-3
        self._priority = make_priority(
            transform, self.members, temperature=temperature, eps=eps, offset=offset
        )
        self._staleness = make_staleness(
            of_staleness, self.members, temperature=staleness_temperature, eps=eps
        )

    def configure(
        self, *, temperature: float, eps: float, staleness_coef: float, staleness_temperature: float
    ) -> None:
        """Change what the distribution is made from, in O(capacity log capacity); see the constructor.

        Scores and visits stay: afterwards it is the distribution that was made so and told the same.
        """
        scores, times, clock = self.scores, self._staleness.times, self.clock
        self._make(temperature, eps, staleness_coef, staleness_temperature)
        self._priority.load(scores)
        self._staleness.load(times, clock)

    @property
    def capacity(self) -> int:
        """The number of levels, seen or not."""
        return self.members.capacity

    @property
    def seen(self) -> int:
        """The number of levels with a score."""
        return len(self.members)

    @property
    def clock(self) -> int:
        """The number of tasks drawn so far."""
        return self._staleness.clock

    @property
    def scores(self) -> Floats:
        """The scores, shape (capacity,), NaN for unseen levels."""
        return self._priority.scores

    @property
    def ages(self) -> NDArray[np.int64]:
        """The staleness of every level, shape (capacity,)."""
        ages: NDArray[np.int64] = self.clock - self._staleness.times
        return ages

    def score(self, index: int) -> float:
        """The score of one level, NaN if it is unseen."""
        return self._priority.score(index)

    def set_score(self, index: int, score: float) -> None:
        """Give a level a score; with the first one it counts as seen."""
        new = index not in self.members
        self._priority.set(index, score)
        if new:
            self.members.add(index)
            self._staleness.add(index)

    def set_scores(self, scores: ArrayLike) -> None:
        """Replace the scores of all levels at once, in O(capacity).

        Args:
            scores: Shape (capacity,), NaN for levels that have not been seen.
        """
        values = np.asarray(scores, np.float64)
        seen = np.flatnonzero(~np.isnan(values))
        self.members.load(np.concatenate([seen, np.flatnonzero(np.isnan(values))]), len(seen))
        self._priority.load(values)
        self._staleness.load(self._staleness.times, self.clock)

    def forget(self, index: int) -> None:
        """Make a level unseen."""
        if index in self.members:
            self.members.discard(index)
            self._priority.discard(index)
            self._staleness.discard(index)

    def visit(self, index: int | None) -> None:
        """Count one drawn task: every level's staleness grows by 1, and that of `index` becomes 0."""
        self._staleness.tick()
        if index is not None:
            self._staleness.touch(index)

    def set_visit(self, index: int, time: int) -> None:
        """Set the clock's reading at a level's last visit."""
        self._staleness.touch(index, time)

    def draw(self, rng: np.random.Generator) -> int:
        """A seen level from the replay distribution."""
        if self.staleness_coef > 0.0 and rng.random() < self.staleness_coef:
            return self._staleness.draw(rng)
        return self._priority.draw(rng)

    def draw_unseen(self, rng: np.random.Generator) -> int:
        """An unseen level, uniformly."""
        return self.members.draw_outside(rng.random())

    def probabilities(self) -> Floats:
        """The replay distribution, shape (capacity,); all 0 while no level has been seen."""
        return mix(self._priority.probabilities(), self._staleness.probabilities(), self.staleness_coef)

    def grow(self, capacity: int) -> None:
        """Make place for more levels, unseen and with no staleness."""
        self.members.grow(capacity)
        self._priority.grow(capacity)
        self._staleness.grow(capacity)

    def state(self) -> dict[str, Any]:
        """Everything that decides the next draws."""
        return {
            "scores": self.scores,
            "times": self._staleness.times,
            "clock": self.clock,
            "items": self.members.items,
            "inside": len(self.members),
            "score_scale": self._priority.scale,
            "staleness_scale": self._staleness.scale,
        }

    def check(self, state: Mapping[str, Any]) -> None:
        """Check that `load` would succeed.

        Raises:
            StateError: it would not.
        """
        if not isinstance(state, Mapping) or _KEYS - set(state):
            raise StateError(f"The replay distribution's state must hold {sorted(_KEYS)}.")
        numbers = {"clock": int, "inside": int, "score_scale": float, "staleness_scale": float}
        if any(
            not isinstance(state[name], kind) or not math.isfinite(state[name])
            for name, kind in numbers.items()
        ):
            raise StateError(f"The replay distribution's state must hold numbers as {sorted(numbers)}.")
        arrays = [np.asarray(state[name]) for name in ("scores", "times", "items")]
        if [array.dtype.kind for array in arrays] != ["f", "i", "i"] or any(
            array.shape != arrays[0].shape or array.ndim != 1 for array in arrays
        ):
            raise StateError("The replay distribution's state lacks arrays, or they differ in length.")
        scores, times, items = arrays
        if (
            len(items) != self.capacity
            or not 0 <= state["inside"] <= len(items)
            or not np.array_equal(np.sort(items), np.arange(len(items)))
        ):
            raise StateError(f"The state is about {len(items)} levels; this curriculum has {self.capacity}.")
        seen = np.zeros(len(items), np.bool_)
        seen[items[: state["inside"]]] = True
        if not np.array_equal(seen, ~np.isnan(scores)) or times.max() > state["clock"]:
            raise StateError("The state's scores, visits and seen levels contradict each other.")

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from `state()`, which `check` has accepted."""
        self.members.load(state["items"], state["inside"])
        self._priority.load(state["scores"])
        self._priority.scale = float(state["score_scale"])
        self._staleness.load(state["times"], int(state["clock"]))
        self._staleness.scale = float(state["staleness_scale"])

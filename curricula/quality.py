"""Self-play with quality scores, as in OpenAI Five."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from macurr.curricula.opponents import LEARNER, OpponentCurriculum
from macurr.curricula.self_play import check_chance
from macurr.curriculum import check_state
from macurr.errors import StateError, UsageError
from macurr.opponents import AgentPool, PlayerKey

__all__ = ["QualitySelfPlay"]


class QualitySelfPlay(OpponentCurriculum):
    """Mostly the latest self, else a past one by its quality (Berner et al. 2019).

    With probability `latest_prob` the newest snapshot; else one of the N past ones with p = softmax(q). When the
    learner beats past opponent i, its quality falls: q_i -= learning_rate / (N p_i). Losses and draws change nothing.
    A new snapshot starts with the highest quality there is.

    Args:
        pool: The snapshots. While it holds only one, that one is drawn.
        latest_prob: The share of games against the newest.
        learning_rate: How fast qualities fall.
        floor: The least p_i that a step is divided by: without it, one lucky win against a hardly ever drawn
            opponent would throw its quality to minus infinity.
        options: The keywords of `OpponentCurriculum`.

    Raises:
        UsageError: an option is out of range.
    """

    def __init__(
        self,
        pool: AgentPool,
        *,
        latest_prob: float = 0.8,
        learning_rate: float = 0.01,
        floor: float = 1e-3,
        **options: Any,
    ) -> None:
        check_chance("latest_prob", latest_prob)
        if not 0 <= learning_rate < np.inf or not 0 < floor <= 1:
            raise UsageError(
                f"learning_rate must be 0 or more and floor in (0, 1]; got {learning_rate} and {floor}."
            )
        super().__init__(pool, **options)
        self.latest_prob = latest_prob
        self.learning_rate = learning_rate
        self.floor = floor
        self._qualities: dict[int, float] = {}

    def qualities(self, ids: Sequence[int]) -> NDArray[np.float64]:
        """The quality of each snapshot, shape (len(ids),); higher is drawn more often."""
        known = self._qualities
        highest = max((known[snapshot] for snapshot in ids if snapshot in known), default=0.0)
        for snapshot in ids:
            known.setdefault(snapshot, highest)
        return np.array([known[snapshot] for snapshot in ids])

    @override
    def probabilities(self, ids: Sequence[int]) -> NDArray[np.float64]:
        if len(ids) == 1:
            return np.ones(1)
        past = _softmax(self.qualities(ids)[:-1])
        return np.append((1.0 - self.latest_prob) * past, self.latest_prob)

    @override
    def _record(self, row: PlayerKey, column: PlayerKey, outcome: float) -> None:
        super()._record(row, column, outcome)
        past = self.pool.ids[:-1]
        if row == LEARNER and outcome > 0 and column in past:
            chance = _softmax(self.qualities(past))[past.index(column)]
            self._qualities[column] -= self.learning_rate / (len(past) * max(float(chance), self.floor))

    @override
    def state_dict(self) -> dict[str, Any]:
        ids = self.pool.ids
        return {
            **super().state_dict(),
            "ids": np.array(ids, dtype=np.int64),
            "qualities": self.qualities(ids),
        }

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_state(state, type(self).__name__, {"ids", "qualities"})
        qualities = _qualities_of(state["ids"], state["qualities"])
        super().load_state_dict(state)
        self._qualities = qualities


def _softmax(x: NDArray[np.float64]) -> NDArray[np.float64]:
    weights = np.exp(x - x.max())
    result: NDArray[np.float64] = weights / weights.sum()
    return result


def _qualities_of(ids: Any, values: Any) -> dict[int, float]:
    snapshots, qualities = np.asarray(ids), np.asarray(values)
    if (
        snapshots.dtype.kind not in "iu"
        or qualities.dtype.kind != "f"
        or snapshots.ndim != 1
        or snapshots.shape != qualities.shape
        or not np.isfinite(qualities).all()
    ):
        raise StateError("The state of QualitySelfPlay needs one finite quality for each snapshot's id.")
    return dict(zip(snapshots.tolist(), qualities.tolist(), strict=True))

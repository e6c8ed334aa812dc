"""Policy-space response oracles: opponents drawn from the solution of the game between the snapshots."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import override

from macurr import opponents
from macurr.curricula.opponents import LEARNER, OpponentCurriculum
from macurr.curricula.self_play import check_chance
from macurr.curriculum import check_state
from macurr.errors import SolverError, StateError, UsageError
from macurr.opponents import AgentPool, PlayerKey

__all__ = ["META_SOLVERS", "PolicySpaceResponseOracles"]

Matrix = NDArray[np.float64]
MetaSolver = Callable[[Matrix], ArrayLike]

META_SOLVERS: Mapping[str, MetaSolver] = {
    "uniform": lambda matrix: opponents.uniform(matrix)[0],
    "nash": lambda matrix: opponents.nash(matrix)[0],
    "nash_averaging": lambda matrix: opponents.nash_averaging(matrix).rows,
    "projected_replicator_dynamics": lambda matrix: opponents.projected_replicator_dynamics(matrix)[0],
    "regret_matching": lambda matrix: opponents.regret_matching(matrix)[0],
    "alpha_rank": opponents.alpha_rank,
}
"""The meta-solvers by name: from the payoffs (n, n) of a symmetric zero-sum game to the weights (n,)."""


class PolicySpaceResponseOracles(OpponentCurriculum):
    """Draws opponents from a meta-solver's solution of the game between the snapshots (Lanctot et al. 2017).

    The live policy is the oracle: it learns a best response to the mixture, and becomes the next snapshot. The game's
    payoffs are win rates less a half. They come from what is there: a snapshot new to the pool inherits the results
    that the learner had against the older ones, being a copy of it; and results between snapshots, of a tournament
    say, come by `update_on_demand({"results": [(row, column, outcome), ...]})`. A pair without games is even.

    The game is solved again when the pool or results between snapshots have changed, not after every episode.

    Args:
        pool: The snapshots.
        meta_solver: "nash", "nash_averaging", "projected_replicator_dynamics", "regret_matching", "alpha_rank",
            "uniform", or a function from the payoff matrix (n, n) to probabilities (n,).
        payoff_matrix: A function from ids to the payoff matrix, where payoffs are known exactly or kept elsewhere; in
            place of the win rates. Asked again when the pool has changed, and after `update_on_demand`.
        exploration: The chance of drawing uniformly instead, which fills gaps in the results.
        options: The keywords of `OpponentCurriculum`.

    Raises:
        UsageError: the meta-solver is unknown, or `exploration` is out of range.
    """

    def __init__(
        self,
        pool: AgentPool,
        *,
        meta_solver: str | MetaSolver = "nash",
        payoff_matrix: Callable[[Sequence[int]], ArrayLike] | None = None,
        exploration: float = 0.0,
        **options: Any,
    ) -> None:
        if not callable(meta_solver) and meta_solver not in META_SOLVERS:
            raise UsageError(
                f"The meta-solver {meta_solver!r} is unknown. Use one of {sorted(META_SOLVERS)}, or a function of "
                "the payoff matrix."
            )
        check_chance("exploration", exploration)
        super().__init__(pool, **options)
        self.meta_solver = meta_solver
        self.payoff_matrix = payoff_matrix
        self.exploration = exploration
        self._known: list[int] = []
        self._solution: Matrix | None = None

    @override
    def probabilities(self, ids: Sequence[int]) -> Matrix:
        """How likely each opponent is at the next draw.

        Raises:
            SolverError: the game has no solution, or the solver's answer is no distribution.
        """
        self._notice(list(ids))
        if self._solution is None:
            self._solution = self._solve(ids)
        return (1.0 - self.exploration) * self._solution + self.exploration / len(ids)

    def matrix(self, ids: Sequence[int]) -> Matrix:
        """The payoffs of each snapshot (rows) against each (columns), shape (len(ids), len(ids))."""
        if self.payoff_matrix is None:
            return self.payoffs.matrix(ids) - 0.5
        return np.array(self.payoff_matrix(ids), dtype=np.float64)

    @override
    def update_on_demand(self, metrics: Mapping[str, Any]) -> None:
        super().update_on_demand(metrics)
        if self.payoff_matrix is not None:
            self._solution = None

    @override
    def _record(self, row: PlayerKey, column: PlayerKey, outcome: float) -> None:
        # First those who came in before this result: what they inherit must not hold it.
        self._notice(self.pool.ids)
        super()._record(row, column, outcome)
        if LEARNER not in (row, column):
            self._solution = None

    @override
    def state_dict(self) -> dict[str, Any]:
        self._notice(self.pool.ids)
        return {**super().state_dict(), "known": np.array(self._known, dtype=np.int64)}

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_state(state, type(self).__name__, {"known"})
        known = np.asarray(state["known"])
        if known.ndim != 1 or known.dtype.kind not in "iu":
            raise StateError(
                f"The snapshots known to {type(self).__name__} are ids; this state has {known!r}."
            )
        super().load_state_dict(state)
        self._known = known.tolist()
        self._solution = None

    def _notice(self, ids: list[int]) -> None:
        if ids == self._known:
            return
        for snapshot in sorted(set(ids) - set(self._known)):
            self.payoffs.inherit(snapshot, LEARNER)
        self._known = ids
        self._solution = None

    def _solve(self, ids: Sequence[int]) -> Matrix:
        solver = META_SOLVERS[self.meta_solver] if isinstance(self.meta_solver, str) else self.meta_solver
        weights = np.asarray(solver(self.matrix(ids)), dtype=np.float64)
        if weights.shape != (len(ids),) or not (weights >= -1e-9).all() or abs(weights.sum() - 1.0) > 1e-6:
            raise SolverError(
                f"The meta-solver {self.meta_solver!r} returned {weights!r} for {len(ids)} snapshots. It must return "
                "one probability for each."
            )
        weights = np.maximum(weights, 0.0)
        result: Matrix = weights / weights.sum()
        return result

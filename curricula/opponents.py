"""What all curricula over opponents share: a pool that grows, and the results against it."""

from __future__ import annotations

import math
from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from macurr.curriculum import Curriculum, check_state
from macurr.errors import StateError, TaskError, UsageError
from macurr.messages import EnvSpec
from macurr.opponents import AgentPool, OpponentTaskSpace, Payoffs, PlayerKey
from macurr.statistics import StatRecorder

__all__ = ["LEARNER", "OpponentCurriculum", "Outcome", "higher_mean_return"]

LEARNER = "learner"
"""The live policy's name in `payoffs`."""

Outcome = Callable[[Mapping[str, float], tuple[str, ...]], float | None]
"""From the returns by agent, and who of them are learners: positive, 0 or negative for a win, a draw or a loss of the
learners; None where the episode decided nothing."""


def higher_mean_return(returns: Mapping[str, float], learners: tuple[str, ...]) -> float:
    """The default outcome: the learners' mean return less the others' mean return.

    Where the others' returns are not known (a single-agent environment with the opponent inside), the learner's
    is compared with 0, as is right for a zero-sum game.
    """
    own = [value for agent, value in returns.items() if agent in learners]
    others = [value for agent, value in returns.items() if agent not in learners]
    return _mean(own) - _mean(others)


class OpponentCurriculum(Curriculum):
    """Chooses opponents from a pool of snapshots that grows while it runs; the base of the self-play family.

    A task is a snapshot's id. Every finished episode is a result of the learner against its task's snapshot: the
    curriculum knows the learners from `register_env`. Episodes in which all agents are learners, or of
    environments that were not registered, decide nothing. Results also come by
    `update_on_demand({"results": [("learner", 3, +1), ...]})`: row, column, outcome.

    Subclasses define `probabilities(ids)`.

    Args:
        pool: The snapshots. It must hold one before the first task is sampled.
        outcome: What an episode's returns mean (see `Outcome`).
        decay: What is kept of an opponent's counters at each new result against it (see `Payoffs`).
        window: How many latest results against an opponent count; None for all.
        options: The base class's keywords (`seed`, `record_stats`, `random_start_tasks`).

    Raises:
        UsageError: `pool` is no pool, or an option is out of range.

    Attributes:
        pool: The pool.
        payoffs: The results, under the key "learner" and the snapshots' ids.
    """

    def __init__(
        self,
        pool: AgentPool,
        *,
        outcome: Outcome = higher_mean_return,
        decay: float = 0.99,
        window: int | None = None,
        **options: Any,
    ) -> None:
        if not isinstance(pool, AgentPool):
            raise UsageError(f"{type(self).__name__} needs an AgentPool; got {pool!r}.")
        super().__init__(OpponentTaskSpace(pool), **options)
        if self.stats is not None:
            self.stats = _OpponentStats(self.task_space)
        self.pool = pool
        self.outcome = outcome
        self.payoffs = Payoffs(decay, window)
        self._specs: dict[int, EnvSpec] = {}

    @abstractmethod
    def probabilities(self, ids: Sequence[int]) -> NDArray[np.float64]:
        """How likely each opponent is at the next draw.

        Args:
            ids: The pool's snapshots, oldest first; at least one.

        Returns:
            Probabilities, shape (len(ids),).
        """

    def win_rates(self, ids: Sequence[int]) -> NDArray[np.float64]:
        """How often the learner beats each opponent, draws counted half; 0.5 before any game, shape (len(ids),)."""
        return self.payoffs.win_rates(LEARNER, ids)

    @override
    def register_env(self, env_id: int, spec: EnvSpec) -> None:
        super().register_env(env_id, spec)
        self._specs[env_id] = spec

    @override
    def unregister_env(self, env_id: int) -> None:
        super().unregister_env(env_id)
        self._specs.pop(env_id, None)

    @override
    def sample(self, k: int = 1) -> list[Any]:
        if not len(self.pool):
            raise UsageError(
                f"{type(self).__name__} has no opponent to choose: {self.pool!r} is empty. Add a snapshot before "
                "the first episode, pool.add(parameters); that of the untrained policy will do."
            )
        return super().sample(k)

    @override
    def _sample(self, k: int) -> list[Any]:
        ids = self.pool.ids
        heights = self._heights(ids)
        return [ids[bisect_right(heights, draw * heights[-1])] for draw in self.rng.random(k).tolist()]

    def _heights(self, ids: Sequence[int]) -> list[float]:
        """The cumulative probabilities of the next draw, one for each of `ids`."""
        heights: list[float] = np.cumsum(self.probabilities(ids)).tolist()
        return heights

    @override
    def distribution(self) -> NDArray[np.float64]:
        ids = self.pool.ids
        return self.probabilities(ids) if ids else np.zeros(0)

    @override
    def update_on_episode(
        self, episode_return: Any, length: int, task: Any, progress: Any, env_id: int | None = None
    ) -> None:
        self.check_env(env_id)
        opponent = self.task_space.check(task)
        self.check_episode(episode_return, length, opponent)
        result = self._result(episode_return, env_id)
        self._record_episode(episode_return, length, opponent)
        # What the pool has let go is never drawn again, so its results would only pile up.
        if result is not None and opponent in self.pool:
            self._record(LEARNER, opponent, result)

    @override
    def update_on_demand(self, metrics: Mapping[str, Any]) -> None:
        """Count in results that came about elsewhere.

        Args:
            metrics: "results": rows of (row, column, outcome), as `Payoffs.record` takes them; other keys are
                left to others.

        Raises:
            TaskError: a row is no such result; nothing is counted.
        """
        with self._with_options(metrics) as told:
            rows = told.get("results", ())
            if not isinstance(rows, Iterable) or isinstance(rows, str | Mapping):
                raise TaskError(f"'results' are rows of (row, column, outcome); got {rows!r}.")
            for row, column, outcome in [self._checked(row) for row in rows]:
                self._record(row, column, outcome)

    @override
    def metrics(self) -> dict[str, float]:
        ids = self.pool.ids
        rates = self.win_rates(ids) if ids else np.full(1, 0.5)
        return {
            **super().metrics(),
            "pool_size": float(len(ids)),
            "opponents_met": float(np.count_nonzero(self.payoffs.games(LEARNER, ids))),
            "win_rate_mean": float(rates.mean()),
            "win_rate_min": float(rates.min()),
            "win_rate_latest": float(rates[-1]),
        }

    @override
    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "payoffs": self.payoffs.state_dict()}

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_state(state, type(self).__name__, {"payoffs"})
        payoffs = Payoffs(self.payoffs.decay, self.payoffs.window)
        payoffs.load_state_dict(state["payoffs"])
        strangers = [key for key in payoffs.keys if key != LEARNER and not isinstance(key, int)]
        if strangers:
            raise StateError(
                f"The payoffs of this state name {strangers}, who are neither the learner nor snapshots."
            )
        super().load_state_dict(state)
        self.payoffs = payoffs

    def _record(self, row: PlayerKey, column: PlayerKey, outcome: float) -> None:
        self.payoffs.record(row, column, outcome)
        if len(self.payoffs) > 16 and len(self.payoffs) > 2 * len(self.pool) + 16:
            for key in set(self.payoffs.keys) - {LEARNER, *self.pool.ids}:
                self.payoffs.forget(key)

    def _checked(self, result: Any) -> tuple[PlayerKey, PlayerKey, float]:
        try:
            row, column, outcome = result
            row, column = (key if key == LEARNER else self.task_space.check(key) for key in (row, column))
            finite = not math.isnan(outcome)
        except (TypeError, ValueError) as error:
            raise TaskError(f"{result!r} is no result (row, column, outcome): {error}.") from error
        if row == column or not finite:
            raise TaskError(
                f"{result!r} is no result. Name two players, 'learner' or ids, and an outcome: +1, 0 or -1 for the "
                "first of them."
            )
        return row, column, outcome

    def _result(self, episode_return: Any, env_id: int | None) -> float | None:
        spec = None if env_id is None else self._specs.get(env_id)
        if spec is None:
            return None
        if spec.single_agent:
            returns = {spec.possible_agents[0]: float(episode_return)}
        elif set(spec.learners) >= set(spec.possible_agents):
            return None
        else:
            returns = {agent: float(value) for agent, value in episode_return.items()}
        outcome = self.outcome(returns, spec.learners)
        if outcome is not None and not math.isfinite(outcome):
            raise TaskError(
                f"The outcome function {self.outcome!r} returned {outcome!r} for the returns {returns}. It must "
                "return a finite number, or None."
            )
        return outcome


class _OpponentStats(StatRecorder):
    """Statistics by id: positions in the pool shift when a snapshot leaves it."""

    @override
    def _key(self, task: Any) -> int | str:
        return self.task_space.check(task)  # type: ignore[no-any-return]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else 0.0

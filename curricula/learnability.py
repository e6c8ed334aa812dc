"""Learnability: tasks that are solved half the time come up most often."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from macurr.curricula._finite import FiniteCurriculum, check_success, enlarged
from macurr.curricula._outcomes import Success, SuccessRule, check_fraction
from macurr.curricula._states import StateReader
from macurr.curricula.basic import uniform_probabilities
from macurr.errors import TaskError, UsageError
from macurr.messages import SINGLE_AGENT, EnvSpec
from macurr.sampling import OrderIndex, SumTree
from macurr.spaces import TaskSpace

__all__ = ["Learnability"]

_LEAST = 1e-12
"""Below it, what one episode leaves of 1 - (sum of squared weights) is rounding."""


class Learnability(FiniteCurriculum):
    """Sampling For Learnability: the score of a task is p(1 - p), p being its rate of success.

    Rutherford et al. 2024 (arXiv:2408.15099). With several agents the score is the sum over the learners of
    p_i (1 - p_i). The paper rolls out thousands of tasks at each refresh and keeps the best: tell such results by
    `update_on_demand`. Between refreshes, or without them, p is estimated from the episodes of training:

        n <- n + 1,    a = max(alpha, 1 / n),    p <- p + a (success - p)

    a plain mean that turns into a moving average. Tasks without a finished episode have no score: they are never
    among the best nor drawn in proportion, and are reached by exploration alone.

    A sample or an update takes O(log tasks).

    Args:
        task_space: A finite space; it may grow and shrink.
        sampling: "top_k": uniform among the k best tasks, as in the paper, ties to the smaller position.
            "proportional": in proportion to score + eps.
        k: How many tasks are the best.
        exploration: Probability of a uniform draw from all tasks; the paper's half of the environments.
        success: What an episode's success is, for each agent: "solved" (1 if its return is positive or its task
            completed, else 0), "progress" (task completion), "return" (1 if the return is positive), or a
            function of return and progress with values from 0 to 1.
        online: Whether episodes of training teach. If not, only `update_on_demand` does.
        alpha: The least weight of the newest episode; 0 for the mean of all episodes.
        unbiased: Whether to divide p(1 - p) by 1 - sum of squared weights of the episodes, which for a mean of n
            episodes is (n - 1) / n: what is missing in the plain score on average. Tasks with one episode then
            have score 0 rather than none.
        eps: What is added to scores in proportional sampling, so that tasks always or never solved do come up.
        options: The base class's keywords.

    Raises:
        UsageError: an option is out of its range, or the space is not finite.
    """

    def __init__(
        self,
        task_space: TaskSpace,
        *,
        sampling: str = "top_k",
        k: int = 100,
        exploration: float = 0.5,
        success: Success = "solved",
        online: bool = True,
        alpha: float = 0.1,
        unbiased: bool = False,
        eps: float = 1e-3,
        **options: Any,
    ) -> None:
        super().__init__(task_space, **options)
        if sampling not in ("top_k", "proportional"):
            raise UsageError(f"sampling must be 'top_k' or 'proportional'; got {sampling!r}.")
        if k < 1 or not 0.0 <= eps < np.inf:
            raise UsageError(f"k must be 1 or more and eps 0 or more; got {k!r} and {eps!r}.")
        self.sampling, self.k, self.eps = sampling, k, eps
        self.exploration = check_fraction("exploration", exploration)
        self.alpha = check_fraction("alpha", alpha)
        self.online, self.unbiased = online, unbiased
        self._success = SuccessRule(success)
        self._agents: list[str] = []
        self._learners: dict[int, tuple[str, ...]] = {}
        self._p = np.zeros((self._n, 0))
        self._episodes = np.zeros((self._n, 0), np.int32)
        self._squares = np.zeros((self._n, 0))  # sums of the squared weights that the episodes have in p
        self._order = OrderIndex(self._n) if sampling == "top_k" else None
        self._tree = SumTree(self._n) if sampling == "proportional" else None

    # Learning

    @override
    def register_env(self, env_id: int, spec: EnvSpec) -> None:
        super().register_env(env_id, spec)
        self._learners[env_id] = spec.learners

    @override
    def unregister_env(self, env_id: int) -> None:
        super().unregister_env(env_id)
        self._learners.pop(env_id, None)

    def score(self, task: Any) -> float | None:
        """The learnability of an encoded task; None before an episode of it has ended.

        Raises:
            TaskError: the task is not in the space.
        """
        self._follow()
        index = self.task_space.index(task)
        return self._score(index) if self._episodes[index].any() else None

    @override
    def _learn(self, index: int, episode_return: Any, progress: Any, env_id: int | None) -> None:
        if not self.online:
            return
        returns = episode_return if isinstance(episode_return, Mapping) else {SINGLE_AGENT: episode_return}
        done = progress if isinstance(progress, Mapping) else dict.fromkeys(returns, progress)
        learners = self._learners.get(env_id, tuple(returns)) if env_id is not None else tuple(returns)
        values = {
            agent: self._success(returns[agent], done.get(agent, 0.0), index)
            for agent in (learners if isinstance(episode_return, Mapping) else returns)
            if agent in returns
        }
        for agent, value in values.items():
            self._count(index, self._column(agent), value)
        if values:
            self._rank(index)

    def _count(self, index: int, column: int, value: float) -> None:
        place = index, column
        episodes, p = int(self._episodes[place]) + 1, float(self._p[place])
        weight = max(self.alpha, 1.0 / episodes)
        self._episodes[place] = episodes
        self._p[place] = p + weight * (value - p)
        self._squares[place] = (1.0 - weight) ** 2 * float(self._squares[place]) + weight**2

    def _column(self, agent: str) -> int:
        if agent not in self._agents:
            self._agents.append(agent)
            self._widen(len(self._agents))
        return self._agents.index(agent)

    def _widen(self, columns: int) -> None:
        for name in ("_p", "_episodes", "_squares"):
            array = getattr(self, name)
            wider = np.zeros((len(array), columns), array.dtype)
            wider[:, : array.shape[1]] = array
            setattr(self, name, wider)

    @override
    def update_on_demand(self, metrics: Mapping[str, Any]) -> None:
        """Replace the estimates of tasks that were rolled out for the purpose.

        Args:
            metrics: "task_success": rates of success from 0 to 1, or for several agents a mapping from agent to
                rate; as a mapping from encoded task, as a sequence with "tasks" beside it, or as a sequence for
                all tasks in order. NaN says that no episode of the task ended, and takes its score away.
                "episodes": how many episodes each rate is the mean of, one number for all; 1 by default.

        Raises:
            TaskError: a task is unknown or a number is none; nothing is changed.
        """
        super().update_on_demand(metrics)
        if "task_success" not in metrics:
            return
        self._follow()
        indices, values = self._told(metrics, "task_success")
        episodes = metrics.get("episodes", 1)
        if isinstance(episodes, bool) or not isinstance(episodes, int | np.integer) or episodes < 1:
            raise TaskError(f'"episodes" must be a whole number of at least 1; got {episodes!r}.')
        rates = [
            {agent: check_rate(rate) for agent, rate in value.items()}
            if isinstance(value, Mapping)
            else {SINGLE_AGENT: check_rate(value)}
            for value in values
        ]
        for index, by_agent in zip(indices, rates, strict=True):
            self._replace(index, by_agent, int(episodes))

    def _replace(self, index: int, rates: Mapping[str, float], episodes: int) -> None:
        columns = [self._column(agent) for agent in rates]
        for array in (self._p, self._episodes, self._squares):
            array[index] = 0
        for column, rate in zip(columns, rates.values(), strict=True):
            if not np.isnan(rate):
                self._p[index, column], self._episodes[index, column] = rate, episodes
                self._squares[index, column] = 1.0 / episodes
        self._rank(index)

    def _score(self, index: int) -> float:
        """`_scores` of one task, without NumPy's cost per call: the same additions in the same order."""
        total = 0.0
        for p, squares in zip(self._p[index].tolist(), self._squares[index].tolist(), strict=True):
            score, present = p * (1.0 - p), 1.0 - squares
            if self.unbiased:
                score = score / present if present > _LEAST else 0.0
            total += score
        return total

    def _scores(self, indices: NDArray[np.intp]) -> NDArray[np.float64]:
        total = np.zeros(len(indices))
        for p, squares in zip(self._p[indices].T, self._squares[indices].T, strict=True):
            scores, present = p * (1.0 - p), 1.0 - squares
            if self.unbiased:
                scores = np.where(present > _LEAST, scores / np.maximum(present, _LEAST), 0.0)
            total += scores
        return total

    def _rank(self, index: int) -> None:
        known = bool(self._episodes[index].any())
        if self._order is not None:
            if known:
                self._order.set(index, self._score(index))
            else:
                self._order.discard(index)
        if self._tree is not None:
            self._tree.set(index, self._score(index) + self.eps if known else 0.0)

    # Drawing

    @override
    def _sample(self, k: int) -> list[Any]:
        self._follow()
        return [self._draw() for _ in range(k)]

    @property
    def _ready(self) -> bool:
        if self._order is not None:
            return len(self._order) > 0
        return self._tree is not None and self._tree.total > 0.0

    def _draw(self) -> Any:
        if not self._ready or self.rng.random() < self.exploration:
            return self.task_space.sample(self.rng)
        if self._order is not None:
            index = self._order.select(int(self.rng.integers(min(self.k, len(self._order)))))
        else:
            index = self._tree.draw(self.rng.random()) if self._tree is not None else 0
        return self.task_space.from_index(index)

    @override
    def distribution(self) -> NDArray[np.float64]:
        self._follow()
        uniform = uniform_probabilities(self.task_space)
        if not self._ready:
            return uniform
        drawn = np.zeros(self._n)
        if self._order is not None:
            best = self._order.ranking[: self.k]
            drawn[best] = 1.0 / len(best)
        elif self._tree is not None:
            drawn = self._tree.weights[: self._n]
            drawn /= drawn.sum()
        return self.exploration * uniform + (1.0 - self.exploration) * drawn

    @override
    def metrics(self) -> dict[str, float]:
        self._follow()
        seen = np.flatnonzero(self._episodes[: self._n].any(axis=1))
        counted = self._episodes[seen] > 0
        return {
            **super().metrics(),
            "tasks_seen": float(len(seen)),
            "success": float(self._p[seen][counted].mean()) if len(seen) else 0.0,
            "learnability": float(self._scores(seen).mean()) if len(seen) else 0.0,
        }

    # Growing, shrinking, saving

    @override
    def _grow(self, n: int) -> None:
        for name in ("_p", "_episodes", "_squares"):
            setattr(self, name, enlarged(getattr(self, name), n))
        for structure in (self._order, self._tree):
            if structure is not None and n > structure.capacity:
                structure.grow(len(self._p))

    @override
    def _forget(self, index: int) -> None:
        for array in (self._p, self._episodes, self._squares):
            array[index] = 0
        self._rank(index)

    @override
    def state_dict(self) -> dict[str, Any]:
        self._follow()
        return {
            **super().state_dict(),
            "agents": list(self._agents),
            "p": self._p[: self._n].copy(),
            "episodes": self._episodes[: self._n].copy(),
            "squares": self._squares[: self._n].copy(),
        }

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._follow()
        reader = StateReader(state, type(self).__name__, {"agents", "p", "episodes", "squares"})
        agents = reader["agents"]
        if not isinstance(agents, list) or not all(isinstance(agent, str) for agent in agents):
            raise reader.fail("agents", "a list of names")
        p = reader.array("p", (None, len(agents)), low=0.0, high=1.0)
        if len(p) > self._n:
            raise reader.fail(
                "p", f"about at most {self._n} tasks, not {len(p)}; add the missing tasks first"
            )
        episodes = reader.array("episodes", p.shape, np.int32, low=0)
        squares = reader.array("squares", p.shape, low=0.0, high=1.0)
        super().load_state_dict(state)
        self._agents = list(agents)
        for name, values in (("_p", p), ("_episodes", episodes), ("_squares", squares)):
            rows = len(getattr(self, name)) - len(p)
            setattr(self, name, np.concatenate([values, np.zeros((rows, len(agents)), values.dtype)]))
        self._rank_all()
        self._removed = 0

    def _rank_all(self) -> None:
        known = self._episodes.any(axis=1)
        scores = self._scores(np.arange(len(self._p)))
        capacity = len(self._p)
        if self._order is not None:
            keys = np.full(self._order.capacity, np.nan)
            keys[:capacity] = np.where(known, scores, np.nan)
            self._order.load(keys)
        if self._tree is not None:
            weights = np.zeros(self._tree.capacity)
            weights[:capacity] = np.where(known, scores + self.eps, 0.0)
            self._tree.load(weights)


def check_rate(value: Any) -> float:
    """Return a rate of success, or NaN for none, if it is one."""
    return (
        float("nan") if isinstance(value, float | np.floating) and np.isnan(value) else check_success(value)
    )

"""Learning progress: tasks on which success rises or falls come up more often."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import override

from macurr.curricula._finite import FiniteCurriculum, check_success, enlarged
from macurr.curricula._outcomes import Success, SuccessRule, check_fraction
from macurr.curricula._progress_pool import ProgressPool
from macurr.curricula._states import StateReader
from macurr.curricula.basic import uniform_probabilities
from macurr.errors import TaskError, UsageError
from macurr.spaces import TaskSpace

__all__ = ["LearningProgress"]

Interest = Callable[[Any], float]


def reweighted(p: float, theta: float) -> float:
    """Success as learning progress sees it: small rates are magnified, f(p) = (1-t)p / (p + t(1-2p))."""
    denominator = p + theta * (1.0 - 2.0 * p)
    return (1.0 - theta) * p / denominator if denominator > 0.0 else 0.0


class LearningProgress(FiniteCurriculum):
    """Bidirectional learning progress from a fast and a slow moving average of each task's success.

    Kanitscheider et al. 2021 (arXiv:2106.14876), as OMNI (Zhang et al. 2023, arXiv:2306.01711) computes it. An
    evaluation p of a task, with the random policy's success b, gives

        q = max(p - b, 0) / (1 - b)
        fast = a q + (1 - a) fast,    slow = a fast + (1 - a) slow    (the first time fast = slow = q)
        LP = |f(fast) - f(slow)|,     f(x) = (1 - t) x / (x + t (1 - 2 x))

    Tasks with LP > 0, or that have ever succeeded, are drawn in proportion to sigmoid(z), z being the z-score of
    LP among them; the others only by exploration. While there are none, draws are uniform. The paper centres the
    sigmoid on a quantile; OMNI's code, followed here, does not. OMNI's own method is LP times a model of
    interest: pass `interest`.

    A sample or an update takes microseconds at any number of tasks (`ProgressPool` says how).

    Args:
        task_space: A finite space; it may grow and shrink.
        success: What an episode's success is: "solved" (1 if the return is positive or the task completed, else 0),
            "progress" (the environment's task completion at the end), "return" (1 if the return is positive), or a
            function of return and progress with values from 0 to 1.
        online: Whether episodes of training teach. If not, only `update_on_demand` does.
        episodes_per_update: How many episodes of a task are averaged into one evaluation p. OMNI uses 20: with
            one, the noise of single episodes is most of what is called progress.
        ema_alpha: a, the weight of the newest evaluation.
        p_theta: t, from 0 to 1 exclusively; smaller values magnify small rates of success more.
        baseline: b, the success of a random policy: one number, or one for each task. Tasks added later have 0.
        exploration: Probability of a uniform draw. With 0, as in the reference, a task that has never been solved
            is never tried again once another has been. Where tasks depend on each other 0.1 is too little as well:
            see `docs/studies/curricula_chain.md`.
        interest: A function of the decoded task, with values of at least 0, that multiplies its weight. It is
            asked when a task is first kept, and for all tasks kept by `refresh_interest`, which every evaluation
            told by `update_on_demand` calls.
        options: The base class's keywords.

    Raises:
        UsageError: an option is out of its range, or the space is not finite.
        TaskError: the baseline does not fit the space.
    """

    single_agent = True

    def __init__(
        self,
        task_space: TaskSpace,
        *,
        success: Success = "solved",
        online: bool = True,
        episodes_per_update: int = 1,
        ema_alpha: float = 0.1,
        p_theta: float = 0.1,
        baseline: ArrayLike = 0.0,
        exploration: float = 0.5,
        interest: Interest | None = None,
        **options: Any,
    ) -> None:
        super().__init__(task_space, **options)
        self.ema_alpha = check_fraction("ema_alpha", ema_alpha, zero=False)
        self.exploration = check_fraction("exploration", exploration)
        if not 0.0 < p_theta < 1.0:
            raise UsageError(f"p_theta must lie between 0 and 1, both excluded; got {p_theta!r}.")
        if episodes_per_update < 1:
            raise UsageError(f"episodes_per_update must be 1 or more; got {episodes_per_update!r}.")
        self.p_theta = p_theta
        self.online = online
        self.episodes_per_update = episodes_per_update
        self._success = SuccessRule(success)
        self._interest = interest
        self._baseline = _baseline(baseline, self._n)
        self._fast, self._slow = np.zeros(self._n), np.zeros(self._n)
        self._seen, self._solved = np.zeros(self._n, bool), np.zeros(self._n, bool)
        rows = self._n if episodes_per_update > 1 else 0
        self._sums, self._counts = np.zeros(rows), np.zeros(rows, np.int32)
        self._pools = self._make_pools()

    # Where a task's number is kept: one pool here, one for each stratum below

    def _make_pools(self) -> list[ProgressPool]:
        return [ProgressPool(self._n, self._interest is not None)]

    def _grow_pools(self, n: int) -> None:
        pool = self._pools[0]
        if n > pool.capacity:
            pool.grow(max(n, pool.capacity + pool.capacity // 4))

    def _place(self, index: int) -> tuple[int, int]:
        """The pool of a task, and its entry there."""
        return 0, index

    def _index(self, pool: int, entry: int) -> int:
        """The position of a pool's entry."""
        return entry

    def _shares(self) -> NDArray[np.float64]:
        """The probability of each pool at the next draw that does not explore; zeros if none can be drawn."""
        return np.array([float(pool.drawable) for pool in self._pools])

    # Learning

    def learning_progress(self, task: Any) -> float:
        """LP of an encoded task, from 0 to 1.

        Raises:
            TaskError: the task is not in the space.
        """
        self._follow()
        return self._progress(self.task_space.index(task))

    def success_rate(self, task: Any) -> float:
        """The fast moving average of an encoded task's success above the baseline; 0 before it was tried.

        Raises:
            TaskError: the task is not in the space.
        """
        self._follow()
        return float(self._fast[self.task_space.index(task)])

    @override
    def _learn(self, index: int, episode_return: Any, progress: Any, env_id: int | None) -> None:
        if not self.online:
            return
        value = self._success(episode_return, progress, index)
        if self.episodes_per_update == 1:
            self._evaluated(index, value)
            return
        self._sums[index] += value
        self._counts[index] += 1
        if self._counts[index] == self.episodes_per_update:
            value = float(self._sums[index]) / self.episodes_per_update
            self._sums[index] = self._counts[index] = 0
            self._evaluated(index, value)

    @override
    def update_on_demand(self, metrics: Mapping[str, Any]) -> None:
        """Learn from an evaluation of the policy.

        Args:
            metrics: "task_success": rates of success from 0 to 1, as a mapping from encoded task to rate, as a
                sequence with "tasks" beside it, or as a sequence for all tasks in order.

        Raises:
            TaskError: a task is unknown or a rate is no number from 0 to 1; nothing is changed.
        """
        super().update_on_demand(metrics)
        if "task_success" not in metrics:
            return
        self._follow()
        indices, values = self._told(metrics, "task_success")
        rates = [check_success(value) for value in values]
        for index, rate in zip(indices, rates, strict=True):
            self._evaluated(index, rate)
        self.refresh_interest()

    def _evaluated(self, index: int, p: float) -> None:
        pool, entry = self._place(index)
        weight = self._weight(pool, entry, index)  # first, because the user's function may raise
        b, a = float(self._baseline[index]), self.ema_alpha
        q = max(p - b, 0.0) / (1.0 - b)
        if self._seen[index]:
            self._fast[index] += a * (q - self._fast[index])
            self._slow[index] += a * (self._fast[index] - self._slow[index])
        else:
            self._fast[index] = self._slow[index] = q
            self._seen[index] = True
        self._solved[index] |= p > 0.0
        progress = self._progress(index)
        if progress > 0.0 or self._solved[index]:
            self._pools[pool].set(entry, progress, weight)

    def _progress(self, index: int) -> float:
        fast, slow = float(self._fast[index]), float(self._slow[index])
        return abs(reweighted(fast, self.p_theta) - reweighted(slow, self.p_theta))

    # Interest

    def refresh_interest(self) -> None:
        """Ask `interest` again about every task kept. Does nothing without one."""
        if self._interest is None:
            return
        asked = [(index, self._asked(index)) for index in self._kept()]
        for index, weight in asked:
            pool, entry = self._place(index)
            self._pools[pool].set(entry, self._progress(index), weight)

    def _weight(self, pool: int, entry: int, index: int) -> float:
        if self._interest is None:
            return 1.0
        known = self._pools[pool].weight(entry)
        return self._asked(index) if known is None else known

    def _asked(self, index: int) -> float:
        task = self.task_space.decode(self.task_space.from_index(index))
        weight = float(self._interest(task)) if self._interest is not None else 1.0
        if not 0.0 <= weight < np.inf:
            raise TaskError(f"interest({task!r}) is {weight!r}. It has to be a finite number of at least 0.")
        return weight

    def _kept(self) -> Iterator[int]:
        """The positions of the tasks kept, in the pools' order."""
        for number, pool in enumerate(self._pools):
            yield from (self._index(number, entry) for entry in pool.members.tolist())

    # Drawing

    @override
    def _sample(self, k: int) -> list[Any]:
        self._follow()
        return [self._draw() for _ in range(k)]

    def _draw(self) -> Any:
        shares = self._shares()
        if not shares.any() or self.rng.random() < self.exploration:
            return self.task_space.sample(self.rng)
        pool = 0 if len(shares) == 1 else int(self.rng.choice(len(shares), p=shares))
        return self.task_space.from_index(self._index(pool, self._pools[pool].draw(self.rng)))

    @override
    def distribution(self) -> NDArray[np.float64]:
        self._follow()
        uniform, shares = uniform_probabilities(self.task_space), self._shares()
        if not shares.any():
            return uniform
        drawn = np.zeros(self._n)
        for number, (pool, share) in enumerate(zip(self._pools, shares, strict=True)):
            members, probabilities = pool.members, pool.probabilities()
            if share > 0.0:
                positions = [self._index(number, entry) for entry in members.tolist()]
                drawn[positions] = share * probabilities[members]
        return self.exploration * uniform + (1.0 - self.exploration) * drawn

    @override
    def metrics(self) -> dict[str, float]:
        seen = int(self._seen.sum())
        return {
            **super().metrics(),
            "tasks_seen": float(seen),
            "tasks_solved": float(self._solved.sum()),
            "tasks_kept": float(sum(map(len, self._pools))),
            "success": float(self._fast.sum()) / max(seen, 1),
            "learning_progress": sum(pool.mean * len(pool) for pool in self._pools)
            / max(sum(map(len, self._pools)), 1),
        }

    # Growing, shrinking, saving

    @override
    def _grow(self, n: int) -> None:
        for name in ("_baseline", "_fast", "_slow", "_seen", "_solved"):
            setattr(self, name, enlarged(getattr(self, name), n))
        if self.episodes_per_update > 1:
            self._sums, self._counts = enlarged(self._sums, n), enlarged(self._counts, n)
        self._grow_pools(n)

    @override
    def _forget(self, index: int) -> None:
        pool, entry = self._place(index)
        self._pools[pool].discard(entry)

    @override
    def state_dict(self) -> dict[str, Any]:
        self._follow()
        kept = list(self._kept())
        weights = [self._pools[pool].weight(entry) or 0.0 for pool, entry in map(self._place, kept)]
        return {
            **super().state_dict(),
            **{
                name: getattr(self, f"_{name}")[: self._n].copy()
                for name in ("fast", "slow", "seen", "solved")
            },
            "sums": self._sums[: self._n].copy(),
            "counts": self._counts[: self._n].copy(),
            "kept": np.array(kept, np.int32),
            "weights": np.array(weights),
        }

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._follow()
        names = {"fast", "slow", "seen", "solved", "sums", "counts", "kept", "weights"}
        reader = StateReader(state, type(self).__name__, names)
        fast = reader.array("fast", (None,), low=0.0, high=1.0)
        m = len(fast)
        if m > self._n:
            raise reader.fail("fast", f"about at most {self._n} tasks, not {m}; add the missing tasks first")
        slow = reader.array("slow", (m,), low=0.0, high=1.0)
        seen, solved = reader.array("seen", (m,), bool), reader.array("solved", (m,), bool)
        rows = m if self.episodes_per_update > 1 else 0
        sums = reader.array("sums", (rows,), low=0.0)
        counts = reader.array("counts", (rows,), np.int32, 0, self.episodes_per_update - 1)
        kept = reader.array("kept", (None,), np.int32, 0, m - 1)
        weights = reader.array("weights", (len(kept),), low=0.0)
        if len(np.unique(kept)) != len(kept):
            raise reader.fail("kept", "a list of different tasks")
        super().load_state_dict(state)
        loaded = {"_fast": fast, "_slow": slow, "_seen": seen, "_solved": solved}
        for name, values in (loaded | ({"_sums": sums, "_counts": counts} if rows else {})).items():
            array = getattr(self, name)
            array[:m], array[m:] = values, 0
        self._load_pools(kept.tolist(), weights.tolist())

    def _load_pools(self, kept: list[int], weights: list[float]) -> None:
        present: list[list[tuple[int, float, float]]] = [[] for _ in self._pools]
        for index, weight in zip(kept, weights, strict=True):
            pool, entry = self._place(index)
            present[pool].append((entry, self._progress(index), weight))
        for pool_, entries in zip(self._pools, present, strict=True):
            members = np.array([entry for entry, _, _ in entries], np.int32)
            values, known = np.array([e[1] for e in entries]), np.array([e[2] for e in entries])
            pool_.load(members, values, known)
        self._removed = 0  # the tasks removed since the state was saved are forgotten at the next call


def _baseline(baseline: ArrayLike, n: int) -> NDArray[np.float64]:
    values = np.asarray(baseline, np.float64)
    if values.shape not in ((), (n,)):
        raise TaskError(f"A baseline is one number, or one for each of {n} tasks; got shape {values.shape}.")
    if not ((values >= 0.0) & (values < 1.0)).all():
        raise UsageError(
            "A baseline must be from 0 to below 1: a task that a random policy always solves teaches nothing. "
            "Leave such tasks out."
        )
    each: NDArray[np.float64] = np.broadcast_to(values, (n,)).copy()
    return each

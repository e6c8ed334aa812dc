"""Prioritized Level Replay (Jiang, Grefenstette and Rocktäschel, 2021)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from macurr.curricula.plr.buffer import LISTED
from macurr.curricula.plr.building import configure, make_levels
from macurr.curricula.plr.feeding import Feed, Success, default_success
from macurr.curricula.plr.inputs import ScoredLevels
from macurr.curricula.plr.options import CHANGEABLE, Options
from macurr.curricula.plr.steps import StepReader
from macurr.curricula.plr.strategies import STRATEGIES
from macurr.curriculum import check_state
from macurr.errors import StateError
from macurr.evaluator import Evaluator
from macurr.spaces import TaskSpace


class PrioritizedLevelReplay(ScoredLevels):
    """Replays the levels on which there is most to learn, as far as their scores can tell.

    Each task is either a new level, drawn uniformly, or a seen one, replayed with probability
    (1 - c) * P_S + c * P_C: P_S prefers high scores, P_C levels that have not been drawn for long. A draw and a
    score take some 10 µs at a million levels, and a finite space takes less than 100 bytes per task.

    Scores come in one of three ways, with the same numbers:

    - *Steps*: with an `evaluator`, environments send their steps, and an episode is scored when it ends.
    - *Rollouts*: `update_rollout` takes what the learner has anyway. Episodes may reach over several of them.
    - *Scores*: `update_scores` takes ready numbers, whatever the strategy.

    Strategies that look at outcomes alone (`learnability`, `tscl_window`, `uniform`) are fed by episode results.
    All names are in `macurr.curricula.plr.STRATEGIES`, their formulas in `macurr.curricula.plr.scores`; `random`
    draws every task uniformly and `sequential` goes through them in order.

    A level's score is a moving average, S <- (1 - alpha) * S + alpha * s, that starts at 0. A level is seen once
    it has a score. Where the reference code is at odds with its paper or with itself, this is what happens:

    - Ranks and the highest score are taken over the seen levels only, ties going to the lower position.
    - With the "proportionate" schedule nothing is replayed before a share `rho` of the levels has been seen.
      The default of 1 is the reference's, whose levels are then all visited first; `rho=0` replays from the
      start, as the paper describes, and is what we recommend.
    - Where all weights of P_S or of P_C are 0, that part is uniform over the seen levels.
    - A full-length episode is scored as a whole, wherever batches or rollouts cut it.

    Args:
        task_space: The levels. Product spaces are replayed by position.
        strategy: How an episode scores its level.
        score_transform: From scores to P_S: rank, power, softmax, eps_greedy, max, constant, match or
            match_rank; the formulas are those of `macurr.curricula.plr.transforms.transform`.
        temperature: The lower, the more P_S prefers the highest scores.
        staleness_coef: The share c of P_C (the paper's rho).
        staleness_transform: From staleness to P_C: power, rank, softmax, eps_greedy, max or constant.
        staleness_temperature: The temperature of P_C.
        replay_schedule: "fixed": replay with probability `replay_prob`, and always once every level has been
            seen; "proportionate": with the share of levels that have been seen. With a buffer the latter is the
            share of it that is filled, and at most `replay_prob`.
        replay_prob: Probability of a replay.
        rho: The share of levels seen before anything is replayed; with a buffer and the "fixed" schedule, the
            share of it that is filled.
        alpha: Weight of a new score.
        max_score_coef: Share of the largest step's score, rather than the mean, in an episode's score.
        eps: Share of uniform draws in `eps_greedy`.
        gamma: Discount.
        gae_lambda: Trace decay of the advantages.
        buffer_size: Keep only that many levels, of any space: new ones come from the whole space, and enter if
            they score high enough. None keeps every task of a finite space.
        evaluator: What the learner's networks say; needed to score steps.
        buffer_priority: Which level makes room in a full buffer: the least likely to be replayed
            ("replay_support", the reference's) or the one with the lowest "score". Finding it is O(buffer_size).
        success: For `learnability`, from an episode's return and task completion to its success, 0 to 1. By
            default a return above 0 or a completed task.
        tscl_window_size: How many visits `tscl_window` looks at.
        seed: Seed or generator.
        task_names: As for every curriculum.
        record_stats: As for every curriculum.
        random_start_tasks: As for every curriculum.

    Raises:
        UsageError: an option is out of its range, or the space is not finite and there is no `buffer_size`.

    Example:
        >>> from macurr import DiscreteTaskSpace
        >>> plr = PrioritizedLevelReplay(DiscreteTaskSpace(3), rho=0.0, staleness_coef=0.0, temperature=1.0)
        >>> plr.update_scores([0, 2], [0.1, 0.7])
        >>> plr.distribution().round(3).tolist()
        [0.222, 0.333, 0.444]
    """

    def __init__(
        self,
        task_space: TaskSpace,
        *,
        strategy: str = "value_l1",
        score_transform: str = "rank",
        temperature: float = 0.1,
        staleness_coef: float = 0.1,
        staleness_transform: str = "power",
        staleness_temperature: float = 1.0,
        replay_schedule: str = "proportionate",
        replay_prob: float = 0.5,
        rho: float = 1.0,
        alpha: float = 1.0,
        max_score_coef: float = 0.0,
        eps: float = 0.05,
        gamma: float = 0.999,
        gae_lambda: float = 0.95,
        buffer_size: int | None = None,
        evaluator: Evaluator | None = None,
        buffer_priority: str = "replay_support",
        success: Success = default_success,
        tscl_window_size: int = 10,
        seed: int | np.random.Generator | None = None,
        task_names: Sequence[str] | None = None,
        record_stats: bool = False,
        random_start_tasks: int = 0,
    ) -> None:
        super().__init__(
            task_space,
            seed=seed,
            task_names=task_names,
            record_stats=record_stats,
            random_start_tasks=random_start_tasks,
        )
        self.options = Options(
            strategy=strategy,
            score_transform=score_transform,
            temperature=temperature,
            staleness_coef=staleness_coef,
            staleness_transform=staleness_transform,
            staleness_temperature=staleness_temperature,
            replay_schedule=replay_schedule,
            replay_prob=replay_prob,
            rho=rho,
            alpha=alpha,
            max_score_coef=max_score_coef,
            eps=eps,
            gamma=gamma,
            gae_lambda=gae_lambda,
            buffer_size=buffer_size,
            buffer_priority=buffer_priority,
            window=tscl_window_size,
        )
        self.strategy = STRATEGIES[strategy]
        self._levels = make_levels(task_space, self.options)
        self._feed = Feed(self._levels, self.options, success)
        self._reader = StepReader(self._feed, self.strategy, evaluator)
        self._drawn, self._replayed = 0, 0

    # Options

    @override
    def get_options(self) -> dict[str, Any]:
        """Temperatures, coefficients and probabilities. What is kept of levels and episodes cannot change."""
        return {name: getattr(self.options, name) for name in CHANGEABLE}

    @override
    def tunable_options(self) -> dict[str, tuple[float, float]]:
        """What most decides which levels are replayed, as far as it has an effect."""
        if self.strategy.name in ("random", "sequential"):
            return {}
        bounds = {"temperature": (0.05, 10.0), "staleness_coef": (0.01, 0.9)}
        if self.options.replay_schedule == "fixed" or self.options.buffer_size is not None:
            bounds["replay_prob"] = (0.05, 0.95)
        return bounds

    @override
    def check_options(self, **options: Any) -> None:
        super().check_options(**options)
        dataclasses.replace(self.options, **options)

    @override
    def _apply_options(self, options: Mapping[str, Any]) -> None:
        self.options = dataclasses.replace(self.options, **options)
        configure(self._levels, self.options)
        self._feed.configure(self.options)

    # What goes out

    @override
    def _sample(self, k: int) -> list[Any]:
        self._levels.follow()
        return [self._draw() for _ in range(k)]

    def _draw(self) -> Any:
        """The next task; every level's staleness grows, and that of the task becomes 0."""
        task, slot, replayed = self._choose()
        self._drawn += 1
        self._replayed += replayed
        self._levels.replay.visit(slot)
        if slot is not None:
            self._levels.replayed[slot] = replayed
        return task

    def _choose(self) -> tuple[Any, int | None, bool]:
        """A task, its slot if it has one, and whether it is replayed."""
        if self.strategy.name == "random":
            task = self.task_space.sample(self.rng)
            return task, self._levels.slot(task), False
        if self.strategy.name == "sequential":
            tasks = self.task_space.tasks
            task = tasks[self._drawn % len(tasks)]
            return task, self._levels.slot(task), False
        share = self._levels.replay_probability()
        if share > 0.0 and self.rng.random() < share:
            replayed = self._levels.replay.draw(self.rng)
            return self._levels.task(replayed), replayed, True
        return *self._levels.draw_new(self.rng), False

    @override
    def distribution(self) -> NDArray[np.float64] | None:
        """The probability of each task of a finite space at the next draw, replayed or new, in O(tasks)."""
        self._levels.follow()
        size = self.task_space.num_tasks
        if self._started < self.random_start_tasks or self.strategy.name == "random":
            return None if size is None or size > LISTED else self._uniform(size)
        if self.strategy.name == "sequential" and size is not None:
            certain = np.zeros(size)
            tasks = self.task_space.tasks
            certain[self.task_space.index(tasks[self._drawn % len(tasks)])] = 1.0
            return certain
        return self._levels.distribution()

    def _uniform(self, size: int) -> NDArray[np.float64]:
        found = np.full(size, 1.0 / (size - self.task_space.num_removed))
        found[self.task_space.removed] = 0.0
        return found

    @property
    def scores(self) -> NDArray[np.float64]:
        """The levels' scores, by position in a finite space or by place in the buffer; NaN for unseen ones."""
        return self._levels.replay.scores

    @override
    def metrics(self) -> dict[str, float]:
        replay = self._levels.replay
        seen = replay.members.members
        scores, ages = replay.scores[seen], replay.ages[seen]
        likely = replay.probabilities()
        likely = likely[likely > 0.0]
        return {
            **super().metrics(),
            "seen_fraction": replay.seen / replay.capacity,
            "score_mean": float(scores.mean()) if len(seen) else 0.0,
            "score_max": float(scores.max()) if len(seen) else 0.0,
            "staleness_mean": float(ages.mean()) if len(seen) else 0.0,
            "staleness_max": float(ages.max()) if len(seen) else 0.0,
            "replay_entropy": float(-(likely * np.log(likely)).sum()),
            "replay_probability": self._levels.replay_probability(),
            "replay_share": self._replayed / self._drawn if self._drawn else 0.0,
        }

    # State

    @override
    def state_dict(self) -> dict[str, Any]:
        return {
            **super().state_dict(),
            "levels": self._levels.state(),
            "episodes": self._feed.state(),
            "drawn": self._drawn,
            "replayed": self._replayed,
        }

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._levels.follow()
        check_state(state, type(self).__name__, {"levels", "episodes", "drawn", "replayed"})
        self._levels.check(state["levels"])
        episodes = self._feed.restored(state["episodes"])
        drawn, replayed = state["drawn"], state["replayed"]
        if not (isinstance(drawn, int) and isinstance(replayed, int) and 0 <= replayed <= drawn):
            raise StateError(f"The state counts {replayed!r} replays among {drawn!r} tasks.")
        super().load_state_dict(state)
        self._levels.load(state["levels"])
        self._feed.load(episodes)
        self._drawn, self._replayed = drawn, replayed

"""The choice of an opponent by regret, as MAESTRO makes it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from macurr.errors import StateError, TaskError, UsageError
from macurr.sampling import OrderIndex
from macurr.spaces import TaskSpace
from macurr.spaces.forms import frozen, plain
from macurr.wrappers._composite import MOST_TASKS

Regret = Callable[[Any], float | None]
"""An opponent's regret, of the curriculum that `MakeLevels` made for it; None where it cannot be measured yet."""


class HighestScores:
    """The mean of a curriculum's k highest level scores, or of all that there are; None where there are none.

    The curriculum has `top_scores(k)`, or, as `PrioritizedLevelReplay`, `scores` with NaN for unseen levels.

    Args:
        k: How many.

    Raises:
        UsageError: k is not positive; when called, the curriculum has no scores.
    """

    def __init__(self, k: int) -> None:
        if k < 1:
            raise UsageError(f"top_k must be at least 1; got {k}.")
        self._k = k

    def __call__(self, curriculum: Any) -> float | None:
        if hasattr(curriculum, "top_scores"):
            best = np.asarray(curriculum.top_scores(self._k), np.float64)
        elif hasattr(curriculum, "scores"):
            scores = np.asarray(curriculum.scores, np.float64)
            seen = scores[~np.isnan(scores)]
            best = np.partition(seen, len(seen) - self._k)[-self._k :] if len(seen) > self._k else seen
        else:
            raise UsageError(
                f"{type(curriculum).__name__} has no level scores to tell an opponent's regret by. Use "
                "PrioritizedLevelReplay, or pass regret=, a function of the curriculum."
            )
        return float(best.mean()) if len(best) else None


class RegretChoice:
    """Who is played next: new opponents first, then the one with the highest regret or one that others choose.

    Opponents get a slot each, in the order in which they are met. A slot whose opponent has left the space is gone
    for good.

    Args:
        space: The opponents, as a task space that may grow.
        uniform_prob: Probability of leaving the choice to others.
        trials: How often each new opponent is drawn before regret decides.
    """

    def __init__(self, space: TaskSpace, uniform_prob: float, trials: int) -> None:
        self._space, self._uniform_prob, self._trials = space, uniform_prob, trials
        self._reset()

    def _reset(self) -> None:
        self.tasks: list[Any] = []
        self._slots: dict[Any, int] = {}
        self._left: list[int] = []
        self._gone: set[int] = set()
        self._queue: deque[int] = deque()
        self._order = OrderIndex(64)
        self._horizon: Any = None

    def slot(self, opponent: Any) -> int:
        """The slot of an opponent, a new one where it has none.

        Raises:
            TaskError: it is not in the space, and never was.
        """
        known = self._slots.get(frozen(opponent))
        if known is not None:
            return known
        self._horizon = None  # whether it is still there is seen when the space is looked through
        return self._add(_present_or_past(self._space, opponent))

    def find(self, opponent: Any) -> int | None:
        """The slot of an opponent; None where it has none."""
        return self._slots.get(frozen(opponent))

    def _add(self, opponent: Any) -> int:
        slot = len(self.tasks)
        self.tasks.append(opponent)
        self._slots[frozen(opponent)] = slot
        self._left.append(self._trials)
        if self._trials:
            self._queue.append(slot)
        if slot >= self._order.capacity:
            self._order.grow(2 * self._order.capacity)
        return slot

    def gone(self, slot: int) -> bool:
        """Whether an opponent had left the space when it was last looked through."""
        return slot in self._gone

    def discover(self) -> list[int]:
        """Meet the opponents that the space has gained, in its order, and part from those that it has lost.

        Returns:
            The slots of those that have left since the last time.
        """
        horizon = self._now()
        if horizon is None or horizon == self._horizon:
            return []
        self._horizon = horizon
        present = {frozen(opponent): opponent for opponent in self._space.tasks}
        for key, opponent in present.items():
            if key not in self._slots:
                self._add(opponent)
        left = [slot for key, slot in self._slots.items() if key not in present and slot not in self._gone]
        for slot in left:
            self._gone.add(slot)
            self._order.discard(slot)
        self._queue = deque(slot for slot in self._queue if slot not in self._gone)
        return left

    def _now(self) -> Any:
        """What differs whenever opponents have come or gone; None for spaces that are not looked through.

        A population gains its newest member at its end, whether or not it loses another.
        """
        n = self._space.num_tasks
        if n is None or n > MOST_TASKS:
            return None
        try:
            newest = frozen(self._space.from_index(n - 1)) if n else None
        except TaskError:  # removed; then its number is never given again
            newest = None
        return n, self._space.num_removed, newest

    def draw(self, rng: np.random.Generator, otherwise: Callable[[], Any]) -> Any:
        """The next opponent; `otherwise` draws one where regret does not decide."""
        if self._queue:
            slot = self._queue.popleft()
            self._left[slot] -= 1
            if self._left[slot] > 0:
                self._queue.append(slot)
            return self.tasks[slot]
        best = None if rng.random() < self._uniform_prob else self.best()
        return otherwise() if best is None else self.tasks[best]

    def best(self) -> int | None:
        """The slot with the highest regret, the oldest of equals; None where no regret is known."""
        return self._order.select(0) if len(self._order) else None

    def try_again(self, slot: int) -> None:
        """Give a trial back that came to nothing."""
        if self._trials and not self.gone(slot):
            self._left[slot] += 1
            if self._left[slot] == 1:
                self._queue.append(slot)

    def set_regret(self, slot: int, regret: float | None) -> None:
        """Note an opponent's regret; None where it is not known."""
        if regret is None or self.gone(slot):
            self._order.discard(slot)
        else:
            self._order.set(slot, regret)

    def distribution(self, otherwise: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
        """The probability of each opponent at the next draw, given that of the choice of others.

        Returns:
            By position in the space; None where it is not known.
        """
        n = self._space.num_tasks
        if n is None or n > MOST_TASKS:
            return None
        certain = np.zeros(n)
        if self._queue:
            certain[self._space.index(self.tasks[self._queue[0]])] = 1.0
            return certain
        best = self.best()
        if best is None or otherwise is None:
            return otherwise
        certain[self._space.index(self.tasks[best])] = 1.0
        mixed: NDArray[np.float64] = (1.0 - self._uniform_prob) * certain + self._uniform_prob * otherwise
        return mixed

    def metrics(self) -> dict[str, float]:
        """How many opponents there are and wait for a trial, and their regrets."""
        regrets = self._order.keys
        regrets = regrets[~np.isnan(regrets)]
        return {
            "opponents": float(len(self.tasks) - len(self._gone)),
            "opponents_on_trial": float(len(self._queue)),
            "regret_mean": float(regrets.mean()) if len(regrets) else 0.0,
            "regret_max": float(regrets.max()) if len(regrets) else 0.0,
        }

    def state(self) -> dict[str, Any]:
        """Everything but the regrets, as plain values."""
        return {
            "tasks": [plain(task) for task in self.tasks],
            "left": list(self._left),
            "gone": sorted(self._gone),
            "queue": list(self._queue),
        }

    def restored(self, state: Mapping[str, Any]) -> RegretChoice:
        """Another choice like this one, from `state()`.

        Raises:
            StateError: it is no such state.
        """
        choice = RegretChoice(self._space, self._uniform_prob, self._trials)
        try:
            gone = {int(slot) for slot in state["gone"]}
            tasks = [_present_or_past(self._space, task) for task in state["tasks"]]
            left = [int(turns) for turns in state["left"]]
            queue = [int(slot) for slot in state["queue"]]
        except (KeyError, TypeError, ValueError) as error:
            raise StateError(f"The state's opponents are damaged: {error!r}.") from error
        if len(left) != len(tasks) or not {*gone, *queue} <= set(range(len(tasks))):
            raise StateError(f"The state's {len(tasks)} opponents do not fit their turns {left} and {queue}.")
        for task in tasks:
            choice._add(task)
        choice._left, choice._gone, choice._queue = left, gone, deque(queue)
        return choice


def _present_or_past(space: TaskSpace, opponent: Any) -> Any:
    return opponent if space.was_removed(opponent) else space.check(opponent)

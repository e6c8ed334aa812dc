"""Robust PLR and ACCEL: new levels are evaluated, and only replayed ones are trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from macurr.curricula.plr.buffer import LevelBuffer
from macurr.curricula.plr.curriculum import PrioritizedLevelReplay
from macurr.curriculum import check_state
from macurr.errors import StateError, TaskError, UsageError
from macurr.spaces import TaskSpace
from macurr.spaces.forms import plain

Mutate = Callable[[Any, np.random.Generator], Any]
"""From an encoded task to a changed one."""


class RobustPLR(PrioritizedLevelReplay):
    """Prioritized Level Replay whose learner does not train on new levels (PLR-perp).

    Jiang et al., "Replay-Guided Adversarial Environment Design" (2021): new levels are played and scored like all
    others, but their steps take no part in the gradient, so that the learner trains on nothing but the levels that
    replay has chosen. `infos[agent]["train_on_task"]` says which steps to use: 1 on replayed
    levels, 0 on new ones. The paper's settings for mazes are
    `strategy="max_mc", staleness_coef=0.3, replay_schedule="fixed", rho=0.5, buffer_size=4000`.

    Args:
        task_space: The levels.
        **options: Those of `PrioritizedLevelReplay`.
    """

    @override
    def task_info(self, task: Any) -> Mapping[str, float]:
        """`infos[agent]["train_on_task"]`: 1 where the level was replayed, 0 where it is only evaluated."""
        return {**super().task_info(task), "train_on_task": int(self.trains_on([task])[0])}

    def trains_on(self, tasks: Sequence[Any]) -> NDArray[np.bool_]:
        """Which tasks to train on: those whose latest draw was a replay.

        Args:
            tasks: Encoded tasks, for instance those that `infos[agent]["task"]` names, k of them.

        Returns:
            Shape (k,). Where several environments play the same new level at once and one of them scores it,
            a replay of it counts for all of them.

        Raises:
            TaskError: a task is not in the space.
        """
        slots = [self._levels.slot(task) for task in tasks]
        return np.array([slot is not None and bool(self._levels.replayed[slot]) for slot in slots], np.bool_)


class ACCEL(RobustPLR):
    """Robust PLR that edits the levels it replays (Parker-Holder et al., 2022).

    After a replayed level comes, with probability `edit_prob`, a level that `num_edits` mutations have made of it.
    It is evaluated like a new level, and enters the buffer if it scores high enough. So levels grow out of those
    that the learner can almost solve. The paper's settings for mazes are `strategy="positive_value_loss",
    temperature=0.3, staleness_coef=0.3, replay_schedule="fixed", replay_prob=0.8, rho=0.5, buffer_size=4000`.

    Args:
        task_space: The levels.
        mutate: Makes one small change: `mutate(task, rng)` returns another encoded task of the space, and leaves
            the one it is given as it is.
        buffer_size: How many levels to keep.
        edit_prob: Probability of editing a replayed level.
        num_edits: Mutations from a level to its edited form.
        **options: The others of `PrioritizedLevelReplay`.

    Raises:
        UsageError: `edit_prob` is no probability, or `num_edits` is less than 1.
    """

    def __init__(
        self,
        task_space: TaskSpace,
        mutate: Mutate,
        *,
        buffer_size: int = 4000,
        edit_prob: float = 1.0,
        num_edits: int = 5,
        **options: Any,
    ) -> None:
        if not 0.0 <= edit_prob <= 1.0 or num_edits < 1:
            raise UsageError(
                f"edit_prob must be from 0 to 1 and num_edits 1 or more; got {edit_prob!r} and {num_edits!r}."
            )
        super().__init__(task_space, buffer_size=buffer_size, **options)
        self._mutate, self._edit_prob, self._num_edits = mutate, edit_prob, num_edits
        self._edited: list[Any] = []

    @override
    def _choose(self) -> tuple[Any, int | None, bool]:
        if self._edited and isinstance(self._levels, LevelBuffer):
            task = self._edited.pop()
            return task, self._levels.expect(task), False
        task, slot, replayed = super()._choose()
        if replayed and self.rng.random() < self._edit_prob:
            self._edited.append(self._edit(task))
        return task, slot, replayed

    def _edit(self, task: Any) -> Any:
        for _ in range(self._num_edits):
            edited = self._mutate(task, self.rng)
            if not self.task_space.contains(edited):
                raise TaskError(
                    f"mutate made {edited!r} of {task!r}, which is not in {self.task_space!r}. It must return an "
                    "encoded task of the space."
                )
            task = edited
        return self.task_space.check(task)

    @override
    def distribution(self) -> NDArray[np.float64] | None:
        """The probability of each task of a finite space at the next draw; an edited level that waits is next."""
        found = super().distribution()
        if found is not None and self._edited and self._started >= self.random_start_tasks:
            found = np.zeros_like(found)
            found[self.task_space.index(self._edited[-1])] = 1.0
        return found

    @override
    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "edited": [plain(task) for task in self._edited]}

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_state(state, type(self).__name__, {"edited"})
        try:
            edited = [self.task_space.check(task) for task in state["edited"]]
        except (TypeError, ValueError) as error:
            raise StateError(f"The state's edited levels are not of {self.task_space!r}: {error}") from error
        super().load_state_dict(state)
        self._edited = edited

"""Curricula that hand every update on to others, each with the task as that one knows it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from typing_extensions import override

from macurr.curriculum import Curriculum
from macurr.messages import StepBatch


class RoutedCurriculum(Curriculum):
    """Passes updates on. Subclasses say to whom."""

    @abstractmethod
    def _routes(self, task: Any, env_id: int | None) -> Sequence[tuple[Curriculum, Any]]:
        """Who learns from an environment's task, and what each of them calls it.

        Raises:
            TaskError: the task is of another form; nothing is changed.
        """

    @override
    def update_on_step(
        self,
        task: Any,
        obs: Any,
        reward: Any,
        term: Any,
        trunc: Any,
        info: Any,
        progress: Any,
        env_id: int | None = None,
    ) -> None:
        """Pass one step on to whoever requires steps."""
        for curriculum, own in self._routes(task, env_id):
            if curriculum.requires_step_updates:
                curriculum.update_on_step(own, obs, reward, term, trunc, info, progress, env_id=env_id)

    @override
    def update_on_step_batch(self, batch: StepBatch) -> None:
        """Pass steps on to whoever requires them."""
        for curriculum, own in self._routes(batch.task, batch.env_id):
            if curriculum.requires_step_updates:
                curriculum.update_on_step_batch(replace(batch, task=own))

    @override
    def update_on_episode(
        self, episode_return: Any, length: int, task: Any, progress: Any, env_id: int | None = None
    ) -> None:
        """Pass an episode's result on, once everybody concerned accepts it."""
        self.check_env(env_id)
        self.check_episode(episode_return, length, task)
        for curriculum, own in self._routes(task, env_id):
            curriculum.update_on_episode(episode_return, length, own, progress, env_id=env_id)

    @override
    def update_on_abort(self, task: Any, env_id: int | None = None) -> None:
        """Tell everybody concerned that an episode was given up."""
        for curriculum, own in self._routes(task, env_id):
            curriculum.update_on_abort(own, env_id)

    @override
    def update_task_progress(self, task: Any, progress: Any, env_id: int | None = None) -> None:
        """Pass task completion on."""
        for curriculum, own in self._routes(task, env_id):
            curriculum.update_task_progress(own, progress, env_id)

"""What curricula made of other curricula share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from typing_extensions import override

from macurr.curricula._origins import Origins
from macurr.curricula._states import StateReader
from macurr.curriculum import Curriculum
from macurr.errors import StateError, UsageError
from macurr.messages import EnvSpec, StepBatch
from macurr.options import OptionsOfParts
from macurr.spaces import TaskSpace

__all__ = ["Composite"]


class Composite(OptionsOfParts, Curriculum):
    """A curriculum that draws each task from one of its parts, and tells the parts what came of it.

    Args:
        task_space: The tasks; those of every part lie in it.
        parts: The curricula.
        options: The base class's keywords.

    Raises:
        UsageError: there are no parts, a part is no curriculum, or one is given twice.
    """

    def __init__(self, task_space: TaskSpace, parts: Sequence[Curriculum], **options: Any) -> None:
        super().__init__(task_space, **options)
        strangers = [part for part in parts if not isinstance(part, Curriculum)]
        if not parts or strangers:
            raise UsageError(f"{type(self).__name__} is made of curricula; got {strangers or parts!r}.")
        if len({id(part) for part in parts}) < len(parts):
            raise UsageError(f"{type(self).__name__} got the same curriculum twice. Make one for each place.")
        self.parts = tuple(parts)
        self.single_agent = any(part.single_agent for part in parts)
        self._origins = Origins(task_space)
        self._last_drawn = 0

    @override
    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({list(self.parts)!r})" if hasattr(self, "parts") else super().__repr__()
        )

    @abstractmethod
    def _receivers(self, task: Any, source: int | None) -> Sequence[int]:
        """Which parts learn from a task that part `source` drew, or nobody known."""

    def _draw_from(self, part: int) -> Any:
        task = self.task_space.check(self.parts[part].sample()[0])
        self._origins.drew(task, part)
        self._last_drawn = part
        return task

    @override
    def task_info(self, task: Any) -> Mapping[str, float]:
        return self.parts[self._last_drawn].task_info(task)

    @override
    @property
    def requires_step_updates(self) -> bool:
        return any(part.requires_step_updates for part in self.parts)

    @override
    @property
    def step_fields(self) -> frozenset[str]:
        return frozenset().union(*(part.step_fields for part in self.parts))

    @override
    def register_env(self, env_id: int, spec: EnvSpec) -> None:
        super().register_env(env_id, spec)
        for part in self.parts:
            part.register_env(env_id, spec)

    @override
    def unregister_env(self, env_id: int) -> None:
        super().unregister_env(env_id)
        self._origins.left(env_id)
        for part in self.parts:
            part.unregister_env(env_id)

    def _playing(self, task: Any, env_id: int | None) -> Sequence[int]:
        """Who learns from the episode that an environment is playing."""
        self.check_env(env_id)
        return self._receivers(task, self._origins.current(task, env_id))

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
        for part in self._playing(task, env_id):
            if self.parts[part].requires_step_updates:
                self.parts[part].update_on_step(task, obs, reward, term, trunc, info, progress, env_id)

    @override
    def update_on_step_batch(self, batch: StepBatch) -> None:
        for part in self._playing(batch.task, batch.env_id):
            if self.parts[part].requires_step_updates:
                self.parts[part].update_on_step_batch(batch)

    @override
    def update_task_progress(self, task: Any, progress: Any, env_id: int | None = None) -> None:
        for part in self._playing(task, env_id):
            self.parts[part].update_task_progress(task, progress, env_id)

    @override
    def update_on_episode(
        self, episode_return: Any, length: int, task: Any, progress: Any, env_id: int | None = None
    ) -> None:
        self.check_env(env_id)
        removed = self.task_space.was_removed(task)
        if not removed:
            self.check_episode(episode_return, length, task)
            for part in self._receivers(task, self._origins.peek(task, env_id)):
                self.parts[part].update_on_episode(episode_return, length, task, progress, env_id)
        self._origins.ended(task, env_id)
        if not removed:
            super().update_on_episode(episode_return, length, task, progress, env_id)

    @override
    def update_on_abort(self, task: Any, env_id: int | None = None) -> None:
        source = self._origins.peek(task, env_id)
        self._origins.ended(task, env_id)
        for part in self._receivers(task, source):
            self.parts[part].update_on_abort(task, env_id)

    @override
    def update_on_demand(self, metrics: Mapping[str, Any]) -> None:
        with self._with_options(metrics) as told:
            for part in self.parts:
                part.update_on_demand(told)

    @override
    def metrics(self) -> dict[str, float]:
        return {
            f"{part}/{name}": value
            for part, own in self._option_parts().items()
            for name, value in own.metrics().items()
        }

    @override
    def _option_parts(self) -> Mapping[str, Curriculum]:
        return {f"{i}_{type(part).__name__}": part for i, part in enumerate(self.parts)}

    @override
    def state_dict(self) -> dict[str, Any]:
        return {
            **super().state_dict(),
            "parts": [part.state_dict() for part in self.parts],
            "out": self._origins.state(),
        }

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        reader = StateReader(state, type(self).__name__, {"parts", "out"})
        states = reader["parts"]
        if not isinstance(states, list) or len(states) != len(self.parts):
            raise reader.fail("parts", f"a list of {len(self.parts)} states")
        origins = self._origins.loaded(reader["out"], len(self.parts))
        before = [part.state_dict() for part in self.parts]
        try:
            for part, saved in zip(self.parts, states, strict=True):
                part.load_state_dict(saved)
            super().load_state_dict(state)
        except StateError:
            # A part checks its own state only: what the parts before it have loaded is taken back.
            for part, saved in zip(self.parts, before, strict=True):
                part.load_state_dict(saved)
            raise
        self._origins = origins

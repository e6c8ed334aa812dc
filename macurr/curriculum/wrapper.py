"""A curriculum around another one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from macurr.curriculum.base import Curriculum
from macurr.curriculum.states import State, check_state
from macurr.errors import UsageError
from macurr.messages import EnvSpec, StepBatch
from macurr.spaces import TaskSpace

__all__ = ["CurriculumWrapper"]


class CurriculumWrapper(Curriculum):
    """A curriculum around another one. Everything is passed on; subclasses change what they are about.

    Args:
        curriculum: The curriculum to wrap.
        task_space: The tasks of the wrapper, where they differ.

    Raises:
        UsageError: `curriculum` is no curriculum.
    """

    def __init__(self, curriculum: Curriculum, task_space: TaskSpace | None = None) -> None:
        if not isinstance(curriculum, Curriculum):
            raise UsageError(f"{type(self).__name__} wraps a Curriculum; got {curriculum!r}.")
        super().__init__(curriculum.task_space if task_space is None else task_space)
        self.curriculum = curriculum
        self.rng = curriculum.rng
        self.task_names = curriculum.task_names
        self.stats = curriculum.stats
        self.single_agent = curriculum.single_agent

    @override
    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.curriculum!r})"
            if hasattr(self, "curriculum")
            else super().__repr__()
        )

    @override
    @property
    def requires_step_updates(self) -> bool:
        return self.curriculum.requires_step_updates

    @override
    @property
    def step_fields(self) -> frozenset[str]:
        return self.curriculum.step_fields

    @override
    def register_env(self, env_id: int, spec: EnvSpec) -> None:
        self.curriculum.register_env(env_id, spec)

    @override
    def unregister_env(self, env_id: int) -> None:
        self.curriculum.unregister_env(env_id)

    @override
    def sample(self, k: int = 1) -> list[Any]:
        return self.curriculum.sample(k)

    @override
    def task_info(self, task: Any) -> Mapping[str, float]:
        return self.curriculum.task_info(task)

    @override
    def distribution(self) -> NDArray[np.float64] | None:
        return self.curriculum.distribution()

    @override
    def update_on_step(self, *args: Any, **kwargs: Any) -> None:
        self.curriculum.update_on_step(*args, **kwargs)

    @override
    def update_on_step_batch(self, batch: StepBatch) -> None:
        self.curriculum.update_on_step_batch(batch)

    @override
    def update_on_episode(self, *args: Any, **kwargs: Any) -> None:
        self.curriculum.update_on_episode(*args, **kwargs)

    @override
    def update_on_abort(self, task: Any, env_id: int | None = None) -> None:
        self.curriculum.update_on_abort(task, env_id)

    @override
    def update_task_progress(self, task: Any, progress: Any, env_id: int | None = None) -> None:
        self.curriculum.update_task_progress(task, progress, env_id)

    @override
    def update_on_demand(self, metrics: Mapping[str, Any]) -> None:
        self.curriculum.update_on_demand(metrics)

    @override
    def get_options(self) -> dict[str, Any]:
        return self.curriculum.get_options()

    @override
    def tunable_options(self) -> dict[str, tuple[float, float]]:
        return self.curriculum.tunable_options()

    @override
    def check_options(self, **options: Any) -> None:
        self.curriculum.check_options(**options)

    @override
    def set_options(self, **options: Any) -> None:
        self.curriculum.set_options(**options)

    @override
    def normalize(self, reward: float, task: Any) -> float:
        return self.curriculum.normalize(reward, task)

    @override
    def metrics(self) -> dict[str, float]:
        return self.curriculum.metrics()

    @override
    def state_dict(self) -> State:
        return {"type": type(self).__name__, "curriculum": self.curriculum.state_dict()}

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_state(state, type(self).__name__, {"curriculum"})
        self.curriculum.load_state_dict(state["curriculum"])

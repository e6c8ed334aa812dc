"""What a curriculum is: it hands out tasks, and learns from what came of them."""

from __future__ import annotations

import logging
import math
from abc import ABC
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from macurr.curriculum.registering import Registering
from macurr.curriculum.states import State, check_state
from macurr.errors import StateError, TaskError, UsageError
from macurr.messages import StepBatch
from macurr.options import Changeable
from macurr.scalars import write_scalars
from macurr.seeding import check_generator_state, generator_state, load_generator_state
from macurr.spaces import TaskSpace
from macurr.statistics import StatRecorder

__all__ = ["Curriculum"]

_logger = logging.getLogger("macurr")


class Curriculum(Changeable, Registering, ABC):
    """Decides what the next episode is about.

    Subclasses define `sample(k)`, or `_sample(k)` to keep `random_start_tasks` working, and whichever `update_*`
    methods they learn from; an overridden `update_on_episode` calls `super()` so that statistics are kept.
    Updates arrive in the PettingZoo format: `obs`, `reward`, `term`, `trunc`, `info`, `episode_return` and
    `progress` are mappings by agent. A curriculum that learns from one agent's plain values says so by
    `single_agent = True`; it then refuses multi-agent environments and names the wrappers that adapt it.

    A curriculum is not thread-safe: `macurr.CurriculumHost` owns it and serves it one call at a time.

    Args:
        task_space: The tasks to choose from.
        seed: Seed or generator for everything random in the curriculum.
        task_names: What to call a finite space's tasks in logs, in order of their positions.
        record_stats: Keep per-task statistics of the episodes (see `macurr.StatRecorder`).
        random_start_tasks: Number of tasks drawn uniformly before the curriculum takes over.

    Raises:
        UsageError: `task_space` is no task space, or `random_start_tasks` is negative.
    """

    def __init__(
        self,
        task_space: TaskSpace,
        *,
        seed: int | np.random.Generator | None = None,
        task_names: Sequence[str] | None = None,
        record_stats: bool = False,
        random_start_tasks: int = 0,
    ) -> None:
        if not isinstance(task_space, TaskSpace):
            raise UsageError(
                f"{type(self).__name__} needs a task space such as DiscreteTaskSpace(200); got {task_space!r}."
            )
        if random_start_tasks < 0:
            raise UsageError(f"random_start_tasks must be 0 or more; got {random_start_tasks}.")
        self.task_space = task_space
        self.rng = np.random.default_rng(seed)
        self.task_names = None if task_names is None else tuple(task_names)
        self.stats = StatRecorder(task_space) if record_stats else None
        self.random_start_tasks = random_start_tasks
        self._started = 0
        self._options_before = {}
        self._env_ids = set()
        self._any_env = False

    def __repr__(self) -> str:
        # Error messages show curricula, also those whose constructor has not come this far.
        space = repr(self.task_space) if hasattr(self, "task_space") else "..."
        return f"{type(self).__name__}({space})"

    # What to send

    @property
    def requires_step_updates(self) -> bool:
        """Whether environments have to send their steps. Nothing is collected when False."""
        return False

    @property
    def step_fields(self) -> frozenset[str]:
        """Which of "rewards", "dones", "observations", "infos" and "progress" steps must hold."""
        return frozenset({"rewards", "dones"}) if self.requires_step_updates else frozenset()

    # Tasks

    def sample(self, k: int = 1) -> list[Any]:
        """Choose tasks.

        Args:
            k: How many.

        Returns:
            A list of k encoded tasks.
        """
        if k > 0 and self._started >= self.random_start_tasks:
            return list(self._sample(k))
        start = [
            self.task_space.sample(self.rng) for _ in range(min(k, self.random_start_tasks - self._started))
        ]
        self._started += len(start)
        return start + self._sample(k - len(start)) if len(start) < k else start

    def _sample(self, k: int) -> list[Any]:
        """Choose k tasks once the random start is over."""
        raise UsageError(
            f"{type(self).__name__} defines neither sample(k) nor _sample(k). Define one of them."
        )

    def task_info(self, task: Any) -> Mapping[str, float]:
        """Numbers that go with a task that has just been drawn, into `infos[agent]` of its episode.

        What the learner has to know about the draw, such as whether to train on it. The environment's reset gets them
        too, where there are any, as `options["task_info"]`. Empty by default.
        """
        return {}

    def distribution(self) -> NDArray[np.float64] | None:
        """The probability of each task of a finite space at the next draw, in order; None if there is none."""
        return None

    # Updates

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
        """Learn from one environment step."""

    def update_on_step_batch(self, batch: StepBatch) -> None:
        """Learn from consecutive steps of one environment. By default `update_on_step` gets each of them."""
        for step in batch.steps():
            self.update_on_step(batch.task, *step, env_id=batch.env_id)

    def update_on_episode(
        self, episode_return: Any, length: int, task: Any, progress: Any, env_id: int | None = None
    ) -> None:
        """Learn from an episode that ran to its end.

        Args:
            episode_return: Undiscounted return, by agent or plain.
            length: Number of environment steps.
            task: The encoded task.
            progress: Task completion at the end, by agent or plain.
            env_id: The environment's id.

        Raises:
            TaskError: the task is not in the space, a number is not finite, or the length is negative.
            UsageError: the environment is not registered.
        """
        self.check_env(env_id)
        self.check_episode(episode_return, length, task)
        self._record_episode(episode_return, length, task)

    def _record_episode(self, episode_return: Any, length: int, task: Any) -> None:
        """Keep the statistics of an episode that has been checked."""
        if self.stats is not None:
            self.stats.record(task, episode_return, length)

    def update_on_abort(self, task: Any, env_id: int | None = None) -> None:
        """Learn that an episode was given up before its end: its task goes back, and it counts in nothing."""

    def update_task_progress(self, task: Any, progress: Any, env_id: int | None = None) -> None:
        """Learn how far a task has been completed (0 to 1), by agent or plain."""

    def update_on_demand(self, metrics: Mapping[str, Any]) -> None:
        """Learn from whatever the learner wants to tell: scores, rollouts, losses.

        Every curriculum takes `{"options": {...}}`, the arguments of `set_options`, from afar.

        Raises:
            UsageError: the options cannot be set; nothing is changed.
        """
        with self._with_options(metrics):
            pass

    def check_episode(self, episode_return: Any, length: int, task: Any) -> None:
        """Refuse an episode result that no environment can have meant.

        Raises:
            TaskError: the task is not in the space, a return is not finite, or the length is negative.
        """
        self.task_space.check(task)
        if type(episode_return) is float:  # nearly always, and in every layer of a nest of curricula
            finite = math.isfinite(episode_return)
        else:
            by_agent = type(episode_return) is dict or isinstance(episode_return, Mapping)
            returns = episode_return.values() if by_agent else (episode_return,)
            finite = all(map(math.isfinite, returns))
        if not finite:
            raise TaskError(
                f"The return {episode_return!r} on task {task!r} is not finite. Check the environment's rewards."
            )
        if length < 0:
            raise TaskError(f"The episode length {length!r} on task {task!r} is negative.")

    def normalize(self, reward: float, task: Any) -> float:
        """Scale a reward by the running statistics of its task's returns.

        Raises:
            UsageError: the curriculum was made without `record_stats=True`.
        """
        if self.stats is None:
            raise UsageError(
                f"normalize needs statistics: make {type(self).__name__} with record_stats=True."
            )
        return self.stats.normalize(reward, task)

    # Watching

    def metrics(self) -> dict[str, float]:
        """Numbers that describe the curriculum now. By default, the entropy of its distribution in nats."""
        probabilities = self.distribution()
        if probabilities is None:
            return {}
        positive = probabilities[probabilities > 0]
        return {"entropy": float(-(positive * np.log(positive)).sum())}

    def log_metrics(self, writer: Any, step: int | None = None, log_n_tasks: int = 0) -> None:
        """Write `metrics()`, and the most likely tasks' probabilities, to TensorBoard or Weights & Biases.

        A writer that fails is reported to the "macurr" logger; training goes on.

        Args:
            writer: A SummaryWriter (anything with `add_scalar`), or a wandb run (anything with `log`).
            step: The x-axis value.
            log_n_tasks: How many of the most likely tasks to write.
        """
        try:
            write_scalars(writer, self._scalars(log_n_tasks), step)
        except Exception:  # a full disk or a lost logging server must not end a training run
            _logger.exception("Could not log the metrics of %s.", type(self).__name__)

    def _scalars(self, log_n_tasks: int) -> dict[str, float]:
        scalars = {f"curriculum/{name}": value for name, value in self.metrics().items()}
        probabilities = self.distribution() if log_n_tasks > 0 else None
        if probabilities is not None:
            for i in np.argsort(-probabilities, kind="stable")[:log_n_tasks]:
                scalars[f"curriculum/probability/{self.task_name(int(i))}"] = float(probabilities[i])
        return scalars

    def task_name(self, index: int) -> str:
        """What to call the task at a position of a finite space."""
        if self.task_names is not None and index < len(self.task_names):
            return self.task_names[index]
        return self.task_space.name(self.task_space.from_index(index))

    # State

    def state_dict(self) -> State:
        """Everything that the curriculum has learned, its random generator included.

        Returns:
            A nest of dicts with string keys, lists, plain values and NumPy arrays, independent of this object.
        """
        state: State = {
            "type": type(self).__name__,
            "rng": generator_state(self.rng),
            "started": self._started,
            **self._options_state(),
        }
        if self.stats is not None:
            state["stats"] = self.stats.state_dict()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()`: built the same way and loaded, a curriculum behaves the same.

        Raises:
            StateError: the state belongs to another kind of curriculum or lacks something; nothing is changed.
        """
        further = {"stats"} if self.stats else set()
        check_state(state, type(self).__name__, {"rng", "started", *further, *self._options_state()})
        started = state["started"]
        if not isinstance(started, int) or isinstance(started, bool) or started < 0:
            raise StateError(f"The number of tasks drawn at the start must be 0 or more; got {started!r}.")
        check_generator_state(self.rng, state["rng"])
        options = self._options_in(state)
        if self.stats is not None:
            self.stats.load_state_dict(state["stats"])
        self._load_options(options, state)
        load_generator_state(self.rng, state["rng"])
        self._started = started

"""The host itself: it hands out the tasks of its curriculum and routes the updates to it."""

from __future__ import annotations

from macurr.curriculum import Curriculum
from macurr.host.records import Assignment, EnvRecord
from macurr.host.state import Resumable
from macurr.messages import EpisodeAborted, EpisodeResult, StepBatch, TaskProgress, Update

_ENDS = (EpisodeResult, EpisodeAborted)


class CurriculumHost(Resumable):
    """Owns a curriculum and serves it, one call at a time, to environments and to the learner.

    Every call holds one lock. An exception that the curriculum raises while it handles an environment's request
    ends the service: this call and all later ones raise `CurriculumError` with the original as the cause. What
    the learner passes in wrongly is the learner's error alone and ends nothing.

    Args:
        curriculum: The curriculum; nobody else may call it from now on.
        max_envs: Only the first that many environments send step updates; None for all.

    Raises:
        UsageError: `curriculum` is no curriculum, or `max_envs` is negative.
    """

    def draw(self, env_id: int, k: int, *, start: bool) -> list[Assignment]:
        """Draw tasks for an environment.

        Args:
            env_id: The environment.
            k: How many.
            start: Whether the first of them is begun at once, rather than kept in stock.

        Raises:
            CurriculumError: the curriculum has failed, or fails now.
        """
        self._acquire()
        try:
            env = self._env(env_id)
            with self._serving() as curriculum:
                drawn = [self._assign(curriculum) for _ in range(k)]
            self.counters.tasks += k
            env.stock.extend([(assignment.encoded, self.counters.updates) for assignment in drawn])
            if start:
                self.start(env_id)
            return drawn
        finally:
            self._lock.release()

    def _assign(self, curriculum: Curriculum) -> Assignment:
        # One at a time: what goes with a task is said of the latest draw.
        task = self._returned.popleft() if self._returned else curriculum.sample(1)[0]
        return Assignment(task, curriculum.task_space.decode(task), dict(curriculum.task_info(task)))

    def start(self, env_id: int, wait: float = 0.0) -> None:
        """Note that an environment begins the oldest task of its stock, having waited `wait` seconds for it."""
        self._acquire()
        try:
            env = self._env(env_id)
            task, version = env.stock.popleft()
            env.begun.append(task)
            c = self.counters
            lag = c.updates - version
            c.started += 1
            c.lag_sum += lag
            c.wait_sum += wait
            c.lag_max = max(c.lag_max, lag)
            c.wait_max = max(c.wait_max, wait)
        finally:
            self._lock.release()

    def apply(self, update: Update) -> None:
        """Apply one update.

        Raises:
            CurriculumError: the curriculum has failed, or fails now.
        """
        self._acquire()
        try:
            self._count(update, self._env(update.env_id))
            with self._serving() as curriculum:
                if curriculum.task_space.was_removed(update.task):
                    # The task left the space while it was played: nobody wants to know any more.
                    self.counters.late += 1
                    if isinstance(update, _ENDS):
                        curriculum.update_on_abort(update.task, env_id=update.env_id)
                else:
                    _dispatch(curriculum, update)
        finally:
            self._lock.release()

    def _count(self, update: Update, env: EnvRecord) -> None:
        self.counters.updates += 1
        if isinstance(update, StepBatch):
            self.counters.steps += len(update)
        elif isinstance(update, _ENDS):
            if env.begun:
                env.begun.popleft()
            if isinstance(update, EpisodeResult):
                self.counters.episodes += 1
            else:
                self.counters.aborted += 1


def _dispatch(curriculum: Curriculum, update: Update) -> None:
    if isinstance(update, EpisodeResult):
        curriculum.update_on_episode(
            update.episode_return, update.length, update.task, update.progress, env_id=update.env_id
        )
    elif isinstance(update, StepBatch):
        curriculum.update_on_step_batch(update)
    elif isinstance(update, TaskProgress):
        curriculum.update_task_progress(update.task, update.progress, env_id=update.env_id)
    elif isinstance(update, EpisodeAborted):
        curriculum.update_on_abort(update.task, env_id=update.env_id)

"""One update after the other: collect, then train; or both at the same time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from macurr.errors import TrainingError
from macurr.training.background import BackgroundTraining
from macurr.training.batch import BatchPlan
from macurr.training.clock import Clock
from macurr.training.collector import Collector
from macurr.training.config import TrainConfig
from macurr.training.learner import Learner, LearnerReport
from macurr.training.rollout import Episode, Rollout

__all__ = ["AsynchronousLoop", "Collecting", "Loop", "SynchronousLoop", "make_loop"]

_LOOK_AROUND = 0.2
"""Seconds between two looks while collection is paused."""
_PATIENCE = 8.0
"""Seconds that the learner gets at the end to finish the dataset that it is at."""


class Collecting(Protocol):
    """What collects, in this process or in one of its own; see `Collector`."""

    clock: Clock
    strays: list[Episode]
    paused: bool

    @property
    def busy(self) -> bool:
        """Whether a frame is under way."""

    def pump(self) -> list[Rollout]:
        """The rollouts that are complete by now; waits for something to happen."""

    def wake(self) -> None:
        """Let who is in `pump` return soon."""

    def take_steps(self) -> int:
        """Environment steps since they were last taken."""

    def state_dict(self, *, whole: bool) -> dict[str, Any]:
        """Chance, and where `whole` what groups remember and the environments themselves."""


class Loop(Protocol):
    """Gives updates."""

    @property
    def settled(self) -> bool:
        """Whether no policy is half trained."""

    def update(self) -> LearnerReport:
        """The next update.

        Raises:
            MacurrError: an environment, the curriculum or the training failed.
        """

    def close(self) -> list[LearnerReport]:
        """End; what was trained since the last update."""


class SynchronousLoop:
    """Collects exactly `plan.rounds` rollouts of every environment, then trains on all of them.

    Args:
        collector: Collects.
        learner: Trains.
        plan: How much makes an update.
        progress: How much of the run is done, from 0 to 1.
    """

    def __init__(
        self, collector: Collector, learner: Learner, plan: BatchPlan, progress: Callable[[], float]
    ) -> None:
        self._collector, self._learner, self._plan, self._progress = collector, learner, plan, progress
        self.settled = True

    def update(self) -> LearnerReport:
        """Collect, then train."""
        rollouts = self._collector.collect(self._plan.rounds)
        self.settled = False
        try:
            report = self._learner.train(rollouts, self._progress())
        except TrainingError:
            self.settled = True  # what it happened to is as it was before
            raise
        self._collector.clock.add("train", time.perf_counter() - report.seconds)
        self.settled = True
        return report

    def close(self) -> list[LearnerReport]:
        """Nothing is under way."""
        return []


class AsynchronousLoop:
    """Collects all the time, and trains in a thread of its own.

    A collector in a process of its own shares no interpreter with that thread. Where as many datasets wait for the
    learner as may, everybody pauses until it takes one.

    Args:
        collector: Collects.
        learner: Trains; its collectors act by copies.
        plan: How much makes a dataset.
        progress: How much of the run is done, from 0 to 1.
        bound: Most datasets that may wait.
    """

    def __init__(
        self,
        collector: Collecting,
        learner: Learner,
        plan: BatchPlan,
        progress: Callable[[], float],
        bound: int,
    ) -> None:
        self._collector, self._plan, self._progress = collector, plan, progress
        self._backlog: list[Rollout] = []
        self._size = 0
        self._reports: deque[LearnerReport] = deque()
        self.background = BackgroundTraining(learner.train, bound, collector.wake)
        self.settled = True

    def update(self) -> LearnerReport:
        """Collect until the learner is done with a dataset."""
        while not self._reports:
            self._reports.extend(self.background.take())
            self._feed()
            self._collector.paused = self.background.full
            if self._collector.paused and not self._collector.busy:
                begun = time.perf_counter()
                self.background.wait(_LOOK_AROUND)
                self._collector.clock.add("paused", begun)
                continue
            for rollout in self._collector.pump():
                self._backlog.append(rollout)
                self._size += rollout.samples
        return self._reports.popleft()

    def close(self) -> list[LearnerReport]:
        """Let the learner finish what it is at; what has only been collected is dropped."""
        self.settled = self.background.stop(_PATIENCE)
        while True:
            try:
                found = self.background.take()
            except BaseException:  # it has been told, or is less than why the run ends
                break
            if not found:
                break
            self._reports.extend(found)
        return list(self._reports)

    def _feed(self) -> None:
        """Hand over the datasets that are complete, as long as they may wait."""
        while self._size >= self._plan.dataset and not self.background.full:
            dataset: list[Rollout] = []
            size = 0
            while size < self._plan.dataset:
                dataset.append(self._backlog.pop(0))
                size += dataset[-1].samples
            self._size -= size
            self.background.put(dataset, self._progress())


def make_loop(
    config: TrainConfig,
    collector: Collecting,
    learner: Learner,
    plan: BatchPlan,
    progress: Callable[[], float],
) -> Loop:
    """The loop that a run's settings ask for."""
    if isinstance(collector, Collector) and not config.asynchronous:
        return SynchronousLoop(collector, learner, plan, progress)
    return AsynchronousLoop(collector, learner, plan, progress, config.num_batches_to_accumulate)

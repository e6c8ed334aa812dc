"""What a run tells while it goes on, and what it comes to."""

from __future__ import annotations

import dataclasses

from macurr.training.config import TrainConfig
from macurr.training.evaluation import Evaluation
from macurr.training.rundir import RunDir

__all__ = ["Listener", "Status", "TrainResult"]


@dataclasses.dataclass(frozen=True)
class Status:
    """Where a run stands, after each update.

    Attributes:
        done: Share of the run that is done, 0 to 1.
        update: Updates so far.
        steps: Environment steps so far.
        seconds: Seconds of training so far, over all sittings.
        speed: Environment steps per second of the last update, its training included.
        win_rate: Wins plus half the draws of the learners in their latest 1000 episodes against the pool; None where
            everybody learns, and before the first of these episodes has ended.
        levels_seen: Training levels played at least once.
        pool: Snapshots in the pool.
        learner_return: Mean return of the learners in the episodes that ended with the latest update; None before.
        lag: Mean age of the samples of the latest update, in gradient steps of their policy; None where collection
            waits for training.
        level_entropy: Entropy of the curriculum's distribution over levels in nats; None before the first update.
    """

    done: float
    update: int
    steps: int
    seconds: float
    speed: float
    win_rate: float | None
    levels_seen: int
    pool: int
    learner_return: float | None = None
    lag: float | None = None
    level_entropy: float | None = None


class Listener:
    """Is told how a run gets on. Override what is of interest."""

    def began(self, run: RunDir, config: TrainConfig) -> None:
        """The run has a directory, and its environments are about to start."""

    def updated(self, status: Status) -> None:
        """An update is over."""

    def evaluating(self, done: int, total: int) -> None:
        """So many of so many matches of the evaluation are over."""


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """What a run came to.

    Attributes:
        run: Its directory.
        status: Where it ended.
        evaluation: How the final policy fared on held-out levels.
    """

    run: RunDir
    status: Status
    evaluation: Evaluation

    def table(self, width: int | None = None) -> str:
        """The evaluation as a table.

        Args:
            width: Characters of a line, for which columns give way; None for as many as it takes.
        """
        return self.evaluation.table(width)

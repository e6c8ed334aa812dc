"""Training in the background: a thread that is fed datasets, and tells what came of each."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

from macurr.training.learner import LearnerReport
from macurr.training.rollout import Rollout

__all__ = ["BackgroundTraining"]

Train = Callable[[Sequence[Rollout], float], LearnerReport]


class BackgroundTraining:
    """One thread that trains on datasets in the order in which they come.

    torch lets go of the interpreter while it computes, so that the thread that collects goes on meanwhile. The thread
    is a daemon: a process that ends does not wait for it.

    Args:
        train: Trains on a dataset, given how much of the run is done.
        bound: Most datasets that may wait.
        told: Is called, in the thread, whenever there is something to take.
    """

    def __init__(self, train: Train, bound: int, told: Callable[[], None] = lambda: None) -> None:
        self._train, self._bound, self._told = train, bound, told
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Sequence[Rollout], float]] = deque()
        self._reports: deque[LearnerReport] = deque()
        self._failure: BaseException | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="macurr-learner", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Datasets that wait for the thread."""
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether as many datasets wait as may; whoever collects has to pause."""
        return len(self._waiting) >= self._bound

    def put(self, rollouts: Sequence[Rollout], progress: float) -> None:
        """Give the thread a dataset. Not to be called while `full`."""
        with self._changed:
            self._waiting.append((rollouts, progress))
            self._changed.notify_all()

    def take(self) -> list[LearnerReport]:
        """What came of the datasets that are done, oldest first.

        Raises:
            BaseException: what the thread failed with, once all earlier reports were taken; again at every call.
        """
        with self._changed:
            taken = list(self._reports)
            self._reports.clear()
        if self._failure is not None and not taken:
            raise self._failure
        return taken

    def wait(self, seconds: float) -> None:
        """Wait until something is done or has failed, at most so long."""
        with self._changed:
            self._changed.wait_for(lambda: self._reports or self._failure or not self.full, seconds)

    def stop(self, seconds: float) -> bool:
        """Let the thread finish the dataset that it is at, and drop those that wait.

        Args:
            seconds: How long to wait for it.

        Returns:
            Whether the thread has ended.
        """
        with self._changed:
            self._stopping = True
            self._waiting.clear()
            self._changed.notify_all()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._waiting or self._stopping)
                    if self._stopping:
                        return
                    rollouts, progress = self._waiting.popleft()
                    self._changed.notify_all()
                report = self._train(rollouts, progress)
                with self._changed:
                    self._reports.append(report)
                    self._changed.notify_all()
                self._told()
        except BaseException as error:  # whatever it is, the main thread has to know
            with self._changed:
                self._failure = error
                self._changed.notify_all()
            self._told()

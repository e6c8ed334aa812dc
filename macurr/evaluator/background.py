"""Evaluations beside training: asked for in passing, told to the curriculum when they are done."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from threading import Condition, Thread
from types import TracebackType
from typing import Any, Protocol

from typing_extensions import Self

from macurr.errors import UsageError

__all__ = ["BackgroundEvaluation"]

_logger = logging.getLogger("macurr")


class Synced(Protocol):
    """What takes results from any thread: a curriculum that a transport serves."""

    @property
    def components(self) -> Any:
        """The handle for environments, which tells it from a bare curriculum."""

    def update_on_demand(self, metrics: Mapping[str, Any]) -> None:
        """Learn from an evaluation."""


class BackgroundEvaluation:
    """Evaluates the policy in a thread, whenever asked, and tells the curriculum.

    `request` returns at once. Whatever is asked for while an evaluation runs becomes one further evaluation, of the
    newest weights. The result goes to `curriculum.update_on_demand`, in that thread. What the evaluation raises is
    raised by the next call of `request`, `wait` or `close`, and the evaluation can be asked for again after that.

    Training goes on while the policy plays, so the policy that plays must not be the one that trains: `snapshot`
    copies the weights, in the thread that calls `request`, and `evaluate` puts that copy into a module of its own.
    Without a snapshot, `evaluate` reads whatever it reads while that changes.

    At which step of training a result arrives depends on the machine's speed. Where runs must be repeatable, call
    `wait` after `request`.

    There is a thread only while there is something to do. Use a `with` block, inside that of the curriculum.

    Args:
        curriculum: A synced curriculum, such as `make_local_curriculum` returns.
        evaluate: Gets the snapshot, or None without one, and returns what to tell the curriculum, such as
            `TaskEvaluator.evaluate(tasks).metrics()`.
        snapshot: Returns a copy of the weights.

    Attributes:
        completed: How many evaluations the curriculum has been told of.

    Raises:
        UsageError: a bare curriculum, which no thread but its own may call.

    Example:
        >>> from macurr import DiscreteTaskSpace, make_local_curriculum
        >>> from macurr.curricula import LearningProgress
        >>> progress = LearningProgress(DiscreteTaskSpace(2), online=False)
        >>> weights = {"skill": 0.25}
        >>> with make_local_curriculum(progress) as curriculum:
        ...     evaluate = lambda copied: {"task_success": [copied["skill"], 1.0]}
        ...     with BackgroundEvaluation(curriculum, evaluate, snapshot=weights.copy) as background:
        ...         background.request()
        ...         weights["skill"] = 0.75  # training goes on
        ...         background.wait()
        True
        >>> progress.success_rate(0)
        0.25
    """

    def __init__(
        self,
        curriculum: Synced,
        evaluate: Callable[[Any], Mapping[str, Any]],
        snapshot: Callable[[], Any] | None = None,
    ) -> None:
        if not hasattr(curriculum, "components"):
            raise UsageError(
                f"BackgroundEvaluation needs a synced curriculum, which may be called from any thread; got "
                f"{curriculum!r}. Pass what make_local_curriculum or make_multiprocessing_curriculum returns."
            )
        self.completed = 0
        self._curriculum, self._evaluate, self._snapshot = curriculum, evaluate, snapshot
        self._changed = Condition()
        self._thread: Thread | None = None
        self._busy, self._closed = False, False
        self._wanted: list[Any] = []  # the snapshot to evaluate next, if there is one
        self._error: BaseException | None = None

    @property
    def running(self) -> bool:
        """Whether an evaluation is under way."""
        return self._busy

    def request(self) -> None:
        """Ask for an evaluation of the policy as it is now.

        Raises:
            UsageError: this was closed.
            Exception: the last evaluation failed with it, or `snapshot` did; nothing is asked for.
        """
        if self._closed:
            raise UsageError("This BackgroundEvaluation has been closed. Make another one.")
        self._raise()
        box = [None if self._snapshot is None else self._snapshot()]
        with self._changed:
            if self._busy:
                self._wanted = box
                return
            self._join()  # it has nothing more to do
            thread = Thread(target=self._run, args=(box,), name="macurr-evaluation")
            thread.start()
            self._thread, self._busy = thread, True

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the curriculum has been told of everything that was asked for.

        Args:
            timeout: The longest to wait, in seconds; None for as long as it takes.

        Returns:
            Whether it has.

        Raises:
            Exception: an evaluation failed with it.
        """
        with self._changed:
            idle = self._changed.wait_for(lambda: not self._busy, timeout)
        self._raise()
        return idle

    def close(self) -> None:
        """Wait for the evaluation that is under way, and drop the one after it. May be called twice.

        Raises:
            Exception: the evaluation failed with it.
        """
        with self._changed:
            self._closed = True
            self._wanted = []
        self._join()
        self._raise()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except Exception:
            if error is None:
                raise
            # The error that ends the block says more about it than this one.
            _logger.exception("An evaluation failed as well.")

    def _run(self, box: list[Any]) -> None:
        while box:
            try:
                self._curriculum.update_on_demand(self._evaluate(box[0]))
            except BaseException as error:  # it belongs to the learner's thread, whatever it is
                with self._changed:
                    self._error, self._wanted = error, []
            else:
                self.completed += 1
            box = self._next()

    def _next(self) -> list[Any]:
        """Take the snapshot that is wanted next, in a list; an empty one ends the thread."""
        with self._changed:
            box, self._wanted = self._wanted, []
            if not box:
                self._busy = False
                self._changed.notify_all()
            return box

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _raise(self) -> None:
        with self._changed:
            error, self._error = self._error, None
        if error is not None:
            raise error

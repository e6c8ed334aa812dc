"""Who owns a curriculum: one call at a time, and what the curriculum raises ends the service."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

from macurr.curriculum import Curriculum
from macurr.errors import CurriculumError, UsageError

P = ParamSpec("P")
T = TypeVar("T")


class Owner:
    """A curriculum under one lock, as the learner uses it.

    Args:
        curriculum: The curriculum; nobody else may call it from now on.

    Raises:
        UsageError: `curriculum` is no curriculum.
    """

    def __init__(self, curriculum: Curriculum) -> None:
        if not isinstance(curriculum, Curriculum):
            raise UsageError(f"A host serves a macurr.Curriculum; got {curriculum!r}.")
        self._curriculum = curriculum
        self._lock = threading.RLock()
        self._failure: BaseException | None = None
        self.closed = False

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.RLock()

    def call(
        self, method: Callable[Concatenate[Curriculum, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call a method of the curriculum by its name; it waits its turn.

        Raises:
            CurriculumError: the curriculum has failed before.
        """
        with self.locked() as curriculum:
            called: T = getattr(curriculum, method.__name__)(*args, **kwargs)
            return called

    def get(self, name: str) -> Any:
        """Read an attribute of the curriculum.

        Raises:
            CurriculumError: the curriculum has failed before.
        """
        with self.locked() as curriculum:
            return getattr(curriculum, name)

    @contextmanager
    def locked(self) -> Iterator[Curriculum]:
        """The curriculum, for the time of a `with` block in which no environment is served.

        Raises:
            CurriculumError: the curriculum has failed before.
        """
        with self._held():
            self.check()
            yield self._curriculum

    def _held(self) -> _Held:
        return _Held(self)

    def _serving(self) -> _Serving:
        return _Serving(self, self._curriculum)

    def _acquire(self) -> None:
        """Wait for the lock, unless the call that holds it is known never to return.

        Raises:
            CurriculumError: the curriculum has failed.
        """
        if not self._lock.acquire(blocking=False):
            while not self._lock.acquire(timeout=1.0):
                self.check()

    def _release(self) -> None:
        """Give the lock back."""
        self._lock.release()

    @property
    def failure(self) -> BaseException | None:
        """The exception that ended the service, or None."""
        return self._failure

    def fail(self, error: BaseException) -> None:
        """End the service: from now on every call raises `CurriculumError` with this cause."""
        self._failure = self._failure or error

    def check(self) -> None:
        """Raise what ended the service, if anything did.

        Raises:
            CurriculumError: the curriculum has failed; its exception is the cause.
        """
        if self._failure is not None:
            raise CurriculumError(
                f"{type(self._curriculum).__name__} failed and serves no more tasks: "
                f"{type(self._failure).__name__}: {self._failure}"
            ) from self._failure

    def close(self) -> None:
        """Serve no more environments. The learner may still read the curriculum."""
        with self._held():
            self.closed = True


class _Held:
    """A host's lock, for a `with` block. Not a generator: this runs several times for each episode."""

    __slots__ = ("_host",)

    def __init__(self, host: Owner) -> None:
        self._host = host

    def __enter__(self) -> None:
        self._host._acquire()

    def __exit__(self, *raised: object) -> None:
        self._host._release()


class _Serving:
    """An environment is served in a `with` block, under the lock: what the curriculum raises ends the service."""

    __slots__ = ("_curriculum", "_host")

    def __init__(self, host: Owner, curriculum: Curriculum) -> None:
        self._host, self._curriculum = host, curriculum

    def __enter__(self) -> Curriculum:
        self._host.check()
        return self._curriculum

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception):
            self._host.fail(error)
            self._host.check()

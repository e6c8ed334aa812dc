"""Signals that ask the command to end: SIGTERM, which batch systems, containers and `kill` send, and Ctrl-C."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Terminated", "Wish", "terminable"]

_SAME = 2.0
"""Seconds within which a further signal is the same wish: `timeout` sends one to the process, then to its group."""


class Terminated(KeyboardInterrupt):
    """Somebody has asked the command to end, as Ctrl-C does, but by SIGTERM."""


class Wish:
    """That the command shall end, as somebody has said by a signal.

    What a signal raises goes lost where Python cannot pass it on: in a finaliser, a weak reference's callback. So it is
    remembered, and raised again by `heed`.
    """

    def __init__(self) -> None:
        self._kind: type[KeyboardInterrupt] | None = None
        self._terminated: float | None = None

    def heed(self) -> None:
        """Raise what a signal raised before.

        Raises:
            KeyboardInterrupt: somebody has asked for the end; `Terminated` if by SIGTERM.
        """
        if self._kind is not None:
            raise self._kind

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        """The handler of SIGINT."""
        self._kind = self._kind or KeyboardInterrupt
        signal.default_int_handler(number, frame)

    def terminate(self, number: int, _: FrameType | None) -> None:
        """The handler of SIGTERM: the first one raises, one that comes some seconds later ends the process at once."""
        if self._terminated is None:
            self._kind, self._terminated = Terminated, time.monotonic()
            raise Terminated
        if time.monotonic() - self._terminated > _SAME:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


@contextmanager
def terminable() -> Iterator[Wish]:
    """Let SIGTERM raise `Terminated` in the main thread as Ctrl-C raises, for the time of a `with` block.

    A SIGTERM that comes some seconds after the first one ends the process at once. Nothing is changed in other
    threads, where SIGTERM is ignored, or where somebody else handles SIGINT.
    """
    wish = Wish()
    if threading.current_thread() is not threading.main_thread():
        yield wish
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handlers: dict[int, Callable[[int, FrameType | None], None]] = {}
    if before[signal.SIGINT] is signal.default_int_handler:
        handlers[signal.SIGINT] = wish.interrupt
    if before[signal.SIGTERM] not in {signal.SIG_IGN, None}:
        handlers[signal.SIGTERM] = wish.terminate
    for number, handler in handlers.items():
        signal.signal(number, handler)
    try:
        yield wish
    finally:
        for number in handlers:
            signal.signal(number, before[number])  # type: ignore[index]  # a signal is its number

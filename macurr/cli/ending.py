"""SIGTERM, which batch systems, containers and `kill` send, as an orderly end of the command."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Terminated", "terminable"]

_SAME = 2.0
"""Seconds within which a further signal is the same wish: `timeout` sends one to the process, then to its group."""


class Terminated(KeyboardInterrupt):
    """Somebody has asked the command to end, as Ctrl-C does, but by SIGTERM."""


@contextmanager
def terminable() -> Iterator[None]:
    """Let the first SIGTERM raise `Terminated` in the main thread, for the time of a `with` block.

    One that comes some seconds later ends the process at once. Nothing is changed in other threads, nor where SIGTERM
    is ignored.
    """
    before = signal.getsignal(signal.SIGTERM)
    main = threading.current_thread() is threading.main_thread()
    if not main or before in {signal.SIG_IGN, None}:
        yield
        return
    first: list[float] = []

    def end(number: int, _: FrameType | None) -> None:
        if not first:
            first.append(time.monotonic())
            raise Terminated
        if time.monotonic() - first[0] > _SAME:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

"""What a child process does about its parent: it outlives none, leaves its signals alone, and says where it hangs.

Only what runs in a fresh interpreter of ours uses it. No torch is imported.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Hashable
from types import FrameType

__all__ = ["GRACE", "LATE", "Guard", "deaf"]

LATE = 30.0
"""Seconds after which it is told that an environment has not come back."""

GRACE = 4.0
"""Seconds that a process gets to end by itself once its parent is gone. A living parent is as patient, and kills."""

_TICK = 1.0
"""Seconds between two looks."""

_FRAMES = 3
"""The innermost places that are told of a process that hangs."""


def deaf() -> None:
    """Leave SIGINT and SIGTERM to the parent, whom they are meant for where a whole group or job gets them.

    The parent ends this process when it has saved what there is. What this process starts hears them as ever.
    """
    own = os.getpid()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def pass_by(number: int, _: FrameType | None) -> None:
        if os.getpid() != own:  # a fork
            signal.signal(number, before[signal.Signals(number)])
            os.kill(os.getpid(), number)

    # Handlers, since what is ignored stays ignored in programs that an environment starts.
    for number in before:
        signal.signal(number, pass_by)


class Guard:
    """A thread that looks after the main thread, which may be in an environment that never comes back.

    Once the parent is gone, be it that it has hung up or is dead, the process gets `GRACE` seconds to end by itself.
    Then it is killed, with all that it has started in its group. Code that never lets go of the interpreter, such as a
    loop within an extension, cannot be ended so.

    Args:
        sock: The line to the parent; it is not read from.
        doing: What the main thread is at: something that is equal only as long as it is at the same, and how to say it;
            None while it waits for the parent.
        tell: Is given the words for what takes long, in the guard's thread.

    Attributes:
        late: Seconds after which that is told.
    """

    def __init__(
        self,
        sock: socket.socket,
        doing: Callable[[], tuple[Hashable, str] | None],
        tell: Callable[[str], None],
    ) -> None:
        self._sock, self._doing, self._tell = sock, doing, tell
        self.late = LATE
        self._parent, self._watched = os.getppid(), threading.get_ident()
        self._seen: Hashable = None
        self._since, self._told = time.monotonic(), False
        threading.Thread(target=self._run, name="macurr-guard", daemon=True).start()

    def _run(self) -> None:
        while not self._orphaned(min(_TICK, self.late)):
            self._look()
        time.sleep(GRACE)
        _end()

    def _orphaned(self, seconds: float) -> bool:
        """Whether the parent is gone, waited for so long."""
        if not hasattr(select, "poll"):
            time.sleep(seconds)
            return False
        poll = select.poll()
        poll.register(self._sock.fileno(), getattr(select, "POLLRDHUP", select.POLLHUP))
        return bool(poll.poll(seconds * 1000.0)) or os.getppid() != self._parent

    def _look(self) -> None:
        """Tell of what takes long, once."""
        doing = self._doing()
        seen, now = None if doing is None else doing[0], time.monotonic()
        if doing is None or seen != self._seen:
            self._seen, self._since, self._told = seen, now, False
        elif now - self._since >= self.late and not self._told:
            self._told = True
            self._tell(f"{doing[1]} for {now - self._since:.0f} s.{self._where()}")

    def _where(self) -> str:
        frame = sys._current_frames().get(self._watched)
        if frame is None:
            return ""
        lines = traceback.format_list(traceback.extract_stack(frame)[-_FRAMES:])
        return f" This is where it is:\n{''.join(lines).rstrip()}"


def _end() -> None:
    """End this process and what it has started, at once."""
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)

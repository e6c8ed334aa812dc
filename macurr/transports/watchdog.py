"""A thread that notices a call that does not return."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

__all__ = ["Watchdog"]


class Watchdog:
    """Watches over one piece of work at a time.

    Args:
        patience: Seconds that it may take.
        alarm: What to call, once, with the work's name, when one has taken longer.

    Attributes:
        busy: The name of the work and when it began (`time.monotonic`); None between two. The worker sets it.
    """

    def __init__(self, patience: float, alarm: Callable[[str], None]) -> None:
        self._patience, self._alarm = patience, alarm
        self._ended = threading.Event()
        self.busy: tuple[str, float] | None = None

    def start(self) -> None:
        """Begin to watch."""
        threading.Thread(target=self._watch, name="macurr-watchdog", daemon=True).start()

    def stop(self) -> None:
        """Watch no longer."""
        self._ended.set()

    def _watch(self) -> None:
        while not self._ended.wait(min(1.0, self._patience / 4)):
            busy = self.busy
            if busy is not None and time.monotonic() - busy[1] > self._patience:
                self._alarm(busy[0])
                return

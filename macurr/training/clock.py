"""Where the seconds of a run go."""

from __future__ import annotations

import time
from collections.abc import Mapping

__all__ = ["Clock"]


class Clock:
    """Seconds by name, since they were last taken."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def add(self, name: str, since: float) -> float:
        """Count the time since a moment; the present one."""
        now = time.perf_counter()
        self._seconds[name] = self._seconds.get(name, 0.0) + now - since
        return now

    def gain(self, seconds: Mapping[str, float]) -> None:
        """Take over what another clock has counted."""
        for name, more in seconds.items():
            self._seconds[name] = self._seconds.get(name, 0.0) + more

    def take(self) -> dict[str, float]:
        """What was counted; begins anew."""
        taken, self._seconds = self._seconds, {}
        return taken

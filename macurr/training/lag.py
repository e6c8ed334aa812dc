"""What is said of steps that are too old to be trained on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

__all__ = ["LagAlarm"]

_logger = logging.getLogger("macurr")

_QUIET = 60.0
"""Seconds between two warnings of what goes on."""


class LagAlarm:
    """Warns where most of a policy's steps are too old: when that begins, and then at most once a minute.

    Args:
        policy: The policy's number.
        most: `max_policy_lag`.
        clock: Gives seconds.
    """

    def __init__(self, policy: int, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._policy, self._most, self._clock = policy, most, clock
        self._told_at: float | None = None
        self._steps = self._dropped = self._updates = 0

    def note(self, steps: int, used: int) -> None:
        """Take in an update.

        Args:
            steps: The policy's steps in it.
            used: Those of them that are young enough.
        """
        if not steps:
            return
        if used >= steps / 2:
            self._steps = self._dropped = self._updates = 0
            return
        self._steps += steps
        self._dropped += steps - used
        self._updates += 1
        now = self._clock()
        if self._told_at is not None and now - self._told_at < _QUIET:
            return
        self._told_at = now
        _logger.warning(
            "%d of %d steps for policy %d are older than max_policy_lag=%d gradient steps and are not trained on, in "
            "%s. Expected once after weights were copied; otherwise lower epochs or num_batches_to_accumulate, or "
            "raise max_policy_lag.",
            self._dropped,
            self._steps,
            self._policy,
            self._most,
            "this update"
            if self._updates == 1
            else f"the {self._updates} such updates since this was last told",
        )
        self._steps = self._dropped = self._updates = 0

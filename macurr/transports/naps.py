"""How long a serving side lets messages gather before it reads them."""

from __future__ import annotations

__all__ = ["Nap"]

LEAST, MOST = 0.01, 0.05
"""Seconds."""
GROWTH = 0.0005
"""Seconds that a nap is longer than the last, where that is worth it."""
WORTH = 40.0
"""Messages in a second: with fewer, the longest nap would gather hardly two."""
ENOUGH = 32
"""Messages in a nap: the wake-up's share in the work is small."""


class Nap:
    """The length of naps in a thread that shares its interpreter, and its processor's caches, with a learner.

    What a message costs is mostly what the first after a wake-up costs: the interpreter and cold caches. So while many
    messages come and nobody waits, naps grow slowly, until enough gather in each; and somebody who waits cuts them in
    half. What is gathered, in bytes, must fit into the sockets: where one was filled, the next nap is a short one.

    Args:
        enough: How many messages are enough at most: what a single sender may have under way, by half.
    """

    def __init__(self, enough: int) -> None:
        self.seconds = LEAST
        self._enough = min(ENOUGH, enough)

    def over(self, messages: int, seconds: float, full: bool) -> None:
        """Note what a nap has gathered.

        Args:
            messages: How many messages.
            seconds: In what time, waiting for the first of them included.
            full: Whether there was more from one sender than is read at a time.
        """
        if full or messages < WORTH * seconds:
            self.seconds = LEAST
        elif messages < self._enough:
            self.seconds = min(MOST, self.seconds + GROWTH)
        else:
            self.seconds = max(LEAST, self.seconds - GROWTH)

    def cut(self) -> bool:
        """Note that somebody has waited; returns whether naps could be cut much: else they should end for a while."""
        long = self.seconds > 1.5 * LEAST
        self.seconds = max(LEAST, self.seconds / 2)
        return long

"""A worker's side of a direct connection to the actor, for as long as there is one."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable

from macurr.errors import MacurrError
from macurr.transports.wire import CHUNK, Address, FrameReader, open_socket, pack

__all__ = ["Line"]

LATE = 1.0
"""Seconds without a reply after which Ray is asked whether the actor still lives: a dead node cuts no connection."""
LOOK = 0.5
"""Seconds between two looks at whether this process is connected to Ray."""
OPENING = 1.0
"""Seconds that opening a connection may take."""
AGAIN = 10.0
"""Seconds before a connection that could not be opened is tried again; twice as many each time."""
RARELY = 600.0
"""The longest such pause."""

_logger = logging.getLogger("macurr")


class Line:
    """Carries letters to the actor and replies back, one at a time.

    Where there is no connection, or it breaks, letters go by Ray: the actor knows by their numbers which it has had.

    Args:
        find: Asks Ray where the actor listens now; None for nowhere.
        connected: Whether this process is still connected to Ray, without which nobody would be told of a death.
    """

    def __init__(self, find: Callable[[], Address | None], connected: Callable[[], bool]) -> None:
        self._find, self._connected = find, connected
        self._looked = time.monotonic()
        self._sock: socket.socket | None = None
        self._address: Address | None = None
        self._reader = FrameReader()
        self._pause, self._next = AGAIN, -float("inf")

    @property
    def open(self) -> bool:
        """Whether there is a connection."""
        return self._sock is not None

    def ask(self, parcel: bytes) -> bytes | None:
        """The reply to a letter, both pickled; None if it has to go by Ray."""
        if self._sock is None:
            return None
        reply = None
        try:
            if self._still_connected():
                self._sock.sendall(pack("letter", parcel))
                reply = self._receive(self._sock)
        except (MacurrError, OSError):  # Ray tells who has died of what
            pass
        if reply is None:
            self.close()
        return reply

    def mend(self) -> None:
        """Open a connection, if there is none and it is time to try."""
        if self._sock is not None or time.monotonic() < self._next:
            return
        try:
            self._address = self._find()
            if self._address is None:
                raise OSError("The actor listens nowhere.")
            self._sock = open_socket(self._address, OPENING)
        except (MacurrError, OSError) as error:
            _logger.info("No direct connection to the curriculum's actor, letters go by Ray: %s", error)
            self._next = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, RARELY)
            return
        self._sock.settimeout(LATE)
        self._reader, self._pause = FrameReader(), AGAIN

    def close(self) -> None:
        """End the connection."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _still_connected(self) -> bool:
        now = time.monotonic()
        if now - self._looked < LOOK:  # dear, beside a message
            return True
        self._looked = now
        return self._connected()

    def _receive(self, sock: socket.socket) -> bytes | None:
        while True:
            try:
                data = sock.recv(CHUNK)
            except TimeoutError:  # busy, or dead?
                if self._find() != self._address:
                    return None
                continue
            if not data:
                return None
            for _, reply in list(self._reader.feed(data)):
                answer: bytes = reply
                return answer

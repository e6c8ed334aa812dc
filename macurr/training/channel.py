"""Messages between the learner and a worker over a pair of sockets. Imported by workers: no torch.

A message is a head, eight bytes of length, one of kind and four of the group that it is about, padded to sixteen, and
the content.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

__all__ = ["ACT", "FAILED", "FRAME", "JOBS", "PULSE", "RESET", "Channel", "Line", "Message"]

RESET, ACT, JOBS = b"R", b"A", b"J"
"""What the learner says."""
FRAME, FAILED = b"F", b"X"
"""What a worker says."""

PULSE = 1.0
"""Seconds after which who waits looks whether the other side is still there."""

Part = bytes | bytearray | memoryview

_HEAD = struct.Struct("<QcxxxI")
_BUFFER = 1 << 20
"""Bytes that should find room in the socket, so that a worker need not wait for the learner."""


class Message(NamedTuple):
    """A message as it was received."""

    kind: bytes
    group: int
    content: bytearray


class Channel:
    """The worker's end, which waits.

    Args:
        sock: The socket.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        sock.setblocking(True)
        _widen(sock)

    def send(self, kind: bytes, parts: Sequence[Part] = (), group: int = 0) -> None:
        """Send one message.

        Raises:
            OSError: the other end is closed.
        """
        self._sock.sendall(_head(kind, parts, group))
        for part in parts:
            self._sock.sendall(part)

    def recv(self) -> Message:
        """Receive one message.

        Raises:
            EOFError: the other end is closed.
        """
        size, kind, group = _HEAD.unpack(self._read(_HEAD.size))
        return Message(kind, group, self._read(size))

    def _read(self, size: int) -> bytearray:
        data = bytearray(size)
        got = 0
        with memoryview(data) as view:
            while got < size:
                count = self._sock.recv_into(view[got:])
                if not count:
                    raise EOFError("The other end of the channel is closed.")
                got += count
        return data


class Line:
    """The learner's end, which never waits to read, and while it waits to write takes in what comes.

    So neither side can stand in the other's way, however large the messages of both are.

    Args:
        sock: The socket.

    Attributes:
        inbox: The messages that have come in whole, oldest first.
        over: Whether the other end is closed.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        sock.setblocking(False)
        _widen(sock)
        self.inbox: deque[Message] = deque()
        self.over = False
        self._head: tuple[bytes, int] | None = None
        self._data = bytearray(_HEAD.size)
        self._got = 0

    def fileno(self) -> int:
        """The socket's number, for who waits for several."""
        return self._sock.fileno()

    def send(
        self, kind: bytes, parts: Sequence[Part], group: int, check: Callable[[], None] = lambda: None
    ) -> None:
        """Send one message.

        Args:
            kind: Its kind.
            parts: Its content.
            group: The group that it is about.
            check: Is called after each second of waiting; what it raises ends the wait.

        Raises:
            OSError: the other end is closed.
        """
        for part in (_head(kind, parts, group), *parts):
            rest = memoryview(part)
            while rest:
                try:
                    rest = rest[self._sock.send(rest) :]
                except BlockingIOError:
                    self._wait_for_room(check)

    def read(self) -> None:
        """Take in everything that has come, without waiting."""
        while not self.over:
            try:
                with memoryview(self._data) as view:
                    count = self._sock.recv_into(view[self._got :]) if self._got < len(view) else -1
            except BlockingIOError:
                return
            except OSError:  # reset by a dead process
                count = 0
            if count == 0:
                self.over = True
            self._got += max(count, 0)
            if self._got == len(self._data):
                self._take()

    def close(self) -> None:
        """Close both directions. May be called twice."""
        self.over = True
        with contextlib.suppress(OSError):
            self._sock.close()

    def _take(self) -> None:
        if self._head is None:
            size, kind, group = _HEAD.unpack(self._data)
            self._head, self._data = (kind, group), bytearray(size)
        else:
            self.inbox.append(Message(*self._head, self._data))
            self._head, self._data = None, bytearray(_HEAD.size)
        self._got = 0

    def _wait_for_room(self, check: Callable[[], None]) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._sock, selectors.EVENT_READ | selectors.EVENT_WRITE)
            if not selector.select(PULSE):
                check()
        self.read()
        if self.over:
            raise BrokenPipeError("The other end of the line is closed.")


def _head(kind: bytes, parts: Sequence[Part], group: int) -> bytes:
    return _HEAD.pack(sum(len(part) for part in parts), kind, group)


def _widen(sock: socket.socket) -> None:
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, option, _BUFFER)

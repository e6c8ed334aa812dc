"""Messages between two processes over a pair of sockets: a learner or collector, and its child. No torch is imported.

A message is a head, eight bytes of length, one of kind and four of the group that it is about, padded to sixteen, and
the content.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

__all__ = [
    "ACT",
    "FAILED",
    "FRAME",
    "GO",
    "JOBS",
    "NEWS",
    "PAUSE",
    "PULSE",
    "RESET",
    "SLOW",
    "TAKEN",
    "WARNING",
    "WEIGHTS",
    "Channel",
    "Line",
    "Message",
    "Part",
    "wait_for",
]

RESET, ACT, JOBS = b"R", b"A", b"J"
"""What a worker is told; `JOBS` is the first that any child process is told."""
FRAME, SLOW, FAILED = b"F", b"S", b"X"
"""What a worker says; `FAILED` is the last that any child process says."""
WEIGHTS, PAUSE, GO, TAKEN = b"W", b"P", b"G", b"T"
"""What a collector is told."""
NEWS, WARNING = b"N", b"!"
"""What a collector says."""

PULSE = 1.0
"""Seconds after which who waits looks whether the other side is still there."""

Part = bytes | bytearray | memoryview

# Made anew for each wait: one that needs no descriptor of its own is the cheapest.
_Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)

_HEAD = struct.Struct("<QcxxxI")
_BUFFER = 1 << 20
"""Bytes that should find room in the socket, so that a worker need not wait for the learner."""


class HasNumber(Protocol):
    """A socket, or what has one."""

    def fileno(self) -> int:
        """Its number."""


class Message(NamedTuple):
    """A message as it was received."""

    kind: bytes
    group: int
    content: bytearray


class Channel:
    """A worker's end, which waits. Several threads may send.

    Args:
        sock: The socket.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sending = threading.Lock()
        sock.setblocking(True)
        _widen(sock)

    def send(self, kind: bytes, parts: Sequence[Part] = (), group: int = 0) -> None:
        """Send one message.

        Raises:
            OSError: the other end is closed.
        """
        with self._sending:
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
    """An end that never waits to read, and while it waits to write takes in what comes.

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
        self._outbox: deque[memoryview] = deque()
        self._head: tuple[bytes, int] | None = None
        self._data = bytearray(_HEAD.size)
        self._got = 0

    def fileno(self) -> int:
        """The socket's number, for who waits for several."""
        return self._sock.fileno()

    @property
    def blocked(self) -> bool:
        """Whether something waits to be sent by `flush`."""
        return bool(self._outbox)

    def post(self, kind: bytes, parts: Sequence[Part] = (), group: int = 0) -> None:
        """Send one message as far as there is room for it now; `flush` sends the rest.

        Args:
            kind: Its kind.
            parts: Its content, which is not copied: nobody may change it before all is sent.
            group: The number that it is about.

        Raises:
            OSError: the other end is closed.
        """
        self._outbox.extend(memoryview(part) for part in (_head(kind, parts, group), *parts) if len(part))
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as there is room.

        Raises:
            OSError: the other end is closed.
        """
        while self._outbox:
            try:
                sent = self._sock.send(self._outbox[0])
            except BlockingIOError:
                return
            rest = self._outbox.popleft()[sent:]
            if rest:
                self._outbox.appendleft(rest)

    def send(
        self, kind: bytes, parts: Sequence[Part], group: int, check: Callable[[], None] = lambda: None
    ) -> None:
        """Send one message, and wait until it is sent.

        Args:
            kind: Its kind.
            parts: Its content.
            group: The group that it is about.
            check: Is called after each second of waiting; what it raises ends the wait.

        Raises:
            OSError: the other end is closed.
        """
        self.post(kind, parts, group)
        while self._outbox:
            self._wait_for_room(check)
            self.flush()

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
        if not wait_for([self], PULSE, [self]):
            check()
        self.read()
        if self.over:
            raise BrokenPipeError("The other end of the line is closed.")


def wait_for(
    readers: Sequence[HasNumber], seconds: float | None, writers: Sequence[HasNumber] = ()
) -> set[int]:
    """Wait until something comes from one of the sockets, or there is room in one.

    Args:
        readers: Those from which something may come.
        seconds: How long to wait; None for ever.
        writers: Those among them that have something to send.

    Returns:
        The numbers of those where there is; none where the time is over.
    """
    numbers = {reader.fileno(): selectors.EVENT_READ for reader in readers}
    for writer in writers:
        numbers[writer.fileno()] = selectors.EVENT_READ | selectors.EVENT_WRITE
    with _Selector() as selector:
        for number, events in numbers.items():
            selector.register(number, events)
        return {key.fd for key, _ in selector.select(seconds)}


def _head(kind: bytes, parts: Sequence[Part], group: int) -> bytes:
    return _HEAD.pack(sum(len(part) for part in parts), kind, group)


def _widen(sock: socket.socket) -> None:
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, option, _BUFFER)

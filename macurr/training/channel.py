"""Messages between the learner and a worker over a pair of pipes. Imported by workers: no torch.

A message is eight bytes of length, eight of kind (so that arrays behind them are aligned) and the content.
"""

from __future__ import annotations

import contextlib
import struct
import sys
from typing import IO

__all__ = ["ACT", "FAILED", "FRAME", "HEAD", "JOB", "RESET", "Channel"]

RESET, ACT, JOB = b"R", b"A", b"J"
"""What the learner says."""
FRAME, FAILED = b"F", b"X"
"""What a worker says."""
HEAD = 8
"""Bytes before the content of a message of a kind."""

_LENGTH = struct.Struct("<Q")
_PIPE_SIZE = 1 << 20


class Channel:
    """One end of a two-way channel.

    Args:
        reader: Where messages come from.
        writer: Where they go.
    """

    def __init__(self, reader: IO[bytes], writer: IO[bytes]) -> None:
        self._reader, self._writer = reader, writer

    def send(self, kind: bytes, *parts: bytes | bytearray | memoryview | str) -> None:
        """Send one message.

        Raises:
            OSError: the other end is closed.
        """
        chunks = [part.encode() if isinstance(part, str) else part for part in parts]
        self._writer.write(_LENGTH.pack(HEAD + sum(len(chunk) for chunk in chunks)))
        self._writer.write(kind.ljust(HEAD, b"\0"))
        for chunk in chunks:
            self._writer.write(chunk)
        self._writer.flush()

    def recv(self) -> bytearray:
        """Receive one message, its kind included.

        Raises:
            EOFError: the other end is closed.
        """
        (size,) = _LENGTH.unpack(self._read(_LENGTH.size))
        return self._read(size)

    def close(self) -> None:
        """Close both directions. May be called twice."""
        for stream in (self._writer, self._reader):
            with contextlib.suppress(OSError, ValueError):
                stream.close()

    def widen(self) -> None:
        """Let the pipe take a whole frame, where the system can do that, so that a worker need not wait."""
        if sys.platform == "linux":
            import fcntl  # noqa: PLC0415  # not on every system

            with contextlib.suppress(OSError, AttributeError):
                fcntl.fcntl(self._writer.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_SIZE)

    def _read(self, size: int) -> bytearray:
        data = bytearray(size)
        got = 0
        with memoryview(data) as view:
            while got < size:
                count = self._reader.readinto(view[got:])  # type: ignore[attr-defined]  # streams of bytes have it
                if not count:
                    raise EOFError("The other end of the channel is closed.")
                got += count
        return data

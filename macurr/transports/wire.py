"""Bytes between processes: addresses, frames, and the handshake that keeps strangers out.

A frame is a four-byte length and a pickled tuple. Pickles are read only from peers that have proved, by an
HMAC over the other side's random challenge, that they hold the curriculum's key; the proof is mutual, so neither
side unpickles what a stranger wrote. No lock is shared: a peer killed in the middle of a frame harms only itself.
"""

from __future__ import annotations

import hmac
import os
import pickle
import secrets
import selectors
import socket
import struct
import sys
import tempfile
from collections.abc import Iterator
from typing import Any, NamedTuple

from macurr.errors import TransportError

__all__ = [
    "CHALLENGE",
    "DIGEST",
    "Address",
    "FrameReader",
    "listen",
    "listen_at",
    "not_sent",
    "open_socket",
    "pack",
    "proof",
    "wait_for",
]

CHALLENGE = 32
"""Bytes of a challenge."""
DIGEST = 32
"""Bytes of a proof (HMAC-SHA256)."""
CHUNK = 1 << 16
"""Bytes read at a time. More than 128 KiB are mapped and unmapped for each read, which takes longer than the read."""
LARGEST_FRAME = 1 << 31
"""A longer length can only come from a damaged stream."""

_LENGTH = struct.Struct("!I")


class Address(NamedTuple):
    """Where a curriculum listens, and the key that opens the door."""

    kind: str
    place: Any
    key: bytes


def listen() -> tuple[socket.socket, Address]:
    """A listening socket on this machine, and its address.

    Linux: a Unix socket in the abstract name space, which leaves no file behind however the process ends.
    Elsewhere: a Unix socket in a private directory; without Unix sockets, a loopback port.
    """
    key = secrets.token_bytes(32)
    if not hasattr(socket, "AF_UNIX"):
        server = socket.create_server(("127.0.0.1", 0))
        return server, Address("tcp", server.getsockname(), key)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    if sys.platform == "linux":
        place = f"\0macurr-{os.getpid()}-{secrets.token_hex(8)}"
    else:
        place = os.path.join(tempfile.mkdtemp(prefix="macurr-"), "s")  # AF_UNIX wants a str
    server.bind(place)
    server.listen(1024)
    return server, Address("unix", place, key)


def listen_at(ip: str) -> tuple[socket.socket, Address]:
    """A listening socket that other machines can reach, and its address.

    Args:
        ip: The address of this machine by which they know it.

    Raises:
        OSError: this machine does not have that address.
    """
    server = socket.create_server((ip, 0), family=_family(ip), backlog=1024)
    return server, Address("tcp", server.getsockname()[:2], secrets.token_bytes(32))


def _family(ip: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in ip else socket.AF_INET


def forget(address: Address) -> None:
    """Remove what `listen` left in the file system, if anything."""
    if address.kind == "unix" and not address.place.startswith("\0") and os.path.exists(address.place):
        os.unlink(address.place)
        os.rmdir(os.path.dirname(address.place))


def open_socket(address: Address, timeout: float) -> socket.socket:
    """A connected and mutually authenticated socket.

    Raises:
        OSError: nobody listens there.
        TransportError: the other side does not hold the key, or is no curriculum.
    """
    family = socket.AF_UNIX if address.kind == "unix" else _family(address.place[0])
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.connect(address.place)
        if address.kind == "tcp":
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _introduce(sock, address.key)
    except BaseException:
        sock.close()
        raise
    return sock


def _introduce(sock: socket.socket, key: bytes) -> None:
    theirs = _receive(sock, CHALLENGE)
    ours = secrets.token_bytes(CHALLENGE)
    sock.sendall(proof(key, b"env", theirs) + ours)
    if not hmac.compare_digest(_receive(sock, DIGEST), proof(key, b"host", ours)):
        raise TransportError(
            "The curriculum at this address does not hold the key of this handle, so the handle is stale or the "
            "address was taken over. Pass the components of the curriculum that is running now."
        )


def _receive(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise TransportError(
                "The curriculum closed the connection while the environment introduced itself: this handle's key "
                "does not fit. Pass the components of the curriculum that is running now."
            )
        data += more
    return data


def proof(key: bytes, role: bytes, challenge: bytes) -> bytes:
    """The proof of holding `key` that a peer in `role` gives for a challenge."""
    return hmac.digest(key, role + challenge, "sha256")


def wait_for(sock: socket.socket, seconds: float, *, writing: bool) -> bool:
    """Wait until a socket can be written or read; whether it can be, after that many seconds at most."""
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_WRITE if writing else selectors.EVENT_READ)
        return bool(selector.select(max(0.0, seconds)))


def pack(*parts: Any) -> bytes:
    """One frame.

    Raises:
        Exception: whatever pickling raises for parts that cannot be pickled.
    """
    body = pickle.dumps(parts, protocol=5)
    return _LENGTH.pack(len(body)) + body


class FrameReader:
    """Cuts a byte stream into frames. Bytes of an incomplete frame wait for the rest."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[Any, ...]]:
        """Take in bytes; yield the frames that they complete.

        Raises:
            TransportError: the bytes are no frames.
        """
        whole = not self._buffer  # nearly always: frames are read where they are
        stream: bytes | bytearray = data
        if not whole:
            self._buffer += data
            stream = self._buffer
        start, size = 0, len(stream)
        while size - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(stream, start)
            if length > LARGEST_FRAME:
                raise TransportError(f"The stream announces a frame of {length} bytes: it is damaged.")
            end = start + _LENGTH.size + length
            if end > size:
                break
            with memoryview(stream) as view, view[start + _LENGTH.size : end] as body:
                frame = pickle.loads(body)
            start = end
            yield frame
        if whole:
            self._buffer += data[start:]
        else:
            del self._buffer[:start]

    @property
    def torn(self) -> bool:
        """Whether bytes of an incomplete frame are left."""
        return bool(self._buffer)


def not_sent(update: Any, error: Exception) -> TransportError:
    """The error for an update that cannot be pickled; it names the info to blame, and the cure."""
    return TransportError(
        f"This {type(update).__name__} cannot be sent to another process: {error}. {_culprit(update)}Name such info "
        "keys in the sync wrapper's remove_keys."
    )


def _culprit(update: Any) -> str:
    """Name the first info that does not pickle."""
    for step, infos in enumerate(getattr(update, "infos", ())):
        for agent, info in infos.items():
            for key, value in info.items():
                try:
                    pack(value)
                except Exception:  # pickle raises whatever an object's own methods raise
                    return f"It is infos[{agent!r}][{key!r}], a {type(value).__name__}, at step {step}. "
    return ""

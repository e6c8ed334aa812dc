"""The connections of a serving side: who is there, what they send, what waits for them.

No call here waits for a peer: what a socket does not take at once follows when it can, and a stranger that does not
show in time that it holds the curriculum's key is cut off.
"""

from __future__ import annotations

import hmac
import logging
import secrets
import selectors
import socket
import threading
import time
from abc import ABC, abstractmethod
from typing import Any

from macurr.errors import TransportError
from macurr.transports.wire import CHALLENGE, CHUNK, DIGEST, Address, FrameReader, forget, listen, proof

__all__ = ["Connections", "Peer"]

HANDSHAKE_SECONDS = 5.0
"""How long a peer may take to introduce itself."""

_logger = logging.getLogger("macurr")


class Peer:
    """A connection: first a stranger, then an environment."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.reader = FrameReader()
        self.outbox = bytearray()
        self.challenge = secrets.token_bytes(CHALLENGE)
        self.greeting = b""
        self.deadline = time.monotonic() + HANDSHAKE_SECONDS
        self.trusted = False
        self.told = False
        self.blocked = False
        self.env_ids: set[int] = set()
        self.answers: list[tuple[Any, ...]] = []
        self.applied = 0

    def send(self, data: bytes) -> None:
        """Send as much of some more data as the socket takes now; the rest waits in the outbox."""
        sent = 0
        if data and not self.outbox:  # nearly always, and it all fits
            try:
                sent = self.sock.send(data)
            except BlockingIOError:
                pass
            except OSError:
                return
            if sent == len(data):
                return
        self.outbox += data[sent:]
        self.flush()

    def flush(self) -> None:
        """Send as much of the outbox as the socket takes now. A peer that is gone shows as end-of-file later."""
        try:
            while self.outbox:
                del self.outbox[: self.sock.send(self.outbox)]
        except BlockingIOError:
            return
        except OSError:
            self.outbox.clear()


class Connections(ABC):
    """A listening socket, a bell that wakes its thread, and the peers that have come. Subclasses route the frames.

    Args:
        door: The socket and its address; None for one that only this machine can reach.
    """

    def __init__(self, door: tuple[socket.socket, Address] | None = None) -> None:
        self._lock = threading.RLock()  # held while peers are touched, never while the curriculum works
        self._listener, self.address = listen() if door is None else door
        self._listener.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._waker, self._bell = socket.socketpair()
        self._selector.register(self._bell, selectors.EVENT_READ)
        self._peers: set[Peer] = set()
        self._strangers: set[Peer] = set()
        self._full = False  # whether a peer has sent more than is read at a time; subclasses may set it back

    @abstractmethod
    def _route(self, peer: Peer, kind: str, *parts: Any) -> None:
        """Take in one frame of a peer that holds the key."""

    @abstractmethod
    def _left(self, peer: Peer) -> None:
        """A peer is gone; its socket is closed."""

    def _attend(self, peer: Peer, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._send(peer, b"")
        if events & selectors.EVENT_READ:
            self._read(peer)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:  # the peer was gone before it was let in, or this process is out of descriptors
            _logger.warning("An environment could not be let in.", exc_info=True)
            return
        sock.setblocking(False)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer = Peer(sock)
        with self._lock:
            self._peers.add(peer)
            self._strangers.add(peer)
            self._selector.register(sock, selectors.EVENT_READ, peer)
        self._send(peer, peer.challenge)

    def _read(self, peer: Peer) -> bool:
        """Read once from a peer; returns whether there was anything."""
        try:
            data = peer.sock.recv(CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._drop(peer)
            return False
        self._full |= len(data) == CHUNK
        try:
            self._take(peer, data)
        except Exception as error:  # whatever a damaged or foreign stream makes the unpickler raise
            _logger.warning("A peer that does not speak macurr's protocol was dropped: %r", error)
            self._drop(peer)
        return True

    def _take(self, peer: Peer, data: bytes) -> None:
        if not peer.trusted:
            peer.greeting += data
            if len(peer.greeting) < DIGEST + CHALLENGE:
                return
            data = peer.greeting[DIGEST + CHALLENGE :]
            self._verify(peer)
        for frame in peer.reader.feed(data):
            self._route(peer, *frame)

    def _verify(self, peer: Peer) -> None:
        key = self.address.key
        given, challenge = peer.greeting[:DIGEST], peer.greeting[DIGEST : DIGEST + CHALLENGE]
        if not hmac.compare_digest(given, proof(key, b"env", peer.challenge)):
            raise TransportError("The peer does not hold this curriculum's key.")
        peer.trusted = True
        self._strangers.discard(peer)
        self._send(peer, proof(key, b"host", challenge))

    def _send(self, peer: Peer, data: bytes) -> None:
        """Send without waiting; what the socket does not take now follows when it can."""
        with self._lock:
            if peer not in self._peers:
                return
            peer.send(data)
            blocked = bool(peer.outbox)
            if blocked != peer.blocked:
                wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if blocked else 0)
                self._selector.modify(peer.sock, wanted, peer)
                peer.blocked = blocked

    def _drop(self, peer: Peer) -> None:
        with self._lock:
            if peer not in self._peers:
                return
            self._peers.discard(peer)
            self._strangers.discard(peer)
            self._selector.unregister(peer.sock)
            peer.sock.close()
        self._left(peer)

    def _patience(self) -> float | None:
        if not self._strangers:
            return None
        return max(0.0, min(peer.deadline for peer in self._strangers) - time.monotonic())

    def _dismiss(self) -> None:
        now = time.monotonic()
        for peer in [peer for peer in self._strangers if now > peer.deadline]:
            self._drop(peer)

    def _close(self) -> None:
        for sock in [self._listener, self._waker, self._bell, *(peer.sock for peer in self._peers)]:
            sock.close()
        self._peers.clear()
        self._selector.close()

    def _shut(self) -> None:
        self._close()
        forget(self.address)

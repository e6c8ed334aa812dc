"""The serving side of the process transport: one thread, one selector, no lock on the data path.

Requests for stock tasks are answered as soon as they are read; updates wait in one first-in-first-out queue and
are applied one at a time, with a look at the sockets once a millisecond has passed since the last. While every
environment finds its next task in its stock, results gather for a hundredth of a second before they are read. A slow
curriculum delays a task by at most one update, and what waits is bounded by the environments' own windows
(`maxsize` updates each). A call that does not return within the timeout is noticed by a watchdog thread, which
tells everybody.
"""

from __future__ import annotations

import contextlib
import hmac
import logging
import os
import secrets
import selectors
import socket
import threading
import time
import traceback
import weakref
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from macurr.errors import CurriculumError, MacurrError, TransportError
from macurr.host import CurriculumHost
from macurr.messages import EnvSpec
from macurr.transports.encoding import decode
from macurr.transports.wire import CHALLENGE, CHUNK, DIGEST, FrameReader, forget, listen, pack, proof

__all__ = ["CurriculumServer"]

HANDSHAKE_SECONDS = 5.0
"""How long a peer may take to introduce itself."""
LOOK_SECONDS = 0.001
"""How long updates may be applied without a look at the sockets, which takes a system call."""
NAP_SECONDS = 0.01
"""How long results gather while nobody waits: each wake-up takes the interpreter from the learner, and cold caches."""
AWAKE_SECONDS = 0.25
"""How long every message is read at once, after one that somebody waits for."""
PATIENT_SECONDS = 0.003
"""An environment that has waited longer for a task from its stock needs its tasks sooner; less is a busy machine."""

_logger = logging.getLogger("macurr")
_servers: weakref.WeakSet[CurriculumServer] = weakref.WeakSet()


class _Peer:
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
        self.env_ids: list[int] = []
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


class CurriculumServer:
    """Serves a host to environments in other processes.

    Args:
        host: The host.
        window: How many updates an environment may have under way; acknowledged twice as often.
        patience: Seconds that one call of the curriculum may take, before it counts as stuck.
    """

    def __init__(self, host: CurriculumHost, window: int, patience: float) -> None:
        self._host = host
        self._call_patience = patience
        self._busy: tuple[str, float] | None = None
        self._lock = threading.RLock()  # held while peers are touched, never while the curriculum works
        self._ended = threading.Event()
        self._ack_every = max(1, window // 2)
        self._listener, self.address = listen()
        self._listener.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._waker, self._bell = socket.socketpair()
        self._selector.register(self._bell, selectors.EVENT_READ)
        self._peers: set[_Peer] = set()
        self._strangers: set[_Peer] = set()
        self._queue: deque[tuple[_Peer, str, Callable[[], object]]] = deque()
        self._looked = 0.0
        self._hurry()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()
        _servers.add(self)

    @property
    def queued(self) -> int:
        """Updates that have arrived and are not yet applied."""
        return len(self._queue)

    def start(self) -> None:
        """Begin to serve."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="macurr-server", daemon=True)
            self._thread.start()
            threading.Thread(target=self._watch, name="macurr-watchdog", daemon=True).start()

    def stop(self, timeout: float | None = None) -> None:
        """Apply everything that has been sent, then close every connection. May be called twice.

        Raises:
            TransportError: the curriculum is still busy after `timeout` seconds.
        """
        if os.getpid() != self._pid:
            return
        if not self._stopping:
            self._stopping = True
            with contextlib.suppress(OSError):
                self._waker.send(b"!")
            if self._thread is None:
                self._shut()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)
            if self._thread.is_alive():
                raise TransportError(
                    f"The curriculum is still busy after {timeout} s, with {self.queued} updates waiting. Look for a "
                    "call in it that does not return."
                )

    def drop_in_child(self) -> None:
        """Close this process's copies of the sockets: a forked child must not keep the connections alive."""
        self._stopping = True
        for sock in [self._listener, self._waker, self._bell, *(peer.sock for peer in self._peers)]:
            sock.close()
        self._selector.close()

    # The thread

    def _serve(self) -> None:
        try:
            while not self._stopping:
                self._turn()
            self._drain()
        except Exception as error:  # a defect here must reach the learner, not die with the thread
            self._host.fail(error)
        finally:
            self._ended.set()
            self._shut()

    def _watch(self) -> None:
        """Fail the host when one call of the curriculum takes longer than it may."""
        while not self._ended.wait(min(1.0, self._call_patience / 4)):
            busy = self._busy
            if busy is not None and time.monotonic() - busy[1] > self._call_patience:
                self._host.fail(
                    TimeoutError(
                        f"the curriculum has been busy with one {busy[0]} for {self._call_patience:g} s"
                    )
                )
                self._tell_failure(None, CurriculumError(f"The curriculum is stuck: {self._host.failure}."))
                return

    def _turn(self) -> None:
        now = time.monotonic()
        if not self._queue or now - self._looked > LOOK_SECONDS:
            if not self._queue and now > self._awake_until:
                time.sleep(NAP_SECONDS)
            self._look()
        if self._queue:
            self._do(*self._queue.popleft())
        if self._strangers:
            self._dismiss()

    def _hurry(self) -> None:
        self._awake_until = time.monotonic() + AWAKE_SECONDS

    def _look(self) -> None:
        for key, events in self._selector.select(0 if self._queue else self._patience()):
            if key.data is not None:
                self._attend(key.data, events)
            elif key.fileobj is self._listener:
                self._accept()
            else:
                self._bell.recv(CHUNK)
        self._looked = time.monotonic()

    def _attend(self, peer: _Peer, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._send(peer, b"")
        if events & selectors.EVENT_READ:
            self._read(peer)

    def _drain(self) -> None:
        """Take in what is already on the sockets, then apply it all."""
        for peer in list(self._peers):
            while peer in self._peers and self._read(peer):
                pass
        while self._queue:
            self._do(*self._queue.popleft())

    def _patience(self) -> float | None:
        if not self._strangers:
            return None
        return max(0.0, min(peer.deadline for peer in self._strangers) - time.monotonic())

    def _dismiss(self) -> None:
        now = time.monotonic()
        for peer in [peer for peer in self._strangers if now > peer.deadline]:
            self._drop(peer)

    # Connections

    def _accept(self) -> None:
        self._hurry()
        try:
            sock, _ = self._listener.accept()
        except OSError:  # the peer was gone before it was let in, or this process is out of descriptors
            _logger.warning("An environment could not be let in.", exc_info=True)
            return
        sock.setblocking(False)
        if sock.family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer = _Peer(sock)
        with self._lock:
            self._peers.add(peer)
            self._strangers.add(peer)
            self._selector.register(sock, selectors.EVENT_READ, peer)
        self._send(peer, peer.challenge)

    def _read(self, peer: _Peer) -> bool:
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
        try:
            self._take(peer, data)
        except Exception as error:  # whatever a damaged or foreign stream makes the unpickler raise
            _logger.warning("A peer that does not speak macurr's protocol was dropped: %r", error)
            self._drop(peer)
        return True

    def _take(self, peer: _Peer, data: bytes) -> None:
        if not peer.trusted:
            peer.greeting += data
            if len(peer.greeting) < DIGEST + CHALLENGE:
                return
            data = peer.greeting[DIGEST + CHALLENGE :]
            self._verify(peer)
        for frame in peer.reader.feed(data):
            self._route(peer, *frame)

    def _verify(self, peer: _Peer) -> None:
        key = self.address.key
        given, challenge = peer.greeting[:DIGEST], peer.greeting[DIGEST : DIGEST + CHALLENGE]
        if not hmac.compare_digest(given, proof(key, b"env", peer.challenge)):
            raise TransportError("The peer does not hold this curriculum's key.")
        peer.trusted = True
        self._strangers.discard(peer)
        self._send(peer, proof(key, b"host", challenge))

    def _send(self, peer: _Peer, data: bytes) -> None:
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

    def _drop(self, peer: _Peer) -> None:
        with self._lock:
            if peer not in self._peers:
                return
            self._peers.discard(peer)
            self._strangers.discard(peer)
            self._selector.unregister(peer.sock)
            peer.sock.close()
        if peer.reader.torn:
            self._host.counters.lost_frames += 1
            _logger.warning("Environments %s broke off in the middle of a message; it is lost.", peer.env_ids)
        for env_id in peer.env_ids:
            # Behind the updates of this environment that are still waiting.
            self._queue.append((peer, "departure", partial(self._host.disconnect, env_id)))

    def _shut(self) -> None:
        for sock in [self._listener, self._waker, self._bell, *(peer.sock for peer in self._peers)]:
            sock.close()
        self._peers.clear()
        self._selector.close()
        forget(self.address)

    # Frames

    def _route(self, peer: _Peer, kind: str, *parts: Any) -> None:
        if kind == "updates":
            self._take_updates(peer, *parts)
            return
        self._hurry()
        if kind == "request" and not parts[2]:
            self._do(peer, "request for tasks", partial(self._draw, peer, *parts))
        elif kind == "request":
            self._queue.append((peer, "request for tasks", partial(self._draw, peer, *parts)))
        elif kind == "hello":
            self._do(peer, "registration", partial(self._hello, peer, *parts))
        else:
            raise TransportError(f"Unknown message {kind!r}.")

    def _take_updates(
        self, peer: _Peer, env_id: int, wait: float | None, want: int, *encoded: tuple[Any, ...]
    ) -> None:
        if not want or (wait is not None and wait > PATIENT_SECONDS):
            self._hurry()
        if wait is not None:
            self._do(peer, "start of a task", partial(self._start, peer, env_id, wait))
        keeps_up = not self._queue
        for update in map(decode, encoded):
            self._queue.append((peer, "update", partial(self._apply, peer, update)))
        draw = partial(self._draw, peer, env_id, want, False, None)
        if want and keeps_up:  # fresher by these updates, and no one waits for them
            self._queue.append((peer, "request for tasks", draw))
        elif want:
            self._do(peer, "request for tasks", draw)

    def _do(self, peer: _Peer, what: str, work: Callable[[], object]) -> None:
        """Do one piece of work for a peer. What it raises goes to the environments, never into the thread."""
        self._busy = (what, time.monotonic())
        try:
            work()
        except MacurrError as error:
            self._tell_failure(peer, error)
        finally:
            self._busy = None

    def _tell_failure(self, peer: _Peer | None, error: MacurrError) -> None:
        """Tell one peer what went wrong for it, or everybody that the curriculum has failed."""
        failure = self._host.failure
        trace = "".join(traceback.format_exception(error if failure is None else failure))
        frame = pack("failed", type(error).__name__, str(error), trace)
        with self._lock:
            # A stranger in mid-handshake would take the frame for the proof that it waits for; it is told at its hello.
            concerned = {other for other in self._peers if other.trusted} if failure is not None else set()
            for other in concerned | ({peer} if peer is not None else set()):
                if not other.told:
                    other.told = True
                    self._send(other, frame)

    def _hello(self, peer: _Peer, spec: Any, count: int) -> None:
        if not isinstance(spec, EnvSpec):
            raise TransportError(
                f"An environment introduces itself by an EnvSpec; got a {type(spec).__name__}."
            )
        welcomes = []
        for _ in range(count):
            welcome = self._host.connect(spec)
            peer.env_ids.append(welcome.env_id)
            welcomes.append(tuple(welcome))
        self._send(peer, pack("welcome", welcomes))

    def _draw(self, peer: _Peer, env_id: int, k: int, start: bool, wait: float | None) -> None:
        self._check_owner(peer, env_id)
        if wait is not None:
            self._host.start(env_id, wait)
        for assignment in self._host.draw(env_id, k, start=start):
            self._send(peer, pack("task", env_id, *assignment))

    def _start(self, peer: _Peer, env_id: int, wait: float) -> None:
        self._check_owner(peer, env_id)
        self._host.start(env_id, wait)

    def _apply(self, peer: _Peer, update: Any) -> None:
        self._check_owner(peer, getattr(update, "env_id", None))
        self._host.apply(update)
        peer.applied += 1
        if peer.applied % self._ack_every == 0:
            self._send(peer, pack("applied", peer.applied))

    def _check_owner(self, peer: _Peer, env_id: Any) -> None:
        if env_id not in peer.env_ids:
            raise TransportError(f"This connection is of the environments {peer.env_ids}, not of {env_id}.")


def _after_fork_in_child() -> None:
    for server in list(_servers):
        server.drop_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)

"""The serving side of the process transport: one thread, one selector, no lock on the data path.

Requests for stock tasks are answered as soon as they are read; updates wait in one first-in-first-out queue and
are applied one at a time, with a look at the sockets once a millisecond has passed since the last. Tasks for the
environments of one socket go out together, before the next look and before a sleep. While every environment finds its
next task in its stock, results gather for one to five hundredths of a second before they are read. A slow curriculum
delays a task by at most one update, and what waits is bounded by the environments' own windows (`maxsize` updates
each). A call that does not return within the timeout is noticed by a watchdog thread, which tells everybody.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
import traceback
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

from typing_extensions import override

from macurr.errors import CurriculumError, MacurrError, TransportError
from macurr.host import CurriculumHost
from macurr.messages import EnvSpec
from macurr.transports.connections import Connections, Peer
from macurr.transports.encoding import decode
from macurr.transports.naps import Nap
from macurr.transports.watchdog import Watchdog
from macurr.transports.wire import CHUNK, pack

__all__ = ["CurriculumServer"]

LOOK_SECONDS = 0.001
"""How long updates may be applied without a look at the sockets, which takes a system call."""
AWAKE_SECONDS = 0.25
"""How long every message is read at once, after one that somebody waits for."""
PATIENT_SECONDS = 0.003
"""An environment that has waited longer for a task from its stock needs its tasks sooner; less is a busy machine."""

_logger = logging.getLogger("macurr")
_servers: weakref.WeakSet[CurriculumServer] = weakref.WeakSet()


class CurriculumServer(Connections):
    """Serves a host to environments in other processes.

    Args:
        host: The host.
        window: How many updates an environment may have under way; acknowledged twice as often.
        patience: Seconds that one call of the curriculum may take, before it counts as stuck.
    """

    def __init__(self, host: CurriculumHost, window: int, patience: float) -> None:
        super().__init__()
        self._host = host
        self._patience_of_calls = patience
        self._watchdog = Watchdog(patience, self._stuck)
        self._ack_every = max(1, window // 2)
        self._nap = Nap(self._ack_every)
        self._queue: deque[tuple[Any, ...]] = deque()  # the arguments of `_do`
        self._answering: list[Peer] = []
        self._looked = 0.0
        self._messages = 0
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
            self._watchdog.start()

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
        self._close()

    # The thread

    def _serve(self) -> None:
        try:
            while not self._stopping:
                self._turn()
            self._drain()
        except Exception as error:  # a defect here must reach the learner, not die with the thread
            self._host.fail(error)
        finally:
            self._watchdog.stop()
            self._shut()

    def _stuck(self, what: str) -> None:
        """Fail the host: one call of the curriculum takes longer than it may."""
        late = TimeoutError(f"the curriculum has been busy with one {what} for {self._patience_of_calls:g} s")
        self._host.fail(late)
        self._tell_failure(None, CurriculumError(f"The curriculum is stuck: {self._host.failure}."))

    def _turn(self) -> None:
        now = time.monotonic()
        if not self._queue or now - self._looked > LOOK_SECONDS:
            self._answer()
            napping = not self._queue and now > self._awake_until
            if napping:
                time.sleep(self._nap.seconds)
            self._look()
            if napping:
                self._nap.over(self._messages, self._looked - now, self._full)
        if self._queue:
            self._do(*self._queue.popleft())
        if self._strangers:
            self._dismiss()

    def _hurry(self) -> None:
        self._awake_until = time.monotonic() + AWAKE_SECONDS

    def _look(self) -> None:
        self._messages, self._full = 0, False
        for key, events in self._selector.select(0 if self._queue else self._patience()):
            if key.data is not None:
                self._attend(key.data, events)
            elif key.fileobj is self._listener:
                self._hurry()
                self._accept()
            else:
                self._bell.recv(CHUNK)
        self._answer()
        self._looked = time.monotonic()

    def _answer(self) -> None:
        """Send every environment the tasks that have been drawn for it."""
        for peer in self._answering:
            answers, peer.answers = peer.answers, []
            self._send(peer, pack("tasks", *answers))
        self._answering.clear()

    def _drain(self) -> None:
        """Take in what is already on the sockets, then apply it all."""
        for peer in list(self._peers):
            while peer in self._peers and self._read(peer):
                pass
        while self._queue:
            self._do(*self._queue.popleft())
        self._answer()

    # Frames

    @override
    def _route(self, peer: Peer, kind: str, *parts: Any) -> None:
        self._messages += 1
        if kind == "updates":
            self._take_updates(peer, *parts)
            return
        self._hurry()
        if kind == "request" and not parts[2]:
            self._do(peer, "request for tasks", self._draw, peer, *parts)
        elif kind == "request":
            self._queue.append((peer, "request for tasks", self._draw, peer, *parts))
        elif kind == "hello":
            self._do(peer, "registration", self._hello, peer, *parts)
        elif kind == "leave":  # behind the updates of this environment that are still waiting
            self._queue.append((peer, "departure", self._leave, peer, *parts))
        else:
            raise TransportError(f"Unknown message {kind!r}.")

    def _take_updates(
        self, peer: Peer, env_id: int, wait: float | None, want: int, *encoded: tuple[Any, ...]
    ) -> None:
        waited = wait is not None and wait > PATIENT_SECONDS
        if not want or (waited and not self._nap.cut()):
            self._hurry()
        if wait is not None:
            self._do(peer, "start of a task", self._start, peer, env_id, wait)
        keeps_up = not self._queue
        for update in map(decode, encoded):
            self._queue.append((peer, "update", self._apply, peer, update))
        if want and keeps_up:  # fresher by these updates, and no one waits for them
            self._queue.append((peer, "request for tasks", self._draw, peer, env_id, want, False, None))
        elif want:
            self._do(peer, "request for tasks", self._draw, peer, env_id, want, False, None)

    @override
    def _left(self, peer: Peer) -> None:
        if peer.reader.torn:
            self._host.counters.lost_frames += 1
            _logger.warning(
                "Environments %s broke off in the middle of a message; it is lost.", sorted(peer.env_ids)
            )
        for env_id in sorted(peer.env_ids):
            # Behind the updates of this environment that are still waiting.
            self._queue.append((peer, "departure", self._host.disconnect, env_id))

    def _do(self, peer: Peer, what: str, work: Callable[..., object], *args: Any) -> None:
        """Do one piece of work for a peer. What it raises goes to the environments, never into the thread."""
        self._watchdog.busy = (what, time.monotonic())
        try:
            work(*args)
        except MacurrError as error:
            self._tell_failure(peer, error)
        finally:
            self._watchdog.busy = None

    def _tell_failure(self, peer: Peer | None, error: MacurrError) -> None:
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

    def _hello(self, peer: Peer, spec: Any, count: int) -> None:
        if not isinstance(spec, EnvSpec):
            raise TransportError(
                f"An environment introduces itself by an EnvSpec; got a {type(spec).__name__}."
            )
        welcomes = []
        for _ in range(count):
            welcome = self._host.connect(spec)
            peer.env_ids.add(welcome.env_id)
            welcomes.append(tuple(welcome))
        self._send(peer, pack("welcome", welcomes))

    def _draw(self, peer: Peer, env_id: int, k: int, start: bool, wait: float | None) -> None:
        self._check_owner(peer, env_id)
        if wait is not None:
            self._host.start(env_id, wait)
        if not peer.answers:
            self._answering.append(peer)
        peer.answers += [(env_id, *assignment) for assignment in self._host.draw(env_id, k, start=start)]
        if start:  # somebody waits for it
            self._answer()

    def _leave(self, peer: Peer, env_id: int) -> None:
        self._check_owner(peer, env_id)
        peer.env_ids.discard(env_id)
        self._host.disconnect(env_id)

    def _start(self, peer: Peer, env_id: int, wait: float) -> None:
        self._check_owner(peer, env_id)
        self._host.start(env_id, wait)

    def _apply(self, peer: Peer, update: Any) -> None:
        self._check_owner(peer, getattr(update, "env_id", None))
        self._host.apply(update)
        peer.applied += 1
        if peer.applied % self._ack_every == 0:
            self._send(peer, pack("applied", peer.applied))

    def _check_owner(self, peer: Peer, env_id: Any) -> None:
        if env_id not in peer.env_ids:
            raise TransportError(
                f"This connection is of the environments {sorted(peer.env_ids)}, not of {env_id}."
            )


def _after_fork_in_child() -> None:
    for server in list(_servers):
        server.drop_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)

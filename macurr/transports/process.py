"""The process transport: environments in other processes of this machine, over a Unix socket.

The handle is an address, so it can be pickled at any time, works under fork, spawn and forkserver, and survives
being cloned: every environment opens its own connection at its first reset and gets its own id. The curriculum
stays in the process that made it, served by one thread. A worker that dies is seen at once as end-of-file.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from typing_extensions import override

from macurr import errors
from macurr.curriculum import Curriculum
from macurr.errors import (
    BacklogError,
    CurriculumError,
    CurriculumLost,
    MacurrError,
    TaskTimeoutError,
    TransportError,
    UsageError,
)
from macurr.host import Assignment, CurriculumHost
from macurr.messages import EnvSpec, Update
from macurr.transports.base import SyncedCurriculum
from macurr.transports.encoding import encode
from macurr.transports.server import CurriculumServer
from macurr.transports.wire import CHUNK, Address, FrameReader, not_sent, open_socket, pack, wait_for

__all__ = ["ProcessComponents", "ProcessLink", "make_multiprocessing_curriculum"]

DEFAULT_MAXSIZE = 64
STUCK = 0.8
"""Part of the timeout after which a call counts as stuck: before environments give up without knowing why."""

_logger = logging.getLogger("macurr")


class ProcessComponents:
    """The address of a curriculum on this machine, with the settings of the link."""

    def __init__(self, address: Address, timeout: float, maxsize: int) -> None:
        self.address, self.timeout, self.maxsize = address, timeout, maxsize

    def connect(self, spec: EnvSpec) -> ProcessLink:
        """Register one environment.

        Raises:
            CurriculumLost: nobody listens at the address.
            UsageError: the curriculum refuses the environment.
            TransportError: the key does not fit.
        """
        return self.connect_many(spec, 1)[0]

    def connect_many(self, spec: EnvSpec, count: int) -> list[ProcessLink]:
        """Register several environments over one socket, for those that are stepped together."""
        return _Channel(self, spec, count).links


class ProcessLink:
    """An environment's connection over a socket, which it may share with others of its vector."""

    def __init__(self, channel: _Channel, env_id: int, step_fields: frozenset[str]) -> None:
        self._channel = channel
        self.env_id, self.step_fields = env_id, step_fields
        self.tasks: deque[Assignment] = deque()
        self._wait: float | None = None

    def send(self, update: Update) -> None:
        """Send one update; waits while `maxsize` updates are unapplied."""
        self.send_all((update,), 0)

    def send_all(self, updates: Sequence[Update], want: int) -> None:
        """Send several updates, and ask for tasks, in one message; waits while `maxsize` updates are unapplied."""
        self._channel.send(updates, self.env_id, self._wait, want)
        self._wait = None

    def request(self, k: int, *, start: bool) -> None:
        """Ask for k tasks."""
        self._channel.write(pack("request", self.env_id, k, start, self._wait))
        self._wait = None

    def started(self, wait: float) -> None:
        """Note that a task from the stock is begun; travels with the next message."""
        self._wait = wait

    def task(self) -> Assignment:
        """The oldest task asked for."""
        self._channel.read_until(lambda: bool(self.tasks), TaskTimeoutError, "a task")
        return self.tasks.popleft()

    def close(self) -> None:
        """Close the socket."""
        self._channel.close()


class _Channel:
    """One authenticated socket, and the links that share it."""

    def __init__(self, components: ProcessComponents, spec: EnvSpec, count: int) -> None:
        self._timeout, self._maxsize = components.timeout, components.maxsize * count
        try:
            self._sock = open_socket(components.address, components.timeout)
        except OSError as error:
            raise CurriculumLost(
                f"No curriculum listens at the address of this handle ({error}). Make the environments while the "
                "object that make_multiprocessing_curriculum returned is open, and call its start() if start=False."
            ) from error
        self._sock.setblocking(False)  # what can be done at once takes one system call
        self.close = weakref.finalize(self, _hang_up, self._sock, os.getpid())
        self._reader = FrameReader()
        self._sent = self._applied = 0
        self.links: list[ProcessLink] = []
        self._by_id: dict[int, ProcessLink] = {}
        self.write(pack("hello", spec, count))
        self.read_until(lambda: bool(self.links), TaskTimeoutError, "the curriculum's welcome")

    def send(self, updates: Sequence[Update], env_id: int, wait: float | None, want: int) -> None:
        """Send updates of one environment; waits while too many are unapplied."""
        try:
            data = pack("updates", env_id, wait, want, *map(encode, updates))
        except TransportError:
            raise
        except Exception as error:  # pickle raises whatever an object's own methods raise
            raise not_sent(updates[0], error) from error
        if self._sent - self._applied >= self._maxsize:
            self.read_until(
                lambda: self._sent - self._applied < self._maxsize, BacklogError, "updates to be applied"
            )
        self.write(data)
        self._sent += len(updates)

    def write(self, data: bytes) -> None:
        """Send bytes, all of them or none that anybody would read."""
        try:
            self._send_all(data)
        except TimeoutError as error:
            self.close()
            raise BacklogError(self._late("room for updates")) from error
        except OSError as error:
            self._explain_loss(error)
        except BaseException:
            # Interrupted in the middle of a frame: nothing that follows could be read.
            self.close()
            raise

    def _send_all(self, data: bytes) -> None:
        deadline, rest = time.monotonic() + self._timeout, memoryview(data)
        while rest:
            try:
                rest = rest[self._sock.send(rest) :]
            except BlockingIOError:
                if not wait_for(self._sock, deadline - time.monotonic(), writing=True):
                    raise TimeoutError from None

    def read_until(self, done: Callable[[], bool], late: type[MacurrError], what: str) -> None:
        """Read until `done()`; what is already here costs no system call."""
        deadline = 0.0
        while not done():
            now = time.monotonic()
            deadline = deadline or now + self._timeout
            if now >= deadline:
                raise late(self._late(what))
            try:
                data = self._sock.recv(CHUNK)
            except BlockingIOError:
                wait_for(self._sock, deadline - now, writing=False)
                continue
            except OSError as error:
                self._explain_loss(error)
            if not data:
                self._explain_loss(None)
            for frame in self._reader.feed(data):
                self._take(*frame)

    def _take(self, kind: str, *parts: Any) -> None:
        if kind == "task":
            self._by_id[parts[0]].tasks.append(Assignment(*parts[1:]))
        elif kind == "applied":
            self._applied = parts[0]
        elif kind == "welcome":
            self.links = [ProcessLink(self, *welcome) for welcome in parts[0]]
            self._by_id = {link.env_id: link for link in self.links}
        else:
            self.close()
            name, message, trace = parts
            raise getattr(errors, name, CurriculumError)(message) from CurriculumError(
                f"In the curriculum's process:\n{trace}"
            )

    def _explain_loss(self, error: OSError | None) -> NoReturn:
        """Raise why the connection broke: what the host said last, or that it is gone."""
        with contextlib.suppress(OSError):
            for frame in self._reader.feed(self._sock.recv(8 * CHUNK)):
                self._take(*frame)
        self.close()
        raise CurriculumLost(
            "The process that owns the curriculum is gone, or the curriculum was closed while environments were "
            "running. Close the environments first."
        ) from error

    def _late(self, what: str) -> str:
        ids = sorted(self._by_id) or "(new)"
        return (
            f"Environment {ids} waited {self._timeout:g} s for {what}; {self._sent - self._applied} of its updates "
            f"are under way (at most {self._maxsize}). The curriculum is too slow or blocked: make its updates "
            "cheaper, send fewer (max_envs, step_fields), or raise timeout or maxsize."
        )


def _hang_up(sock: socket.socket, pid: int) -> None:
    # Children that were forked in the meantime hold the connection open, so it is shut down; they only let go of it.
    if os.getpid() == pid:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
    sock.close()


class MultiProcessingCurriculum(SyncedCurriculum):
    """A curriculum served to environments in other processes."""

    host: CurriculumHost

    def __init__(self, host: CurriculumHost, timeout: float, maxsize: int) -> None:
        self._server = CurriculumServer(host, maxsize, STUCK * timeout)
        self._timeout = timeout
        super().__init__(host, ProcessComponents(self._server.address, timeout, maxsize))
        # Also at exit, also when nobody calls close(); never in a forked child.
        self._finalizer = weakref.finalize(self, _stop, self._server, os.getpid(), timeout)

    def start(self) -> None:
        """Begin to serve. Environments that connect before wait for it."""
        self._server.start()

    @override
    def close(self) -> None:
        """Apply everything that environments have sent, then close their connections.

        Raises:
            TransportError: the curriculum is busy for longer than the timeout.
        """
        self._server.stop(self._timeout)
        self.host.close()

    @override
    def link_metrics(self) -> dict[str, float]:
        return {**super().link_metrics(), "queue_depth": float(self._server.queued)}


def _stop(server: CurriculumServer, pid: int, timeout: float) -> None:
    if os.getpid() != pid:
        return
    try:
        server.stop(timeout)
    except TransportError as error:  # at exit there is nobody left to raise it to
        _logger.warning("%s", error)


def make_multiprocessing_curriculum(
    curriculum: Curriculum,
    start: bool = True,
    timeout: float = 60.0,
    maxsize: int = DEFAULT_MAXSIZE,
    max_envs: int | None = None,
) -> MultiProcessingCurriculum:
    """Serve a curriculum to environments in any process of this machine.

    Updates of one environment are applied in their order; those of several in the order of their arrival, which
    is up to the operating system. For runs that repeat exactly, use `make_local_curriculum`.

    Args:
        curriculum: The curriculum; from now on only the returned object may call it.
        start: Serve at once. Otherwise call `start()`; environments that connect before wait for it.
        timeout: Seconds that an environment may wait for a task, or for room for its updates.
        maxsize: Number of updates (step batches, episodes) that one environment may have under way; past it the
            environment waits. Bounds the memory that a slow curriculum can cost.
        max_envs: Only the first that many environments send step updates; None for all.

    Returns:
        The synced curriculum. Give its `components` to the environments' sync wrappers.

    Raises:
        UsageError: `timeout` or `maxsize` is not positive.
    """
    if timeout <= 0 or maxsize < 1:
        raise UsageError(f"timeout and maxsize must be positive; got timeout={timeout}, maxsize={maxsize}.")
    synced = MultiProcessingCurriculum(CurriculumHost(curriculum, max_envs), timeout, maxsize)
    if start:
        synced.start()
    return synced

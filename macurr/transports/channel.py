"""The environments' side of the process transport: a socket, and the environments that share it."""

from __future__ import annotations

import contextlib
import os
import socket
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from macurr import errors
from macurr.errors import (
    BacklogError,
    CurriculumError,
    CurriculumLost,
    MacurrError,
    TaskTimeoutError,
    TransportError,
)
from macurr.host import Assignment
from macurr.messages import EnvSpec, Update
from macurr.transports.encoding import encode
from macurr.transports.wire import CHUNK, Address, FrameReader, not_sent, open_socket, pack, wait_for

__all__ = ["Channel", "ProcessLink"]


class ProcessLink:
    """An environment's connection over a socket, which it may share with others."""

    def __init__(self, channel: Channel, env_id: int, step_fields: frozenset[str]) -> None:
        self._channel = channel
        self.env_id, self.step_fields = env_id, step_fields
        self.tasks: deque[Assignment] = deque()
        self._waited = False
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
        # A task that was there has not been waited for, however long a busy machine took to hand it over.
        self._wait = wait if self._waited else 0.0

    def task(self) -> Assignment:
        """The oldest task asked for."""
        tasks = self.tasks
        self._waited = not tasks and self._channel.read_until(lambda: bool(tasks), TaskTimeoutError, "a task")
        return tasks.popleft()

    def close(self) -> None:
        """Leave the socket, and close it behind the last."""
        self._channel.leave(self)


class Channel:
    """One authenticated socket, and the links that share it.

    Args:
        address: Where the curriculum listens.
        timeout: Seconds to wait for anything.
        maxsize: How many updates each environment may have under way.

    Raises:
        CurriculumLost: nobody listens at the address.
        TransportError: the key does not fit.
    """

    def __init__(self, address: Address, timeout: float, maxsize: int) -> None:
        self._timeout, self._each = timeout, maxsize
        try:
            self._sock = open_socket(address, timeout)
        except OSError as error:
            raise CurriculumLost(
                f"No curriculum listens at the address of this handle ({error}). Make the environments while the "
                "object that make_multiprocessing_curriculum returned is open, and call its start() if start=False."
            ) from error
        self._sock.setblocking(False)  # what can be done at once takes one system call
        self._pid = os.getpid()
        self.close = weakref.finalize(self, _hang_up, self._sock, self._pid)
        self._reader = FrameReader()
        self._farewells = b""
        self._sent = self._applied = 0
        self._welcomes: list[tuple[int, frozenset[str]]] = []
        self._links: dict[int, ProcessLink] = {}

    @property
    def usable(self) -> bool:
        """Whether the socket is open, and this process's own."""
        return self.close.alive and self._pid == os.getpid()

    def register(self, spec: EnvSpec, count: int) -> list[ProcessLink]:
        """Register environments.

        Raises:
            UsageError: the curriculum refuses them; the channel is closed.
        """
        self.write(pack("hello", spec, count))
        self.read_until(lambda: bool(self._welcomes), TaskTimeoutError, "the curriculum's welcome")
        links = [ProcessLink(self, *welcome) for welcome in self._welcomes]
        self._welcomes = []
        self._links.update((link.env_id, link) for link in links)
        return links

    def leave(self, link: ProcessLink) -> None:
        """Let one environment go; what it has sent before is applied before. Waits for nothing."""
        if self._links.pop(link.env_id, None) is None:
            return
        if not self._links or not self.usable:
            self.close()
            return
        self._farewells += pack("leave", link.env_id)
        try:
            self._farewells = self._farewells[self._sock.send(self._farewells) :]
        except OSError:  # what does not fit goes ahead of the next message
            return
        except BaseException:  # interrupted: nobody knows what has been sent
            self.close()
            raise

    @property
    def _most(self) -> int:
        return self._each * len(self._links)

    def send(self, updates: Sequence[Update], env_id: int, wait: float | None, want: int) -> None:
        """Send updates of one environment; waits while too many are unapplied."""
        try:
            data = pack("updates", env_id, wait, want, *map(encode, updates))
        except TransportError:
            raise
        except Exception as error:  # pickle raises whatever an object's own methods raise
            raise not_sent(updates[0], error) from error
        if self._sent - self._applied >= self._most:
            self.read_until(
                lambda: self._sent - self._applied < self._most, BacklogError, "updates to be applied"
            )
        self.write(data)
        self._sent += len(updates)

    def write(self, data: bytes) -> None:
        """Send bytes, all of them or none that anybody would read."""
        if self._farewells:
            data, self._farewells = self._farewells + data, b""
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
        deadline, rest = 0.0, memoryview(data)
        while rest:
            try:
                rest = rest[self._sock.send(rest) :]
            except BlockingIOError:
                now = time.monotonic()
                deadline = deadline or now + self._timeout
                if not wait_for(self._sock, deadline - now, writing=True):
                    raise TimeoutError from None

    def read_until(self, done: Callable[[], bool], late: type[MacurrError], what: str) -> bool:
        """Read until `done()`; what is already here costs no system call.

        Returns:
            Whether it had to be waited for.
        """
        deadline, waited = 0.0, False
        while not done():
            now = time.monotonic()
            deadline = deadline or now + self._timeout
            if now >= deadline:
                raise late(self._late(what))
            try:
                data = self._sock.recv(CHUNK)
            except BlockingIOError:
                wait_for(self._sock, deadline - now, writing=False)
                waited = True
                continue
            except OSError as error:
                self._explain_loss(error)
            if not data:
                self._explain_loss(None)
            for frame in self._reader.feed(data):
                self._take(*frame)
        return waited

    def _take(self, kind: str, *parts: Any) -> None:
        if kind == "tasks":
            for env_id, *assignment in parts:
                if env_id in self._links:
                    self._links[env_id].tasks.append(Assignment(*assignment))
        elif kind == "applied":
            self._applied = parts[0]
        elif kind == "welcome":
            self._welcomes = parts[0]
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
        ids = sorted(self._links) or "(new)"
        return (
            f"Environment {ids} waited {self._timeout:g} s for {what}; {self._sent - self._applied} of its updates "
            f"are under way (at most {self._most}). The curriculum is too slow or blocked: make its updates "
            "cheaper, send fewer (max_envs, step_fields), or raise timeout or maxsize."
        )


def _hang_up(sock: socket.socket, pid: int) -> None:
    # Children that were forked in the meantime hold the connection open, so it is shut down; they only let go of it.
    if os.getpid() == pid:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
    sock.close()

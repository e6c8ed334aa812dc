"""The process transport: environments in other processes of this machine, over a Unix socket.

The handle is an address, so it can be pickled at any time, works under fork, spawn and forkserver, and survives
being cloned: every environment opens its own connection at its first reset and gets its own id. The curriculum
stays in the process that made it, served by one thread. A worker that dies is seen at once as end-of-file.
"""

from __future__ import annotations

import logging
import os
import weakref
from typing import Any

from typing_extensions import override

from macurr.curriculum import Curriculum
from macurr.errors import TransportError, UsageError
from macurr.host import CurriculumHost
from macurr.messages import EnvSpec
from macurr.transports.base import SyncedCurriculum
from macurr.transports.channel import Channel, ProcessLink
from macurr.transports.server import CurriculumServer
from macurr.transports.wire import Address

__all__ = ["ProcessComponents", "ProcessLink", "SharedComponents", "make_multiprocessing_curriculum"]

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
        return Channel(self.address, self.timeout, self.maxsize).register(spec, count)

    def shared(self) -> SharedComponents:
        """The same address for environments that one thread of a process steps: they share one socket."""
        return SharedComponents(self.address, self.timeout, self.maxsize)


class SharedComponents(ProcessComponents):
    """The address of a curriculum for environments that one thread of a process steps: they share one socket.

    So that the curriculum's process reads what several of them send, and answers them, in one go. Each environment
    still has its own id, order of updates and stock of tasks, and leaves for itself when it is closed. What breaks the
    socket ends the connection of all, such as a curriculum that refuses one of them. A copy, made by pickling, deep
    copy or fork, makes a socket of its own.
    """

    def __init__(self, address: Address, timeout: float, maxsize: int) -> None:
        super().__init__(address, timeout, maxsize)
        self._channel: Channel | None = None

    @override
    def connect_many(self, spec: EnvSpec, count: int) -> list[ProcessLink]:
        """Register several environments."""
        if self._channel is None or not self._channel.usable:
            self._channel = Channel(self.address, self.timeout, self.maxsize)
        return self._channel.register(spec, count)

    def __reduce__(self) -> Any:
        return SharedComponents, (self.address, self.timeout, self.maxsize)


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

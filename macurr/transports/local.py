"""The local transport: environments and curriculum in one process, by direct calls.

Deterministic: the same seeds and the same calls give the same tasks.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakValueDictionary

from macurr.curriculum import Curriculum
from macurr.errors import CurriculumLost, UsageError
from macurr.host import Assignment, CurriculumHost
from macurr.messages import EnvSpec, Update
from macurr.transports.base import SyncedCurriculum

__all__ = ["LocalComponents", "make_local_curriculum"]

_hosts: WeakValueDictionary[str, CurriculumHost] = WeakValueDictionary()
_names = itertools.count()


class LocalComponents:
    """The name of a curriculum in this process."""

    def __init__(self, name: str, pid: int) -> None:
        self.name, self.pid = name, pid

    def connect(self, spec: EnvSpec) -> LocalLink:
        """Register one environment.

        Raises:
            UsageError: this is another process than the curriculum's, or the curriculum refuses the environment.
            CurriculumLost: the curriculum has been closed.
        """
        if os.getpid() != self.pid:
            raise UsageError(
                f"A local curriculum lives in process {self.pid}, and this environment in process {os.getpid()}. "
                "Use make_multiprocessing_curriculum for environments in other processes."
            )
        host = _hosts.get(self.name)
        if host is None or host.closed:
            raise CurriculumLost(
                "The local curriculum has been closed or deleted. Keep the object that make_local_curriculum "
                "returned for as long as its environments run."
            )
        return LocalLink(host, spec)

    def connect_many(self, spec: EnvSpec, count: int) -> list[LocalLink]:
        """Register several environments that are stepped together."""
        return [self.connect(spec) for _ in range(count)]


class LocalLink:
    """An environment's connection by direct calls."""

    def __init__(self, host: CurriculumHost, spec: EnvSpec) -> None:
        self._host: CurriculumHost | None = host
        self.env_id, self.step_fields = host.connect(spec)
        self._tasks: deque[Assignment] = deque()

    def send(self, update: Update) -> None:
        """Apply one update."""
        self._open().apply(update)

    def send_all(self, updates: Sequence[Update], want: int) -> None:
        """Apply several updates, then draw tasks for the stock."""
        for update in updates:
            self.send(update)
        if want:
            self.request(want, start=False)

    def request(self, k: int, *, start: bool) -> None:
        """Draw k tasks now."""
        self._tasks.extend(self._open().draw(self.env_id, k, start=start))

    def started(self, wait: float) -> None:
        """Note that a task from the stock is begun."""
        self._open().start(self.env_id, wait)

    def task(self) -> Assignment:
        """The oldest task that was asked for."""
        self._open().check()
        return self._tasks.popleft()

    def state_dict(self) -> dict[str, Any]:
        """The tasks that are out."""
        record = self._open().record(self.env_id)
        return {"begun": list(record.begun), "stock": list(record.stock), "tasks": list(self._tasks)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up these tasks, which the host has from the state that it has loaded."""
        self._open().resume(self.env_id, state["begun"], state["stock"])
        self._tasks = deque(state["tasks"])

    def close(self) -> None:
        """Let go of the host."""
        host, self._host = self._host, None
        if host is not None and host.failure is None:
            host.disconnect(self.env_id)

    def _open(self) -> CurriculumHost:
        if self._host is None or self._host.closed:
            raise CurriculumLost(
                "The link to the local curriculum is closed. Make a new one before going on."
            )
        return self._host


class LocalCurriculum(SyncedCurriculum):
    """A curriculum served in its own process."""

    host: CurriculumHost

    def __init__(self, host: CurriculumHost) -> None:
        name = f"local-{next(_names)}"
        super().__init__(host, LocalComponents(name, os.getpid()))
        _hosts[name] = host

    def close(self) -> None:
        """Stop serving."""
        self.host.close()


def make_local_curriculum(curriculum: Curriculum, max_envs: int | None = None) -> LocalCurriculum:
    """Serve a curriculum to environments in this process.

    Args:
        curriculum: The curriculum; from now on only the returned object may call it.
        max_envs: Only the first that many environments send step updates; None for all.

    Returns:
        The synced curriculum. Give its `components` to the environments' sync wrappers.
    """
    return LocalCurriculum(CurriculumHost(curriculum, max_envs))

"""What the actor knows of the processes that write to it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from macurr.host import CurriculumHost, EnvRecord
from macurr.transports.ray.messages import Reply

__all__ = ["Worker", "Workers"]


@dataclass(slots=True)
class Worker:
    """A process that writes letters.

    Attributes:
        incarnation: Which of the processes that have had this name it is.
        seq: The number of its last letter that has been applied.
        reply: The reply to that letter, in case it was lost on its way.
        env_ids: Its environments.
        away: Those that were disconnected since it was silent for too long.
        heard: When its last letter came, in the time of this process.
        drained: Whether it has said that no more will come.
        updates: How many updates of it have been applied.
        durable: The number of its last letter that is in a checkpoint.
    """

    incarnation: str
    seq: int = 0
    reply: Reply | None = None
    env_ids: set[int] = field(default_factory=set)
    away: dict[int, EnvRecord] = field(default_factory=dict)
    heard: float = field(default_factory=time.monotonic)
    drained: bool = False
    updates: int = 0
    durable: int = 0


class Workers:
    """The workers by their names, and the rules by which they come and go.

    Args:
        host: The host that their environments are connected to.
        timeout: Seconds of silence after which a worker counts as gone.
    """

    def __init__(self, host: CurriculumHost, timeout: float) -> None:
        self._host, self._timeout = host, timeout
        self._swept = time.monotonic()
        self.by_name: dict[str, Worker] = {}
        self.former: dict[str, set[str]] = {}

    def find(self, name: str, incarnation: str) -> Worker | None:
        """The worker that a letter is from; one that is new is taken in, and replaces who had its name.

        Returns:
            The worker; None for one that has been replaced by a newer process of its name.
        """
        if incarnation in self.former.get(name, ()):
            return None
        worker = self.by_name.get(name)
        if worker is None or worker.incarnation != incarnation:
            if worker is not None:
                self.former.setdefault(name, set()).add(worker.incarnation)
                self._let_go(worker)
            worker = self.by_name[name] = Worker(incarnation)
        worker.heard = time.monotonic()
        self._welcome_back(worker)
        return worker

    def sweep(self) -> None:
        """Disconnect the environments of workers that have been silent for too long."""
        now = time.monotonic()
        if now - self._swept < self._timeout / 10:
            return
        self._swept = now
        for worker in self.by_name.values():
            if now - worker.heard > self._timeout:
                for env_id in sorted(worker.env_ids):
                    record = self._host.disconnect(env_id)
                    if record is not None:
                        worker.away[env_id] = record
                worker.env_ids.clear()

    def silent(self, seconds: float) -> list[str]:
        """The workers that have environments and have not been heard of for that long."""
        now = time.monotonic()
        return [
            name for name, worker in self.by_name.items() if worker.env_ids and now - worker.heard > seconds
        ]

    def writing(self) -> list[str]:
        """The workers that have environments and have not said that no more will come."""
        return [name for name, worker in self.by_name.items() if worker.env_ids and not worker.drained]

    def metrics(self) -> dict[str, float]:
        """How many there are."""
        return {"workers": float(sum(bool(worker.env_ids) for worker in self.by_name.values()))}

    def _welcome_back(self, worker: Worker) -> None:
        for env_id, record in worker.away.items():
            self._host.reconnect(env_id, record)
            worker.env_ids.add(env_id)
        worker.away.clear()

    def _let_go(self, worker: Worker) -> None:
        for env_id in sorted(worker.env_ids):
            self._host.disconnect(env_id)

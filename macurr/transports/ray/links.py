"""The address of a curriculum in a Ray cluster, and an environment's connection to it."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Sequence

from macurr.errors import TransportError
from macurr.host import Assignment
from macurr.messages import EnvSpec, Update
from macurr.transports.encoding import encode
from macurr.transports.ray.agent import Agent
from macurr.transports.ray.engine import connected_ray, forked, load_ray
from macurr.transports.ray.registry import agent_of
from macurr.transports.wire import not_sent, pack

__all__ = ["RayComponents", "RayLink"]


class RayComponents:
    """The name of a curriculum in a Ray cluster.

    Args:
        actor_name: The name of the actor that owns it.
        namespace: The actor's namespace; None for that of the process that connects.
        address: The cluster's address, for processes that are not connected to Ray yet, such as those that a
            vector environment spawns. None: they are refused.
        worker: A name for one of several exchanges of this process, each with a thread and a message under way of
            its own. None: the one that environments of a process share.
    """

    def __init__(
        self,
        actor_name: str = "curriculum",
        namespace: str | None = None,
        address: str | None = None,
        worker: str | None = None,
    ) -> None:
        self.actor_name, self.namespace, self.address, self.worker = actor_name, namespace, address, worker

    def connect(self, spec: EnvSpec) -> RayLink:
        """Register one environment.

        Raises:
            CurriculumLost: there is no such curriculum, or it is gone.
            UsageError: the curriculum refuses the environment, or this process cannot use Ray.
            MissingDependencyError: Ray is not installed.
        """
        return self.connect_many(spec, 1)[0]

    def connect_many(self, spec: EnvSpec, count: int) -> list[RayLink]:
        """Register several environments. All those of a process share one exchange of messages anyway."""
        ray = connected_ray(self.address, self.namespace, "A curriculum on a Ray cluster")
        agent = agent_of(ray, self.actor_name, self.namespace, self.worker)
        try:
            return [RayLink(agent, *welcome) for welcome in agent.connect(spec, count)]
        finally:
            agent.leave()

    def resolved(self) -> RayComponents:
        """The same, with what this process knows of the cluster filled in.

        Raises:
            MissingDependencyError: Ray is not installed.
        """
        ray = load_ray("A curriculum on a Ray cluster")
        if not ray.is_initialized():
            return self
        context = ray.get_runtime_context()
        return RayComponents(
            self.actor_name,
            self.namespace or context.namespace,
            self.address or context.gcs_address,
            self.worker,
        )

    def __repr__(self) -> str:
        return (
            f"RayComponents({self.actor_name!r}, namespace={self.namespace!r}, address={self.address!r}, "
            f"worker={self.worker!r})"
        )


class RayLink:
    """An environment's connection, through the agent of its process. No call of it calls Ray."""

    def __init__(self, agent: Agent, env_id: int, step_fields: frozenset[str]) -> None:
        self._agent = agent
        self.env_id, self.step_fields = env_id, step_fields
        self.tasks: deque[Assignment] = deque()
        self.under_way = 0
        self._wait: float | None = None
        agent.add(self)
        self._forgotten = weakref.finalize(self, agent.drop, env_id)
        self._forgotten.atexit = False

    def send(self, update: Update) -> None:
        """Send one update; waits while `maxsize` updates are unapplied."""
        self.send_all((update,), 0)

    def send_all(self, updates: Sequence[Update], want: int) -> None:
        """Send several updates, and ask for tasks, in one message; waits while `maxsize` updates are unapplied."""
        try:
            frame = pack("updates", self.env_id, self._wait, want, *map(encode, updates))
        except TransportError:
            raise
        except Exception as error:  # pickle raises whatever an object's own methods raise
            raise not_sent(updates[0], error) from error
        self._agent.send(self, frame, len(updates))
        self._wait = None

    def request(self, k: int, *, start: bool) -> None:
        """Ask for k tasks."""
        self._agent.ask(self, pack("request", self.env_id, k, start, self._wait), now=start)
        self._wait = None

    def started(self, wait: float) -> None:
        """Note that a task from the stock is begun; travels with the next message."""
        self._wait = wait
        if not self.tasks:
            self._agent.run_low()

    def task(self) -> Assignment:
        """The oldest task asked for."""
        if not self.tasks:
            self._agent.await_task(self)
        return self.tasks.popleft()

    def close(self) -> None:
        """Disconnect. The last environment of a process waits until everything has been delivered."""
        if self._forgotten.detach() is not None and not forked():
            self._agent.part(self.env_id)

"""The learner's side: a curriculum that lives in a Ray actor, as if it were here."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Concatenate, ParamSpec, TypeVar

import cloudpickle  # type: ignore[import-untyped]
import numpy as np
from typing_extensions import override

from macurr.curriculum import Curriculum, State
from macurr.errors import CurriculumLost, TransportError
from macurr.statistics import StatRecorder
from macurr.transports.base import Owner, SyncedCurriculum
from macurr.transports.ray.agent import HEARTBEAT
from macurr.transports.ray.courier import Courier
from macurr.transports.ray.engine import WATCH, ActorPort
from macurr.transports.ray.links import RayComponents
from macurr.transports.ray.messages import Outcome, Settings
from macurr.transports.ray.registry import agents
from macurr.transports.wire import pack

__all__ = ["RayCurriculum", "RemoteHost", "end_actor"]

CHANGES = frozenset(
    {
        "register_env",
        "unregister_env",
        "set_options",
        "update_on_abort",
        "update_on_demand",
        "update_on_episode",
        "update_on_step",
        "update_on_step_batch",
        "update_task_progress",
    }
)
"""The calls that change the curriculum: each is applied once, and again if a restart undoes it."""

P = ParamSpec("P")
T = TypeVar("T")
_logger = logging.getLogger("macurr")


class RemoteHost:
    """The stand-in, in this process, for the host in an actor.

    Args:
        port: The way to the actor.

    Raises:
        CurriculumLost: the actor is gone.
        MacurrError: the actor could not serve the curriculum.
    """

    def __init__(self, port: ActorPort) -> None:
        self.port = port
        self.settings: Settings = port.ask("settings").value()
        name = f"learner {uuid.uuid4().hex}"
        self._courier = Courier(port, name, saves=self.settings.saves)
        self._lock = threading.Lock()

    def call(
        self, method: Callable[Concatenate[Curriculum, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call a method of the curriculum by its name, in turn with the environments' updates.

        Raises:
            CurriculumError: the curriculum has failed; its exception is the cause.
            CurriculumLost: the actor is gone.
            TransportError: the actor does not answer in time.
        """
        name = method.__name__
        value: T = (self._change if name in CHANGES else self._ask_for)(name, args, kwargs)
        return value

    def get(self, name: str) -> Any:
        """Read an attribute of the curriculum: a copy."""
        return self._read("get", name)

    def metrics(self) -> dict[str, float]:
        """The counters of the host and of the actor."""
        found: dict[str, float] = self._read("metrics")
        return found

    def state_dict(self) -> State:
        """The host's state."""
        state: State = self._read("state")
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()`."""
        self._read("load", dict(state))

    def ask(self, method: str, *args: Any, group: str | None = None) -> Any:
        """Call a method of the actor.

        Raises:
            TransportError: it does not answer in time.
        """
        return self.port.ask(method, *args, group=group, patience=self._patience())

    def _ask_for(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        return self._read("call", name, *args, **kwargs)

    def _read(self, what: str, *args: Any, **kwargs: Any) -> Any:
        outcome: Outcome = self.ask("read", what, cloudpickle.dumps((args, kwargs)), group=WATCH)
        return outcome.value()

    def _change(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        frame = pack("learn", cloudpickle.dumps((name, args, kwargs)))
        with self._lock:
            reply = self._courier.bring(frame, patience=self._patience())
        if reply.outcome is not None:
            return reply.outcome.value()
        if reply.failure is not None:
            reply.failure.throw()
        return None

    def _patience(self) -> Callable[[], None]:
        seconds = self.settings.timeout
        deadline = time.monotonic() + seconds

        def check() -> None:
            if time.monotonic() > deadline:
                raise TransportError(
                    f"The curriculum's actor {self.port.name!r} has not answered for {seconds:g} s: it is busy, stuck, "
                    "or waits for a node on which it can be restarted. See health(), or raise timeout."
                )

        return check


class RayCurriculum(SyncedCurriculum):
    """A curriculum in a Ray actor.

    After `close()` the curriculum is in this process, so that it can still be read.

    Args:
        port: The way to the actor.
        components: The handle for environments.
    """

    host: Owner

    def __init__(self, port: ActorPort, components: RayComponents) -> None:
        self._remote: RemoteHost | None = RemoteHost(port)
        self._last_metrics: dict[str, float] = {}
        super().__init__(self._remote, components)

    # What a curriculum that lives elsewhere is now, rather than what it was when this object was made. The base
    # class assigns these; there is nothing to be kept.

    @property
    def task_space(self) -> Any:
        """The curriculum's task space as it is now."""
        return self.host.get("task_space")

    @task_space.setter
    def task_space(self, value: Any) -> None:
        pass

    @property
    def rng(self) -> np.random.Generator:
        """The curriculum's generator as it is now: a copy; what is drawn from it changes nothing."""
        generator: np.random.Generator = self.host.get("rng")
        return generator

    @rng.setter
    def rng(self, value: np.random.Generator) -> None:
        pass

    @property
    def stats(self) -> StatRecorder | None:
        """The running statistics as they are now: a copy."""
        recorder: StatRecorder | None = self.host.get("stats")
        return recorder

    @stats.setter
    def stats(self, value: StatRecorder | None) -> None:
        pass

    def health(self) -> dict[str, Any]:
        """How the actor is; answered also while it is busy or stuck.

        Returns:
            "pid", "cpu_seconds", "restarts", "busy_with", "busy_seconds" and "failure".

        Raises:
            CurriculumLost: the curriculum has been closed, or the actor is gone.
        """
        if self._remote is None:
            raise CurriculumLost("The curriculum has been closed, and its actor is gone.")
        found: dict[str, Any] = self._remote.ask("health", group=WATCH)
        return found

    @override
    def link_metrics(self) -> dict[str, float]:
        return {**self._last_metrics, **super().link_metrics()}

    @override
    def close(self) -> None:
        """Have all that environments have sent applied, take the curriculum into this process, end the actor.

        Environments of other processes are given three seconds to send what they have. A last checkpoint is
        written, if there are any.

        Raises:
            TransportError: the actor does not answer in time.
        """
        remote = self._remote
        if remote is None:
            return
        try:
            self._drain(remote)
            outcome: Outcome = remote.ask("hand_over")
        except CurriculumLost as error:
            _logger.warning("The curriculum's actor was gone before it was closed: %s", error)
            self._remote = None
            return
        self._remote = None
        if outcome.ok:
            self.host, self._last_metrics = outcome.value()
            end_actor(remote.port)
        else:
            _logger.warning(
                "The curriculum cannot be pickled and stays in its actor, from where it can be read until this "
                "process ends:\n%s",
                outcome.trace,
            )

    def _drain(self, remote: RemoteHost) -> None:
        handle = self.components
        deadline = time.monotonic() + 3 * HEARTBEAT
        while True:
            waiting = remote.ask("stop")
            if isinstance(handle, RayComponents):
                for agent in agents(handle.actor_name, handle.namespace):
                    agent.finish(remote.settings.timeout)
            if not waiting or time.monotonic() > deadline:
                break
            time.sleep(0.01)
        if waiting:
            _logger.warning("These workers did not say that they are done: %s", sorted(waiting))


def end_actor(port: ActorPort) -> None:
    """End the actor for good, and free its name."""
    with contextlib.suppress(Exception):  # it may be gone already, and so may Ray
        port.kill()

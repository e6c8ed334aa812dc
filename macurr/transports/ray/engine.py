"""Ray itself: imported when it is needed, never over a fork, and asked again where it says to."""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from macurr.errors import CurriculumLost, MissingDependencyError, TransportError, UsageError

__all__ = ["WATCH", "ActorPort", "check_process", "connected_ray", "forked", "load_ray"]

WATCH = "watch"
"""The concurrency group of calls that do not wait in line behind the workers' letters."""
SLICE = 0.5
"""Seconds between two looks at whether an answer is still worth waiting for."""
PAUSE = 0.05
"""Seconds before an actor that is not to be had at the moment is asked again."""

_forked_from: list[int] = []


def load_ray(purpose: str) -> Any:
    """The package `ray`.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise MissingDependencyError.for_extra("ray", "ray", purpose) from error


def forked() -> bool:
    """Whether this process was forked from one that was connected to Ray."""
    return bool(_forked_from) and _forked_from[0] != os.getpid()


def check_process() -> None:
    """Refuse to go on in a process that was forked from one that is connected to Ray.

    Raises:
        UsageError: this is such a process.
    """
    if forked():
        raise UsageError(
            f"Process {os.getpid()} was forked from process {_forked_from[0]}, which is connected to Ray, and a "
            "connection to Ray does not survive a fork. Start the environments' processes by spawn "
            '(multiprocessing.set_start_method("spawn") before a vector is made, or context="spawn"), or run '
            "the environments in Ray's own tasks and actors."
        )


def _before_fork() -> None:
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        _forked_from[:] = [os.getpid()]


def _after_fork_in_parent() -> None:
    _forked_from.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent)


def connected_ray(address: str | None, namespace: str | None, purpose: str) -> Any:
    """The package `ray`, connected to a cluster: the one of this process, or else the one at `address`.

    Raises:
        MissingDependencyError: Ray is not installed.
        UsageError: this process cannot be connected, or it is not known to what.
        CurriculumLost: nothing answers at the address.
    """
    check_process()
    ray = load_ray(purpose)
    if ray.is_initialized():
        return ray
    if address is None:
        raise UsageError(
            f"{purpose} needs a connection to Ray, and this process has none. Call ray.init(address=...) first."
        )
    try:
        ray.init(address=address, namespace=namespace, log_to_driver=False, configure_logging=False)
    except (ConnectionError, RuntimeError) as error:
        raise CurriculumLost(f"No Ray cluster answers at {address}: {error}") from error
    return ray


class ActorPort:
    """Calls to the actor that owns a curriculum.

    A call that Ray reports as not delivered is made again: the actor knows by their numbers which letters it has
    had. A call that Ray holds back, since the actor is being restarted, waits.

    Args:
        ray: The package, connected.
        name: The actor's name.
        namespace: Its namespace; None for that of this process.
        handle: The actor, where it is known already.

    Raises:
        CurriculumLost: there is no such actor.
    """

    def __init__(self, ray: Any, name: str, namespace: str | None, handle: Any = None) -> None:
        self._ray, self.name = ray, name
        self._session = ray.get_runtime_context().get_worker_id()
        try:
            self.handle = handle if handle is not None else ray.get_actor(name, namespace=namespace)
        except ValueError as error:
            raise CurriculumLost(
                f"There is no curriculum named {name!r} in Ray's namespace "
                f"{namespace or ray.get_runtime_context().namespace!r}. Make it with make_ray_curriculum first, "
                "keep what that returns for as long as its environments run, and pass the same actor_name and "
                "namespace."
            ) from error

    @property
    def worker(self) -> str:
        """What this process is called: the actor it is, which keeps its id when it is restarted, or the worker."""
        context = self._ray.get_runtime_context()
        return str(context.get_actor_id() or context.get_worker_id())

    @property
    def connected(self) -> bool:
        """Whether this process is still connected to the cluster it was connected to."""
        return bool(
            self._ray.is_initialized() and self._ray.get_runtime_context().get_worker_id() == self._session
        )

    def ask(
        self,
        method: str,
        *args: Any,
        group: str | None = None,
        patience: Callable[[], None] = lambda: None,
    ) -> Any:
        """Call a method of the actor, and wait for what it returns.

        Args:
            method: Its name.
            args: Its arguments.
            group: The concurrency group in which it runs; None for the one in which letters are applied.
            patience: Called now and then while the answer is waited for; it raises when that has lasted too long.

        Raises:
            CurriculumLost: the actor is gone for good, or this process is no longer connected.
            TransportError: the call failed in another way than the actor's methods do.
        """
        failures = self._ray.exceptions
        while True:
            self._check_connection()
            bound = getattr(self.handle, method)
            if group is not None:
                bound = bound.options(concurrency_group=group)
            try:
                return self._wait(bound.remote(*args), patience)
            except failures.ActorUnavailableError:
                patience()
                time.sleep(PAUSE)
            except (failures.RayActorError, failures.TaskCancelledError) as error:
                raise CurriculumLost(self._gone()) from error
            except (failures.RayTaskError, failures.RaySystemError) as error:
                raise TransportError(f"The call of {method} in {self.name!r} failed: {error}") from error

    def kill(self) -> None:
        """End the actor for good."""
        self._ray.kill(self.handle, no_restart=True)

    def _wait(self, reference: Any, patience: Callable[[], None]) -> Any:
        # In slices: a thread that waits for long inside of Ray would not notice that Ray is shut down.
        while True:
            try:
                return self._ray.get(reference, timeout=SLICE)
            except self._ray.exceptions.GetTimeoutError:
                patience()
                self._check_connection()

    def _check_connection(self) -> None:
        if not self.connected:
            raise CurriculumLost(
                "This process has been disconnected from Ray. Close the environments before ray.shutdown()."
            )

    def _gone(self) -> str:
        return (
            f"The actor {self.name!r} that owns the curriculum is gone for good: it died without a checkpoint to "
            "restart from, it was closed, or the process that made it has ended. Pass checkpoint=... to "
            "make_ray_curriculum, so that it comes back, and close the environments before the curriculum."
        )

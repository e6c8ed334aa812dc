"""The environments' side: one thread in each process that exchanges letters with the actor.

Environments write frames and read tasks; only this thread calls Ray, so neither a step nor a reset does. There is
never more than one letter under way. What is written meanwhile waits for the next one, which goes at once when an
environment waits for its answer, or when there is enough for a message, and otherwise soon after the last one.
"""

from __future__ import annotations

import itertools
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from macurr.errors import BacklogError, CurriculumLost, MacurrError, TaskTimeoutError, TransportError
from macurr.host import Assignment, Welcome
from macurr.messages import EnvSpec
from macurr.transports.ray.courier import KEEP, Courier
from macurr.transports.ray.engine import WATCH, ActorPort, check_process
from macurr.transports.ray.line import Line
from macurr.transports.ray.messages import Failure, Reply, Settings
from macurr.transports.wire import pack

if TYPE_CHECKING:
    from macurr.transports.ray.links import RayLink

__all__ = ["HEARTBEAT", "Agent"]

FULL = 64 << 10
"""Bytes in a letter: up to 100 KB, Ray passes arguments on without its object store."""
ROOM = 8 << 20
"""Bytes that may wait to be sent, past which environments wait."""
SOON = 0.05
"""Seconds between two letters, if there is anything to say."""
LOW = 0.005
"""Seconds between two letters, if an environment has no task in stock."""
HEARTBEAT = 1.0
"""Seconds between two letters, if there is nothing to say."""


@dataclass(slots=True)
class _Box:
    """What has been written since the last letter.

    Attributes:
        frames: The frames, in order.
        updates: How many updates there are in each frame, and whose they are.
    """

    frames: deque[bytes] = field(default_factory=deque)
    updates: deque[tuple[int, int]] = field(default_factory=deque)


class Agent:
    """Exchanges letters for all environments of this process that are under one curriculum.

    Args:
        port: The way to the actor.
        worker: Which of several agents of this process it is.

    Raises:
        CurriculumLost: the actor is gone.
        MacurrError: the curriculum cannot be served.
    """

    def __init__(self, port: ActorPort, worker: str | None = None) -> None:
        self._port = port
        self.settings = self._asked()
        name = port.worker if worker is None else f"{port.worker} {worker}"
        self._courier = Courier(port, name, saves=self.settings.saves, line=self._line())
        self._turn = threading.Condition()
        self._box = _Box()
        self._bytes = 0  # written and not yet delivered
        self._sent = -float("inf")
        self._due = time.monotonic() + HEARTBEAT
        self._wakes = -float("inf")  # until when the thread sleeps; never woken while it is at work
        self._links: weakref.WeakValueDictionary[int, RayLink] = weakref.WeakValueDictionary()
        self._dropped: deque[int] = deque()
        self._tokens = itertools.count(1)
        self._greetings: dict[int, Sequence[Welcome] | Failure] = {}
        self._given_up: set[int] = set()
        self._visitors = 0
        self._broken: Failure | None = None
        self._failed = self._closing = False
        self._thread = threading.Thread(target=self._run, name="macurr-ray-agent", daemon=True)

    def _line(self) -> Line | None:
        if self.settings.door is None:
            return None
        return Line(lambda: self._asked().door, lambda: self._port.connected)

    def _asked(self) -> Settings:
        settings: Settings = self._port.ask("settings", group=WATCH).value()
        return settings

    # The environments' side

    def connect(self, spec: EnvSpec, count: int) -> Sequence[Welcome]:
        """Register environments; waits for their ids.

        Raises:
            UsageError: the curriculum refuses them.
            CurriculumError: the curriculum has failed.
            TaskTimeoutError: the curriculum does not answer in time.
        """
        token = next(self._tokens)
        self._write(pack("hello", token, spec, count))
        try:
            self._wait_for(lambda: token in self._greetings, TaskTimeoutError, "the curriculum's welcome")
        except TaskTimeoutError:
            self._given_up.add(token)
            raise
        welcome = self._greetings.pop(token)
        if isinstance(welcome, Failure):
            welcome.throw()
        return welcome

    def add(self, link: RayLink) -> None:
        """Deliver tasks to a link from now on."""
        with self._turn:
            self._links[link.env_id] = link

    def visit(self) -> bool:
        """Keep the thread going until `leave`; False if it is too late for that."""
        with self._turn:
            if self._broken is not None or not self._port.connected:
                return False
            self._visitors += 1
            if self._thread.ident is None:
                self._thread.start()
            return True

    def leave(self) -> None:
        """End a `visit`: with no environment left, the thread ends."""
        with self._turn:
            self._visitors -= 1
            if not self._visitors and not self._links:
                self._turn.notify_all()

    def send(self, link: RayLink, frame: bytes, updates: int) -> None:
        """Write updates; waits while too many of this environment are not yet applied.

        Raises:
            BacklogError: there was no room for them in time.
        """
        if not self._has_room(link):
            self._wait_for(lambda: self._has_room(link), BacklogError, "updates to be applied", link)
        self._write(frame, link, updates, within=SOON)

    def ask(self, link: RayLink, frame: bytes, *, now: bool) -> None:
        """Write a request for tasks."""
        self._write(frame, link, within=0.0 if now else SOON if link.tasks else LOW)

    def run_low(self) -> None:
        """Note that an environment has begun the last task of its stock."""
        with self._turn:
            if self._box.frames:
                self._hurry(LOW)

    def await_task(self, link: RayLink) -> None:
        """Wait for a task.

        Raises:
            TaskTimeoutError: none came in time.
        """
        with self._turn:
            if self._box.frames:
                self._hurry(0.0)
        self._wait_for(lambda: bool(link.tasks), TaskTimeoutError, "a task", link)

    def part(self, env_id: int) -> None:
        """Disconnect an environment. With the last one, waits until everything has been delivered."""
        with self._turn:
            self._links.pop(env_id, None)
            if self._broken is not None:
                return
            last = not self._links and not self._visitors
            self._put(pack("leave", env_id), env_id, 0)
            self._hurry(0.0)
        if last:
            self.join(self.settings.timeout)

    def drop(self, env_id: int) -> None:
        """Disconnect an environment whose link was forgotten. Called by the garbage collector: nothing is locked."""
        self._dropped.append(env_id)

    def join(self, seconds: float) -> None:
        """Wait for the thread to end."""
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(seconds)

    def finish(self, seconds: float) -> None:
        """Deliver what has been written, then end."""
        with self._turn:
            self._closing = True
            self._due = 0.0
            self._turn.notify_all()
        self.join(seconds)

    def _write(
        self, frame: bytes, link: RayLink | None = None, updates: int = 0, within: float = 0.0
    ) -> None:
        with self._turn:
            self._check()
            if link is not None:
                link.under_way += updates
            self._put(frame, -1 if link is None else link.env_id, updates)
            if self._bytes >= FULL:
                within = 0.0
            self._hurry(within)

    def _put(self, frame: bytes, env_id: int, updates: int) -> None:
        self._box.frames.append(frame)
        self._box.updates.append((env_id, updates))
        self._bytes += len(frame)

    def _hurry(self, within: float) -> None:
        """See that the next letter goes so long after the last one; now, if that is over."""
        due = max(time.monotonic(), self._sent + within)
        if due < self._due:
            self._due = due
            if due < self._wakes:
                self._turn.notify_all()

    def _has_room(self, link: RayLink) -> bool:
        return (
            link.under_way < self.settings.maxsize
            and self._bytes <= ROOM
            and self._courier.kept_bytes <= 4 * KEEP
        )

    def _wait_for(
        self, done: Callable[[], bool], late: type[MacurrError], what: str, link: RayLink | None = None
    ) -> None:
        deadline = time.monotonic() + self.settings.timeout
        with self._turn:
            while not done():
                self._check()
                left = deadline - time.monotonic()
                if left <= 0:
                    raise late(self._late(what, link))
                self._turn.wait(min(left, HEARTBEAT))

    def _check(self) -> None:
        check_process()
        if self._broken is not None:
            self._broken.throw()

    def _late(self, what: str, link: RayLink | None) -> str:
        who, under_way = ("A new environment", 0) if link is None else (link.env_id, link.under_way)
        kept = "" if self._courier.kept_bytes <= KEEP else "; the actor writes no checkpoint (see its log)"
        return (
            f"Environment {who} waited {self.settings.timeout:g} s for {what}; {under_way} of its updates are under "
            f"way (at most {self.settings.maxsize}){kept}. The curriculum is too slow, blocked, or not to be had "
            "while its actor is restarted: make its updates cheaper, send fewer (max_envs, step_fields), or raise "
            "timeout or maxsize."
        )

    # The thread

    def _run(self) -> None:
        try:
            while (letter := self._next()) is not None:
                frames, updates = letter
                self._take(self._courier.bring(frames), updates)
                self._courier.mend()
            if not self._failed:
                self._courier.bring(b"", last=True)
        except MacurrError as error:
            self._break(Failure.of(error))
        except Exception as error:  # a defect here must reach the environments, not die with the thread
            self._break(Failure.of(TransportError(f"The link to the curriculum failed: {error!r}"), error))
        finally:
            self._courier.close()

    def _next(self) -> tuple[bytes, list[tuple[int, int]]] | None:
        """Wait until it is time, and take the next letter from the box; None when it is time to end."""
        with self._turn:
            while not self._failed:
                self._take_leave()
                if self._closing or not (self._links or self._visitors):
                    self._shut()
                    return self._letter() if self._box.frames else None
                now = time.monotonic()
                if self._due <= now:
                    return self._letter()
                self._wakes = self._due
                self._turn.wait(self._due - now)
                self._wakes = -float("inf")
        return None

    def _take_leave(self) -> None:
        """Disconnect the environments whose links were forgotten."""
        while self._dropped:
            env_id = self._dropped.popleft()
            self._put(pack("leave", env_id), env_id, 0)
            self._due = 0.0

    def _letter(self) -> tuple[bytes, list[tuple[int, int]]]:
        box, size = self._box, 0
        frames: list[bytes] = []
        updates: list[tuple[int, int]] = []
        while box.frames and (not frames or size + len(box.frames[0]) <= FULL):
            frames.append(box.frames.popleft())
            updates.append(box.updates.popleft())
            size += len(frames[-1])
        self._sent = time.monotonic()
        self._due = 0.0 if box.frames else self._sent + HEARTBEAT
        return b"".join(frames), updates

    def _take(self, reply: Reply, updates: list[tuple[int, int]]) -> None:
        """Note what has been applied, and hand out what has come."""
        with self._turn:
            self._closing = self._closing or reply.closing
            self._bytes = sum(map(len, self._box.frames))
            for env_id, count in updates:
                if (link := self._links.get(env_id)) is not None:
                    link.under_way -= count
            for env_id, *assignment in reply.answers.tasks:
                if (link := self._links.get(env_id)) is not None:
                    link.tasks.append(Assignment(*assignment))
            for token, welcomes in reply.answers.welcomes:
                self._welcome(token, welcomes)
            for who, failure in reply.refusals:
                self._refuse(who, failure)
            if reply.failure is not None:
                self._break(reply.failure)
            self._turn.notify_all()

    def _welcome(self, token: int, welcomes: Sequence[Welcome]) -> None:
        if token not in self._given_up:
            self._greetings[token] = welcomes
            return
        for env_id, _ in welcomes:  # too late: nobody waits for them any more
            self._put(pack("leave", env_id), env_id, 0)

    def _refuse(self, who: int, failure: Failure) -> None:
        if who < 0:
            self._greetings[-who] = failure
        else:  # an environment and the curriculum disagree about what has happened
            self._break(failure)

    def _shut(self) -> None:
        """Take nothing more: whoever writes now learns that it is too late."""
        if self._broken is None:
            lost = CurriculumLost(
                "The curriculum was closed while environments were running. Close the environments first."
            )
            self._broken = Failure.of(lost)
            self._turn.notify_all()

    def _break(self, failure: Failure) -> None:
        with self._turn:
            self._broken, self._failed = failure, True
            self._turn.notify_all()

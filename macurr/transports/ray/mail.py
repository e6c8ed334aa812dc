"""What a letter says, and how the host is told.

A letter is a row of frames (`macurr.transports.wire.pack`), each of one environment and in the order in which they
were written:

- `("hello", token, spec, count)`: as many environments connect;
- `("updates", env_id, wait, want, *updates)`: updates are applied, then so many tasks are drawn for the stock;
- `("request", env_id, k, start, wait)`: k tasks are drawn;
- `("leave", env_id)`: an environment disconnects;
- `("learn", data)`: a call of the learner, pickled.

`wait` is not None where the oldest task of the stock has been begun, after so many seconds of waiting.
"""

from __future__ import annotations

from collections import defaultdict, deque
from typing import Any

import cloudpickle  # type: ignore[import-untyped]

from macurr.errors import MacurrError, TransportError, UsageError
from macurr.host import Assignment, CurriculumHost, EnvRecord, Welcome
from macurr.messages import EnvSpec
from macurr.transports.encoding import decode
from macurr.transports.ray.messages import Answers, Failure, Outcome, outcome_of
from macurr.transports.wire import FrameReader

__all__ = ["Opened", "open_letter"]


def open_letter(host: CurriculumHost, env_ids: set[int], frames: bytes, known: Answers | None) -> Opened:
    """Do what a letter says.

    Args:
        host: The host.
        env_ids: The worker's environments; those that connect are added, those that leave are removed.
        frames: The letter.
        known: What the letter was answered with in an earlier life; it is answered so again.
    """
    opened = Opened(host, env_ids, known)
    for frame in FrameReader().feed(frames):
        if host.failure is not None:
            break
        opened.read(*frame)
    return opened


class Opened:
    """A letter that is being read.

    Attributes:
        refusals: What was refused: the environment's id, or minus the token of a greeting, and why.
        outcome: What a call of the learner came to.
        updates: The number of updates that were applied.
    """

    def __init__(self, host: CurriculumHost, env_ids: set[int], known: Answers | None) -> None:
        self._host, self._env_ids = host, env_ids
        self._tasks: list[tuple[int, Any, Any, Any]] = []
        self._welcomes: list[tuple[int, tuple[Welcome, ...]]] = []
        self.refusals: list[tuple[int, Failure]] = []
        self.outcome: Outcome | None = None
        self.updates = 0
        self._known_welcomes = dict(known.welcomes) if known is not None else {}
        self._known_tasks: defaultdict[int, deque[Assignment]] = defaultdict(deque)
        for env_id, *assignment in known.tasks if known is not None else ():
            self._known_tasks[env_id].append(Assignment(*assignment))

    @property
    def answers(self) -> Answers:
        """What is to be sent back, and kept in case the letter comes again."""
        return Answers(tuple(self._tasks), tuple(self._welcomes))

    def read(self, kind: str, who: Any, *rest: Any) -> None:
        """Do what one frame says; what is wrong with it is told to whom it is of."""
        try:
            self._work(kind)(who, *rest)
        except MacurrError as error:
            if self._host.failure is None:
                self.refusals.append((-who if kind == "hello" else who, Failure.of(error)))
        except Exception as error:  # a defect here must be told, not loop for ever between two processes
            self._host.fail(error)

    def _work(self, kind: str) -> Any:
        known = {
            "hello": self._hello,
            "updates": self._updates,
            "request": self._request,
            "leave": self._leave,
            "learn": self._learn,
        }
        if kind not in known:
            raise TransportError(f"Unknown message {kind!r}.")
        return known[kind]

    def _hello(self, token: int, spec: EnvSpec, count: int) -> None:
        welcome = self._known_welcomes.get(token)
        if welcome is None:
            welcome = tuple(self._connected(spec, count))
        else:
            for env_id, _ in welcome:
                self._host.reconnect(env_id, EnvRecord(spec))
        self._env_ids.update(env_id for env_id, _ in welcome)
        self._welcomes.append((token, welcome))

    def _connected(self, spec: EnvSpec, count: int) -> list[Welcome]:
        given: list[Welcome] = []
        try:
            for _ in range(count):
                given.append(self._host.connect(spec))
        except UsageError:  # all of them or none
            for env_id, _ in given:
                self._host.disconnect(env_id)
            raise
        return given

    def _updates(self, env_id: int, wait: float | None, want: int, *encoded: tuple[Any, ...]) -> None:
        self._check_owner(env_id)
        if wait is not None:
            self._host.start(env_id, wait)
        for update in map(decode, encoded):
            self._check_owner(update.env_id)
            self._host.apply(update)
            self.updates += 1
        if want:
            self._draw(env_id, want, start=False)

    def _request(self, env_id: int, k: int, start: bool, wait: float | None) -> None:
        self._check_owner(env_id)
        if wait is not None:
            self._host.start(env_id, wait)
        self._draw(env_id, k, start=start)

    def _draw(self, env_id: int, k: int, *, start: bool) -> None:
        known = self._known_tasks[env_id]
        adopted = [known.popleft() for _ in range(min(k, len(known)))]
        for assignment in adopted:
            self._host.adopt(env_id, assignment.encoded)
            self._tasks.append((env_id, *assignment))
        if start and adopted:
            self._host.start(env_id)
        if k > len(adopted):
            drawn = self._host.draw(env_id, k - len(adopted), start=start and not adopted)
            self._tasks += ((env_id, *assignment) for assignment in drawn)

    def _leave(self, env_id: int) -> None:
        self._check_owner(env_id)
        self._env_ids.discard(env_id)
        self._host.disconnect(env_id)

    def _learn(self, data: bytes) -> None:
        def work() -> None:
            name, arguments, keywords = cloudpickle.loads(data)
            with self._host.locked() as curriculum:
                getattr(curriculum, name)(*arguments, **keywords)

        self.outcome = outcome_of(work)

    def _check_owner(self, env_id: Any) -> None:
        if env_id not in self._env_ids:
            raise TransportError(
                f"This worker has the environments {sorted(self._env_ids)}, not environment {env_id}."
            )

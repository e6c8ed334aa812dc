"""What passes between the processes of environments, the learner and the actor that owns the curriculum."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import cloudpickle  # type: ignore[import-untyped]

from macurr import errors
from macurr.errors import CurriculumError
from macurr.host import Welcome
from macurr.transports.wire import Address

__all__ = [
    "Answers",
    "Failure",
    "Letter",
    "Outcome",
    "Reply",
    "Settings",
    "letter_of",
    "outcome_of",
    "packed",
    "reply_of",
]


class Settings(NamedTuple):
    """The settings of the link, which the actor tells everybody who connects.

    Attributes:
        timeout: Seconds that an environment or the learner may wait.
        maxsize: Updates of one environment that may be under way.
        worker_timeout: Seconds of silence after which a worker counts as gone.
        saves: Whether the actor writes checkpoints, so that letters are to be kept until they are in one.
        door: Where the actor listens for direct connections; None for nowhere.
    """

    timeout: float
    maxsize: int
    worker_timeout: float
    saves: bool
    door: Address | None = None


class Outcome(NamedTuple):
    """What a call of the learner came to: a pickled value, or a pickled error with its cause and traceback."""

    ok: bool
    data: bytes
    trace: str = ""

    def value(self) -> Any:
        """The value; raises the error as it was raised in the actor, with its cause."""
        if self.ok:
            return cloudpickle.loads(self.data)
        error, cause = cloudpickle.loads(self.data)
        raise error from cause or CurriculumError(f"In the curriculum's actor:\n{self.trace}")


class Failure(NamedTuple):
    """An error as environments are told it: the name of its class, the message, and the actor's traceback."""

    name: str
    message: str
    trace: str

    @classmethod
    def of(cls, error: BaseException, cause: BaseException | None = None) -> Failure:
        """What to tell of an error; the traceback is that of its cause, if one is given."""
        trace = "".join(traceback.format_exception(error if cause is None else cause))
        return cls(type(error).__name__, str(error), trace)

    def throw(self) -> NoReturn:
        """Raise the error here."""
        kind = getattr(errors, self.name, CurriculumError)
        raise kind(self.message) from CurriculumError(f"In the curriculum's actor:\n{self.trace}")


class Letter(NamedTuple):
    """What a worker or the learner writes to the actor.

    Attributes:
        name: Who writes.
        incarnation: Which of the processes that have had this name it is.
        seq: The letter's number: one more than that of the one before. Without frames, the number of the last
            letter.
        frames: What it says; see `macurr.transports.ray.mail`.
        known: What it was answered with in an earlier life of the actor; None if nobody knows.
        save: Whether a checkpoint is wanted now.
        last: Whether no more will come.
    """

    name: str
    incarnation: str
    seq: int
    frames: bytes
    known: Answers | None = None
    save: bool = False
    last: bool = False


class Answers(NamedTuple):
    """What a letter was answered with.

    Attributes:
        tasks: The tasks that were drawn: environment, encoded, decoded, info.
        welcomes: The ids and step fields of the environments that said hello, by the token of their greeting.
    """

    tasks: tuple[tuple[int, Any, Any, Any], ...] = ()
    welcomes: tuple[tuple[int, tuple[Welcome, ...]], ...] = ()


class Reply(NamedTuple):
    """The actor's reply to a letter.

    Attributes:
        seq: The number of the last letter of this worker that has been applied.
        durable: The number of its last letter that a restart would not undo.
        answers: What the letter was answered with; empty unless `seq` is its number.
        refusals: What went wrong for single environments: the environment's id, or minus the token of a
            greeting, and the failure.
        failure: What went wrong for everybody.
        closing: Whether the curriculum is being closed: send what there is, it is the last time.
        outcome: What a call of the learner came to; None where that is not known any more.
    """

    seq: int
    durable: int
    answers: Answers = Answers()
    refusals: tuple[tuple[int, Failure], ...] = ()
    failure: Failure | None = None
    closing: bool = False
    outcome: Outcome | None = None


def packed(message: Letter | Reply) -> bytes:
    """A message as bytes, which Ray passes on as they are; plain tuples are the quickest to pickle."""
    parts = tuple(tuple(part) if type(part) is Answers else part for part in message)
    try:
        return pickle.dumps(parts, protocol=5)
    except Exception:  # a task of a class that only the learner's own script defines
        data: bytes = cloudpickle.dumps(parts)
        return data


def letter_of(data: bytes) -> Letter:
    """The letter of which `packed` has made these bytes."""
    letter = Letter(*pickle.loads(data))
    return letter if letter.known is None else letter._replace(known=Answers(*letter.known))


def reply_of(data: bytes) -> Reply:
    """The reply of which `packed` has made these bytes."""
    reply = Reply(*pickle.loads(data))
    return reply._replace(answers=Answers(*reply.answers))


def outcome_of(work: Callable[[], Any]) -> Outcome:
    """Do some work for the learner; what it returns or raises, in a form that travels."""
    try:
        return Outcome(True, cloudpickle.dumps(work()))
    except Exception as error:  # whatever it is, it is the learner's to see
        return Outcome(False, _pickled(error), "".join(traceback.format_exception(error)))


def _pickled(error: Exception) -> bytes:
    data: bytes
    for pair in ((error, error.__cause__), (error, None)):
        try:
            data = cloudpickle.dumps(pair)
            cloudpickle.loads(data)  # an exception may pickle well and not come back
        except Exception:  # whatever an object's own methods raise
            continue
        return data
    told = CurriculumError(f"{type(error).__name__}: {error}")
    data = cloudpickle.dumps((told, None))
    return data  # the name gives it a type

"""A worker process as the learner sees it: started, spoken to, missed, begun anew."""

from __future__ import annotations

import json
import os
import pickle
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from macurr import errors
from macurr.errors import ConfigError, MacurrError, TransportError, WorkerLost
from macurr.training.channel import FAILED, JOBS, RESET, Line, Part
from macurr.training.worker import Job

__all__ = ["PATIENCE", "WorkerProcess"]

_BOOT = (
    "import json, sys; paths, handle = json.loads(sys.argv.pop()); sys.path[:] = paths; "
    "from macurr.training.worker import main; main(handle)"
)
"""What a fresh interpreter runs: it finds the modules that this one finds, and never runs the user's script."""

PATIENCE = 3.0
"""Seconds that a worker gets to end by itself, or, once stopped, to go on."""


class WorkerProcess:
    """A process that steps several groups of environments.

    However long an environment takes for a step, it is waited for: only a process that is dead, has hung up, or is
    stopped (by a debugger or SIGSTOP) for several seconds counts as lost.

    Args:
        jobs: What each of its groups steps.
        number: What to call the worker in errors.

    Attributes:
        groups: How many groups it steps.
        frames: By group, the content of a message that nobody has taken yet.

    Raises:
        ConfigError: an environment's arguments cannot be sent.
        TransportError: the process cannot be started.
    """

    def __init__(self, jobs: Sequence[Job], number: int) -> None:
        self._jobs, self._number = _packed(jobs), number
        self.groups = len(jobs)
        self._start()

    def _start(self) -> None:
        self.frames: dict[int, bytearray] = {}
        self._failure: tuple[str, str] | None = None
        self._stopped_since: float | None = None
        ours, theirs = socket.socketpair()
        self._line = Line(ours)
        try:
            with theirs:
                self._process = _spawn(theirs)
        except OSError as error:
            self._line.close()
            raise TransportError(
                f"Worker {self._number} cannot be started: {error}. Look for a lack of memory or processes, and use "
                "fewer workers."
            ) from error
        self.send(JOBS, (self._jobs,), 0)

    def restart(self) -> None:
        """Begin anew: another process with the same environments, whose first frames are under way.

        What the old one had not handed over is lost.
        """
        self.hang_up()
        self.end(0.0)
        with suppress(WorkerLost):  # then its groups say so
            self._start()
            for group in range(self.groups):
                self.send(RESET, (), group)

    def fileno(self) -> int:
        """The number of the line, for who waits for several workers."""
        return self._line.fileno()

    def send(self, kind: bytes, parts: Sequence[Part], group: int) -> None:
        """Send a message about a group.

        Raises:
            WorkerLost: the process is gone.
            MacurrError: it has said what is wrong.
        """
        try:
            self._line.send(kind, parts, group, self._check)
        except OSError:
            self.read()  # it may have said why before it died
            self._raise()

    def read(self) -> None:
        """Take in what has come, without waiting."""
        self._line.read()
        while self._line.inbox:
            message = self._line.inbox.popleft()
            if message.kind == FAILED:
                name, text = json.loads(message.content)
                self._failure = (name, text)
            else:
                self.frames[message.group] = message.content

    @property
    def over(self) -> bool:
        """Whether nothing more will come from this process."""
        return self._line.over or self._failure is not None

    def look(self) -> None:
        """Notice a process that has died without closing its line, or is stopped for good."""
        if self._process.poll() is not None:
            self.read()
            self._line.close()
        elif not _stopped(self._process.pid):
            self._stopped_since = None
        elif self._stopped_since is None:
            self._stopped_since = time.monotonic()
        elif time.monotonic() - self._stopped_since > PATIENCE:
            self._line.close()

    def take(self, group: int) -> bytearray:
        """A group's message.

        Raises:
            WorkerLost: the process is gone, and the message did not come.
            MacurrError: it has said what is wrong.
        """
        content = self.frames.pop(group, None)
        if content is None:
            self._raise()
        return content

    def hang_up(self) -> None:
        """Close the line, upon which the process ends by itself when it next listens."""
        self._line.close()

    def end(self, seconds: float = PATIENCE) -> None:
        """Wait for the end of the process, and bring it about after that many seconds."""
        try:
            self._process.wait(max(0.0, seconds))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _check(self) -> None:
        self.look()
        if self._line.over:
            self._raise()

    def _raise(self) -> NoReturn:
        if self._failure is not None:
            name, text = self._failure
            kind = getattr(errors, name, TransportError)
            raise kind(text) if issubclass(kind, MacurrError) else TransportError(text)
        stopped = self._stopped_since is not None
        self._line.close()
        status: int | str = "unknown"
        with suppress(subprocess.TimeoutExpired):
            status = self._process.wait(0.0 if stopped else PATIENCE)
        happened = "was stopped" if stopped else f"died with status {status}, without a word"
        raise WorkerLost(
            f"Worker {self._number} (process {self._process.pid}) {happened}. If it was killed, look for a lack of "
            "memory and use fewer workers or environments; go on with --resume."
        )


def _packed(jobs: Sequence[Job]) -> bytes:
    try:
        return pickle.dumps(list(jobs))
    except Exception as error:  # whatever the arguments' own methods raise
        raise ConfigError(
            f"The environment's arguments cannot be sent to a worker process: {error}. Give plain values (env_args), "
            "or step the environments in this process (transport local)."
        ) from error


def _spawn(sock: socket.socket) -> subprocess.Popen[bytes]:
    """Start a worker at the other end of a socket."""
    paths = [path or str(Path.cwd()) for path in sys.path]
    posix = sys.platform != "win32"
    handle = sock.fileno() if posix else None
    process = subprocess.Popen(
        [sys.executable, "-c", _BOOT, json.dumps([paths, handle])],
        stdin=subprocess.DEVNULL if posix else subprocess.PIPE,
        env={**os.environ, **_one_thread()},
        pass_fds=[sock.fileno()] if posix else (),
        start_new_session=True,
    )
    if sys.platform == "win32" and process.stdin is not None:
        process.stdin.write(sock.share(process.pid))
        process.stdin.close()
    return process


def _stopped(pid: int) -> bool:
    """Whether a process is stopped, where the system tells."""
    try:
        # The state stands behind the name, which may hold anything but ends with the last bracket.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in {"T", "t"}
    except OSError:
        return False


def _one_thread() -> dict[str, str]:
    """Workers step environments: the thread pools of linear algebra would only steal the learner's cores."""
    return dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")

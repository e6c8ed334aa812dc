"""A child process as its parent sees it: started in a fresh interpreter, spoken to, missed. No torch is imported.

The child is in a group of its own, so that Ctrl-C reaches its parent alone. It ends by itself once the line to its
parent is closed, be it because the parent hangs up or because the parent is dead.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from macurr import errors
from macurr.errors import MacurrError, TransportError, WorkerLost
from macurr.training.channel import FAILED, Line, Message, Part

__all__ = ["PATIENCE", "ChildProcess", "failure", "inherited"]

_BOOT = (
    "import json, sys; from importlib import import_module; module, paths, handle = json.loads(sys.argv.pop()); "
    "sys.path[:] = paths; import_module(module).main(handle)"
)
"""What a fresh interpreter runs: it finds the modules that this one finds, and never runs the user's script."""

_ADVICE = "If it was killed, look for a lack of memory and use fewer workers or environments"

PATIENCE = 3.0
"""Seconds that a child gets to end by itself, or, once stopped, to go on."""


class ChildProcess:
    """A process that serves this one over a line.

    However long it takes for something, it is waited for, unless `give_up` says otherwise: a process that is dead, has
    hung up, or is stopped (by a debugger or SIGSTOP) for several seconds counts as lost.

    Args:
        module: The module whose `main(handle)` it runs.
        name: What to call it in errors.

    Raises:
        TransportError: the process cannot be started.
    """

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name
        self._start()

    def _start(self) -> None:
        self._failure: tuple[str, str] | None = None
        self._stopped_since: float | None = None
        self._given_up: str | None = None
        ours, theirs = socket.socketpair()
        self._line = Line(ours)
        try:
            with theirs:
                self._process = _spawn(self._module, theirs)
        except OSError as error:
            self._line.close()
            raise TransportError(
                f"{self._name} cannot be started: {error}. Look for a lack of memory or processes, and use fewer "
                "workers."
            ) from error

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def fileno(self) -> int:
        """The number of the line, for who waits for several children."""
        return self._line.fileno()

    def send(self, kind: bytes, parts: Sequence[Part], group: int) -> None:
        """Send a message about a group, and wait until it is sent.

        Raises:
            WorkerLost: the process is gone.
            MacurrError: it has said what is wrong.
        """
        try:
            self._line.send(kind, parts, group, self._check)
        except OSError:
            self.read()  # it may have said why before it died
            self.fail()

    def post(self, kind: bytes, parts: Sequence[Part] = (), group: int = 0) -> None:
        """Send a message as far as there is room for it now; see `Line.post`.

        Raises:
            OSError: the process is gone.
        """
        self._line.post(kind, parts, group)

    def flush(self) -> None:
        """Send what waits, as far as there is room.

        Raises:
            OSError: the process is gone.
        """
        self._line.flush()

    @property
    def blocked(self) -> bool:
        """Whether something waits to be sent by `flush`."""
        return self._line.blocked

    def read(self) -> None:
        """Take in what has come, without waiting."""
        self._line.read()
        while self._line.inbox:
            message = self._line.inbox.popleft()
            if message.kind == FAILED:
                name, text = json.loads(message.content)
                self._failure = (name, text)
            else:
                self._take(message)

    def _take(self, message: Message) -> None:
        """Take in a message."""

    @property
    def over(self) -> bool:
        """Whether nothing more will come from this process."""
        return self._line.over or self._failure is not None

    @property
    def explained(self) -> bool:
        """Whether it has said what is wrong."""
        return self._failure is not None

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
            self.give_up("was stopped")

    def give_up(self, happened: str, advice: str = _ADVICE) -> None:
        """Count the process as lost, though it lives.

        Args:
            happened: What happened to it.
            advice: What to do about it.
        """
        self._given_up = f"{happened}. {advice}"
        self._line.close()

    def hang_up(self) -> None:
        """Close the line, upon which the process ends by itself when it next listens."""
        self._line.close()

    def end(self, seconds: float | None = None) -> None:
        """Wait for the end of the process, and bring it about after that many seconds, `PATIENCE` by default."""
        try:
            self._process.wait(PATIENCE if seconds is None else max(0.0, seconds))
        except subprocess.TimeoutExpired:
            self._kill()
            self._process.wait()

    def _kill(self) -> None:
        """Kill the process, with what an environment has started in its group."""
        self._process.kill()
        if sys.platform != "win32":
            with suppress(OSError):  # nobody is left in it
                os.killpg(self._process.pid, signal.SIGKILL)

    def _check(self) -> None:
        self.look()
        if self._line.over:
            self.fail()

    def fail(self) -> NoReturn:
        """Raise what the process has said is wrong, or that it is gone."""
        if self._failure is not None:
            name, text = self._failure
            kind = getattr(errors, name, TransportError)
            raise kind(text) if issubclass(kind, MacurrError) else TransportError(text)
        self._line.close()
        lost = self._given_up or f"died with status {self._status()}, without a word. {_ADVICE}"
        raise WorkerLost(f"{self._name} (process {self._process.pid}) {lost}; go on with --resume.")

    def _status(self) -> int | str:
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(PATIENCE)
        return "unknown"


# The child's side


def inherited(handle: int | None) -> socket.socket:
    """The socket that a parent has left to this process.

    Args:
        handle: Its number; None where it comes over standard input (on Windows).
    """
    if sys.platform == "win32":
        return socket.fromshare(sys.stdin.buffer.read())
    sock = socket.socket(fileno=handle)
    sock.set_inheritable(False)  # not for the processes that this one starts
    return sock


def failure(error: BaseException, text: str | None = None) -> bytes:
    """The content of a message of kind `FAILED`, which the parent raises as an error of the same kind.

    Args:
        error: What was raised.
        text: What to tell instead of its own words.
    """
    kind = type(error).__name__ if isinstance(error, MacurrError) else "TransportError"
    return json.dumps([kind, str(error) if text is None else text]).encode()


# Inside


def _spawn(module: str, sock: socket.socket) -> subprocess.Popen[bytes]:
    """Start a process at the other end of a socket."""
    paths = [path or str(Path.cwd()) for path in sys.path]
    posix = sys.platform != "win32"
    handle = sock.fileno() if posix else None
    process = subprocess.Popen(
        [sys.executable, "-c", _BOOT, json.dumps([module, paths, handle])],
        stdin=subprocess.DEVNULL if posix else subprocess.PIPE,
        env={**os.environ, **_one_thread()},
        pass_fds=[sock.fileno()] if posix else (),
        **_group(),
    )
    if sys.platform == "win32" and process.stdin is not None:
        process.stdin.write(sock.share(process.pid))
        process.stdin.close()
    return process


def _group() -> dict[str, Any]:
    """How to start a process in a group of its own.

    It stays in this session where Python can do that: Linux may schedule sessions by turns, and what one process of a
    session may take before another would mean nothing between two of them.
    """
    if sys.version_info >= (3, 11):
        return {"process_group": 0}
    return {"start_new_session": True}


def _stopped(pid: int) -> bool:
    """Whether a process is stopped, where the system tells."""
    try:
        # The state stands behind the name, which may hold anything but ends with the last bracket.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in {"T", "t"}
    except OSError:
        return False


def _one_thread() -> dict[str, str]:
    """The thread pools of linear algebra in children would only steal the learner's cores."""
    return dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")

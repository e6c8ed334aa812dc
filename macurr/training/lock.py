"""One process at a time works on a run, for as long as it lives."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

from filelock import FileLock, Timeout

from macurr.errors import ConfigError

__all__ = ["LOCK_FILES", "RunLock"]

_LOCK, _OWNER = ".lock", ".owner"
LOCK_FILES = frozenset({_LOCK, _OWNER})
"""The files of a lock in a run's directory."""


class RunLock:
    """The lock of a run's directory. The system gives it back when the process that holds it ends in any way.

    Args:
        folder: The directory, which need not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # One thread may take it and another give it back.
        self._lock = FileLock(folder / _LOCK, thread_local=False)

    def acquire(self) -> None:
        """Take it, without waiting.

        Raises:
            ConfigError: another process holds it; the message names that process. Or the file system has no locks.
            OSError: the directory cannot be written to.
        """
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise ConfigError(
                f"The run {self._folder} is being worked on by {self._owner()}. Wait until it has ended, or stop it; "
                "`macurr evaluate`, `tournament` and `report` read a run while it goes on."
            ) from error
        except NotImplementedError as error:
            raise ConfigError(
                f"The run {self._folder} cannot be locked: its file system has no locks. Name a directory on another "
                "one by --out (out)."
            ) from error
        try:
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            owner = f"process {os.getpid()} on {socket.gethostname()}, since {since}"
            (self._folder / _OWNER).write_text(owner)
        except OSError:
            self.remove()
            raise

    def release(self) -> None:
        """Give it back. May be called twice, and where it is not held."""
        if self._lock.is_locked:
            try:
                (self._folder / _OWNER).unlink(missing_ok=True)
            finally:
                self._lock.release()

    def remove(self) -> None:
        """Give it back and leave no trace of it."""
        self.release()
        for name in LOCK_FILES:
            (self._folder / name).unlink(missing_ok=True)

    @property
    def owner(self) -> str | None:
        """Who holds it, in words; None where nobody does."""
        if not (self._folder / _LOCK).exists():
            return None
        probe = FileLock(self._folder / _LOCK, thread_local=False)
        try:
            probe.acquire(timeout=0)
        except Timeout:
            return self._owner()
        except OSError:  # a directory that may only be read: nobody works in it
            return None
        probe.release()
        return None

    def _owner(self) -> str:
        try:
            return (self._folder / _OWNER).read_text() or "another process"
        except (OSError, UnicodeDecodeError):
            return "another process"

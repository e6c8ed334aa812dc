"""The folder of a pool: who is in it, how ids are given out, and how files come and go.

    pool.json                    format and version
    000000000007.safetensors     one file for each snapshot
    ids/000000000007             an empty file for each id ever given out; its exclusive creation is the giving
    retired/                     the last snapshots that a full pool let go
    making/                      files being written

Every change is one atomic step of the file system, so there are no locks to be left behind by the dead.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import numpy as np

from macurr.errors import PoolError
from macurr.opponents.snapshot_files import publish, remove_leftovers, sync_directory, temporary_name

__all__ = ["PoolFolder"]

T = TypeVar("T")

_SUFFIX = ".safetensors"
_FORMAT = "macurr agent pool"
_VERSION = 1
_RETIRED_KEPT = 32
_SETTLED = 0.05  # seconds for which a look at the folder holds, unless this process changes it
# How far apart two changes must be to get different time stamps, in ns: where stamps have fractions of a second
# (10 ms on older kernels), and where they do not (FAT counts in steps of 2 s).
_FINE_GRAIN, _COARSE_GRAIN = 50_000_000, 2_000_000_000


class _News:
    """How often this process has changed a folder: all who have opened it see that at once."""

    def __init__(self) -> None:
        self.changes = 0


_news: WeakValueDictionary[Path, _News] = WeakValueDictionary()


class PoolFolder:
    """A pool's folder, seen from one process. Safe to use from several threads.

    Args:
        path: The folder.
        create: Whether to make it where it is no pool yet.

    Raises:
        PoolError: it cannot be made or read, is no pool, or one of another version.
    """

    def __init__(self, path: str | os.PathLike[str], create: bool = True) -> None:
        self.path = Path(path).absolute()
        self._unseen()
        with explained(f"The pool {self.path} cannot be opened"):
            if create and not self._marker.exists():
                self._create()
            self._check_version()
        remove_leftovers(self.path / "making")

    def _unseen(self) -> None:
        self._lock = threading.RLock()
        self._ids: tuple[int, ...] = ()
        self._members: frozenset[int] = frozenset()
        self._scanned: int | None = None
        self._news = _news.setdefault(self.path, _News())
        self._known, self._looked = -1, 0.0
        self._highest = -1

    def ids(self, within: float = _SETTLED) -> tuple[int, ...]:
        """The ids of all snapshots, ascending. Reads the folder only if its time stamp has changed.

        What this process does is seen at once. A curriculum asks several times for each episode, and a look costs
        more than the rest of a draw: so what other processes do is seen a twentieth of a second later.

        Args:
            within: For how many seconds an earlier look holds.
        """
        now = time.monotonic()
        if self._known != self._news.changes or now - self._looked >= within:
            with self._lock:
                changes = self._news.changes  # before the look: a change during it is looked at again
                if self._known != changes or now - self._looked >= within:
                    self._look(anew=self._known != changes)
                    self._known, self._looked = changes, now
        return self._ids

    def _look(self, *, anew: bool) -> None:
        with explained(f"The pool {self.path} cannot be read"):
            changed = os.stat(self.path).st_mtime_ns
            if anew or changed != self._scanned:
                now = time.time_ns()
                self._ids = tuple(sorted(_numbers(self.path)))
                self._members = frozenset(self._ids)
                # A later change within the clock's grain would leave the stamp as it is: read again until then.
                grain = _FINE_GRAIN if changed % 1_000_000_000 else _COARSE_GRAIN
                self._scanned = changed if now - changed > grain else None

    def members(self) -> frozenset[int]:
        """The same as a set."""
        self.ids()
        return self._members

    def holds(self, snapshot: object) -> bool:
        """Whether there is such a snapshot. One that is not known yet is looked for: who asks may know better."""
        if snapshot in self.members():
            return True
        self.ids(within=0.0)
        return snapshot in self._members

    def file(self, snapshot: int) -> Path:
        """Where a snapshot's file is."""
        return self.path / f"{snapshot:012d}{_SUFFIX}"

    def read(self, snapshot: int, reader: Callable[[Path], T]) -> T:
        """What `reader` makes of a snapshot's file, or of a retired one's.

        Raises:
            PoolError: there is no such snapshot, or its file is damaged.
        """
        if not isinstance(snapshot, int | np.integer) or snapshot < 0:
            raise self.missing(snapshot)
        for file in (self.file(snapshot), self._retired(snapshot)):
            with contextlib.suppress(FileNotFoundError):
                return reader(file)
        raise self.missing(snapshot)

    def claim(self) -> int:
        """A new id, greater than any before it, and never given to anyone else."""
        with self._lock, explained(f"The pool {self.path} cannot give out an id"):
            (self.path / "ids").mkdir(exist_ok=True)
            self._highest = max([self._highest, *self.ids(within=0.0)[-1:]])
            if self._highest < 0:
                self._highest = max(_numbers(self.path / "ids"), default=-1)
            while True:
                self._highest += 1
                try:
                    self.reserve(self._highest)
                except FileExistsError:  # others have added since we looked: catch up in one go
                    self._highest = max(self._highest, *_numbers(self.path / "ids"))
                else:
                    return self._highest

    def reserve(self, snapshot: int) -> None:
        """Give out one certain id.

        Raises:
            FileExistsError: it was given out before.
        """
        (self.path / "ids" / f"{snapshot:012d}").touch(exist_ok=False)
        sync_directory(self.path / "ids")

    def forget_unused(self) -> None:
        """Take back the ids that were given out after the newest snapshot: their writers died before storing it."""
        with self._lock, explained(f"The pool {self.path} cannot take back an id"):
            newest = max(self.ids(within=0.0), default=-1)
            for number in list(_numbers(self.path / "ids")):
                if number > newest:
                    (self.path / "ids" / f"{number:012d}").unlink(missing_ok=True)
            self._highest = newest

    def store(self, snapshot: int, content: bytes) -> None:
        """Put a snapshot's file in place.

        Raises:
            PoolError: the disk refuses; the pool is as before.
        """
        making = self.path / "making"
        with explained(f"The pool {self.path} cannot take snapshot {snapshot}"):
            making.mkdir(exist_ok=True)
        publish(content, making / temporary_name(f"{snapshot:012d}"), self.file(snapshot))
        self.changed()

    def retire(self, snapshots: Iterable[int]) -> None:
        """Take snapshots out of the set, and keep the files of the latest for those who are about to read them."""
        with explained(f"The pool {self.path} cannot let go of a snapshot"):
            for snapshot in snapshots:
                with contextlib.suppress(FileNotFoundError):  # another process was faster
                    (self.path / "retired").mkdir(exist_ok=True)
                    os.replace(self.file(snapshot), self._retired(snapshot))
                    os.utime(self._retired(snapshot))
            self._delete_oldest_retired()
        self.changed()

    def delete(self, snapshot: int) -> None:
        """Delete a snapshot's file for good.

        Raises:
            PoolError: there is none, or the disk refuses.
        """
        with explained(f"Snapshot {snapshot} cannot be removed from {self.path}"):
            try:
                self.file(snapshot).unlink()
            except FileNotFoundError:
                raise self.missing(snapshot) from None
            sync_directory(self.path)
        self.changed()

    def changed(self) -> None:
        """Read the folder again at the next question, here and in every other pool of this process."""
        self._news.changes += 1

    def missing(self, snapshot: object) -> PoolError:
        """The error for an id that is not in the pool."""
        ids = self.ids(within=0.0)
        held = f"{len(ids)} snapshots, ids {ids[0]} to {ids[-1]}" if ids else "no snapshots"
        return PoolError(
            f"Snapshot {snapshot!r} is not in the pool {self.path}: it was removed, or never added. "
            f"The pool holds {held}; choose among pool.ids."
        )

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        # Not __init__: a pool may be unpickled where its folder is not (yet) to be seen.
        self.path = state["path"]
        self._unseen()

    @property
    def _marker(self) -> Path:
        return self.path / "pool.json"

    def _create(self) -> None:
        for folder in ("ids", "making"):
            (self.path / folder).mkdir(parents=True, exist_ok=True)
        content = json.dumps({"format": _FORMAT, "version": _VERSION}).encode()
        publish(content, self.path / "making" / temporary_name("pool.json"), self._marker)

    def _check_version(self) -> None:
        try:
            found = json.loads(self._marker.read_text())
        except FileNotFoundError:
            raise PoolError(
                f"There is no pool in {self.path}: it has no pool.json. Check the path."
            ) from None
        except ValueError:
            found = None
        if not isinstance(found, dict) or found.get("format") != _FORMAT or found.get("version") != _VERSION:
            raise PoolError(
                f"{self._marker} says {found!r}; this macurr reads pools of version {_VERSION}. Open the pool with "
                "the macurr that made it, or start a new one in another folder."
            )

    def _retired(self, snapshot: int) -> Path:
        return self.path / "retired" / f"{snapshot:012d}{_SUFFIX}"

    def _delete_oldest_retired(self) -> None:
        files = []
        for file in (self.path / "retired").glob(f"*{_SUFFIX}"):
            with contextlib.suppress(FileNotFoundError):
                files.append((file.stat().st_mtime_ns, file))
        for _, file in sorted(files)[:-_RETIRED_KEPT]:
            file.unlink(missing_ok=True)


class explained:  # used like a function
    """Turns the system's errors into the pool's, in a `with` block."""

    __slots__ = ("_what",)

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError) and not isinstance(error, PoolError):
            raise PoolError(
                f"{self._what}: {error}. Check the path, its permissions and the space on its disk."
            ) from error


def _numbers(folder: Path) -> Iterator[int]:
    """The numbers in the names of a folder's snapshot files or given ids."""
    with os.scandir(folder) as entries:
        for entry in entries:
            stem = entry.name.removesuffix(_SUFFIX)
            if stem.isdigit():
                yield int(stem)

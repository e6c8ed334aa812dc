"""The pool: snapshots of policies on disk, shared by everyone who plays against them."""

from __future__ import annotations

import json
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from macurr.errors import PoolError, UsageError
from macurr.opponents.pool_folder import PoolFolder, explained
from macurr.opponents.retention import Keep, Strength, check_policy, choose_victims, strength_of
from macurr.opponents.snapshot_files import Parameters, encode_snapshot, read_metadata, read_parameters

__all__ = ["AgentPool"]

Signature = dict[str, tuple[tuple[int, ...], str]]


class AgentPool:
    """A growing set of snapshots in a folder: weights by name, and metadata.

    Ids count up from 0 and are never used twice, not even after a removal or a crash. Every snapshot is one
    safetensors file that holds its metadata too and is put in place whole, so a pool survives the death of any of
    its writers at any moment. Any number of processes and threads may share a pool: each opens the same path (or
    gets a pickled pool, which is just its path and options) and sees the others' snapshots at once, at the price of
    one `stat` of the folder where nothing has changed.

    Args:
        path: The folder; made where it is missing.
        capacity: How many snapshots to keep; None keeps all. Enforced by those who add, not by those who read. The
            last 32 that had to go can still be got by their id, so that episodes already given one can begin.
        keep: Which to keep: "newest"; "spread" over all ages, the first included; or the "strongest", in which case
            the snapshot just added stays whatever its strength.
        strength: For "strongest": a metadata key, or a function of a snapshot's id and metadata.
        like: Weights that every snapshot must match in names, shapes and dtypes; None allows any mixture.
        cache_size: How many loaded snapshots to keep in memory.
        create: Whether to make a pool where there is none.

    Raises:
        PoolError: the folder cannot be made or read, or holds a pool of another version.
        UsageError: an option is out of range.

    Example:
        >>> import tempfile
        >>> pool = AgentPool(tempfile.mkdtemp())
        >>> pool.add({"w": np.zeros(3)}, tags=["main"], step=1000)
        0
        >>> pool.get(0)["w"], pool.metadata(0), pool.ids
        (array([0., 0., 0.]), {'step': 1000, 'tags': ['main']}, [0])
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        capacity: int | None = None,
        *,
        keep: Keep = "newest",
        strength: Strength | None = None,
        like: Parameters | None = None,
        cache_size: int = 16,
        create: bool = True,
    ) -> None:
        check_policy(capacity, keep, strength)
        if cache_size < 0:
            raise UsageError(f"cache_size must be 0 or more; got {cache_size}.")
        self.capacity = capacity
        self.keep = keep
        self.strength = strength
        self.cache_size = cache_size
        self._like = None if like is None else _signature(like)
        self._folder = PoolFolder(path, create)
        self._start()

    # Snapshots

    def add(self, parameters: Parameters, *, tags: Iterable[str] = (), **metadata: Any) -> int:
        """Store a snapshot, and let others go where the pool is full.

        Args:
            parameters: Arrays by name: booleans, integers or floats.
            tags: Names to find it by (`tagged`).
            **metadata: Plain JSON values: a step count, a rating, a parent's id.

        Returns:
            Its id.

        Raises:
            PoolError: the parameters do not fit, the metadata are not plain, or the disk refuses. Nothing is added.
        """
        _check_like(self._like, parameters)
        names = [tags] if isinstance(tags, str) else [str(tag) for tag in tags]
        content = encode_snapshot(parameters, {**metadata, "tags": names} if names else metadata)
        return self._store(content, metadata)

    def get(self, snapshot: int) -> dict[str, NDArray[Any]]:
        """The weights of a snapshot by name: immutable arrays; copy what is to be trained.

        Raises:
            PoolError: there is no such snapshot, its file is damaged, or it does not match `like`.
        """
        with self._lock:
            cached = self._loaded.get(snapshot) if snapshot in self else None
            if cached is not None:
                self._loaded.move_to_end(snapshot)
                return dict(cached)
        parameters = self._folder.read(snapshot, read_parameters)
        _check_like(self._like, parameters, snapshot)
        with self._lock:
            self._loaded[snapshot] = parameters
            while len(self._loaded) > self.cache_size:
                self._loaded.popitem(last=False)
        return dict(parameters)

    def metadata(self, snapshot: int) -> dict[str, Any]:
        """What was stored with a snapshot, and its "tags" where it has any; a copy.

        Raises:
            PoolError: there is no such snapshot, or its file is damaged.
        """
        with self._lock:
            text = self._texts.get(snapshot) if snapshot in self else None
        if text is None:
            text = self._folder.read(snapshot, read_metadata)
            with self._lock:
                self._texts[snapshot] = text
        found: dict[str, Any] = json.loads(text)
        return found

    def remove(self, snapshot: int) -> None:
        """Delete a snapshot. Its id is not used again.

        Raises:
            PoolError: there is no such snapshot, or the disk refuses.
        """
        if snapshot not in self:
            raise self._folder.missing(snapshot)
        self._folder.delete(snapshot)
        with self._lock:
            self._loaded.pop(snapshot, None)
            self._texts.pop(snapshot, None)

    def settle(self) -> None:
        """Finish what the only writer of a pool left undone when it was killed in the middle of `add`.

        Where the newest snapshot made the pool too full, those that had to make room for it go; ids that were given
        out for snapshots that never came are free again. Not for pools that others write to at the same time.

        Raises:
            PoolError: the disk refuses.
        """
        ids = self._folder.ids(within=0.0)
        if self.capacity is not None and len(ids) > self.capacity:
            self._folder.retire(choose_victims(ids[:-1], len(ids) - self.capacity, self.keep, self._strength))
        self._folder.forget_unused()

    # The set

    @property
    def path(self) -> Path:
        """The pool's folder."""
        return self._folder.path

    @property
    def ids(self) -> list[int]:
        """The ids of all snapshots, oldest first, as of now."""
        return list(self._folder.ids())

    @property
    def latest(self) -> int:
        """The id of the newest snapshot.

        Raises:
            PoolError: the pool is empty.
        """
        ids = self._folder.ids()
        if not ids:
            raise PoolError(
                f"The pool {self.path} is empty. Add a snapshot first: that of the untrained policy will do."
            )
        return ids[-1]

    def tagged(self, *tags: str) -> list[int]:
        """The ids of the snapshots that have all of `tags`, oldest first. Reads each new file's header once."""
        wanted = set(tags)
        return [snapshot for snapshot in self.ids if wanted <= set(self.metadata(snapshot).get("tags", ()))]

    def file(self, snapshot: int) -> Path:
        """Where a snapshot's file is: an ordinary safetensors file."""
        return self._folder.file(snapshot)

    def __len__(self) -> int:
        return len(self._folder.ids())

    def __bool__(self) -> bool:
        return True  # an empty pool is a pool: `pool or other` must not drop it

    def __contains__(self, snapshot: object) -> bool:
        return self._folder.holds(snapshot)

    def __iter__(self) -> Iterator[int]:
        return iter(self.ids)

    def __repr__(self) -> str:
        try:
            return f"AgentPool({str(self.path)!r}, {len(self)} snapshots)"
        except PoolError:  # an error message about a lost folder must not fail itself
            return f"AgentPool({str(self.path)!r}, unreadable)"

    # Other pools

    def export(self, path: str | os.PathLike[str], ids: Iterable[int] | None = None) -> AgentPool:
        """Copy snapshots, with their ids, to a new pool.

        Args:
            path: The new pool's folder.
            ids: Which snapshots; None for all.

        Returns:
            The new pool.

        Raises:
            PoolError: there are snapshots at `path`, one of `ids` is missing or damaged, or the disk refuses.
        """
        wanted = self.ids if ids is None else list(ids)
        self._check_readable(wanted)
        other = AgentPool(path)
        if len(other) or any(other.path.glob("ids/*")):
            raise PoolError(f"The pool {other.path} is in use. Export to a new folder, or use import_from.")
        for snapshot in sorted(set(wanted)):
            with explained(f"Snapshot {snapshot} cannot be exported to {other.path}"):
                other._folder.reserve(snapshot)
            other._folder.store(snapshot, self._folder.read(snapshot, Path.read_bytes))
        return other

    def import_from(
        self, source: AgentPool | str | os.PathLike[str], ids: Iterable[int] | None = None
    ) -> dict[int, int]:
        """Copy snapshots of another pool, with their metadata, into this one, under new ids.

        Args:
            source: The other pool, or its folder.
            ids: Which of its snapshots; None for all.

        Returns:
            The new ids by the old ones.

        Raises:
            PoolError: there is no pool, one of `ids` is missing, damaged or does not match `like`, or the disk
                refuses. All are checked before the first is copied.
        """
        other = source if isinstance(source, AgentPool) else AgentPool(source, create=False)
        wanted = other.ids if ids is None else list(ids)
        other._check_readable(wanted, self._like)
        return {
            old: self._store(other._folder.read(old, Path.read_bytes), other.metadata(old)) for old in wanted
        }

    # Inside

    def __getstate__(self) -> dict[str, Any]:
        # What was loaded stays behind: the other process reads it from the disk when it needs it.
        return {
            name: value for name, value in vars(self).items() if name not in {"_lock", "_loaded", "_texts"}
        }

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)
        self._start()

    def _start(self) -> None:
        self._lock = threading.RLock()
        self._loaded: OrderedDict[int, dict[str, NDArray[Any]]] = OrderedDict()
        self._texts: dict[int, str] = {}

    def _store(self, content: bytes, metadata: Mapping[str, Any]) -> int:
        if isinstance(self.strength, str):
            strength_of(self.strength, -1, metadata)  # refused now, not when the pool is full
        victims = self._victims()
        snapshot = self._folder.claim()
        self._folder.store(snapshot, content)
        if victims:
            self._folder.retire(victims)
        return snapshot

    def _victims(self) -> list[int]:
        ids = self._folder.ids(within=0.0)
        excess = 0 if self.capacity is None else len(ids) + 1 - self.capacity
        return choose_victims(ids, excess, self.keep, self._strength)

    def _strength(self, snapshot: int) -> float:
        return strength_of(self.strength or "", snapshot, self.metadata(snapshot))

    def _check_readable(self, snapshots: Iterable[int], like: Signature | None = None) -> None:
        for snapshot in snapshots:
            _check_like(like, self._folder.read(snapshot, read_parameters), snapshot)


def _signature(parameters: Parameters) -> Signature:
    return {name: (np.shape(array), str(np.asarray(array).dtype)) for name, array in parameters.items()}


def _check_like(wanted: Signature | None, parameters: Parameters, snapshot: int | None = None) -> None:
    if wanted is None:
        return
    found = _signature(parameters)
    different = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if different:
        name = different[0]
        which = "The new snapshot" if snapshot is None else f"Snapshot {snapshot}"
        raise PoolError(
            f"{which} is of another architecture: {name!r} is {found.get(name)}, and the pool's `like` has "
            f"{wanted.get(name)} ({len(different)} parameters differ). Use a pool for each architecture."
        )

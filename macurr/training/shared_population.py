"""A population of runs that share a directory, on one machine or on a file system that several mount.

```text
members/<name>/owner             who may write here: an id that the run of this name keeps in its own directory
members/<name>/member.json       objective, steps, settings, and which of the weights' files belongs to them
members/<name>/<...>.safetensors the weights of the last two publications, with optimiser and normalisers
members/<name>/history.jsonl     what became of the member, one line for each round
```

There are no locks. Every member writes in its own folder only; `member.json` is replaced as a whole, after the file
that it names is on the disk, and says what that file's content must be. So whoever reads sees the last publication
that was complete, whatever happened to the writer, and nobody ever waits for anybody.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from macurr.errors import ConfigError, StateError
from macurr.persistence import write_atomically
from macurr.training.population_history import PopulationHistory
from macurr.training.population_weights import digest, pack, unpack

__all__ = ["LEAST_SILENCE", "SILENT_ROUNDS", "Member", "SharedPopulation"]

SILENT_ROUNDS = 5
"""A member that has published nothing for so many of its own rounds, or of the reader's, is taken to have stopped."""
LEAST_SILENCE = 60.0
"""Seconds for which a member may be silent in any case."""

_FORMAT = "macurr population member"
_VERSION = 1
_KEPT = 2
_TRIES = 3
_logger = logging.getLogger("macurr")


@dataclass(frozen=True)
class Member:
    """What a member has published last.

    Attributes:
        name: The name of its run's directory.
        objective: How it does, the larger the better.
        steps: Environment steps of its run.
        settings: Its hyper-parameters.
        fingerprint: What must be alike for weights and settings to be exchanged, as text.
        interval: Seconds between its last two publications.
        published: When that was, by the clock of the file system, in seconds.
        weights: The name of the weights' file.
        digest: What its content must be.
    """

    name: str
    objective: float
    steps: int
    settings: dict[str, float]
    fingerprint: str
    interval: float
    published: float
    weights: str
    digest: str


class SharedPopulation:
    """One run's view of the directory.

    Args:
        path: The directory; it is made where it does not exist.
        run: The directory of the run, which gives the member its name.
        fingerprint: What must be alike for weights and settings to be exchanged, as text.

    Raises:
        ConfigError: the directory cannot be used, the name belongs to another run, or the members are of another
            kind.
    """

    def __init__(self, path: str | os.PathLike[str], run: Path, fingerprint: str) -> None:
        self.path, self.fingerprint = Path(path).absolute(), fingerprint
        self.name = run.absolute().name
        self.folder = self.path / "members" / self.name
        self.history = PopulationHistory(self.folder / "history.jsonl")
        self._asked = time.monotonic()
        self._warned: set[str] = set()
        try:
            self._join(run)
        except OSError as error:
            raise ConfigError(
                f"population={os.fspath(path)!r} cannot be used: {error.strerror or error}. Name a directory that "
                "you may write to."
            ) from error

    def publish(
        self, objective: float, steps: int, settings: Mapping[str, float], state: Mapping[str, Any]
    ) -> None:
        """Let the others know: all of it, or nothing where something goes wrong on the way.

        Args:
            objective: How this member does.
            steps: Environment steps so far.
            settings: Its hyper-parameters.
            state: Its weights, for `read`: a nest of mappings, lists, plain values and arrays.

        Raises:
            OSError: the directory cannot be written; what was published before is still there.
        """
        content = pack(state)
        now = time.monotonic()
        name = f"{steps:015d}-{os.getpid()}-{time.monotonic_ns()}.safetensors"
        write_atomically(self.folder / name, content)
        entry = {
            "format": _FORMAT,
            "version": _VERSION,
            "objective": float(objective),
            "steps": int(steps),
            "settings": {key: float(value) for key, value in settings.items()},
            "fingerprint": self.fingerprint,
            "interval": now - self._asked,
            "weights": name,
            "digest": digest(content),
        }
        write_atomically(self.folder / "member.json", json.dumps(entry, indent=2).encode())
        self._asked = now
        self._tidy()

    def members(self) -> dict[str, Member]:
        """The members that run, by name, this one included once it has published.

        A member counts until it has been silent for `SILENT_ROUNDS` times its own interval between publications, or
        this one's where that is longer, and at least for `LEAST_SILENCE` seconds: times are those that the file
        system gave the files, so clocks need not agree. Members of another kind, and files that cannot be read, are
        left out.
        """
        known = self._read_all()
        own = known.get(self.name)
        if own is None:
            return {}
        alive = {}
        for name, member in known.items():
            patience = max(SILENT_ROUNDS * max(member.interval, own.interval), LEAST_SILENCE)
            if own.published - member.published > patience:
                continue
            if member.fingerprint == self.fingerprint:
                alive[name] = member
            else:
                self._warn(name, "it trains something else")
        return alive

    def read(self, member: Member) -> dict[str, Any] | None:
        """The weights that a member has published; those of a later publication where there is one by now.

        Returns:
            The state; None where it cannot be read, which is logged.
        """
        known: Member | None = member
        for _ in range(_TRIES):
            if known is None:
                break
            try:
                content = (self.path / "members" / known.name / known.weights).read_bytes()
                if digest(content) == known.digest:
                    return unpack(content)
            except FileNotFoundError:
                pass  # it has published since: its folder says what
            except (OSError, StateError) as error:
                self._warn(member.name, str(error))
                return None
            known = self._read(member.name)
        self._warn(member.name, "its weights are not those that it names")
        return None

    # Inside

    def _join(self, run: Path) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        token = _token(run)
        owner = _claimed(self.folder / "owner", token)
        if owner != token:
            raise ConfigError(
                f"The population {self.path} has a member {self.name!r} already, of another run. Name another "
                f"directory for this run by --out (out), or remove {self.folder} if that run is gone for good."
            )
        for name, member in sorted(self._read_all().items()):
            if name != self.name and member.fingerprint != self.fingerprint:
                raise ConfigError(
                    f"The population {self.path} cannot take this run: its member {name!r} is {member.fingerprint}, "
                    f"and this run is {self.fingerprint}. Members exchange weights, so these must be alike. Use "
                    "another directory for population."
                )

    def _read_all(self) -> dict[str, Member]:
        found = {}
        for folder in sorted((self.path / "members").iterdir()):
            member = self._read(folder.name)
            if member is not None:
                found[folder.name] = member
        return found

    def _read(self, name: str) -> Member | None:
        file = self.path / "members" / name / "member.json"
        try:
            with file.open() as opened:
                published = os.fstat(opened.fileno()).st_mtime
                entry = json.load(opened)
            return _member(name, entry, published)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            self._warn(name, f"{file} cannot be read ({error!r})")
            return None

    def _tidy(self) -> None:
        """Remove what this run published before the last two times, and what it left unfinished as it was killed."""
        weights = sorted(self.folder.glob("*.safetensors"), key=lambda file: file.stat().st_mtime_ns)
        for file in (*weights[:-_KEPT], *self.folder.glob(".*.tmp")):
            with contextlib.suppress(OSError):
                file.unlink()

    def _warn(self, name: str, why: str) -> None:
        if name not in self._warned:
            self._warned.add(name)
            _logger.warning("Member %r of the population %s is left out: %s.", name, self.path, why)


def _member(name: str, entry: Any, published: float) -> Member:
    if entry["format"] != _FORMAT or entry["version"] != _VERSION:
        raise ValueError(f"of format {entry['format']!r}, version {entry['version']!r}")
    settings = {str(key): float(value) for key, value in entry["settings"].items()}
    numbers = (float(entry["objective"]), float(entry["interval"]), *settings.values())
    if not all(map(math.isfinite, numbers)):
        raise ValueError("it holds numbers that are not finite")
    weights = str(entry["weights"])
    if Path(weights).name != weights:
        raise ValueError(f"{weights!r} is no file of its folder")
    return Member(
        name,
        float(entry["objective"]),
        int(entry["steps"]),
        settings,
        str(entry["fingerprint"]),
        float(entry["interval"]),
        published,
        weights,
        str(entry["digest"]),
    )


def _token(run: Path) -> str:
    """What tells this run from any other that ever had its name; made once, and kept in its directory."""
    file = run / "population.id"
    if not file.exists():
        write_atomically(file, uuid.uuid4().hex.encode())
    return file.read_text()


def _claimed(file: Path, token: str) -> str:
    """Whose a folder is, after trying to make it one's own: the first to come has it, and nobody sees half of it."""
    scratch = file.with_name(f".{token}.tmp")
    scratch.write_text(token)
    try:
        os.link(scratch, file)
    except FileExistsError:
        pass
    except OSError:  # a file system without links: the check and the writing are then two steps
        if not file.exists():
            write_atomically(file, token.encode())
    finally:
        scratch.unlink(missing_ok=True)
    return file.read_text()

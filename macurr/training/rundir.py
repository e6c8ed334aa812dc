"""The directory of a run: everything that it leaves behind, and everything that it needs to go on.

```text
config.yaml          the settings, with the version of this format
metrics.csv          one row for each update; the same for the same seed, transport "local" and one worker
timing.csv           one row for each update: seconds and speed
snapshots/           the pool of past policies, safetensors
checkpoint.state     policies, optimisers, curriculum, generators and counters after an update (macurr.persistence)
policy.safetensors   the final policies
evaluation.json      results of the evaluation
report.html          the run on one page
report.png           the run in one picture
tensorboard/         the same curves for TensorBoard
wandb.id, wandb/     where the same curves are in Weights & Biases
population.jsonl     what became of the policies, or of the run, in population-based training
population.id        what tells the run from others of its name in a population of runs
.lock, .owner        which process is at work on it
```
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from macurr.errors import ConfigError, MacurrError, StateError
from macurr.persistence import load_state, save_state, write_atomically
from macurr.training.config import FORMAT_VERSION, TrainConfig
from macurr.training.lock import LOCK_FILES, RunLock
from macurr.training.tables import append_row, cut_rows, read_csv

__all__ = ["RunDir", "read_csv"]

_DISK = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
)
"""What a disk may say when it does not take what is written to it."""


class RunDir:
    """The files of one run.

    Args:
        path: The directory, which exists.
        made: Whether it was made for this run, and may go with it.
    """

    def __init__(self, path: Path, made: bool = False) -> None:
        self.path = path
        self._made = made
        self._lock = RunLock(path)
        self.config = path / "config.yaml"
        self.metrics = path / "metrics.csv"
        self.timing = path / "timing.csv"
        self.snapshots = path / "snapshots"
        self.checkpoint = path / "checkpoint.state"
        self.policy = path / "policy.safetensors"
        self.evaluation = path / "evaluation.json"
        self.report = path / "report.html"
        self.picture = path / "report.png"
        self.tensorboard = path / "tensorboard"
        self.wandb = path / "wandb.id"

    @classmethod
    def create(cls, config: TrainConfig) -> RunDir:
        """Make the directory of a new run, and lock it.

        Raises:
            ConfigError: it exists and holds something, is in use, or cannot be written.
        """
        text = config.to_yaml()
        path = Path(config.out) if config.out is not None else _named(config.env)
        try:
            path, made = _make(path, anew=config.out is None)
            run = cls(path, made)
            run._begin(text)
        except OSError as error:
            raise ConfigError(
                f"The run directory {path} cannot be made, or cannot be written to: {error.strerror or error}. Name a "
                "directory that you may write to by --out (out), and see that its disk has room."
            ) from error
        return run

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> tuple[RunDir, TrainConfig]:
        """The directory of a run, and its settings. It is not locked: a run can be read while it goes on.

        Raises:
            ConfigError: it is no run, or one of another version.
        """
        from macurr.training.config import text  # noqa: PLC0415  # brings PyYAML

        run = cls(Path(path))
        try:
            content = run.config.read_text()
        except (OSError, UnicodeDecodeError) as error:
            text.refuse_older(run.path / "config.json")
            raise ConfigError(
                f"{path} is not the directory of a macurr run (of format {FORMAT_VERSION}): its config.yaml cannot be "
                f"read. Name a directory that `macurr train` made, such as one in runs/."
            ) from error
        return run, TrainConfig.of(**text.read(content, str(run.config), versioned=True))

    # One process at a time

    @property
    def owner(self) -> str | None:
        """Which process is at work on the run, in words; None where none is."""
        return self._lock.owner

    def check(self) -> None:
        """See that there is something to go on from: a checkpoint, or a run too young to have one.

        Raises:
            ConfigError: the run's first update is over, and there is no checkpoint.
        """
        # The first checkpoint is written right after the first row.
        if not self.checkpoint.exists() and len(read_csv(self.metrics).get("update", ())) > 1:
            raise ConfigError(
                f"The run {self.path} cannot be resumed: {self.checkpoint.name} is missing. Start a new one; its "
                "snapshots and metrics are intact."
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of the run for the time of a `with` block.

        Raises:
            ConfigError: another process holds it, or the directory cannot be written.
        """
        with self.writing(self.path):
            self._lock.acquire()
        try:
            yield
        finally:
            self.release()

    def release(self) -> None:
        """Give the lock back. May be called twice."""
        with self.writing(self.path):
            self._lock.release()

    def _begin(self, settings: str) -> None:
        """Lock a directory that holds nothing yet, and write down the settings. A failure leaves it as it was.

        Raises:
            ConfigError: it holds something, or is in use.
            OSError: it cannot be written.
        """
        before = {entry.name for entry in self.path.iterdir()}
        if before and not before & LOCK_FILES:
            raise self._taken()
        try:
            self._lock.acquire()
        except BaseException:
            if self._made and not any(self.path.iterdir()):
                self.path.rmdir()
            raise
        if {entry.name for entry in self.path.iterdir()} - LOCK_FILES:
            self.release()
            raise self._taken()
        try:
            write_atomically(self.config, settings.encode())
        except BaseException:
            self.discard()
            raise

    def _taken(self) -> ConfigError:
        return ConfigError(
            f"The run directory {self.path} holds files already. Go on with that run by --resume {self.path}, or name "
            "another directory by --out (out)."
        )

    # Writing

    @contextmanager
    def writing(self, file: Path) -> Iterator[None]:
        """Turn what the disk says into one clear error.

        Args:
            file: What is being written.

        Raises:
            ConfigError: the disk is full, read-only, or refuses for another reason.
        """
        try:
            yield
        except MacurrError:
            raise
        except OSError as error:
            rest = (
                f"what it had saved before is intact, and `macurr train --resume {self.path}` goes on from there."
                if self.checkpoint.exists()
                else f"it had saved nothing yet, and `macurr train --resume {self.path}` begins it again."
            )
            raise ConfigError(
                f"{file} cannot be written: {error.strerror or error}. Make room for the run, or make its directory "
                f"writable; {rest}"
            ) from error

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """As `writing`, around everything that a run does: only what disks say is turned into an error of ours.

        Raises:
            ConfigError: the disk is full, read-only, or refuses for another reason.
        """
        try:
            yield
        except MacurrError:
            raise
        except OSError as error:
            if error.errno not in _DISK:
                raise
            with self.writing(Path(error.filename or self.path)):
                raise

    def write(self, file: Path, data: bytes) -> None:
        """Replace a file of the run, as a whole or not at all.

        Raises:
            ConfigError: it cannot be written; what was there before still is.
        """
        with self.writing(file):
            write_atomically(file, data)

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint.

        Raises:
            ConfigError: it cannot be written; the one before is still there.
        """
        with self.writing(self.checkpoint):
            save_state(self.checkpoint, state)

    def append(self, file: Path, row: Mapping[str, Any]) -> None:
        """Append a row to a table; the first row brings the names of the columns.

        Raises:
            ConfigError: it cannot be written. What there may be of the row is cut off when the run is resumed.
        """
        with self.writing(file):
            append_row(file, row)

    def load(self) -> dict[str, Any] | None:
        """The checkpoint; None where the run was ended before its first one.

        Raises:
            ConfigError: it is damaged.
        """
        try:
            return load_state(self.checkpoint)
        except FileNotFoundError:
            return None
        except (OSError, StateError) as error:
            raise ConfigError(
                f"The run {self.path} cannot be resumed: {error} Start a new one; its snapshots and metrics are intact."
            ) from error

    def cut(self, update: int) -> None:
        """Drop what the checkpoint does not know: rows of later updates, and files that a crash left unfinished.

        Raises:
            ConfigError: the directory cannot be written.
        """
        for file in (self.metrics, self.timing):
            with self.writing(file):
                cut_rows(file, update)
        for file in (self.checkpoint, self.config, self.metrics, self.timing):
            for stray in self.path.glob(f".{file.name}.*.tmp"):
                with self.writing(stray):
                    stray.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove a run that has not begun."""
        for file in (self.config, self.wandb, self.path / "population.id"):
            file.unlink(missing_ok=True)
        for folder in (self.tensorboard, self.snapshots, self.path / "wandb"):
            shutil.rmtree(folder, ignore_errors=True)
        self._lock.remove()
        if self._made and not any(self.path.iterdir()):
            self.path.rmdir()


def _named(env: str) -> Path:
    """The directory of a run whose place was not given."""
    name = env.partition(":")[0].rpartition(".")[2] or "run"
    return Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"


def _make(path: Path, *, anew: bool) -> tuple[Path, bool]:
    """A directory, and whether it was made; with `anew`, one that nobody else has, not even one who begins just now."""
    stem, number = path.name, 1
    while True:
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            if not anew and path.is_dir():
                return path, False
            if not anew:
                raise
            number += 1
            path = path.with_name(f"{stem}-{number}")
        else:
            return path, True

"""The directory of a run: everything that it leaves behind, and everything that it needs to go on.

```text
config.json          the settings, with the version of this format
metrics.csv          one row for each update; the same for the same seed, transport "local" and one worker
timing.csv           one row for each update: seconds and speed
snapshots/           the pool of past policies, safetensors
checkpoint.state     policy, optimiser, curriculum, generators and counters after an update (macurr.persistence)
policy.safetensors   the final policy
evaluation.json      results of the evaluation
report.html          the run on one page
report.png           the run in one picture
tensorboard/         the same curves for TensorBoard
```
"""

from __future__ import annotations

import csv
import io
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from macurr.errors import ConfigError, StateError
from macurr.persistence import load_state, save_state, write_atomically
from macurr.training.config import FORMAT_VERSION, TrainConfig

__all__ = ["RunDir", "read_csv"]


class RunDir:
    """The files of one run.

    Args:
        path: The directory, which exists.
        made: Whether it was made for this run, and may go with it.
    """

    def __init__(self, path: Path, made: bool = False) -> None:
        self.path = path
        self._made = made
        self.config = path / "config.json"
        self.metrics = path / "metrics.csv"
        self.timing = path / "timing.csv"
        self.snapshots = path / "snapshots"
        self.checkpoint = path / "checkpoint.state"
        self.policy = path / "policy.safetensors"
        self.evaluation = path / "evaluation.json"
        self.report = path / "report.html"
        self.picture = path / "report.png"
        self.tensorboard = path / "tensorboard"

    @classmethod
    def create(cls, config: TrainConfig) -> RunDir:
        """Make the directory of a new run.

        Raises:
            ConfigError: it exists and holds something, or cannot be written.
        """
        path = Path(config.out) if config.out is not None else _fresh(config.env)
        made = not path.exists()
        try:
            path.mkdir(parents=True, exist_ok=True)
            taken = any(path.iterdir())
        except OSError as error:
            raise ConfigError(
                f"The run directory {path} cannot be made: {error.strerror or error}. Name a directory that you may "
                "write to by --out (out)."
            ) from error
        if taken:
            raise ConfigError(
                f"The run directory {path} holds files already. Go on with that run by --resume {path}, or name "
                "another directory by --out (out)."
            )
        run = cls(path, made)
        try:
            write_atomically(run.config, config.to_json().encode())
        except OSError as error:
            raise ConfigError(
                f"The run directory {path} cannot be written to: {error.strerror or error}. Name a directory that you "
                "may write to by --out (out)."
            ) from error
        return run

    @classmethod
    def open(cls, path: str) -> tuple[RunDir, TrainConfig]:
        """The directory of a run, and its settings.

        Raises:
            ConfigError: it is no run, or one of another version.
        """
        run = cls(Path(path))
        try:
            text = run.config.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"{path} is not the directory of a macurr run (of format {FORMAT_VERSION}): its config.json cannot be "
                f"read. Name a directory that `macurr train` made, such as one in runs/."
            ) from error
        return run, TrainConfig.from_json(text, str(run.config))

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint.

        Raises:
            OSError: it cannot be written; the one before is still there.
        """
        save_state(self.checkpoint, state)

    def load(self) -> dict[str, Any]:
        """The checkpoint.

        Raises:
            ConfigError: there is none, or it is damaged.
        """
        try:
            return load_state(self.checkpoint)
        except FileNotFoundError as error:
            raise ConfigError(
                f"The run {self.path} has no checkpoint: it was ended before its first update. Start a new one."
            ) from error
        except (OSError, StateError) as error:
            raise ConfigError(
                f"The run {self.path} cannot be resumed: {error} Start a new one; its snapshots and metrics are intact."
            ) from error

    def append(self, file: Path, row: Mapping[str, Any]) -> None:
        """Append a row to a table; the first row brings the names of the columns."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(row), lineterminator="\n")
        if not file.exists():
            writer.writeheader()
        writer.writerow(row)
        with file.open("a") as out:
            out.write(text.getvalue())

    def cut(self, update: int) -> None:
        """Drop the rows of updates that the checkpoint does not know."""
        for file in (self.metrics, self.timing):
            if not file.exists():
                continue
            header, *rows = file.read_text().splitlines()
            kept = [header, *(row for row in rows if _number(row) <= update)]
            write_atomically(file, "".join(f"{line}\n" for line in kept).encode())

    def discard(self) -> None:
        """Remove a run that has not begun."""
        self.config.unlink(missing_ok=True)
        for folder in (self.tensorboard, self.snapshots):
            shutil.rmtree(folder, ignore_errors=True)
        if self._made and not any(self.path.iterdir()):
            self.path.rmdir()


def read_csv(file: Path) -> dict[str, list[float]]:
    """The columns of a table of numbers, by name; empty where there is none."""
    if not file.exists():
        return {}
    with file.open(newline="") as lines:
        rows: Sequence[dict[str, str]] = list(csv.DictReader(lines))
    return {name: [float(row[name]) for row in rows] for name in (rows[0] if rows else {})}


def _number(row: str) -> float:
    first = row.partition(",")[0]
    return float(first) if first.isdigit() else float("inf")


def _fresh(env: str) -> Path:
    """A directory of its own for a run whose place was not given."""
    name = env.partition(":")[0].rpartition(".")[2] or "run"
    stem = f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    path, number = Path("runs") / stem, 1
    while path.exists():
        number += 1
        path = Path("runs") / f"{stem}-{number}"
    return path

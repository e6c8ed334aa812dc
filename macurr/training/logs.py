"""The curves of a run for those who watch it: TensorBoard, and Weights & Biases where asked for."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import socket
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from tensorboard.compat.proto import event_pb2, summary_pb2  # type: ignore[import-untyped]
from tensorboard.plugins.hparams import summary_v2 as hparams  # type: ignore[import-untyped]
from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]
from typing_extensions import Self

from macurr.errors import ConfigError, MissingDependencyError
from macurr.training.config import TrainConfig
from macurr.training.rundir import RunDir

__all__ = ["Log", "RunLogs", "TensorBoard", "Wandb", "check_logs", "open_logs"]

_GROUPS = {
    "win": "play",
    "draw": "play",
    "loss": "play",
    "learner_return": "play",
    "episode_length": "play",
    "episodes": "play",
    "pool": "play",
    "level_score": "levels",
    "levels_seen": "levels",
    "curriculum_entropy": "levels",
    "lag_min": "lag",
    "lag_mean": "lag",
    "lag_max": "lag",
    "valid_fraction": "lag",
    "same_policy_fraction": "lag",
}
_POLICY = re.compile(r"_p\d+$")
"""The end of the name of a number that is one policy's."""


class Log(Protocol):
    """Somewhere to write numbers to."""

    def write(self, numbers: Mapping[str, float], step: int) -> None:
        """Write numbers by name.

        Args:
            numbers: The numbers; a name may begin with a group and a slash.
            step: Environment steps so far.

        Raises:
            OSError: there is no room for them.
        """

    def close(self, failed: bool) -> None:
        """End.

        Args:
            failed: Whether the run ends by an error.
        """


class TensorBoard:
    """Writes an event file: what is written is on the disk, or an error says that it is not.

    Args:
        folder: Where to.
        step: The step after which to write: what is there from later ones is hidden.
        settings: The settings, by which TensorBoard's table of hyper-parameters compares runs.
        name: What that table calls the run.

    Raises:
        OSError: the folder cannot be written to.
    """

    def __init__(self, folder: Path, step: int, settings: Mapping[str, Any], name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # In the order of their names they are in the order of time, which is how TensorBoard reads them.
        file = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        # Not torch's SummaryWriter: its thread would print a full disk as a traceback of its own.
        self._file = (folder / file).open("wb")
        self._records = RecordWriter(self._file)
        self._add(event_pb2.Event(wall_time=time.time(), file_version="brain.Event:2"))
        if step:
            begun = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._add(event_pb2.Event(wall_time=time.time(), step=step + 1, session_log=begun))
        known = {
            key: value if isinstance(value, int | float) else str(value) for key, value in settings.items()
        }
        told = hparams.hparams_pb(known, trial_id=name)
        self._add(event_pb2.Event(wall_time=time.time(), step=step, summary=told))
        self._file.flush()

    def write(self, numbers: Mapping[str, float], step: int) -> None:
        """As `Log.write`."""
        values = [summary_pb2.Summary.Value(tag=tag, simple_value=float(x)) for tag, x in numbers.items()]
        summary = summary_pb2.Summary(value=values)
        self._add(event_pb2.Event(wall_time=time.time(), step=step, summary=summary))
        self._file.flush()

    def close(self, failed: bool) -> None:
        """As `Log.close`."""
        self._file.close()

    def _add(self, event: Any) -> None:
        self._records.write(event.SerializeToString())


class Wandb:
    """Writes to Weights & Biases. Run by run, a resumed run goes on with its curves.

    Args:
        project: The project.
        config: The settings, which are shown with the curves.
        run: The run's directory, which keeps the name of the curves.

    Raises:
        MissingDependencyError: wandb is not installed.
        ConfigError: it cannot be reached or does not let the user in.
        OSError: the directory cannot be written to.
    """

    def __init__(self, project: str, config: TrainConfig, run: RunDir) -> None:
        wandb = _wandb()
        try:
            self._run = wandb.init(
                project=project,
                id=_identity(run.wandb),
                name=run.path.name,
                config=config.settings(),
                dir=str(run.path),
                resume="allow",
            )
        except wandb.Error as error:
            raise ConfigError(
                f"wandb={project!r} cannot be used: {error} Log in by `wandb login`, or set WANDB_MODE=offline and "
                "`wandb sync` later."
            ) from error
        self._run.define_metric("steps")
        self._run.define_metric("*", step_metric="steps")

    def write(self, numbers: Mapping[str, float], step: int) -> None:
        """As `Log.write`."""
        self._run.log({"steps": step, **numbers})

    def close(self, failed: bool) -> None:
        """As `Log.close`."""
        self._run.finish(exit_code=int(failed))


class RunLogs:
    """All that a run's curves are written to. It is a context manager.

    Args:
        run: The run's directory.
        logs: Where to.
    """

    def __init__(self, run: RunDir, logs: list[Log]) -> None:
        self._run = run
        self._logs = logs

    def write(self, row: Mapping[str, Any], timing: Mapping[str, float], synced: Any, step: int) -> None:
        """Write one update.

        Args:
            row: The row of metrics.csv.
            timing: The row of timing.csv.
            synced: The curriculum, which has metrics of its own.
            step: Environment steps so far.

        Raises:
            ConfigError: there is no room for it.
        """
        if not self._logs:
            return
        numbers = {_tag(name): float(value) for name, value in row.items() if name not in ("update", "steps")}
        numbers.update({f"time/{name}": value for name, value in timing.items() if name != "update"})
        told = _Told()
        synced.log_metrics(told, step)
        with self._run.writing(self._run.tensorboard):
            for log in self._logs:
                log.write({**numbers, **told.numbers}, step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        failed = error is not None and not isinstance(error, KeyboardInterrupt)
        with self._run.writing(self._run.tensorboard):
            for log in self._logs:
                log.close(failed)


def check_logs(config: TrainConfig) -> None:
    """Refuse what cannot be written to, before anything starts.

    Raises:
        MissingDependencyError: wandb is asked for and not installed.
    """
    if config.wandb is not None:
        _wandb()


def open_logs(config: TrainConfig, run: RunDir, step: int) -> RunLogs:
    """Everything that a run's settings ask to write curves to.

    Args:
        config: The settings.
        run: The run's directory.
        step: Environment steps so far: later ones, of a sitting that crashed, are hidden.

    Raises:
        ConfigError: one cannot be written to.
        MissingDependencyError: wandb is asked for and not installed.
    """
    logs: list[Log] = []
    with run.writing(run.tensorboard):
        if config.wandb is not None:
            logs.append(Wandb(config.wandb, config, run))
        if config.tensorboard:
            logs.append(TensorBoard(run.tensorboard, step, config.settings(), run.path.name))
    return RunLogs(run, logs)


class _Told:
    """Takes numbers as a SummaryWriter would, and keeps them."""

    def __init__(self) -> None:
        self.numbers: dict[str, float] = {}

    def add_scalar(self, tag: str, value: float, step: int | None = None) -> None:
        """Keep a number."""
        self.numbers[tag] = value


def _tag(name: str) -> str:
    """A column of metrics.csv with its group."""
    return f"{_GROUPS.get(_POLICY.sub('', name), 'learner')}/{name}"


def _wandb() -> Any:
    try:
        return importlib.import_module("wandb")
    except ModuleNotFoundError as error:
        if error.name != "wandb":
            raise
        raise MissingDependencyError.for_extra("wandb", "wandb", "wandb (--wandb)") from error


def _identity(file: Path) -> str:
    """The name of the run's curves: the same for every sitting."""
    if not file.exists():
        file.write_text(uuid.uuid4().hex[:12])
    return file.read_text()

"""What a run shows while it goes on: a live bar on a terminal, sparse lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from typing_extensions import Self, override

from macurr.training.config import TrainConfig
from macurr.training.rundir import RunDir
from macurr.training.status import Listener, Status

__all__ = ["LiveDisplay", "PlainDisplay", "make_display"]

_QUIET = 10.0
"""Seconds between two lines, at least."""


def numbers(status: Status) -> str:
    """The numbers of a status as text."""
    games = "" if status.win_rate is None else f"win rate {status.win_rate:>6.1%}   "
    return (
        f"{status.speed:>7,.0f} steps/s   {games}levels seen {status.levels_seen:>5,}   pool {status.pool:>2}"
    )


def introduction(run: RunDir, config: TrainConfig) -> str:
    """What a run is, in one line."""
    levels = {"plr": "replayed levels (PLR)", "dr": "uniform levels (DR)"}[config.curriculum]
    return (
        f"{config.env}: {levels}, opponents by {config.opponents}, {config.num_envs} environments in {config.workers} "
        f"{'process' if config.workers == 1 else 'processes'}; run directory {run.path}"
    )


class PlainDisplay(Listener):
    """Sparse lines, for logs and pipes. It is a context manager, like `LiveDisplay`.

    Args:
        console: Where to.

    Attributes:
        run: The run's directory, once there is one.
    """

    def __init__(self, console: Console) -> None:
        self.run: RunDir | None = None
        self._console = console
        self._said = -_QUIET
        self._games = 0

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    @override
    def began(self, run: RunDir, config: TrainConfig) -> None:
        self.run = run
        self.say(introduction(run, config))

    @override
    def updated(self, status: Status) -> None:
        if time.monotonic() - self._said >= _QUIET or status.done >= 1.0:
            self._said = time.monotonic()
            self.say(f"train {status.done:>5.0%}   {status.steps:>10,} steps   {numbers(status)}")

    @override
    def evaluating(self, done: int, total: int) -> None:
        if done == total > self._games or time.monotonic() - self._said >= _QUIET:
            self._said, self._games = time.monotonic(), done
            self.say(f"evaluate {done / total:>4.0%}   {done:,} of {total:,} games")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is open."""


class LiveDisplay(Listener):
    """A bar for training and one for the evaluation.

    Args:
        console: A terminal.

    Attributes:
        run: The run's directory, once there is one.
    """

    def __init__(self, console: Console) -> None:
        self.run: RunDir | None = None
        self._bar = Progress(
            SpinnerColumn(finished_text="[green]\u2713"),
            TextColumn("[bold]{task.description:<8}"),
            BarColumn(bar_width=28),
            TaskProgressColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeElapsedColumn(),
            console=console,
        )
        self._training: TaskID | None = None
        self._games: TaskID | None = None

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

    @override
    def began(self, run: RunDir, config: TrainConfig) -> None:
        self.run = run
        self.say(introduction(run, config))

    @override
    def updated(self, status: Status) -> None:
        if self._training is None:
            self._training = self._add("train", 1.0)
        self._bar.update(self._training, completed=status.done, numbers=numbers(status))

    @override
    def evaluating(self, done: int, total: int) -> None:
        if self._games is None:
            self._games = self._add("evaluate", float(total))
        self._bar.update(self._games, completed=done, numbers=f"{done:,} of {total:,} games")

    def _add(self, name: str, total: float) -> Any:
        return self._bar.add_task(name, total=total, numbers="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()


def make_display() -> PlainDisplay | LiveDisplay:
    """The display that suits standard output."""
    console = Console()
    return LiveDisplay(console) if console.is_terminal else PlainDisplay(console)

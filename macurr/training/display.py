"""What a run shows while it goes on: a live bar on a terminal, sparse lines elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text
from typing_extensions import Self, override

from macurr.training.config import TrainConfig
from macurr.training.rundir import RunDir
from macurr.training.status import Listener, Status

__all__ = ["LiveDisplay", "PlainDisplay", "make_display"]

_QUIET = 10.0
"""Seconds between two lines, at least."""
_ROOMY = 72
"""Characters of a line that has room for the time that has passed, too."""


_CURRICULA = {
    "plr": "replayed levels (PLR)",
    "dr": "uniform levels (DR)",
    "joint": "levels and opponents drawn together",
}
_GAP = "  "


def numbers(status: Status) -> str:
    """The numbers of a status as text: what there is of speed, success, lag, levels and opponents."""
    shown = [f"{status.steps:,} steps", f"{status.speed:,.0f} steps/s"]
    if status.win_rate is not None:
        shown.append(f"win rate {status.win_rate:.1%}")
    elif status.learner_return is not None:
        shown.append(f"return {status.learner_return:.4g}")
    if _known(status.lag):
        shown.append(f"lag {status.lag:.1f}")
    if _known(status.level_entropy):
        shown.append(f"level entropy {status.level_entropy:.2f}")
    return _GAP.join([*shown, f"pool {status.pool}"])


def balanced(text: str, width: int) -> str:
    """Numbers on one line, or, where that is too long, on two of about the same length."""
    parts = text.split(_GAP)
    if len(text) <= width or len(parts) < 2:
        return text
    halves = [(_GAP.join(parts[:i]), _GAP.join(parts[i:])) for i in range(1, len(parts))]
    return "\n".join(min(halves, key=lambda pair: max(map(len, pair))))


def _known(number: float | None) -> bool:
    return number is not None and not math.isnan(number)


def introduction(run: RunDir, config: TrainConfig) -> str:
    """What a run is, in one line."""
    drawn = "every tenth opponent" if config.curriculum == "joint" else "opponents"
    opponents = "everybody learns" if config.opponents == "none" else f"{drawn} by {config.opponents}"
    policies = f"{config.policies.num_policies} policies, " if config.policies.num_policies > 1 else ""
    if config.transport == "local":
        where = "this process"
    else:
        where = f"{config.workers} {'process' if config.workers == 1 else 'processes'}"
    mode = "asynchronous" if config.asynchronous else "synchronous"
    return (
        f"{config.env}: {_CURRICULA[config.curriculum]}, {opponents}, {policies}{config.num_envs} environments in "
        f"{where}, {mode}; run directory {run.path}"
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

    @property
    def width(self) -> int | None:
        """Characters of a line; None, as a log or a pipe takes any."""
        return None

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
            self.say(f"train {status.done:>5.0%}{_GAP}{numbers(status)}")

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


class _Numbers:
    """Numbers on one line, or two where the terminal is narrow."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        yield Text(balanced(self._text, options.max_width), style="dim")


class _Bars(Progress):
    """Bars with a line of numbers below, which finds room on a narrow terminal too."""

    numbers = ""

    @override
    def get_renderables(self) -> Iterator[RenderableType]:
        yield from super().get_renderables()
        yield _Numbers(self.numbers)


class LiveDisplay(Listener):
    """A bar for training and one for the evaluation.

    Args:
        console: A terminal.

    Attributes:
        run: The run's directory, once there is one.
    """

    def __init__(self, console: Console) -> None:
        self.run: RunDir | None = None
        times = (TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("[dim]left"))
        self._bar = _Bars(
            SpinnerColumn(finished_text="[green]\u2713"),
            TextColumn("[bold]{task.description:<8}"),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            TextColumn("[dim]{task.fields[count]}"),
            *(times if console.width >= _ROOMY else times[1:]),
            console=console,
            expand=True,
        )
        self._training: TaskID | None = None
        self._games: TaskID | None = None

    @property
    def width(self) -> int | None:
        """Characters of a line of the terminal."""
        return self._bar.console.width

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

    @override
    def began(self, run: RunDir, config: TrainConfig) -> None:
        self.run = run
        self._bar.console.print(introduction(run, config), markup=False, highlight=False)

    @override
    def updated(self, status: Status) -> None:
        if self._training is None:
            self._training = self._add("train", 1.0)
        self._bar.numbers = numbers(status)
        self._bar.update(self._training, completed=status.done)

    @override
    def evaluating(self, done: int, total: int) -> None:
        if self._games is None:
            self._games = self._add("evaluate", float(total))
            if self._training is not None:  # it is over, also where time ended it before its steps were done
                self._bar.update(self._training, completed=1.0)
        self._bar.update(self._games, completed=done, count=f"{done:,} of {total:,} games")

    def _add(self, name: str, total: float) -> Any:
        return self._bar.add_task(name, total=total, count="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()


def make_display() -> PlainDisplay | LiveDisplay:
    """The display that suits standard output: bars need a terminal on which the cursor can go back."""
    console = Console()
    live = console.is_terminal and not console.is_dumb_terminal
    return LiveDisplay(console) if live else PlainDisplay(console)

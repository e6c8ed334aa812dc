"""`macurr train`."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from macurr.cli.ending import Terminated, Wish, terminable
from macurr.cli.options import DONE, INTERRUPTED, TERMINATED, Wide
from macurr.cli.settings import add_settings, flag, of_file, of_options
from macurr.errors import ConfigError
from macurr.training.config import TrainConfig, settings_of

__all__ = ["add_command"]


def add_command(commands: Any) -> None:
    """Add `macurr train`."""
    train = commands.add_parser(
        "train",
        help="train policies by self-play, evaluate them, and write a report",
        description=(
            "Train policies on a curriculum of levels and opponents, evaluate them on levels that they have never "
            "seen, and write a report. Without options: the apple race, in about three minutes on two cores."
        ),
        epilog=(
            "Ctrl-C saves and exits (code 130), and so does SIGTERM (143); --resume goes on. The same settings with "
            "--serial and a bound in --steps give the same metrics.csv. Where a setting can be off, the value `none` "
            "turns it off."
        ),
        usage="macurr train [--config FILE | --resume RUN] [OPTION ...]",
        formatter_class=Wide,
        argument_default=argparse.SUPPRESS,
    )
    files = train.add_argument_group("from another run")
    files.add_argument(
        "--config",
        metavar="FILE",
        help="take the settings from a YAML file, such as the config.yaml of a run; options override it",
    )
    changeable = ", ".join(flag(item.name) for item in settings_of(TrainConfig) if item.changeable)
    files.add_argument(
        "--resume",
        metavar="RUN",
        help=f"go on with the run in this directory, with its settings; these may change: {changeable}",
    )
    groups = add_settings(train)
    groups["how environments are stepped"].add_argument(
        "--serial", action="store_true", help="short for --transport local --workers 1: for debugging"
    )
    train.set_defaults(command=_train)


def _train(args: argparse.Namespace) -> int:
    given = {name: value for name, value in vars(args).items() if name != "command"}
    if "resume" in given:
        return _resume(given.pop("resume"), given)
    file = given.pop("config", None)
    config = TrainConfig.of(**of_options(given, {} if file is None else of_file(file)))
    from macurr.training import train

    return _run(lambda display: train(config, display))


def _resume(path: str, given: Mapping[str, Any]) -> int:
    changeable = [item.name for item in settings_of(TrainConfig) if item.changeable]
    fixed = sorted(set(given) - set(changeable))
    if fixed:
        raise ConfigError(
            f"--resume goes on with the settings of the run, so {', '.join(map(flag, fixed))} cannot be given with it. "
            f"What may change: {', '.join(map(flag, changeable))}. Leave that out, or start a new run."
        )
    from macurr.training import resume

    return _run(lambda display: resume(path, display, **given))


def _run(work: Callable[[Any], Any]) -> int:
    """Train under a display, then say what came of it and where it is."""
    from macurr.training import make_display

    with terminable() as wish, make_display() as display:
        try:
            result = work(_Heeding(display, wish))
        except KeyboardInterrupt as ended:
            if display.run is None or not display.run.checkpoint.exists():
                raise
            asked = isinstance(ended, Terminated)
            path = shlex.quote(str(display.run.path))
            how = "Terminated" if asked else "Interrupted"
            display.say(f"{how}. Everything is saved; go on with: macurr train --resume {path}")
            return TERMINATED if asked else INTERRUPTED
    print(f"\n{result.table(display.width)}\n\nRun: {result.run.path}")
    if result.run.report.exists():
        print(f"Report: {result.run.report}")
    if result.run.tensorboard.exists():
        print(f"Curves: tensorboard --logdir {result.run.tensorboard}")
    return DONE


class _Heeding:
    """A display that passes everything on, and between two updates raises what a signal's handler raised in vain."""

    def __init__(self, display: Any, wish: Wish) -> None:
        self._display, self._wish = display, wish

    def updated(self, status: Any) -> None:
        self._display.updated(status)
        self._wish.heed()

    def evaluating(self, done: int, total: int) -> None:
        self._display.evaluating(done, total)
        self._wish.heed()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._display, name)

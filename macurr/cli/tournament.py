"""`macurr tournament`."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from macurr.cli.options import DONE, Wide, levels, pair, whole

__all__ = ["add_command"]

_HOME = Path("tournaments")


def add_command(commands: Any) -> None:
    """Add `macurr tournament`."""
    parser = commands.add_parser(
        "tournament",
        help="let policies of runs play each other, and rate them",
        description=(
            "Let policies of one or more runs play each other on levels that none was trained on, every pair on every "
            "level from every seat. Prints ratings with 95 % intervals, and writes the matrix of results as CSV, JSON "
            "and a picture."
        ),
        formatter_class=Wide,
    )
    parser.add_argument(
        "runs",
        metavar="RUN",
        nargs="+",
        help="a run's directory; RUN:ID is one snapshot, RUN@STEPS the one taken nearest to so many steps",
    )
    parser.add_argument(
        "--snapshots",
        metavar="WHICH",
        type=_snapshots,
        help="of each RUN without ID: all, last (the final policy), or how many, spread over the run (default: last)",
    )
    parser.add_argument("--include-random", action="store_true", help="let the random policy play too")
    parser.add_argument(
        "--levels",
        "--seeds",
        dest="levels",
        metavar="N",
        type=levels,
        help="levels of each pair: how many, from the first that no run was trained on (default: 100); or which: "
        "5000-5099 or 17,23,42",
    )
    parser.add_argument(
        "--env",
        metavar="PATH",
        help="another environment to play, of the same shape (default: that of the runs)",
    )
    parser.add_argument(
        "--env-arg",
        metavar="KEY=VALUE",
        action="append",
        type=pair,
        help="a keyword for it; without --env, one to change of the runs' own; may be repeated",
    )
    parser.add_argument(
        "--workers",
        metavar="N",
        type=whole,
        help="processes that step environments; 0: everything in this one (default: as the runs had)",
    )
    parser.add_argument("--seed", metavar="N", type=whole, help="seed of the policies' choices (default: 0)")
    parser.add_argument(
        "--out", metavar="DIR", help="directory for the results (default: tournaments/<run>-<date-time>)"
    )
    parser.set_defaults(command=_tournament)


def _tournament(args: argparse.Namespace) -> int:
    from macurr.training import make_display, tournament

    given = {name: value for name, value in vars(args).items() if value is not None}
    del given["command"]
    runs, pairs = given.pop("runs"), given.pop("env_arg", None)
    if pairs:
        given["env_args"] = dict(pairs)
    out = Path(given.pop("out", None) or _fresh(runs[0]))
    with make_display() as display:
        result = tournament(runs, out=out, on_progress=display.evaluating, **given)
    print(f"\n{result.table()}\n\nResults: {out / 'tournament.json'}\nMatrix: {out / 'matrix.csv'}")
    print(f"Ratings: {out / 'ratings.csv'}\nPicture: {out / 'matrix.png'}")
    return DONE


def _snapshots(text: str) -> str | int:
    return text if text in ("all", "last") else whole(text)


def _fresh(run: str) -> Path:
    """A directory of its own for a tournament whose place was not given."""
    stem = f"{Path(run).resolve().name}-{time.strftime('%Y%m%d-%H%M%S')}".replace(":", "-")
    path, number = _HOME / stem, 1
    while path.exists():
        number += 1
        path = _HOME / f"{stem}-{number}"
    return path

"""`macurr report`."""

from __future__ import annotations

import argparse
from typing import Any

from macurr.cli.options import DONE

__all__ = ["add_command"]


def add_command(commands: Any) -> None:
    """Add `macurr report`."""
    parser = commands.add_parser(
        "report",
        help="write the report of a run on one HTML page",
        description=(
            "Write report.html of a run: how it learned, against whom, on which levels, with a match on each. The page "
            "needs nothing but a browser. A run that is still going on, or was stopped, is shown as far as it came."
        ),
    )
    parser.add_argument("directory", metavar="RUN", help="the run's directory")
    parser.add_argument(
        "--films",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="play and film a match on each of the levels that mattered (default: on)",
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        help="file for the page; the picture of an evaluated run is written beside it (default: RUN/report.html)",
    )
    parser.set_defaults(command=_report)


def _report(args: argparse.Namespace) -> int:
    from macurr.training import write_report

    print(f"Report: {write_report(args.directory, films=args.films, out=args.out)}")
    return DONE

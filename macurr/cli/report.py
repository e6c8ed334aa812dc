"""`macurr report`."""

from __future__ import annotations

import argparse
from typing import Any

from macurr.cli.options import DONE

__all__ = ["add_command"]


def add_command(commands: Any) -> None:
    """Add `macurr report`."""
    text = "draw the report of a run again"
    parser = commands.add_parser("report", help=text, description=text.capitalize() + ".")
    parser.add_argument("directory", metavar="RUN", help="the run's directory")
    parser.set_defaults(command=_report)


def _report(args: argparse.Namespace) -> int:
    from macurr.training import write_report

    print(f"Report: {write_report(args.directory)}")
    return DONE

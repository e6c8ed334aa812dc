"""`macurr evaluate`."""

from __future__ import annotations

import argparse
from typing import Any

from macurr.cli.options import DONE

__all__ = ["add_command"]


def add_command(commands: Any) -> None:
    """Add `macurr evaluate`."""
    text = "evaluate a finished run again"
    parser = commands.add_parser("evaluate", help=text, description=text.capitalize() + ".")
    parser.add_argument("directory", metavar="RUN", help="the run's directory")
    parser.set_defaults(command=_evaluate)


def _evaluate(args: argparse.Namespace) -> int:
    from macurr.training import evaluate, make_display

    with make_display() as display:
        result = evaluate(args.directory, display.evaluating)
    print(result.table())
    return DONE

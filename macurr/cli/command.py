"""What `macurr` does with its arguments: finds the sub-command, and turns errors into one message each."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from macurr.cli import evaluate, report, tournament, train
from macurr.cli.ending import Terminated
from macurr.cli.options import CANNOT, INTERRUPTED, TERMINATED, Parser
from macurr.errors import MacurrError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: The arguments; by default those of the process.

    Returns:
        The exit code.

    Raises:
        SystemExit: the arguments make no sense (code 2), or help was asked for (code 0).
    """
    args = _parser().parse_args(argv)
    try:
        with _modules_of_here():
            code: int = args.command(args)
    except Terminated:
        print("macurr: terminated.", file=sys.stderr)
        return TERMINATED
    except KeyboardInterrupt:
        print("macurr: interrupted.", file=sys.stderr)
        return INTERRUPTED
    except (MacurrError, OSError) as error:
        print(f"macurr: error: {error}", file=sys.stderr)
        return CANNOT
    return code


@contextmanager
def _modules_of_here() -> Iterator[None]:
    """Let environments and functions be named that stand in the directory where the command is given.

    What is installed comes first. An installed script, unlike `python -m`, does not look there by itself.
    """
    here = str(Path.cwd())
    known = {path or here for path in sys.path}
    if here in known:
        yield
        return
    sys.path.append(here)
    try:
        yield
    finally:
        if here in sys.path:
            sys.path.remove(here)


def _parser() -> Parser:
    parser = Parser(
        prog="macurr",
        description="Curricula of levels and opponents for multi-agent reinforcement learning on PettingZoo.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in (train, evaluate, tournament, report):
        module.add_command(commands)
    return parser

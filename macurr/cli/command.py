"""What `macurr` does with its arguments: finds the sub-command, and turns errors into one message each."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from macurr.cli import evaluate, report, tournament, train
from macurr.cli.options import CANNOT, INTERRUPTED, Parser
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
        code: int = args.command(args)
    except KeyboardInterrupt:
        print("macurr: interrupted.", file=sys.stderr)
        return INTERRUPTED
    except (MacurrError, OSError) as error:
        print(f"macurr: error: {error}", file=sys.stderr)
        return CANNOT
    return code


def _parser() -> Parser:
    parser = Parser(
        prog="macurr",
        description="Curricula of levels and opponents for multi-agent reinforcement learning on PettingZoo.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in (train, evaluate, tournament, report):
        module.add_command(commands)
    return parser

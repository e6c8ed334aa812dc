"""`macurr evaluate`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from macurr.cli.options import DONE, Wide, levels, pair, whole

__all__ = ["add_command"]


def add_command(commands: Any) -> None:
    """Add `macurr evaluate`."""
    parser = commands.add_parser(
        "evaluate",
        help="evaluate a policy of a run: again, or against others, on other levels, in another environment",
        description=(
            "Evaluate the final policy of a run. Without options: as at the end of training, which renews its "
            "evaluation.json. With options: the games asked for, which goes to comparison.json or "
            "--out and leaves the rest as it is."
        ),
        formatter_class=Wide,
    )
    parser.add_argument("run", metavar="RUN", help="the run's directory; RUN:ID or RUN@STEPS for a snapshot")
    parser.add_argument(
        "--snapshot", metavar="ID", type=whole, help="play this snapshot, not the final policy"
    )
    parser.add_argument(
        "--against",
        metavar="WHOM",
        action="append",
        help="random, pool (the run's other snapshots), or another run, also as RUN:ID or RUN@STEPS; may be repeated "
        "(default: random and pool)",
    )
    parser.add_argument(
        "--env",
        metavar="PATH",
        help="another environment to play, of the same shape (default: that of the run)",
    )
    parser.add_argument(
        "--env-arg",
        metavar="KEY=VALUE",
        action="append",
        type=pair,
        help="a keyword for it; without --env, one to change of the run's own; may be repeated",
    )
    parser.add_argument(
        "--seeds",
        "--levels",
        dest="levels",
        metavar="N",
        type=levels,
        help="levels: how many, from the first that no run was trained on; or which: 5000-5099 or 17,23,42 (default: "
        "as many as the run's evaluation had)",
    )
    parser.add_argument(
        "--workers",
        metavar="N",
        type=whole,
        help="processes that step environments; 0: everything in this one (default: as the run had)",
    )
    parser.add_argument("--seed", metavar="N", type=whole, help="seed of the policies' choices (default: 0)")
    parser.add_argument("--out", metavar="FILE", help="file for the result (default: RUN/comparison.json)")
    parser.set_defaults(command=_evaluate)


def _evaluate(args: argparse.Namespace) -> int:
    given = {name: value for name, value in vars(args).items() if value is not None}
    del given["command"]
    return _as_trained(args.run) if set(given) == {"run"} and Path(args.run).is_dir() else _compare(given)


def _as_trained(run: str) -> int:
    from macurr.training import evaluate, make_display

    with make_display() as display:
        result = evaluate(run, display.evaluating)
    print(f"\n{result.table(display.width)}\n\nResults: {Path(run) / 'evaluation.json'}")
    return DONE


def _compare(given: dict[str, Any]) -> int:
    from macurr.training import compare, make_display

    pairs = given.pop("env_arg", None)
    if pairs:
        given["env_args"] = dict(pairs)
    with make_display() as display:
        result = compare(**given, on_progress=display.evaluating)
    print(
        f"\n{result.table(display.width)}\n\nResults: {given.get('out') or Path(result.run) / 'comparison.json'}"
    )
    return DONE

"""The command `macurr`: train, evaluate and report from a shell.

Exit codes: 0 done; 2 something asked for cannot be done, said in one message on the error stream; 130 interrupted by
Ctrl-C, with everything saved.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from typing_extensions import override

from macurr.errors import ConfigError, MacurrError
from macurr.training.config import (
    CURRICULA,
    DEFAULT_MINUTES,
    DEFAULT_STEPS,
    OPPONENTS,
    TRANSPORTS,
    CurriculumConfig,
    EvaluationConfig,
    PPOConfig,
    TrainConfig,
)

__all__ = ["main"]

DONE, CANNOT, INTERRUPTED = 0, 2, 130

_PARTS: dict[str, type] = {"ppo": PPOConfig, "tasks": CurriculumConfig, "evaluation": EvaluationConfig}


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


# Commands


def _train(args: argparse.Namespace) -> int:
    given = {name: value for name, value in vars(args).items() if value is not None and name != "command"}
    path = given.pop("resume", None)
    if path is None:
        config = _config(given)
        from macurr.training import train

        return _run(lambda display: train(config, display))
    strangers = sorted(set(given) - {"steps", "minutes"})
    if strangers:
        flags = ", ".join("--" + name.replace("_", "-") for name in strangers)
        raise ConfigError(
            f"--resume goes on with the settings of the run, so {flags} cannot be given with it. Leave that out, or "
            "start a new run."
        )
    from macurr.training import resume

    return _run(lambda display: resume(path, display, **given))


def _run(work: Callable[[Any], Any]) -> int:
    """Train under a display, then say what came of it and where it is."""
    from macurr.training import make_display

    with make_display() as display:
        try:
            result = work(display)
        except KeyboardInterrupt:
            if display.run is None or not display.run.checkpoint.exists():
                raise
            path = display.run.path
            display.say(f"Interrupted. Everything is saved; go on with: macurr train --resume {path}")
            return INTERRUPTED
    print(f"\n{result.table()}\n\nRun: {result.run.path}")
    if result.run.report.exists():
        print(f"Report: {result.run.report}")
    print(f"Curves: tensorboard --logdir {result.run.tensorboard}")
    return DONE


def _evaluate(args: argparse.Namespace) -> int:
    from macurr.training import evaluate, make_display

    with make_display() as display:
        result = evaluate(args.directory, display.evaluating)
    print(result.table())
    return DONE


def _report(args: argparse.Namespace) -> int:
    from macurr.training import write_report

    print(f"Report: {write_report(args.directory)}")
    return DONE


def _config(given: dict[str, Any]) -> TrainConfig:
    """The settings from the arguments that were given."""
    values: dict[str, Any] = {}
    for name, kind in _PARTS.items():
        own = {field: given.pop(field) for field in list(given) if field in kind.__dataclass_fields__}  # type: ignore[attr-defined]
        values[name] = kind(**own)
    pairs = given.pop("env_arg", ())
    return TrainConfig(**given, **values, env_args=dict(pairs))


# Arguments


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one message, without the usage of forty options."""

    @override
    def error(self, message: str) -> NoReturn:
        self.exit(CANNOT, f"{self.prog}: error: {message}. See {self.prog} --help.\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="macurr",
        description="Curricula of levels and opponents for multi-agent reinforcement learning on PettingZoo.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    train = commands.add_parser(
        "train",
        help="train a policy by self-play, evaluate it, and write a report",
        description=(
            "Train a policy by self-play on a curriculum of levels, evaluate it on levels that it has never seen, and "
            "write a report. Without options: the apple race, in about three minutes on two cores."
        ),
        epilog=(
            "Ctrl-C saves and exits (code 130); --resume goes on. The same --seed with --transport local --workers 1 "
            "gives the same metrics.csv."
        ),
        formatter_class=_Wide,
    )
    train.set_defaults(command=_train)
    for group in (_what, _how_long, _where, _learner, _curriculum, _after):
        group(train)
    for name, command, text in (
        ("evaluate", _evaluate, "evaluate a finished run again"),
        ("report", _report, "draw the report of a run again"),
    ):
        other = commands.add_parser(name, help=text, description=text.capitalize() + ".")
        other.add_argument("directory", metavar="RUN", help="the run's directory")
        other.set_defaults(command=command)
    return parser


class _Wide(argparse.HelpFormatter):
    """Help with room for the names of options."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34, width=110)


def _what(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what to train on")
    default = TrainConfig()
    group.add_argument(
        "--env",
        metavar="PATH",
        help="import path of a PettingZoo Parallel environment: a module with parallel_env(), or module:callable "
        f"(default: {default.env})",
    )
    group.add_argument(
        "--env-arg",
        metavar="KEY=VALUE",
        action="append",
        type=_pair,
        help="a keyword for it; may be repeated (none)",
    )
    group.add_argument(
        "--curriculum",
        choices=CURRICULA,
        help=f"levels: prioritized level replay, or uniform (domain randomization) (default: {default.curriculum})",
    )
    group.add_argument(
        "--opponents",
        choices=OPPONENTS,
        help="past selves: prioritized fictitious self-play, uniform over all (fictitious self-play), or the latest "
        f"(default: {default.opponents})",
    )
    _number(
        group,
        "levels",
        int,
        "training levels, the seeds from 0; evaluation uses seeds beyond",
        default.tasks.levels,
    )


def _how_long(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how long: whichever bound comes first")
    both = f"{DEFAULT_STEPS:,} steps or {DEFAULT_MINUTES:g} minutes when neither is given"
    group.add_argument("--steps", metavar="N", type=_whole, help=f"environment steps ({both})")
    group.add_argument(
        "--minutes", metavar="M", type=float, help="minutes of training, evaluation not included"
    )
    _number(group, "seed", int, "seed of everything random", TrainConfig().seed)


def _where(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("where")
    default = TrainConfig()
    _number(group, "workers", int, "processes that step environments", default.workers)
    _number(group, "envs_per_worker", int, "environments in each", default.envs_per_worker)
    group.add_argument(
        "--transport",
        choices=TRANSPORTS,
        help="environments in processes of their own, or all in this one, which repeats exactly and needs --workers 1 "
        f"(default: {default.transport})",
    )
    _number(group, "threads", int, "threads of torch", default.threads)
    group.add_argument("--out", metavar="DIR", help="the run's directory (default: runs/<env>-<date-time>)")
    group.add_argument(
        "--resume", metavar="RUN", help="go on with the run in this directory, with its settings"
    )


def _learner(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the learner (PPO)")
    default = PPOConfig()
    _number(group, "learning_rate", float, "Adam's step size", default.learning_rate)
    group.add_argument(
        "--anneal",
        action=argparse.BooleanOptionalAction,
        help="lower the step size to a tenth over the run (default: on)",
    )
    _number(group, "gamma", float, "discount", default.gamma)
    _number(group, "gae_lambda", float, "trace decay of the advantages", default.gae_lambda)
    _number(group, "clip", float, "clipping range of the probability ratio", default.clip)
    _number(group, "value_clip", float, "clipping range of the value's change", default.value_clip)
    _number(group, "entropy", float, "weight of the entropy bonus", default.entropy)
    _number(group, "value", float, "weight of the value loss", default.value)
    _number(group, "max_grad_norm", float, "largest norm of a gradient", default.max_grad_norm)
    _number(group, "epochs", int, "passes over each batch", default.epochs)
    _number(group, "minibatches", int, "gradient steps of a pass", default.minibatches)
    _number(group, "rollout", int, "steps of each environment in a batch", default.rollout)
    group.add_argument(
        "--hidden",
        metavar="N,N",
        type=_sizes,
        help=f"units of the hidden layers (default: {','.join(map(str, default.hidden))})",
    )
    _number(group, "target_kl", float, "stop a batch's passes at this divergence", default.target_kl)


def _curriculum(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("levels and opponents")
    default = CurriculumConfig()
    group.add_argument(
        "--score",
        metavar="NAME",
        help=f"how PLR scores a level: a strategy's name (default: {default.score})",
    )
    _number(
        group, "temperature", float, "PLR: the lower, the more the highest scores count", default.temperature
    )
    _number(
        group, "staleness_coef", float, "PLR: share of levels chosen for their age", default.staleness_coef
    )
    _number(group, "replay_prob", float, "PLR: share of levels that are replayed", default.replay_prob)
    _number(
        group, "snapshot_every", int, "updates between two snapshots of the policy", default.snapshot_every
    )
    _number(group, "capacity", int, "most snapshots in the pool", default.capacity)


def _after(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("evaluation")
    default = EvaluationConfig()
    _number(group, "seeds", int, "held-out levels, played from every seat", default.seeds)
    _number(group, "matrix_seeds", int, "held-out levels for each pair of snapshots", default.matrix_seeds)
    group.add_argument(
        "--report", action=argparse.BooleanOptionalAction, help="draw report.png (default: on)"
    )


def _number(group: Any, name: str, kind: type, text: str, default: Any) -> None:
    """An option of a setting that is a number. Its default stays None: only what is given is passed on."""
    shown = "off" if default is None else default
    group.add_argument(
        "--" + name.replace("_", "-"),
        metavar="N" if kind is int else "X",
        type=_whole if kind is int else float,
        help=f"{text} (default: {shown})",
    )


def _whole(text: str) -> int:
    """A whole number, also as 1e6 or 1_000_000."""
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not number.is_integer():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number, such as 200000 or 2e5")
    return int(text) if text.strip("+-").isdigit() else int(number)


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(_whole(part) for part in text.split(","))


def _pair(text: str) -> tuple[str, Any]:
    key, sign, value = text.partition("=")
    if not sign or not key.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form key=value")
    try:
        return key, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return key, value


if __name__ == "__main__":
    sys.exit(main())

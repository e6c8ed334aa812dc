"""`macurr train`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from macurr.cli.options import DONE, INTERRUPTED, Wide, number, pair, sizes, whole
from macurr.errors import ConfigError
from macurr.training.config import (
    CURRICULA,
    DEFAULT_MINUTES,
    DEFAULT_STEPS,
    OPPONENTS,
    TRANSPORTS,
    CurriculumConfig,
    EvaluationConfig,
    ModelConfig,
    PPOConfig,
    TrainConfig,
)

__all__ = ["add_command"]

_PARTS: dict[str, type] = {
    "ppo": PPOConfig,
    "model": ModelConfig,
    "tasks": CurriculumConfig,
    "evaluation": EvaluationConfig,
}


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


def _config(given: dict[str, Any]) -> TrainConfig:
    """The settings from the arguments that were given."""
    values: dict[str, Any] = {}
    for name, kind in _PARTS.items():
        own = {field: given.pop(field) for field in list(given) if field in kind.__dataclass_fields__}  # type: ignore[attr-defined]
        values[name] = kind(**own)
    pairs = given.pop("env_arg", ())
    return TrainConfig(**given, **values, env_args=dict(pairs))


def add_command(commands: Any) -> None:
    """Add `macurr train`."""
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
        formatter_class=Wide,
    )
    train.set_defaults(command=_train)
    for group in (_what, _how_long, _where, _learner, _curriculum, _after):
        group(train)


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
        type=pair,
        help="a keyword for it; may be repeated (none)",
    )
    group.add_argument(
        "--curriculum",
        choices=CURRICULA,
        help="levels: prioritized level replay, uniform (domain randomization), or level and opponent drawn together "
        f"by the scores of both (default: {default.curriculum})",
    )
    group.add_argument(
        "--opponents",
        choices=OPPONENTS,
        help="past selves: prioritized fictitious self-play, uniform over all (fictitious self-play), or the latest "
        f"(default: {default.opponents})",
    )
    number(
        group,
        "levels",
        int,
        "training levels, the seeds from 0; evaluation uses seeds beyond",
        default.tasks.levels,
    )


def _how_long(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how long: whichever bound comes first")
    both = f"{DEFAULT_STEPS:,} steps or {DEFAULT_MINUTES:g} minutes when neither is given"
    group.add_argument("--steps", metavar="N", type=whole, help=f"environment steps ({both})")
    group.add_argument(
        "--minutes", metavar="M", type=float, help="minutes of training, evaluation not included"
    )
    number(group, "seed", int, "seed of everything random", TrainConfig().seed)


def _where(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("where")
    default = TrainConfig()
    number(group, "workers", int, "processes that step environments", default.workers)
    number(group, "envs_per_worker", int, "environments in each", default.envs_per_worker)
    group.add_argument(
        "--transport",
        choices=TRANSPORTS,
        help="environments in processes of their own, or all in this one, which repeats exactly and needs --workers 1 "
        f"(default: {default.transport})",
    )
    number(group, "threads", int, "threads of torch", default.threads)
    group.add_argument("--out", metavar="DIR", help="the run's directory (default: runs/<env>-<date-time>)")
    group.add_argument(
        "--resume", metavar="RUN", help="go on with the run in this directory, with its settings"
    )


def _learner(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the learner (PPO)")
    default = PPOConfig()
    number(group, "learning_rate", float, "Adam's step size", default.learning_rate)
    group.add_argument(
        "--anneal",
        action=argparse.BooleanOptionalAction,
        help="lower the step size to a tenth over the run (default: on)",
    )
    number(group, "gamma", float, "discount", default.gamma)
    number(group, "gae_lambda", float, "trace decay of the advantages", default.gae_lambda)
    number(group, "clip", float, "clipping range of the probability ratio", default.clip)
    number(group, "value_clip", float, "clipping range of the value's change", default.value_clip)
    number(group, "entropy", float, "weight of the entropy bonus", default.entropy)
    number(group, "value", float, "weight of the value loss", default.value)
    number(group, "max_grad_norm", float, "largest norm of a gradient", default.max_grad_norm)
    number(group, "epochs", int, "passes over each batch", default.epochs)
    number(group, "minibatches", int, "gradient steps of a pass", default.minibatches)
    number(group, "rollout", int, "steps of each environment in a batch", default.rollout)
    group.add_argument(
        "--hidden",
        metavar="N,N",
        type=sizes,
        help=f"units of the hidden layers (default: {','.join(map(str, ModelConfig().hidden))})",
    )
    number(group, "target_kl", float, "stop a batch's passes at this divergence", default.target_kl)


def _curriculum(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("levels and opponents")
    default = CurriculumConfig()
    group.add_argument(
        "--score",
        metavar="NAME",
        help=f"how PLR scores a level: value_l1, max_mc, learnability, ... (default: {default.score})",
    )
    number(
        group, "temperature", float, "PLR: the lower, the more the highest scores count", default.temperature
    )
    number(
        group, "staleness_coef", float, "PLR: share of levels chosen for their age", default.staleness_coef
    )
    number(group, "replay_prob", float, "PLR: share of levels that are replayed", default.replay_prob)
    number(
        group, "snapshot_every", int, "updates between two snapshots of the policy", default.snapshot_every
    )
    number(group, "capacity", int, "most snapshots in the pool", default.capacity)


def _after(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("evaluation")
    default = EvaluationConfig()
    number(group, "seeds", int, "held-out levels, played from every seat", default.seeds)
    number(group, "matrix_seeds", int, "held-out levels for each pair of snapshots", default.matrix_seeds)
    group.add_argument(
        "--report", action=argparse.BooleanOptionalAction, help="draw report.png (default: on)"
    )

"""What the trainer makes of a machine: env steps per second against the same environments stepped freely.

    python benchmarks/training_throughput.py [--smoke] [--rounds N] [--seconds S] [--cases NAME ...]

Three programs take turns, the other two stopped meanwhile, so that a busy minute hits all alike: as many processes as
the trainer has workers, which step one environment each with random actions and do nothing else; the trainer,
synchronous, with its default curriculum (level replay against a pool); and the same asynchronous. In the same way
trainers take turns to tell what a curriculum costs, in either mode: level replay, and a stand-in that draws levels
where the environment is and tells nobody anything, both against the first snapshot. Intervals are Student's t over ten
blocks of turns. Linux only.

`spin` costs 200 µs a step: of computing ("burn"), or of waiting for something else ("wait"). MPE's `simple_spread` is a
real environment of about that; it is trained with a centralised critic as MAPPO's authors did (a GRU, 10 epochs of one
minibatch; Yu et al. 2022). The apple race costs 7 µs, so that everything else weighs most. What asynchronous training
can gain is the time in which a synchronous run trains; the share is printed.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from games.nowhere import Drawn, Nowhere
from measuring.counted import parallel_env, steps_in
from measuring.turns import Program, Rounds, Turn

from macurr import make_local_curriculum
from macurr.training import TrainConfig, train


class Case(NamedTuple):
    """What is measured.

    Attributes:
        env: Import path of the environment's module.
        args: Keywords for it.
        settings: The trainer's, where they are not the defaults.
        costs: The modes in which the curriculum's cost is measured.
    """

    env: str
    args: dict[str, Any]
    settings: dict[str, Any]
    costs: tuple[str, ...] = ()


BURN, WAIT = {"cost": 200.0}, {"cost": 200.0, "wait": True}
SPIN: dict[str, Any] = {"envs_per_worker": 16}
LSTM: dict[str, Any] = {**SPIN, "recurrent": "lstm"}
MAPPO: dict[str, Any] = {
    "envs_per_worker": 32,
    "opponents": "none",
    "centralised_critic": True,
    "recurrent": "gru",
    "recurrent_size": 64,
    "hidden": [64],
    "rollout": 25,
    "epochs": 10,
    "minibatches": 1,
}
CASES = {
    "burn": Case("games.spin", BURN, SPIN, ("sync", "async")),
    "wait": Case("games.spin", WAIT, SPIN),
    "burn, LSTM": Case("games.spin", BURN, LSTM),
    "wait, LSTM": Case("games.spin", WAIT, LSTM),
    "simple_spread, MAPPO": Case("mpe2.simple_spread_v3", {}, MAPPO),
    "apple race": Case("macurr.envs.apple_race_v0", {}, {}, ("sync", "async")),
}
SMOKE = Case(
    "macurr.envs.apple_race_v0", {}, {"rollout": 16, "envs_per_worker": 8, "minibatches": 1}, ("sync",)
)
WORKERS = 2
FINER = 5
"""Turns for the curriculum's cost to each for the rates; they are half as long."""
WARM = 8
"""Updates before anything is counted: processes start, caches are cold."""

NEVER = 1_000_000_000
SAME = {"opponents": "self", "snapshot_every": NEVER}
"""Where nobody chooses, the first snapshot is played all the time; so it is where levels are replayed."""

MODES: dict[str, dict[str, Any]] = {"free": {}, "sync": {"async_rl": False}, "async": {"async_rl": True}}
COSTS: dict[str, dict[str, Any]] = {"replayed": SAME, "drawn": {**SAME, "curriculum": "dr"}}

RUN = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
import training_throughput
getattr(training_throughput, sys.argv[2])(json.loads(sys.argv[3]))
"""


# What programs do


def step_freely(counted: Mapping[str, Any]) -> None:
    """Step one environment for ever."""
    env = parallel_env(**counted)
    spaces = [env.action_space(agent) for agent in env.possible_agents]
    for seed, space in enumerate(spaces):
        space.seed(seed)
    moves = [
        {agent: space.sample() for agent, space in zip(env.possible_agents, spaces, strict=True)}
        for _ in range(4096)
    ]
    level = 0
    while True:
        env.reset(seed=level % 2000)
        level += 1
        for move in moves:
            env.step(move)
            if not env.agents:
                break


def step_all_freely(counted: Mapping[str, Any]) -> None:
    """As many processes as a trainer has workers."""
    workers = [subprocess.Popen(command_of("step_freely", counted)) for _ in range(WORKERS)]
    for worker in workers:
        worker.wait()


def train_on(settings: Mapping[str, Any]) -> None:
    """Train for ever, with a curriculum or a stand-in."""
    settings = {key: tuple(x) if isinstance(x, list) else x for key, x in settings.items()}
    config = TrainConfig.of(
        steps=NEVER,
        workers=WORKERS,
        decorrelate=0,
        seed=0,
        seeds=1,
        matrix_seeds=1,
        capacity=4,
        checkpoint_minutes=60.0,
        report=False,
        tensorboard=False,
        **settings,
    )
    with connected(settings.get("curriculum") != "dr"):
        train(config)


def without_curriculum(curriculum: Any, *args: Any, **options: Any) -> Any:
    """A curriculum that no environment reaches."""
    space, rng = curriculum.task_space, np.random.default_rng(0)
    tasks = [space.sample(rng) for _ in range(2000)]
    synced = make_local_curriculum(curriculum)
    synced.components = Nowhere([Drawn(task, space.decode(task), {}) for task in tasks])  # type: ignore[assignment]
    return synced


@contextmanager
def connected(real: bool) -> Iterator[None]:
    """Let the trainer's environments reach the curriculum, or the stand-in."""
    engines: Any = import_module(
        "macurr.training.engines"
    )  # no public name: this is a stand-in, not a setting
    kept = engines.make_multiprocessing_curriculum
    if not real:
        engines.make_multiprocessing_curriculum = without_curriculum
    try:
        yield
    finally:
        engines.make_multiprocessing_curriculum = kept


# What is measured of them


def command_of(function: str, argument: Mapping[str, Any]) -> list[str]:
    """A program that calls a function of this module."""
    return [sys.executable, "-c", RUN, json.dumps(sys.path), function, json.dumps(argument)]


def program_of(case: Case, mode: Mapping[str, Any], folder: Path) -> Program:
    """A program that counts its steps; `mode` without any settings steps freely."""
    counts = folder / "counts"
    counts.mkdir(parents=True)
    counted = {"env": case.env, "args": case.args, "folder": str(counts)}
    settings = {"env": "measuring.counted", "env_args": counted, "out": str(folder / "run")}
    command = (
        command_of("train_on", {**settings, **case.settings, **mode})
        if mode
        else command_of("step_all_freely", counted)
    )
    return Program(command, lambda: steps_in(str(counts)))


def updates(folder: Path) -> list[dict[str, float]]:
    """What the trainer has written about its time so far."""
    file = folder / "run" / "timing.csv"
    if not file.exists():
        return []
    with file.open() as lines:
        return [{key: float(value or 0) for key, value in row.items()} for row in csv.DictReader(lines)]


def measure(
    case: Case, modes: Mapping[str, Mapping[str, Any]], rounds: int, seconds: float, warm: int
) -> tuple[Rounds, dict[str, float]]:
    """Let programs take turns.

    Returns:
        What they did, and each one's share of time that went into training: the median over updates, few of which
        it was stopped in the middle of.
    """
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folders = {name: root / str(number) for number, name in enumerate(modes)}
        programs = {}
        for name, mode in modes.items():
            programs[name] = program_of(case, mode, folders[name])
            stack.callback(programs[name].end)
        for name, mode in modes.items():
            least = warm if mode else 0
            programs[name].wait_for(lambda least=least, name=name: len(updates(folders[name])) >= least)
        for program in programs.values():
            program.stop()
        found = Rounds(programs, rounds, seconds)
        rows = {name: updates(folder)[warm:] for name, folder in folders.items()}
    shares = {
        name: statistics.median(
            row["train"] / spent for row, spent in zip(each[1:], durations(each), strict=True)
        )
        for name, each in rows.items()
        if len(each) > 1
    }
    return found, shares


def durations(rows: Sequence[Mapping[str, float]]) -> list[float]:
    """Seconds of each update but the first."""
    return [after["seconds"] - before["seconds"] for before, after in pairwise(rows)]


def faster(one: Turn, other: Turn) -> float:
    return one.rate / other.rate


def slower(one: Turn, other: Turn) -> float:
    return 1.0 - one.rate / other.rate


def dearer(one: Turn, other: Turn) -> float:
    """In µs of CPU time a step."""
    return 1e6 * (one.cpu / max(one.done, 1) - other.cpu / max(other.done, 1))


def report(name: str, case: Case, rounds: int, seconds: float, warm: int = WARM) -> None:
    """Measure one environment, and print what was measured."""
    found, shares = measure(case, MODES, rounds, seconds, warm)
    print(f"\n{name}: env steps/s, {WORKERS} workers, {rounds} turns of {seconds:g} s")
    for key in MODES:
        turn, free = found.whole(key), found.compared(faster, key, "free").value
        print(f"  {key:<8}{turn.rate:>10,.0f}   {free:>6.1%} of free")
    print(f"  async / sync             {found.compared(faster, 'async', 'sync').told('.2f')}")
    print(f"  sync spends on training  {shares.get('sync', 0.0):.0%} of its time", flush=True)
    if case.costs:
        report_costs(case, FINER * rounds, seconds / 2, warm)


def report_costs(case: Case, rounds: int, seconds: float, warm: int) -> None:
    """Measure what the curriculum costs, which is little, in more and shorter turns; print it."""
    modes = {
        f"{mode}, {key}": {**MODES[mode], **settings}
        for mode in case.costs
        for key, settings in COSTS.items()
    }
    found, _ = measure(case, modes, rounds, seconds, warm)
    for mode in case.costs:
        pair = f"{mode}, replayed", f"{mode}, drawn"
        taken, cpu = found.compared(slower, *pair), found.compared(dearer, *pair)
        print(
            f"  curriculum takes, {mode:<6} {taken.told('.1%')} of {found.whole(pair[1]).rate:,.0f} steps/s"
        )
        print(f"                           {cpu.told('.1f')} µs of CPU a step")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="a few seconds, for the tests")
    parser.add_argument("--rounds", type=int, default=30, help="turns of each program")
    parser.add_argument("--seconds", type=float, default=1.5, help="of a turn")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    options = parser.parse_args(arguments)
    if options.smoke:
        report("smoke", SMOKE, rounds=1, seconds=1.0, warm=1)
        return
    for name in options.cases:
        report(name, CASES[name], options.rounds, options.seconds)


if __name__ == "__main__":
    main()

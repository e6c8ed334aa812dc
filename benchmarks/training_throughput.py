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
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from measuring.counted import steps_in
from measuring.programs import NEVER, WORKERS, command_of
from measuring.turns import Program, Rounds, Turn


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
    "burn": Case("measuring.spin", BURN, SPIN, ("sync", "async")),
    "wait": Case("measuring.spin", WAIT, SPIN),
    "burn, LSTM": Case("measuring.spin", BURN, LSTM),
    "wait, LSTM": Case("measuring.spin", WAIT, LSTM),
    "simple_spread, MAPPO": Case("mpe2.simple_spread_v3", {}, MAPPO),
    "apple race": Case("macurr.envs.apple_race_v0", {}, {}, ("sync", "async")),
}
SMOKE = Case(
    "macurr.envs.apple_race_v0", {}, {"rollout": 16, "envs_per_worker": 8, "minibatches": 1}, ("sync",)
)
FINER = 5
"""Turns for the curriculum's cost to each for the rates; they are half as long."""
WARM = 8
"""Updates before anything is counted: processes start, caches are cold."""

SAME = {"opponents": "self", "snapshot_every": NEVER}
"""Where nobody chooses, the first snapshot is played all the time; so it is where levels are replayed."""

MODES: dict[str, dict[str, Any]] = {"free": {}, "sync": {"async_rl": False}, "async": {"async_rl": True}}
COSTS: dict[str, dict[str, Any]] = {"replayed": SAME, "drawn": {**SAME, "curriculum": "dr"}}


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
        report("smoke", SMOKE, rounds=1, seconds=0.4, warm=1)
        return
    for name in options.cases:
        report(name, CASES[name], options.rounds, options.seconds)


if __name__ == "__main__":
    main()

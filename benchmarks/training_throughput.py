"""What the trainer makes of a machine: env steps per second against the same environments stepped freely.

    python benchmarks/training_throughput.py [--smoke] [--repetitions N] [--cases NAME ...]

Free: as many processes as the trainer has workers each step one environment with random actions, and do nothing else.
The trainer runs synchronously and asynchronously, with its default curriculum (level replay against a pool). What the
curriculum costs is the difference between level replay and a stand-in that draws levels where the environment is and
tells nobody anything, both against the first snapshot: in env steps per second, and in CPU time. All are measured in
turn, repeatedly; what is printed are medians of rates and of ratios within a repetition, so that a busy minute hits
both sides of a ratio, with the lowest and the highest.

A step of `spin` costs 200 µs: of computing ("burn"), or of waiting for something else ("wait"). The apple race costs
7 µs, so that everything else weighs most. What asynchronous training can gain is the time in which a synchronous run
trains, so it is measured with small networks, where that is little, and with a memory (LSTM), where it is half; the
share is printed.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
from games.nowhere import Drawn, Nowhere

from macurr import make_local_curriculum
from macurr.training import TrainConfig, train


class Case(NamedTuple):
    """What is measured.

    Attributes:
        env: The environment.
        args: Keywords for it.
        steps: Environment steps of a run.
        settings: The run's, where they are not the defaults.
        costs: Whether to measure the curriculum's cost.
    """

    env: str
    args: dict[str, Any]
    steps: int
    settings: dict[str, Any]
    costs: bool = False


class Measured(NamedTuple):
    """What came of a run.

    Attributes:
        rate: Env steps per second.
        cpu: CPU time of all processes, µs per env step, the start of the run included.
        training: The share of the seconds that was spent on training.
    """

    rate: float
    cpu: float = 0.0
    training: float = 0.0


BURN, WAIT = {"cost": 200.0}, {"cost": 200.0, "wait": True}
SPIN: dict[str, Any] = {"envs_per_worker": 16}
LSTM: dict[str, Any] = {**SPIN, "recurrent": "lstm"}
CASES = {
    "burn": Case("games.spin", BURN, 64_000, SPIN, costs=True),
    "wait": Case("games.spin", WAIT, 48_000, SPIN),
    "burn, LSTM": Case("games.spin", BURN, 32_000, LSTM),
    "wait, LSTM": Case("games.spin", WAIT, 32_000, LSTM),
    "apple race": Case("macurr.envs.apple_race_v0", {}, 240_000, {}, costs=True),
}
SMOKE = Case("macurr.envs.apple_race_v0", {}, 6144, {"rollout": 16}, costs=True)
WORKERS = 2
WARM = 2
"""Updates that are not counted: processes start, caches are cold."""

FREE = """
import json, sys, time
sys.path[:] = json.loads(sys.argv[1])
from macurr.training.envs import make_env
path, args, steps = sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4])
import numpy as np
env = make_env(path, args)
moves = np.random.default_rng(0).integers(5, size=(4096, 2)).tolist()
env.reset(seed=0)
sys.stdin.readline()
start, level = time.perf_counter(), 0
for i in range(steps):
    env.step(dict(zip(env.possible_agents, moves[i % 4096])))
    if not env.agents:
        level += 1
        env.reset(seed=level % 2000)
print(time.perf_counter() - start)
"""


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


def free_rate(case: Case) -> float:
    """Env steps per second of processes that do nothing but step."""
    each = case.steps // 2 // WORKERS
    command = [sys.executable, "-c", FREE, json.dumps(sys.path), case.env, json.dumps(case.args), str(each)]
    workers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(WORKERS)
    ]
    answers = [worker.communicate("go\n")[0] for worker in workers]
    return sum(each / float(answer) for answer in answers)


class Mode(NamedTuple):
    """How the trainer runs.

    Attributes:
        async_rl: Whether it collects and trains at the same time.
        opponents: Who is played against.
        snapshot_every: Updates between two snapshots. Where nobody chooses, the first one is played all the time.
        curriculum: Whether a curriculum chooses the levels, or nobody does.
    """

    async_rl: bool
    opponents: str = "pfsp"
    snapshot_every: int = 5
    curriculum: bool = True


NEVER = 1_000_000
MODES = {"sync": Mode(False), "async": Mode(True)}
COSTS = {
    "sync, levels replayed": Mode(False, "self", NEVER),
    "sync, levels drawn": Mode(False, "self", NEVER, curriculum=False),
    "async, levels replayed": Mode(True, "self", NEVER),
    "async, levels drawn": Mode(True, "self", NEVER, curriculum=False),
}


def trained(case: Case, mode: Mode, seed: int) -> Measured:
    """A run of the trainer; seconds count from the end of the warm-up to the end of training."""
    before = cpu_seconds()
    with tempfile.TemporaryDirectory() as folder, connected(mode.curriculum):
        config = TrainConfig.of(
            env=case.env,
            env_args=case.args,
            curriculum="plr" if mode.curriculum else "dr",
            opponents=mode.opponents,
            snapshot_every=mode.snapshot_every,
            steps=case.steps,
            workers=WORKERS,
            async_rl=mode.async_rl,
            decorrelate=0,
            seed=seed,
            seeds=1,
            matrix_seeds=1,
            capacity=4,
            report=False,
            tensorboard=False,
            out=f"{folder}/run",
            **case.settings,
        )
        result = train(config)
        with result.run.metrics.open() as metrics, result.run.timing.open() as timing:
            at = [float(row["steps"]) for row in csv.DictReader(metrics)]
            rows = [
                {key: float(row[key] or 0) for key in ("seconds", "train")} for row in csv.DictReader(timing)
            ]
    seconds = rows[-1]["seconds"] - rows[WARM - 1]["seconds"]
    training = sum(row["train"] for row in rows[WARM:])
    cpu = 1e6 * (cpu_seconds() - before) / at[-1]
    return Measured((at[-1] - at[WARM - 1]) / seconds, cpu, training / seconds)


def cpu_seconds() -> float:
    """CPU time of this process and of its descendants that have ended."""
    each = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in each)


def measure(case: Case, modes: Mapping[str, Mode], repetitions: int) -> dict[str, list[Measured]]:
    """Every mode and free stepping, one of each per repetition."""
    measured: dict[str, list[Measured]] = {key: [] for key in ("free", *modes)}
    for repetition in range(repetitions):
        measured["free"].append(Measured(free_rate(case)))
        # To and fro: whatever drifts is for and against each side alike.
        for key in list(modes)[:: 1 if repetition % 2 == 0 else -1]:
            measured[key].append(trained(case, modes[key], repetition))
    return measured


def ratios(measured: dict[str, list[Measured]], above: str, below: str) -> list[float]:
    """The ratios of rates within repetitions."""
    return [a.rate / b.rate for a, b in zip(measured[above], measured[below], strict=True)]


def told(values: Sequence[float], form: str) -> str:
    """The median, and between what the values lie."""
    middle, low, high = (
        format(value, form) for value in (statistics.median(values), min(values), max(values))
    )
    return f"{middle:>8}   ({low} to {high})"


def report(name: str, measured: dict[str, list[Measured]]) -> None:
    """Print what was measured of one environment."""
    print(f"\n{name}: env steps/s, {WORKERS} workers, median of {len(measured['free'])}")
    for key, values in measured.items():
        rate = statistics.median(value.rate for value in values)
        print(f"  {key:<28}{rate:>10,.0f}   {statistics.median(ratios(measured, key, 'free')):>6.1%} of free")
    print(f"  async / sync             {told(ratios(measured, 'async', 'sync'), '.2f')}")
    print(f"  sync spends on training  {told([value.training for value in measured['sync']], '.1%')}")
    for key in MODES:
        if f"{key}, levels drawn" in measured:
            report_cost(measured, f"{key}, levels replayed", f"{key}, levels drawn", key)


def report_cost(measured: dict[str, list[Measured]], replayed: str, drawn: str, mode: str) -> None:
    """Print what a curriculum costs: the speed that it takes, and its CPU time as a share of all cores'."""
    taken = [1.0 - ratio for ratio in ratios(measured, replayed, drawn)]
    cpu = [a.cpu - b.cpu for a, b in zip(measured[replayed], measured[drawn], strict=True)]
    whole = [WORKERS * 1e6 / value.rate for value in measured[drawn]]
    share = [a / b for a, b in zip(cpu, whole, strict=True)]
    print(f"  curriculum takes, {mode:<7}{told(taken, '.1%')} of the speed")
    print(
        f"                           {told(cpu, '.1f')} µs of CPU a step, {told(share, '.1%')} of {WORKERS} cores"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="a few seconds, for the tests")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    options = parser.parse_args(arguments)
    if options.smoke:
        some = ("sync", "async", "sync, levels replayed", "sync, levels drawn")
        report("smoke", measure(SMOKE, {key: {**MODES, **COSTS}[key] for key in some}, 1))
        return
    for name in options.cases:
        case = CASES[name]
        modes = {**MODES, **COSTS} if case.costs else MODES
        report(name, measure(case, modes, options.repetitions))


if __name__ == "__main__":
    main()

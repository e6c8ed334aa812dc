"""What the trainer makes of a machine: env steps per second against the same environments stepped freely.

    python benchmarks/training_throughput.py [--smoke] [--repetitions N] [--cases NAME ...]

Free: as many processes as the trainer has workers each step one environment with random actions, and do nothing else.
The trainer runs synchronously and asynchronously, with its default curriculum (level replay against a pool) and with a
stand-in that draws tasks where the environment is and tells nobody anything. All are measured in turn, repeatedly; what
is printed are medians of rates and of ratios within a repetition, so that a busy minute hits both sides of a ratio.

A step of `spin` costs 200 µs: of computing ("burn"), or of waiting for something else ("wait"). The apple race costs
7 µs, so that everything else weighs most. What asynchronous training can gain is the time in which a synchronous run
trains, so it is measured with small networks, where that is little, and with a memory (LSTM), where it is half.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
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
    """

    env: str
    args: dict[str, Any]
    steps: int
    settings: dict[str, Any]


BURN, WAIT = {"cost": 200.0}, {"cost": 200.0, "wait": True}
SPIN: dict[str, Any] = {"envs_per_worker": 16}
LSTM: dict[str, Any] = {**SPIN, "recurrent": "lstm"}
CASES = {
    "burn": Case("games.spin", BURN, 48_000, SPIN),
    "wait": Case("games.spin", WAIT, 48_000, SPIN),
    "burn, LSTM": Case("games.spin", BURN, 32_000, LSTM),
    "wait, LSTM": Case("games.spin", WAIT, 32_000, LSTM),
    "apple race": Case("macurr.envs.apple_race_v0", {}, 240_000, {}),
}
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


def free_rate(case: Case, steps: int) -> float:
    """Env steps per second of processes that do nothing but step."""
    each = steps // WORKERS
    command = [sys.executable, "-c", FREE, json.dumps(sys.path), case.env, json.dumps(case.args), str(each)]
    workers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(WORKERS)
    ]
    answers = [worker.communicate("go\n")[0] for worker in workers]
    return sum(each / float(answer) for answer in answers)


def train_rate(case: Case, steps: int, *, async_rl: bool, curriculum: bool, seed: int) -> float:
    """Env steps per second of the trainer, from the end of the warm-up to the end of training."""
    with tempfile.TemporaryDirectory() as folder, connected(curriculum):
        config = TrainConfig.of(
            env=case.env,
            env_args=case.args,
            curriculum="plr" if curriculum else "dr",
            opponents="pfsp" if curriculum else "self",
            steps=steps,
            workers=WORKERS,
            async_rl=async_rl,
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
            seconds = [float(row["seconds"]) for row in csv.DictReader(timing)]
    return (at[-1] - at[WARM - 1]) / (seconds[-1] - seconds[WARM - 1])


MODES = {
    "sync": (False, True),
    "async": (True, True),
    "sync, no curriculum": (False, False),
    "async, no curriculum": (True, False),
}


def measure(name: str, repetitions: int, steps: int) -> dict[str, list[float]]:
    """Rates of every mode and of free stepping, one of each per repetition."""
    case = CASES[name]
    rates: dict[str, list[float]] = {key: [] for key in ("free", *MODES)}
    for repetition in range(repetitions):
        rates["free"].append(free_rate(case, steps // 2))
        for key, (async_rl, curriculum) in MODES.items():
            rates[key].append(
                train_rate(case, steps, async_rl=async_rl, curriculum=curriculum, seed=repetition)
            )
    return rates


def ratio(rates: dict[str, list[float]], above: str, below: str) -> float:
    """The median of the ratios within repetitions."""
    return statistics.median(a / b for a, b in zip(rates[above], rates[below], strict=True))


def report(name: str, rates: dict[str, list[float]]) -> None:
    """Print what was measured of one environment."""
    print(f"\n{name}: env steps/s, {WORKERS} workers, median of {len(rates['free'])}")
    for key, values in rates.items():
        print(f"  {key:<24}{statistics.median(values):>10,.0f}   {ratio(rates, key, 'free'):>6.1%} of free")
    print(f"  async / sync            {ratio(rates, 'async', 'sync'):>10.2f}")
    for key in ("sync", "async"):
        cost = 1.0 - ratio(rates, key, f"{key}, no curriculum")
        print(f"  curriculum costs, {key:<6}{cost:>10.1%}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="a few seconds, for the tests")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    options = parser.parse_args(arguments)
    for name in ["apple race"] if options.smoke else options.cases:
        repetitions, steps = (1, 8192 * 4) if options.smoke else (options.repetitions, CASES[name].steps)
        report(name, measure(name, repetitions, steps))


if __name__ == "__main__":
    main()

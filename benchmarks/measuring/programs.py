"""What the programs of training_throughput.py do: step an environment freely, or train, with a curriculum or none."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np

import macurr.training  # not its names: what loads torch is for those who train
from macurr import make_local_curriculum
from measuring.counted import parallel_env
from measuring.nowhere import Drawn, Nowhere

WORKERS = 2
NEVER = 1_000_000_000

RUN = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from measuring import programs
getattr(programs, sys.argv[2])(json.loads(sys.argv[3]))
"""


def command_of(function: str, argument: Mapping[str, Any]) -> list[str]:
    """How to run a function of this module as a program."""
    return [sys.executable, "-c", RUN, json.dumps(sys.path), function, json.dumps(argument)]


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
    config = macurr.training.TrainConfig.of(
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
        macurr.training.train(config)


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

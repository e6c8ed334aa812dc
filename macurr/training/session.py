"""Curriculum and environments of a run, open for the time of its training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from macurr import make_local_curriculum, make_multiprocessing_curriculum
from macurr.opponents import AgentPool
from macurr.training.collector import Collector
from macurr.training.config import TrainConfig
from macurr.training.envs import EnvSource
from macurr.training.layout import Layout
from macurr.training.opponents import PolicyBank
from macurr.training.policy import Policy
from macurr.training.stepping import FrameShape
from macurr.training.tasks import LEVEL, OPPONENT, TASK_WIDTH, build_curriculum
from macurr.training.vector import VectorEnv
from macurr.training.worker import Job

__all__ = ["playing", "probe"]


@contextmanager
def playing(
    config: TrainConfig,
    source: EnvSource,
    layout: Layout,
    policy: Policy,
    pool: AgentPool,
    generator: torch.Generator,
    state: Mapping[str, Any] | None,
) -> Iterator[tuple[Any, Collector]]:
    """The synced curriculum and a collector whose environments have begun their first episodes.

    Args:
        config: The run's settings.
        source: The environment.
        layout: How it is laid out.
        policy: The live policy.
        pool: The opponents.
        generator: Where the chance of actions comes from.
        state: The curriculum's state to go on from; None to begin.

    Raises:
        StateError: the state is of another curriculum.
        MacurrError: an environment failed or a worker died.
    """
    curriculum = build_curriculum(config, pool)
    local = config.transport == "local"
    synced: Any = (make_local_curriculum if local else make_multiprocessing_curriculum)(curriculum)
    with synced:
        if state is not None:
            synced.load_state_dict(state)
        # Environment i is learned in by agent i modulo A, so that every seat is trained as often as any other.
        seats = [i % len(layout.agents) for i in range(config.num_envs)]
        each = config.envs_per_worker
        jobs = [
            Job(source, tuple(seats[w * each : (w + 1) * each]), TASK_WIDTH, synced.components)
            for w in range(config.workers)
        ]
        shapes = [FrameShape.of(layout, each, TASK_WIDTH)] * config.workers
        bank = PolicyBank(policy.spec, pool.get)
        with VectorEnv(jobs, shapes, local=local) as vector:
            collector = Collector(
                vector.groups, seats, layout, policy, bank, generator, opponent=OPPONENT, level=LEVEL
            )
            collector.reset()
            yield synced, collector


def probe(source: EnvSource) -> Layout:
    """The layout of an environment, which is made for it once.

    Raises:
        ConfigError: the environment cannot be used.
    """
    env = source.make()
    try:
        return Layout(env, source.path)
    finally:
        env.close()  # type: ignore[no-untyped-call]  # PettingZoo

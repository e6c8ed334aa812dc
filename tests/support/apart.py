"""A collector in a process of its own, and the same one in this process."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from macurr.opponents import AgentPool
from macurr.training import TrainConfig
from macurr.training.collector_process import CollectorProcess
from macurr.training.frames import FrameShape
from macurr.training.kinds import Kinds
from macurr.training.learner import Learner
from macurr.training.mapping import PolicyMapping
from macurr.training.orders import CollectorJob
from macurr.training.policy import PolicySpec
from macurr.training.vector import VectorEnv
from macurr.training.worker import Job
from tests.support.collecting import layout_of


@dataclass
class Parts:
    """What a collector is made of, here or there."""

    learner: Learner
    pool: AgentPool
    job: CollectorJob
    jobs: list[Job]
    shapes: list[FrameShape]
    splits: int
    generator: torch.Generator

    @contextmanager
    def apart(self, state=None):
        """A collector in a process of its own, that has begun."""
        chance = self.generator.get_state().numpy()
        with CollectorProcess(
            self.jobs, self.shapes, self.splits, self.job, self.learner, chance, state
        ) as made:
            yield made

    @contextmanager
    def here(self, state=None):
        """The same in this process."""
        with VectorEnv(self.jobs, self.shapes, local=False, splits=self.splits) as vector:
            collector: Any = self.job.build(vector, self.learner, self.generator)
            if state is not None:
                collector.load_state_dict(state)
            collector.begin()
            yield collector


def parts(
    folder,
    src,
    synced,
    steps=7,
    *,
    envs=4,
    workers=1,
    splits=1,
    warm_up=0,
    restarts=0,
    snapshots=1,
    **settings,
):
    """What a collector is made of: opponents are snapshots of other policies than the learner's."""
    config = TrainConfig.of(**{"hidden": (8,), "epochs": 1, "minibatches": 1, **settings})
    layout = layout_of(src)
    spec = PolicySpec.of(layout, config.model)
    pool = AgentPool(folder / "pool")
    for seed in range(snapshots):
        pool.add(Learner(spec, config, torch.Generator().manual_seed(50 + seed)).snapshot(), update=seed)
    total, each = envs * workers, envs // splits
    seats = [(i % len(layout.agents),) for i in range(total)]
    shares = [tuple(seats[start : start + each]) for start in range(0, total, each)]
    kinds = Kinds(
        layout=layout,
        steps=steps,
        memory=spec.state_size,
        others_memory=spec.actor_state_size,
        central=spec.central > 0,
        opponent=0,
        level=1,
        warm_up=warm_up,
        envs=total,
    )
    policies = config.policies
    rng = np.random.default_rng(5)
    job = CollectorJob(
        seats=seats,
        kinds=kinds,
        spec=spec,
        device=torch.device("cpu"),
        pool=pool,
        mapping=PolicyMapping(policies.mapping, policies.num_policies, layout.agents, rng, 1),
        restarts=restarts,
        threads=1,
    )
    return Parts(
        Learner(spec, config, torch.Generator().manual_seed(3), copies=True),
        pool,
        job,
        [Job(src, share, 2, synced.components) for share in shares],
        [FrameShape.of(layout, each, 2)] * len(shares),
        splits,
        torch.Generator().manual_seed(4),
    )


def gathered(collector, count):
    """So many rollouts at least."""
    found: list[Any] = []
    while len(found) < count:
        found += collector.pump()
    return found

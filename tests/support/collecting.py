"""A collector on its own: environments, policies and opponents without a run around them."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from macurr.curricula import Constant
from macurr.spaces import DiscreteTaskSpace, TupleTaskSpace
from macurr.training.acting import Actors, Crew
from macurr.training.collector import Collector
from macurr.training.config import ModelConfig
from macurr.training.envs import EnvSource
from macurr.training.frames import FrameShape
from macurr.training.kinds import Kinds
from macurr.training.layout import Layout
from macurr.training.mapping import PolicyMapping
from macurr.training.opponents import RANDOM, PolicyBank
from macurr.training.policy import Policy, PolicySpec
from macurr.training.vector import VectorEnv
from macurr.training.worker import Job

HERE = "tests.support.training:"


def source(name, **args):
    return EnvSource(name if "." in name else HERE + name, args)


def layout_of(src):
    env = src.make()
    try:
        return Layout(env, src.path)
    finally:
        env.close()


def constant(opponent=3, level=7):
    space = TupleTaskSpace([DiscreteTaskSpace(9), DiscreteTaskSpace(9)], names=["agent", "env"])
    return Constant(space, space.make([opponent, level]))


class Recording:
    """A bank whose opponents play by chance, and that remembers who played by which policy, with what memory."""

    def __init__(self, spec, state_size=0):
        self.spec, self.state_size = spec, state_size
        self.ids, self.policies, self.states = [], [], []

    def act(self, rows, masks, ids, policies, states, generator):
        self.ids.extend(ids.tolist())
        self.policies.extend(policies.tolist())
        chance = np.full(len(ids), RANDOM)
        actions, _ = PolicyBank(self.spec, dict).act(rows, masks, chance, policies, None, generator)
        if states is None:
            return actions, None
        self.states.append(states.numpy().copy())
        return actions, states + 1


@dataclass
class Live:
    """Policies that act, and their versions."""

    policies: list[Policy]
    versions: list[int]

    def acting(self):
        return nullcontext(Crew(self.policies, list(self.versions)))


@dataclass
class Rig:
    """What belongs to a collector."""

    collector: Collector
    live: Live
    bank: Recording
    vector: VectorEnv
    layout: Layout

    def collect(self, rounds=1) -> list[Any]:
        return self.collector.collect(rounds)


@contextmanager
def rig(
    src,
    synced,
    steps,
    *,
    local=True,
    envs=4,
    workers=1,
    splits=1,
    seats=None,
    policies=1,
    mapping="shared",
    episodes=10,
    model=None,
    warm_up=0,
    alone=False,
    restarts=0,
    reset=True,
):
    """A collector whose environments have begun; with `alone` tasks are levels, and nobody plays an opponent."""
    layout = layout_of(src)
    total = envs * workers
    seats = seats or [(i % len(layout.agents),) for i in range(total)]
    each = envs // splits
    parts = [tuple(seats[start : start + each]) for start in range(0, total, each)]
    width = 1 if alone else 2
    jobs = [Job(src, part, width, synced.components) for part in parts]
    generator = torch.Generator().manual_seed(0)
    spec = PolicySpec.of(layout, model or ModelConfig(hidden=(8,)))
    live = Live([Policy(spec, generator) for _ in range(policies)], [0] * policies)
    bank = Recording(spec, spec.actor_state_size)
    kinds = Kinds(
        layout=layout,
        steps=steps,
        memory=spec.state_size,
        others_memory=bank.state_size,
        central=spec.central > 0,
        opponent=None if alone else 0,
        level=0 if alone else 1,
        warm_up=warm_up,
        envs=total,
    )
    chosen = PolicyMapping(mapping, policies, layout.agents, np.random.default_rng(5), episodes)
    shapes = [FrameShape.of(layout, each, width)] * len(jobs)
    with VectorEnv(jobs, shapes, local=local, splits=splits) as vector:
        actors = Actors(layout, kinds, bank, generator)
        collector = Collector(vector, seats, kinds, actors, live, chosen, restarts)
        if reset:
            collector.reset()
        yield Rig(collector, live, bank, vector, layout)

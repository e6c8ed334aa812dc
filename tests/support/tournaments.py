"""A game whose results follow from the actions, and runs whose policies always choose the same one."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import safetensors.numpy
import torch
from gymnasium import spaces
from pettingzoo import ParallelEnv

from macurr.opponents import AgentPool
from macurr.training import TrainConfig
from macurr.training.policy import Policy, PolicySpec
from macurr.training.rundir import RunDir


class Auction(ParallelEnv):
    """Everyone names a number from 0 to 2 in each round, and is paid it."""

    metadata: ClassVar = {"name": "auction_v0"}

    def __init__(self, agents=3, names=None, rounds=1):
        self.possible_agents = list(names or [f"bidder_{i}" for i in range(agents)])
        self.agents = []
        self.rounds = rounds

    def observation_space(self, agent):
        return spaces.Box(0, 1, (1,), np.float32)

    def action_space(self, agent):
        return spaces.Discrete(3)

    def reset(self, seed=None, options=None):
        self.agents = list(self.possible_agents)
        self.left = self.rounds
        return {agent: np.zeros(1, np.float32) for agent in self.agents}, {agent: {} for agent in self.agents}

    def step(self, actions):
        agents = self.agents
        self.left -= 1
        if not self.left:
            self.agents = []
        return (
            {agent: np.zeros(1, np.float32) for agent in agents},
            {agent: float(actions[agent]) for agent in agents},
            dict.fromkeys(agents, not self.left),
            dict.fromkeys(agents, False),
            {agent: {} for agent in agents},
        )

    def close(self):
        pass


AUCTION = "tests.support.tournaments:Auction"


def by_parity(agent, env, episode, rng):
    """A mapping: agents of even number are played by policy 0, the others by policy 1."""
    return int(agent.rpartition("_")[2]) % 2


def always(action, features, actions, hidden=(4,)):
    """The parameters of a policy that always chooses one action."""
    policy = Policy(PolicySpec(features, actions, "discrete", hidden), torch.Generator())
    arrays = {name: np.zeros_like(array) for name, array in policy.arrays().items()}
    arrays[f"actor.{2 * len(hidden)}.bias"][action] = 100.0
    return arrays


def several(actions, features, n):
    """A snapshot of as many policies, each of which always chooses its action."""
    return {
        f"policy_{p}.{name}": array
        for p, action in enumerate(actions)
        for name, array in always(action, features, n).items()
    }


def planted(
    folder, env, features, actions, action, *, hidden=(4,), env_args=None, past=(), noted=None, **settings
):
    """A finished run whose final policy always chooses `action`, and whose snapshots those of `past`.

    Where an action is a list, each is that of one of several policies. `noted` is further metadata of the last one.
    """
    config = TrainConfig.of(
        env=env,
        env_args=env_args or {},
        transport="local",
        workers=1,
        hidden=hidden,
        levels=20,
        out=str(folder),
        **settings,
    )
    run = RunDir.create(config)

    def snapshot(chosen):
        if isinstance(chosen, list):
            return several(chosen, features, actions)
        return always(chosen, features, actions, hidden)

    run.policy.write_bytes(safetensors.numpy.save(snapshot(action)))
    pool = AgentPool(run.snapshots)
    for number, earlier in enumerate(past):
        pool.add(snapshot(earlier), steps=100 * number)
    pool.add(snapshot(action), steps=100 * len(past), **(noted or {}))
    return folder

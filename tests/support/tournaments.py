"""A game whose results follow from the actions, and runs whose policies always choose the same one."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import safetensors.numpy
import torch
from gymnasium import spaces
from pettingzoo import ParallelEnv

from macurr.opponents import AgentPool
from macurr.training import CurriculumConfig, ModelConfig, TrainConfig
from macurr.training.policy import Policy, PolicySpec


class Auction(ParallelEnv):
    """Everyone names a number from 0 to 2 once, and is paid it."""

    metadata: ClassVar = {"name": "auction_v0"}

    def __init__(self, agents=3):
        self.possible_agents = [f"bidder_{i}" for i in range(agents)]
        self.agents = []

    def observation_space(self, agent):
        return spaces.Box(0, 1, (1,), np.float32)

    def action_space(self, agent):
        return spaces.Discrete(3)

    def reset(self, seed=None, options=None):
        self.agents = list(self.possible_agents)
        return {agent: np.zeros(1, np.float32) for agent in self.agents}, {agent: {} for agent in self.agents}

    def step(self, actions):
        agents, self.agents = self.agents, []
        return (
            {agent: np.zeros(1, np.float32) for agent in agents},
            {agent: float(actions[agent]) for agent in agents},
            dict.fromkeys(agents, True),
            dict.fromkeys(agents, False),
            {agent: {} for agent in agents},
        )

    def close(self):
        pass


AUCTION = "tests.support.tournaments:Auction"


def always(action, features, actions, hidden=(4,)):
    """The parameters of a policy that always chooses one action."""
    policy = Policy(PolicySpec(features, actions, "discrete", hidden), torch.Generator())
    arrays = {name: np.zeros_like(array) for name, array in policy.arrays().items()}
    arrays[f"actor.{2 * len(hidden)}.bias"][action] = 100.0
    return arrays


def planted(folder, env, features, actions, action, *, hidden=(4,), env_args=None, past=()):
    """A finished run whose final policy always chooses `action`, and whose snapshots those of `past`."""
    folder.mkdir(parents=True)
    config = TrainConfig(
        env=env,
        env_args=env_args or {},
        transport="local",
        workers=1,
        model=ModelConfig(hidden=hidden),
        tasks=CurriculumConfig(levels=20),
    )
    (folder / "config.json").write_text(config.to_json())
    final = always(action, features, actions, hidden)
    (folder / "policy.safetensors").write_bytes(safetensors.numpy.save(final))
    pool = AgentPool(folder / "snapshots")
    for number, earlier in enumerate(past):
        pool.add(always(earlier, features, actions, hidden), steps=100 * number)
    pool.add(final, steps=100 * len(past))
    return folder

"""Turn-based environments whose turns and payments are easily worked out."""

from typing import ClassVar

import gymnasium
import numpy as np
from pettingzoo import AECEnv


class Toll(AECEnv):
    """Whoever acts gets its action and costs each other agent ten times that; agents leave after `turns[agent]`."""

    metadata: ClassVar = {"name": "toll_v0", "render_modes": [], "is_parallelizable": False}

    def __init__(self, turns, truncate=()):
        super().__init__()
        self.possible_agents = list(turns)
        self.turns, self.truncate = turns, truncate
        self.options = None
        self.render_mode = None
        self._spaces = {a: gymnasium.spaces.Box(-np.inf, np.inf, (1,)) for a in turns}

    def observation_space(self, agent):
        return self._spaces[agent]

    def action_space(self, agent):
        return gymnasium.spaces.Discrete(9)

    def observe(self, agent):
        return np.array([self.clock], np.float32)

    def reset(self, seed=None, options=None):
        self.options = options
        self.agents = self.possible_agents[:]
        self.left = dict(self.turns)
        self.clock = 0
        self.rewards = dict.fromkeys(self.agents, 0.0)
        self._cumulative_rewards = dict.fromkeys(self.agents, 0.0)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self.infos = {agent: {} for agent in self.agents}
        self.agent_selection = self.agents[0]

    def step(self, action):
        agent = self.agent_selection
        if self.terminations[agent] or self.truncations[agent]:
            self._was_dead_step(action)
            return
        self._cumulative_rewards[agent] = 0.0
        self._clear_rewards()
        self.clock += 1
        for other in self.agents:
            self.rewards[other] = float(action) if other == agent else -10.0 * action
        self.left[agent] -= 1
        if self.left[agent] == 0:
            (self.truncations if agent in self.truncate else self.terminations)[agent] = True
        turn = self.possible_agents.index(agent) + 1
        around = self.possible_agents[turn:] + self.possible_agents[:turn]
        self.agent_selection = next((a for a in around if self.left[a] > 0), agent)
        self._accumulate_rewards()
        self._deads_step_first()


class Stuck(Toll):
    """Keeps its dead listed, and their turn."""

    def step(self, action):
        if action is not None:
            super().step(action)


class Seeded(Toll):
    """Everybody sees the seed of the episode."""

    def reset(self, seed=None, options=None):
        super().reset(seed, options)
        self.seed = seed

    def observe(self, agent):
        return np.array([self.seed], np.float32)


class Reckoned(Toll):
    """Says with an agent's last turn what was on the clock, times `price`, which is also what everybody sees."""

    def __init__(self, turns, price=2.0, truncate=()):
        super().__init__(turns, truncate)
        self.price = price

    def observe(self, agent):
        return np.array([self.price], np.float32)

    def step(self, action):
        agent = self.agent_selection
        super().step(action)
        if agent in self.agents and self.left[agent] == 0 and action is not None:
            self.infos[agent]["true_objective"] = self.clock * self.price

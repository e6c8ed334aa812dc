"""An environment whose agents die at different times."""

import gymnasium
import numpy as np
from pettingzoo import ParallelEnv

LIVES = {"a": 2, "b": 4, "c": 3}


class RaggedEnv(ParallelEnv):
    """Agent i of a, b, c is paid i + 1 per step plus the task, and dies after `LIVES` steps.

    The last one is truncated, the others are terminated; the dead leave `agents` at once. Everybody sees the step
    and its own place, and reports the share of its life that is over as task completion.
    """

    metadata = {"name": "ragged_v0", "render_modes": []}  # noqa: RUF012  # as PettingZoo declares it
    render_mode = None

    def __init__(self, lives=None):
        self.lives = LIVES if lives is None else lives
        self.possible_agents = list(self.lives)
        self.agents = []
        self.task, self.t = 0, 0

    def observation_space(self, agent):
        return gymnasium.spaces.Box(0, 100, (2,), np.float32)

    def action_space(self, agent):
        return gymnasium.spaces.Discrete(2)

    def reset(self, seed=None, options=None):
        self.task = (options or {}).get("task", 0)
        self.agents, self.t = self.possible_agents[:], 0
        return self._seen(), {agent: {} for agent in self.agents}

    def step(self, actions):
        self.t += 1
        living = self.agents
        ends = {agent: self.t >= self.lives[agent] for agent in living}
        last = max(self.lives.values())
        self.agents = [agent for agent in living if not ends[agent]]
        seen = self._seen(living)
        rewards = {agent: self.reward(agent, self.task) for agent in living}
        terminations = {agent: ends[agent] and self.lives[agent] < last for agent in living}
        truncations = {agent: ends[agent] and self.lives[agent] == last for agent in living}
        infos = {agent: {"task_completion": self.t / self.lives[agent]} for agent in living}
        return seen, rewards, terminations, truncations, infos

    def reward(self, agent, task):
        """What an agent is paid at each step."""
        own = task.get(agent, 0) if isinstance(task, dict) else task
        own = own if isinstance(own, int | float | np.integer) else own.env
        return float(self.possible_agents.index(agent) + 1 + own)

    def _seen(self, agents=None):
        who = self.agents if agents is None else agents
        return {agent: np.array([self.t, self.possible_agents.index(agent)], np.float32) for agent in who}


def play(env, episodes):
    """Play episodes to their ends, and close the environment."""
    for _ in range(episodes):
        env.reset()
        while env.agents:
            env.step(dict.fromkeys(env.agents, 0))
    env.close()

"""Environments whose every episode follows from the task alone, so that anybody can say what it must have been."""

from typing import ClassVar

import gymnasium
import numpy as np
from pettingzoo import ParallelEnv


class RaggedEnv(ParallelEnv):
    """Three agents that live for different numbers of steps, and end in different ways.

    `lives`, `reward` and `terminates` say what happens on a task; actions change nothing. With `together`, all
    live as long as the longest of them, as vector environments without `black_death_v3` want it. With `reuse`,
    the same arrays and dicts are returned at every step.
    """

    metadata: ClassVar = {"name": "ragged_v0", "render_modes": [], "is_parallelizable": True}
    possible_agents: ClassVar = ["x", "y", "z"]

    def __init__(self, together=False, reuse=False):
        self.together, self.reuse = together, reuse
        self.render_mode = None
        self.seeds, self.options = [], []
        self._spaces = {a: gymnasium.spaces.Box(0, np.inf, (2,), np.float32) for a in self.possible_agents}
        self._actions = {a: gymnasium.spaces.Discrete(5) for a in self.possible_agents}
        self._kept = tuple({} for _ in range(5))
        self._observation = np.zeros(2, np.float32)

    def lives(self, task):
        each = {a: 1 + (task * (i + 2) + i) % 5 for i, a in enumerate(self.possible_agents)}
        return dict.fromkeys(each, max(each.values())) if self.together else each

    def reward(self, task, agent, t):
        return task + 100.0 * self.possible_agents.index(agent) + t / 4

    def terminates(self, task, agent):
        return (task + self.possible_agents.index(agent)) % 2 == 0

    def observation_space(self, agent):
        return self._spaces[agent]

    def action_space(self, agent):
        return self._actions[agent]

    def reset(self, seed=None, options=None):
        self.seeds.append(seed)
        self.options.append(options)
        self.task = (options or {}).get("task", 0)
        self.agents = list(self.possible_agents)
        self.t = 0
        return {a: self._seen() for a in self.agents}, {a: {} for a in self.agents}

    def step(self, actions):
        acting = self.agents
        self.t += 1
        dead = {a: self.lives(self.task)[a] <= self.t for a in acting}
        self.agents = [a for a in acting if not dead[a]]
        result = (
            {a: self._seen() for a in acting},
            {a: self.reward(self.task, a, self.t) for a in acting},
            {a: dead[a] and self.terminates(self.task, a) for a in acting},
            {a: dead[a] and not self.terminates(self.task, a) for a in acting},
            {a: {"step": self.t} for a in acting},
        )
        return self._again(result) if self.reuse else result

    def _seen(self):
        fresh = np.array([self.task, self.t], np.float32)
        if not self.reuse:
            return fresh
        self._observation[:] = fresh
        return self._observation

    def _again(self, result):
        for kept, new in zip(self._kept, result, strict=True):
            kept.clear()
            kept.update(new)
        return self._kept


class LadderEnv(gymnasium.Env):
    """One agent that climbs a number of rungs which follows from the task; every second task is truncated."""

    metadata: ClassVar = {"render_modes": []}

    def __init__(self, completion=False):
        self.observation_space = gymnasium.spaces.Box(0, 1e6, (2,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(2)
        self.completion = completion
        self.seeds, self.options = [], []
        self.task, self.t = 0, 0

    @staticmethod
    def rungs(task):
        return 2 + task % 3

    @staticmethod
    def reward(task, t):
        return task + t / 4

    @staticmethod
    def terminates(task):
        return task % 2 == 0

    def change_task(self, task):
        self.task, self.t = task, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seeds.append(seed)
        self.options.append(options)
        self.task = (options or {}).get("task", 0)
        self.t = 0
        return np.array([self.task, 0], np.float32), {}

    def step(self, action):
        self.t += 1
        done = self.t >= self.rungs(self.task) and not self.completion
        info = {"step": self.t}
        if self.completion:
            info["task_completion"] = min(1.0, self.t / self.rungs(self.task))
        seen = np.array([self.task, self.t], np.float32)
        terminated = done and self.terminates(self.task)
        return seen, self.reward(self.task, self.t), terminated, done and not terminated, info

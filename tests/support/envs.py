"""Tiny environments that do one odd thing each."""

from collections import defaultdict
from typing import ClassVar

import gymnasium
import numpy as np
from pettingzoo import ParallelEnv


class TinyEnv(ParallelEnv):
    """What the others share: agents, spaces, and nothing that happens."""

    metadata: ClassVar = {"name": "tiny_v0", "render_modes": []}
    possible_agents: ClassVar = ["a", "b", "c"]

    def __init__(self):
        self.agents = []
        self.render_mode = None
        self._spaces = {a: gymnasium.spaces.Box(-1, 1e9, (2,), np.float32) for a in self.possible_agents}
        self._actions = {a: gymnasium.spaces.Discrete(3) for a in self.possible_agents}

    def observation_space(self, agent):
        return self._spaces[agent]

    def action_space(self, agent):
        return self._actions[agent]


class ScriptEnv(TinyEnv):
    """Plays episodes that were written down: for each step, who acts, and their (reward, terminated, truncated).

    Agents may come late, fall silent for a while and come back. Everybody who acts, and everybody who acts next,
    sees (episode, step). Infos hold the step, and are missing for the agents in `without_info`. With `loose`, flags
    are NumPy's and the dicts default dicts, and a reward is paid to "common", which is no agent.
    """

    def __init__(self, episodes, loose=False, without_info=()):
        super().__init__()
        self.episodes, self.loose, self.without_info = episodes, loose, without_info
        self.episode = -1
        self.told = []

    def reset(self, seed=None, options=None):
        self.episode += 1
        self.script = self.episodes[self.episode % len(self.episodes)]
        self.t = 0
        self.told.append(options)
        self.agents = sorted(self.script[0])
        return {a: self._seen() for a in self.agents}, {
            a: {} for a in self.agents if a not in self.without_info
        }

    def step(self, actions):
        assert sorted(actions) == self.agents, "the agents that are alive act"
        turns = self.script[self.t]
        self.t += 1
        self.agents = sorted(self.script[self.t]) if self.t < len(self.script) else []
        rewards, terminations, truncations = ({a: turn[i] for a, turn in turns.items()} for i in range(3))
        infos = {a: {"step": self.t} for a in turns if a not in self.without_info}
        if self.loose:
            rewards = defaultdict(float, rewards, common=99.0)
            terminations = defaultdict(bool, {a: np.bool_(flag) for a, flag in terminations.items()})
            truncations = defaultdict(bool, {a: np.bool_(flag) for a, flag in truncations.items()})
            infos = defaultdict(dict, infos)
        seen = {a: self._seen() for a in dict.fromkeys([*turns, *self.agents])}
        return seen, rewards, terminations, truncations, infos

    def _seen(self):
        return np.array([self.episode, self.t], np.float32)


class CompletionEnv(TinyEnv):
    """The agents complete the task one after another, by steps of a half; the episode lasts for `length` steps."""

    def __init__(self, length=10):
        super().__init__()
        self.length = length
        self.task, self.changes = None, []

    def change_task(self, task):
        self.task, self.done = task, 0
        self.changes.append(task)

    def reset(self, seed=None, options=None):
        self.task = (options or {}).get("task")
        self.t = self.done = 0
        self.agents = list(self.possible_agents)
        return self._seen(), {a: {} for a in self.agents}

    def step(self, actions):
        self.t += 1
        self.done += 1
        over = self.t >= self.length
        acting = self.agents
        self.agents = [] if over else acting
        infos = {a: {"task_completion": min(1.0, max(0, self.done - i) / 2)} for i, a in enumerate(acting)}
        return (
            self._seen(),
            dict.fromkeys(acting, 1.0),
            dict.fromkeys(acting, False),
            dict.fromkeys(acting, over),
            infos,
        )

    def _seen(self):
        return {a: np.zeros(2, np.float32) for a in self.possible_agents}


class RandomWalkEnv(TinyEnv):
    """Each step is random, from the seed; `leaks` says what of an episode changes later ones.

    `leaks`: "" for nothing, "generator" for one that is not seeded again by a second reset, "count" for a first
    observation that counts the episodes of this object, "class" for one that counts those of all objects.
    """

    everybody = 0

    def __init__(self, leaks="", length=5):
        super().__init__()
        self.leaks, self.length = leaks, length
        self.rng, self.mine = None, 0

    def reset(self, seed=None, options=None):
        if self.rng is None or self.leaks != "generator":
            self.rng = np.random.default_rng(seed)
        self.mine += 1
        RandomWalkEnv.everybody += 1
        self.t, self.agents = 0, list(self.possible_agents)
        start = {"count": self.mine, "class": RandomWalkEnv.everybody}.get(self.leaks, 0)
        self.at = np.array([start, 0], np.float32)
        return {a: self.at.copy() for a in self.agents}, {a: {} for a in self.agents}

    def step(self, actions):
        self.t += 1
        self.at[1] = self.rng.random() + sum(map(int, actions.values()))
        acting = self.agents
        over = self.t >= self.length
        self.agents = [] if over else acting
        return (
            {a: self.at.copy() for a in acting},
            dict.fromkeys(acting, float(self.at[1])),
            dict.fromkeys(acting, over),
            dict.fromkeys(acting, False),
            {a: {} for a in acting},
        )


class CrashEnv(TinyEnv):
    """Raises in the `n`-th call of a method: "reset" or "step"."""

    def __init__(self, where, n=1):
        super().__init__()
        self.where, self.n = where, n
        self.calls = {"reset": 0, "step": 0}

    def _count(self, method):
        self.calls[method] += 1
        if method == self.where and self.calls[method] == self.n:
            raise RuntimeError(f"crash in {method}")

    def reset(self, seed=None, options=None):
        self._count("reset")
        self.agents = list(self.possible_agents)
        return {a: np.zeros(2, np.float32) for a in self.agents}, {a: {} for a in self.agents}

    def step(self, actions):
        self._count("step")
        acting, self.agents = self.agents, []
        flags = dict.fromkeys(acting, True)
        seen = {a: np.zeros(2, np.float32) for a in acting}
        return seen, dict.fromkeys(acting, 1.0), flags, dict.fromkeys(acting, False), {a: {} for a in acting}

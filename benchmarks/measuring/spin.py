"""A two-player game whose only property is what a step costs."""

from __future__ import annotations

import time
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

Values = dict[str, Any]

AGENTS = ("player_0", "player_1")
FEATURES, ACTIONS = 10, 5


class Spin(ParallelEnv[str, Any, Any]):
    """Steps that take so long, episodes of so many of them; rewards and observations are noise.

    Args:
        cost: Microseconds of a step.
        wait: Whether a step sleeps, like one that waits for a simulator elsewhere, instead of computing.
        length: Steps of an episode.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "spin_v0", "render_modes": []}

    def __init__(self, cost: float = 200.0, wait: bool = False, length: int = 100) -> None:
        self.possible_agents = list(AGENTS)
        self.agents: list[str] = []
        self._seconds, self._wait, self._length = cost * 1e-6, wait, length
        self._observations = spaces.Box(-1.0, 1.0, (FEATURES,), np.float32)
        self._actions = spaces.Discrete(ACTIONS)

    def observation_space(self, agent: str) -> spaces.Box:
        return self._observations

    def action_space(self, agent: str) -> spaces.Discrete:
        return self._actions

    def reset(self, seed: int | None = None, options: Values | None = None) -> tuple[Values, Values]:
        self.agents = list(AGENTS)
        self._left = self._length
        rng = np.random.default_rng(seed)
        self._noise = rng.uniform(-1.0, 1.0, (2, FEATURES)).astype(np.float32)
        self._winner = int(rng.integers(2))
        return self._seen(), {agent: {} for agent in AGENTS}

    def step(self, actions: Values) -> tuple[Values, Values, Values, Values, Values]:
        if self._wait:
            time.sleep(self._seconds)
        else:
            end = time.thread_time() + self._seconds  # of computing, however often it is interrupted
            while time.thread_time() < end:
                pass
        self._left -= 1
        over = self._left == 0
        won = 1.0 if over else 0.0
        rewards = {agent: won if k == self._winner else -won for k, agent in enumerate(AGENTS)}
        if over:
            self.agents = []
        ended, going = dict.fromkeys(AGENTS, over), dict.fromkeys(AGENTS, False)
        return self._seen(), rewards, ended, going, {agent: {} for agent in AGENTS}

    def close(self) -> None:
        pass

    def _seen(self) -> Values:
        return dict(zip(AGENTS, self._noise, strict=True))


parallel_env = Spin

"""Environments for the trainer's tests, and who plays by which policy.

Processes of a run import them from here: a module of tests would bring torch and the whole trainer along.
"""

from __future__ import annotations

import os
import pkgutil
import subprocess
import sys
import time
from typing import ClassVar

import gymnasium
import numpy as np
import pettingzoo.butterfly
from gymnasium import spaces
from pettingzoo import ParallelEnv


def butterfly(name):
    """The import path of one of PettingZoo's games, in the version that is installed."""
    found = [module.name for module in pkgutil.iter_modules(pettingzoo.butterfly.__path__)]
    versions = [module for module in found if module.startswith(f"{name}_v")]
    return f"pettingzoo.butterfly.{max(versions)}"


class Duel(ParallelEnv):
    """Two players, three actions; the higher action wins a point from the other each step.

    Episodes are five steps long and are truncated.
    """

    metadata: ClassVar = {"name": "duel_v0"}

    def __init__(self, length=5):
        self.length = length
        self.possible_agents = ["left", "right"]
        self.agents = []
        self._observations = {"left": spaces.Box(-1, 1, (2,), np.float32), "right": spaces.Discrete(4)}
        self._actions = {"left": spaces.Discrete(3), "right": spaces.Discrete(2)}

    def observation_space(self, agent):
        return self._observations[agent]

    def action_space(self, agent):
        return self._actions[agent]

    def _seen(self):
        return {"left": np.array([self.t, 0.5], np.float32), "right": self.t % 4}

    def reset(self, seed=None, options=None):
        self.agents, self.t, self.seed = list(self.possible_agents), 0, seed
        return self._seen(), {agent: {} for agent in self.agents}

    def step(self, actions):
        self.check(actions)
        self.t += 1
        gain = float(np.sign(actions["left"] - actions["right"]))
        seen, agents = self._seen(), self.agents
        over = self.t >= self.length
        if over:
            self.agents = []
        return (
            seen,
            {"left": gain, "right": -gain},
            dict.fromkeys(agents, False),
            dict.fromkeys(agents, over),
            {agent: {} for agent in agents},
        )

    def check(self, actions):
        for agent, action in actions.items():
            assert self.action_space(agent).contains(action)

    def close(self):
        pass


class Reacher(Duel):
    """The same with continuous actions of one and two coordinates."""

    def __init__(self):
        super().__init__()
        self._actions = {
            "left": spaces.Box(-0.5, 0.5, (1,), np.float32),
            "right": spaces.Box(-2, 2, (1, 2), np.float32),
        }

    def step(self, actions):
        self.check(actions)
        flat = {agent: float(np.sum(action)) for agent, action in actions.items()}
        self.check = lambda _: None
        try:
            return super().step(flat)
        finally:
            del self.check


class Masked(Duel):
    """The same with action masks: action 0 only on even steps, action 1 only on odd ones."""

    def __init__(self):
        super().__init__()
        self._actions = dict.fromkeys(self.possible_agents, spaces.Discrete(2))
        seen = spaces.Dict({"observation": spaces.MultiBinary(3), "action_mask": spaces.MultiBinary(2)})
        self._observations = dict.fromkeys(self.possible_agents, seen)

    def _seen(self):
        mask = np.array([self.t % 2 == 0, self.t % 2 == 1], np.int8)
        return {
            agent: {"observation": np.ones(3, np.int8), "action_mask": mask} for agent in self.possible_agents
        }

    def check(self, actions):
        assert set(actions.values()) == {self.t % 2}


class Ragged(Duel):
    """The right player dies after two steps, the left one is truncated after five."""

    def step(self, actions):
        filled = {"left": 0, "right": 0, **actions}
        assert ("right" in actions) == (self.t < 2)
        seen, rewards, _, truncated, infos = super().step(filled)
        present = ["left", "right"] if "right" in actions else ["left"]
        dies = "right" in actions and self.t == 2
        self.agents = [agent for agent in self.agents if agent in present and not (agent == "right" and dies)]
        return (
            {agent: seen[agent] for agent in present},
            {agent: rewards[agent] for agent in present},
            {agent: agent == "right" and dies for agent in present},
            {agent: truncated.get(agent, False) for agent in present},
            {agent: infos.get(agent, {}) for agent in present},
        )


class Listed(Duel):
    """Keeps everybody listed: the right player dies after two steps and is told so again and again.

    The dead player is still paid a point with the fourth step.
    """

    def step(self, actions):
        assert set(actions) == {"left", "right"}
        seen, rewards, _, truncated, infos = super().step(actions)
        terminated = {"left": False, "right": self.t >= 2}
        if self.t > 2:
            rewards["right"] = float(self.t == 4)
        return seen, rewards, terminated, truncated, infos


class Levers(Duel):
    """Three levers on the left (two, three and two positions), one of three and a pair of switches on the right."""

    def __init__(self):
        super().__init__()
        self._actions = {
            "left": spaces.MultiDiscrete([2, 3, 2], start=[0, 1, 0]),
            "right": spaces.MultiBinary(2),
        }

    def step(self, actions):
        self.check(actions)
        self.check = lambda _: None
        try:
            return super().step({agent: int(np.sum(action)) for agent, action in actions.items()})
        finally:
            del self.check


class Wide(Duel):
    """Sees and does more numbers than a socket takes at once."""

    SIZE = 400_000

    def __init__(self):
        super().__init__()
        self._observations = dict.fromkeys(self.possible_agents, spaces.Box(-9, 9, (self.SIZE,), np.float32))
        self._actions = dict.fromkeys(self.possible_agents, spaces.Box(-1, 1, (self.SIZE,), np.float32))

    def _seen(self):
        return dict.fromkeys(self.possible_agents, np.full(self.SIZE, self.t, np.float32))

    def step(self, actions):
        return super().step({agent: float(action[-1]) for agent, action in actions.items()})

    def check(self, actions):
        pass


class Unpicklable(Duel):
    """Holds on to something that cannot be copied."""

    def __init__(self):
        super().__init__()
        self.script = (step for step in range(9))


class Slow(Duel):
    """Takes its time for the first step."""

    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds

    def step(self, actions):
        if self.t == 0:
            time.sleep(self.seconds)
        return super().step(actions)


class Tardy(Duel):
    """The first one of all takes its time for its first episode."""

    def __init__(self, marker):
        super().__init__()
        self.marker = marker

    def reset(self, seed=None, options=None):
        try:
            os.mkdir(self.marker)
        except FileExistsError:
            pass
        else:
            time.sleep(2.0)
        return super().reset(seed, options)


class Sick(Duel):
    """Pays what is no number once a file is there."""

    def __init__(self, marker, what="nan"):
        super().__init__()
        self.marker, self.what = marker, what

    def step(self, actions):
        result = super().step(actions)
        if os.path.exists(self.marker):
            if self.what == "raise":
                raise FloatingPointError("the lever broke")
            result[1]["left"] = result[1]["right"] = float(self.what)
        return result


class Forking(Duel):
    """Leaves a child process behind for some seconds, which holds on to all that its parent had open."""

    def __init__(self):
        super().__init__()
        if os.fork() == 0:
            time.sleep(8)
            os._exit(0)


class Failing(Duel):
    """Raises on the third step."""

    def step(self, actions):
        if self.t == 2:
            raise FloatingPointError("the lever broke")
        return super().step(actions)


class Stuck(Duel):
    """Does not come back from its third step while a file is there, and has started a program by then.

    The worker's number and the program's are in the file's neighbour, `<marker>.pid`. With "once", the file is taken
    away by the first that does not come back.
    """

    def __init__(self, marker, how="sleep"):
        super().__init__()
        self.marker, self.how = marker, how

    def step(self, actions):
        if self.t == 2 and self.meant():
            program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            with open(f"{self.marker}.part", "w") as file:
                file.write(f"{os.getpid()} {program.pid}")
            os.replace(f"{self.marker}.part", f"{self.marker}.pid")
            while True:
                time.sleep(600.0)
        return super().step(actions)

    def meant(self):
        try:
            os.stat(self.marker) if self.how == "sleep" else os.remove(self.marker)
        except FileNotFoundError:
            return False
        return True


class Dying(Duel):
    """Takes its whole process with it on the third step, without a word."""

    def step(self, actions):
        if self.t == 2:
            os._exit(7)
        return super().step(actions)


class Nobody(Duel):
    """Has no agents."""

    def __init__(self):
        super().__init__()
        self.possible_agents = []


class Numbered(Duel):
    """Has numbers for agents."""

    def __init__(self):
        super().__init__()
        self.possible_agents = [0, 1]


def gone():
    sys.exit("bye")


class Wordy(Duel):
    """Sees texts, which have no fixed flat size."""

    def __init__(self):
        super().__init__()
        self._observations = dict.fromkeys(self.possible_agents, spaces.Text(5))


class Many(Duel):
    """Has an action space that the trainer does not play."""

    def __init__(self):
        super().__init__()
        self._actions = dict.fromkeys(self.possible_agents, spaces.Box(0, 9, (2,), np.int64))


def single_agent():
    return gymnasium.make("CartPole-v1")


def number():
    return 7


class Scored(Duel):
    """A duel whose winner of a step is paid `bonus`; it says how many steps each has won, times `weight`."""

    def __init__(self, bonus=0.5, weight=3, length=5, wide=1):
        super().__init__(length)
        self.bonus, self.weight, self.wide = bonus, weight, wide
        if wide > 1:
            self._actions = {"left": spaces.Discrete(3), "right": spaces.Discrete(3)}

    def reset(self, seed=None, options=None):
        assert not options
        self.won = dict.fromkeys(self.possible_agents, 0)
        return super().reset(seed, options)

    def step(self, actions):
        seen, rewards, terminated, truncated, infos = super().step(actions)
        for agent, reward in rewards.items():
            self.won[agent] += reward > 0
            if truncated[agent]:
                infos[agent]["true_objective"] = self.won[agent] * self.weight
        paid = {agent: reward * self.bonus for agent, reward in rewards.items()}
        return seen, paid, terminated, truncated, infos


def chosen_wrongly(agent, env, episode, rng):
    """A policy that nobody has."""
    return 7


def chosen_in_turn(agent, env, episode, rng):
    """One of two policies."""
    return (env + episode) % 2

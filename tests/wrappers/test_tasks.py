"""Task wrappers: how a task reaches an environment."""

from collections import namedtuple
from typing import ClassVar

import gymnasium
import numpy as np
import pytest

from macurr import BoxTaskSpace, DictTaskSpace, DiscreteTaskSpace, TaskError, UsageError
from macurr.testing import task_env_api_test
from macurr.wrappers import (
    OptionsTaskWrapper,
    PettingZooTaskWrapper,
    ReinitTaskWrapper,
    SeedTaskWrapper,
    TaskWrapper,
)
from tests.support.envs import CrashEnv, RandomWalkEnv, TinyEnv

Dual = namedtuple("Dual", ["agent", "env"])


class HeardEnv(RandomWalkEnv):
    """Remembers what it was reset with, and how it was made."""

    def __init__(self, **arguments):
        super().__init__()
        self.arguments, self.heard, self.closed = arguments, [], False

    def reset(self, seed=None, options=None):
        self.heard.append((seed, options))
        return super().reset(seed, options)

    def close(self):
        self.closed = True


class Gravity(PettingZooTaskWrapper):
    """The task is a number, and how much of it is left is the completion of "a"."""

    def change_task(self, task):
        self.gravity = task

    def task_completion(self, infos):
        return {"a": 0.25}


# --- PettingZooTaskWrapper ---------------------------------------------------------------------------------


@pytest.mark.parametrize("channel", ["option", "keyword", "both"])
def test_a_task_comes_by_option_or_by_keyword(channel):
    env = Gravity(HeardEnv(), BoxTaskSpace(0, 10))
    options = (
        {"other": 1} if channel == "keyword" else {"other": 1, "task": 7.0 if channel == "option" else 0.0}
    )
    kept = dict(options)
    keyword = {} if channel == "option" else {"new_task": 7.0}
    env.reset(seed=3, options=options, **keyword)
    assert env.task == env.gravity == 7.0
    assert env.env.heard == [(3, {"other": 1})]
    assert options == kept


def test_without_a_task_reset_is_reset():
    env = Gravity(HeardEnv())
    assert env.task is None
    env.reset(seed=3)
    env.reset(options={"other": 1})
    assert env.env.heard == [(3, None), (None, {"other": 1})]
    assert env.task is None
    assert env.task_space is None
    env.reset(options={"task": 2.0})
    env.reset()
    assert env.task == env.gravity == 2.0
    assert env.env.heard[2:] == [(None, None), (None, None)]


def test_of_a_dual_task_the_environment_gets_its_part():
    env = Gravity(HeardEnv())
    env.reset(options={"task": Dual("snapshot 3", 5.0)})
    assert env.task == env.gravity == 5.0
    env.reset(new_task=Dual(1, Dual(2, 6.0)))
    assert env.task == 6.0


def test_completion_goes_into_the_infos():
    env = Gravity(RandomWalkEnv())
    env.reset()
    assert env.step(dict.fromkeys(env.agents, 0))[4] == {"a": {"task_completion": 0.25}, "b": {}, "c": {}}

    class Bare(RandomWalkEnv):
        def step(self, actions):
            return (*super().step(actions)[:4], {})

    env = Gravity(Bare())
    env.reset()
    assert env.step(dict.fromkeys(env.agents, 0))[4] == {"a": {"task_completion": 0.25}}


def test_a_wrapper_that_cannot_change_its_task_says_so():
    env = PettingZooTaskWrapper(TinyEnv())
    with pytest.raises(UsageError, match=r"PettingZooTaskWrapper does not define change_task\(task\)"):
        env.reset(options={"task": 1})


# --- SeedTaskWrapper ---------------------------------------------------------------------------------------


def test_the_task_is_the_seed():
    env = SeedTaskWrapper(HeardEnv(), 10)
    assert env.task_space == DiscreteTaskSpace(10)
    env.reset(seed=1, options={"task": 4, "other": 2})
    env.reset(seed=1)
    env.reset(new_task=np.int64(5))
    assert env.env.heard == [(4, {"other": 2}), (1, None), (5, None)]
    assert type(env.env.heard[2][0]) is int


def test_seeds_may_be_any_whole_numbers():
    env = SeedTaskWrapper(HeardEnv(), DiscreteTaskSpace([100, 200]))
    env.reset(options={"task": env.task_space.decode(1)})
    assert env.env.heard == [(200, None)]
    assert SeedTaskWrapper(HeardEnv()).task_space.num_tasks == 2**31 - 1


@pytest.mark.parametrize("task", [-1, 2.5, "seed", (1, 2)])
def test_what_is_no_seed_is_refused(task):
    with pytest.raises(TaskError, match="A seed is a whole number of 0 or more"):
        SeedTaskWrapper(HeardEnv()).reset(options={"task": task})
    with pytest.raises(UsageError, match="needs a DiscreteTaskSpace"):
        SeedTaskWrapper(HeardEnv(), BoxTaskSpace(0, 1))


# --- OptionsTaskWrapper ------------------------------------------------------------------------------------


def test_the_task_goes_into_the_options():
    space = DictTaskSpace({"gravity": BoxTaskSpace(0, 10), "level": DiscreteTaskSpace(3)})
    env = OptionsTaskWrapper(HeardEnv(), space)
    env.reset(seed=2, options={"task": {"gravity": 1.0, "level": 2}, "level": 0, "other": 9})
    assert env.env.heard == [(2, {"gravity": 1.0, "level": 2, "other": 9})]
    env = OptionsTaskWrapper(HeardEnv(), key="level")
    env.reset(new_task=7)
    assert env.env.heard == [(None, {"level": 7})]


def test_options_want_a_mapping():
    env = OptionsTaskWrapper(HeardEnv())
    with pytest.raises(
        TaskError, match=r"must be a mapping; got 7\. Use a DictTaskSpace, or name the option by key="
    ):
        env.reset(new_task=7)
    assert env.env.heard == []


# --- ReinitTaskWrapper -------------------------------------------------------------------------------------


def test_each_new_task_makes_the_environment_anew():
    space = DictTaskSpace({"size": DiscreteTaskSpace(9), "wind": BoxTaskSpace([0, 0], [1, 1])})
    first = {"size": 1, "wind": np.array([0.0, 0.5], np.float32)}
    env = ReinitTaskWrapper(HeardEnv, space, first)
    made = env.env
    env.reset(options={"task": {"size": 1, "wind": np.array([0.0, 0.5], np.float32)}})
    assert env.env is made
    env.reset(seed=5, options={"task": {"size": 1, "wind": np.array([1.0, 0.5], np.float32)}})
    assert env.env is not made
    assert made.closed
    assert env.env.arguments["wind"].tolist() == [1.0, 0.5]
    assert env.env.heard == [(5, None)]
    assert env.agents == ["a", "b", "c"]


def test_plain_tasks_are_passed_as_they_are():
    env = ReinitTaskWrapper(lambda size: HeardEnv(size=size), DiscreteTaskSpace(5), 3)
    assert env.env.arguments == {"size": 3}
    env.reset(new_task=4)
    assert env.env.arguments == {"size": 4}


def test_other_agents_are_refused_and_nothing_is_lost():
    class Crowd(HeardEnv):
        made: ClassVar = []

        def __init__(self, n):
            super().__init__()
            self.possible_agents = list("abcde")[:n]
            Crowd.made.append(self)

    env = ReinitTaskWrapper(Crowd, DiscreteTaskSpace(5), 3)
    kept = env.env
    with pytest.raises(TaskError, match=r"Task 4 makes an environment with agents \['a', 'b', 'c', 'd'\]"):
        env.reset(new_task=4)
    assert env.env is kept
    assert not kept.closed
    assert Crowd.made[1].closed
    env.reset(new_task=3)


# --- TaskWrapper -------------------------------------------------------------------------------------------


class Pole(TaskWrapper):
    def change_task(self, task):
        self.length = task


def test_gymnasium_environments_get_tasks_the_same_way():
    env = Pole(gymnasium.make("CartPole-v1"), BoxTaskSpace(0, 1))
    first, _ = env.reset(seed=1)
    assert env.task is None
    second, _ = env.reset(seed=1, options={"task": 0.5, "low": -0.01, "high": 0.01})
    assert env.task == env.length == 0.5
    assert abs(second).max() <= 0.01 < abs(first).max()
    env.reset(new_task=Dual(0, 0.75))
    assert env.length == 0.75
    with pytest.raises(UsageError, match="does not define change_task"):
        TaskWrapper(gymnasium.make("CartPole-v1")).reset(new_task=1)


# --- task_env_api_test -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: SeedTaskWrapper(RandomWalkEnv(), 50),
        lambda: Gravity(RandomWalkEnv(), BoxTaskSpace(0, 10)),
        lambda: Gravity(RandomWalkEnv(), DiscreteTaskSpace(["low", "high"])),
        lambda: OptionsTaskWrapper(RandomWalkEnv(), DictTaskSpace({"level": DiscreteTaskSpace(3)})),
        lambda: ReinitTaskWrapper(lambda _: RandomWalkEnv(), DiscreteTaskSpace(5), 3),
    ],
)
def test_the_wrappers_keep_the_task_interface(make):
    task_env_api_test(make())


class Broken(Gravity):
    def __init__(self, fault):
        super().__init__(
            RandomWalkEnv("count" if fault == "begins differently" else ""), DiscreteTaskSpace(9)
        )
        self.fault = fault

    def reset(self, seed=None, options=None, new_task=None):
        if self.fault == "changes options":
            (options or {}).clear()
        result = super().reset(seed, options, new_task)
        if self.fault == "wrong task":
            self.task = -1
        if self.fault == "nobody lives":
            self.env.agents = []
        return result[0] if self.fault == "no infos" else result

    def task_completion(self, infos):
        return {"a": {"percent": 150, "text": "half"}.get(self.fault, 0.5)}


@pytest.mark.parametrize(
    ("fault", "match"),
    [
        ("changes options", "does not change the options"),
        ("wrong task", r"env\.task is the task of the episode"),
        ("nobody lives", "agents are alive"),
        ("no infos", "returns a pair"),
        ("begins differently", "begin the same episode"),
        ("percent", "between 0 and 1; a has 150"),
        ("text", "task_completion is a number; a has 'half'"),
    ],
)
def test_what_breaks_the_task_interface_is_named(fault, match):
    task_env_api_test(Broken(""))
    with pytest.raises(AssertionError, match=match):
        task_env_api_test(Broken(fault))


def test_the_task_interface_wants_tasks_to_try():
    with pytest.raises(AssertionError, match="pass task_space"):
        task_env_api_test(RandomWalkEnv())
    task_env_api_test(RandomWalkEnv(), DiscreteTaskSpace(3))
    with pytest.raises(AssertionError, match="Parallel environments"):
        task_env_api_test(gymnasium.make("CartPole-v1"))
    with pytest.raises(RuntimeError, match="crash in reset"):
        task_env_api_test(CrashEnv("reset", 2), DiscreteTaskSpace(3))

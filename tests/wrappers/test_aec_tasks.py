"""Task wrappers of turn-based environments: how a task reaches them."""

import pickle
from collections import namedtuple

import pytest
from pettingzoo.test import api_test
from pettingzoo.utils.conversions import parallel_to_aec

from macurr import BoxTaskSpace, DiscreteTaskSpace, TaskError, UsageError, make_local_curriculum
from macurr.curricula import FixedSequence
from macurr.envs import apple_race_v0
from macurr.wrappers import (
    AECSeedTaskWrapper,
    AECSyncWrapper,
    AECTaskWrapper,
    OptionsTaskWrapper,
    PettingZooTaskWrapper,
    SeedTaskWrapper,
)
from tests.support.envs import RandomWalkEnv
from tests.wrappers.test_aec import Toll

Dual = namedtuple("Dual", ["agent", "env"])


class Heard(Toll):
    """Remembers what it was reset with."""

    def __init__(self):
        super().__init__({"a": 2, "b": 2})
        self.heard = []

    def reset(self, seed=None, options=None):
        self.heard.append((seed, options))
        super().reset(seed, options)


class Longer(AECTaskWrapper):
    """The task is how many turns "a" has."""

    def change_task(self, task):
        self.unwrapped.turns = {"a": task, "b": 1}


def test_the_task_is_the_seed():
    env = AECSeedTaskWrapper(Heard(), 10)
    assert env.task_space == DiscreteTaskSpace(10)
    assert env.task is None
    env.reset(options={"task": 7, "fog": 1, "task_info": {"x": 1.0}})
    env.reset(new_task=Dual(3, 5))
    env.reset(seed=4)
    assert env.unwrapped.heard == [(7, {"fog": 1}), (5, None), (4, None)]
    assert env.task == 5, "an episode without a task leaves the last one"
    for task in (-1, 0.5, "x"):
        with pytest.raises(TaskError, match="whole number"):
            env.reset(new_task=task)


def test_a_task_of_ones_own_is_there_before_the_reset():
    env = Longer(Heard(), DiscreteTaskSpace([1, 2, 3]))
    env.reset(options={"task": 3})
    assert (env.task, env.unwrapped.left["a"]) == (3, 3)
    with pytest.raises(UsageError, match="does not define change_task"):
        AECTaskWrapper(Heard()).reset(new_task=1)


def test_levels_come_from_the_curriculum_and_play_on_the_seed():
    def boards(env):
        seen = []
        for _ in range(3):
            env.reset()
            seen.append(env.observe(env.agent_selection).tolist())
            while env.agents:
                over = env.terminations[env.agent_selection] or env.truncations[env.agent_selection]
                env.step(None if over else 0)
        return seen

    def make():
        return AECSeedTaskWrapper(parallel_to_aec(apple_race_v0.parallel_env(max_cycles=5)), 50)

    levels = FixedSequence(DiscreteTaskSpace(50), [11, 4, 11])
    with make_local_curriculum(levels) as curriculum:
        env = AECSyncWrapper(make(), curriculum.components, buffer_size=0)
        first, second, third = boards(env)
        assert curriculum.metrics()["sync/episodes"] == 3
    assert first == third != second
    plain = apple_race_v0.parallel_env(max_cycles=5)
    assert plain.reset(seed=11)[0]["player_0"].tolist() == first


def test_pettingzoos_own_test_passes_and_copies_keep_the_space():
    env = AECSeedTaskWrapper(parallel_to_aec(apple_race_v0.parallel_env(max_cycles=5)), 50)
    api_test(env, num_cycles=20)
    assert pickle.loads(pickle.dumps(env)).task_space == DiscreteTaskSpace(50)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (
            lambda: AECSeedTaskWrapper(RandomWalkEnv()),
            "needs a PettingZoo AECEnv; .* Use PettingZooTaskWrapper",
        ),
        (lambda: AECTaskWrapper("an env"), "needs a PettingZoo AECEnv; got 'an env'"),
        (
            lambda: AECSeedTaskWrapper(Heard(), BoxTaskSpace(0, 1)),
            "AECSeedTaskWrapper needs a DiscreteTaskSpace",
        ),
        (lambda: SeedTaskWrapper(Heard(), 5), "turn-based .* Use AECSeedTaskWrapper"),
        (lambda: OptionsTaskWrapper(Heard()), "OptionsTaskWrapper needs a PettingZoo ParallelEnv"),
        (lambda: PettingZooTaskWrapper(Heard()), "AECTaskWrapper"),
    ],
)
def test_the_wrong_kind_of_environment_is_sent_to_the_right_wrapper(make, match):
    with pytest.raises(UsageError, match=match):
        make()

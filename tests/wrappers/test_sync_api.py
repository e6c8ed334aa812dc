"""PettingZoo's own tests pass through every wrapper, over every transport."""

import numpy as np
import pytest
from mpe2 import simple_tag_v3
from pettingzoo.test import parallel_api_test, parallel_seed_test

from macurr import DictTaskSpace, DiscreteTaskSpace, make_local_curriculum, make_multiprocessing_curriculum
from macurr.curricula import Constant, DomainRandomization
from macurr.envs import apple_race_v0
from macurr.wrappers import (
    OptionsTaskWrapper,
    PettingZooSyncWrapper,
    PettingZooTaskWrapper,
    ReinitTaskWrapper,
    SeedTaskWrapper,
)
from tests.support.envs import RandomWalkEnv

TRANSPORTS = {"local": make_local_curriculum, "process": make_multiprocessing_curriculum}


class Settable(PettingZooTaskWrapper):
    """A task that changes nothing."""

    def change_task(self, task):
        pass

    def task_completion(self, infos):
        return dict.fromkeys(infos, 0.5)


WRAPPERS = {
    "apple race by seed": lambda: SeedTaskWrapper(apple_race_v0.parallel_env(), 100),
    "simple tag by seed": lambda: SeedTaskWrapper(simple_tag_v3.parallel_env(max_cycles=20), 100),
    "no task wrapper": RandomWalkEnv,
    "seed": lambda: SeedTaskWrapper(RandomWalkEnv(), 100),
    "options": lambda: OptionsTaskWrapper(RandomWalkEnv(), DictTaskSpace({"level": DiscreteTaskSpace(9)})),
    "reinit": lambda: ReinitTaskWrapper(lambda n: RandomWalkEnv(length=2 + n), DiscreteTaskSpace(9), 0),
    "subclass": lambda: Settable(RandomWalkEnv(), DiscreteTaskSpace(["low", "high"])),
}


@pytest.fixture(params=TRANSPORTS)
def make(request):
    """Makes wrapped environments, each with a curriculum of its own."""
    opened = []

    def wrapped(name, curriculum=DomainRandomization, **options):
        env = WRAPPERS[name]()
        space = getattr(env, "task_space", None) or DiscreteTaskSpace(50)
        opened.append(TRANSPORTS[request.param](curriculum(space, seed=3)))
        return PettingZooSyncWrapper(env, opened[-1].components, **options)

    yield wrapped
    for synced in opened:
        synced.close()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", WRAPPERS)
def test_parallel_api(make, name, capsys):
    env = make(name)
    parallel_api_test(env, num_cycles=50)
    env.close()
    assert "Passed" in capsys.readouterr().out


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", WRAPPERS)
def test_parallel_seed(make, name):
    parallel_seed_test(lambda: make(name), num_cycles=50)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["apple race by seed", "no task wrapper"])
def test_parallel_seed_with_one_task(make, name):
    parallel_seed_test(lambda: make(name, lambda space, seed: Constant(space, 7, seed=seed)), num_cycles=50)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("buffer_size", [0, 1, 3])
def test_equal_curricula_give_equal_runs(make, buffer_size):
    runs = []
    for _ in range(2):
        env = make("apple race by seed", buffer_size=buffer_size)
        rng = np.random.default_rng(0)
        tasks, returns = [], []
        for _ in range(3):
            env.reset()
            tasks.append(env.task)
            while env.agents:
                _, rewards, *_ = env.step({agent: int(rng.integers(5)) for agent in env.agents})
                returns.append(rewards)
        env.close()
        runs.append((tasks, returns))
    assert runs[0] == runs[1]
    assert len(set(runs[0][0])) > 1

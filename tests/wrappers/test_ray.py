"""Environments of every kind under a curriculum that they find by its name on a Ray cluster."""

import itertools
import multiprocessing

import gymnasium
import numpy as np
import pytest
import ray
from mpe2 import simple_tag_v3
from pettingzoo.classic.tictactoe import tictactoe
from pettingzoo.test import parallel_api_test
from supersuit import concat_vec_envs_v1, pettingzoo_env_to_vec_env_v1

from macurr import CurriculumLost, UsageError, make_ray_curriculum
from macurr.curricula import PrioritizedLevelReplay
from macurr.envs import apple_race_v0
from macurr.spaces import DiscreteTaskSpace
from macurr.wrappers import (
    AECSyncWrapper,
    GymnasiumSyncWrapper,
    MultiagentSharedCurriculumWrapper,
    PettingZooSyncWrapper,
    RaySyncWrapper,
    SeedTaskWrapper,
)
from tests.support.ledger import Ledger, finished
from tests.support.scripted import LadderEnv, RaggedEnv

pytestmark = [
    pytest.mark.xdist_group("ray"),
    pytest.mark.timeout(120),
    pytest.mark.usefixtures("ray_on_two_cpus"),
]
NAMES = map("wrapped-{}".format, itertools.count())


def ledger_of(synced):
    """The curriculum itself, which is in this process again once it has been closed."""
    return synced.host._curriculum


def apple_race():
    return SeedTaskWrapper(apple_race_v0.parallel_env(size=(5, 7), max_cycles=20), 10_000)


def simple_tag():
    return SeedTaskWrapper(simple_tag_v3.parallel_env(num_adversaries=2, max_cycles=7), 10_000)


def play_parallel(env, episodes):
    rng, totals = np.random.default_rng(0), []
    for _ in range(episodes):
        env.reset()
        total = dict.fromkeys(env.possible_agents, 0.0)
        while env.agents:
            actions = {agent: int(rng.integers(env.action_space(agent).n)) for agent in env.agents}
            for agent, reward in env.step(actions)[1].items():
                total[agent] += float(reward)
        totals.append(total)
    return totals


def play_turns(env, episodes):
    totals = []
    for _ in range(episodes):
        env.reset()
        total = dict.fromkeys(env.possible_agents, 0.0)
        for agent in env.agent_iter():
            seen, reward, terminated, truncated, _ = env.last()
            total[agent] += reward
            move = None if terminated or truncated else int(np.flatnonzero(seen["action_mask"])[0])
            env.step(move)
        totals.append(total)
    return totals


def play_alone(env, episodes):
    totals = []
    for _ in range(episodes):
        env.reset()
        total, over = 0.0, False
        while not over:
            _, reward, terminated, truncated, _ = env.step(0)
            total, over = total + float(reward), terminated or truncated
        totals.append(total)
    return totals


def play_there(make, play, name, episodes):
    """What is done in a process of Ray's: the class of the wrapper, and the returns of its episodes."""
    env = RaySyncWrapper(make(), name, batch_size=4)
    totals = play(env, episodes)
    env.close()
    return type(env).__name__, totals


KINDS = {
    "apple race": (apple_race, play_parallel, PettingZooSyncWrapper),
    "simple tag": (simple_tag, play_parallel, PettingZooSyncWrapper),
    "ragged": (RaggedEnv, play_parallel, PettingZooSyncWrapper),
    "tic-tac-toe": (tictactoe.env, play_turns, AECSyncWrapper),
    "ladder": (LadderEnv, play_alone, GymnasiumSyncWrapper),
}


def test_every_kind_of_environment_tells_the_truth_from_another_process():
    task = ray.remote(num_cpus=0.4)(play_there)
    with make_ray_curriculum(Ledger(), "curriculum") as one:  # the name that is used if none is given
        env = RaySyncWrapper(apple_race())  # kept: an environment that is let go takes its leave
        env.reset()
        assert one.metrics()["sync/envs"] == 1
        env.close()
    synced = {kind: make_ray_curriculum(Ledger(), next(NAMES)) for kind in KINDS}
    running = [task.remote(*KINDS[kind][:2], synced[kind].components.actor_name, 3) for kind in KINDS]
    for kind, (wrapper, totals) in zip(KINDS, ray.get(running), strict=True):
        synced[kind].close()
        assert wrapper == KINDS[kind][2].__name__
        ledger = ledger_of(synced[kind])
        episodes = finished(ledger.told[0])
        assert [episode.result.episode_return for episode in episodes] == [
            pytest.approx(total, abs=1e-6) for total in totals
        ]
        assert sorted([e.result.task for e in episodes] + ledger.aborted()) == list(range(ledger.drawn))


def test_the_wrapper_is_that_of_the_environments_kind():
    for make, _, wrapper in KINDS.values():
        assert isinstance(RaySyncWrapper(make(), "nobody"), wrapper)
    with pytest.raises(UsageError, match="RaySyncWrapper needs"):
        RaySyncWrapper("env")
    with pytest.raises(TypeError, match="nonsense"):
        RaySyncWrapper(apple_race(), nonsense=1)
    with pytest.raises(CurriculumLost, match="There is no curriculum named 'nobody'"):
        RaySyncWrapper(apple_race(), "nobody").reset()
    with pytest.raises(CurriculumLost, match="'elsewhere'"):
        RaySyncWrapper(apple_race(), "nobody", namespace="elsewhere").reset()


def test_pettingzoos_own_test_passes():
    with make_ray_curriculum(Ledger(), next(NAMES)) as synced:
        env = RaySyncWrapper(simple_tag(), synced.components.actor_name, info_keys=False)
        parallel_api_test(env, num_cycles=60)
        env.close()


@pytest.fixture
def spawning():
    """SuperSuit starts its processes by the default method, and a fork does not do beside Ray."""
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method("spawn", force=True)
    yield
    multiprocessing.set_start_method(before, force=True)


def test_a_supersuit_vector_in_processes_of_its_own(spawning):
    synced = make_ray_curriculum(Ledger(fields=("rewards", "dones")), next(NAMES))
    env = RaySyncWrapper(RaggedEnv(together=True), synced.components.actor_name, batch_size=2)
    vector = concat_vec_envs_v1(pettingzoo_env_to_vec_env_v1(env), 4, num_cpus=2, base_class="gymnasium")
    vector.reset(seed=1)
    actions = np.zeros(vector.num_envs, np.int64)
    ends = 0
    while ends < 8:
        _, _, terminations, truncations, _ = vector.step(actions)
        ends += int((terminations | truncations).reshape(4, -1).all(axis=1).sum())
    metrics = synced.metrics()
    vector.close()
    synced.close()
    ledger = ledger_of(synced)
    assert metrics["sync/workers"] == 2
    assert sorted(ledger.specs) == [0, 1, 2, 3]
    episodes = [episode for told in ledger.told.values() for episode in finished(told)]
    bare = RaggedEnv(together=True)
    for episode in episodes:
        expected = play_task(bare, episode.result.task)
        assert episode.result.episode_return == pytest.approx(expected)
    assert len(episodes) == ends


def play_task(env, task):
    env.reset(options={"task": task})
    total = dict.fromkeys(env.possible_agents, 0.0)
    while env.agents:
        for agent, reward in env.step(dict.fromkeys(env.agents, 0))[1].items():
            total[agent] += float(reward)
    return total


def test_gymnasiums_vector_in_processes_of_its_own():
    synced = make_ray_curriculum(Ledger(fields=()), next(NAMES))
    env = RaySyncWrapper(LadderEnv(), synced.components.actor_name)
    vector = gymnasium.vector.AsyncVectorEnv([lambda: env] * 2, context="spawn")
    vector.reset(seed=1)
    ends = 0
    while ends < 6:
        _, _, terminations, truncations, _ = vector.step(np.zeros(2, np.int64))
        ends += int((terminations | truncations).sum())
    vector.close()
    synced.close()
    ledger = ledger_of(synced)
    assert sorted(ledger.specs) == [0, 1]
    assert sum(len(finished(told)) for told in ledger.told.values()) == ends


def test_levels_are_replayed_in_other_processes_by_the_scores_of_this_one():
    levels = PrioritizedLevelReplay(DiscreteTaskSpace(20), strategy="one_step_td_error", seed=0)
    curriculum = MultiagentSharedCurriculumWrapper(levels, RaggedEnv().possible_agents)
    with make_ray_curriculum(curriculum, next(NAMES)) as synced:
        task = ray.remote(num_cpus=0.4)(play_there)
        name = synced.components.actor_name
        ray.get([task.remote(RaggedEnv, play_parallel, name, 5) for _ in range(2)])
        synced.update_on_demand({"tasks": np.arange(20), "scores": np.linspace(0, 1, 20)})
        distribution = synced.distribution()
        assert distribution.argmax() == 19
        assert synced.metrics()["sync/episodes"] == 10

"""The wrappers for several agents behind real transports and environments whose agents die at different times."""

import multiprocessing

import numpy as np
import pytest
from mpe2 import simple_tag_v3

from macurr import DiscreteTaskSpace, make_local_curriculum, make_multiprocessing_curriculum
from macurr.curricula import DomainRandomization, PrioritizedFictitiousSelfPlay, PrioritizedLevelReplay
from macurr.evaluator import FunctionEvaluator
from macurr.opponents import AgentPool
from macurr.testing import TraceCurriculum
from macurr.wrappers import DualCurriculumWrapper as Dual
from macurr.wrappers import MultiagentIndependentCurriculumWrapper as Independent
from macurr.wrappers import MultiagentSharedCurriculumWrapper as Shared
from macurr.wrappers import PettingZooSyncWrapper, SeedTaskWrapper
from tests.support.ragged import LIVES, RaggedEnv, play

ABC = ("a", "b", "c")
STEPS = frozenset({"rewards", "dones", "observations", "progress"})


@pytest.fixture(params=[make_local_curriculum, make_multiprocessing_curriculum])
def serve(request):
    return request.param


def heard(inner, kind):
    return [what for name, what in inner.calls if name == kind]


def returns_to_go(agent, level):
    """The mean over an agent's life of what it is still paid, discounted by 1."""
    life, reward = LIVES[agent], ABC.index(agent) + 1 + level
    return np.mean([reward * (life - t) for t in range(life)])


@pytest.mark.parametrize("batch_size", [1, 3, 128])
def test_every_agent_is_scored_on_its_own_life(serve, batch_size):
    """With values of 0 and no discount, value_l1 is the mean return-to-go; alpha weighs the agents as they die."""
    levels = PrioritizedLevelReplay(
        DiscreteTaskSpace(4),
        strategy="value_l1",
        gamma=1.0,
        gae_lambda=1.0,
        alpha=0.5,
        evaluator=FunctionEvaluator(values=lambda seen: np.zeros(len(seen))),
        record_stats=True,
        seed=0,
    )
    with serve(Shared(levels)) as curriculum:
        env = PettingZooSyncWrapper(RaggedEnv(), curriculum.components, batch_size=batch_size, buffer_size=0)
        play(env, 4)
    for level in range(4):
        expected = 0.0
        for agent in ("a", "c", "b"):
            expected = 0.5 * expected + 0.5 * returns_to_go(agent, level)
        assert levels.scores[level] == pytest.approx(expected)
        total = np.mean([LIVES[agent] * (ABC.index(agent) + 1 + level) for agent in ABC])
        assert (levels.stats.task(level).count, levels.stats.task(level).mean) == (3, pytest.approx(total))


@pytest.mark.parametrize("batch_size", [1, 2, 128])
def test_streams_over_the_wire(serve, batch_size):
    inner = TraceCurriculum(DiscreteTaskSpace(5), fields=STEPS, single_agent=True)
    with serve(Shared(inner)) as curriculum:
        env = PettingZooSyncWrapper(
            RaggedEnv(), curriculum.components, batch_size=batch_size, learners=["c", "a"]
        )
        play(env, 3)
    for stream, agent in ((0, "a"), (2, "c")):
        for level in range(3):
            own = [b for b in heard(inner, "steps") if (b.env_id, b.task) == (stream, level)]
            rewards = np.concatenate([b.rewards[:, 0] for b in own])
            assert rewards.tolist() == [ABC.index(agent) + 1 + level] * LIVES[agent]
            assert np.concatenate([b.terminations[:, 0] for b in own]).tolist() == [False] * (
                LIVES[agent] - 1
            ) + [True]
            assert np.concatenate([b.observations[agent][:, 0] for b in own]).tolist() == list(
                range(LIVES[agent])
            )
            assert own[0].starts_episode
            assert own[-1].ends_episode
            assert own[-1].final_observations[agent][0] == LIVES[agent]
    assert {b.env_id for b in heard(inner, "steps")} == {0, 2}
    assert heard(inner, "unregister") == [2, 0]
    last = {(p.env_id, p.task): p.progress for p in heard(inner, "progress")}
    assert last == {(stream, level): 1.0 for stream in (0, 2) for level in range(3)}


def test_a_task_for_each_agent(serve):
    curricula = {agent: TraceCurriculum(DiscreteTaskSpace(9), single_agent=True) for agent in ABC}
    with serve(Independent(curricula)) as curriculum:
        env = PettingZooSyncWrapper(RaggedEnv(), curriculum.components)
        _, infos = env.reset()
        assert env.unwrapped.task == {"a": 0, "b": 0, "c": 0}
        assert {agent: info["task"] for agent, info in infos.items()} == {"a": 0, "b": 0, "c": 0}
        play(env, 3)
    for i, agent in enumerate(ABC):
        results = [(r.task, r.env_id, r.episode_return) for r in heard(curricula[agent], "episode")]
        assert results == [(level, 0, LIVES[agent] * (i + 1.0 + level)) for level in range(3)]


def test_a_team_shares_and_an_opponent_stands_apart(serve):
    """A dual of an independent of groups; the environment takes the env part by agent."""
    red = TraceCurriculum(DiscreteTaskSpace(9), single_agent=True)
    blue = TraceCurriculum(DiscreteTaskSpace(9), single_agent=True)
    opponents = TraceCurriculum(DiscreteTaskSpace(3))
    levels = Independent({"red": red, "blue": blue}, ABC, groups={"red": ("a", "c"), "blue": ("b",)})
    with serve(Dual(levels, opponents)) as curriculum:
        env = PettingZooSyncWrapper(LevelsOfAgents(), curriculum.components, buffer_size=0)
        play(env, 2)
        _, infos = env.reset()
        assert infos["a"]["task"].tolist() == [2, 4, 2, 5]
        env.close()
    assert [(r.env_id, r.task, r.episode_return) for r in heard(red, "episode")] == [
        (0, 0, LIVES["a"] * 1.0),
        (1, 1, LIVES["c"] * 4.0),
        (0, 2, LIVES["a"] * 3.0),
        (1, 3, LIVES["c"] * 6.0),
    ]
    assert [r.episode_return for r in heard(blue, "episode")] == [LIVES["b"] * 2.0, LIVES["b"] * 3.0]
    assert [r.task for r in heard(opponents, "episode")] == [0, 1]
    assert heard(opponents, "episode")[0].episode_return == {"a": 2.0, "b": 8.0, "c": 12.0}


class LevelsOfAgents(RaggedEnv):
    """Plays the env part of a dual task."""

    def reset(self, seed=None, options=None):
        return super().reset(options={"task": options["task"].env})


def test_a_joint_policy(serve):
    inner = TraceCurriculum(DiscreteTaskSpace(5), fields=frozenset({"rewards", "dones"}), single_agent=True)
    with serve(Shared(inner, joint_policy=True, reduce="sum")) as curriculum:
        env = PettingZooSyncWrapper(RaggedEnv(), curriculum.components, batch_size=2)
        play(env, 2)
    steps = [b for b in heard(inner, "steps") if b.task == 0]
    assert np.concatenate([b.rewards[:, 0] for b in steps]).tolist() == [6.0, 6.0, 5.0, 2.0]
    assert [b.ends_episode for b in steps] == [False] * (len(steps) - 1) + [True]
    assert bool(steps[-1].truncations[-1, 0]) is True
    assert [(r.env_id, r.episode_return) for r in heard(inner, "episode")] == [(0, 19.0), (0, 28.0)]


def test_an_aborted_episode_is_aborted_for_every_stream(serve):
    inner = TraceCurriculum(DiscreteTaskSpace(5), single_agent=True)
    with serve(Shared(inner)) as curriculum:
        env = PettingZooSyncWrapper(RaggedEnv(), curriculum.components, buffer_size=0)
        env.reset()
        env.step(dict.fromkeys(env.agents, 0))
        play(env, 1)
    assert [(x.task, x.env_id) for x in heard(inner, "abort")] == [(0, stream) for stream in range(3)]
    assert [r.task for r in heard(inner, "episode")] == [1, 1, 1]


def tag():
    return SeedTaskWrapper(
        simple_tag_v3.parallel_env(num_good=1, num_adversaries=1, num_obstacles=1, max_cycles=5), 50
    )


def self_play(path):
    pool = AgentPool(path)
    for i in range(2):
        pool.add({"w": np.full(1, float(i))})
    return PrioritizedFictitiousSelfPlay(pool, seed=1)


def test_levels_and_opponents_on_an_environment_of_others(serve, tmp_path):
    """The prey is played by snapshots: the predator alone teaches the levels, and its returns decide the games."""
    levels = PrioritizedLevelReplay(
        DiscreteTaskSpace(50), strategy="learnability", rho=0.0, record_stats=True, seed=0
    )
    opponents = self_play(tmp_path / "pool")
    with serve(Dual(levels, opponents)) as curriculum:
        env = PettingZooSyncWrapper(tag(), curriculum.components, learners=["adversary_0"])
        play(env, 6)
        metrics = curriculum.metrics()
    assert levels.stats.overall.count == 6, "one result per episode: the prey is frozen"
    assert opponents.payoffs.games("learner", [0, 1]).sum() > 0
    assert metrics["agent/opponents_met"] >= 1
    assert 0 < metrics["env/seen_fraction"] <= 6 / 50


def test_joint_levels_on_an_environment_of_others(serve, tmp_path):
    def make(rng):
        return PrioritizedLevelReplay(DiscreteTaskSpace(50), rho=0.0, seed=rng)

    opponents = self_play(tmp_path / "pool")
    with serve(Dual(make, opponents, joint=True, trials=1, seed=0)) as curriculum:
        env = PettingZooSyncWrapper(tag(), curriculum.components, learners=["adversary_0"], buffer_size=0)
        first = [played(env) for _ in range(2)]
        curriculum.update_on_demand({"tasks": first, "scores": [0.1, 0.9]})
        env.close()
        metrics = curriculum.metrics()
    assert [task.agent for task in first] == [0, 1]
    assert metrics["env/regret_max"] == pytest.approx(0.9)
    assert metrics["env/opponents_on_trial"] == 0


def played(env):
    env.reset()
    task = env.task
    while env.agents:
        env.step(dict.fromkeys(env.agents, 0))
    return task


def test_workers_have_streams_of_their_own():
    """Two processes: env ids 0 and 1 become streams 0 to 5, whoever comes first."""
    inner = TraceCurriculum(DiscreteTaskSpace(100), fields=frozenset({"rewards", "dones"}), single_agent=True)
    opponents = DomainRandomization(DiscreteTaskSpace(3), seed=0)
    with make_multiprocessing_curriculum(Dual(inner, opponents)) as curriculum:
        context = multiprocessing.get_context("spawn")
        arguments = (curriculum.components, 3)
        workers = [context.Process(target=play_levels, args=arguments) for _ in range(2)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
            assert worker.exitcode == 0
    results = heard(inner, "episode")
    assert sorted({r.env_id for r in results}) == list(range(6))
    assert len(results) == 2 * 3 * 3
    for r in results:
        agent = ABC[r.env_id % 3]
        assert r.episode_return == LIVES[agent] * (ABC.index(agent) + 1.0 + r.task)


def play_levels(components, episodes):
    play(PettingZooSyncWrapper(LevelsOfAgents(), components), episodes)

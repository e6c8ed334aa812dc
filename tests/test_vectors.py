"""Vectors of environments: whatever wraps and steps them, the curriculum is told the truth, and in order."""

from dataclasses import dataclass

import gymnasium
import numpy as np
import pytest
from mpe2 import simple_speaker_listener_v4, simple_tag_v3

# One by one: the module itself refuses to be looked into, as the collection of doctests does.
from supersuit import (
    agent_indicator_v0,
    black_death_v3,
    concat_vec_envs_v1,
    frame_stack_v1,
    pad_action_space_v0,
    pad_observations_v0,
    pettingzoo_env_to_vec_env_v1,
)

from macurr import make_local_curriculum, make_multiprocessing_curriculum
from macurr.envs import apple_race_v0
from macurr.wrappers import GymnasiumSyncWrapper, PettingZooSyncWrapper, SeedTaskWrapper
from tests.support.ledger import Ledger, finished
from tests.support.scripted import LadderEnv, RaggedEnv
from tests.support.scripts import ROOT, assert_succeeded, run_python

# From Python 3.12 on, forking beside any other thread warns; that of the test runner is enough.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

AutoresetMode = getattr(gymnasium.vector, "AutoresetMode", None)  # Gymnasium 1.0 has one mode, without a name
MODES = ["NEXT_STEP"] if AutoresetMode is None else [mode.name for mode in AutoresetMode]


# --- PettingZoo through SuperSuit --------------------------------------------------------------------------


@dataclass(frozen=True)
class Truth:
    """What an episode on one task is, played on the bare environment."""

    returns: dict
    length: int
    terminated: dict
    truncated: dict
    last: dict


def replay(env, task, moves):
    """Play a task on a bare environment, every agent always making its own move."""
    seen, _ = env.reset(options={"task": task})
    last = dict(seen)
    returns, ends = dict.fromkeys(env.possible_agents, 0.0), ({}, {})
    length = 0
    while env.agents:
        seen, rewards, terminations, truncations, _ = env.step({a: moves[a] for a in env.agents})
        length += 1
        last.update({agent: np.array(what) for agent, what in seen.items()})
        for agent, reward in rewards.items():
            returns[agent] += float(reward)
        ends[0].update(terminations)
        ends[1].update(truncations)
    return Truth(returns, length, *ends, last)


def assert_true(episode, truth):
    """The result, the steps and the endings of one episode are those of the bare environment."""
    result, batches = episode.result, episode.batches
    assert result.length == truth.length
    assert result.episode_return == pytest.approx(truth.returns, abs=1e-6)
    for agent in truth.returns:
        own = [batch.agent(agent) for batch in batches]
        total = sum(float(batch.rewards.sum(dtype=np.float64)) for batch in own)
        assert total == pytest.approx(truth.returns[agent], abs=1e-4)
        flags = [
            np.concatenate([getattr(b, name)[:, 0] for b in own]) for name in ("terminations", "truncations")
        ]
        assert (flags[0][-1], flags[1][-1]) == (truth.terminated[agent], truth.truncated[agent])
        assert not any(flag[:-1].any() for flag in flags)
        np.testing.assert_array_equal(batches[-1].final_observations[agent], truth.last[agent])


def flat(infos, vector):
    """The infos by column: with processes, SuperSuit's reset gives a list of pairs for each of them."""
    if not (infos and isinstance(infos[0], list)):
        return infos
    found = {
        start + i: info for start, part in zip(vector.idx_starts, infos, strict=False) for i, info in part
    }
    return [found[column] for column in range(vector.num_envs)]


class OneFlag:
    """The vector that stable-baselines3 gets, under Gymnasium's calls: one flag for both ends, and no seed."""

    def __init__(self, vector):
        self.inner, self.num_envs, self.close = vector, vector.num_envs, vector.close
        self.idx_starts = getattr(vector.venv, "idx_starts", None)

    def reset(self, seed):
        return self.inner.reset(), self.inner.reset_infos

    def step(self, actions):
        seen, rewards, dones, infos = self.inner.step(actions)
        return seen, rewards, dones, np.zeros_like(dones), infos


def drive(vector, moves, episodes):
    """Step until every environment has finished `episodes`.

    Returns:
        For each environment, the task that stood beside its first observations, and then for each finished
        episode the task beside the next observation and the agents' last observations.
    """
    width = len(moves)
    actions = np.array([*moves.values()] * (vector.num_envs // width))
    _, infos = vector.reset(seed=1)
    infos = flat(infos, vector)
    seen = [([infos[block]["task"]], []) for block in range(0, vector.num_envs, width)]
    while min(len(lasts) for _, lasts in seen) < episodes:
        _, _, terminations, truncations, infos = vector.step(actions)
        done = np.asarray(terminations, bool) | np.asarray(truncations, bool)
        for env, (tasks, lasts) in enumerate(seen):
            columns = range(env * width, (env + 1) * width)
            if done[list(columns)].all():
                assert len({infos[column]["task"] for column in columns}) == 1
                tasks.append(infos[columns[0]]["task"])
                lasts.append([infos[column]["terminal_observation"] for column in columns])
            else:
                assert all(infos[column].get("task", tasks[-1]) == tasks[-1] for column in columns)
    return seen


def plain(env):
    return env


def padded(env):
    return pad_observations_v0(env)


def everything(env):
    env = pad_action_space_v0(pad_observations_v0(env))
    return frame_stack_v1(agent_indicator_v0(env), 3)


def apple_race():
    return SeedTaskWrapper(apple_race_v0.parallel_env(size=(5, 7), max_cycles=20), 10_000)


def simple_tag():
    return SeedTaskWrapper(simple_tag_v3.parallel_env(num_adversaries=2, max_cycles=7), 10_000)


def speaker_listener():
    return SeedTaskWrapper(simple_speaker_listener_v4.parallel_env(max_cycles=7), 10_000)


def together():
    return RaggedEnv(together=True)


def reusing():
    return RaggedEnv(together=True, reuse=True)


MOVES = {
    "player_0": 4,
    "player_1": 1,
    "adversary_0": 1,
    "adversary_1": 2,
    "agent_0": 3,
    "speaker_0": 2,
    "listener_0": 4,
    "x": 0,
    "y": 0,
    "z": 0,
}

STACKS = {
    "apple race": (apple_race, plain),
    "simple tag, padded": (simple_tag, padded),
    "speaker and listener, padded, indicated, stacked": (speaker_listener, everything),
    "ragged, all alive": (together, plain),
    "ragged, all alive, buffers reused": (reusing, plain),
    "ragged, black death": (RaggedEnv, black_death_v3),
}


VECTORS = [("gymnasium", cpus, batch_size) for cpus in (0, 1, 2) for batch_size in (1, 4)]
VECTORS += [("stable_baselines3", 0, 4), ("stable_baselines3", 2, 1)]


@pytest.mark.parametrize(("base_class", "num_cpus", "batch_size"), VECTORS)
@pytest.mark.parametrize("stack", STACKS)
def test_supersuit_vector_tells_the_curriculum_the_truth(stack, base_class, num_cpus, batch_size):
    make, wrap = STACKS[stack]
    moves = {agent: MOVES[agent] for agent in make().possible_agents}
    curriculum = Ledger()
    # Served only once the workers are forked: a process with one thread forks safely.
    synced = make_multiprocessing_curriculum(curriculum, start=False)
    env = wrap(PettingZooSyncWrapper(make(), synced.components, batch_size=batch_size))
    vector = concat_vec_envs_v1(pettingzoo_env_to_vec_env_v1(env), 3, num_cpus, base_class=base_class)
    if base_class == "stable_baselines3":
        vector = OneFlag(vector)
    try:
        synced.start()
        seen = drive(vector, moves, episodes=3)
    finally:
        vector.close()
        synced.close()
    assert sorted(curriculum.specs) == [0, 1, 2]
    bare = make()
    played = {env_id: finished(curriculum.told[env_id]) for env_id in curriculum.specs}
    for tasks, lasts in seen:
        # Ids go by the order of the first resets, which processes may change: tasks say who is who.
        (episodes,) = [own for own in played.values() if own[0].result.task == tasks[0]]
        # black_death_v3 tells the learner of an end one step late, so the last episode may be over as well.
        assert [episode.result.task for episode in episodes] in (tasks[:-1], tasks)
        for episode, last in zip(episodes, lasts, strict=False):
            truth = replay(bare, episode.result.task, moves)
            assert_true(episode, truth)
            if (
                wrap is plain and make is not reusing
            ):  # SuperSuit itself keeps no copy of the last observation
                np.testing.assert_array_equal(last, [truth.last[agent] for agent in moves])
    results = [episode.result.task for own in played.values() for episode in own]
    assert sorted(results + curriculum.aborted()) == list(range(curriculum.drawn))


def test_black_death_makes_the_learners_episode_a_step_longer_and_the_curriculums_not():
    # SuperSuit 3.11 notices the end one step late; should that be mended, the documentation has to be, too.
    curriculum = Ledger()
    with make_local_curriculum(curriculum) as synced:
        env = black_death_v3(PettingZooSyncWrapper(RaggedEnv(), synced.components, batch_size=1))
        env.reset()
        steps = 0
        while env.agents:
            env.step(dict.fromkeys(env.agents, 0))
            steps += 1
        env.close()
    (episode,) = finished(curriculum.told[0])
    assert episode.result.length == max(RaggedEnv().lives(0).values()) == steps - 1


def test_a_clone_is_an_environment_of_its_own_even_after_the_original_has_played():
    curriculum = Ledger()
    with make_local_curriculum(curriculum) as synced:
        original = PettingZooSyncWrapper(together(), synced.components)
        original.reset()
        original.step({})
        once = pettingzoo_env_to_vec_env_v1(
            original
        )  # kept: in Gymnasium 1.0 its end would close the original
        vector = concat_vec_envs_v1(once, 2)
        vector.reset()
        vector.close()
        assert original.step({})[1]["x"] == RaggedEnv().reward(0, "x", 2)
    assert sorted(curriculum.specs) == [0, 1, 2]


@pytest.mark.parametrize("num_cpus", [0, 2])
def test_worker_that_fails_loses_no_result_of_the_others(num_cpus):
    curriculum = Ledger()
    synced = make_multiprocessing_curriculum(curriculum, start=False)
    env = PettingZooSyncWrapper(Faulty(), synced.components)
    vector = concat_vec_envs_v1(pettingzoo_env_to_vec_env_v1(env), 2, num_cpus=num_cpus)
    try:
        synced.start()
        vector.reset()
        with pytest.raises(ZeroDivisionError):
            drive(vector, dict.fromkeys(RaggedEnv.possible_agents, 0), episodes=9)
    finally:
        vector.close()
        synced.close()
    played = [episode for told in curriculum.told.values() for episode in finished(told)]
    assert {episode.result.task for episode in played} | set(curriculum.aborted()) == set(
        range(curriculum.drawn)
    )
    for episode in played:
        assert_true(episode, replay(together(), episode.result.task, MOVES))


class Faulty(RaggedEnv):
    """Fails on task 4."""

    def __init__(self):
        super().__init__(together=True)

    def step(self, actions):
        return super().step(actions) if self.task != 4 else 1 / 0


# --- Gymnasium's own vectors -------------------------------------------------------------------------------


def ladder_vector(kind, mode, components, n=3):
    def make():
        return GymnasiumSyncWrapper(LadderEnv(), components, batch_size=2)

    options = {} if AutoresetMode is None else {"autoreset_mode": AutoresetMode[mode]}
    return kind([make] * n, **options)


def drive_ladders(vector, mode, steps):
    """Step; returns for each environment the tasks of its observations, without repetitions."""
    n = vector.num_envs
    seen, infos = vector.reset(seed=5)
    tasks = [[int(infos["task"][i])] for i in range(n)]
    over = np.zeros(n, bool)
    for _ in range(steps):
        if over.any() and mode == "DISABLED":
            seen, infos = vector.reset(options={"reset_mask": over.copy()})
            assert infos["_task"].tolist() == over.tolist()
            for i in np.flatnonzero(over):
                tasks[i].append(int(infos["task"][i]))
        before = over
        seen, _, terminated, truncated, infos = vector.step(np.zeros(n, np.int64))
        over = terminated | truncated
        # The task beside an observation is the one that it belongs to, in every mode.
        assert infos["task"].tolist() == seen[:, 0].tolist()
        for i in range(n):
            if mode == "SAME_STEP" and over[i]:
                final = infos["final_obs"][i]
                assert final.tolist() == [tasks[i][-1], LadderEnv.rungs(tasks[i][-1])]
                assert infos["final_info"]["task"][i] == tasks[i][-1]
                tasks[i].append(int(infos["task"][i]))
            elif mode == "NEXT_STEP" and before[i]:
                tasks[i].append(int(infos["task"][i]))  # the reset took this step
            assert infos["task"][i] == tasks[i][-1]
    return tasks


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", [gymnasium.vector.SyncVectorEnv, gymnasium.vector.AsyncVectorEnv])
def test_gymnasium_vector_tells_the_curriculum_the_truth(kind, mode):
    curriculum = Ledger()
    synced = make_multiprocessing_curriculum(curriculum, start=False)
    vector = ladder_vector(kind, mode, synced.components)
    try:
        synced.start()
        tasks = drive_ladders(vector, mode, 25)
    finally:
        vector.close()
        synced.close()
    assert sorted(curriculum.specs) == [0, 1, 2]
    results = []
    for told in curriculum.told.values():
        episodes = finished(told)
        own = [episode.result.task for episode in episodes]
        # The last task has been seen; whether its episode was over as well depends on the mode.
        assert any(own == seen[: len(own)] and len(seen) - len(own) in (0, 1) for seen in tasks)
        results += own
        for episode in episodes:
            task, last = episode.result.task, episode.batches[-1]
            rungs = LadderEnv.rungs(task)
            assert episode.result.length == rungs
            assert episode.result.episode_return == sum(LadderEnv.reward(task, t + 1) for t in range(rungs))
            assert (
                bool(last.terminations[-1, 0]) == LadderEnv.terminates(task) != bool(last.truncations[-1, 0])
            )
            assert last.final_observations["agent_0"].tolist() == [task, rungs]
    assert len(results) > 15
    assert sorted(results + curriculum.aborted()) == list(range(curriculum.drawn))


def test_table_in_the_documentation_is_what_running_it_gives():
    assert_succeeded(run_python([ROOT / "docs" / "tables" / "vectors.py", "--check"], cwd=ROOT))

"""Single-agent environments: plain values, whole episodes, and nothing else changed."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from macurr import (
    DiscreteTaskSpace,
    EpisodeAborted,
    EpisodeResult,
    TaskProgress,
    UsageError,
    make_local_curriculum,
)
from macurr.curricula import Constant, DomainRandomization
from macurr.wrappers import GymnasiumSyncWrapper, TaskWrapper
from tests.support.ledger import Ledger, finished
from tests.support.scripted import LadderEnv, RaggedEnv


@pytest.fixture
def connected():
    """Serves a ledger and connects an environment to it."""
    opened = []

    def connect(env, fields=("rewards", "dones", "observations"), **options):
        curriculum = Ledger(fields=fields)
        opened.append(make_local_curriculum(curriculum))
        return curriculum, GymnasiumSyncWrapper(env, opened[-1].components, **options)

    yield connect
    for synced in opened:
        synced.close()


def play(env, episodes):
    for _ in range(episodes):
        env.reset()
        over = False
        while not over:
            _, _, terminated, truncated, _ = env.step(0)
            over = terminated or truncated


@pytest.mark.filterwarnings(
    "ignore::UserWarning"
)  # that it is wrapped, and what the environments are warned of
@pytest.mark.parametrize("make", [LadderEnv, lambda: gymnasium.make("CartPole-v1")], ids=["ladder", "cart"])
def test_environment_checker_passes_through(make):
    with make_local_curriculum(Constant(DiscreteTaskSpace(3), 1)) as synced:
        env = GymnasiumSyncWrapper(make(), synced.components)
        check_env(env, skip_render_check=True)
        env.close()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_environment_checker_passes_while_tasks_change():
    # The checker wants equal infos after equal seeds, so they must not name the task.
    with make_local_curriculum(DomainRandomization(DiscreteTaskSpace(1000), seed=0)) as synced:
        env = GymnasiumSyncWrapper(gymnasium.make("CartPole-v1"), synced.components, info_keys=False)
        check_env(env, skip_render_check=True)
        assert synced.metrics()["sync/aborted_episodes"] > 0
        env.close()


@pytest.mark.parametrize("batch_size", [1, 2, 3, 128])
def test_results_and_steps_arrive_as_they_were(connected, batch_size):
    curriculum, env = connected(LadderEnv(), batch_size=batch_size)
    play(env, 6)
    episodes = finished(curriculum.told[0])
    assert len(episodes) == 6
    for task, episode in enumerate(episodes):
        rungs = LadderEnv.rungs(task)
        rewards = [LadderEnv.reward(task, t) for t in range(1, rungs + 1)]
        assert episode.result == EpisodeResult(task, 0, sum(rewards), rungs, 0.0)
        assert np.concatenate([batch.rewards[:, 0] for batch in episode.batches]).tolist() == rewards
        assert max(map(len, episode.batches)) == min(batch_size, rungs)
        last = episode.batches[-1]
        assert last.terminations[-1].tolist() == [task % 2 == 0]
        assert last.truncations[-1].tolist() == [task % 2 == 1]
        assert last.final_observations["agent_0"].tolist() == [task, rungs]
        seen = np.concatenate([batch.observations["agent_0"] for batch in episode.batches])
        assert seen.tolist() == [[task, t] for t in range(rungs)]


class Stepwise(Ledger):
    """Reads one step at a time, as single-agent curricula do."""

    def __init__(self):
        super().__init__()
        self.steps = []

    def update_on_step_batch(self, batch):
        super(Ledger, self).update_on_step_batch(batch)

    def update_on_step(self, *step, env_id=None):
        self.steps.append(step)


@pytest.mark.parametrize("batch_size", [1, 2, 128])
def test_curricula_get_plain_values(batch_size):
    curriculum = Stepwise()
    with make_local_curriculum(curriculum) as synced:
        play(GymnasiumSyncWrapper(LadderEnv(), synced.components, batch_size=batch_size), 1)
    tasks, seen, rewards, terminated, truncated, infos, progress = zip(*curriculum.steps, strict=True)
    assert (tasks, rewards) == ((0, 0), (0.25, 0.5))
    assert [s.tolist() for s in seen] == [[0, 1], [0, 2]]
    assert (terminated, truncated) == ((False, True), (False, False))
    assert (infos, progress) == (({}, {}), (None, None))


def test_finished_task_gives_way_to_another_in_mid_episode(connected):
    curriculum, env = connected(
        TaskLadder(LadderEnv(completion=True)), change_task_on_completion=True, batch_size=2
    )
    _, info = env.reset()
    tasks = [info["task"]]
    for _ in range(2 + 3 + 1):
        _, _, terminated, truncated, info = env.step(0)
        assert not terminated
        assert not truncated
        tasks.append(info["task"])
    env.close()
    # The info of the last step on a task still names it: the reward beside it was paid for that task.
    assert tasks == [0, 0, 0, 1, 1, 1, 2]
    told = curriculum.told[0]
    results = [message for message in told if isinstance(message, EpisodeResult)]
    assert results == [
        EpisodeResult(0, 0, 0.25 + 0.5, 2, 1.0),
        EpisodeResult(1, 0, 3 + 0.25 + 0.5 + 0.75, 3, 1.0),
    ]
    # Every step changed the progress, so each was sent at once.
    cuts = [(len(b), b.starts_episode, b.ends_episode) for e in finished(told) for b in e.batches]
    first, middle, last = (1, True, False), (1, False, False), (1, False, True)
    assert cuts == [first, last, first, middle, last]
    assert [m.progress for m in told if isinstance(m, TaskProgress)] == pytest.approx(
        [0.5, 1.0, 1 / 3, 2 / 3, 1.0, 0.25]
    )
    assert told[-1] in (EpisodeAborted(2, 0), EpisodeAborted(3, 0))


class TaskLadder(TaskWrapper):
    """Gives the ladder its task by `change_task`."""

    def change_task(self, task):
        self.env.unwrapped.change_task(task)


def test_task_seed_and_options_reach_the_environment(connected):
    _, env = connected(LadderEnv())
    _, info = env.reset(seed=7, options={"mine": 1})
    assert (env.unwrapped.seeds, env.unwrapped.options) == ([7], [{"mine": 1, "task": 0}])
    assert (info, env.task, env.env_id) == ({"task": 0}, 0, 0)
    _, silent = connected(LadderEnv(), info_keys=False)
    assert silent.reset()[1] == {}


def test_throw_away_resets_are_no_samples_and_a_broken_off_episode_goes_back(connected):
    curriculum, env = connected(LadderEnv(), buffer_size=0)
    for _ in range(3):
        env.reset()
    assert curriculum.drawn == 1
    env.step(0)
    env.reset()
    batch, aborted = curriculum.told[0]
    assert (len(batch), batch.ends_episode, aborted) == (1, False, EpisodeAborted(0, 0))


def test_misuse_is_explained(connected):
    with pytest.raises(UsageError, match="PettingZooSyncWrapper"):
        connected(RaggedEnv())
    with pytest.raises(UsageError, match="change_task"):
        connected(gymnasium.make("CartPole-v1"), change_task_on_completion=True)
    _, env = connected(LadderEnv())
    with pytest.raises(UsageError, match="reset"):
        env.step(0)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_spec_makes_another_environment_of_the_same_curriculum(connected):
    curriculum, env = connected(gymnasium.make("CartPole-v1"), buffer_size=0)
    again = env.spec.make()
    assert env.reset()[1]["task"] != again.reset()[1]["task"]
    assert (env.env_id, again.env_id, curriculum.drawn) == (0, 1, 2)
    again.close()

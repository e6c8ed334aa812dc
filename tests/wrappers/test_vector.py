"""Environments that are already batched."""

import numpy as np
import pytest

import macurr
from macurr.curricula import DomainRandomization
from macurr.wrappers import VectorSync


class Reader(DomainRandomization):
    """Keeps every step batch and episode."""

    def __init__(self, fields=("rewards", "dones")):
        super().__init__(macurr.DiscreteTaskSpace([f"level {i}" for i in range(20)]), seed=0)
        self.fields = frozenset(fields)
        self.batches, self.episodes, self.aborted = [], [], []

    @property
    def requires_step_updates(self):
        return bool(self.fields)

    @property
    def step_fields(self):
        return self.fields

    def update_on_step_batch(self, batch):
        self.batches.append(batch)

    def update_on_episode(self, episode_return, length, task, progress, env_id=None):
        super().update_on_episode(episode_return, length, task, progress, env_id)
        self.episodes.append((env_id, task, episode_return, length))

    def update_on_abort(self, task, env_id=None):
        self.aborted.append((env_id, task))


MAKERS = [macurr.make_local_curriculum, macurr.make_multiprocessing_curriculum]
NO = np.zeros((2, 2), bool)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("make", MAKERS)
def test_episodes_of_each_environment_arrive_with_their_own_task(make):
    reader = Reader()
    with make(reader) as curriculum:
        sync = VectorSync(curriculum.components, 2, ["a", "b"], batch_size=3, buffer_size=0)
        first = sync.reset()
        codes = list(sync.encoded_tasks)
        assert first == [f"level {code}" for code in codes]
        rewards = np.array([[1.0, -1.0], [0.5, 2.0]])
        assert sync.update_batch(rewards, NO, NO).tolist() == []
        # Agent a of environment 0 dies; its later rewards are not data.
        assert sync.update_batch(rewards, [[True, False], [False, False]], NO).tolist() == []
        assert sync.update_batch(rewards, NO, [[False, True], [False, False]]).tolist() == [0]
        assert sync.encoded_tasks[1] == codes[1]
        assert sync.update_batch(rewards, NO, [[False, False], [True, True]]).tolist() == [1]
        sync.close()
    assert reader.episodes == [
        (0, codes[0], {"a": 2.0, "b": -3.0}, 3),
        (1, codes[1], {"a": 2.0, "b": 8.0}, 4),
    ]
    of_one = [batch for batch in reader.batches if batch.env_id == 0]
    np.testing.assert_array_equal(of_one[0].active, [[True, True], [True, True], [False, True]])
    np.testing.assert_array_equal(of_one[0].rewards, [[1, -1], [1, -1], [0, -1]])
    np.testing.assert_array_equal(of_one[0].terminations, [[False, False], [True, False], [False, False]])
    assert (of_one[0].starts_episode, of_one[0].ends_episode) == (True, True)
    cut = [(len(b), b.starts_episode, b.ends_episode) for b in reader.batches if b.env_id == 1]
    assert cut == [(3, True, False), (1, False, True)]


@pytest.mark.parametrize("make", MAKERS)
def test_reset_aborts_what_is_under_way_and_only_that(make):
    reader = Reader()
    with make(reader) as curriculum:
        sync = VectorSync(curriculum.components, 2, ["a", "b"])
        sync.reset()
        codes = list(sync.encoded_tasks)
        sync.reset()  # nobody has moved: the same tasks
        assert sync.encoded_tasks == codes
        sync.update_batch(np.ones((2, 2)), NO, NO)
        sync.reset()
        assert all(len(batch) == 1 and not batch.ends_episode for batch in reader.batches)
        sync.close()
    assert sorted(reader.aborted[:2]) == [(0, codes[0]), (1, codes[1])]
    assert reader.episodes == []


def test_random_vectors_lose_no_step_and_no_reward():
    reader, rng = Reader(), np.random.default_rng(3)
    given, returns = np.zeros((8, 3)), 0.0
    with macurr.make_multiprocessing_curriculum(reader) as curriculum:
        sync = VectorSync(curriculum.components, 8, ["a", "b", "c"], batch_size=5)
        sync.reset()
        done = np.zeros((8, 3), bool)
        for _ in range(200):
            rewards, over = rng.normal(size=(8, 3)), rng.random((8, 3)) < 0.1
            returns += rewards[~done].sum()
            given += ~done
            ended = sync.update_batch(rewards, over, np.zeros_like(over))
            done |= over
            assert ended.tolist() == np.flatnonzero(done.all(axis=1)).tolist()
            done[ended] = False
        sync.reset()
        sync.close()
    assert sum(int(batch.active.sum()) for batch in reader.batches) == given.sum()
    assert sum(float(batch.rewards.sum()) for batch in reader.batches) == pytest.approx(returns, abs=1e-3)


def test_episode_only_curricula_get_no_steps():
    reader = Reader(fields=())
    curriculum = macurr.make_local_curriculum(reader)
    sync = VectorSync(curriculum.components, 1, ["a"])
    sync.reset()
    sync.update_batch([[1.0]], [[True]], [[False]])
    assert reader.batches == []
    assert len(reader.episodes) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[1.0]], [[False, False]], [[False, False]]), r"rewards has shape \(1, 1\)"),
        (([[1.0, np.nan]], [[False, False]], [[False, False]]), "not finite"),
    ],
)
def test_bad_arrays_are_refused_and_nothing_is_recorded(arguments, message):
    reader = Reader()
    curriculum = macurr.make_local_curriculum(reader)
    sync = VectorSync(curriculum.components, 1, ["a", "b"])
    sync.reset()
    with pytest.raises(macurr.TaskError, match=message):
        sync.update_batch(*arguments)
    sync.update_batch([[1.0, 2.0]], [[True, True]], [[False, False]])
    assert [episode[2:] for episode in reader.episodes] == [({"a": 1.0, "b": 2.0}, 1)]


def test_misuse_is_explained():
    curriculum = macurr.make_local_curriculum(Reader(fields=("rewards", "observations")))
    sync = VectorSync(curriculum.components, 1, ["a"])
    with pytest.raises(macurr.UsageError, match="reset"):
        sync.update_batch([[1.0]], [[True]], [[False]])
    with pytest.raises(macurr.UsageError, match="observations"):
        sync.reset()
    with pytest.raises(macurr.UsageError, match="num_envs"):
        VectorSync(curriculum.components, 0, ["a"])

"""Boxes on a schedule, and tasks that change in batches."""

import numpy as np
import pytest

from macurr import BoxTaskSpace, DiscreteTaskSpace, TaskError, UsageError
from macurr.curricula import (
    AnnealingBox,
    BatchedDomainRandomization,
    ExpandingBox,
    SyncedBatchedDomainRandomization,
)
from macurr.testing import CurriculumTests

SPACE = BoxTaskSpace([0.0, -10.0], [1.0, 10.0])


class TestAnnealing(CurriculumTests):
    def make(self, seed):
        return AnnealingBox(SPACE, [0, 0], [1, -10], 300, seed=seed)


class TestExpanding(CurriculumTests):
    def make(self, seed):
        return ExpandingBox(SPACE, ([0.5, 0], [0.5, 0]), 30, by="episodes", seed=seed)


class TestBatched(CurriculumTests):
    draws = 0  # the distribution is not that of independent draws: the first one settles the batch

    def make(self, seed):
        return BatchedDomainRandomization(DiscreteTaskSpace(5), 25, warmup_batches=1, seed=seed)


class TestBatchedBox(CurriculumTests):
    def make(self, seed):
        return BatchedDomainRandomization(SPACE, 25, seed=seed)


class TestSynced(CurriculumTests):
    draws = 0

    def make(self, seed):
        return SyncedBatchedDomainRandomization(DiscreteTaskSpace(5), seed=seed)

    def drive(self, curriculum, n, rng):
        super().drive(curriculum, n, rng)
        curriculum.update_on_demand({"new_batch": True})


def test_the_task_moves_in_a_straight_line_and_stops():
    curriculum = AnnealingBox(SPACE, [0, 10], [1, -10], 100)
    seen = []
    for length in (25, 25, 50, 1000):
        seen.append(curriculum.sample()[0].tolist())
        curriculum.update_on_episode(0.0, length, curriculum.sample()[0], 0.0)
    assert seen == [[0, 10], [0.25, 5], [0.5, 0], [1, -10]]
    assert curriculum.sample()[0].tolist() == [1, -10]


def test_the_box_grows():
    curriculum = ExpandingBox(SPACE, ([0.5, 0], [0.5, 0]), 4, by="episodes", seed=0)
    assert curriculum.sample()[0].tolist() == [0.5, 0]
    curriculum.update_on_episode(0.0, 99, curriculum.sample()[0], 0.0)
    low, high = curriculum.bounds
    assert (low.tolist(), high.tolist()) == ([0.375, -2.5], [0.625, 2.5])
    tasks = np.array(curriculum.sample(2000))
    assert (tasks >= low).all()
    assert (tasks <= high).all()
    np.testing.assert_allclose(tasks.mean(axis=0), [0.5, 0], atol=0.2)
    np.testing.assert_allclose(tasks.std(axis=0), (high - low) / 12**0.5, rtol=0.1)
    for _ in range(9):
        curriculum.update_on_episode(0.0, 99, curriculum.sample()[0], 0.0)
    assert curriculum.bounds[1].tolist() == [1, 10]


def test_options_out_of_range_are_refused():
    with pytest.raises(UsageError, match="BoxTaskSpace"):
        AnnealingBox(DiscreteTaskSpace(3), 0, 1, 10)
    with pytest.raises(UsageError, match="total"):
        AnnealingBox(SPACE, [0, 0], [1, 1], 0)
    with pytest.raises(UsageError, match="total"):
        AnnealingBox(SPACE, [0, 0], [1, 1], 10, by="hours")
    with pytest.raises(TaskError):
        AnnealingBox(SPACE, [0, 0], [2, 1], 10)
    with pytest.raises(UsageError, match="low <= high"):
        ExpandingBox(SPACE, ([0.5, 0], [0.4, 0]), 10)
    with pytest.raises(UsageError, match="batch_size"):
        BatchedDomainRandomization(SPACE, 0)


def test_a_batch_ends_when_its_own_steps_are_enough():
    space = DiscreteTaskSpace(1000)
    curriculum = BatchedDomainRandomization(space, 10, seed=0)
    (task,) = set(curriculum.sample(5))
    curriculum.update_on_episode(0.0, 9, task, 0.0)
    curriculum.update_on_episode(0.0, 9, (task + 1) % 1000, 0.0)  # of an earlier batch
    curriculum.update_on_abort(task)
    assert curriculum.sample() == [task]
    curriculum.update_on_episode(0.0, 1, task, 0.0)
    assert (curriculum.batches, curriculum.task) == (1, None)
    assert curriculum.sample() != [task]


def test_warm_up_batches_draw_anew_each_time():
    curriculum = BatchedDomainRandomization(DiscreteTaskSpace(1000), 10, warmup_batches=1, seed=0)
    tasks = curriculum.sample(5)
    assert len(set(tasks)) > 1
    curriculum.update_on_episode(0.0, 10, tasks[0], 0.0)
    assert len(set(curriculum.sample(5))) == 1


def test_a_batch_of_a_removed_task_is_over():
    space = DiscreteTaskSpace(2)
    curriculum = SyncedBatchedDomainRandomization(space, seed=0)
    task = curriculum.sample()[0]
    space.remove_task(task)
    assert curriculum.distribution()[1 - task] == 1.0
    assert curriculum.sample() == [1 - task]


def test_the_learner_ends_the_batch():
    curriculum = SyncedBatchedDomainRandomization(DiscreteTaskSpace(1000), seed=0)
    (task,) = set(curriculum.sample(5))
    curriculum.update_on_demand({"loss": 0.3})
    assert curriculum.sample() == [task]
    curriculum.update_on_demand({"new_batch": True})
    assert curriculum.sample() != [task]
    assert curriculum.metrics()["batches"] == 1

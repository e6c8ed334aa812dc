"""Curricula that do as they are told."""

import numpy as np
import pytest

from macurr import BoxTaskSpace, DiscreteTaskSpace, TaskError, UsageError
from macurr.curricula import FixedSequence, Manual, Noop
from macurr.testing import CurriculumTests


class TestManual(CurriculumTests):
    def make(self, seed):
        return Manual(DiscreteTaskSpace(5), [1, 3, 1], [1.0, 2.0, 1.0], seed=seed)

    def bad_demands(self, curriculum):
        yield {"tasks": [1, 9]}
        yield {"tasks": [1, 2], "weights": [1.0, np.nan]}
        yield {"tasks": []}


class TestManualBox(CurriculumTests):
    def make(self, seed):
        return Manual(BoxTaskSpace([0, 0], [1, 1]), [[0.5, 0.5], [0.25, 1.0]], seed=seed)


class TestFixedSequence(CurriculumTests):
    def make(self, seed):
        return FixedSequence(DiscreteTaskSpace(5), [4, 2, 2, 0], seed=seed)


class TestNoop(CurriculumTests):
    def make(self, seed):
        return Noop(DiscreteTaskSpace(5), seed=seed)


def test_weights_are_probabilities_and_change_on_demand():
    curriculum = Manual(DiscreteTaskSpace(4), [1, 3, 1], [1.0, 2.0, 1.0], seed=0)
    assert curriculum.distribution().tolist() == [0, 0.5, 0, 0.5]
    curriculum.update_on_demand({"tasks": [2], "loss": 0.1})
    assert curriculum.sample(3) == [2, 2, 2]
    curriculum.update_on_demand({"loss": 0.1})
    assert curriculum.sample() == [2]


def test_a_weight_of_0_is_never_drawn():
    curriculum = Manual(DiscreteTaskSpace(3), [0, 1, 2], [0.0, 1.0, 0.0], seed=0)
    assert set(curriculum.sample(200)) == {1}


def test_manual_leaves_removed_tasks_out():
    space = DiscreteTaskSpace(3)
    curriculum = Manual(space, [0, 2], seed=0)
    space.remove_task(2)
    assert curriculum.distribution().tolist() == [1, 0, 0]
    assert set(curriculum.sample(50)) == {0}
    space.remove_task(0)
    with pytest.raises(UsageError, match="removed"):
        curriculum.sample()


def test_a_sequence_begins_again_and_takes_back_what_was_aborted():
    curriculum = FixedSequence(DiscreteTaskSpace(9), [5, 3, 8])
    assert curriculum.sample(2) == [5, 3]
    curriculum.update_on_abort(3, env_id=0)
    assert curriculum.sample(3) == [3, 8, 5]
    assert curriculum.rounds == 1


def test_a_sequence_goes_on_without_removed_tasks():
    space = DiscreteTaskSpace(9)
    curriculum = FixedSequence(space, [5, 3])
    curriculum.sample()
    curriculum.update_on_abort(5)
    space.remove_task(5)
    assert curriculum.sample(3) == [3, 3, 3]
    space.remove_task(3)
    with pytest.raises(UsageError, match="removed"):
        curriculum.sample()


def test_noop_needs_a_task_where_there_is_no_first_one():
    with pytest.raises(UsageError, match="default task"):
        Noop(BoxTaskSpace(0, 1))
    assert Noop(BoxTaskSpace(0, 1), 0.5).sample() == [0.5]
    assert Noop(DiscreteTaskSpace(["a", "b"]), 1).sample(2) == [1, 1]


def test_a_sequence_needs_tasks_of_its_space():
    for tasks in ([], [0, 7]):
        with pytest.raises(TaskError):
            FixedSequence(DiscreteTaskSpace(3), tasks)

"""The baselines: one task for ever, and any task alike."""

import pytest

from macurr import BoxTaskSpace, DiscreteTaskSpace, TaskError, TupleTaskSpace
from macurr.curricula import Constant, DomainRandomization, Mixture
from macurr.testing import CurriculumTests


class TestUniform(CurriculumTests):
    def make(self, seed):
        return DomainRandomization(DiscreteTaskSpace(7), seed=seed, random_start_tasks=3, record_stats=True)


class TestUniformBox(CurriculumTests):
    def make(self, seed):
        return DomainRandomization(BoxTaskSpace([0, 0], [1, 2]), seed=seed)


class TestConstant(CurriculumTests):
    def make(self, seed):
        return Constant(DiscreteTaskSpace(7), 3, seed=seed)


class TestMixtureOfTuples(CurriculumTests):
    def make(self, seed):
        space = TupleTaskSpace([DiscreteTaskSpace(2), BoxTaskSpace(0, 1)], names=["agent", "env"])
        return Mixture([DomainRandomization(space, seed=seed), Constant(space, (1, 0.5))], seed=seed)


def test_another_constant():
    curriculum = Constant(DiscreteTaskSpace(3), 1)
    curriculum.set_task(2)
    assert curriculum.sample(2) == [2, 2]
    assert curriculum.distribution().tolist() == [0, 0, 1]
    with pytest.raises(TaskError):
        curriculum.set_task(3)
    assert curriculum.task == 2


def test_too_many_tasks_for_an_array():
    assert DomainRandomization(DiscreteTaskSpace(2**32)).distribution() is None

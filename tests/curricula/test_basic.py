"""Domain randomization and the constant curriculum."""

import numpy as np
import pytest

from macurr import BoxTaskSpace, DictTaskSpace, DiscreteTaskSpace, StateError, TaskError
from macurr.curricula import Constant, DomainRandomization


def test_domain_randomization_is_uniform():
    curriculum = DomainRandomization(DiscreteTaskSpace(5), seed=0)
    assert curriculum.distribution().tolist() == [0.2] * 5
    counts = np.bincount(curriculum.sample(10_000), minlength=5)
    assert (abs(counts - 2000) < 5 * np.sqrt(10_000 * 0.2 * 0.8)).all()


def test_all_seeds_are_a_space_without_a_distribution():
    curriculum = DomainRandomization(DiscreteTaskSpace(2**31 - 1), seed=0)
    assert curriculum.distribution() is None
    assert curriculum.metrics() == {}
    assert len(set(curriculum.sample(1000))) > 990
    assert DomainRandomization(BoxTaskSpace(0, 1)).distribution() is None


def test_a_constant_is_one_task():
    curriculum = Constant(DiscreteTaskSpace(["a", "b", "c"]), 1)
    assert curriculum.sample(3) == [1, 1, 1]
    assert curriculum.distribution().tolist() == [0, 1, 0]
    assert curriculum.metrics() == {"entropy": 0.0}
    curriculum.set_task(2)
    assert curriculum.task == 2
    assert curriculum.sample() == [2]
    with pytest.raises(TaskError):
        curriculum.set_task(3)
    assert curriculum.task == 2
    assert Constant(BoxTaskSpace(0, 1), 0.5).distribution() is None
    assert Constant(DiscreteTaskSpace(2**31 - 1), 7).distribution() is None


def test_a_constant_outside_its_space_is_refused():
    with pytest.raises(TaskError):
        Constant(DiscreteTaskSpace(3), 3)
    with pytest.raises(TaskError):
        Constant(DiscreteTaskSpace(["a"]), "a")


def test_a_constants_state_holds_its_task():
    space = DictTaskSpace({"level": DiscreteTaskSpace(3), "speed": BoxTaskSpace(0, 1)})
    saved, fresh = Constant(space, {"level": 2, "speed": 0.25}), Constant(space, {"level": 0, "speed": 0.0})
    fresh.load_state_dict(saved.state_dict())
    assert fresh.task == {"level": 2, "speed": 0.25}
    narrow = Constant(DiscreteTaskSpace(2), 1)
    with pytest.raises(StateError, match="does not fit"):
        narrow.load_state_dict(Constant(DiscreteTaskSpace(9), 8).state_dict())
    assert narrow.task == 1

"""Tasks may leave a space while a curriculum runs; the codes of the others stay."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from macurr import (
    CurriculumHost,
    DiscreteTaskSpace,
    EnvSpec,
    EpisodeResult,
    StratifiedDiscreteTaskSpace,
    TaskError,
    TaskProgress,
    TupleTaskSpace,
)
from macurr.curricula import DomainRandomization


def test_a_removed_task_is_gone_and_the_others_stay():
    space = DiscreteTaskSpace(["a", "b", "c"])
    space.remove_task(1)
    assert not space.contains(1)
    assert space.was_removed(1)
    assert not space.was_removed(0)
    assert not space.was_removed("b")
    assert (space.num_tasks, space.num_removed, list(space.tasks)) == (3, 1, [0, 2])
    assert space.decode(2) == "c"
    assert space.encode("c") == 2
    for call in (space.check, space.decode, space.index, space.from_index, space.remove_task):
        with pytest.raises(TaskError):
            call(1)
    with pytest.raises(TaskError):
        space.encode("b")
    assert space != DiscreteTaskSpace(["a", "b", "c"])


def test_a_removed_task_that_comes_back_gets_a_new_code():
    space = DiscreteTaskSpace(["a", "b"])
    space.remove_task(0)
    assert space.add_task("a") == 2
    assert (space.encode("a"), space.was_removed(0)) == (2, True)


def test_the_last_task_cannot_be_removed():
    space = DiscreteTaskSpace(2)
    space.remove_task(0)
    with pytest.raises(TaskError, match="last one"):
        space.remove_task(1)
    assert space.contains(1)


class _Fixed:
    """Stands in for a generator: its `integers(n)` is a given number."""

    def __init__(self, value):
        self.value = value

    def integers(self, n):
        assert 0 <= self.value < n
        return self.value


@given(st.integers(2, 30), st.data())
def test_each_task_left_is_drawn_for_exactly_one_number(n, data):
    space = DiscreteTaskSpace(n)
    gone = data.draw(st.sets(st.integers(0, n - 1), max_size=n - 1))
    for task in gone:
        space.remove_task(task)
    left = [task for task in range(n) if task not in gone]
    assert [space.sample(_Fixed(rank)) for rank in range(len(left))] == left
    assert list(space.tasks) == left
    assert space.removed.tolist() == sorted(gone)


def test_a_huge_space_loses_a_task():
    space = DiscreteTaskSpace(2**40)
    space.remove_task(7)
    assert not space.contains(7)
    assert [space.sample(_Fixed(i)) for i in (6, 7, 2**40 - 2)] == [6, 8, 2**40 - 1]


def test_strata_lose_their_tasks():
    space = StratifiedDiscreteTaskSpace({"small": [5, 6], "large": [12]})
    space.remove_task(0)
    assert list(space.codes("small")) == [1]
    with pytest.raises(TaskError):
        space.stratum(0)


def test_a_product_loses_every_combination():
    levels = DiscreteTaskSpace(3)
    space = TupleTaskSpace([DiscreteTaskSpace(2), levels])
    levels.remove_task(1)
    assert (space.num_tasks, space.num_removed, space.removed.tolist()) == (6, 2, [1, 4])
    assert list(space.tasks) == [(0, 0), (0, 2), (1, 0), (1, 2)]
    assert space.was_removed((1, 1))
    assert not space.was_removed((7, 1))
    assert not space.was_removed("no task")
    assert space.index((1, 2)) == 5  # as before


def test_a_uniform_distribution_leaves_out_what_is_gone():
    space = DiscreteTaskSpace(4)
    space.remove_task(2)
    curriculum = DomainRandomization(space, seed=0)
    np.testing.assert_allclose(curriculum.distribution(), [1 / 3, 1 / 3, 0, 1 / 3])
    assert set(curriculum.sample(100)) == {0, 1, 3}


def test_a_removed_task_still_has_a_plain_form_for_states():
    space = TupleTaskSpace([DiscreteTaskSpace(2), DiscreteTaskSpace(2)], names=["agent", "env"])
    task = space.from_index(3)
    space.spaces[1].remove_task(1)
    assert space.plain(task) == [1, 1]
    with pytest.raises(TaskError):
        space.plain((7, 1))


def test_what_is_told_of_a_task_that_has_left_is_counted_and_ends_nothing():
    space = DiscreteTaskSpace(3)
    host = CurriculumHost(DomainRandomization(space, seed=0, record_stats=True))
    env_id, _ = host.connect(EnvSpec(("a",), ("a",)))
    ((task, *_),) = host.draw(env_id, 1, start=True)
    with host.locked():
        space.remove_task(task)
    host.apply(TaskProgress(task, env_id, {"a": 0.5}))
    host.apply(EpisodeResult(task, env_id, {"a": 1.0}, 10, {"a": 1.0}))
    assert host.metrics()["late_updates"] == 2
    with host.locked() as curriculum:
        assert curriculum.stats.overall.count == 0
    ((other, *_),) = host.draw(env_id, 1, start=True)
    host.apply(EpisodeResult(other, env_id, {"a": 1.0}, 10, {"a": 1.0}))
    with host.locked() as curriculum:
        assert curriculum.stats.overall.count == 1

"""The space of opponents follows its pool."""

import numpy as np
import pytest

from macurr.errors import PoolError, TaskError
from macurr.opponents import AgentPool, OpponentTaskSpace

WEIGHTS = {"w": np.zeros(2)}


@pytest.fixture
def pool(tmp_path):
    return AgentPool(tmp_path)


def test_it_grows_and_shrinks_with_the_pool(pool):
    space = OpponentTaskSpace(pool)
    assert space.num_tasks == 0
    for _ in range(4):
        pool.add(WEIGHTS)
    AgentPool(pool.path).remove(1)  # another process, say
    assert space.num_tasks == 3
    assert list(space.tasks) == [0, 2, 3]
    assert [space.index(task) for task in space.tasks] == [0, 1, 2]
    assert [space.from_index(i) for i in range(3)] == [0, 2, 3]
    assert space.gym_space.n == 4
    assert {space.sample(np.random.default_rng(i)) for i in range(40)} == {0, 2, 3}


def test_an_id_that_has_left_is_still_understood(pool):
    space = OpponentTaskSpace(pool)
    for _ in range(3):
        pool.add(WEIGHTS)
    assert space.contains(2)
    pool.remove(2)
    pool.remove(0)
    for task in (0, 1, 2, np.int64(2)):
        assert space.contains(task)
        assert space.decode(task) == task
        assert type(space.decode(task)) is int
    with pytest.raises(TaskError, match="has left"):
        space.index(2)


@pytest.mark.parametrize("task", [3, -1, True, 1.0, "1", None, [1]])
def test_what_never_was_a_snapshot_is_no_task(pool, task):
    for _ in range(3):
        pool.add(WEIGHTS)
    space = OpponentTaskSpace(pool)
    assert not space.contains(task)
    for question in (space.check, space.encode, space.decode, space.index):
        with pytest.raises(TaskError, match="the id of a snapshot"):
            question(task)


@pytest.mark.parametrize("index", [-1, 2])
def test_positions_are_those_of_the_pool(pool, index):
    pool.add(WEIGHTS)
    pool.add(WEIGHTS)
    with pytest.raises(TaskError, match="no position"):
        OpponentTaskSpace(pool).from_index(index)


def test_an_empty_pool_has_nothing_to_sample(pool):
    with pytest.raises(PoolError, match="Add a snapshot first"):
        OpponentTaskSpace(pool).sample(np.random.default_rng(0))
    assert list(OpponentTaskSpace(pool).tasks) == []


def test_spaces_of_one_pool_are_equal(pool, tmp_path):
    assert OpponentTaskSpace(pool) == OpponentTaskSpace(AgentPool(pool.path))
    assert OpponentTaskSpace(pool) != OpponentTaskSpace(AgentPool(tmp_path / "other"))

"""Task spaces: encoded and decoded forms, positions, and clear refusals."""

import copy
import pickle

import cloudpickle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from macurr import (
    BoxTaskSpace,
    DictTaskSpace,
    DiscreteTaskSpace,
    MultiDiscreteTaskSpace,
    StratifiedDiscreteTaskSpace,
    TaskError,
    TupleTaskSpace,
)
from macurr.testing.nested import not_plain, same, through_files

NAMES = st.text("abcdefgh", min_size=1, max_size=4)
VALUES = st.one_of(
    NAMES, st.integers(-9, 9), st.tuples(st.integers(0, 3), NAMES), st.frozensets(NAMES, max_size=2)
)

discrete = st.one_of(
    st.integers(1, 50).map(DiscreteTaskSpace),
    st.lists(VALUES, min_size=1, max_size=6, unique=True).map(DiscreteTaskSpace),
    st.lists(NAMES, min_size=2, max_size=6, unique=True).map(
        lambda tasks: StratifiedDiscreteTaskSpace({"first": tasks[:1], "rest": tasks[1:]})
    ),
)
multi = st.lists(
    st.one_of(st.integers(1, 4), st.lists(VALUES, min_size=1, max_size=4, unique=True)),
    min_size=1,
    max_size=3,
).map(MultiDiscreteTaskSpace)


def products(parts):
    return st.one_of(
        st.lists(parts, min_size=1, max_size=3).map(TupleTaskSpace),
        st.lists(parts, min_size=1, max_size=3).map(
            lambda spaces: TupleTaskSpace(spaces, names=["agent", "env", "third"][: len(spaces)])
        ),
        st.dictionaries(NAMES, parts, min_size=1, max_size=3).map(DictTaskSpace),
    )


finite = st.recursive(st.one_of(discrete, multi), products, max_leaves=4).filter(lambda s: s.num_tasks <= 300)
bounds = st.lists(
    st.tuples(st.floats(-100, 100, width=32), st.floats(0, 100, width=32)), min_size=1, max_size=3
)
boxes = st.builds(
    lambda pairs, dtype: BoxTaskSpace(
        [low for low, _ in pairs], [low + size for low, size in pairs], dtype=dtype
    ),
    bounds,
    st.sampled_from([np.float32, np.float64, np.float16]),
)
any_space = st.recursive(st.one_of(discrete, multi, boxes), products, max_leaves=4)


@given(space=finite)
def test_positions_number_the_tasks(space):
    tasks = list(space.tasks)
    assert len(tasks) == len(space.tasks) == space.num_tasks
    assert [space.index(task) for task in tasks] == list(range(space.num_tasks))
    assert space.tasks[-1] == tasks[-1]
    assert space.tasks[1:3] == tasks[1:3]
    for task in tasks:
        assert space.contains(task)
        assert space.gym_space.contains(task)
        assert same(space.encode(space.decode(task)), space.check(task))
        assert isinstance(space.name(task), str)


@given(space=finite)
def test_positions_outside_are_refused(space):
    for index in (-1, space.num_tasks, 0.0, "0", None, True):
        with pytest.raises(TaskError):
            space.from_index(index)


@given(space=any_space, seed=st.integers(0, 2**32 - 1))
def test_samples_are_tasks_in_every_form(space, seed):
    rng = np.random.default_rng(seed)
    task = space.sample(rng)
    assert space.contains(task)
    assert space.gym_space.contains(task)
    assert same(space.check(task), task)
    assert space.contains(space.encode(space.decode(task)))
    plain = space.plain(task)
    assert not list(not_plain(plain))
    again = space.check(through_files({"task": plain})["task"])
    assert same(again, task)
    assert type(again) is type(task)
    assert same(space.sample(np.random.default_rng(seed)), task)


@given(space=any_space)
def test_spaces_are_equal_to_their_copies(space):
    for other in (
        copy.deepcopy(space),
        pickle.loads(pickle.dumps(space)),
        cloudpickle.loads(cloudpickle.dumps(space)),
    ):
        assert other == space
        task = space.sample(np.random.default_rng(0))
        assert other.contains(task)
        assert same(pickle.loads(pickle.dumps(task)), task)
    assert space != DiscreteTaskSpace(51)
    assert space != "a space"
    assert repr(space)


@given(
    space=any_space,
    stranger=st.one_of(
        st.none(),
        st.booleans(),
        st.just("zzzzz"),
        st.just(object()),
        st.just(-1),
        st.just(1e300),
        st.just(np.nan),
        st.just([]),
        st.just({}),
        st.just({"zzzzz": 1}),
        st.just(()),
        st.just([[1, 2], [3]]),
        st.just(10**400),
        st.just(1 + 1j),
        st.just(np.array([1e300] * 2)),
        st.just(np.array([[["x"]]])),
        st.just(b"0"),
        st.just(("a", 1, 2, 3)),
    ),
)
@settings(max_examples=200)
def test_strangers_are_refused_in_one_way(space, stranger):
    assert space.contains(stranger) is False
    for method in (space.check, space.decode, space.plain):
        with pytest.raises(TaskError):
            method(stranger)
    with pytest.raises(TaskError):
        space.index(stranger)


def test_a_stranger_is_told_what_is_wanted():
    with pytest.raises(
        TaskError, match=r"Task 9 is not in DiscreteTaskSpace\(3\).*encoded task: Discrete\(3\)"
    ):
        DiscreteTaskSpace(3).check(9)
    with pytest.raises(TaskError, match=r"'zzz' is not in .*Its tasks are \['easy', 'hard'\]"):
        DiscreteTaskSpace(["easy", "hard"]).encode("zzz")
    with pytest.raises(TaskError, match="is not finite"):
        BoxTaskSpace(0, 1).index(0.5)
    with pytest.raises(TaskError, match="is not finite"):
        BoxTaskSpace(0, 1).from_index(0)
    with pytest.raises(TaskError, match="is not finite"):
        BoxTaskSpace(0, 1).tasks  # noqa: B018
    with pytest.raises(TaskError, match="is not finite"):
        TupleTaskSpace([DiscreteTaskSpace(2), BoxTaskSpace(0, 1)]).index((0, 0.5))


@pytest.mark.parametrize(
    "make",
    [
        lambda: DiscreteTaskSpace(0),
        lambda: DiscreteTaskSpace(-3),
        lambda: DiscreteTaskSpace([]),
        lambda: DiscreteTaskSpace(2.5),
        lambda: DiscreteTaskSpace(None),
        lambda: DiscreteTaskSpace(["a", "b", "a"]),
        lambda: DiscreteTaskSpace([object(), {1: set()}, [set()]]),
        lambda: StratifiedDiscreteTaskSpace({}),
        lambda: StratifiedDiscreteTaskSpace({"a": [1], "b": []}),
        lambda: MultiDiscreteTaskSpace([]),
        lambda: MultiDiscreteTaskSpace([2, 0]),
        lambda: TupleTaskSpace([]),
        lambda: TupleTaskSpace([DiscreteTaskSpace(2), 3]),
        lambda: TupleTaskSpace([DiscreteTaskSpace(2)], names=["a", "b"]),
        lambda: TupleTaskSpace([DiscreteTaskSpace(2)] * 2, names=["a", "a"]),
        lambda: TupleTaskSpace([DiscreteTaskSpace(2)], names=["not a name"]),
        lambda: DictTaskSpace({}),
        lambda: DictTaskSpace({"a": 3}),
        lambda: BoxTaskSpace(1, 0),
        lambda: BoxTaskSpace(0, np.inf),
        lambda: BoxTaskSpace(np.nan, 1),
        lambda: BoxTaskSpace([0, 0], [1, 1, 1]),
        lambda: BoxTaskSpace([0, 0], 1, shape=(3,)),
        lambda: BoxTaskSpace("low", "high"),
    ],
)
def test_spaces_that_cannot_be_are_refused(make):
    with pytest.raises(TaskError):
        make()


def test_seeds_need_no_memory():
    space = DiscreteTaskSpace(2**31 - 1)
    assert len(space.tasks) == 2**31 - 1
    assert space.tasks[-1] == space.decode(2**31 - 2) == 2**31 - 2
    assert 0 <= space.sample(np.random.default_rng(0)) < 2**31 - 1


def test_numpy_integers_become_ints():
    space = MultiDiscreteTaskSpace([3, 4])
    task = space.check(np.array([2, 3]))
    assert task == (2, 3)
    assert {type(part) for part in task} == {int}
    assert space.index(np.array([2, 3])) == 11
    assert type(DiscreteTaskSpace(3).check(np.int64(2))) is int


def test_products_count_like_digits():
    space = TupleTaskSpace([DiscreteTaskSpace(2), DiscreteTaskSpace(["x", "y", "z"]), DiscreteTaskSpace(4)])
    assert space.num_tasks == 24
    assert space.index((1, 2, 3)) == 1 * 12 + 2 * 4 + 3
    assert space.from_index(13) == (1, 0, 1)
    assert space.decode((0, 2, 1)) == (0, "z", 1)
    assert space.encode((0, "z", 1)) == (0, 2, 1)
    mixed = DictTaskSpace({"level": DiscreteTaskSpace(2), "speed": BoxTaskSpace(0, 1)})
    assert mixed.num_tasks is None
    assert mixed.check({"speed": 0.5, "level": 1}) == {"level": 1, "speed": 0.5}
    assert list(mixed.check({"speed": 0.5, "level": 1})) == ["level", "speed"]


def test_named_tuples_survive_other_processes():
    space = TupleTaskSpace([DiscreteTaskSpace(2), DiscreteTaskSpace(3)], names=["agent", "env"])
    task = space.sample(np.random.default_rng(0))
    for other in (pickle.loads(pickle.dumps(task)), copy.deepcopy(task), space.check(list(task))):
        assert other == task
        assert (other.agent, other.env) == (task.agent, task.env)
        assert type(other) is type(task)


def test_boxes_hold_their_bounds_in_their_dtype():
    space = BoxTaskSpace(0.1, 0.7, shape=(2,), dtype=np.float32)
    assert space.shape == (2,)
    assert space.contains([0.1, 0.7])
    assert not space.contains([0.1, 0.7001])
    assert not space.contains([0.1])
    assert space.check((0.25, 0.5)).dtype == np.float32
    given = np.array([0.25, 0.5], np.float32)
    checked = space.check(given)
    checked[0] = 0.7
    assert given[0] == 0.25
    draws = np.array([space.sample(np.random.default_rng(i)) for i in range(500)])
    assert draws.min() >= space.low[0]
    assert draws.max() <= space.high[0]
    assert np.allclose(draws.mean(axis=0), 0.4, atol=0.03)
    point = BoxTaskSpace(0, 1)
    assert point.sample(np.random.default_rng(0)).shape == ()
    assert point.name(0.123456) == "0.123"


def test_tasks_are_added_while_running():
    space = DiscreteTaskSpace(["a", "b"])
    assert space.add_task("c") == 2
    assert (space.num_tasks, space.decode(2), space.encode("c")) == (3, "c", 2)
    with pytest.raises(TaskError, match="already"):
        space.add_task("a")
    assert space.num_tasks == 3
    numbers = DiscreteTaskSpace(2)
    assert numbers.add_task() == 2
    assert numbers.add_task(3) == 3
    with pytest.raises(TaskError, match="next task"):
        numbers.add_task(9)
    assert numbers.num_tasks == 4
    assert numbers != DiscreteTaskSpace(2)


def test_strata_keep_their_tasks():
    space = StratifiedDiscreteTaskSpace({"small": [5, 6], "large": [12]})
    assert space.strata == ("small", "large")
    assert [space.stratum(task) for task in range(3)] == ["small", "small", "large"]
    assert space.add_task(7, stratum="small") == 3
    assert list(space.codes("small")) == [0, 1, 3]
    assert space.add_task(13) == 4
    assert list(space.codes("large")) == [2, 4]
    for wrong in (
        lambda: space.codes("huge"),
        lambda: space.add_task(8, stratum="huge"),
        lambda: space.add_task(5),
    ):
        with pytest.raises(TaskError):
            wrong()
    assert space.num_tasks == 5
    with pytest.raises(TaskError):
        space.stratum(9)
    assert space != DiscreteTaskSpace([5, 6, 12, 7, 13])
    assert space != StratifiedDiscreteTaskSpace({"small": [5, 6, 12], "large": [7, 13]})


def test_decoded_tasks_may_be_arrays_lists_and_mappings():
    tasks = [np.array([1, 2]), [1, 2, 3], {"a": [1], "b": 2}, (4, 5)]
    space = DiscreteTaskSpace(tasks)
    for code, task in enumerate(tasks):
        assert space.encode(copy.deepcopy(task)) == code
        assert space.decode(code) is task
    with pytest.raises(TaskError, match="cannot be looked up"):
        space.encode({1, 2})
    with pytest.raises(TaskError, match="duplicates"):
        DiscreteTaskSpace([np.array([1, 2]), np.array([1, 2])])

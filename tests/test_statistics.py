"""Statistics per task, against NumPy on the same numbers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from macurr import BoxTaskSpace, DiscreteTaskSpace, StateError, StatRecorder, TaskError, TupleTaskSpace
from macurr.testing.nested import leaves, replaced, same, through_files

EPISODES = st.lists(
    st.tuples(st.integers(0, 2), st.floats(-1e3, 1e3), st.integers(0, 100)), min_size=1, max_size=40
)


@given(episodes=EPISODES)
def test_every_figure_is_that_of_all_episodes(episodes):
    stats = StatRecorder(DiscreteTaskSpace(3), ema_alpha=0.25, window=4)
    for task, value, length in episodes:
        stats.record(task, value, length)
    for task in range(3):
        values = [v for t, v, _ in episodes if t == task]
        found = stats.task(task)
        assert found.count == len(values)
        if values:
            assert math.isclose(found.mean, np.mean(values), abs_tol=1e-9)
            assert math.isclose(found.variance, np.var(values), rel_tol=1e-9, abs_tol=1e-6)
            assert math.isclose(found.length, np.mean([n for t, _, n in episodes if t == task]), abs_tol=1e-9)
            ema = values[0]
            for value in values[1:]:
                ema = 0.75 * ema + 0.25 * value
            assert math.isclose(found.ema, ema, abs_tol=1e-9)
            assert list(found.window) == values[-4:]
    assert stats.overall.count == len(episodes)
    assert math.isclose(stats.overall.mean, np.mean([v for _, v, _ in episodes]), abs_tol=1e-9)


def test_by_hand():
    stats = StatRecorder(DiscreteTaskSpace(["easy", "hard"]))
    for value in (2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0):
        stats.record(1, value, 10)
    assert stats.task(1).mean == 5.0
    assert stats.task(1).variance == 4.0
    assert stats.normalize(3.0, 1) == 1.5
    assert stats.normalize(3.0, 0) == 3.0
    assert stats.metrics() == {
        "episodes": 8.0,
        "tasks_seen": 1.0,
        "return_mean": 5.0,
        "return_ema": pytest.approx(
            2.0 + sum(0.1 * 0.9**n * d for n, d in zip(range(6, -1, -1), (2, 2, 2, 3, 3, 5, 7), strict=True))
        ),
        "length_mean": 10.0,
    }


def test_several_agents_count_by_their_mean():
    stats = StatRecorder(DiscreteTaskSpace(2))
    stats.record(0, {"a": 1.0, "b": 2.0, "c": 6.0}, 3)
    stats.record(0, {}, 0)
    assert list(stats.task(0).window) == [3.0, 0.0]


def test_a_constant_return_is_not_divided_by_zero():
    stats = StatRecorder(DiscreteTaskSpace(1))
    for _ in range(5):
        stats.record(0, 0.1, 1)
    assert stats.normalize(2.0, 0) == 2.0


@pytest.mark.parametrize(
    ("task", "value"),
    [
        (3, 1.0),
        ("0", 1.0),
        (0, math.nan),
        (0, math.inf),
        (0, {"a": 0.0, "b": math.nan}),
        (0, {"a": -math.inf}),
    ],
)
def test_what_cannot_be_counted_is_refused(task, value):
    stats = StatRecorder(DiscreteTaskSpace(3))
    stats.record(0, 1.0, 1)
    before = stats.state_dict()
    with pytest.raises(TaskError):
        stats.record(task, value, 1)
    assert same(stats.state_dict(), before)


@pytest.mark.parametrize("options", [{"ema_alpha": 0}, {"ema_alpha": 1.1}, {"window": 0}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(TaskError, match=r"ema_alpha must be in \(0, 1\] and window positive"):
        StatRecorder(DiscreteTaskSpace(3), **options)


@pytest.mark.parametrize(
    "space",
    [
        DiscreteTaskSpace(2),
        BoxTaskSpace([0, 0], [1, 1]),
        TupleTaskSpace([DiscreteTaskSpace(2), BoxTaskSpace(0, 1)], names=["agent", "env"]),
    ],
)
def test_states_go_on(space):
    rng = np.random.default_rng(0)
    stats, other = StatRecorder(space), StatRecorder(space)
    for _ in range(9):
        stats.record(space.sample(rng), rng.normal(), 3)
    state = stats.state_dict()
    other.load_state_dict(through_files(state))
    task = space.sample(rng)
    for recorder in (stats, other):
        recorder.record(task, 2.0, 5)
    assert same(stats.state_dict(), other.state_dict())
    assert not same(stats.state_dict(), state)


def test_damaged_states_change_nothing():
    stats = StatRecorder(DiscreteTaskSpace(4))
    for task in range(3):
        stats.record(task, 1.0, 1)
    state = stats.state_dict()
    damaged = [replaced(state, path, "damaged") for path, _ in leaves(state)]
    damaged += [None, 3, [], {}, {**state, "keys": [0, 1]}, {**state, "all": [1]}, {**state, "all": math.inf}]
    damaged += [
        {**state, "all": [math.inf, 0, 0, 0, 0, []]},
        {**state, "keys": [0, 1, [2]]},
        {**state, "keys": [0, 1, True]},
    ]
    for wrong in damaged:
        with pytest.raises(StateError, match="no state of a StatRecorder"):
            stats.load_state_dict(wrong)
        assert same(stats.state_dict(), state)

"""Learning progress: the numbers of the papers' formulas, and draws that follow them."""

import math
from functools import partial

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
    TupleTaskSpace,
    UsageError,
)
from macurr.curricula import LearningProgress as _LearningProgress
from macurr.curricula import StratifiedLearningProgress as _StratifiedLearningProgress
from macurr.curricula._progress_pool import ProgressPool
from macurr.curricula.learning_progress import reweighted
from macurr.testing import CurriculumTests

LearningProgress = partial(_LearningProgress, success="progress")
StratifiedLearningProgress = partial(_StratifiedLearningProgress, success="progress")


class _Conformance(CurriculumTests):
    def drive(self, curriculum, n, rng):
        super().drive(curriculum, n, rng)
        curriculum.update_on_demand({"task_success": {0: float(rng.random()), 3: 0.5}})

    def bad_demands(self, curriculum):
        yield {"task_success": {0: 0.5, 1: math.nan}}
        yield {"task_success": {0: 0.5, 99: 0.5}}
        yield {"task_success": [0.5, 0.5]}
        yield {"task_success": [0.5, 1.5], "tasks": [0, 1]}


class TestLearningProgress(_Conformance):
    def make(self, seed):
        return LearningProgress(DiscreteTaskSpace(6), seed=seed, baseline=0.1)


class TestInTens(_Conformance):
    def make(self, seed):
        return LearningProgress(
            DiscreteTaskSpace(6), seed=seed, episodes_per_update=3, interest=float, exploration=0.0
        )


class TestStratified(_Conformance):
    def make(self, seed):
        space = StratifiedDiscreteTaskSpace({"a": ["x", "y"], "b": ["u", "v", "w"]})
        return StratifiedLearningProgress(space, seed=seed, strata="progress")


def test_two_evaluations_by_hand():
    curriculum = LearningProgress(DiscreteTaskSpace(3), baseline=[0.0, 0.2, 0.0], ema_alpha=0.5, seed=0)
    curriculum.update_on_demand({"task_success": [0.5, 0.1, 0.0]})
    assert curriculum.learning_progress(0) == 0.0  # fast = slow = 0.5
    assert curriculum.success_rate(1) == 0.0  # below what a random policy reaches
    curriculum.update_on_demand({"task_success": [1.0, 0.6, 0.0]})
    # Task 0: fast = .5 + .5 * .5 = .75, slow = .5 + .5 * .25 = .625, f(x) = .9 x / (x + .1 (1 - 2 x))
    assert curriculum.success_rate(0) == 0.75
    wanted = 0.675 / (0.75 - 0.05) - 0.5625 / (0.625 - 0.025)
    assert curriculum.learning_progress(0) == pytest.approx(wanted)
    # Task 1: q = (.6 - .2) / .8 = .5, fast = .25, slow = .125
    assert curriculum.learning_progress(1) == pytest.approx(0.225 / 0.3 - 0.1125 / 0.2)
    # Task 2 never succeeded: it is drawn by exploration alone.
    lp = np.array([curriculum.learning_progress(task) for task in (0, 1)])
    weights = 1 / (1 + np.exp(-(lp - lp.mean()) / lp.std()))
    expected = 0.5 / 3 + 0.5 * np.append(weights / weights.sum(), 0.0)
    np.testing.assert_allclose(curriculum.distribution(), expected, atol=1e-12)


def test_a_task_below_the_baseline_that_once_succeeded_is_kept():
    curriculum = LearningProgress(DiscreteTaskSpace(2), baseline=0.5, exploration=0.0)
    curriculum.update_on_demand({"task_success": {1: 0.25}})
    assert curriculum.distribution().tolist() == [0.0, 1.0]


def test_episodes_teach_by_progress_return_or_a_function():
    for success, expected in (
        ("progress", 0.25),
        ("solved", 1.0),
        ("return", 1.0),
        (lambda r, p: (r + p) / 10, 0.725),
    ):
        curriculum = LearningProgress(DiscreteTaskSpace(2), success=success)
        curriculum.update_on_episode(7.0, 3, 1, 0.25)
        assert curriculum.success_rate(1) == pytest.approx(expected)


def test_a_success_outside_0_to_1_is_refused_and_changes_nothing():
    curriculum = LearningProgress(DiscreteTaskSpace(2), success=lambda episode_return, _: episode_return)
    with pytest.raises(TaskError, match="from 0 to 1"):
        curriculum.update_on_episode(7.0, 3, 1, 0.25)
    assert curriculum.metrics()["tasks_seen"] == 0


def test_offline_episodes_teach_nothing():
    curriculum = LearningProgress(DiscreteTaskSpace(2), online=False)
    curriculum.update_on_episode(1.0, 3, 1, 1.0)
    assert curriculum.metrics()["tasks_seen"] == 0


def test_several_episodes_are_one_evaluation():
    one = LearningProgress(DiscreteTaskSpace(1), episodes_per_update=4)
    for progress in (1.0, 0.0, 0.0, 0.0):
        assert one.success_rate(0) == 0.0
        one.update_on_episode(0.0, 1, 0, progress)
    assert one.success_rate(0) == 0.25


@given(
    st.lists(st.tuples(st.integers(0, 6), st.floats(0, 1)), min_size=1, max_size=60),
    st.floats(0.05, 1),
    st.floats(0.05, 0.95),
)
def test_online_sums_equal_the_formula_over_all_tasks(results, alpha, theta):
    curriculum = LearningProgress(DiscreteTaskSpace(7), ema_alpha=alpha, p_theta=theta, exploration=0.0)
    fast, slow = np.full(7, np.nan), np.full(7, np.nan)
    for task, p in results:
        curriculum.update_on_episode(0.0, 1, task, p)
        fast[task] = p if np.isnan(fast[task]) else alpha * p + (1 - alpha) * fast[task]
        slow[task] = fast[task] if np.isnan(slow[task]) else alpha * fast[task] + (1 - alpha) * slow[task]
    solved = {task for task, p in results if p > 0}
    lp = np.array([abs(reweighted(f, theta) - reweighted(s, theta)) for f, s in zip(fast, slow, strict=True)])
    kept = sorted(solved | set(np.flatnonzero(lp > 0).tolist()))
    if not kept:
        np.testing.assert_allclose(curriculum.distribution(), 1 / 7)
        return
    if lp[kept].std() > 1e-6:  # below, the formula itself is rounding noise
        weights = 1 / (1 + np.exp(-(lp[kept] - lp[kept].mean()) / lp[kept].std()))
        expected = np.zeros(7)
        expected[kept] = weights / weights.sum()
        np.testing.assert_allclose(curriculum.distribution(), expected, atol=1e-7)


def test_sampling_follows_the_distribution_with_interest_of_very_different_size():
    curriculum = LearningProgress(
        DiscreteTaskSpace(5), interest=lambda task: 1.0 if task < 2 else 0.001, exploration=0.0, seed=1
    )
    for success in (0.1, 0.9, 0.2):
        curriculum.update_on_demand({"task_success": [success * (task + 1) / 5 for task in range(5)]})
    probabilities = curriculum.distribution()
    assert probabilities[:2].sum() > 0.99
    counts = np.bincount(curriculum.sample(20_000), minlength=5)
    assert abs(counts[0] - 20_000 * probabilities[0]) < 4 * math.sqrt(
        20_000 * probabilities[0] * probabilities[1]
    )


def test_episodes_ask_for_the_interest_of_a_task_once():
    asked = []
    curriculum = LearningProgress(
        DiscreteTaskSpace(["a", "b"]), interest=lambda task: asked.append(task) or 1.0
    )
    for task in (1, 1, 0, 1):
        curriculum.update_on_episode(1.0, 3, task, 1.0)
    assert asked == ["b", "a"]


def test_a_state_of_fewer_tasks_says_that_the_others_are_new():
    one, more = LearningProgress(DiscreteTaskSpace(2)), LearningProgress(DiscreteTaskSpace(4))
    one.update_on_demand({"task_success": [0.5, 0.25]})
    more.update_on_demand({"task_success": [1.0, 1.0, 1.0, 1.0]})
    more.load_state_dict(one.state_dict())
    assert more.metrics()["tasks_seen"] == 2
    assert [more.success_rate(task) for task in range(4)] == [0.5, 0.25, 0.0, 0.0]


def test_interest_is_asked_again_at_every_evaluation_and_may_be_0():
    wanted = {"a": 1.0, "b": 1.0}
    curriculum = LearningProgress(DiscreteTaskSpace(["a", "b"]), interest=wanted.__getitem__, exploration=0.0)
    curriculum.update_on_demand({"task_success": [1.0, 1.0]})
    assert curriculum.distribution().tolist() == [0.5, 0.5]
    wanted["a"] = 0.0
    curriculum.update_on_demand({"task_success": [1.0, 1.0]})
    assert curriculum.distribution().tolist() == [0.0, 1.0]
    wanted["b"] = 0.0
    curriculum.refresh_interest()
    assert curriculum.distribution().tolist() == [0.5, 0.5]  # nothing of interest: uniform
    wanted["a"] = -1.0
    with pytest.raises(TaskError, match="at least 0"):
        curriculum.refresh_interest()


@pytest.mark.parametrize(
    "options",
    [
        {"ema_alpha": 0.0},
        {"p_theta": 1.0},
        {"exploration": 1.1},
        {"episodes_per_update": 0},
        {"success": "luck"},
        {"baseline": 1.0},
    ],
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(UsageError):
        LearningProgress(DiscreteTaskSpace(2), **options)


def test_tasks_come_and_go():
    space = DiscreteTaskSpace(3)
    curriculum = LearningProgress(space, exploration=0.0, seed=0, episodes_per_update=1)
    curriculum.update_on_demand({"task_success": [0.5, 0.5, 0.5]})
    new = space.add_task()
    space.remove_task(1)
    np.testing.assert_allclose(curriculum.distribution(), [0.5, 0, 0.5, 0])
    curriculum.update_on_episode(0.0, 1, 1, 1.0)  # was under way: no error, no trace
    curriculum.update_on_episode(0.0, 1, new, 0.5)
    np.testing.assert_allclose(curriculum.distribution(), [1 / 3, 0, 1 / 3, 1 / 3])
    assert set(curriculum.sample(100)) == {0, 2, 3}


def test_a_host_goes_on_when_a_task_is_removed_while_it_is_played():
    space = DiscreteTaskSpace(2)
    curriculum = LearningProgress(space, seed=0)
    host = CurriculumHost(curriculum)
    env_id = host.connect(EnvSpec(("agent_0",), ("agent_0",), single_agent=True)).env_id
    task = host.draw(env_id, 1, start=True)[0].encoded
    space.remove_task(task)
    host.apply(EpisodeResult(task, env_id, 1.0, 3, 1.0))
    assert [drawn.encoded for drawn in host.draw(env_id, 3, start=True)] == [1 - task] * 3


def test_tasks_may_come_by_the_thousand_at_a_cost_that_stays_in_proportion():
    space = DiscreteTaskSpace(1)
    curriculum = LearningProgress(space, exploration=0.0, seed=0)
    for _ in range(2000):
        curriculum.update_on_episode(0.0, 1, space.add_task(), 0.5)
    assert curriculum.distribution().tolist() == [0.0, *[1 / 2000] * 2000]
    assert max(len(each) for each in vars(curriculum).values() if isinstance(each, np.ndarray)) < 2 * 2001
    assert curriculum._pools[0].capacity < 2 * 2001


def test_a_state_from_before_tasks_came_and_went_is_loaded():
    space = DiscreteTaskSpace(3)
    saved = LearningProgress(space, exploration=0.0)
    saved.update_on_demand({"task_success": [0.5, 0.5, 0.5]})
    state = saved.state_dict()
    space.add_task()
    space.remove_task(0)
    loaded = LearningProgress(space, exploration=0.0)
    loaded.load_state_dict(state)
    np.testing.assert_allclose(loaded.distribution(), [0, 0.5, 0.5, 0])
    assert pytest.approx(loaded.distribution().sum()) == 1.0


def test_a_grown_product_keeps_the_tasks_of_its_first_part():
    opponents = DiscreteTaskSpace(2)
    space = TupleTaskSpace([opponents, DiscreteTaskSpace(2)])
    curriculum = LearningProgress(space, exploration=0.0)
    curriculum.update_on_episode(0.0, 1, (1, 0), 1.0)
    opponents.add_task()
    assert curriculum.success_rate((1, 0)) == 1.0
    assert curriculum.sample() == [(1, 0)]


def test_strata_are_drawn_first_and_compared_with_themselves():
    space = StratifiedDiscreteTaskSpace({"one": ["a"], "two": ["b", "c", "d"], "never": ["e"]})
    curriculum = StratifiedLearningProgress(space, exploration=0.0)
    curriculum.update_on_demand({"task_success": [0.5, 0.5, 0.5, 0.5, 0.0]})
    np.testing.assert_allclose(curriculum.distribution(), [1 / 2, 1 / 6, 1 / 6, 1 / 6, 0])
    assert space.add_task("f", "two") == 5
    curriculum.update_on_episode(0.0, 1, 5, 0.5)
    space.remove_task(1)
    np.testing.assert_allclose(curriculum.distribution(), [1 / 2, 0, 1 / 6, 1 / 6, 0, 1 / 6])


def test_strata_by_progress_get_their_mean_progress():
    space = StratifiedDiscreteTaskSpace({"one": ["a"], "two": ["b", "c"]})
    curriculum = StratifiedLearningProgress(space, strata="progress", exploration=0.0)
    for rates in ([0.2, 0.2, 0.5], [0.9, 0.3, 0.5]):
        curriculum.update_on_demand({"task_success": rates})
    one, two = curriculum.learning_progress(0), curriculum.learning_progress(1) / 2
    probabilities = curriculum.distribution()
    assert probabilities[0] == pytest.approx(one / (one + two))
    w = 1 / (1 + np.exp([-1.0, 1.0]))  # z-scores of two numbers are 1 and -1
    np.testing.assert_allclose(probabilities[1:], two / (one + two) * w / w.sum())


class TestProgressPool:
    def test_z_scores_so_steep_that_exp_would_overflow(self):
        pool = ProgressPool(1_000_000)
        members = np.arange(1_000_000, dtype=np.int32)
        values = np.ones(1_000_000)
        values[0] = 0.0  # z is about -1000
        pool.load(members, values, np.ones(1_000_000))
        assert pool.probabilities()[0] < 1e-300
        assert pool.draw(np.random.default_rng(0)) != 0

    def test_weights_may_favour_what_is_hardly_ever_accepted(self):
        pool = ProgressPool(4000, weighted=True)
        pool.load(
            np.arange(4000, dtype=np.int32),
            np.append(np.zeros(1), np.ones(3999)),
            np.append(1.0, np.zeros(3999)),
        )
        assert pool.draw(np.random.default_rng(0)) == 0

    @given(st.lists(st.tuples(st.integers(0, 4), st.floats(0, 1) | st.none()), max_size=40))
    def test_sums_do_not_drift(self, changes):
        pool, values = ProgressPool(5), {}
        for index, value in changes:
            if value is None:
                pool.discard(index)
                values.pop(index, None)
            else:
                pool.set(index, value)
                values[index] = value
        again = ProgressPool(5)
        again.load(pool.members, np.array([values[i] for i in pool.members.tolist()]), np.ones(len(pool)))
        assert (pool.mean, pool.deviation) == (again.mean, again.deviation)
        if values:
            assert pool.mean == pytest.approx(np.mean(list(values.values())))
            assert pool.deviation == pytest.approx(np.std(list(values.values())), abs=1e-9)

"""Learnability: p(1 - p) from rollouts and from episodes, and who is drawn for it."""

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from macurr import DiscreteTaskSpace, EnvSpec, TaskError, UsageError
from macurr.curricula import Learnability as _Learnability
from macurr.testing import CurriculumTests

Learnability = partial(_Learnability, success="progress")


class _Conformance(CurriculumTests):
    def drive(self, curriculum, n, rng):
        super().drive(curriculum, n, rng)
        curriculum.update_on_demand({"task_success": {1: float(rng.random()), 4: math.nan}, "episodes": 5})

    def bad_demands(self, curriculum):
        yield {"task_success": {0: 0.5, 1: "much"}}
        yield {"task_success": {0: 0.5, 99: 0.5}}
        yield {"task_success": {0: 0.5, 1: math.inf}}
        yield {"task_success": {0: 0.5}, "episodes": 0}
        yield {"task_success": [0.5]}


class TestTopK(_Conformance):
    def make(self, seed):
        return Learnability(DiscreteTaskSpace(6), seed=seed, k=2)


class TestProportional(_Conformance):
    def make(self, seed):
        return Learnability(DiscreteTaskSpace(6), seed=seed, sampling="proportional", unbiased=True)


def test_the_best_k_share_what_exploration_leaves():
    curriculum = Learnability(DiscreteTaskSpace(5), k=2, exploration=0.5)
    np.testing.assert_allclose(curriculum.distribution(), 0.2)  # nothing known
    curriculum.update_on_demand({"task_success": [0.1, 0.5, 1.0, 0.8, math.nan]})
    # .09, .25, 0, .16 and nothing: NaN is neither first nor last
    np.testing.assert_allclose(curriculum.distribution(), [0.1, 0.35, 0.1, 0.35, 0.1])
    assert curriculum.score(3) == pytest.approx(0.16)
    assert curriculum.score(4) is None


def test_in_proportion_to_the_score():
    curriculum = Learnability(DiscreteTaskSpace(4), sampling="proportional", exploration=0.0, eps=0.01)
    curriculum.update_on_demand({"task_success": [0.5, 1.0, 0.1, math.nan]})
    np.testing.assert_allclose(curriculum.distribution(), np.array([0.26, 0.01, 0.10, 0.0]) / 0.37)
    loaded = Learnability(DiscreteTaskSpace(4), sampling="proportional", exploration=0.0, eps=0.01)
    loaded.load_state_dict(curriculum.state_dict())
    np.testing.assert_allclose(loaded.distribution(), curriculum.distribution())


def test_ties_go_to_the_smaller_position():
    curriculum = Learnability(DiscreteTaskSpace(4), k=2, exploration=0.0)
    curriculum.update_on_demand({"task_success": {3: 0.5, 2: 0.5, 0: 0.5}})
    assert curriculum.distribution().tolist() == [0.5, 0.0, 0.5, 0.0]


def test_a_mean_that_turns_into_a_moving_average():
    curriculum = Learnability(DiscreteTaskSpace(1), alpha=0.4)
    for progress, p in ((1, 1.0), (0, 1 / 2), (0, 1 / 2 * 0.6), (1, 1 / 2 * 0.36 + 0.4)):
        curriculum.update_on_episode(0.0, 1, 0, float(progress))
        assert curriculum.score(0) == pytest.approx(p * (1 - p))


@given(st.lists(st.integers(0, 1), min_size=2, max_size=30))
def test_unbiased_is_n_over_n_minus_1(results):
    curriculum = Learnability(DiscreteTaskSpace(1), alpha=0.0, unbiased=True)
    for result in results:
        curriculum.update_on_episode(0.0, 1, 0, float(result))
    n, p = len(results), np.mean(results)
    assert curriculum.score(0) == pytest.approx(p * (1 - p) * n / (n - 1))


def test_unbiased_of_a_moving_average_is_right_on_average():
    # All 2^6 outcomes of six fair coins: the plain score is too small on average, the corrected one is 1/4.
    plain, corrected = [], []
    for outcome in range(64):
        for unbiased, scores in ((False, plain), (True, corrected)):
            curriculum = Learnability(DiscreteTaskSpace(1), alpha=0.5, unbiased=unbiased)
            for bit in range(6):
                curriculum.update_on_episode(0.0, 1, 0, float(outcome >> bit & 1))
            scores.append(curriculum.score(0))
    assert np.mean(corrected) == pytest.approx(0.25)
    assert np.mean(plain) < 0.2


def test_one_episode_says_nothing_once_corrected():
    curriculum = Learnability(DiscreteTaskSpace(1), unbiased=True)
    curriculum.update_on_episode(0.0, 1, 0, 0.5)
    assert curriculum.score(0) == 0.0


def test_rollouts_of_n_episodes_are_corrected_too_and_forget_what_was_before():
    curriculum = Learnability(DiscreteTaskSpace(2), unbiased=True)
    curriculum.update_on_episode(0.0, 1, 0, 1.0)
    curriculum.update_on_demand({"task_success": {0: 0.4}, "episodes": 5})
    assert curriculum.score(0) == pytest.approx(0.24 * 5 / 4)
    curriculum.update_on_demand({"task_success": {0: math.nan}})
    assert curriculum.score(0) is None


def test_the_score_is_the_sum_over_the_learners():
    curriculum = Learnability(DiscreteTaskSpace(2), alpha=0.0)
    curriculum.register_env(3, EnvSpec(("a", "b", "frozen"), ("a", "b")))
    for a, b in ((1.0, 0.0), (0.0, 0.0)):
        returns, progress = {"a": 0.0, "b": 0.0, "frozen": 0.0}, {"a": a, "b": b, "frozen": a}
        curriculum.update_on_episode(returns, 5, 1, progress, env_id=3)
    assert curriculum.score(1) == pytest.approx(0.25 + 0.0)
    curriculum.update_on_demand({"task_success": {1: {"a": 0.5, "b": 0.2}}})
    assert curriculum.score(1) == pytest.approx(0.25 + 0.16)


def test_tasks_come_and_go():
    space = DiscreteTaskSpace(2)
    top = Learnability(space, k=1, exploration=0.0)
    proportional = Learnability(space, sampling="proportional", exploration=0.0, eps=0.0)
    for curriculum in (top, proportional):
        curriculum.update_on_demand({"task_success": [0.5, 0.2]})
    new = space.add_task()
    space.remove_task(0)
    for curriculum in (top, proportional):
        assert curriculum.distribution().tolist() == [0, 1, 0]
        curriculum.update_on_episode(0.0, 1, 0, 1.0)  # was under way
        curriculum.update_on_episode(0.0, 1, new, 0.2)
        assert curriculum.sample(20).count(0) == 0
    np.testing.assert_allclose(proportional.distribution(), [0, 0.5, 0.5])
    assert 0 not in Learnability(space).sample(100)


def test_offline_episodes_teach_nothing():
    curriculum = Learnability(DiscreteTaskSpace(2), online=False)
    curriculum.update_on_episode(1.0, 1, 0, 1.0)
    assert curriculum.score(0) is None


@pytest.mark.parametrize("options", [{"sampling": "best"}, {"k": 0}, {"eps": -1.0}, {"alpha": 2.0}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(UsageError):
        Learnability(DiscreteTaskSpace(2), **options)


def test_a_state_of_more_tasks_than_there_are_is_refused():
    state = Learnability(DiscreteTaskSpace(3)).state_dict()
    with pytest.raises(ValueError, match="add the missing tasks first"):
        Learnability(DiscreteTaskSpace(2)).load_state_dict(state)


def test_the_success_rule_is_checked_before_anything_changes():
    curriculum = Learnability(DiscreteTaskSpace(2), success=lambda episode_return, _: episode_return)
    with pytest.raises(TaskError):
        curriculum.update_on_episode({"a": 0.5, "b": 3.0}, 1, 0, {})
    assert curriculum.score(0) is None


@given(
    st.lists(st.tuples(st.integers(0, 3), st.lists(st.floats(0, 1), min_size=9, max_size=9)), max_size=25),
    st.booleans(),
)
def test_a_reloaded_state_ranks_to_the_last_digit(results, unbiased):
    made = [Learnability(DiscreteTaskSpace(4), k=2, unbiased=unbiased, exploration=0.0) for _ in range(2)]
    for task, progress in results:
        agents = {str(i): value for i, value in enumerate(progress)}
        made[0].update_on_episode(dict.fromkeys(agents, 0.0), 1, task, agents)
    made[1].load_state_dict(made[0].state_dict())
    assert made[0]._order.keys.tolist() == pytest.approx(
        made[1]._order.keys.tolist(), rel=0, abs=0, nan_ok=True
    )

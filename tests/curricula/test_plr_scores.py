"""Every row of the table of scores, with numbers worked by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from macurr.curricula.plr import scores
from macurr.curricula.plr.strategies import STRATEGIES, Outcomes, Stretch

# Three steps, gamma 0.5, lambda 0.5. One-step errors: 1 + .5*2 - 4 = -2, 0 + .5*1 - 2 = -1.5, 3 + .5*final - 1.
rewards, values = [1.0, 0.0, 3.0], [4.0, 2.0, 1.0]
discounts = {"gamma": 0.5, "gae_lambda": 0.5}


def test_gae_of_a_terminated_episode():
    # A_2 = 2, A_1 = -1.5 + .25*2 = -1, A_0 = -2 + .25*-1 = -2.25
    assert scores.gae_advantages(rewards, values, 0.0, **discounts).tolist() == [-2.25, -1.0, 2.0]


def test_gae_of_a_truncated_episode_counts_the_value_that_was_cut_off():
    # A_2 = 3 + .5*8 - 1 = 6, A_1 = -1.5 + .25*6 = 0, A_0 = -2
    assert scores.gae_advantages(rewards, values, 8.0, **discounts).tolist() == [-2.0, 0.0, 6.0]


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=70), st.floats(0, 1))
def test_discounted_sums_are_the_recursion(deltas, factor):
    expected, following = [], 0.0
    for delta in reversed(deltas):
        following = delta + factor * following
        expected.append(following)
    np.testing.assert_allclose(scores.discounted_sums(deltas, factor), expected[::-1], atol=1e-9)


def test_discounted_sums_of_nothing():
    assert scores.discounted_sums([], 0.9).shape == (0,)


def score(name, *, ended=True, best_return=0.0, **columns):
    given_columns = {key: np.array(column) for key, column in {"rewards": rewards, **columns}.items()}
    stretch = Stretch(given_columns, ended, 0.0, 0.0, best_return, gamma=0.5, gae_lambda=0.5)
    return STRATEGIES[name].score_steps(stretch)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("value_l1", [2.25, 1.0, 2.0]),
        ("gae", [-2.25, -1.0, 2.0]),
        ("signed_value_loss", [-2.25, -1.0, 2.0]),
        ("positive_value_loss", [0.0, 0.0, 2.0]),
        ("one_step_td_error", [2.0, 1.5]),
    ],
)
def test_scores_of_the_value_loss(name, expected):
    assert score(name, values=values).tolist() == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("max_mc", [-1.0, 1.0, 2.0]),
        ("grounded_signed_value_loss", [-1.0, 1.0, 2.0]),
        ("grounded_positive_value_loss", [0.0, 1.0, 2.0]),
    ],
)
def test_scores_grounded_in_the_best_return(name, expected):
    assert score(name, values=values, best_return=3.0).tolist() == expected


def test_one_step_td_error_keeps_the_last_step_where_it_is_all_there_is_or_the_episode_goes_on():
    one = Stretch({"rewards": np.array([1.0]), "values": np.array([4.0])}, ended=True, gamma=0.5)
    assert STRATEGIES["one_step_td_error"].score_steps(one).tolist() == [3.0]
    assert score("one_step_td_error", values=values, ended=False).tolist() == [2.0, 1.5, 2.0]
    # What follows the last step is worth 8: |3 + .5*8 - 1| = 6.
    assert scores.one_step_td_error(rewards, values, gamma=0.5, final_value=8.0).tolist() == [2.0, 1.5, 6.0]


def test_alt_advantage_abs_compares_two_critics():
    # The second critic is 0 everywhere: its returns are those of the rewards, R_2 = 3, R_1 = .75, R_0 = 1.1875.
    found = score("alt_advantage_abs", values=values, alternative_values=[0.0, 0.0, 0.0])
    assert found.tolist() == [2.8125, 1.25, 2.0]


probs = [[1.0, 0.0], [0.5, 0.5], [0.75, 0.25]]


def test_scores_of_the_policy():
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25)) / np.log(2)
    np.testing.assert_allclose(score("policy_entropy", action_probs=probs), [0.0, 1.0, entropy], atol=1e-12)
    assert score("least_confidence", action_probs=probs).tolist() == [0.0, 0.5, 0.25]
    assert score("min_margin", action_probs=probs).tolist() == [0.0, 1.0, 0.5]


@pytest.mark.parametrize("name", ["policy_entropy", "least_confidence", "min_margin"])
def test_a_policy_without_choice_is_certain(name):
    assert score(name, action_probs=[[1.0], [1.0], [1.0]]).tolist() == [0.0, 0.0, 0.0]


def test_value_disagreement_is_the_spread_of_the_critics():
    assert score("value_disagreement", value_ensemble=[[1.0, 3.0], [2.0, 2.0], [0.0, 4.0]]).tolist() == [
        1.0,
        0.0,
        2.0,
    ]


def test_scores_of_returns():
    assert scores.relative_regret([1.0, 5.0], [2.0, 4.0]) == 2.0
    assert scores.relative_regret([1.0], [2.0]) == 0.0
    assert scores.population_regret([[1.0, 5.0], [2.0, 4.0]]) == 2.0
    assert scores.learnability([0.0, 0.5, 0.9, 1.0]).round(12).tolist() == [0.0, 0.25, 0.09, 0.0]
    assert scores.tscl_window([3.0, 1.0, -1.0]) == 2.0
    assert scores.tscl_window([1.0, 1.0, 4.0]) == 1.5
    assert scores.tscl_window([7.0]) == 0.0


def remembered(name, results, **options):
    outcomes = Outcomes(STRATEGIES[name], **options)
    row = outcomes.fresh()
    for episode_return, success in results:
        row = outcomes.remember(row, episode_return, success)
    return outcomes, row


def test_learnability_is_of_the_mean_success():
    outcomes, row = remembered("learnability", [(0, 1.0), (0, 0.0), (0, 0.0), (0, 0.0)])
    assert row.tolist() == [4.0, 0.25]
    assert outcomes.score(row) == 0.1875


def test_learnability_forgets_where_alpha_says_so():
    # 1, then the mean of two, then a quarter towards each newer outcome
    _, row = remembered("learnability", [(0, 1.0), (0, 0.0), (0, 0.0)], alpha=0.5)
    assert row.tolist() == [3.0, 0.25]


def test_tscl_window_looks_at_the_latest_returns_in_order():
    outcomes, row = remembered("tscl_window", [(r, 0) for r in (9.0, 1.0, 2.0, 4.0)], window=3)
    assert outcomes.score(row) == 1.5  # of 1, 2, 4
    outcomes, row = remembered("tscl_window", [(r, 0) for r in (9.0, 1.0)], window=3)
    assert outcomes.score(row) == 8.0


def test_the_best_return_may_be_negative():
    _, row = remembered("max_mc", [(-5.0, 0), (-3.0, 0), (-4.0, 0)])
    assert row.tolist() == [-3.0]

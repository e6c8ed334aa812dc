"""PFSP weights on numbers worked by hand, and what must hold for all win rates."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from macurr.errors import TaskError, UsageError
from macurr.opponents import pfsp_weights
from macurr.opponents.sampling import WEIGHTINGS, plain_weights

win_rates = st.lists(st.floats(0, 1), min_size=1, max_size=20)


@pytest.mark.parametrize(
    ("weighting", "power", "unnormalised"),
    [
        # f(x) at x = 0, 1/4, 1/2, 1
        ("linear", 2.0, [1, 0.75, 0.5, 0]),
        ("linear_capped", 2.0, [0.5, 0.5, 0.5, 0]),
        ("squared", 7.0, [1, 0.5625, 0.25, 0]),
        ("hard", 2.0, [1, 0.5625, 0.25, 0]),
        ("hard", 3.0, [1, 0.421875, 0.125, 0]),
        ("hard", 0.5, [1, 0.8660254037844386, 0.7071067811865476, 0]),
        ("easy", 2.0, [0, 0.0625, 0.25, 1]),
        ("variance", 2.0, [0, 0.1875, 0.25, 0]),
    ],
)
def test_each_weighting_by_hand(weighting, power, unnormalised):
    wanted = np.array(unnormalised) / sum(unnormalised)
    np.testing.assert_allclose(pfsp_weights([0, 0.25, 0.5, 1], weighting, power), wanted, rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("weighting", "rates"),
    [
        ("hard", [1.0, 1, 1, 1]),
        ("easy", [0.0] * 4),
        ("variance", [0.0, 1, 1, 0]),
        ("squared", [1 - 1e-6] * 4),
    ],
)
def test_uniform_where_the_weights_vanish(weighting, rates):
    np.testing.assert_array_equal(pfsp_weights(rates, weighting), [0.25] * 4)


@given(win_rates, st.sampled_from(sorted(WEIGHTINGS)), st.floats(0.1, 8))
def test_always_a_distribution(rates, weighting, power):
    found = pfsp_weights(rates, weighting, power)
    assert found.min() >= 0
    assert found.sum() == pytest.approx(1)


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=64),
    st.sampled_from(sorted(WEIGHTINGS)),
    st.sampled_from([1.0, 2.0, 2]),
)
def test_plain_numbers_give_the_same_bits(rates, weighting, power):
    assert plain_weights(rates, weighting, power) == pfsp_weights(rates, weighting, power).tolist()


@pytest.mark.parametrize("weighting", ["hard", "easy", lambda x: x])
def test_other_powers_and_functions_are_left_to_numpy(weighting):
    assert plain_weights([0.5, 0.25], weighting, 3.0) is None


@given(win_rates, st.floats(0.1, 8))
def test_hard_never_prefers_whom_we_beat_more(rates, power):
    found = pfsp_weights(sorted(rates), "hard", power)
    assert (np.diff(found) <= 1e-15).all()


def test_a_function_may_be_the_weighting():
    # FTW's matchmaking: a normal density around even matches, with a deviation of 1/6.
    found = pfsp_weights([0.5, 0.5 + 1 / 6], lambda x: np.exp(-(((x - 0.5) * 6) ** 2) / 2))
    assert found[1] / found[0] == pytest.approx(np.exp(-0.5))


@pytest.mark.parametrize("rates", [[0.5, float("nan")], [-0.1], [1.1], [float("inf")]])
def test_what_is_no_win_rate_is_refused(rates):
    with pytest.raises(TaskError, match="from 0 to 1"):
        pfsp_weights(rates)


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [1.0, float("nan")]])
def test_what_a_function_returns_is_checked(weights):
    with pytest.raises(TaskError, match="one finite weight"):
        pfsp_weights([0.5, 0.5], lambda x: np.array(weights))


@pytest.mark.parametrize(
    ("rates", "weighting", "power", "said"),
    [
        ([], "hard", 2.0, "one win rate for each"),
        (0.5, "hard", 2.0, "one win rate for each"),
        ([0.5], "hardest", 2.0, "linear_capped"),
        ([0.5], None, 2.0, "unknown"),
        ([0.5], "hard", 0.0, "power"),
        ([0.5], "hard", float("nan"), "power"),
    ],
)
def test_bad_options_are_refused(rates, weighting, power, said):
    with pytest.raises(UsageError, match=said):
        pfsp_weights(rates, weighting, power)


def test_small_weights_count_as_long_as_they_do_not_vanish():
    # Squares of what is missing to 1: 1e-6 and 4e-6 are weights, 1e-12 and 4e-12 are nothing.
    for missing, expected in ((1e-3, [0.2, 0.8]), (1e-6, [0.5, 0.5])):
        rates = [1 - missing, 1 - 2 * missing]
        np.testing.assert_allclose(pfsp_weights(rates, "hard", 2.0), expected, rtol=1e-9)
        np.testing.assert_allclose(plain_weights(rates, "hard", 2.0), expected, rtol=1e-9)

"""Alpha-rank against closed forms, exact rational arithmetic and OpenSpiel."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from macurr.errors import SolverError
from macurr.opponents import alpha_rank, marginals
from tests.opponents.test_meta_solvers import ASYMMETRIC, BIASED, ROCK_PAPER_SCISSORS, THREE_PLAYERS

RANDOM = np.random.default_rng(3).normal(size=(5, 5))

# OpenSpiel 2.0.2, egt.alpharank.compute, printed with repr.
OPENSPIEL = [
    (BIASED, {"population": 10}, [0.34712615209900916, 0.34712615146881554, 0.30574769643217525]),
    (
        BIASED,
        {"population": 10, "alpha": 0.1, "local_selection": False},
        [0.3999750069520865, 0.35760258662518263, 0.24242240642273089],
    ),
    (
        [[3.0, 0.0], [5.0, 1.0]],
        {"population": 5, "alpha": 0.3, "local_selection": False},
        [0.05468131721594077, 0.9453186827840593],
    ),
    (
        RANDOM,
        {"population": 20, "alpha": 0.5},
        [
            0.017515450189129294,
            0.045532643608127116,
            0.004838382018934103,
            0.9133619635688398,
            0.018751560614969708,
        ],
    ),
    (
        RANDOM,
        {"population": 20, "alpha": 0.5, "local_selection": False},
        [
            0.970192428478389,
            8.708929809491238e-05,
            6.114607398234986e-05,
            0.02953050340582355,
            0.00012883274371,
        ],
    ),
    (
        RANDOM,
        {"alpha": math.inf, "epsilon": 0.01},
        [
            0.004170071523044934,
            0.023909578321981474,
            0.00251889168765746,
            0.9611650485436901,
            0.008236409923626006,
        ],
    ),
    (
        [ASYMMETRIC, -ASYMMETRIC],
        {"population": 10, "alpha": 0.5},
        [
            [0.04418963962051273, 0.22288513897656864, 0.20998828652603416],
            [0.10056872268167749, 0.14839273983594214, 0.2739754723592648],
        ],
    ),
    (
        [ASYMMETRIC, -ASYMMETRIC],
        {"alpha": math.inf, "epsilon": 0.05},
        [
            [0.050316998790722434, 0.2761261261261263, 0.247411164154832],
            [0.07572766645037891, 0.14181355268311782, 0.2086044917948225],
        ],
    ),
    (
        THREE_PLAYERS,
        {"population": 5, "alpha": 0.2},
        np.reshape(
            [
                *[0.5257269629567543, 0.013512769635976337, 0.1447417462171244, 0.0568753989113165],
                *[0.01947841473062242, 0.03816656396322611, 0.05400094890784273, 0.025761946333008157],
                *[0.045647643246502875, 0.0318690771842531, 0.022597597968163245, 0.021620929945209793],
            ],
            (2, 3, 2),
        ),
    ),
]


@pytest.mark.parametrize(("payoffs", "options", "wanted"), OPENSPIEL)
def test_agrees_with_openspiel(payoffs, options, wanted):
    np.testing.assert_allclose(alpha_rank(payoffs, **options), wanted, rtol=0, atol=1e-10)


def test_rock_paper_scissors_is_uniform():
    for options in ({}, {"alpha": math.inf}, {"local_selection": False}):
        np.testing.assert_allclose(alpha_rank(ROCK_PAPER_SCISSORS, **options), [1 / 3] * 3, atol=1e-12)


@given(st.floats(-3, 3), st.floats(0, 10), st.integers(2, 30))
def test_two_strategies_have_a_closed_form(gain, alpha, population):
    # The chain has two states: their odds are the ratio of the fixation probabilities, e^((m - 1) alpha gain).
    found = alpha_rank([[0.0, gain], [0.0, 0.0]], alpha=alpha, population=population)
    log_odds = (population - 1) * alpha * gain
    assert found[0] == pytest.approx(0.5 * (1 + math.tanh(log_odds / 2)), abs=1e-9)


@given(st.lists(st.lists(st.integers(-2, 2), min_size=4, max_size=4), min_size=4, max_size=4))
@settings(max_examples=30)
def test_infinite_alpha_solves_its_chain_exactly(rows):
    # The balance equations in rational numbers: epsilon is 1/4.
    table = np.array(rows)
    chances = {1: Fraction(3, 4), 0: Fraction(1, 2), -1: Fraction(1, 4)}
    rates = [[chances[int(np.sign(table[r][s] - table[s][r]))] for r in range(4)] for s in range(4)]
    found = alpha_rank(table, alpha=math.inf, epsilon=0.25)
    for state in range(4):
        inflow = sum(found[s] * float(rates[s][state]) for s in range(4) if s != state)
        outflow = found[state] * float(sum(rates[state][r] for r in range(4) if r != state))
        assert inflow == pytest.approx(outflow, abs=1e-12)


def test_chains_that_hardly_ever_move_are_solved():
    # Battle of the sexes: leaving either equilibrium has a chance of e^-100 and less. Both are equally stable:
    # the first mover's loss (3 or 2 units) is the other's in the other equilibrium.
    payoffs = [np.array([[3.0, 0.0], [0.0, 2.0]]), np.array([[2.0, 0.0], [0.0, 3.0]])]
    for population, alpha in ((50, 1.0), (50, 5.0), (200, 100.0)):
        found = alpha_rank(payoffs, population=population, alpha=alpha)
        np.testing.assert_allclose(found, [[0.5, 0.0], [0.0, 0.5]], atol=1e-12)


def test_a_dominant_strategy_takes_all():
    np.testing.assert_allclose(alpha_rank([[1.0, 9.0], [0.0, 0.0]], alpha=10.0), [1.0, 0.0], atol=1e-12)


def test_marginals_sum_over_the_others():
    joint = np.arange(6.0).reshape(2, 3) / 15
    rows, columns = marginals(joint)
    np.testing.assert_allclose(rows, [3 / 15, 12 / 15])
    np.testing.assert_allclose(columns, [3 / 15, 5 / 15, 7 / 15])


def test_one_strategy_is_ranked_first():
    np.testing.assert_array_equal(alpha_rank([[0.0]]), [1.0])
    np.testing.assert_array_equal(alpha_rank([[[0.0]], [[1.0]]]), [[1.0]])


@pytest.mark.parametrize(
    ("payoffs", "options", "said"),
    [
        (np.zeros((2, 3)), {}, "square"),
        ([[0.0, float("nan")], [0.0, 0.0]], {}, "nan"),
        (BIASED, {"alpha": -1.0}, "alpha"),
        (BIASED, {"alpha": float("nan")}, "alpha"),
        (BIASED, {"alpha": 1e308}, "too large"),
        (BIASED, {"population": 1}, "population"),
        (BIASED, {"epsilon": 0.0}, "epsilon"),
    ],
)
def test_bad_input_is_refused(payoffs, options, said):
    with pytest.raises(SolverError, match=said):
        alpha_rank(payoffs, **options)

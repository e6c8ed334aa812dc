"""Solvers against numbers worked by hand, against OpenSpiel, and against what an equilibrium must satisfy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from macurr.errors import SolverError
from macurr.opponents import (
    as_game,
    nash,
    nash_averaging,
    nash_conv,
    projected_replicator_dynamics,
    regret_matching,
    uniform,
)
from macurr.opponents.games import deviation_values
from macurr.opponents.meta_solvers import project_to_simplex

ROCK_PAPER_SCISSORS = np.array([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]])
# Rock beats scissors by 2. In equilibrium r = s (paper is worth nothing) and p = 2 s (rock is): (1, 2, 1) / 4.
BIASED = np.array([[0.0, -1.0, 2.0], [1.0, 0.0, -1.0], [-2.0, 1.0, 0.0]])
MATCHING_PENNIES = np.array([[1.0, -1.0], [-1.0, 1.0]])
ASYMMETRIC = np.array([[1.0, -2.0, 0.5], [0.0, 1.5, -1.0]])
THREE_PLAYERS = [
    np.array([[[3.0, 1], [1, 3], [1, 2]], [[2, -2], [-3, -1], [-2, 3]]]),
    np.array([[[3.0, -3], [0, 2], [-3, 2]], [[-3, 0], [2, -1], [-1, -2]]]),
    np.array([[[2.0, -2], [3, 0], [0, 0]], [[1, 0], [0, 3], [2, 2]]]),
]

# OpenSpiel 2.0.2: projected_replicator_dynamics(game, prd_iterations=200, prd_dt=1e-2, prd_gamma=1e-3) and
# regret_matching(game, iterations=200, gamma=1e-6), printed with repr.
OPENSPIEL_PRD = {
    "biased": [[0.3931305905418363, 0.3790859129825867, 0.2277834964755766]] * 2,
    "asymmetric": [
        [0.4140357928524277, 0.5859642071475721],
        [0.21324448153482864, 0.33081815714281926, 0.45593736132235185],
    ],
    "three": [
        [0.869252720343269, 0.13074727965673055],
        [0.49782858970695176, 0.39400192736940104, 0.10816948292364686],
        [0.8120222093157068, 0.18797779068429357],
    ],
}
OPENSPIEL_REGRET_MATCHING = {
    "biased": [[0.28532914636937384, 0.48583020616908645, 0.22884064746153934]] * 2,
    "asymmetric": [
        [0.44954075219011497, 0.5504592478098851],
        [0.0016587064676616826, 0.32117597843387435, 0.6771653150984644],
    ],
    "three": [
        [0.9975119402985085, 0.0024880597014924964],
        [0.990237542257719, 0.008103751274620883, 0.0016587064676616826],
        [0.9975119402985085, 0.0024880597014924964],
    ],
}
GAMES = {"biased": BIASED, "asymmetric": ASYMMETRIC, "three": THREE_PLAYERS}

payoff_matrices = arrays(
    np.float64, st.tuples(st.integers(1, 5), st.integers(1, 5)), elements=st.integers(-4, 4).map(float)
)


def assert_close(found, wanted, atol=1e-6):
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=atol)


# --- games ---------------------------------------------------------------------------------------------------


def test_a_matrix_is_a_zero_sum_game():
    game = as_game([[1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(game[0], -game[1])
    assert game[0].shape == (2, 3)


def test_deviation_values_of_three_players_by_brute_force():
    rng = np.random.default_rng(0)
    tensor = rng.normal(size=(2, 3, 4))
    x, y, z = (rng.dirichlet(np.ones(n)) for n in tensor.shape)
    np.testing.assert_allclose(deviation_values(tensor, [x, y, z], 0), np.einsum("abc,b,c->a", tensor, y, z))
    np.testing.assert_allclose(deviation_values(tensor, [x, y, z], 1), np.einsum("abc,a,c->b", tensor, x, z))
    np.testing.assert_allclose(deviation_values(tensor, [x, y, z], 2), np.einsum("abc,a,b->c", tensor, x, y))


def test_nash_conv_by_hand():
    # Always rock against always rock: each would gain 1 by paper.
    assert nash_conv(ROCK_PAPER_SCISSORS, [[1, 0, 0], [1, 0, 0]]) == 2.0
    assert nash_conv(ROCK_PAPER_SCISSORS, uniform(ROCK_PAPER_SCISSORS)) == pytest.approx(0.0, abs=1e-15)


@pytest.mark.parametrize(
    ("payoffs", "said"),
    [
        ([[0.0, float("nan")], [0.0, 0.0]], r"\(0, 1\) is nan"),
        ([[0.0, float("inf")], [0.0, 0.0]], r"\(0, 1\) is inf"),
        (np.zeros((0, 0)), "hold no strategies"),
        (np.zeros((3, 2, 2)), "no game"),
        (3.0, "no game"),
        ([[1.0], [1.0, 2.0]], "no numeric array"),
        ([["rock"]], "no numeric array"),
    ],
)
@pytest.mark.parametrize(
    "solver", [uniform, nash, projected_replicator_dynamics, regret_matching, nash_averaging]
)
def test_what_is_no_game_is_refused(solver, payoffs, said):
    with pytest.raises(SolverError, match=said):
        solver(payoffs)


def test_nash_conv_refuses_strategies_that_do_not_fit():
    with pytest.raises(SolverError, match="do not fit"):
        nash_conv(ROCK_PAPER_SCISSORS, [[0.5, 0.5], [1, 0, 0]])


# --- dynamics ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GAMES)
def test_projected_replicator_dynamics_agree_with_openspiel(name):
    payoffs = [BIASED, BIASED.T] if name == "biased" else GAMES[name]
    found = projected_replicator_dynamics(payoffs, iterations=200, dt=1e-2, gamma=1e-3)
    assert_close(found, OPENSPIEL_PRD[name], atol=1e-12)


@pytest.mark.parametrize("name", GAMES)
def test_regret_matching_agrees_with_openspiel(name):
    payoffs = [BIASED, BIASED.T] if name == "biased" else GAMES[name]
    assert_close(regret_matching(payoffs, iterations=200), OPENSPIEL_REGRET_MATCHING[name], atol=1e-12)


@pytest.mark.parametrize("solver", [projected_replicator_dynamics, regret_matching])
def test_dynamics_find_a_dominant_strategy_and_the_equilibrium_of_pennies(solver):
    prisoners_dilemma = [np.array([[3.0, 0.0], [5.0, 1.0]]), np.array([[3.0, 5.0], [0.0, 1.0]])]
    assert_close(solver(prisoners_dilemma, iterations=4000), [[0, 1], [0, 1]], atol=0.05)
    assert_close(solver(MATCHING_PENNIES), [[0.5, 0.5]] * 2, atol=1e-9)


@pytest.mark.parametrize("solver", [projected_replicator_dynamics, regret_matching])
def test_dynamics_say_when_they_have_not_converged(solver):
    with pytest.raises(SolverError, match=r"did not converge: NashConv is .* after 3 iterations"):
        solver(BIASED, iterations=3, tolerance=1e-3)
    assert nash_conv(BIASED, solver(BIASED, tolerance=0.1)) <= 0.1


@pytest.mark.parametrize("options", [{"iterations": 0}, {"gamma": 0.5}, {"gamma": -1e-9}, {"dt": 0.0}])
def test_replicator_options_out_of_range_are_refused(options):
    with pytest.raises(SolverError):
        projected_replicator_dynamics(BIASED, **options)


def test_regret_matching_options_out_of_range_are_refused():
    with pytest.raises(SolverError, match="gamma"):
        regret_matching(BIASED, gamma=1.5)


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=6), st.floats(0, 0.15))
def test_projection_is_the_nearest_point_of_the_floored_simplex(x, floor):
    x = np.array(x)
    found = project_to_simplex(x, floor)
    assert found.sum() == pytest.approx(1.0)
    assert found.min() >= floor - 1e-12
    # Optimal exactly when no feasible vertex lies on the near side of the tangent at the found point.
    vertices = floor + (1 - len(x) * floor) * np.eye(len(x))
    assert ((vertices - found) @ (x - found) <= 1e-9).all()


# --- linear programs -----------------------------------------------------------------------------------------


def test_nash_by_hand():
    assert_close(nash(ROCK_PAPER_SCISSORS), [[1 / 3] * 3] * 2, atol=1e-12)
    assert_close(nash(BIASED), [[0.25, 0.5, 0.25]] * 2, atol=1e-12)
    assert_close(nash([MATCHING_PENNIES, -MATCHING_PENNIES]), [[0.5, 0.5]] * 2, atol=1e-12)
    # The second row is better by 1 everywhere; against it the first column is the better.
    assert_close(nash([[2.0, 3.0], [3.0, 4.0]]), [[0, 1], [1, 0]], atol=1e-12)
    # The first column is dominated. Rows: -2 a + 1.5 b = 0.5 a - b: (1/2, 1/2). Columns: -2 y + z / 2 = 1.5 y - z.
    assert_close(nash(ASYMMETRIC), [[0.5, 0.5], [0, 0.3, 0.7]], atol=1e-12)


def test_nash_refuses_games_that_are_no_linear_program():
    with pytest.raises(SolverError, match="not two-player zero-sum"):
        nash([np.eye(2), np.eye(2)])
    with pytest.raises(SolverError, match="not two-player zero-sum"):
        nash(THREE_PLAYERS)


@given(payoff_matrices)
def test_nash_leaves_nobody_a_gain(matrix):
    assert nash_conv(matrix, nash(matrix)) <= 1e-9


@given(payoff_matrices, st.floats(0.01, 1000), st.floats(-1000, 1000))
@settings(max_examples=30)
def test_nash_does_not_depend_on_units(matrix, scale, offset):
    shifted = scale * matrix + offset
    strategies = nash([shifted, -shifted])
    assert nash_conv(matrix, strategies) <= 1e-6


# --- Nash averaging ------------------------------------------------------------------------------------------


def test_nash_averaging_gives_duplicates_one_share():
    # Rock, paper, and scissors twice: the two scissors share a third.
    doubled = ROCK_PAPER_SCISSORS[np.ix_([0, 1, 2, 2], [0, 1, 2, 2])]
    found = nash_averaging(doubled)
    assert_close([found.rows, found.columns], [[1 / 3, 1 / 3, 1 / 6, 1 / 6]] * 2, atol=1e-9)
    assert_close([found.row_skills, found.column_skills], [[0] * 4] * 2, atol=1e-9)


def test_nash_averaging_ignores_the_dominated_and_rates_them_lower():
    # The fourth agent loses to everybody, by 1, 2 and 3.
    table = np.zeros((4, 4))
    table[:3, :3] = ROCK_PAPER_SCISSORS
    table[:3, 3], table[3, :3] = [1, 2, 3], [-1, -2, -3]
    found = nash_averaging(table)
    np.testing.assert_allclose(found.rows, [1 / 3, 1 / 3, 1 / 3, 0], atol=1e-9)
    np.testing.assert_allclose(found.row_skills, [0, 0, 0, -2], atol=1e-9)


def test_nash_averaging_of_agents_and_tasks_agrees_with_openspiel():
    # OpenSpiel 2.0.2, nash_averaging_avt_matrix, which scales every task to [0, 1] first; its convex solver is
    # exact to about 1e-6 only.
    scores = np.array([[0.9, 0.1, 0.5, 0.3], [0.2, 0.8, 0.4, 0.6], [0.5, 0.5, 0.9, 0.1]])
    scores = (scores - scores.min(axis=0)) / (scores.max(axis=0) - scores.min(axis=0))
    found = nash_averaging(scores)
    assert_close([found.rows], [[0.2777777776189311, 0.33333333154854844, 0.3888888872548878]])
    assert_close(
        [found.columns], [[0.19444445902856525, 2.546792985895388e-08, 0.36111109157887383, 0.44444442]]
    )
    assert_close([found.row_skills], [[4 / 9] * 3])
    assert_close([found.column_skills], [[-4 / 9, -5 / 9, -4 / 9, -4 / 9]])


def test_nash_averaging_of_duplicate_tasks_by_hand():
    # Two copies of the task that only agent 0 solves, one that only agent 1 solves.
    found = nash_averaging([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert_close([found.rows, found.columns], [[0.5, 0.5], [0.25, 0.25, 0.5]], atol=1e-9)


@given(payoff_matrices)
def test_nash_averaging_is_an_equilibrium_of_at_least_the_entropy_of_any_other(matrix):
    found = nash_averaging(matrix)
    assert nash_conv(matrix, [found.rows, found.columns]) <= 1e-9

    def entropy(p):
        return -(p[p > 0] * np.log(p[p > 0])).sum()

    for own, other in zip((found.rows, found.columns), nash(matrix), strict=True):
        # On the whole segment towards another equilibrium: a maximum of a concave function.
        for share in (1e-3, 0.5, 1.0):
            assert entropy(own) >= entropy((1 - share) * own + share * other) - 1e-9


@given(st.integers(0, 10_000), st.lists(st.integers(0, 4), max_size=6))
@settings(max_examples=25)
def test_nash_averaging_of_a_unique_equilibrium_is_invariant_to_clones(seed, clones):
    table = np.random.default_rng(seed).normal(size=(5, 5))
    table -= table.T
    players = [0, 1, 2, 3, 4, *clones]
    single, cloned = nash_averaging(table), nash_averaging(table[np.ix_(players, players)])
    np.testing.assert_allclose(cloned.row_skills, single.row_skills[players], atol=1e-8)
    np.testing.assert_allclose(np.bincount(players, cloned.rows), single.rows, atol=1e-8)
    for clone, player in enumerate(players):
        assert cloned.rows[clone] == pytest.approx(cloned.rows[player], abs=1e-8)

"""Ratings against closed forms, against OpenSpiel's Elo and against the rating library itself."""

import subprocess
import sys

import numpy as np
import openskill.models
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from macurr.errors import MissingDependencyError, SolverError, StateError, TaskError, UsageError
from macurr.opponents import BayesianRatings, EloRatings, Payoffs, elo_ratings, ratings

WINS = np.array([[0, 7, 4, 9], [3, 0, 6, 5], [6, 2, 0, 8], [1, 5, 3, 0]])
DRAWS = np.array([[0, 2, 0, 1], [2, 0, 3, 0], [0, 3, 0, 4], [1, 0, 4, 0]])


# --- Elo, all games at once ----------------------------------------------------------------------------------


def test_elo_agrees_with_openspiel():
    # OpenSpiel 2.0.2: elo.compute_ratings_from_matrices(WINS, DRAWS, smoothing_factor=0.0, max_iterations=100000,
    # convergence_delta=1e-14), less its mean.
    wanted = [83.20271183346271, 4.520860842144074, 12.879149442634414, -100.6027221182412]
    found = elo_ratings(WINS + DRAWS / 2, prior_games=0, mean=0)
    np.testing.assert_allclose(found.ratings, wanted, rtol=0, atol=1e-6)


def test_elo_of_two_players_has_a_closed_form():
    found = elo_ratings([[0, 3], [1, 0]], prior_games=0)
    assert found.ratings[0] - found.ratings[1] == pytest.approx(400 * np.log10(3))
    assert found.ratings.mean() == pytest.approx(1500)
    # The difference has Fisher information n p (1 - p); each rating moves by half of it.
    deviation = 400 / np.log(10) / np.sqrt(4 * 0.75 * 0.25) / 2
    assert found.high[0] - found.ratings[0] == pytest.approx(1.959963984540054 * deviation)


@given(st.integers(0, 10_000), st.just(0.0) | st.floats(1e-3, 5))
@settings(max_examples=40)
def test_elo_is_where_expected_and_actual_scores_meet(seed, prior):
    points = np.random.default_rng(seed).integers(0, 6, size=(5, 5)) + 0.5
    np.fill_diagonal(points, 0)
    theta = (elo_ratings(points, prior_games=prior, mean=0).ratings) * np.log(10) / 400
    expected = (points + points.T) / (1 + np.exp(theta[None] - theta[:, None]))
    surplus = (points - expected).sum(axis=1)
    if prior == 0:
        np.testing.assert_allclose(surplus, 0, atol=1e-8)
    else:  # the virtual draws are against a fixed player, wherever the mean of the others came to lie
        assert np.abs(surplus).max() <= prior / 2
        assert surplus @ theta >= -1e-9


def test_intervals_cover_the_truth():
    rng = np.random.default_rng(5)
    truth = rng.normal(scale=200, size=6)
    truth -= truth.mean()
    chance = 1 / (1 + 10 ** ((truth[None] - truth[:, None]) / 400))
    covered = []
    for _ in range(200):
        wins = np.triu(rng.binomial(40, chance), 1)
        points = wins + np.triu(40 - wins, 1).T
        found = elo_ratings(points, prior_games=0, mean=0)
        covered.append((found.low <= truth) & (truth <= found.high))
    assert 0.93 <= np.mean(covered) <= 0.97


def test_an_unbeaten_player_is_finite_with_a_prior_and_refused_without():
    assert np.isfinite(elo_ratings([[0, 1000], [0, 0]])).all()
    with pytest.raises(SolverError, match="Player 1 never took a point from player 0"):
        elo_ratings([[0, 3], [0, 0]], prior_games=0)
    with pytest.raises(SolverError, match="infinitely far apart"):  # two groups that never met
        elo_ratings(np.kron(np.eye(2), [[0, 1], [1, 0]]), prior_games=0)


def test_a_long_chain_of_wins_that_closes_connects_everybody():
    n = 9
    found = elo_ratings(
        np.roll(np.eye(n), 1, axis=1), prior_games=0, mean=0
    )  # each has beaten the next, only
    np.testing.assert_allclose(found.ratings, 0.0, atol=1e-6)


def test_players_without_games_are_average_and_unsure():
    points = np.zeros((3, 3))
    points[0, 1], points[1, 0] = 30, 10
    found = elo_ratings(points)
    assert found.ratings[2] == pytest.approx(1500, abs=1e-6)
    assert found.high[2] - found.low[2] > 1.5 * (found.high[0] - found.low[0])


def test_elo_takes_the_points_of_a_payoff_table():
    payoffs = Payoffs(decay=1.0)
    for outcome in (1, 1, 0, -1):
        payoffs.record("a", "b", outcome)
    found = elo_ratings(payoffs.points(["a", "b"]), prior_games=0, mean=0)
    assert found.ratings[0] - found.ratings[1] == pytest.approx(400 * np.log10(2.5 / 1.5))


@pytest.mark.parametrize(
    "points", [np.zeros((2, 3)), np.zeros((0, 0)), [[0, -1], [1, 0]], [[0, float("nan")], [1, 0]]]
)
def test_what_are_no_points_is_refused(points):
    with pytest.raises(SolverError, match="Points"):
        elo_ratings(points)


@pytest.mark.parametrize(
    "options", [{"prior_games": -1}, {"prior_games": 1e-9}, {"scale": 0}, {"confidence": 1.0}]
)
def test_elo_options_out_of_range_are_refused(options):
    with pytest.raises(UsageError):
        elo_ratings([[0, 1], [1, 0]], **options)


# --- Elo, game by game ---------------------------------------------------------------------------------------


def test_online_elo_by_hand():
    elo = EloRatings(k=32)
    elo.record("a", "b", 1)  # even players: 16 points change hands
    assert (elo.rating("a"), elo.rating("b"), elo.rating("c")) == (1516.0, 1484.0, 1500.0)
    expected = 1 / (1 + 10 ** (-32 / 400))
    elo.record("a", "b", 0)
    assert elo.rating("a") == pytest.approx(1516 + 32 * (0.5 - expected))
    assert elo.expected("a", "b") + elo.expected("b", "a") == pytest.approx(1)


def test_online_elo_survives_absurd_differences():
    elo = EloRatings()
    elo.load_state_dict({"keys": ["a", "b"], "ratings": [1e9, -1e9]})
    assert (elo.expected("a", "b"), elo.expected("b", "a")) == pytest.approx((1.0, 0.0))


def test_online_elo_state():
    elo, copy = EloRatings(), EloRatings()
    elo.record(("red", np.int64(1)), "b", -1)
    assert elo.state_dict() == {"keys": [["red", 1], "b"], "ratings": [1484.0, 1516.0]}
    copy.load_state_dict(elo.state_dict())
    assert copy.rating(("red", 1)) == elo.rating(("red", 1)) == 1484.0
    for state in (
        {},
        {"keys": ["a"], "ratings": []},
        {"keys": ["a"], "ratings": [float("nan")]},
        {"keys": ["a", "a"], "ratings": [1, 2]},
    ):
        with pytest.raises(StateError):
            copy.load_state_dict(state)
    assert copy.rating("b") == 1516.0


# --- Bayesian ratings ----------------------------------------------------------------------------------------

MODELS = {
    "plackett_luce": openskill.models.PlackettLuce,
    "bradley_terry": openskill.models.BradleyTerryFull,
    "thurstone_mosteller": openskill.models.ThurstoneMostellerFull,
}


@pytest.mark.parametrize("model", MODELS)
def test_games_of_two_agree_with_the_library(model):
    found, library = BayesianRatings(model), MODELS[model]()
    a, b, c = library.rating(), library.rating(), library.rating()
    [[a], [b]] = library.rate([[a], [b]], ranks=[0, 1])
    [[b], [c]] = library.rate([[b], [c]], ranks=[0, 0])
    [[a], [c]] = library.rate([[a], [c]], ranks=[1, 0])
    for row, column, outcome in (("a", "b", 1), ("b", "c", 0), ("a", "c", -1)):
        found.record(row, column, outcome)
    for key, wanted in zip("abc", (a, b, c), strict=True):
        assert found.rating(key) == pytest.approx((wanted.mu, wanted.sigma), abs=1e-9)
    assert found.expected("a", "b") == pytest.approx(library.predict_win([[a], [b]])[0])


def test_teams_and_many_sides_agree_with_the_library():
    found, library = BayesianRatings(), MODELS["plackett_luce"]()
    found.record_match([["a", "b"], ["c", "d"], ["e"]], scores=[10, 3, 3])
    wanted = library.rate([[library.rating() for _ in team] for team in ("ab", "cd", "e")], ranks=[1, 2, 2])
    for key, rating in zip("abcde", [r for team in wanted for r in team], strict=True):
        assert found.rating(key) == pytest.approx((rating.mu, rating.sigma), abs=1e-9)


def test_beliefs_narrow_and_order_the_players():
    found = BayesianRatings()
    for _ in range(20):
        found.record("strong", "middle", 1)
        found.record("middle", "weak", 1)
    beliefs = [found.rating(key) for key in ("weak", "middle", "strong")]
    assert beliefs[0].mu < beliefs[1].mu < beliefs[2].mu
    assert max(belief.sigma for belief in beliefs) < found.rating("new").sigma
    low, high = found.rating("new").interval(0.95)
    assert (low, high) == pytest.approx((25 - 1.959963984540054 * 25 / 3, 25 + 1.959963984540054 * 25 / 3))


def test_bayesian_state():
    found, copy = BayesianRatings(), BayesianRatings()
    found.record(1, ("red", 2), 1)
    copy.load_state_dict(found.state_dict())
    assert copy.rating(1) == found.rating(1)
    assert copy.rating(("red", 2)) == found.rating(("red", 2))
    for beliefs in ([], [[1.0, 0.0]], [[1.0]], [[float("nan"), 1.0]]):
        with pytest.raises(StateError):
            copy.load_state_dict({"keys": [1], "beliefs": beliefs})
    assert copy.rating(1) == found.rating(1)


@pytest.mark.parametrize(
    ("teams", "scores"),
    [
        ([["a"]], [1]),
        ([["a"], []], [1, 0]),
        ([["a"], ["a"]], [1, 0]),
        ([["a"], ["b"]], [1]),
        ([["a"], ["b"]], [1, float("nan")]),
    ],
)
def test_what_is_no_match_is_refused(teams, scores):
    with pytest.raises(TaskError, match="A match needs"):
        BayesianRatings().record_match(teams, scores)


@pytest.mark.parametrize("table", [EloRatings, BayesianRatings])
def test_what_is_no_game_is_refused(table):
    for game in (("a", "a", 1), ("a", "b", float("nan"))):
        with pytest.raises(TaskError, match="A game needs"):
            table().record(*game)


def test_rating_options_out_of_range_are_refused():
    for make in (
        lambda: EloRatings(k=0),
        lambda: EloRatings(scale=-1),
        lambda: BayesianRatings("glicko"),
        lambda: BayesianRatings(sigma=0),
    ):
        with pytest.raises(UsageError):
            make()


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setattr(ratings, "_openskill", None)
    with pytest.raises(MissingDependencyError, match=r"macurr\[ratings\]"):
        BayesianRatings()


def test_elo_works_without_the_library():
    code = (
        "import sys; sys.modules['openskill'] = None\n"
        "from macurr.opponents import EloRatings, elo_ratings\n"
        "assert 'scipy' not in sys.modules\n"
        "print(elo_ratings([[0, 1], [1, 0]]).ratings.tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[1500.0, 1500.0]"

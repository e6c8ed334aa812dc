"""The payoff table against a list of all games, kept and decayed the slow way."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from macurr.errors import StateError, TaskError, UsageError
from macurr.opponents import Counts, Payoffs

PLAYERS = ["learner", 0, 1, 2, ("red", 0), ("blue", 0)]
games = st.lists(
    st.tuples(st.sampled_from(PLAYERS), st.sampled_from(PLAYERS), st.sampled_from([-1, 0, 1])).filter(
        lambda game: game[0] != game[1]
    ),
    max_size=60,
)


def slow_counts(history, row, column, decay, window):
    """Wins, draws and losses straight from the definition: the latest result weighs 1, the one before it decay."""
    results = [o if (r, c) == (row, column) else -o for r, c, o in history if {r, c} == {row, column}]
    results = results if window is None else results[-window:]
    weights = [decay ** (len(results) - 1 - i) for i in range(len(results))]
    return [
        sum(w for w, result in zip(weights, results, strict=True) if result == kind) for kind in (1, 0, -1)
    ]


@given(games, st.sampled_from([1.0, 0.99, 0.5]), st.sampled_from([None, 1, 3]))
def test_counts_are_those_of_the_games(history, decay, window):
    payoffs = Payoffs(decay, window)
    for game in history:
        payoffs.record(*game)
    for row in PLAYERS:
        for column in PLAYERS:
            wanted = slow_counts(history, row, column, decay, window)
            assert payoffs.counts(row, column) == pytest.approx(wanted, abs=1e-9)
            assert payoffs.win_rate(row, column) + payoffs.win_rate(column, row) == pytest.approx(1)
    matrix = payoffs.matrix(PLAYERS)
    points = payoffs.points(PLAYERS)
    for i, row in enumerate(PLAYERS):
        np.testing.assert_array_equal(payoffs.win_rates(row, PLAYERS), matrix[i])
        for j, column in enumerate(PLAYERS):
            counts = payoffs.counts(row, column)
            assert matrix[i, j] == counts.win_rate
            assert points[i, j] == pytest.approx(counts.wins + counts.draws / 2)


def _change(payoffs, event):
    if event[0] == "game":
        payoffs.record(*event[1])
    elif event[0] == "forget":
        payoffs.forget(event[1])
    elif event[0] == "inherit":
        payoffs.inherit(*event[1])
    else:  # a state in which nobody has played
        payoffs.load_state_dict(Payoffs(payoffs.decay, payoffs.window).state_dict())


pairs = st.permutations(PLAYERS).map(lambda order: tuple(order[:2]))
events = st.one_of(
    st.tuples(
        st.just("game"), st.builds(lambda pair, sign: (*pair, sign), pairs, st.sampled_from([-1, 0, 1]))
    ),
    st.tuples(st.just("forget"), st.sampled_from(PLAYERS)),
    st.tuples(st.just("inherit"), pairs),
    st.tuples(st.just("load"), st.none()),
)


@given(st.lists(st.tuples(events, st.sampled_from(PLAYERS[:2])), max_size=40), st.sampled_from([None, 2]))
def test_rates_are_the_win_rates_whatever_has_happened_since_they_were_asked_for(history, window):
    payoffs, asked = Payoffs(0.9, window), [*PLAYERS, 77]
    for event, player in history:
        _change(payoffs, event)
        # One player at a time: who was asked about last is remembered, and is to be asked about again.
        assert payoffs.rates(player, asked) == payoffs.win_rates(player, asked).tolist()


@given(games, games, st.sampled_from([None, 2]))
@settings(max_examples=50)
def test_a_loaded_state_goes_on_as_the_original(before, after, window):
    original, copy = Payoffs(0.9, window), Payoffs(0.9, window)
    for game in before:
        original.record(*game)
    original.forget(1)  # leaves a hole in the storage
    copy.load_state_dict(original.state_dict())
    for game in after:
        original.record(*game)
        copy.record(*game)
    np.testing.assert_allclose(copy.matrix(PLAYERS), original.matrix(PLAYERS), atol=1e-12)
    np.testing.assert_allclose(copy.points(PLAYERS), original.points(PLAYERS), atol=1e-12)
    assert set(copy.keys) == set(original.keys)


def test_alphastar_decay_by_hand():
    payoffs = Payoffs(decay=0.99)
    for outcome in (1, 1, 0, -1):
        payoffs.record("learner", 7, outcome)
    # 1, then .99 + 1, then (.99**2 + .99) and a draw, then all once more times .99 and a loss
    wins, draws, losses = 0.99**3 + 0.99**2, 0.99, 1.0
    assert payoffs.counts("learner", 7) == pytest.approx((wins, draws, losses))
    assert payoffs.win_rate("learner", 7) == pytest.approx((wins + draws / 2) / (wins + draws + losses))
    assert payoffs.games("learner", [7, 8]) == pytest.approx([wins + draws + losses, 0])


def test_before_any_game_everything_is_even():
    payoffs = Payoffs()
    assert payoffs.win_rate("learner", 3) == 0.5
    assert payoffs.counts("learner", 3) == Counts(0, 0, 0)
    np.testing.assert_array_equal(payoffs.win_rates("learner", [0, 1]), [0.5, 0.5])
    np.testing.assert_array_equal(payoffs.win_rates("learner", []), [])
    np.testing.assert_array_equal(payoffs.matrix([]), np.zeros((0, 0)))
    assert payoffs.interval("learner", 3) == (0.0, 1.0)


def test_wilson_intervals_by_hand():
    payoffs = Payoffs(decay=1.0)
    for outcome in [1] * 8 + [-1] * 2:
        payoffs.record("a", "b", outcome)
    z = 1.959963984540054
    centre = (0.8 + z**2 / 20) / (1 + z**2 / 10)
    reach = z / (1 + z**2 / 10) * math.sqrt(0.8 * 0.2 / 10 + z**2 / 400)
    assert payoffs.interval("a", "b") == pytest.approx((centre - reach, centre + reach))
    assert payoffs.interval("a", "b") == pytest.approx((0.4901625, 0.9433178), abs=1e-7)  # the usual table
    assert payoffs.interval("b", "a") == pytest.approx((1 - centre - reach, 1 - centre + reach))
    low, high = payoffs.interval("a", "b", confidence=0.5)
    assert centre - reach < low < 0.8 < high < centre + reach


def test_a_clean_sweep_has_a_bound_that_is_not_certain():
    payoffs = Payoffs(decay=1.0)
    for _ in range(10):
        payoffs.record("a", "b", 1)
    low, high = payoffs.interval("a", "b")
    assert high == pytest.approx(1.0, abs=1e-12)
    assert low == pytest.approx(10 / (10 + 1.959963984540054**2))


def test_roles_are_players_of_their_own():
    payoffs = Payoffs(decay=1.0)
    payoffs.record(("attacker", "learner"), ("defender", 3), 1)
    payoffs.record(("defender", "learner"), ("attacker", 3), -1)
    assert payoffs.win_rate(("attacker", "learner"), ("defender", 3)) == 1.0
    assert payoffs.win_rate(("defender", "learner"), ("attacker", 3)) == 0.0
    assert payoffs.win_rate("learner", 3) == 0.5


def test_numpy_ids_and_outcomes_are_plain_ones():
    payoffs = Payoffs()
    payoffs.record("learner", np.int64(3), np.float32(0.25))
    assert payoffs.win_rate("learner", 3) == 1.0
    assert payoffs.keys == ["learner", 3]
    assert all(type(key) in (int, str) for key in payoffs.keys)


def test_forgetting_leaves_nothing_for_the_next_player():
    payoffs = Payoffs(decay=1.0, window=2)
    payoffs.record("learner", 1, 1)
    payoffs.record("learner", 2, 1)
    payoffs.forget(1)
    payoffs.forget("never seen")
    payoffs.record(3, 2, 0)  # takes the place of 1
    assert payoffs.keys == ["learner", 2, 3]
    assert payoffs.win_rate("learner", 3) == 0.5
    assert payoffs.counts("learner", 1).games == 0
    assert payoffs.counts("learner", 2) == Counts(1, 0, 0)
    assert payoffs.counts(2, 3) == Counts(0, 1, 0)


@given(games, st.sampled_from([None, 2]), st.sampled_from(["new", 0]))
@settings(max_examples=50)
def test_a_heir_has_its_parents_results_and_none_of_its_own(history, window, child):
    payoffs = Payoffs(0.9, window)
    for game in history:
        payoffs.record(*game)
    others = [player for player in PLAYERS if player not in ("learner", child)]
    wanted = payoffs.points(["learner", *others])
    payoffs.inherit(child, "learner")
    np.testing.assert_allclose(payoffs.points([child, *others]), wanted)
    np.testing.assert_allclose(payoffs.points(["learner", *others]), wanted)
    assert payoffs.counts(child, "learner").games == 0
    if others:  # from here on they go separate ways
        payoffs.record(child, others[0], 1)
        copy = Payoffs(0.9, window)
        copy.load_state_dict(payoffs.state_dict())
        copy.record(child, others[0], 1)
        payoffs.record(child, others[0], 1)
        assert copy.counts(child, others[0]) == pytest.approx(payoffs.counts(child, others[0]))
        np.testing.assert_allclose(payoffs.points(["learner", *others]), wanted)


def test_a_heir_is_known_to_who_was_asked_about_last():
    payoffs = Payoffs(1.0)
    payoffs.record("learner", 0, +1)
    assert payoffs.rates(0, ["learner", "new"]) == [0.0, 0.5]
    payoffs.inherit("new", "learner")
    assert payoffs.rates(0, ["learner", "new"]) == [0.0, 0.0]


def test_what_a_heir_s_window_forgets_is_what_its_parent_had_won():
    payoffs = Payoffs(1.0, window=1)
    payoffs.record("learner", 0, +1)
    payoffs.inherit("new", "learner")
    payoffs.record("new", 0, -1)
    assert payoffs.counts("new", 0) == Counts(0, 0, 1)
    assert payoffs.counts(0, "new") == Counts(1, 0, 0)


def test_nobody_inherits_from_itself():
    with pytest.raises(TaskError, match="inherit from itself"):
        Payoffs().inherit("a", "a")


def test_memory_is_that_of_the_pairs_that_met():
    payoffs = Payoffs()
    for snapshot in range(3000):
        payoffs.record("learner", snapshot, 1)
    assert sum(row.nbytes for row in payoffs._rows.values()) < 3000 * 3 * 8 * 12


@pytest.mark.parametrize("outcome", [float("nan"), None, "win", [1]])
def test_what_is_no_outcome_is_refused_and_changes_nothing(outcome):
    payoffs = Payoffs()
    with pytest.raises(TaskError, match=r"outcome of 'learner' against 3"):
        payoffs.record("learner", 3, outcome)
    assert payoffs.keys == []


@pytest.mark.parametrize("key", [True, 1.5, None, ("red", None), [1]])
def test_what_cannot_name_a_player_is_refused(key):
    payoffs = Payoffs()
    with pytest.raises(TaskError, match="cannot name a player"):
        payoffs.record("learner", key, 1)
    assert payoffs.keys == []


def test_a_player_cannot_meet_itself():
    payoffs = Payoffs()
    with pytest.raises(TaskError, match="against itself"):
        payoffs.record(3, np.int64(3), 1)
    assert payoffs.keys == []


@pytest.mark.parametrize("options", [{"decay": 0.0}, {"decay": 1.1}, {"decay": float("nan")}, {"window": 0}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(UsageError, match="decay must be"):
        Payoffs(**options)


def test_confidence_out_of_range_is_refused():
    with pytest.raises(UsageError, match="confidence"):
        Payoffs().interval("a", "b", confidence=95)


def damaged(**changes):
    payoffs = Payoffs()
    payoffs.record("learner", 1, 1)
    payoffs.record("learner", ("red", 2), 0)
    return {**payoffs.state_dict(), **changes}


@pytest.mark.parametrize(
    "state",
    [
        {},
        damaged(keys=["learner", 1]),
        damaged(keys=["learner", 1, 1]),
        damaged(keys=["learner", 1, None]),
        damaged(counts=np.full((2, 3), np.nan)),
        damaged(counts=np.full((2, 3), -1.0)),
        damaged(counts=np.zeros((1, 3))),
        damaged(pairs=np.array([[0, 1], [2, 0]])),
        damaged(pairs=np.array([[0, 1], [-1, 2]])),
        damaged(recent=[np.array([1]), np.array([0])]),
    ],
)
def test_a_damaged_state_is_refused_and_changes_nothing(state):
    payoffs = Payoffs()
    payoffs.record("learner", 9, -1)
    with pytest.raises(StateError):
        payoffs.load_state_dict(state)
    assert payoffs.keys == ["learner", 9]
    assert payoffs.win_rate("learner", 9) == 0.0


def test_the_state_is_plain_and_independent():
    payoffs = Payoffs(window=3)
    payoffs.record("learner", ("red", 2), 1)
    state = payoffs.state_dict()
    payoffs.record("learner", ("red", 2), -1)
    plain = json.loads(
        json.dumps(
            {**state, **{k: np.asarray(state[k]).tolist() for k in ("pairs", "counts")}},
            default=np.ndarray.tolist,
        )
    )
    copy = Payoffs(window=3)
    copy.load_state_dict(plain)
    assert copy.counts("learner", ("red", 2)) == Counts(1, 0, 0)


def test_payoffs_say_how_they_count_and_whom():
    payoffs = Payoffs(decay=0.5, window=3)
    payoffs.record("learner", 1, +1)
    assert repr(payoffs) == "Payoffs(decay=0.5, window=3; 2 players)"

"""The rules of population-based training, and the rounds of one run's policies."""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from macurr.errors import ConfigError, StateError, UsageError
from macurr.testing.nested import not_plain, same
from macurr.training.config import PBTConfig
from macurr.training.objectives import (
    LEAST_EPISODES,
    RECENT,
    RecentEpisodes,
    objective_of,
    objective_value,
)
from macurr.training.population import Population
from macurr.training.population_rules import (
    BOUNDS,
    Bounds,
    choose_source,
    groups,
    leads,
    mutate,
    relative_gap,
)

DEFAULTS = {
    "learning_rate": 1e-3,
    "entropy": 0.01,
    "value": 0.5,
    "max_grad_norm": 0.5,
    "clip": 0.2,
    "value_clip": 0.5,
    "gamma": 0.97,
}


def config(**options):
    return PBTConfig(**{"pbt": True, "pbt_period": 100, "pbt_start": 0, **options})


def population(objectives, seed=0, **options):
    made = Population(
        len(objectives), config(**options), [DEFAULTS] * len(objectives), np.random.default_rng(seed)
    )
    told(made, objectives, 100)
    return made


def told(one, objectives, steps):
    for member, objective in enumerate(objectives):
        one.report(member, objective, steps)


# --- ranking -----------------------------------------------------------------------------------------------


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40),
    st.sampled_from([0.0, 0.07, 0.1, 0.25, 0.3, 0.5, 1.0]),
)
@settings(max_examples=200, deadline=None)
def test_groups_have_exact_sizes(objectives, fraction):
    found = groups(dict(enumerate(objectives)), fraction)
    n = len(objectives)
    count = -((-Fraction(str(fraction)) * n).__floor__())
    assert len(found.top) == count
    assert len(found.bottom) == min(count, n - count)
    assert sorted(found.ranking) == list(range(n))
    ranked = [objectives[member] for member in found.ranking]
    assert ranked == sorted(ranked, reverse=True)


def test_fractions_are_the_decimal_ones():
    # In binary, 0.07 * 100 is a little more than 7.
    assert math.ceil(0.07 * 100) == 8
    assert len(groups(dict.fromkeys(range(100), 0.0), 0.07).top) == 7


def test_published_fraction_by_hand():
    sizes = {n: len(groups(dict.fromkeys(range(n), 0.0), 0.3).top) for n in (1, 2, 3, 4, 7, 10, 11)}
    assert sizes == {1: 1, 2: 1, 3: 1, 4: 2, 7: 3, 10: 3, 11: 4}


def test_ties_go_to_the_first():
    found = groups({"b": 1.0, "a": 1.0, "c": 2.0}, 0.3)
    assert found.ranking == ("c", "b", "a")


# --- the gap -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("better", "worse", "gap"),
    [
        (10, 1, 0.9),
        (-1, -10, 0.9),
        (0, -1, 1.0),
        (1, -1, 2.0),
        (0, 0, 0.0),
        (5, 5, 0.0),
        (-110, -110, 0.0),
        (0.55, 0.5, 1 / 11),
    ],
)
def test_relative_gap_by_hand(better, worse, gap):
    assert relative_gap(better, worse) == pytest.approx(gap)


@given(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9), st.floats(1e-3, 1e3))
def test_relative_gap_is_bounded_symmetric_and_without_units(a, b, unit):
    better, worse = max(a, b), min(a, b)
    gap = relative_gap(better, worse)
    assert 0.0 <= gap <= 2.0
    assert relative_gap(-worse, -better) == gap  # the same lead with the signs turned around
    assert relative_gap(unit * better, unit * worse) == pytest.approx(gap)


def test_both_gaps_must_be_exceeded():
    assert leads(-1.0, -10.0, config())
    assert not leads(-10.0, -10.5, config())  # 4.8 %
    assert leads(-10.0, -11.2, config())  # 10.7 %
    assert not leads(-11.2, -10.0, config())
    assert not leads(1e-7, 0.0, config())  # relatively everything, absolutely nothing
    assert not leads(0.6, 0.5, config(pbt_replace_gap_absolute=0.2))
    assert not leads(1.0, 1.0, config(pbt_replace_gap=0.0, pbt_replace_gap_absolute=0.0))


# --- mutation ----------------------------------------------------------------------------------------------


@given(
    st.integers(0, 2**32 - 1),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(1.0, 3.0),
    st.dictionaries(st.sampled_from(sorted(BOUNDS)), st.floats(0.0, 1.0), min_size=1),
)
@settings(max_examples=200, deadline=None)
def test_settings_stay_within_bounds(seed, rate, reset, factor, defaults):
    rules = config(pbt_mutation_rate=rate, pbt_reset_rate=reset, pbt_perturb_min=1.0, pbt_perturb_max=factor)
    rng, own = np.random.default_rng(seed), dict(defaults)
    for _ in range(50):
        own = mutate(own, defaults, BOUNDS, rules, rng)
        for name, value in own.items():
            low, high = min(BOUNDS[name].low, defaults[name]), max(BOUNDS[name].high, defaults[name])
            # 1 - (1 - gamma) is not gamma to the last bit.
            assert low - 1e-12 <= value <= high + 1e-12


@pytest.mark.parametrize("name", sorted(set(BOUNDS) - {"gamma"}))
def test_a_mutation_multiplies_or_divides(name):
    rules = config(pbt_mutation_rate=1.0, pbt_reset_rate=0.0)
    rng = np.random.default_rng(0)
    factors = [mutate(DEFAULTS, DEFAULTS, BOUNDS, rules, rng)[name] / DEFAULTS[name] for _ in range(2000)]
    ups = [factor for factor in factors if factor > 1]
    downs = [1 / factor for factor in factors if factor < 1]
    for side in (ups, downs):
        assert 1.1 - 1e-9 <= min(side) < 1.12
        assert 1.48 < max(side) <= 1.5 + 1e-9
        assert abs(np.mean(side) - 1.3) < 0.02
        assert abs(len(side) - 1000) < 5 * math.sqrt(500)


def test_the_discount_is_mutated_by_its_horizon():
    rules = config(pbt_mutation_rate=1.0, pbt_reset_rate=0.0, pbt_perturb_min=1.25, pbt_perturb_max=1.25)
    rng = np.random.default_rng(0)
    found = {
        round(mutate({"gamma": 0.97}, {"gamma": 0.97}, BOUNDS, rules, rng)["gamma"], 9) for _ in range(50)
    }
    assert found == {0.9625, 0.976}  # 1 - 0.03 * 1.25 and 1 - 0.03 / 1.25


def test_rates_of_mutation_and_reset():
    rules = config(pbt_mutation_rate=0.15, pbt_reset_rate=0.2)
    rng, here = np.random.default_rng(0), {"learning_rate": 1e-2}
    found = [mutate(here, DEFAULTS, BOUNDS, rules, rng)["learning_rate"] for _ in range(20_000)]
    kept, reset = found.count(1e-2), found.count(1e-3)
    assert abs(kept / 20_000 - 0.85) < 5 * math.sqrt(0.85 * 0.15 / 20_000)
    assert abs(reset / 20_000 - 0.03) < 5 * math.sqrt(0.03 * 0.97 / 20_000)


def test_what_is_off_or_has_no_bounds_stays():
    rules = config(pbt_mutation_rate=1.0)
    found = mutate(
        {"entropy": 0.0, "mystery": 3.0},
        {"entropy": 0.0, "mystery": 3.0},
        BOUNDS,
        rules,
        np.random.default_rng(0),
    )
    assert found == {"entropy": 0.0, "mystery": 3.0}


def test_bounds_give_way_to_a_default_beyond_them():
    bounds = Bounds(0.1, 1.0)
    assert bounds.scaled(2.0, 1.5, 2.0) == 2.0
    assert bounds.scaled(2.0, 0.5, 2.0) == 1.0
    assert bounds.scaled(0.11, 0.5, 2.0) == 0.1
    assert bounds.clipped(7.0, 0.5) == 1.0
    assert Bounds(0.5, 0.99, complement=True).scaled(0.98, 0.1, 0.97) == pytest.approx(0.99)


# --- rounds ------------------------------------------------------------------------------------------------


@given(
    st.lists(st.floats(-100, 100), min_size=1, max_size=12),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.1, 0.3, 0.5]),
)
@settings(max_examples=150, deadline=None)
def test_a_round_keeps_its_rules(objectives, seed, fraction):
    made = population(
        objectives, seed, pbt_mutation_rate=1.0, pbt_reset_rate=0.0, pbt_replace_fraction=fraction
    )
    found = groups(dict(enumerate(objectives)), fraction)
    decisions = {decision.member: decision for decision in made.step(100)}
    assert set(decisions) == set(range(len(objectives)))
    for member, decision in decisions.items():
        assert decision.rank == found.ranking.index(member)
        assert decision.settings == made.settings[member]
        if member in found.top:
            assert decision.copy_from is None
            assert decision.settings == DEFAULTS
        elif member in found.middle:
            assert decision.copy_from is None
        elif decision.copy_from is not None:
            assert decision.copy_from in found.top
            assert leads(objectives[decision.copy_from], objectives[member], made.config)
        if member == 0:
            assert decision.settings == DEFAULTS
        elif member not in found.top:
            assert all(decision.settings[name] != DEFAULTS[name] for name in DEFAULTS)


def test_the_worst_copies_settings_too():
    made = population([0.5, 0.9, 0.1], pbt_mutation_rate=0.0)
    made.adopt([DEFAULTS, {**DEFAULTS, "clip": 0.4}, DEFAULTS])
    told(made, [0.5, 0.9, 0.1], 100)
    best, middle, worst = made.step(100)
    assert (best.member, middle.member, worst.member) == (1, 0, 2)
    assert (best.copy_from, middle.copy_from, worst.copy_from) == (None, None, 1)
    assert worst.before["clip"] == 0.2
    assert worst.settings["clip"] == 0.4


def test_the_first_member_takes_weights_and_keeps_its_settings():
    made = population([-9.0, -1.0, -2.0], pbt_mutation_rate=1.0)
    last = made.step(100)[-1]
    assert (last.member, last.copy_from) == (0, 1)
    assert last.settings == DEFAULTS


def test_equals_copy_nobody():
    made = population([-3.0] * 4, pbt_mutation_rate=0.0)
    assert [decision.copy_from for decision in made.step(100)] == [None] * 4


def test_all_the_best_are_copied_alike():
    found = groups(dict(enumerate([4.0, 4.0, 1.0, 1.0])), 0.5)
    rng = np.random.default_rng(0)
    drawn = [
        choose_source(3, found, dict(enumerate([4.0, 4.0, 1.0, 1.0])), config(), rng) for _ in range(2000)
    ]
    assert abs(drawn.count(0) - 1000) < 5 * math.sqrt(500)
    assert set(drawn) == {0, 1}


def test_who_cannot_be_copied_is_followed_by_the_next():
    objectives = dict(enumerate([4.0, 4.0, 1.0, 1.0]))
    found, rng = groups(objectives, 0.5), np.random.default_rng(0)
    asked = []

    def usable(member):
        asked.append(member)
        return member == 1

    assert {choose_source(3, found, objectives, config(), rng, usable) for _ in range(20)} == {1}
    assert 0 in asked
    assert choose_source(3, found, objectives, config(), rng, lambda _: False) is None
    assert choose_source(0, found, objectives, config(), rng, usable) is None


def test_rounds_come_in_their_time():
    made = Population(2, config(pbt_start=250), [DEFAULTS] * 2, np.random.default_rng(0))
    held = []
    for steps in range(50, 601, 50):
        told(made, [1.0, 0.0], steps)
        if made.step(steps):
            held.append(steps)
    assert held == [250, 350, 450, 550]
    early = Population(2, config(), [DEFAULTS] * 2, np.random.default_rng(0))
    told(early, [1.0, 0.0], 99)
    assert early.step(99) == []
    assert len(early.step(100)) == 2


def test_everybody_has_to_report_anew():
    made = population([1.0, 0.0])
    assert made.step(100)
    made.report(0, 1.0, 200)
    made.report(1, 5.0, 100)  # of the member that was replaced
    assert made.step(200) == []
    made.report(1, 0.5, 201)
    assert made.step(201)


@pytest.mark.parametrize(("member", "objective"), [(2, 0.0), (-1, 0.0), (0, math.nan), (0, math.inf)])
def test_impossible_reports_are_refused(member, objective):
    with pytest.raises(UsageError, match="finite"):
        population([0.0, 0.0]).report(member, objective, 200)


def test_members_need_settings():
    for wrong in ([DEFAULTS], [DEFAULTS, {"clip": 0.1}], []):
        with pytest.raises(UsageError, match="settings of each"):
            Population(2, config(), wrong, np.random.default_rng(0))


# --- state -------------------------------------------------------------------------------------------------


def _rounds(made, start, n):
    found = []
    for i in range(start, start + n):
        told(made, np.random.default_rng(i).normal(size=len(made)).tolist(), 200 + 100 * i)
        found += made.step(200 + 100 * i)
    return found


def test_a_resumed_population_decides_alike():
    original = population([1.0, 0.0, 0.5, -2.0], pbt_mutation_rate=0.5)
    _rounds(original, 0, 5)
    original.report(1, 3.0, 10_000)
    state = original.state_dict()
    assert not list(not_plain(state))
    restored = population([0.0] * 4, seed=9, pbt_mutation_rate=0.5)
    restored.load_state_dict(state)
    assert same(restored.state_dict(), state)
    assert _rounds(original, 5, 6) == _rounds(restored, 5, 6)
    assert same(original.state_dict(), restored.state_dict())


@pytest.mark.parametrize(
    "damage",
    [
        {"last": "soon"},
        {"settings": [DEFAULTS]},
        {"settings": [DEFAULTS, {**DEFAULTS, "clip": math.nan}]},
        {"settings": [DEFAULTS, {"clip": 0.1}]},
        {"settings": 3},
        {"reports": [[7, 0.0]]},
        {"rng": {}},
    ],
)
def test_a_wrong_state_changes_nothing(damage):
    made = population([1.0, 0.0])
    before = made.state_dict()
    with pytest.raises(StateError, match=r"[Rr]esume"):
        made.load_state_dict({**population([0.0, 3.0], seed=4).state_dict(), **damage})
    with pytest.raises(StateError):
        made.load_state_dict({})
    assert same(made.state_dict(), before)


# --- objectives --------------------------------------------------------------------------------------------


def _played(outcomes, returns):
    recent = RecentEpisodes(2)
    for outcome, value in zip(outcomes, returns, strict=True):
        recent.add(1, outcome=outcome, learner_return=value, length=5, level=3, opponent=0)
    return recent


def test_objectives_by_hand():
    recent = _played([1, 1, 0, -1] * 8, [4.0, -2.0, 0.0, 1.0] * 8)
    statistics = recent.of(1)
    assert recent.of(0) is None
    assert recent.of(0, 1) is None
    assert objective_value("win_rate", objective_of("win_rate"), statistics) == (1 + 1 + 0.5) / 4
    assert objective_value("learner_return", objective_of("learner_return"), statistics) == 0.75
    assert statistics["level"].tolist() == [3.0] * 32


def test_only_recent_episodes_count():
    recent = _played([-1] * 50 + [1] * RECENT, [0.0] * (50 + RECENT))
    assert objective_of("win_rate")(recent.of(1)) == 1.0
    assert len(recent.of(1)["outcome"]) == RECENT
    recent.clear(1)
    assert recent.of(1) is None
    for _ in range(LEAST_EPISODES):
        assert recent.of(1) is None
        recent.add(1, outcome=0, learner_return=0.0, length=1, level=0, opponent=0)
    assert recent.of(1) is not None


def test_recent_episodes_are_saved():
    recent = _played([1, -1] * 20, list(range(40)))
    other = RecentEpisodes(2)
    other.load_state_dict(recent.state_dict())
    assert same(other.state_dict(), recent.state_dict())
    with pytest.raises(StateError, match="there are 3"):
        RecentEpisodes(3).load_state_dict(recent.state_dict())


@dataclass
class Played:
    """What is read of an episode."""

    policies: tuple
    returns: tuple
    outcome: int = 0
    contested: bool = True
    opponent: int = 4
    level: int = 3
    length: int = 7
    objectives: tuple = ()


def test_episodes_count_for_the_policies_that_played():
    recent = RecentEpisodes(3)
    for _ in range(LEAST_EPISODES):
        recent.add_episode(Played((0, 2, 0), (1.0, 5.0, 2.0), outcome=-1))
    assert recent.of(1) is None
    assert {name: column[0] for name, column in recent.of(0).items()} == {
        "learner_return": 1.5,
        "outcome": -1.0,  # that of the learners together: they play for one side
        "length": 7.0,
        "level": 3.0,
        "opponent": 4.0,
        "true_objective": pytest.approx(math.nan, nan_ok=True),
    }
    assert recent.of(2)["learner_return"][0] == 5.0


def test_what_the_environment_says_counts_for_the_policies_that_played():
    recent = RecentEpisodes(2)
    own = objective_of("true_objective")
    for said in ((1.0, 8.0, 4.0), (math.nan, 8.0, 3.0), (math.nan, 2.0, math.nan)) * 10:
        recent.add_episode(Played((0, 1, 0), (0.0, 0.0, 0.0), objectives=said))
    assert own(recent.of(0)) == 2.75  # the mean of 2.5 and 3: who says nothing counts in no mean
    assert own(recent.of(1)) == 6.0
    for _ in range(RECENT):
        recent.add_episode(Played((0, 1, 0), (0.0, 0.0, 0.0)))
    with pytest.raises(ConfigError, match="has said nothing"):
        objective_value("true_objective", own, recent.of(0))


def test_where_all_learn_policies_win_against_each_other():
    recent = RecentEpisodes(2)
    for returns in ((2.0, 1.0), (1.0, 1.0), (0.0, 3.0), (0.0, 1.0), (-1.0, 0.0)) * 8:
        recent.add_episode(Played((0, 1), returns, contested=False))
    win_rate = objective_of("win_rate")
    assert (win_rate(recent.of(0)), win_rate(recent.of(1))) == (0.3, 0.7)
    for _ in range(RECENT // 2):
        recent.add_episode(Played((1, 1), (1.0, -1.0), contested=False))
    assert np.isnan(recent.of(1)["outcome"]).sum() == RECENT // 2
    assert win_rate(recent.of(1)) == 0.7  # an episode that nobody can lose counts in no win rate
    for _ in range(RECENT):
        recent.add_episode(Played((1, 1), (1.0, -1.0), contested=False))
    assert win_rate(recent.of(1)) == 0.5


def shortest(statistics):
    return -float(statistics["length"].mean())


def broken(statistics):
    return statistics["no such column"]


def endless(statistics):
    return math.inf


def test_objectives_of_the_user():
    own = objective_of(f"{__name__}:shortest")
    assert objective_value("shortest", own, _played([1] * 40, [0.0] * 40).of(1)) == -5.0
    for name, message in (("broken", "KeyError"), ("endless", "inf")):
        with pytest.raises(ConfigError, match=message):
            objective_value(name, globals()[name], _played([1] * 40, [0.0] * 40).of(1))


@pytest.mark.parametrize("path", ["fame", "no.module:x", f"{__name__}:missing", f"{__name__}:DEFAULTS"])
def test_there_must_be_such_an_objective(path):
    with pytest.raises(ConfigError, match="pbt_objective"):
        objective_of(path)

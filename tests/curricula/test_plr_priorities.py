"""The fast structures draw exactly what the formulas on whole arrays say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from macurr.curricula.plr.mixture import ReplayDistribution
from macurr.curricula.plr.priorities import make_priority
from macurr.curricula.plr.staleness import make_staleness
from macurr.curricula.plr.transforms import (
    SCORE_TRANSFORMS,
    STALENESS_TRANSFORMS,
    descending_ranks,
    mix,
    transform,
)
from macurr.errors import StateError, UsageError
from macurr.sampling import Partition
from tests.support.shares import shares

EPS = 0.2
temperatures = st.sampled_from([0.1, 0.3, 1.0, 2.0])
any_score = st.floats(-3, 3) | st.sampled_from([0.0, 0.5, 1.0]) | st.floats(1e-30, 1e30)
changes = st.lists(st.tuples(st.integers(0, 6), any_score | st.none()), max_size=25)


class Fixed:
    """A generator whose uniform numbers are known."""

    def __init__(self, *uniforms):
        self.uniforms = list(uniforms)

    def random(self):
        return self.uniforms.pop(0)


def measured(draw, n):
    """The shares of a draw by one uniform number; `eps_greedy` has one rule below EPS and another above."""
    return shares(draw, n, 0.0, EPS) + shares(draw, n, EPS, 1.0)


def expected(name, keys, seen, temperature, offset=0.0):
    found = np.zeros(len(keys))
    found[seen] = transform(np.asarray(keys)[seen], name, temperature=temperature, eps=EPS, offset=offset)
    return found


class TestFormulas:
    def test_rank(self):
        # ranks 3, 1, 2 (a tie goes to the lower position), weights 1/3, 1, 1/2
        assert descending_ranks([0.1, 0.7, 0.7]).tolist() == [3, 1, 2]
        np.testing.assert_allclose(transform([0.1, 0.7, 0.7], "rank"), np.array([2, 6, 3]) / 11)
        np.testing.assert_allclose(transform([0.1, 0.7], "rank", temperature=0.5), [0.2, 0.8])

    def test_power(self):
        np.testing.assert_allclose(transform([1.0, 3.0, -5.0], "power"), [0.25, 0.75, 0.0])
        np.testing.assert_allclose(transform([1.0, 3.0], "power", temperature=0.5), [0.1, 0.9])
        np.testing.assert_allclose(transform([0.0, 1.0], "power", offset=1.0), [1 / 3, 2 / 3])

    def test_softmax(self):
        np.testing.assert_allclose(transform([0.0, np.log(3)], "softmax"), [0.25, 0.75])
        np.testing.assert_allclose(transform([0.0, 1e6], "softmax", temperature=0.01), [0.0, 1.0])

    def test_eps_greedy_max_and_constant(self):
        np.testing.assert_allclose(
            transform([1.0, 5.0, 5.0, 2.0], "eps_greedy", eps=0.2), [0.05, 0.85, 0.05, 0.05]
        )
        np.testing.assert_allclose(transform([1.0, 5.0, 5.0], "max"), [0.0, 0.5, 0.5])
        np.testing.assert_allclose(transform([1.0, 5.0], "constant"), [0.5, 0.5])

    def test_match(self):
        np.testing.assert_allclose(
            transform([0.5, 0.1, 1.0, 1.5], "match"), np.array([0.25, 0.09, 0, 0]) / 0.34
        )
        np.testing.assert_allclose(transform([0.1, 0.5], "match_rank"), [1 / 3, 2 / 3])

    @pytest.mark.parametrize("name", ["power", "match"])
    def test_no_weight_at_all_is_uniform(self, name):
        assert transform([0.0, 0.0], name).tolist() == [0.5, 0.5]

    @pytest.mark.parametrize("name", SCORE_TRANSFORMS)
    def test_of_nothing(self, name):
        assert transform([], name).shape == (0,)

    def test_unknown(self):
        with pytest.raises(UsageError, match="choose one of rank, power"):
            transform([1.0], "ranks")


@settings(deadline=None, max_examples=40)
@given(changes, temperatures, st.sampled_from([0.0, 1e-3]))
@pytest.mark.parametrize("name", SCORE_TRANSFORMS)
def test_priorities_draw_what_the_formula_says(name, history, temperature, offset):
    members = Partition(7)
    priority = make_priority(name, members, temperature=temperature, eps=EPS, offset=offset)
    keys = np.full(7, np.nan)
    for index, score in history:
        keys[index] = np.nan if score is None else score
        if score is None:
            members.discard(index)
            priority.discard(index)
        else:
            members.add(index)
            priority.set(index, score)
    seen = np.flatnonzero(~np.isnan(keys))
    np.testing.assert_array_equal(priority.scores, keys)
    wanted = expected(name, keys, seen, temperature, offset)
    np.testing.assert_allclose(priority.probabilities(), wanted, atol=1e-9)
    if len(seen):
        np.testing.assert_allclose(measured(lambda u: priority.draw(Fixed(u)), 7), wanted, atol=1e-9)
    else:
        with pytest.raises((UsageError, ValueError)):
            priority.draw(Fixed(0.5))
    loaded = make_priority(name, members, temperature=temperature, eps=EPS, offset=offset)
    loaded.load(keys)
    np.testing.assert_allclose(loaded.probabilities(), wanted, atol=1e-9)


@pytest.mark.parametrize("temperature", [0.01, 0.1])
@pytest.mark.parametrize("name", ["power", "softmax"])
def test_extreme_scores_neither_overflow_nor_vanish(name, temperature):
    members = Partition(3)
    priority = make_priority(name, members, temperature=temperature, eps=0, offset=0)
    for scores in ([1e-30, 2e-30, 0.0], [1e30, 1e-30, 2e30], [-1e3, -1.0001e3, -2e3], [0.1, 0.2, 0.3]):
        for index, score in enumerate(scores):
            members.add(index)
            priority.set(index, score)
        wanted = transform(scores, name, temperature=temperature)
        np.testing.assert_allclose(priority.probabilities(), wanted, atol=1e-9)


ticks = st.lists(st.tuples(st.sampled_from(["visit", "add", "discard"]), st.integers(0, 4)), max_size=40)


@settings(deadline=None, max_examples=40)
@given(ticks, st.sampled_from([0.5, 1.0, 2.0]))
@pytest.mark.parametrize("name", STALENESS_TRANSFORMS)
def test_staleness_is_what_the_formula_says(name, history, temperature):
    members = Partition(5)
    staleness = make_staleness(name, members, temperature=temperature, eps=EPS)
    ages, seen = np.zeros(5), set()
    for action, index in history:
        if action == "visit":
            staleness.tick()
            staleness.touch(index)
            ages += 1
            ages[index] = 0
        elif action == "add" and index not in members:
            members.add(index)
            staleness.add(index)
            seen.add(index)
        elif action == "discard" and index in members:
            members.discard(index)
            staleness.discard(index)
            seen.remove(index)
    wanted = expected(name, ages, sorted(seen), temperature)
    np.testing.assert_allclose(staleness.probabilities(), wanted, atol=1e-9)
    np.testing.assert_array_equal(staleness.clock - staleness.times, ages)
    if seen and (name != "power" or temperature == 1.0):
        np.testing.assert_allclose(measured(lambda u: staleness.draw(Fixed(u)), 5), wanted, atol=1e-9)
    loaded = make_staleness(name, members, temperature=temperature, eps=EPS)
    loaded.load(staleness.times, staleness.clock)
    np.testing.assert_allclose(loaded.probabilities(), wanted, atol=1e-9)


def made(**options):
    defaults = {"transform": "rank", "temperature": 0.3, "eps": EPS, "staleness_coef": 0.25}
    staleness = {"staleness_transform": "power", "staleness_temperature": 1.0}
    return ReplayDistribution(options.pop("capacity", 6), **{**defaults, **staleness, **options})


class TestReplayDistribution:
    def filled(self, **options):
        replay = made(**options)
        for index in (4, 1, 3):
            replay.set_score(index, index / 10)
        for index in (0, 3, 1, 1):
            replay.visit(index)
        return replay

    def test_mixes_scores_and_staleness(self):
        replay = self.filled()
        score_part = [0, transform([0.1, 0.3, 0.4], "rank", temperature=0.3), 0]
        wanted = np.zeros(6)
        wanted[[1, 3, 4]] = 0.75 * score_part[1] + 0.25 * np.array([0, 2, 4]) / 6
        np.testing.assert_allclose(replay.probabilities(), wanted, atol=1e-12)
        np.testing.assert_allclose(replay.probabilities(), mix(*self.parts(replay), 0.25), atol=1e-12)

    @staticmethod
    def parts(replay):
        return replay._priority.probabilities(), replay._staleness.probabilities()

    def test_draws_the_parts_in_the_shares_of_the_mixture(self):
        replay = self.filled()
        stale = shares(lambda u: replay.draw(Fixed(0.2499, u)), 6)
        scored = shares(lambda u: replay.draw(Fixed(0.25, u)), 6)
        np.testing.assert_allclose(0.75 * scored + 0.25 * stale, replay.probabilities(), atol=1e-9)

    def test_without_staleness_power_adds_a_little(self):
        replay = made(transform="power", temperature=1.0, staleness_coef=0.0, capacity=2)
        replay.set_score(0, 0.0)
        replay.set_score(1, 1.0)
        np.testing.assert_allclose(replay.probabilities(), np.array([0.001, 1.001]) / 1.002)
        assert replay.draw(Fixed(0.0)) == 0

    def test_all_scores_at_once_are_the_same_as_one_by_one(self):
        one, many = made(), made()
        for index, score in ((1, 0.3), (4, 0.2), (5, 0.9)):
            one.set_score(index, score)
        many.set_scores([np.nan, 0.3, np.nan, np.nan, 0.2, 0.9])
        np.testing.assert_array_equal(one.scores, many.scores)
        np.testing.assert_allclose(one.probabilities(), many.probabilities(), atol=1e-12)
        assert one.seen == many.seen == 3

    def test_unseen_levels_have_no_probability_and_are_drawn_alike(self):
        replay = self.filled()
        assert replay.probabilities()[[0, 2, 5]].tolist() == [0, 0, 0]
        unseen = shares(lambda u: replay.draw_unseen(Fixed(u)), 6)
        np.testing.assert_allclose(unseen, [1 / 3, 0, 1 / 3, 0, 0, 1 / 3], atol=1e-9)
        replay.forget(4)
        assert replay.probabilities()[4] == 0
        assert replay.seen == 2

    @pytest.mark.parametrize("staleness_transform", STALENESS_TRANSFORMS)
    def test_growth_adds_unseen_levels_of_no_age(self, staleness_transform):
        replay = self.filled(staleness_transform=staleness_transform)
        before = replay.probabilities()
        replay.grow(9)
        np.testing.assert_allclose(replay.probabilities(), [*before, 0, 0, 0], atol=1e-12)
        assert replay.ages.tolist() == [3, 0, 4, 2, 4, 4, 0, 0, 0]
        replay.set_score(8, 99.0)
        assert replay.probabilities().argmax() == 8

    @pytest.mark.parametrize("staleness_transform", STALENESS_TRANSFORMS)
    @pytest.mark.parametrize("transform_name", SCORE_TRANSFORMS)
    def test_state_continues_the_same_draws(self, transform_name, staleness_transform):
        options = {"transform": transform_name, "staleness_transform": staleness_transform}
        first, second = self.filled(**options), made(**options)
        state = first.state()
        second.check(state)
        second.load(state)
        rngs = np.random.default_rng(5), np.random.default_rng(5)
        for _ in range(50):
            drawn = [replay.draw(rng) for replay, rng in zip((first, second), rngs, strict=True)]
            unseen = [replay.draw_unseen(rng) for replay, rng in zip((first, second), rngs, strict=True)]
            assert drawn[0] == drawn[1]
            assert unseen[0] == unseen[1]
            for replay in (first, second):
                replay.visit(drawn[0])
            assert second.ages.tolist() == first.ages.tolist()

    @pytest.mark.parametrize(
        "damage",
        [
            {"scores": np.zeros(6)},
            {"scores": np.zeros(3)},
            {"items": np.zeros(6, int)},
            {"times": np.full(6, 99)},
            {"inside": 1},
        ],
    )
    def test_refuses_a_damaged_state(self, damage):
        replay = self.filled()
        with pytest.raises(StateError):
            replay.check({**replay.state(), **damage})
        with pytest.raises(StateError, match="must hold"):
            replay.check({})
        with pytest.raises(StateError, match="this curriculum has 3"):
            made(capacity=3).check(replay.state())

    def test_refuses_unknown_transforms(self):
        with pytest.raises(UsageError, match="no transform 'best'"):
            made(transform="best")
        with pytest.raises(UsageError, match="no staleness transform 'match'"):
            made(staleness_transform="match")

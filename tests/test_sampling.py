"""Each structure draws exactly what its formula says: shares of [0, 1) are measured, not sampled."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from macurr.errors import TaskError, UsageError
from macurr.sampling import AgeTree, OrderIndex, Partition, RankWeights, SumTree
from tests.support.shares import shares

weights_lists = st.lists(st.floats(0, 1e6) | st.just(0.0), min_size=1, max_size=40)


class TestSumTree:
    @pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 13, 100])
    def test_shares_are_the_weights(self, n):
        weights = np.random.default_rng(n).random(n)
        tree = SumTree(n)
        for index, weight in enumerate(weights):
            tree.set(index, weight)
        np.testing.assert_allclose(shares(tree.draw, n), weights / weights.sum(), atol=1e-9)

    @given(weights_lists.filter(any), st.floats(0, 1, exclude_max=True))
    def test_weight_zero_is_never_drawn(self, weights, uniform):
        tree = SumTree(len(weights))
        tree.load(weights)
        assert weights[tree.draw(uniform)] > 0
        assert weights[tree.find(tree.total)] > 0  # rounding may land exactly on the end
        assert tree.draw_many([uniform])[0] == tree.draw(uniform)

    @given(st.integers(1, 40), st.lists(st.tuples(st.integers(0, 39), st.floats(0, 1e9)), max_size=60))
    def test_one_change_at_a_time_many_at_once_and_a_load_are_the_same_tree(self, n, changes):
        changes = [(index % n, weight) for index, weight in changes]
        one, many, loaded = SumTree(n), SumTree(n), SumTree(n)
        for index, weight in changes:
            one.set(index, weight)
        many.set_many([index for index, _ in changes], [weight for _, weight in changes])
        loaded.load(one.weights)
        assert one.total == many.total == loaded.total
        assert one.total == pytest.approx(one.weights.sum())
        for uniform in np.linspace(0, 0.999, 20):
            if one.total:
                assert one.draw(uniform) == many.draw(uniform) == loaded.draw(uniform)

    def test_rounding_errors_do_not_accumulate(self):
        tree = SumTree(4)
        tree.load([1e-9, 1e-9, 1e-9, 1e-9])
        for _ in range(100):
            tree.set(2, 1e12)
            tree.set(2, 1e-9)
        assert tree.total == 4e-9

    def test_growth_keeps_the_weights(self):
        tree = SumTree(3)
        tree.load([1, 2, 3])
        tree.grow(10)
        tree.set(9, 4)
        np.testing.assert_allclose(
            shares(tree.draw, 10), np.array([1, 2, 3, 0, 0, 0, 0, 0, 0, 4]) / 10, atol=1e-9
        )
        assert tree[9] == 4.0

    @pytest.mark.parametrize("weight", [-1.0, np.nan, np.inf])
    def test_refuses_a_bad_weight_and_stays_as_it_was(self, weight):
        tree = SumTree(2)
        tree.set(0, 1.0)
        with pytest.raises(TaskError, match="finite and not negative"):
            tree.set(0, weight)
        with pytest.raises(TaskError, match="finite and not negative"):
            tree.set_many([0, 1], [3.0, weight])
        with pytest.raises(TaskError, match="finite and not negative"):
            tree.load([3.0, weight])
        assert tree.weights.tolist() == [1.0, 0.0]

    @pytest.mark.parametrize("index", [-1, 2])
    def test_refuses_an_entry_outside(self, index):
        tree = SumTree(2)
        for call in (
            lambda: tree.set(index, 1.0),
            lambda: tree[index],
            lambda: tree.set_many([index], [1.0]),
        ):
            with pytest.raises(TaskError, match=f"Entry {index}"):
                call()
        assert tree.total == 0

    def test_refuses_to_draw_from_nothing(self):
        for call in (lambda: SumTree(2).draw(0.5), lambda: SumTree(2).draw_many([0.5])):
            with pytest.raises(UsageError, match="every weight is 0"):
                call()

    def test_refuses_arrays_of_the_wrong_shape(self):
        with pytest.raises(TaskError, match="differ in shape"):
            SumTree(2).set_many([0, 1], [1.0])
        with pytest.raises(TaskError, match="Expected 2 weights"):
            SumTree(2).load([1.0])
        with pytest.raises(TaskError, match="number of entries"):
            SumTree(0)


class TestOrderIndex:
    @staticmethod
    def by_sorting(keys):
        return sorted((i for i in range(len(keys)) if not np.isnan(keys[i])), key=lambda i: (-keys[i], i))

    @settings(deadline=None)
    @given(
        st.lists(
            st.tuples(st.integers(0, 30), st.sampled_from([-1.0, 0.0, 0.5, 2.0, np.inf, None])), max_size=80
        )
    )
    def test_is_always_what_sorting_gives(self, changes):
        order, keys = OrderIndex(31), np.full(31, np.nan)
        for index, key in changes:
            if key is None:
                order.discard(index)
            else:
                order.set(index, key)
            keys[index] = np.nan if key is None else key
        expected = self.by_sorting(keys)
        assert order.ranking.tolist() == expected
        assert [order.select(rank) for rank in range(len(order))] == expected
        assert [order.rank(index) for index in expected] == list(range(len(expected)))
        assert [order.count_from(key) for key in (-2, 0.0, 2.0)] == [
            np.sum(keys >= key) for key in (-2, 0.0, 2.0)
        ]

    def test_blocks_split_and_merge_under_growth_and_removal(self):
        rng = np.random.default_rng(0)
        order = OrderIndex(6000)
        keys = np.round(rng.random(6000), 3)
        for index in rng.permutation(6000).tolist():
            order.set(index, keys[index])
        assert order.ranking.tolist() == self.by_sorting(keys)
        assert len(order._rows) > 5
        for index in rng.permutation(6000)[:5900].tolist():
            order.discard(index)
            keys[index] = np.nan
        assert order.ranking.tolist() == self.by_sorting(keys)
        assert len(order._rows) <= 2
        assert len(order) == 100

    def test_ever_higher_keys_reuse_the_blocks_they_leave(self):
        order = OrderIndex(3000)
        order.load(np.arange(3000.0))
        for step in range(20_000):
            order.set(step % 3000, 3000.0 + step)
        assert order._places.size <= 3 * 3000 + 2 * 1024
        assert order.ranking.tolist() == self.by_sorting(order.keys)

    @pytest.mark.parametrize("n", [1, 767, 768, 769, 5000])
    def test_load_gives_the_same_order_as_one_by_one(self, n):
        keys = np.random.default_rng(n).integers(0, 50, n).astype(float)
        keys[1::7] = np.nan
        loaded, grown = OrderIndex(n), OrderIndex(1)
        loaded.load(keys)
        grown.grow(n)
        for index in np.flatnonzero(~np.isnan(keys)).tolist():
            grown.set(index, keys[index])
        assert loaded.ranking.tolist() == grown.ranking.tolist() == self.by_sorting(keys)
        np.testing.assert_array_equal(loaded.keys, grown.keys)
        assert 0 in loaded
        assert n == 1 or 1 not in loaded

    def test_refuses_what_has_no_rank(self):
        order = OrderIndex(2)
        order.set(0, 1.0)
        with pytest.raises(TaskError, match="There is no rank 1"):
            order.select(1)
        with pytest.raises(TaskError, match="Entry 1 has no rank"):
            order.rank(1)
        with pytest.raises(TaskError, match="must be a number"):
            order.set(0, float("nan"))
        with pytest.raises(TaskError, match="Entry 2 is outside"):
            order.set(2, 1.0)
        with pytest.raises(TaskError, match="Expected 2 keys"):
            order.load([1.0])
        assert order.ranking.tolist() == [0]


class TestRankWeights:
    @pytest.mark.parametrize("temperature", [0.1, 0.3, 1.0, 3.0])
    @pytest.mark.parametrize("n", [1, 2, 17, 60])
    def test_shares_are_the_power_law(self, temperature, n):
        ranks = np.arange(1, n + 1)
        expected = (1 / ranks) ** (1 / temperature)
        weights = RankWeights(temperature)
        np.testing.assert_allclose(
            shares(lambda u: weights.draw(u, n), n), expected / expected.sum(), atol=1e-9
        )
        np.testing.assert_allclose(weights.probabilities(n), expected / expected.sum(), atol=1e-12)

    def test_one_table_serves_every_n_in_any_order(self):
        weights = RankWeights(1.0)
        for n in (3, 200, 5, 1000, 1):
            expected = 1 / np.arange(1, n + 1)
            np.testing.assert_allclose(
                shares(lambda u, n=n: weights.draw(u, n), n), expected / expected.sum(), atol=1e-9
            )

    def test_a_cold_table_stays_short(self):
        weights = RankWeights(0.1)
        assert weights.draw(np.nextafter(1.0, 0.0), 10**6) < 60
        assert len(weights._sums) < 60

    def test_refuses_bad_arguments(self):
        for temperature in (0.0, -1.0, np.inf, np.nan):
            with pytest.raises(TaskError, match="positive and finite"):
                RankWeights(temperature)
        with pytest.raises(UsageError, match="among 0"):
            RankWeights(1.0).draw(0.5, 0)
        assert RankWeights(1.0).probabilities(0).shape == (0,)


def aged(ages, members, exponent=1.0):
    tree = AgeTree(len(ages), exponent)
    clock = max(ages)
    tree.load([clock - age for age in ages], members, clock)
    return tree


actions = ("tick", "touch", "add", "discard", "grow")


class TestAgeTree:
    ages = (0, 7, 3, 5, 1, 9, 2)
    members = (True, True, False, True, True, False, True)

    def test_shares_are_the_ages_of_members(self):
        expected = np.array([0, 7, 0, 5, 1, 0, 2]) / 15
        tree = aged(self.ages, self.members)
        np.testing.assert_allclose(shares(tree.draw_linear, 7), expected, atol=1e-9)
        np.testing.assert_allclose(tree.probabilities(), expected, atol=1e-12)
        assert tree.total == 15
        assert tree.ages.tolist() == list(self.ages)

    @given(
        st.lists(
            st.tuples(st.sampled_from(["tick", "touch", "add", "discard", "grow"]), st.integers(0, 8)),
            max_size=60,
        )
    )
    def test_every_history_gives_the_ages_it_should(self, history):
        tree, times, inside, clock = AgeTree(9), [0] * 9, [False] * 9, 0
        for action, index in history:
            if action == "tick":
                tree.tick()
                clock += 1
            elif action == "touch":
                tree.touch(index)
                times[index] = clock
            elif action == "grow":
                tree.grow(tree.capacity + 1)
                times.append(clock)
                inside.append(False)
            else:
                getattr(tree, action)(index)
                inside[index] = action == "add"
        ages = [clock - time for time in times]
        assert tree.ages.tolist() == ages
        assert [index in tree for index in range(len(ages))] == inside
        assert len(tree) == sum(inside)
        assert tree.total == sum(age for age, member in zip(ages, inside, strict=True) if member)
        if tree.total:
            expected = np.where(inside, ages, 0) / tree.total
            np.testing.assert_allclose(shares(tree.draw_linear, len(ages)), expected, atol=1e-9)

    @pytest.mark.parametrize("exponent", [0.25, 0.5, 2.0, 10.0])
    def test_other_exponents_are_drawn_exactly(self, exponent):
        tree = aged(self.ages, self.members, exponent)
        weights = np.array([0, 7, 0, 5, 1, 0, 2.0]) ** exponent
        np.testing.assert_allclose(tree.probabilities(), weights / weights.sum(), atol=1e-12)
        rng = np.random.default_rng(0)
        counts = np.bincount([tree.draw(rng) for _ in range(6000)], minlength=7)
        likely = tree.probabilities() > 0
        expected = 6000 * tree.probabilities()[likely]
        assert counts[~likely].sum() == 0
        assert ((counts[likely] - expected) ** 2 / expected).sum() < 16.3  # chi-square, 3 degrees, p = 0.001

    @pytest.mark.parametrize("exponent", [0.5, 4.0])
    def test_acceptance_makes_the_candidates_exact(self, exponent):
        tree = aged(self.ages, self.members, exponent)
        weights = np.array([0, 7, 0, 5, 1, 0, 2.0])
        candidates = weights / weights.sum() if exponent > 1 else np.where(self.members, 0.2, 0)
        kept = candidates * [tree._acceptance(age) for age in self.ages]
        assert max(tree._acceptance(age) for age in weights) <= 1
        np.testing.assert_allclose(kept / kept.sum(), tree.probabilities(), atol=1e-12)

    def test_one_ancient_entry_among_young_ones_is_found(self):
        ages = np.ones(500, int)
        ages[77] = 10**6
        tree = aged(ages, np.ones(500, bool), exponent=10.0)
        rng = np.random.default_rng(1)
        assert {tree.draw(rng) for _ in range(50)} == {77}

    def test_a_loose_bound_on_the_oldest_is_tightened(self):
        tree = AgeTree(3, exponent=10.0)
        for index in range(3):
            tree.add(index)
        for _ in range(10**4):
            tree.tick()
        for index in range(3):
            tree.touch(index)
        tree.tick()
        assert 0 <= tree.draw(np.random.default_rng(0)) < 3
        assert tree._oldest == 10**4

    @pytest.mark.parametrize("change", [lambda tree: tree.add(2), lambda tree: tree.touch(0, time=0)])
    def test_who_becomes_the_oldest_loosens_the_bound(self, change):
        tree = AgeTree(3, exponent=2.0)
        tree.load([5, 6, 0], [True, True, False], 9)
        tree.bound = 5  # as tight as two members allow
        change(tree)
        assert tree.bound == 0
        kept = tree.probabilities() > 0
        ages = tree.ages[kept]
        accepted = np.array([tree._acceptance(age) for age in ages.tolist()])
        assert accepted.max() == 1.0
        np.testing.assert_allclose(ages * accepted / (ages * accepted).sum(), tree.probabilities()[kept])

    def test_refuses_what_it_cannot_draw_or_hold(self):
        tree = AgeTree(2)
        tree.add(0)
        for call in (lambda: tree.draw(np.random.default_rng(0)), lambda: tree.draw_linear(0.5)):
            with pytest.raises(UsageError, match="no member has an age above 0"):
                call()
        assert tree.probabilities().tolist() == [0, 0]
        with pytest.raises(TaskError, match="future"):
            tree.touch(0, 1)
        with pytest.raises(TaskError, match="future"):
            tree.load([5, 0], [True, True], 4)
        with pytest.raises(TaskError, match="Expected shape"):
            tree.load([5], [True, True], 4)
        with pytest.raises(TaskError, match="Entry 2 is outside"):
            tree.touch(2)
        with pytest.raises(TaskError, match="exponent"):
            AgeTree(2, 0.0)
        assert tree.ages.tolist() == [0, 0]


class TestPartition:
    @given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), max_size=40))
    def test_both_sides_are_drawn_uniformly(self, moves):
        sides, inside = Partition(7), set()
        for add, index in moves:
            if add:
                sides.add(index)
                inside.add(index)
            else:
                sides.discard(index)
                inside.discard(index)
        outside = set(range(7)) - inside
        assert set(sides.members.tolist()) == inside
        assert [index in sides for index in range(7)] == [index in inside for index in range(7)]
        for draw, side in ((sides.draw, inside), (sides.draw_outside, outside)):
            if side:
                expected = [1 / len(side) if index in side else 0 for index in range(7)]
                np.testing.assert_allclose(shares(draw, 7), expected, atol=1e-9)
            else:
                with pytest.raises(UsageError, match="Nothing can be drawn"):
                    draw(0.5)

    def test_load_takes_over_the_order_of_draws(self):
        first, second = Partition(5), Partition(5)
        for index in (3, 1, 4):
            first.add(index)
        first.discard(3)
        second.load(first.items, len(first))
        assert [second.draw(u) for u in (0.1, 0.6)] == [first.draw(u) for u in (0.1, 0.6)]
        assert [second.draw_outside(u) for u in (0.1, 0.5, 0.9)] == [
            first.draw_outside(u) for u in (0.1, 0.5, 0.9)
        ]

    def test_refuses_what_is_no_partition(self):
        sides = Partition(2)
        with pytest.raises(UsageError, match="every entry"):
            sides.load([0, 0], 1)
        with pytest.raises(UsageError, match="0 to 2"):
            sides.load([0, 1], 3)
        with pytest.raises(TaskError, match="Entry 2 is outside"):
            sides.add(2)
        sides.grow(3)
        sides.add(2)
        assert sides.members.tolist() == [2]


def filled():
    tree, order, ages, sides, ranks = SumTree(4), OrderIndex(4), AgeTree(4), Partition(4), RankWeights(1.0)
    for index in (0, 2, 3):
        tree.set(index, index + 1.0)
        order.set(index, -float(index))
        ages.add(index)
        ages.tick()
        sides.add(index)
    ranks.draw(0.5, 4)
    return tree, order, ages, sides, ranks


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))])
def test_copies_are_independent_and_draw_alike(copied):
    originals = filled()
    tree, order, ages, sides, ranks = copied(originals)
    for uniform in np.linspace(0, 0.99, 10):
        assert tree.draw(uniform) == originals[0].draw(uniform)
        assert order.select(int(uniform * 3)) == originals[1].select(int(uniform * 3))
        assert ages.draw_linear(uniform) == originals[2].draw_linear(uniform)
        assert sides.draw(uniform) == originals[3].draw(uniform)
        assert ranks.draw(uniform, 4) == originals[4].draw(uniform, 4)
    tree.set(0, 100.0)
    order.set(1, 100.0)
    ages.tick()
    ages.touch(0)
    sides.add(1)
    assert (originals[0][0], len(originals[1]), originals[2].age(0), len(originals[3])) == (1.0, 3, 3, 3)
    assert (tree[0], order.select(0), ages.age(0), len(sides)) == (100.0, 1, 0, 4)

"""Level replay over spaces that lose tasks while it runs."""

import numpy as np
import pytest
from scipy.stats import chisquare

from macurr import DiscreteTaskSpace, StateError
from macurr.curricula import PrioritizedLevelReplay

OPTIONS = {
    "rank": {},
    "power": {"score_transform": "power", "temperature": 1.0},
    "staleness": {"staleness_coef": 1.0, "staleness_transform": "constant"},
    "random": {"strategy": "random"},
    "buffer": {"buffer_size": 4, "replay_schedule": "fixed"},
}


def made(space, **options):
    return PrioritizedLevelReplay(space, **{"rho": 0.0, "temperature": 1.0, "seed": 0, **options})


@pytest.mark.parametrize("name", OPTIONS)
def test_removed_levels_are_neither_replayed_nor_drawn_anew(name):
    space = DiscreteTaskSpace(8)
    levels = made(space, **OPTIONS[name])
    if name != "random":
        levels.update_scores([0, 1, 2, 3], [0.9, 0.1, 0.5, 0.4])
    for seen_or_not in (0, 7, 3):
        space.remove_task(seen_or_not)
    probabilities = levels.distribution()
    assert probabilities[[0, 3, 7]].tolist() == [0, 0, 0]
    assert probabilities.sum() == pytest.approx(1)
    if name in ("rank", "power"):  # staleness and buffers change with every draw
        levels = made(space, staleness_coef=0.0, **OPTIONS[name])
        levels.update_scores([1, 2], [0.1, 0.5])
        probabilities = levels.distribution()
        counts = np.bincount(levels.sample(4000), minlength=8)
        likely = probabilities > 0
        assert chisquare(counts[likely], 4000 * probabilities[likely]).pvalue > 1e-3
        assert counts[~likely].sum() == 0
    else:
        assert set(levels.sample(500)) == {1, 2, 4, 5, 6}


def test_the_order_goes_on_among_those_that_are_left():
    space = DiscreteTaskSpace(4)
    levels = made(space, strategy="sequential")
    space.remove_task(1)
    assert levels.sample(5) == [0, 2, 3, 0, 2]


def test_all_that_are_left_have_been_seen():
    space = DiscreteTaskSpace(3)
    levels = made(space)
    levels.update_scores([0, 1], [1.0, 2.0])
    space.remove_task(2)
    assert set(levels.sample(50)) == {0, 1}
    assert levels.distribution()[2] == 0


def test_a_last_unseen_level_is_found_among_many_that_have_left():
    space = DiscreteTaskSpace(3000)
    levels = made(space, replay_schedule="fixed", replay_prob=0.0)
    levels.update_scores([0], [1.0])
    for task in range(2, 3000):
        space.remove_task(task)
    assert levels.sample(20) == [1] * 20


@pytest.mark.parametrize("options", [{}, {"buffer_size": 3}])
def test_a_score_that_comes_late_is_left_aside(options):
    space = DiscreteTaskSpace(4)
    levels = made(space, **options)
    levels.update_scores([0, 1], [1.0, 2.0])
    space.remove_task(0)
    levels.update_scores([0, 2], [5.0, 3.0])
    assert 0 not in set(levels.sample(200))
    scores = levels.scores[~np.isnan(levels.scores)]
    assert sorted(scores.tolist()) == [2.0, 3.0]


def test_a_state_goes_on_over_a_space_that_has_lost_the_same_tasks():
    spaces = [DiscreteTaskSpace(6) for _ in range(2)]
    first, second = (made(space, staleness_coef=0.3) for space in spaces)
    first.update_scores([0, 1, 2, 3], [0.9, 0.1, 0.5, 0.4])
    for space in spaces:
        space.remove_task(1)
    first.sample(10)
    second.load_state_dict(first.state_dict())
    assert first.sample(50) == second.sample(50)
    with pytest.raises(StateError):
        made(DiscreteTaskSpace(7)).load_state_dict(first.state_dict())

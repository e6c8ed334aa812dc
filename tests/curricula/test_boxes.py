"""Curricula over boxes: the numbers of each method, and where they look for tasks."""

import math

import numpy as np
import pytest

from macurr import BoxTaskSpace, DiscreteTaskSpace, TaskError, UsageError
from macurr.curricula import (
    RIAC,
    AbsoluteLearningProgressGMM,
    AutomaticDomainRandomization,
    CovarGMM,
    SelfPaced,
)
from macurr.curricula._box import UnitCube
from macurr.curricula._gaussians import GaussianMixture, fit_by_aic, fit_mixture
from macurr.curricula.riac import halves_differ
from macurr.curricula.self_paced import Gaussian
from macurr.testing import CurriculumTests

SPACE = BoxTaskSpace([0.0, -10.0], [1.0, 10.0])


class TestALPGMM(CurriculumTests):
    def make(self, seed):
        return AbsoluteLearningProgressGMM(SPACE, fit_rate=16, max_components=3, memory=30, seed=seed)


class TestCovarGMM(CurriculumTests):
    def make(self, seed):
        return CovarGMM(SPACE, fit_rate=16, max_components=3, border="clip", seed=seed)


class TestRIAC(CurriculumTests):
    def make(self, seed):
        return RIAC(SPACE, max_region_size=12, min_region_size=3, seed=seed)


class TestADR(CurriculumTests):
    def make(self, seed):
        return AutomaticDomainRandomization(SPACE, queue_length=2, seed=seed)


class TestSelfPaced(CurriculumTests):
    def make(self, seed):
        return SelfPaced(SPACE, [0.1, 0], 0.4, episodes_per_update=7, seed=seed)


def report(curriculum, task, episode_return=0.0, progress=0.0):
    curriculum.update_on_episode(episode_return, 1, task, progress)


@pytest.mark.parametrize("kind", [AbsoluteLearningProgressGMM, CovarGMM, RIAC, AutomaticDomainRandomization])
def test_other_spaces_are_refused(kind):
    with pytest.raises(UsageError, match="BoxTaskSpace"):
        kind(DiscreteTaskSpace(3))
    with pytest.raises(UsageError, match="single task"):
        kind(BoxTaskSpace([1, 2], [1, 2]))


def test_a_coordinate_without_room_stays_as_it_is():
    cube = UnitCube(BoxTaskSpace([0.0, 5.0, -2.0], [4.0, 5.0, 2.0]))
    assert cube.dimensions == 2
    assert cube.point([1, 5, 2]).tolist() == [0.25, 1.0]
    assert cube.task(np.array([0.25, 1.0])).tolist() == [1, 5, 2]


# Gaussians


def test_known_clusters_are_found_and_counted():
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]])
    points = np.concatenate(
        [centre + 0.3 * rng.standard_normal((n, 2)) for centre, n in zip(centres, (60, 90, 150), strict=True)]
    )
    mixture = fit_by_aic(points, 6, rng)
    big = np.argsort(mixture.weights)[-3:]
    assert mixture.weights[big].sum() > 0.9
    exact = fit_mixture(points, 3, rng)
    order = np.argsort(exact.weights)
    np.testing.assert_allclose(exact.weights[order], [0.2, 0.3, 0.5], atol=0.01)
    np.testing.assert_allclose(exact.means[order], centres, atol=0.15)
    np.testing.assert_allclose(exact.covariances[order], [0.09 * np.eye(2)] * 3, atol=0.04)
    assert exact.aic(points) < fit_mixture(points, 2, rng).aic(points)


def test_log_likelihood_and_aic_by_hand():
    mixture = GaussianMixture(np.array([1.0]), np.zeros((1, 2)), np.array([[[4.0, 0.0], [0.0, 1.0]]]))
    wanted = -math.log(2 * math.pi) - math.log(2) - 0.5 * (1 + 9)
    assert mixture.log_likelihood(np.array([[2.0, 3.0]])) == pytest.approx(wanted)
    assert mixture.aic(np.array([[2.0, 3.0]])) == pytest.approx(2 * 5 - 2 * wanted)


def test_one_component_is_the_sample_mean_and_covariance():
    points = np.random.default_rng(0).normal(size=(50, 3))
    mixture = fit_mixture(points, 1, np.random.default_rng(0))
    np.testing.assert_allclose(mixture.means[0], points.mean(axis=0))
    np.testing.assert_allclose(mixture.covariances[0], np.cov(points.T, bias=True), atol=2e-6)


def test_equal_points_are_no_obstacle():
    mixture = fit_mixture(np.ones((20, 2)), 3, np.random.default_rng(0))
    assert np.isfinite(mixture.log_densities(np.ones((1, 2)))).all()


# ALP-GMM, Covar-GMM


def test_absolute_progress_is_the_change_since_the_nearest_earlier_task():
    curriculum = AbsoluteLearningProgressGMM(BoxTaskSpace(0, 10), warmup=2, return_scale=10)
    for task, episode_return in ((1.0, 5.0), (9.0, 1.0), (2.0, 8.0), (8.0, 4.0)):
        report(curriculum, task, episode_return)
    assert curriculum.state_dict()["latest"][:, 1].tolist() == pytest.approx([0.0, 0.0, 0.3, 0.3])


def test_tasks_come_from_where_returns_change():
    rng = np.random.default_rng(0)
    for kind, episode_return in (
        (AbsoluteLearningProgressGMM, lambda x, i: float(rng.integers(2)) if 0.6 < x < 0.8 else 0.0),
        (CovarGMM, lambda x, i: i / 250 if 0.6 < x < 0.8 else 0.5),
    ):
        curriculum = kind(BoxTaskSpace(0, 1), exploration=0.0, max_components=5, seed=0)
        for i in range(250):
            task = curriculum.sample()[0]
            report(curriculum, task, episode_return(float(task), i))
        drawn = np.array(curriculum.sample(300))
        assert ((drawn > 0.5) & (drawn < 0.9)).mean() > 0.6, kind


def test_covariance_counts_when_it_falls_only_if_asked():
    mixture = GaussianMixture(np.array([0.5, 0.5]), np.zeros((2, 3)), np.array([np.eye(3), np.eye(3)]) + 0.0)
    mixture.covariances[0, 1, 2] = mixture.covariances[0, 2, 1] = -0.5
    mixture.covariances[1, 1, 2] = mixture.covariances[1, 2, 1] = 0.25
    assert CovarGMM(BoxTaskSpace(0, 1))._values(mixture).tolist() == [0.0, 0.25]
    assert CovarGMM(BoxTaskSpace(0, 1), absolute=True)._values(mixture).tolist() == [0.5, 0.25]


def test_without_any_progress_draws_are_uniform():
    curriculum = AbsoluteLearningProgressGMM(BoxTaskSpace(0, 1), fit_rate=20, max_components=2, seed=0)
    for task in curriculum.sample(20):
        report(curriculum, task, 1.0)
    drawn = np.array(curriculum.sample(2000))
    assert drawn.std() == pytest.approx(12**-0.5, rel=0.1)


@pytest.mark.parametrize(
    "options", [{"fit_rate": 3}, {"max_components": 1}, {"border": "wrap"}, {"memory": 0}]
)
def test_options_of_gaussian_teachers(options):
    with pytest.raises(UsageError):
        AbsoluteLearningProgressGMM(SPACE, **options)


# RIAC


def test_progress_of_halves():
    assert halves_differ(np.array([])) == halves_differ(np.array([4.0])) == 0.0
    assert halves_differ(np.array([1.0, 9.0, 5.0])) == 4.0  # the one in the middle is in neither half
    assert halves_differ(np.array([1.0, 3.0, 2.0, 8.0])) == 3.0


def test_a_full_region_is_cut_where_progress_differs():
    curriculum = RIAC(BoxTaskSpace(0, 1), max_region_size=100, min_region_size=10, split_attempts=200, seed=0)
    for i in range(100):
        task = (i * 37 % 100) / 100
        report(curriculum, task, float(task > 0.5 and i >= 50))
    assert curriculum.metrics()["regions"] == 2
    low = curriculum.state_dict()["low"].ravel()
    assert 0.4 < low.max() < 0.6
    assert sum(curriculum.state_dict()["sizes"]) == 100
    drawn = np.array([curriculum.sample()[0] for _ in range(500)])
    assert (drawn > 0.5).mean() == pytest.approx(0.7 + 0.1 + 0.1, abs=0.06)


def test_a_region_that_cannot_be_cut_keeps_the_latest():
    curriculum = RIAC(BoxTaskSpace(0, 1), max_region_size=10, min_region_size=2, seed=0)
    for i in range(30):
        report(curriculum, 0.5, float(i))
    assert curriculum.state_dict()["episodes"][:, 1].tolist() == list(range(20, 30))


@pytest.mark.parametrize(
    "options", [{"min_region_size": 1}, {"max_region_size": 30}, {"mixture": (1, 1, 0)}, {"min_width": 0}]
)
def test_options_of_riac(options):
    with pytest.raises(UsageError):
        RIAC(SPACE, **options)


# ADR


def test_sides_move_out_on_success_and_in_on_failure():
    curriculum = AutomaticDomainRandomization(
        BoxTaskSpace(0, 10), start=5, step=0.2, queue_length=3, boundary_probability=1.0, seed=0
    )
    for success, widths in ((1.0, [4.0, 20.0]), (0.0, [0.0, 0.0])):
        for _ in range(60):
            report(curriculum, curriculum.sample()[0], 0.0, success)
        low, high = curriculum.bounds
        assert widths[0] <= high - low <= widths[1]
        assert 0 <= low <= high <= 10
    with pytest.raises(TaskError):
        AutomaticDomainRandomization(BoxTaskSpace(0, 10), start=11)


def test_a_point_feeds_the_side_that_each_task_was_drawn_for():
    curriculum = AutomaticDomainRandomization(
        BoxTaskSpace([0, 0], [1, 1]), queue_length=100, boundary_probability=1.0, seed=3
    )
    for task in curriculum.sample(40):
        report(curriculum, task, 0.0, 1.0)
    sizes = [len(queue) for queue in curriculum.state_dict()["queues"]]
    assert sum(sizes) == 40  # each result once, though all four sides are the same point
    assert min(sizes) > 0


def test_results_between_the_thresholds_only_empty_the_queue():
    curriculum = AutomaticDomainRandomization(
        BoxTaskSpace(0, 1), queue_length=2, boundary_probability=1.0, success="progress", seed=0
    )
    for task in curriculum.sample(50):
        report(curriculum, task, 0.0, 0.5)
    assert curriculum.metrics()["volume"] == 0.0
    assert all(len(queue) < 2 for queue in curriculum.state_dict()["queues"])


def test_tasks_inside_aborted_ones_and_late_ones_move_nothing():
    space = BoxTaskSpace(0, 1)
    inside = AutomaticDomainRandomization(space, queue_length=1, boundary_probability=0.0, seed=0)
    for task in inside.sample(20):
        report(inside, task, 0.0, 1.0)
    assert inside.metrics()["volume"] == 0.0
    late = AutomaticDomainRandomization(space, queue_length=1, boundary_probability=1.0, step=0.1, seed=0)
    tasks = late.sample(20)
    late.update_on_abort(tasks[0])
    for task in tasks[1:]:
        report(late, task, 0.0, 1.0)
    # Each side moved once; the other 17 results were of tasks drawn before it did.
    assert late.metrics()["volume"] == pytest.approx(0.2)


def test_thresholds_must_be_in_order():
    with pytest.raises(UsageError):
        AutomaticDomainRandomization(SPACE, low=0.8, high=0.8)


# Self-paced


def test_the_path_to_the_target_by_hand():
    one, target = Gaussian(np.array([0.0]), np.array([1.0])), Gaussian(np.array([3.0]), np.array([0.5]))
    # Precisions 1 and 4: half way 0.5 + 2 = 2.5, mean (0.5 * 0 + 2 * 3) / 2.5
    half = one.towards(target, 0.5)
    assert (half.mean[0], half.deviation[0]) == pytest.approx((2.4, 2.5**-0.5))
    assert one.towards(target, 1.0).divergence(target) == pytest.approx(0.0)
    assert one.divergence(target) == pytest.approx(0.5 * (4 + 36 - 1 - math.log(4)))


def test_it_goes_as_far_as_the_divergence_allows_and_arrives():
    curriculum = SelfPaced(
        BoxTaskSpace(0, 1), 0.0, 0.5, target=0.5, max_kl=0.2, episodes_per_update=10, seed=0
    )
    before, distances = curriculum._current, [curriculum.metrics()["kl_to_target"]]
    for update in range(40):
        for task in curriculum.sample(10):
            report(curriculum, task, 1.0)
        if update == 0:
            assert curriculum._current.divergence(before) == pytest.approx(0.2)
        distances.append(curriculum.metrics()["kl_to_target"])
    assert (np.diff(distances) <= 0).all()
    assert distances[-1] == 0.0


def test_it_waits_while_returns_are_low_and_stops_where_they_would_fall():
    waiting = SelfPaced(BoxTaskSpace(0, 1), 0.1, 0.5, episodes_per_update=10, seed=0)
    for task in waiting.sample(50):
        report(waiting, task, 0.4)
    assert waiting._current.mean[0] == pytest.approx(0.1)
    stopping = SelfPaced(
        BoxTaskSpace(0, 1), 0.1, 0.8, target=0.9, target_deviation=0.1, episodes_per_update=100, seed=0
    )
    for _ in range(6000):
        task = stopping.sample()[0]
        report(stopping, task, float(task < 0.5))
    assert 0.2 < stopping._current.mean[0] < 0.5


def test_options_of_self_paced():
    with pytest.raises(UsageError):
        SelfPaced(SPACE, [0, 0], math.nan)
    with pytest.raises(UsageError):
        SelfPaced(SPACE, [0, 0], 1.0, max_kl=0.0)

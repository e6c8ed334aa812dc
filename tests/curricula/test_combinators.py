"""Mixtures and filters, and where their updates go."""

import numpy as np
import pytest

from macurr import DiscreteTaskSpace, TaskError, UsageError
from macurr.curricula import Constant, DomainRandomization, Filtered, FixedSequence, LearningProgress, Mixture
from macurr.testing import CurriculumTests
from macurr.testing.curricula import ONE_AGENT
from macurr.testing.episodes import random_episode


class TestMixture(CurriculumTests):
    def make(self, seed):
        space = DiscreteTaskSpace(5)
        parts = [
            DomainRandomization(space, seed=seed),
            Constant(space, 2),
            LearningProgress(space, seed=seed),
        ]
        return Mixture(parts, [2, 1, 1], seed=seed)


class TestMixtureForAll(CurriculumTests):
    def make(self, seed):
        space = DiscreteTaskSpace(5)
        return Mixture([LearningProgress(space, seed=seed), Constant(space, 2)], routing="all", seed=seed)


class TestFiltered(CurriculumTests):
    def make(self, seed):
        return Filtered(LearningProgress(DiscreteTaskSpace(6), seed=seed), is_even)


def is_even(task):
    return task % 2 == 0


class Listener(Constant):
    """Counts what it is told."""

    def __init__(self, space, task, steps=False):
        super().__init__(space, task)
        self.steps, self.heard = steps, []

    @property
    def requires_step_updates(self):
        return self.steps

    def update_on_step_batch(self, batch):
        self.heard.append(("steps", batch.task))

    def update_on_episode(self, episode_return, length, task, progress, env_id=None):
        super().update_on_episode(episode_return, length, task, progress, env_id)
        self.heard.append(("episode", task))

    def update_task_progress(self, task, progress, env_id=None):
        self.heard.append(("progress", task))

    def update_on_abort(self, task, env_id=None):
        self.heard.append(("abort", task))


def tell(curriculum, task, env_id):
    rng = np.random.default_rng(0)
    batch, progress, result = random_episode(task, env_id, ONE_AGENT, rng, frozenset({"rewards"}))
    curriculum.update_on_step_batch(batch)
    curriculum.update_task_progress(task, progress.progress, env_id)
    curriculum.update_on_episode(result.episode_return, result.length, task, result.progress, env_id)


def test_the_one_that_drew_a_task_hears_of_it_and_nobody_else():
    space = DiscreteTaskSpace(2)
    one, other = Listener(space, 0, steps=True), Listener(space, 1)
    mixture = Mixture([one, other], seed=0)
    drawn = mixture.sample(6)
    for env_id, task in enumerate(drawn):
        tell(mixture, task, env_id)
    zeros, ones = drawn.count(0), drawn.count(1)
    assert one.heard == [("steps", 0), ("progress", 0), ("episode", 0)] * zeros
    assert other.heard == [("progress", 1), ("episode", 1)] * ones
    assert zeros
    assert ones


def test_equal_tasks_belong_to_the_environments_that_began_them():
    space = DiscreteTaskSpace(1)
    one, other = Listener(space, 0), Listener(space, 0)
    mixture = Mixture([one, other], [1, 0])
    mixture.sample()
    mixture.set_weights([0, 1])
    mixture.sample()
    mixture.update_task_progress(0, 0.5, env_id=7)  # env 7 plays what `one` drew,
    mixture.update_on_episode(0.0, 1, 0, 0.0, env_id=8)  # so env 8 played the other one
    mixture.update_on_abort(0, env_id=7)
    assert one.heard == [("progress", 0), ("abort", 0)]
    assert other.heard == [("episode", 0)]


@pytest.mark.parametrize(("routing", "hear"), [("drawn", 1), ("all", 2)])
def test_routing(routing, hear):
    space = DiscreteTaskSpace(1)
    parts = [Listener(space, 0), Listener(space, 0)]
    mixture = Mixture(parts, routing=routing, seed=0)
    mixture.update_on_episode(0.0, 1, mixture.sample()[0], 0.0, env_id=0)
    assert sum(len(part.heard) for part in parts) == hear


def test_a_task_that_nobody_drew_is_told_to_all_that_contain_it():
    small, large = DiscreteTaskSpace(1), DiscreteTaskSpace(3)
    parts = [Listener(small, 0), Listener(large, 0)]
    Mixture(parts, task_space=large).update_on_episode(0.0, 1, 2, 0.0)
    assert [len(part.heard) for part in parts] == [0, 1]


def test_the_distribution_is_mixed():
    space = DiscreteTaskSpace(4)
    mixture = Mixture([DomainRandomization(space), Constant(space, 3)], [1, 3])
    np.testing.assert_allclose(mixture.distribution(), [1 / 16, 1 / 16, 1 / 16, 13 / 16])
    assert mixture.weights.tolist() == [0.25, 0.75]


@pytest.mark.parametrize("weights", [[1.0], [0.0, 0.0], [-1.0, 2.0], [np.nan, 1.0]])
def test_weights_that_do_not_fit_are_refused(weights):
    space = DiscreteTaskSpace(2)
    mixture = Mixture([Constant(space, 0), Constant(space, 1)])
    with pytest.raises(UsageError):
        mixture.set_weights(weights)
    assert mixture.weights.tolist() == [0.5, 0.5]


def test_a_mixture_needs_curricula():
    with pytest.raises(UsageError):
        Mixture([])
    with pytest.raises(UsageError, match="routing"):
        Mixture([Constant(DiscreteTaskSpace(2), 0)], routing="some")


def test_draws_that_nobody_reports_on_are_forgotten_in_the_end(monkeypatch):
    monkeypatch.setattr("macurr.curricula._origins.MOST", 10)
    mixture = Mixture([DomainRandomization(DiscreteTaskSpace(1000), seed=0)], seed=0)
    drawn = mixture.sample(50)
    assert len(mixture.state_dict()["out"]["tasks"]) == 10
    assert set(mixture.state_dict()["out"]["tasks"]) <= set(drawn[-12:])


def test_a_filter_restricts_and_normalises():
    filtered = Filtered(
        DomainRandomization(DiscreteTaskSpace(["a", "bb", "c", "d"]), seed=0), lambda t: len(t) == 1
    )
    np.testing.assert_allclose(filtered.distribution(), [1 / 3, 0, 1 / 3, 1 / 3])
    assert set(filtered.sample(50)) == {0, 2, 3}


def test_a_filter_that_refuses_everything_says_so():
    filtered = Filtered(FixedSequence(DiscreteTaskSpace(3), [0, 1, 2]), lambda task: False, tries=5)
    with pytest.raises(TaskError, match="refused all"):
        filtered.sample()
    with pytest.raises(UsageError, match="tries"):
        Filtered(Constant(DiscreteTaskSpace(3), 1), is_even, tries=0)

"""Prioritized Level Replay keeps the promises of `macurr.testing.CurriculumTests`, in all its forms."""

import numpy as np
import pytest

from macurr import BoxTaskSpace, DictTaskSpace, DiscreteTaskSpace, MultiDiscreteTaskSpace
from macurr.curricula.plr import ACCEL, PrioritizedLevelReplay, RobustPLR
from macurr.evaluator import FunctionEvaluator
from macurr.testing import CurriculumTests


class PlrTests(CurriculumTests):
    """Drives PLR by scores too, for strategies that environments alone do not feed."""

    def drive(self, curriculum, n, rng):
        for _ in range(n):
            super().drive(curriculum, 1, rng)
            curriculum.update_on_demand({"tasks": curriculum.sample(), "scores": [rng.random()]})

    def bad_demands(self, curriculum):
        task = curriculum.task_space.sample(np.random.default_rng(0))
        yield {"tasks": [task], "scores": [float("nan")]}
        yield {"tasks": ["no such task"], "scores": [0.5]}
        yield {"tasks": [task]}
        yield {"rollout": {"tasks": [[task]], "rewards": [[np.inf]], "terminations": [[True]]}}


class TestDefaults(PlrTests):
    def make(self, seed):
        return PrioritizedLevelReplay(DiscreteTaskSpace(12), seed=seed)


class TestFromTheStart(PlrTests):
    def make(self, seed):
        space = DiscreteTaskSpace([f"level {i}" for i in range(9)])
        return PrioritizedLevelReplay(
            space,
            rho=0.0,
            temperature=1.0,
            staleness_coef=0.3,
            random_start_tasks=5,
            record_stats=True,
            seed=seed,
        )


class TestPowerOverCombinations(PlrTests):
    def make(self, seed):
        return PrioritizedLevelReplay(
            MultiDiscreteTaskSpace([3, 4]),
            rho=0.0,
            score_transform="power",
            temperature=0.5,
            staleness_temperature=0.5,
            replay_schedule="fixed",
            alpha=0.5,
            seed=seed,
        )


class TestLearnability(PlrTests):
    def make(self, seed):
        return PrioritizedLevelReplay(
            DiscreteTaskSpace(8), strategy="learnability", score_transform="match", rho=0.0, seed=seed
        )


def summed(observations):
    return [float(np.sum(one)) for one in observations]


class TestSteps(PlrTests):
    same_in_single_steps = False  # a single step does not say what was seen before an episode's first action

    def make(self, seed):
        return PrioritizedLevelReplay(
            DiscreteTaskSpace(8), evaluator=FunctionEvaluator(summed), rho=0.0, seed=seed
        )


class TestBuffer(PlrTests):
    def make(self, seed):
        space = DictTaskSpace({"x": BoxTaskSpace([0, 0], [1, 1]), "n": DiscreteTaskSpace(3)})
        return PrioritizedLevelReplay(space, strategy="max_mc", buffer_size=6, rho=0.0, seed=seed)


class TestBufferOverAFiniteSpace(PlrTests):
    def make(self, seed):
        return RobustPLR(DiscreteTaskSpace(30), buffer_size=6, buffer_priority="score", rho=0.0, seed=seed)


def moved(task, rng):
    return (task + int(rng.integers(1, 3))) % 30


class TestEdits(PlrTests):
    def make(self, seed):
        return ACCEL(
            DiscreteTaskSpace(30), moved, buffer_size=6, num_edits=2, edit_prob=0.5, rho=0.0, seed=seed
        )


@pytest.mark.parametrize("strategy", ["random", "sequential"])
def test_strategies_without_scores_meet_their_distribution(strategy):
    class Case(PlrTests):
        def make(self, seed):
            return PrioritizedLevelReplay(DiscreteTaskSpace(6), strategy=strategy, seed=seed)

    Case().test_distribution_is_what_is_sampled()
    Case().test_resumes_where_it_was_saved()

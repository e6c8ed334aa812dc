"""Every curriculum keeps the promises of `macurr.testing.CurriculumTests`."""

import numpy as np

from macurr import (
    BoxTaskSpace,
    Curriculum,
    DictTaskSpace,
    DiscreteTaskSpace,
    MultiDiscreteTaskSpace,
    StratifiedDiscreteTaskSpace,
    TupleTaskSpace,
)
from macurr.curricula import Constant, DomainRandomization
from macurr.testing import CurriculumTests


class TestDomainRandomization(CurriculumTests):
    def make(self, seed):
        return DomainRandomization(DiscreteTaskSpace(["a", "b", "c", "d"]), seed=seed)


class TestDomainRandomizationWithEverything(CurriculumTests):
    def make(self, seed):
        names = ["one", "two", "three"]
        space = StratifiedDiscreteTaskSpace({"small": [5, 6], "large": [12]})
        return DomainRandomization(
            space, seed=seed, task_names=names, record_stats=True, random_start_tasks=10
        )


class TestDomainRandomizationOverCombinations(CurriculumTests):
    def make(self, seed):
        return DomainRandomization(MultiDiscreteTaskSpace([3, ["x", "y"]]), seed=seed, record_stats=True)


class TestDomainRandomizationOverABox(CurriculumTests):
    def make(self, seed):
        return DomainRandomization(BoxTaskSpace([0, -1], [1, 1]), seed=seed, record_stats=True)


class TestDomainRandomizationOverNamedParts(CurriculumTests):
    def make(self, seed):
        parts = [
            DiscreteTaskSpace(3),
            DictTaskSpace({"gravity": BoxTaskSpace(0, 1), "level": DiscreteTaskSpace(4)}),
        ]
        return DomainRandomization(TupleTaskSpace(parts, names=["agent", "env"]), seed=seed)


class TestConstant(CurriculumTests):
    def make(self, seed):
        return Constant(DiscreteTaskSpace(5), 3, seed=seed, record_stats=True)


class TestConstantTuple(CurriculumTests):
    def make(self, seed):
        space = TupleTaskSpace([DiscreteTaskSpace(3), BoxTaskSpace([0, 0], [1, 1])], names=["agent", "env"])
        return Constant(space, (2, np.array([0.25, 0.5], np.float32)), seed=seed)


class TestConstantMapping(CurriculumTests):
    def make(self, seed):
        space = DictTaskSpace({"a": DiscreteTaskSpace(3), "b": MultiDiscreteTaskSpace([2, 2])})
        return Constant(space, {"a": 2, "b": (1, 0)}, seed=seed)


class _Averages(Curriculum):
    """Draws tasks in proportion to one plus their mean reward in steps: a curriculum that reads steps."""

    def __init__(self, n, *, one_agent, **options):
        super().__init__(DiscreteTaskSpace(n), **options)
        self.single_agent = one_agent
        self.sums = np.zeros(n)
        self.counts = np.zeros(n)

    requires_step_updates = True

    def distribution(self):
        weights = 1 + self.sums / np.maximum(self.counts, 1)
        return weights / weights.sum()

    def _sample(self, k):
        return self.rng.choice(len(self.sums), size=k, p=self.distribution()).tolist()

    def update_on_step(self, task, obs, reward, term, trunc, info, progress, env_id=None):
        task = self.task_space.check(task)
        self.sums[task] += reward if self.single_agent else sum(reward.values())
        self.counts[task] += 1

    def state_dict(self):
        return {**super().state_dict(), "sums": self.sums.copy(), "counts": self.counts.copy()}

    def load_state_dict(self, state):
        from macurr.curriculum import check_state
        from macurr.errors import StateError

        check_state(state, "_Averages", {"sums", "counts"})
        arrays = [state["sums"], state["counts"]]
        if any(not isinstance(a, np.ndarray) or a.shape != self.sums.shape for a in arrays):
            raise StateError("The sums and counts are arrays with one number for each task.")
        super().load_state_dict(state)
        self.sums, self.counts = (array.astype(float) for array in arrays)


class TestASubclassOfAUser(CurriculumTests):
    def make(self, seed):
        return _Averages(6, one_agent=False, seed=seed, record_stats=True)


class TestASingleAgentSubclassOfAUser(CurriculumTests):
    same_in_single_steps = True

    def make(self, seed):
        return _Averages(6, one_agent=True, seed=seed)

"""The wrappers for several agents keep the promises of `macurr.testing.CurriculumTests`, also nested."""

import numpy as np
import pytest

from macurr import BoxTaskSpace, DiscreteTaskSpace, EnvSpec
from macurr.curricula import DomainRandomization, PrioritizedFictitiousSelfPlay, PrioritizedLevelReplay
from macurr.evaluator import FunctionEvaluator
from macurr.opponents import AgentPool
from macurr.testing import CurriculumTests
from macurr.wrappers import DualCurriculumWrapper as Dual
from macurr.wrappers import MultiagentIndependentCurriculumWrapper as Independent
from macurr.wrappers import MultiagentSharedCurriculumWrapper as Shared

AGENTS = ("agent_0", "agent_1")


def summed(observations):
    return [float(np.sum(one)) for one in observations]


def summed_jointly(observations):
    return [sum(float(np.sum(seen)) for seen in joint.values()) for joint in observations]


def plr(seed, n=6, evaluator=None, **options):
    return PrioritizedLevelReplay(
        DiscreteTaskSpace(n), rho=0.0, temperature=1.0, alpha=0.5, evaluator=evaluator, seed=seed, **options
    )


def plr_on_steps(seed, n=6):
    return plr(seed, n, FunctionEvaluator(summed))


class Scored(CurriculumTests):
    """Feeds scores as well, and demands that must be refused."""

    same_in_single_steps = False  # PLR does not score an episode's first step when steps come one at a time

    def drive(self, curriculum, n, rng):
        for _ in range(n):
            super().drive(curriculum, 1, rng)
            curriculum.update_on_demand({"tasks": curriculum.sample(), "scores": [rng.random()]})

    def bad_demands(self, curriculum):
        task = curriculum.task_space.sample(np.random.default_rng(0))
        yield {"tasks": [task], "scores": [float("nan")]}
        yield {"tasks": ["no such task"], "scores": [0.5]}
        yield {"tasks": [task, task], "scores": [0.5]}


class TestShared(Scored):
    def make(self, seed):
        return Shared(plr(seed, record_stats=True))


class TestSharedOnSteps(Scored):
    def make(self, seed):
        return Shared(plr_on_steps(seed))


class TestJointPolicy(Scored):
    def make(self, seed):
        return Shared(plr(seed, evaluator=FunctionEvaluator(summed_jointly)), joint_policy=True, reduce="sum")


class TestOneLearner(Scored):
    def make(self, seed):
        return Shared(plr_on_steps(seed), AGENTS)

    def spec(self, curriculum):
        return EnvSpec(AGENTS, AGENTS[1:])


class TestGroups(Scored):
    def make(self, seed):
        groups = {"red": AGENTS[:1], "blue": AGENTS[1:]}
        return Shared(plr(seed, evaluator=FunctionEvaluator(summed_jointly)), groups=groups)


class TestIndependent(Scored):
    def make(self, seed):
        first, second = np.random.default_rng(seed).integers(2**31, size=2).tolist()
        return Independent({AGENTS[0]: plr_on_steps(first, 3), AGENTS[1]: plr(second, 4)})


class TestIndependentOfBoxes(CurriculumTests):
    def make(self, seed):
        rng = np.random.default_rng(seed)
        return Independent(
            lambda agent: DomainRandomization(BoxTaskSpace(0, 1), seed=rng.integers(2**31)), AGENTS
        )


class TestSharedTeam(CurriculumTests):
    same_in_single_steps = False

    def make(self, seed):
        return Independent({"team": plr_on_steps(seed)}, groups={"team": AGENTS})


class TestDual(Scored):
    def make(self, seed):
        return Dual(plr_on_steps(seed), DomainRandomization(DiscreteTaskSpace(3), seed=seed + 1000))


class TestDualInBatches(Scored):
    def make(self, seed):
        opponents = DomainRandomization(DiscreteTaskSpace(3), seed=seed + 1000)
        return Dual(plr(seed, record_stats=True), opponents, batch_agent_tasks=True, batch_size=5)


class TestScoredOpponents(Scored):
    def make(self, seed):
        return Dual(plr(seed), plr(seed + 1000, 3), share_scores=True)


class TestDualOfDual(Scored):
    def make(self, seed):
        inner = Dual(plr_on_steps(seed, 3), DomainRandomization(DiscreteTaskSpace(2), seed=seed + 1000))
        return Dual(inner, DomainRandomization(DiscreteTaskSpace(2), seed=seed + 2000))


class TestDualOfIndependent(Scored):
    def make(self, seed):
        levels = Independent({agent: plr(seed + i, 3) for i, agent in enumerate(AGENTS)})
        return Dual(levels, DomainRandomization(DiscreteTaskSpace(2), seed=seed + 1000))


class TestDualInsideIndependent(Scored):
    def make(self, seed):
        parts = {
            agent: Dual(plr(seed + i, 2), DomainRandomization(DiscreteTaskSpace(2), seed=seed + 10 + i))
            for i, agent in enumerate(AGENTS)
        }
        return Independent(parts)


class TestPlrAgainstPastSelves(Scored):
    @pytest.fixture(autouse=True)
    def _pool(self, tmp_path):
        self.pool = AgentPool(tmp_path / "pool")
        for i in range(3):
            self.pool.add({"w": np.full(1, float(i))})

    def make(self, seed):
        return Dual(plr(seed), PrioritizedFictitiousSelfPlay(self.pool, seed=seed + 1000, exploration=0.1))


class TestJoint(Scored):
    def make(self, seed):
        opponents = DomainRandomization(DiscreteTaskSpace(3), seed=seed + 1000)
        return Dual(plr, opponents, joint=True, trials=2, uniform_prob=0.3, seed=seed)


class TestJointOnSteps(Scored):
    def make(self, seed):
        opponents = DomainRandomization(DiscreteTaskSpace(3), seed=seed + 1000)
        options = {"batch_agent_tasks": True, "batch_size": 3, "uniform_prob": 0.3, "trials": 1, "seed": seed}
        return Dual(plr_on_steps, opponents, joint=True, **options)


class TestJointAgainstPastSelves(TestPlrAgainstPastSelves):
    def make(self, seed):
        opponents = PrioritizedFictitiousSelfPlay(self.pool, seed=seed + 1000, exploration=0.1)
        return Dual(plr, opponents, joint=True, trials=1, uniform_prob=0.3, seed=seed)

"""Opponent and level from two curricula: who gets what, by hand."""

import numpy as np
import pytest

from macurr import (
    BoxTaskSpace,
    DiscreteTaskSpace,
    EnvSpec,
    StateError,
    TaskError,
    TupleTaskSpace,
    UsageError,
)
from macurr.curricula import Constant, DomainRandomization, FictitiousSelfPlay, PrioritizedLevelReplay
from macurr.opponents import AgentPool
from macurr.testing import TraceCurriculum
from macurr.wrappers import DualCurriculumWrapper as Dual
from macurr.wrappers import MultiagentIndependentCurriculumWrapper as Independent
from macurr.wrappers import MultiagentSharedCurriculumWrapper as Shared
from tests.support.batches import column, make_batch

AB = ("a", "b")
SPEC = EnvSpec(AB, ("a",))
STEPS = frozenset({"rewards", "dones"})


def trace(n=10, fields=STEPS, single_agent=False):
    return TraceCurriculum(DiscreteTaskSpace(n), fields=fields, single_agent=single_agent)


def dual(env=None, agent=None, **options):
    levels, opponents = env or trace(), agent or trace(4)
    wrapper = Dual(levels, opponents, **options)
    wrapper.register_env(1, SPEC)
    levels.calls.clear()
    opponents.calls.clear()
    return wrapper, levels, opponents


def heard(inner, kind):
    return [what for name, what in inner.calls if name == kind]


# Tasks


def test_a_task_is_a_named_tuple():
    levels, opponents = DiscreteTaskSpace(["plain", "hills"]), DiscreteTaskSpace(3)
    wrapper = Dual(Constant(levels, 1), Constant(opponents, 2))
    assert wrapper.task_space == TupleTaskSpace([opponents, levels], names=["agent", "env"])
    [task] = wrapper.sample()
    assert (task.agent, task.env) == task == (2, 1)
    assert wrapper.task_space.decode(task)._asdict() == {"agent": 2, "env": "hills"}


def test_both_are_drawn_for_every_task():
    wrapper, levels, opponents = dual()
    assert wrapper.sample(3) == [(0, 0), (1, 1), (2, 2)]
    assert (heard(levels, "sample"), heard(opponents, "sample")) == ([0, 1, 2], [0, 1, 2])


@pytest.mark.parametrize("sizes", [(7,), (1,) * 7, (2, 3, 2), (3, 0, 4)])
def test_an_opponent_may_stay_for_several_tasks(sizes):
    wrapper, _, opponents = dual(batch_agent_tasks=True, batch_size=3)
    tasks = [task for size in sizes for task in wrapper.sample(size)]
    assert [task.agent for task in tasks] == [0, 0, 0, 1, 1, 1, 2]
    assert [task.env for task in tasks] == list(range(7))
    assert heard(opponents, "sample") == [0, 1, 2]


def test_an_opponent_that_is_removed_does_not_stay():
    wrapper, _, opponents = dual(batch_agent_tasks=True, batch_size=3)
    wrapper.sample()
    opponents.task_space.remove_task(0)
    assert [task.agent for task in wrapper.sample(4)] == [1, 1, 1, 2]


def test_the_space_grows_with_its_parts():
    wrapper, _, opponents = dual()
    assert wrapper.task_space.num_tasks == 40
    opponents.task_space.add_task()
    assert wrapper.task_space.num_tasks == 50
    assert wrapper.task_space.contains((4, 9))


# Updates


def test_episodes_progress_and_aborts_go_to_both():
    wrapper, levels, opponents = dual()
    wrapper.update_on_episode({"a": 1.0, "b": -1.0}, 5, (3, 7), {"a": 0.5, "b": 0.0}, env_id=1)
    wrapper.update_task_progress((3, 7), {"a": 0.5, "b": 0.0}, env_id=1)
    wrapper.update_on_abort((3, 7), env_id=1)
    wrapper.unregister_env(1)
    for inner, own in ((levels, 7), (opponents, 3)):
        [result] = heard(inner, "episode")
        assert (result.task, result.env_id, result.length) == (own, 1, 5)
        assert (result.episode_return, result.progress) == ({"a": 1.0, "b": -1.0}, {"a": 0.5, "b": 0.0})
        assert [(p.task, p.progress) for p in heard(inner, "progress")] == [(own, {"a": 0.5, "b": 0.0})]
        assert [(x.task, x.env_id) for x in heard(inner, "abort")] == [(own, 1)]
        assert heard(inner, "unregister") == [1]


def test_steps_go_to_whoever_requires_them_with_their_part():
    reading = frozenset({"rewards", "dones", "observations"})
    batch = make_batch(AB, [[1, 2]], task=(3, 7), env_id=1)
    for env_fields, agent_fields in ((reading, STEPS), (reading, frozenset()), (frozenset(), STEPS)):
        wrapper, levels, opponents = dual(trace(fields=env_fields), trace(4, fields=agent_fields))
        assert wrapper.requires_step_updates
        assert wrapper.step_fields == env_fields | agent_fields
        wrapper.update_on_step_batch(batch)
        for inner, own in ((levels, 7), (opponents, 3)):
            steps = heard(inner, "steps")
            assert [(piece.task, piece.rewards.tolist()) for piece in steps] == (
                [(own, [[1.0, 2.0]])] if inner.fields else []
            )
    assert batch.task == (3, 7)
    assert not dual(trace(fields=frozenset()), trace(4, fields=frozenset()))[0].requires_step_updates


def test_single_steps_go_to_whoever_requires_them():
    class Stepwise(TraceCurriculum):
        def update_on_step(self, *step, env_id=None):
            self._note("step", (*step, env_id))

    levels = Stepwise(DiscreteTaskSpace(9), fields=STEPS)
    wrapper, _, opponents = dual(levels, trace(4, fields=frozenset()))
    step = ({"a": 0}, {"a": 1.0}, {"a": False}, {"a": False}, {}, {})
    wrapper.update_on_step((3, 7), *step, env_id=1)
    assert heard(levels, "step") == [(7, *step, 1)]
    assert opponents.calls == []


def test_a_single_agent_curriculum_learns_from_every_learner():
    levels = trace(single_agent=True)
    wrapper, _, opponents = dual(levels)
    wrapper.update_on_step_batch(make_batch(AB, [[1, 2], [3, None]], task=(3, 7), env_id=1))
    wrapper.update_on_episode({"a": 4.0, "b": 2.0}, 2, (3, 7), {}, env_id=1)
    [steps], [result] = heard(levels, "steps"), heard(levels, "episode")
    assert (steps.task, steps.env_id, column(steps)) == (7, 2, [1, 3])
    assert (result.task, result.env_id, result.episode_return) == (7, 2, 4.0)
    assert heard(opponents, "episode")[0].episode_return == {"a": 4.0, "b": 2.0}


def test_an_opponents_curriculum_of_one_agent_is_wrapped_too():
    opponents = trace(4, single_agent=True)
    wrapper, _, _ = dual(agent=opponents)
    wrapper.update_on_episode({"a": 4.0, "b": 2.0}, 2, (3, 7), {}, env_id=1)
    assert [(r.task, r.episode_return) for r in heard(opponents, "episode")] == [(3, 4.0)]


def test_where_one_refuses_an_environment_the_other_forgets_it():
    class Picky(TraceCurriculum):
        def register_env(self, env_id, spec):
            raise UsageError("not here")

    opponents = trace(4)
    wrapper = Dual(Picky(DiscreteTaskSpace(3)), opponents)
    with pytest.raises(UsageError, match="not here"):
        wrapper.register_env(5, SPEC)
    assert heard(opponents, "unregister") == [5]


@pytest.mark.parametrize(
    ("returns", "length", "task"),
    [
        ({"a": float("inf"), "b": 0.0}, 1, (0, 0)),
        ({"a": 1.0, "b": 0.0}, -1, (0, 0)),
        ({"a": 1.0, "b": 0.0}, 1, (0, 10)),
        ({"a": 1.0, "b": 0.0}, 1, (4, 0)),
        ({"a": 1.0, "b": 0.0}, 1, 3),
        ({"a": 1.0, "b": 0.0}, 1, (0, 0, 0)),
        ({"a": 1.0, "b": 0.0}, 1, np.array(3)),
    ],
)
def test_an_impossible_result_reaches_nobody(returns, length, task):
    wrapper, levels, opponents = dual()
    with pytest.raises(TaskError):
        wrapper.update_on_episode(returns, length, task, {}, env_id=1)
    assert levels.calls == opponents.calls == []


# What the learner tells


def test_scores_of_tasks_are_for_the_levels():
    wrapper, levels, opponents = dual()
    wrapper.update_on_demand({"tasks": [(3, 7), (0, 5)], "scores": [0.5, 0.1], "max_scores": [1.0, 0.2]})
    assert heard(levels, "demand") == [{"tasks": [7, 5], "scores": [0.5, 0.1], "max_scores": [1.0, 0.2]}]
    assert opponents.calls == []


def test_scores_may_be_shared():
    wrapper, levels, opponents = dual(share_scores=True)
    wrapper.update_on_demand({"tasks": np.array([[3, 7], [0, 5]]), "scores": [0.5, 0.1]})
    assert heard(levels, "demand") == [{"tasks": [7, 5], "scores": [0.5, 0.1]}]
    assert heard(opponents, "demand") == [{"tasks": [3, 0], "scores": [0.5, 0.1]}]


def test_one_task_and_rollouts_are_taken_apart():
    wrapper, levels, opponents = dual()
    wrapper.update_on_demand({"tasks": (3, 7), "scores": 0.5})
    wrapper.update_on_demand({"rollout": {"tasks": [[(3, 7), (1, 2)], [(3, 7), None]], "rewards": 1}})
    assert heard(levels, "demand") == [
        {"tasks": 7, "scores": 0.5},
        {"rollout": {"tasks": [[7, 2], [7, None]], "rewards": 1}},
    ]
    assert opponents.calls == []


def test_what_is_named_goes_to_its_part_and_the_rest_to_both():
    wrapper, levels, opponents = dual()
    wrapper.update_on_demand({"agent": {"snapshot": 3}})
    wrapper.update_on_demand({"env": {"tasks": [7], "scores": [0.5]}})
    wrapper.update_on_demand({"loss": 0.1, "agent": {"snapshot": 4}})
    wrapper.update_on_demand({})
    assert heard(opponents, "demand") == [{"snapshot": 3}, {"loss": 0.1}, {"snapshot": 4}]
    assert heard(levels, "demand") == [{"tasks": [7], "scores": [0.5]}, {"loss": 0.1}]


def test_a_demand_with_a_wrong_task_reaches_nobody():
    wrapper, levels, opponents = dual(share_scores=True)
    with pytest.raises(TaskError, match="got 7"):
        wrapper.update_on_demand({"tasks": [(3, 7), 7], "scores": [0.5, 0.1]})
    assert levels.calls == opponents.calls == []


# Watching and state


def test_the_distribution_is_the_product_and_knows_who_stays():
    levels, opponents = (
        DomainRandomization(DiscreteTaskSpace(3)),
        DomainRandomization(DiscreteTaskSpace(2), seed=0),
    )
    wrapper = Dual(levels, opponents, batch_agent_tasks=True, batch_size=2)
    assert wrapper.distribution() == pytest.approx(np.full(6, 1 / 6))
    [task] = wrapper.sample()
    expected = np.zeros(6)
    expected[3 * task.agent : 3 * task.agent + 3] = 1 / 3
    assert wrapper.distribution() == pytest.approx(expected)
    wrapper.sample()
    assert wrapper.distribution() == pytest.approx(np.full(6, 1 / 6))


def test_where_there_is_no_distribution_there_is_none_together():
    uniform, box = DomainRandomization(DiscreteTaskSpace(3)), DomainRandomization(BoxTaskSpace(0, 1))
    large = DomainRandomization(DiscreteTaskSpace(1_000_000))
    for levels, opponents in ((box, uniform), (large, uniform), (trace(), uniform)):
        wrapper = Dual(levels, opponents)
        assert wrapper.distribution() is None
    assert Dual(uniform, box).distribution() is None


def test_metrics_do_not_clash():
    wrapper = Dual(DomainRandomization(DiscreteTaskSpace(3)), DomainRandomization(DiscreteTaskSpace(2)))
    assert wrapper.metrics() == {"agent/entropy": np.log(2.0), "env/entropy": pytest.approx(np.log(3.0))}


def test_normalize_is_by_level():
    levels = DomainRandomization(DiscreteTaskSpace(3), record_stats=True)
    wrapper = Dual(levels, Constant(DiscreteTaskSpace(2), 0))
    for total in (1.0, 5.0):
        wrapper.update_on_episode({"a": total}, 1, (0, 2), {})
    assert wrapper.normalize(3.0, (1, 2)) == 1.5
    with pytest.raises(UsageError, match="record_stats"):
        dual()[0].normalize(1.0, (0, 0))


def make(seed, **options):
    levels = DomainRandomization(DiscreteTaskSpace(99), seed=seed)
    opponents = DomainRandomization(DiscreteTaskSpace(99), seed=seed + 1)
    return Dual(levels, opponents, **options)


def test_state_includes_who_is_being_played():
    options = {"batch_agent_tasks": True, "batch_size": 4}
    wrapper, restored = make(1, **options), make(7, **options)
    wrapper.sample(6)
    restored.load_state_dict(wrapper.state_dict())
    assert restored.sample(9) == wrapper.sample(9)


def test_an_opponent_removed_before_loading_is_not_played_on():
    options = {"batch_agent_tasks": True, "batch_size": 4}
    wrapper, restored = make(1, **options), make(7, **options)
    [task] = wrapper.sample()
    restored.task_space.spaces[0].remove_task(task.agent)
    restored.load_state_dict(wrapper.state_dict())
    assert task.agent not in {later.agent for later in restored.sample(20)}


@pytest.mark.parametrize(
    "batch", [None, {}, {"opponent": 3, "left": 4}, {"opponent": 99, "left": 1}, {"opponent": 1, "left": "x"}]
)
def test_a_damaged_state_changes_nothing(batch):
    wrapper = make(1, batch_agent_tasks=True, batch_size=4)
    wrapper.sample(2)
    before = wrapper.state_dict()
    with pytest.raises(StateError):
        wrapper.load_state_dict({**make(5).state_dict(), "batch": batch})
    assert wrapper.state_dict() == before


# Wrong arguments


def test_wrong_arguments_are_refused():
    levels = trace()
    for arguments, message in (
        ((levels, levels), "the same TraceCurriculum"),
        ((levels, 3), "got 3 for 'agent'"),
        ((3, levels), "got 3 for 'env'"),
        ((levels, trace(), True, 0), "batch_size"),
        ((lambda rng: levels, trace()), "joint=True"),
    ):
        with pytest.raises(UsageError, match=message):
            Dual(*arguments)
    with pytest.raises(UsageError, match=r"trials: pass joint=True"):
        Dual(levels, trace(), trials=3)


# What goes along with a task, and into logs


class Telling(TraceCurriculum):
    """Says of each task what it is."""

    def __init__(self, n, **names):
        super().__init__(DiscreteTaskSpace(n))
        self.names = names

    def task_info(self, task):
        return {key: value + task for key, value in self.names.items()}


def test_both_say_what_goes_with_a_task():
    wrapper = Dual(Telling(9, level=10.0, train=0.0), Telling(4, opponent=20.0, train=5.0))
    assert wrapper.task_info((3, 7)) == {"level": 17.0, "train": 7.0, "opponent": 23.0}


class Writer:
    def __init__(self):
        self.scalars = {}

    def add_scalar(self, tag, value, step):
        self.scalars[tag] = (value, step)


def test_logs_name_the_likely_tasks_of_each_part():
    levels = Constant(DiscreteTaskSpace(["plain", "hills"]), 1)
    wrapper = Dual(levels, DomainRandomization(DiscreteTaskSpace(2)))
    writer = Writer()
    wrapper.log_metrics(writer, step=3, log_n_tasks=1)
    assert writer.scalars == {
        "curriculum/env/entropy": (0.0, 3),
        "curriculum/env/probability/hills": (1.0, 3),
        "curriculum/agent/entropy": (np.log(2.0), 3),
        "curriculum/agent/probability/0": (0.5, 3),
    }


def test_an_environment_that_is_not_registered_is_refused_where_others_are():
    wrapper, levels, opponents = dual()
    with pytest.raises(UsageError, match="Environment 9 is not registered"):
        wrapper.update_on_episode({"a": 1.0, "b": 0.0}, 1, (0, 0), {}, env_id=9)
    assert levels.calls == opponents.calls == []


# Nested


def test_a_dual_of_duals_takes_its_tasks_apart_twice():
    inner_levels, inner_opponents, outer = trace(), trace(4), trace(3)
    wrapper = Dual(Dual(inner_levels, inner_opponents), outer)
    wrapper.register_env(0, SPEC)
    [task] = wrapper.sample()
    assert task == (0, (0, 0))
    assert task.env.env == 0
    wrapper.update_on_episode({"a": 1.0, "b": 0.0}, 1, (2, (3, 9)), {}, env_id=0)
    assert [heard(c, "episode")[0].task for c in (outer, inner_opponents, inner_levels)] == [2, 3, 9]
    wrapper.update_on_demand({"tasks": [(2, (3, 9))], "scores": [1.0]})
    assert heard(inner_levels, "demand") == [{"tasks": [9], "scores": [1.0]}]
    wrapper.update_on_demand({"env": {"agent": {"x": 1}}})
    assert heard(inner_opponents, "demand") == [{"x": 1}]
    assert set(wrapper.state_dict()["parts"]["env"]["parts"]) == {"agent", "env"}
    restored = Dual(Dual(trace(), trace(4)), trace(3))
    restored.load_state_dict(wrapper.state_dict())
    assert restored.sample(3) == wrapper.sample(3)


def test_levels_by_agent_against_an_opponent():
    a, b, opponents = trace(single_agent=True), trace(single_agent=True), trace(4)
    wrapper = Dual(Independent({"a": a, "b": b}), opponents)
    wrapper.register_env(0, EnvSpec(AB, AB))
    assert wrapper.sample() == [(0, {"a": 0, "b": 0})]
    wrapper.update_on_episode({"a": 1.0, "b": 2.0}, 1, (1, {"a": 3, "b": 4}), {}, env_id=0)
    assert [(r.task, r.episode_return) for r in heard(a, "episode") + heard(b, "episode")] == [
        (3, 1.0),
        (4, 2.0),
    ]
    assert heard(opponents, "episode")[0].task == 1


def test_a_rule_of_ones_own_for_the_levels():
    levels = trace(single_agent=True)
    wrapper = Dual(Shared(levels, joint_policy=True, reduce="min"), trace(4))
    wrapper.register_env(0, EnvSpec(AB, AB))
    wrapper.update_on_episode({"a": 1.0, "b": 2.0}, 1, (1, 3), {}, env_id=0)
    assert [(r.task, r.episode_return) for r in heard(levels, "episode")] == [(3, 1.0)]


def test_plr_against_past_selves(tmp_path):
    """The pair that this wrapper is for, in the few lines that it should take."""
    pool = AgentPool(tmp_path / "pool")
    pool.add({"w": np.zeros(1)})
    levels = PrioritizedLevelReplay(
        DiscreteTaskSpace(5), rho=0.0, staleness_coef=0.0, temperature=1.0, seed=0
    )
    wrapper = Dual(levels, FictitiousSelfPlay(pool, seed=0))
    wrapper.register_env(0, SPEC)
    task = wrapper.sample()[0]
    assert task.agent == 0
    wrapper.update_on_episode({"a": 1.0, "b": -1.0}, 3, task, {}, env_id=0)
    wrapper.update_on_demand({"tasks": [(0, 1), (0, 4)], "scores": [0.25, 0.75]})
    assert levels.scores[[1, 4]].tolist() == [0.25, 0.75]
    assert wrapper.agent_curriculum.payoffs.win_rates("learner", [0]).tolist() == [1.0]
    pool.add({"w": np.ones(1)})
    assert {task.agent for task in wrapper.sample(50)} == {0, 1}
    assert wrapper.distribution().shape == (10,)
    assert wrapper.distribution().sum() == pytest.approx(1.0)

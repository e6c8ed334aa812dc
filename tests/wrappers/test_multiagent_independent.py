"""A curriculum for each agent: tasks by agent, and who gets what, by hand."""

import numpy as np
import pytest

from macurr import (
    BoxTaskSpace,
    DictTaskSpace,
    DiscreteTaskSpace,
    EnvSpec,
    StateError,
    TaskError,
    UsageError,
)
from macurr.curricula import Constant, DomainRandomization
from macurr.testing import TraceCurriculum
from macurr.wrappers import MultiagentIndependentCurriculumWrapper as Independent
from tests.support.batches import column, make_batch

AB = ("a", "b")
SINGLE = {agent: EnvSpec((agent,), (agent,), single_agent=True) for agent in "abcd"}
STEPS = frozenset({"rewards", "dones"})


def trace(n=10, fields=STEPS):
    return TraceCurriculum(DiscreteTaskSpace(n), fields=fields, single_agent=True)


def independent(learners=AB, **curricula):
    parts = {**{agent: trace() for agent in AB}, **curricula}
    wrapper = Independent(parts)
    wrapper.register_env(3, EnvSpec(AB, learners))
    for part in parts.values():
        part.calls.clear()
    return wrapper, parts["a"], parts["b"]


def heard(inner, kind):
    return [what for name, what in inner.calls if name == kind]


def test_a_task_is_a_mapping_from_agent_to_its_task():
    numbers, names = DiscreteTaskSpace(10), DiscreteTaskSpace(["x", "y"])
    wrapper = Independent({"a": Constant(numbers, 7), "b": Constant(names, 1)})
    assert wrapper.task_space == DictTaskSpace({"a": numbers, "b": names})
    assert wrapper.sample(2) == [{"a": 7, "b": 1}] * 2
    assert wrapper.task_space.decode(wrapper.sample()[0]) == {"a": 7, "b": "y"}
    assert not wrapper.single_agent


def test_each_curriculum_sees_its_agent_alone():
    wrapper, a, b = independent()
    task = {"a": 4, "b": 6}
    wrapper.update_on_step_batch(
        make_batch(AB, [[1, 10], [None, 20]], done=[(0, "a"), (1, "b")], task=task, env_id=3)
    )
    wrapper.update_on_episode({"a": 1.0, "b": 30.0}, 2, task, {"a": 0.0, "b": 1.0}, env_id=3)
    wrapper.update_task_progress(task, {"a": 0.5, "b": 0.25}, env_id=3)
    wrapper.update_on_abort(task, env_id=3)
    wrapper.unregister_env(3)
    for inner, own, rewards, total, done, part in (
        (a, 4, [1], 1.0, 0.0, 0.5),
        (b, 6, [10, 20], 30.0, 1.0, 0.25),
    ):
        [steps], [result] = heard(inner, "steps"), heard(inner, "episode")
        assert (steps.task, steps.env_id, column(steps), steps.single_agent) == (own, 3, rewards, True)
        assert (result.task, result.episode_return, result.length, result.progress) == (own, total, 2, done)
        assert [(p.task, p.progress) for p in heard(inner, "progress")] == [(own, part)]
        assert [(x.task, x.env_id) for x in heard(inner, "abort")] == [(own, 3)]
        assert heard(inner, "unregister") == [3]


def test_frozen_agents_have_tasks_and_teach_nobody():
    wrapper, a, b = independent(learners=("b",))
    assert wrapper.sample() == [{"a": 0, "b": 0}]
    wrapper.update_on_episode({"a": 1.0, "b": 2.0}, 1, {"a": 1, "b": 2}, {}, env_id=3)
    assert (heard(a, "episode"), len(heard(b, "episode"))) == ([], 1)


def test_only_who_reads_steps_gets_them():
    wrapper, a, b = independent(b=trace(fields=frozenset()))
    assert wrapper.requires_step_updates
    assert wrapper.step_fields == STEPS
    wrapper.update_on_step_batch(make_batch(AB, [[1, 2]], task={"a": 0, "b": 0}, env_id=3))
    assert (len(heard(a, "steps")), heard(b, "steps")) == (1, [])
    assert not Independent({"a": trace(fields=frozenset())}).requires_step_updates


def test_a_factory_is_called_for_each_agent():
    made = []

    def make(agent):
        made.append(agent)
        return trace()

    wrapper = Independent(make, ["b", "a"])
    assert made == ["b", "a"]
    assert list(wrapper.sample()[0]) == ["b", "a"]


def test_groups_share_a_curriculum_and_have_tasks_of_their_own():
    red, blue = trace(), trace()
    groups = {"red": ["a", "c"], "blue": ["b"]}
    wrapper = Independent({"red": red, "blue": blue}, ["a", "b", "c"], groups=groups)
    assert list(wrapper.task_space.spaces) == ["a", "b", "c"]
    drawn = wrapper.sample(2)
    assert drawn == [{"a": 0, "c": 1, "b": 0}, {"a": 2, "c": 3, "b": 1}]
    assert list(drawn[0]) == ["a", "b", "c"], "in the order of the space, whatever the groups"
    wrapper.register_env(5, EnvSpec(("a", "b", "c"), ("a", "b", "c")))
    assert heard(red, "register") == [(10, SINGLE["a"]), (11, SINGLE["c"])]
    assert heard(blue, "register") == [(5, SINGLE["b"])]
    wrapper.update_on_episode({"a": 1.0, "b": 2.0, "c": 3.0}, 4, drawn[1], {}, env_id=5)
    results = [(r.env_id, r.task, r.episode_return) for r in heard(red, "episode")]
    assert results == [(10, 2, 1.0), (11, 3, 3.0)]
    assert [(r.env_id, r.task, r.episode_return) for r in heard(blue, "episode")] == [(5, 1, 2.0)]


def test_who_draws_for_several_agents_in_turn_has_no_distribution():
    curricula = {name: DomainRandomization(DiscreteTaskSpace(2), seed=0) for name in ("red", "blue")}
    assert Independent(curricula).distribution().tolist() == [0.25] * 4
    curricula = {name: DomainRandomization(DiscreteTaskSpace(2), seed=0) for name in ("red", "blue")}
    groups = {"red": ["a", "c"], "blue": ["b"]}
    assert Independent(curricula, groups=groups).distribution() is None


def test_demands_go_to_whom_they_name():
    wrapper, a, b = independent()
    wrapper.update_on_demand({"b": {"tasks": [3], "scores": [0.5]}})
    assert (heard(a, "demand"), heard(b, "demand")) == ([], [{"tasks": [3], "scores": [0.5]}])


def test_demands_about_tasks_are_split_by_agent():
    wrapper, a, b = independent()
    tasks = [{"a": 1, "b": 2}, {"a": 3, "b": 4}]
    wrapper.update_on_demand({"tasks": tasks, "scores": {"a": [0.1, 0.2], "b": [0.3, 0.4]}, "step": 9})
    assert heard(a, "demand") == [{"tasks": [1, 3], "scores": [0.1, 0.2], "step": 9}]
    assert heard(b, "demand") == [{"tasks": [2, 4], "scores": [0.3, 0.4], "step": 9}]
    wrapper.update_on_demand({"tasks": {"a": [5], "b": [6]}, "scores": [0.5]})
    assert [inner.calls[-1][1]["tasks"] for inner in (a, b)] == [[5], [6]]
    wrapper.update_on_demand({})
    assert len(a.calls) == 2


def test_demands_may_name_groups():
    red, blue = trace(), trace()
    wrapper = Independent({"red": red, "blue": blue}, groups={"red": ["a", "c"], "blue": ["b"]})
    wrapper.update_on_demand({"red": {"x": 1}, "b": {"y": 2}, "c": {"z": 3}})
    assert heard(red, "demand") == [{"z": 3}, {"x": 1}]
    assert heard(blue, "demand") == [{"y": 2}]


def test_a_demand_with_a_wrong_task_reaches_nobody():
    wrapper, a, b = independent()
    with pytest.raises(TaskError, match=r"got \{'a': 1\}"):
        wrapper.update_on_demand({"tasks": [{"a": 1}], "scores": [0.5]})
    assert a.calls == b.calls == []


@pytest.mark.parametrize("task", [{"a": 1}, 3, {"a": 1, "b": 99}, None])
def test_a_wrong_task_reaches_nobody(task):
    wrapper, a, b = independent()
    with pytest.raises(TaskError):
        wrapper.update_on_episode({"a": 1.0, "b": 1.0}, 1, task, {}, env_id=3)
    assert a.calls == b.calls == []


def test_steps_of_a_task_without_an_agent_reach_nobody():
    wrapper, a, b = independent()
    for call in (
        lambda: wrapper.update_on_step_batch(make_batch(AB, [[1, 2]], task={"a": 1}, env_id=3)),
        lambda: wrapper.update_task_progress({"a": 1}, {"a": 1.0, "b": 1.0}, env_id=3),
        lambda: wrapper.update_on_abort({"a": 1}, env_id=3),
    ):
        with pytest.raises(TaskError, match="mapping from each of"):
            call()
    assert a.calls == b.calls == []


def test_the_distribution_is_the_product():
    one, other = DomainRandomization(DiscreteTaskSpace(2)), Constant(DiscreteTaskSpace(3), 1)
    wrapper = Independent({"a": one, "b": other})
    expected = np.zeros(6)
    for i, task in enumerate(wrapper.task_space.tasks):
        expected[i] = 0.5 * (task["b"] == 1)
    assert wrapper.distribution().tolist() == expected.tolist()
    box = DomainRandomization(BoxTaskSpace(0, 1))
    assert Independent({"a": one, "b": box}).distribution() is None
    large = {agent: DomainRandomization(DiscreteTaskSpace(2000)) for agent in AB}
    assert Independent(large).distribution() is None


def test_metrics_do_not_clash():
    parts = {"a": DomainRandomization(DiscreteTaskSpace(2)), "b": DomainRandomization(DiscreteTaskSpace(4))}
    assert Independent(parts).metrics() == {"a/entropy": np.log(2.0), "b/entropy": np.log(4.0)}


def test_what_goes_with_a_task_is_said_by_agent():
    class Telling(TraceCurriculum):
        def task_info(self, task):
            return {"train": float(task)}

    wrapper = Independent({agent: Telling(DiscreteTaskSpace(9)) for agent in AB})
    assert wrapper.task_info({"a": 3, "b": 5}) == {"a/train": 3.0, "b/train": 5.0}


def test_normalize_names_the_cure():
    with pytest.raises(UsageError, match=r"a, b.*record_stats"):
        independent()[0].normalize(1.0, {"a": 0, "b": 0})


def test_state_is_that_of_the_parts_and_all_or_nothing():
    def make(seed):
        return Independent(
            {agent: DomainRandomization(DiscreteTaskSpace(99), seed=seed + i) for i, agent in enumerate(AB)}
        )

    wrapper, restored = make(1), make(10)
    wrapper.sample(3)
    state = wrapper.state_dict()
    before = restored.state_dict()
    damaged = {**state, "parts": {**state["parts"], "b": {"type": "Constant"}}}
    for wrong in (damaged, {**state, "parts": {"a": state["parts"]["a"]}}, {**state, "parts": 3}):
        with pytest.raises(StateError):
            restored.load_state_dict(wrong)
        assert restored.state_dict() == before
    restored.load_state_dict(state)
    assert restored.sample(5) == wrapper.sample(5)


SAME = trace()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({"a": SAME, "b": SAME},), "the same TraceCurriculum for 'a' and 'b'.*groups"),
        (({"a": SAME, "b": 3},), "got 3 for 'b'"),
        (({"a": SAME}, ["a", "b"]), "one curriculum for each of"),
        ((lambda agent: SAME,), "pass possible_agents"),
        (({},), "needs agents"),
    ],
)
def test_wrong_curricula_are_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        Independent(*arguments)


def test_groups_that_do_not_fit_are_refused():
    with pytest.raises(UsageError, match="one group"):
        Independent({"x": trace(), "y": trace()}, groups={"x": ["a"], "y": ["a"]})
    with pytest.raises(UsageError, match="each of the agents"):
        Independent({"x": trace()}, ["a", "b"], groups={"x": ["a"]})


def test_an_agent_without_a_curriculum_is_refused():
    with pytest.raises(UsageError, match=r"agents \['c'\].*Pass a curriculum"):
        independent()[0].register_env(4, EnvSpec(("a", "c"), ("a",)))

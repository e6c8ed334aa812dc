"""Messages: what a step batch says, one step and one agent at a time."""

import numpy as np
import pytest

from macurr import EnvSpec, StepBatch, UsageError
from macurr.messages import Step
from macurr.testing import random_episode
from macurr.testing.nested import same


def batch(**changes):
    """Three steps of two agents: "b" dies at the second step, and ends by truncation at the third."""
    fields = {
        "task": 7,
        "env_id": 2,
        "agents": ("a", "b"),
        "rewards": np.array([[1, 2], [3, 4], [5, 0]], np.float32),
        "terminations": np.array([[False, False], [False, True], [False, False]]),
        "truncations": np.array([[False, False], [False, False], [True, False]]),
        "active": np.array([[True, True], [True, True], [True, False]]),
        "observations": {"a": np.array([[10], [11], [12]]), "b": np.array([[20], [21], [0]])},
        "final_observations": {"a": np.array([13]), "b": np.array([22])},
        "infos": ({"a": {"k": 1}, "b": {"k": 2}}, {"a": {"k": 3}}, {}),
        "progress": np.array([[0, 0], [0.5, 1], [1, np.nan]], np.float32),
        "starts_episode": True,
        "ends_episode": True,
    }
    return StepBatch(**{**fields, **changes})


def test_steps_are_what_the_environment_returned():
    first, second, third = batch().steps()
    assert same(first.obs, {"a": np.array([11]), "b": np.array([21])})
    assert same(second.obs, {"a": np.array([12]), "b": np.array([22])})
    assert same(third.obs, {"a": np.array([13])})
    assert (first.reward, first.term, first.trunc) == (
        {"a": 1.0, "b": 2.0},
        {"a": False, "b": False},
        {"a": False, "b": False},
    )
    assert (second.reward, second.term["b"]) == ({"a": 3.0, "b": 4.0}, True)
    assert (third.reward, third.term, third.trunc) == ({"a": 5.0}, {"a": False}, {"a": True})
    assert [step.info for step in (first, second, third)] == [
        {"a": {"k": 1}, "b": {"k": 2}},
        {"a": {"k": 3}, "b": {}},
        {"a": {}},
    ]
    assert [step.progress for step in (first, second, third)] == [
        {"a": 0, "b": 0},
        {"a": 0.5, "b": 1},
        {"a": 1},
    ]
    assert {type(value) for value in (*first.reward.values(), *first.progress.values())} == {float}
    assert {type(value) for value in first.term.values()} == {bool}
    assert len(batch()) == 3


def test_what_was_not_recorded_is_empty():
    for step in batch(observations={}, final_observations={}, infos=(), progress=None).steps():
        assert step.obs == step.progress == {}
        assert set(step.info) == set(step.reward)


def test_single_agents_get_plain_values():
    first, _, third = batch().agent("a").steps()
    assert first == Step(np.array([11]), 1.0, False, False, {"k": 1}, 0.0)
    assert (third.obs.tolist(), third.reward, third.trunc, third.info) == ([13], 5.0, True, {})
    bare = batch(observations={}, final_observations={}, infos=(), progress=None).agent("a")
    assert next(bare.steps()) == Step(None, 1.0, False, False, {}, None)


def test_an_agents_part_ends_where_the_agent_does():
    part = batch(ends_episode=False).agent("b")
    assert (part.task, part.env_id, part.agents, len(part)) == (7, 2, ("b",), 2)
    assert part.rewards.tolist() == [[2], [4]]
    assert part.terminations.tolist() == [[False], [True]]
    assert part.observations["b"].tolist() == [[20], [21]]
    assert {agent: seen.tolist() for agent, seen in part.final_observations.items()} == {"b": [22]}
    assert part.progress.tolist() == [[0], [1]]
    assert part.infos == ({"b": {"k": 2}}, {"b": {}})
    assert part.single_agent
    assert part.starts_episode
    assert part.ends_episode
    other = batch(ends_episode=False, truncations=np.zeros((3, 2), bool)).agent("a")
    assert not other.ends_episode


def test_an_agent_that_never_acted_has_an_empty_part():
    absent = batch(active=np.array([[True, False]] * 3))
    part = absent.agent("b")
    assert len(part) == 0
    assert list(part.steps()) == []
    assert part.ends_episode


def test_lists_of_observations_are_taken_apart_too():
    seen = {"a": [{"x": 0}, {"x": 1}, {"x": 2}], "b": [(0,), (1,), None]}
    listed = batch(observations=seen, final_observations={"a": {"x": 3}, "b": (2,)})
    assert [step.obs for step in listed.steps()] == [
        {"a": {"x": 1}, "b": (1,)},
        {"a": {"x": 2}, "b": (2,)},
        {"a": {"x": 3}},
    ]
    assert listed.agent("b").observations == {"b": [(0,), (1,)]}


def test_an_agent_that_fell_silent_sees_what_it_acts_on_next():
    active = np.array([[True, True], [True, False], [True, True]])
    silent = batch(active=active, terminations=np.zeros((3, 2), bool))
    first, second, third = silent.steps()
    assert first.obs["b"].tolist() == [0]
    assert "b" not in second.obs
    assert third.obs["b"].tolist() == [22]


def test_an_agent_that_comes_back_from_the_dead_begins_anew():
    active = np.array([[True, True], [True, False], [True, True]])
    dead = np.array([[False, True], [False, False], [False, False]])
    first, second, third = batch(active=active, terminations=dead).steps()
    assert "b" not in first.obs
    assert "b" not in second.obs
    assert third.obs["b"].tolist() == [22]


def test_specs_want_learners_that_play():
    assert EnvSpec(("a", "b"), ("b",)).learners == ("b",)
    for learners in ((), ("c",), ("a", "c")):
        with pytest.raises(UsageError, match="Name at least one of the environment's possible_agents"):
            EnvSpec(("a", "b"), learners)


def test_random_episodes_depend_on_the_generator_alone():
    spec = EnvSpec(("a", "b"), ("a",))
    everything = frozenset({"rewards", "dones", "observations", "infos", "progress"})
    bare, whole, cut = (
        random_episode(1, 0, spec, np.random.default_rng(5), fields, cuts, 6)
        for fields, cuts in ((frozenset(), ()), (everything, ()), (everything, (2, 3)))
    )
    assert [type(update).__name__ for update in bare] == ["TaskProgress", "EpisodeResult"]
    assert bare == whole[1:] == cut[3:]
    pieces = [step for part in cut[:3] for step in part.steps()]
    assert same([list(step) for step in whole[0].steps()], [list(step) for step in pieces])
    assert [part.starts_episode for part in cut[:3]] == [True, False, False]
    assert [part.ends_episode for part in cut[:3]] == [False, False, True]
    with pytest.raises(ValueError, match="read-only"):
        whole[0].rewards[0, 0] = 1

"""One curriculum for all agents: who gets what, by hand."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from macurr import DiscreteTaskSpace, EnvSpec, StateError, StepBatch, TaskError, UsageError
from macurr.curricula import DomainRandomization
from macurr.testing import TraceCurriculum
from macurr.wrappers import MultiagentSharedCurriculumWrapper as Shared
from tests.support.batches import column, make_batch

ALL = frozenset({"rewards", "dones", "observations", "infos", "progress"})
ABC = ("a", "b", "c")
AB = ("a", "b")


def trace(**options):
    return TraceCurriculum(DiscreteTaskSpace(10), fields=ALL, single_agent=True, **options)


def shared(*, learners=ABC, env_id=0, agents=ABC, **options):
    inner = trace()
    wrapper = Shared(inner, **options)
    wrapper.register_env(env_id, EnvSpec(agents, learners))
    inner.calls.clear()
    return wrapper, inner


def heard(inner, kind):
    return [what for name, what in inner.calls if name == kind]


# Streams


def test_every_learner_is_an_environment_of_its_own():
    inner = trace()
    wrapper = Shared(inner)
    assert not wrapper.single_agent
    wrapper.register_env(2, EnvSpec(ABC, ("c", "a")))
    assert heard(inner, "register") == [
        (8, EnvSpec(("c",), ("c",), single_agent=True)),
        (6, EnvSpec(("a",), ("a",), single_agent=True)),
    ]
    wrapper.unregister_env(2)
    assert heard(inner, "unregister") == [8, 6]
    wrapper.unregister_env(2)
    assert len(heard(inner, "unregister")) == 2


def test_ids_of_different_environments_never_meet():
    inner = trace()
    wrapper = Shared(inner, possible_agents=["a", "b", "c", "d"])
    for env_id, agents in enumerate([("a", "b"), ("d", "c"), ABC]):
        wrapper.register_env(env_id, EnvSpec(agents, agents))
    assert [env_id for env_id, _ in heard(inner, "register")] == [0, 1, 7, 6, 8, 9, 10]


def test_an_environment_with_other_agents_is_refused():
    inner = trace()
    wrapper = Shared(inner)
    wrapper.register_env(0, EnvSpec(("a", "b"), ("a",)))
    with pytest.raises(UsageError, match=r"\['c'\].*possible_agents"):
        wrapper.register_env(1, EnvSpec(("a", "c"), ("a",)))
    wrapper.register_env(2, EnvSpec(("b",), ("b",)))
    assert [env_id for env_id, _ in heard(inner, "register")] == [0, 5]


def test_where_one_stream_is_refused_none_stays():
    class Picky(TraceCurriculum):
        def register_env(self, env_id, spec):
            super().register_env(env_id, spec)
            if spec.possible_agents == ("c",):
                raise UsageError("no c")

    inner = Picky(DiscreteTaskSpace(3))
    wrapper = Shared(inner)
    with pytest.raises(UsageError, match="no c"):
        wrapper.register_env(0, EnvSpec(ABC, ABC))
    assert heard(inner, "unregister") == [0, 1]
    wrapper.register_env(0, EnvSpec(("x", "y"), ("x",)))  # nothing of the refused environment is remembered


# Steps


def test_steps_are_split_and_the_dead_have_none():
    wrapper, inner = shared(learners=("a", "b"))
    batch = make_batch(
        ABC,
        [[1, 10, 100], [2, 20, 200], [None, 30, 300], [None, 40, 400]],
        done=[(1, "a"), (3, "b")],
        cut=[(3, "c")],
        task=7,
        observations={agent: np.arange(4) + i for i, agent in enumerate(ABC)},
        final_observations={"a": -1, "b": -2, "c": -3},
        infos=tuple({agent: {"t": t} for agent in ABC} for t in range(4)),
        progress=np.linspace(0, 1, 12, dtype=np.float32).reshape(4, 3),
    )
    wrapper.update_on_step_batch(batch)
    a, b = heard(inner, "steps")
    assert [(piece.agents, piece.env_id, piece.task) for piece in (a, b)] == [(("a",), 0, 7), (("b",), 1, 7)]
    assert column(a) == [1, 2]
    assert column(b) == [10, 20, 30, 40]
    assert column(a, "terminations") == [False, True]
    assert column(b, "terminations") == [False, False, False, True]
    assert column(a, "active") == [True, True]
    assert a.observations["a"].tolist() == [0, 1]
    assert b.observations["b"].tolist() == [1, 2, 3, 4]
    assert (a.final_observations, b.final_observations) == ({"a": -1}, {"b": -2})
    assert a.infos == ({"a": {"t": 0}}, {"a": {"t": 1}})
    assert column(a, "progress") == pytest.approx([0, 3 / 11])
    assert all(piece.single_agent and piece.starts_episode and piece.ends_episode for piece in (a, b))


def test_an_own_death_ends_a_stream_though_others_play_on():
    wrapper, inner = shared(agents=("a", "b"), learners=("a", "b"))
    wrapper.update_on_step_batch(make_batch("ab", [[1, 1], [1, 1]], done=[(1, "a")], ends=False))
    wrapper.update_on_step_batch(make_batch("ab", [[None, 1]], starts=False, ends=False))
    wrapper.update_on_step_batch(make_batch("ab", [[None, 1]], starts=False, cut=[(0, "b")]))
    flags = [(s.agents[0], len(s), s.starts_episode, s.ends_episode) for s in heard(inner, "steps")]
    assert flags == [
        ("a", 2, True, True),
        ("b", 2, True, False),
        ("b", 1, False, False),
        ("b", 1, False, True),
    ]


def test_an_agent_that_acts_late_starts_late():
    """As in a turn-based game whose batches hold one step."""
    wrapper, inner = shared(agents=("a", "b"), learners=("a", "b"))
    for t, row in enumerate([[1, None], [None, 2], [3, None]]):
        wrapper.update_on_step_batch(make_batch("ab", [row], starts=t == 0, ends=False))
    flags = [(s.agents[0], column(s), s.starts_episode, s.ends_episode) for s in heard(inner, "steps")]
    assert flags == [("a", [1], True, False), ("b", [2], True, False), ("a", [3], False, False)]
    inner.calls.clear()
    wrapper.update_on_step_batch(make_batch("ab", [[None, 4]], starts=False, done=[(0, "b")]))
    last = [(s.agents[0], len(s), s.ends_episode) for s in heard(inner, "steps")]
    assert last == [("a", 0, True), ("b", 1, True)], "who never said that it is done ends with the episode"


@pytest.mark.parametrize("ending", ["episode", "abort", "start"])
def test_a_new_episode_starts_every_stream_anew(ending):
    wrapper, inner = shared(agents=("a",), learners=("a",))
    wrapper.update_on_step_batch(make_batch("a", [[1]], ends=False))
    if ending == "episode":
        wrapper.update_on_episode({"a": 1.0}, 1, 0, {"a": 0.0}, env_id=0)
    elif ending == "abort":
        wrapper.update_on_abort(0, env_id=0)
    wrapper.update_on_step_batch(make_batch("a", [[1]], starts=ending == "start"))
    assert [s.starts_episode for s in heard(inner, "steps")] == [True, True]


def test_a_batch_without_a_learners_column_is_refused_whole():
    wrapper, inner = shared()
    with pytest.raises(TaskError, match=r"none for \['c'\]"):
        wrapper.update_on_step_batch(make_batch("ab", [[1, 2]]))
    assert inner.calls == []


def test_nothing_is_split_for_a_curriculum_that_reads_no_steps():
    inner = TraceCurriculum(DiscreteTaskSpace(3))
    wrapper = Shared(inner)
    wrapper.register_env(0, EnvSpec(ABC, ABC))
    assert not wrapper.requires_step_updates
    wrapper.update_on_step_batch(make_batch(ABC, [[1, 1, 1]]))
    assert heard(inner, "steps") == []


@st.composite
def lives(draw):
    """Rewards (T, A) of agents that live from their start to their end, and where batches are cut."""
    steps, agents = draw(st.integers(1, 12)), draw(st.integers(1, 4))
    spans = [sorted(draw(st.tuples(st.integers(0, steps), st.integers(0, steps)))) for _ in range(agents)]
    rewards = [
        [t + 100.0 * i + 1 if first <= t < last else None for i, (first, last) in enumerate(spans)]
        for t in range(steps)
    ]
    ends = [(last - 1, i) for i, (first, last) in enumerate(spans) if first < last]
    return rewards, ends, sorted(draw(st.sets(st.integers(1, steps))) | {0, steps})


def pieces_of(wrapper, inner, agents, rewards, ends, cuts):
    inner.calls.clear()
    for first, last in itertools.pairwise(cuts):
        done = [(t - first, agents[i]) for t, i in ends if first <= t < last]
        edges = {"starts": first == 0, "ends": last == len(rewards)}
        wrapper.update_on_step_batch(make_batch(agents, rewards[first:last], done=done, **edges))
    return heard(inner, "steps")


@given(lives())
def test_streams_hold_every_step_once_wherever_batches_are_cut(life):
    rewards, ends, cuts = life
    agents = tuple("abcd"[: len(rewards[0])])
    wrapper, inner = shared(agents=agents, learners=agents)
    pieces = pieces_of(wrapper, inner, agents, rewards, ends, cuts)
    assert sum(len(piece) for piece in pieces) == sum(r is not None for row in rewards for r in row)
    for i, agent in enumerate(agents):
        own = [piece for piece in pieces if piece.agents == (agent,)]
        told = [reward for piece in own for reward in column(piece)]
        assert told == [row[i] for row in rewards if row[i] is not None]
        starts, finishes = [p.starts_episode for p in own], [p.ends_episode for p in own]
        assert starts == [True] + [False] * (len(own) - 1) if own else True
        assert finishes == [False] * (len(own) - 1) + [True] if own else True


@given(lives(), st.sampled_from(["mean", "sum"]))
def test_a_joint_streams_rewards_add_up_to_its_return(life, rule):
    rewards, ends, cuts = life
    agents = tuple("abcd"[: len(rewards[0])])
    wrapper, inner = shared(agents=agents, learners=agents, joint_policy=True, reduce=rule)
    pieces = pieces_of(wrapper, inner, agents, rewards, ends, cuts)
    assert sum(len(piece) for piece in pieces) == sum(any(r is not None for r in row) for row in rewards)
    returns = {agent: sum(row[i] or 0.0 for row in rewards) for i, agent in enumerate(agents)}
    wrapper.update_on_episode(returns, len(rewards), 0, {}, env_id=0)
    [result] = heard(inner, "episode")
    total = sum(reward for piece in pieces for reward in column(piece))
    assert total == pytest.approx(result.episode_return, rel=1e-5)
    assert [p.ends_episode for p in pieces][:-1] == [False] * (len(pieces) - 1) if pieces else True


class Stepwise(TraceCurriculum):
    def update_on_step(self, task, obs, reward, term, trunc, info, progress, env_id=None):
        self._note("step", (task, obs, reward, term, trunc, info, progress, env_id))


def test_single_steps_are_split_too():
    inner = Stepwise(DiscreteTaskSpace(10), fields=ALL)
    wrapper = Shared(inner, ["a", "b", "c"])
    wrapper.register_env(1, EnvSpec(ABC, ("a", "b")))
    wrapper.update_on_step(
        4,
        {"a": 7, "c": 8},
        {"a": 1, "c": 2},
        {"a": True},
        {"a": False},
        {"a": {"x": 1}},
        {"a": 0.5},
        env_id=1,
    )
    assert heard(inner, "step") == [(4, 7, 1.0, True, False, {"x": 1}, 0.5, 3)]


# Results


def test_each_agent_gets_its_own_return_progress_and_abort():
    wrapper, inner = shared(learners=("a", "c"), env_id=1)
    wrapper.update_on_episode({"a": 1.0, "b": 2.0, "c": 3.0}, 9, 5, {"a": 0.5, "b": 1.0, "c": 0.0}, env_id=1)
    wrapper.update_task_progress(5, {"a": 0.25, "b": 1.0, "c": 0.75}, env_id=1)
    wrapper.update_on_abort(6, env_id=1)
    results = [(r.env_id, r.task, r.episode_return, r.length, r.progress) for r in heard(inner, "episode")]
    assert results == [(3, 5, 1.0, 9, 0.5), (5, 5, 3.0, 9, 0.0)]
    assert [(p.env_id, p.task, p.progress) for p in heard(inner, "progress")] == [(3, 5, 0.25), (5, 5, 0.75)]
    assert [(p.env_id, p.task) for p in heard(inner, "abort")] == [(3, 6), (5, 6)]


def test_who_did_not_play_teaches_nothing():
    wrapper, inner = shared()
    wrapper.update_on_episode({"b": 2.0}, 3, 1, {}, env_id=0)
    assert [(r.env_id, r.progress) for r in heard(inner, "episode")] == [(1, 0.0)]
    wrapper.update_on_episode({}, 0, 1, {}, env_id=0)
    assert len(heard(inner, "episode")) == 1


@pytest.mark.parametrize(
    ("returns", "length", "task"),
    [
        ({"a": 1.0, "b": float("nan")}, 3, 1),
        ({"a": 1.0}, -1, 1),
        ({"a": 1.0}, 3, 10),
        ({"a": 1, "z": 1}, 3, 1),
    ],
)
def test_an_impossible_result_reaches_nobody(returns, length, task):
    wrapper, inner = shared()
    with pytest.raises(TaskError):
        wrapper.update_on_episode(returns, length, task, {}, env_id=0)
    assert inner.calls == []


def test_plain_values_are_refused_from_several_agents_and_taken_from_one():
    wrapper, inner = shared()
    with pytest.raises(TaskError, match=r"mappings by agent; got 1\.0"):
        wrapper.update_on_episode(1.0, 3, 1, 0.0, env_id=0)
    single = Shared(inner)
    single.register_env(4, EnvSpec(("agent_0",), ("agent_0",), single_agent=True))
    single.update_on_episode(1.0, 3, 1, 0.5, env_id=4)
    single.update_on_step_batch(make_batch(["agent_0"], [[1], [2]], single_agent=True, env_id=4))
    [result], [steps] = heard(inner, "episode"), heard(inner, "steps")
    assert (result.env_id, result.episode_return, result.progress) == (4, 1.0, 0.5)
    assert (steps.env_id, column(steps)) == (4, [1, 2])


def test_an_unregistered_environment_needs_possible_agents():
    inner = trace()
    with pytest.raises(UsageError, match="register_env first, or pass possible_agents"):
        Shared(inner).update_on_episode({"a": 1.0}, 3, 1, {}, env_id=3)
    known = Shared(inner, ["a", "b"])
    known.update_on_episode({"a": 1.0, "b": 2.0}, 3, 1, {}, env_id=3)
    known.update_on_episode({"a": 1.0}, 3, 1, {})
    assert [r.env_id for r in heard(inner, "episode")] == [6, 7, -1]
    known.register_env(0, EnvSpec(AB, AB))
    with pytest.raises(UsageError, match="Environment 4 is not registered"):
        known.update_on_episode({"a": 1.0}, 3, 1, {}, env_id=4)


# Joint policies and groups


@pytest.mark.parametrize(
    ("rule", "steps", "result"),
    [
        ("mean", [2.0, 1.0], 3.0),
        ("sum", [4.0, 2.0], 6.0),
        ("min", [1.0, 0.0], 1.0),
        ("max", [3.0, 2.0], 5.0),
        (np.median, [2.0, 1.0], 3.0),
    ],
)
def test_joint_rewards_are_reduced_over_the_learners(rule, steps, result):
    wrapper, inner = shared(learners=("a", "b"), joint_policy=True, reduce=rule, env_id=5)
    batch = make_batch(ABC, [[1, 3, 50], [None, 2, 60]], done=[(0, "a"), (1, "b")], env_id=5, ends=False)
    wrapper.update_on_step_batch(batch)
    wrapper.update_on_episode(
        {"a": 1.0, "b": 5.0, "c": 110.0}, 2, 3, {"a": 0.0, "b": 0.0, "c": 1.0}, env_id=5
    )
    [joint], [episode] = heard(inner, "steps"), heard(inner, "episode")
    assert (joint.agents, joint.env_id, joint.single_agent) == (("joint",), 5, True)
    assert column(joint) == steps
    assert (episode.env_id, episode.episode_return, episode.progress) == (5, result, 0.0)


def test_joint_observations_stay_joint():
    wrapper, inner = shared(agents=("a", "b"), learners=("a", "b"), joint_policy=True)
    batch = make_batch(
        "ab",
        [[1, 1], [None, 1]],
        done=[(0, "a")],
        observations={"a": np.array([1, 0]), "b": [("x",), ("y",)]},
        final_observations={"a": 5, "b": ("z",)},
        infos=({"a": {"i": 1}, "b": {}}, {"b": {"i": 2}}),
        progress=np.array([[0.5, 1.0], [np.nan, np.nan]], np.float32),
    )
    wrapper.update_on_step_batch(batch)
    [joint] = heard(inner, "steps")
    assert joint.observations == {"joint": [{"a": 1, "b": ("x",)}, {"b": ("y",)}]}
    assert joint.final_observations == {"joint": {"a": 5, "b": ("z",)}}
    assert joint.infos == ({"joint": {"a": {"i": 1}, "b": {}}}, {"joint": {"b": {"i": 2}}})
    assert column(joint, "progress")[0] == 0.75
    assert np.isnan(column(joint, "progress")[1])
    seen = [step.obs for step in joint.steps()]
    assert seen == [{"b": ("y",)}, {"a": 5, "b": ("z",)}], "plain values, as a single-agent environment sends"


@pytest.mark.parametrize(
    ("done", "cut", "terminated", "truncated"),
    [
        ([(0, "a"), (2, "b")], [], [0, 0, 1], [0, 0, 0]),
        ([(0, "a")], [(2, "b")], [0, 0, 0], [0, 0, 1]),
        ([(2, "b")], [(0, "a")], [0, 0, 1], [0, 0, 0]),
        ([(2, "a")], [(2, "b")], [0, 0, 0], [0, 0, 1]),
        ([(1, "a"), (1, "b")], [], [0, 1], [0, 0]),
    ],
)
@pytest.mark.parametrize("cuts", [(0, 4), (0, 1, 4), (0, 1, 2, 4), (0, 1, 3, 4)])
def test_the_last_learner_ends_a_joint_episode(done, cut, terminated, truncated, cuts):
    """c, who is no learner, plays on; wherever the batches are cut, the flags stand at the same steps."""
    wrapper, inner = shared(learners=("a", "b"), joint_policy=True)
    last = {agent: step for step, agent in [*done, *cut]}
    rows = [[None if t > last.get(agent, 4) else 1.0 for agent in ABC] for t in range(4)]
    for first, end in itertools.pairwise(cuts):
        inside = [[(t - first, agent) for t, agent in flags if first <= t < end] for flags in (done, cut)]
        wrapper.update_on_step_batch(
            make_batch(ABC, rows[first:end], done=inside[0], cut=inside[1], starts=first == 0, ends=end == 4)
        )
    pieces = heard(inner, "steps")
    assert [flag for piece in pieces for flag in column(piece, "terminations")] == terminated
    assert [flag for piece in pieces for flag in column(piece, "truncations")] == truncated
    assert [piece.ends_episode for piece in pieces] == [False] * (len(pieces) - 1) + [True]


def test_joint_single_steps():
    inner = Stepwise(DiscreteTaskSpace(10), fields=ALL)
    wrapper = Shared(inner, joint_policy=True)
    wrapper.register_env(0, EnvSpec(ABC, ("a", "b")))
    everyone = {"a": 1, "b": 3, "c": 9}
    wrapper.update_on_step(1, {"a": 1, "b": 2, "c": 3}, everyone, {"a": True}, {}, {}, {}, env_id=0)
    wrapper.update_on_step(1, {}, {"b": 3, "c": 9}, {}, {"b": True}, {"b": {"x": 1}}, {"b": 1.0}, env_id=0)
    wrapper.update_on_step(1, {}, {"c": 9}, {}, {}, {}, {}, env_id=0)
    first, last = heard(inner, "step")
    assert first == (1, {"a": 1, "b": 2}, 2.0, False, False, {"a": {}, "b": {}}, None, 0)
    assert last == (1, {}, 1.5, False, True, {"b": {"x": 1}}, 0.5, 0)
    # Both are done, so that the next step begins an episode: one who is done in it does not end it.
    wrapper.update_on_step(2, {}, everyone, {"a": True}, {}, {}, {}, env_id=0)
    assert heard(inner, "step")[-1][3:5] == (False, False)


def test_what_stands_in_the_column_of_one_who_did_not_act_is_no_reward():
    wrapper, inner = shared(learners=("a", "b"), joint_policy=True, reduce="sum")
    batch = make_batch(ABC, [[1, 2, 0], [None, 4, 0]], done=[(0, "a"), (1, "b")])
    batch.rewards[1, 0] = 99.0
    wrapper.update_on_step_batch(batch)
    [joint] = heard(inner, "steps")
    assert column(joint) == [3.0, 4.0]


def test_groups_act_as_one_each():
    wrapper, inner = shared(
        agents=("r0", "b0", "r1"),
        learners=("r0", "b0", "r1"),
        groups={"red": ["r0", "r1"], "blue": ["b0", "b1"]},
        reduce="sum",
        env_id=3,
    )
    wrapper.update_on_step_batch(make_batch(("r0", "b0", "r1"), [[1, 10, 2]], env_id=3))
    wrapper.update_on_episode({"r0": 1.0, "b0": 10.0, "r1": 2.0}, 1, 0, {}, env_id=3)
    steps = [(s.agents, s.env_id, column(s)) for s in heard(inner, "steps")]
    assert steps == [(("red",), 6, [3.0]), (("blue",), 7, [10.0])]
    assert [(r.env_id, r.episode_return) for r in heard(inner, "episode")] == [(6, 3.0), (7, 10.0)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": {"red": ["a"], "blue": ["a"]}}, "one group"),
        ({"groups": {"red": []}}, "needs agents"),
        ({"groups": {}}, "needs agents"),
        ({"groups": {"red": ["a"]}, "joint_policy": True}, "not both"),
        ({"reduce": "median"}, "mean, sum, min, max"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        Shared(trace(), **options)


def test_learners_outside_all_groups_are_refused():
    with pytest.raises(UsageError, match="None of the learners"):
        Shared(trace(), groups={"red": ["a"]}).register_env(0, EnvSpec(ABC, ("b",)))


def test_what_is_wrapped_must_be_a_curriculum():
    with pytest.raises(UsageError, match="wraps a Curriculum"):
        Shared(DiscreteTaskSpace(3))


# The rest is the curriculum's


def test_everything_else_is_the_curriculums_own():
    levels = DomainRandomization(DiscreteTaskSpace(4), seed=3, record_stats=True)
    twin = DomainRandomization(DiscreteTaskSpace(4), seed=3, record_stats=True)
    wrapper = Shared(levels, ["a", "b"])
    assert wrapper.sample(5) == twin.sample(5)
    assert wrapper.distribution().tolist() == [0.25] * 4
    wrapper.update_on_episode({"a": 1.0, "b": 3.0}, 2, 1, {}, env_id=0)
    assert (wrapper.stats.task(1).count, wrapper.stats.task(1).mean) == (2, 2.0)
    assert wrapper.normalize(1.0, 1) == 1.0
    assert wrapper.metrics() == levels.metrics()
    inner = trace()
    Shared(inner).update_on_demand({"tasks": [1], "scores": [0.5]})
    assert heard(inner, "demand") == [{"tasks": [1], "scores": [0.5]}]


def test_state_is_the_curriculums():
    wrapper, restored = (Shared(DomainRandomization(DiscreteTaskSpace(99), seed=s), ["a"]) for s in (1, 2))
    wrapper.sample(3)
    restored.load_state_dict(wrapper.state_dict())
    assert restored.sample(9) == wrapper.sample(9)
    with pytest.raises(StateError, match="MultiagentSharedCurriculumWrapper needs one of its own kind"):
        restored.load_state_dict(wrapper.curriculum.state_dict())


def test_pieces_are_step_batches_that_stand_alone():
    """Nothing of the other agents goes along."""
    wrapper, inner = shared()
    seen = {agent: np.zeros((2, 3)) for agent in ABC}
    wrapper.update_on_step_batch(
        make_batch(ABC, [[1, 2, 3], [1, 2, 3]], observations=seen, final_observations=dict.fromkeys(ABC, 0))
    )
    for piece in heard(inner, "steps"):
        assert isinstance(piece, StepBatch)
        assert piece.rewards.shape == piece.terminations.shape == piece.active.shape == (2, 1)
        assert set(piece.observations) == set(piece.final_observations) == set(piece.agents)

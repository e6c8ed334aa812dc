"""What is recorded of an episode is what happened in it, whoever died, fell silent or came back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from macurr import EpisodeResult, StepBatch, make_local_curriculum
from macurr.messages import EnvSpec
from macurr.testing import TraceCurriculum
from macurr.wrappers import PettingZooSyncWrapper
from macurr.wrappers._recorder import LARGEST_BATCH, Recorder
from tests.support.envs import ScriptEnv

AGENTS = ("a", "b", "c")
ALL = frozenset({"rewards", "dones", "observations", "infos", "progress"})
QUARTERS = st.integers(-40, 40).map(lambda n: n / 4)  # exact in float32, so that sums can be compared


@st.composite
def episodes(draw):
    """Steps at which random agents act. Each is terminated or truncated at its last step, and not before."""
    length = draw(st.integers(1, 9))
    acting = [draw(st.sets(st.sampled_from(AGENTS), min_size=1)) for _ in range(length)]
    last = {a: t for t, agents in enumerate(acting) for a in agents}
    ends = {a: draw(st.sampled_from([(True, False), (False, True), (True, True)])) for a in AGENTS}
    return [
        {a: (draw(QUARTERS), *(ends[a] if last[a] == t else (False, False))) for a in sorted(agents)}
        for t, agents in enumerate(acting)
    ]


def record(env, fields=ALL, **options):
    """Play all episodes of an environment; the updates that arrive, and what each step returned."""
    trace = TraceCurriculum(fields=fields)
    returned = []
    with make_local_curriculum(trace) as synced:
        wrapped = PettingZooSyncWrapper(env, synced.components, **options)
        for _ in env.episodes:
            seen, _ = wrapped.reset()
            steps = [{agent: what.copy() for agent, what in seen.items()}]
            while wrapped.agents:
                steps.append(wrapped.step(dict.fromkeys(wrapped.agents, 0)))
            returned.append(steps)
        updates = [what for kind, what in trace.calls if kind in {"steps", "episode"}]
        wrapped.close()
    return updates, returned


def by_episode(updates):
    """Pairs of an episode's batches and its result."""
    batches = []
    for update in updates:
        if isinstance(update, EpisodeResult):
            yield batches, update
            batches = []
        else:
            batches.append(update)
    assert not batches


@given(script=st.lists(episodes(), min_size=1, max_size=3), batch_size=st.integers(1, 5), loose=st.booleans())
def test_steps_say_what_the_environment_returned(script, batch_size, loose):
    env = ScriptEnv(script, loose=loose, without_info=("b",) if loose else ())
    updates, returned = record(env, batch_size=batch_size)
    recorded = list(by_episode(updates))
    assert len(recorded) == len(script)
    for n, (turns, (batches, result), steps) in enumerate(zip(script, recorded, returned, strict=True)):
        assert {batch.task for batch in batches} == {result.task} == {n}
        assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
        assert [batch.starts_episode for batch in batches] == [True] + [False] * (len(batches) - 1)
        assert [batch.ends_episode for batch in batches] == [False] * (len(batches) - 1) + [True]
        seen = [step for batch in batches for step in batch.steps()]
        assert len(seen) == len(turns) == result.length
        for t, (step, turn) in enumerate(zip(seen, turns, strict=True)):
            assert step.reward == {agent: values[0] for agent, values in turn.items()}
            assert step.term == {agent: values[1] for agent, values in turn.items()}
            assert step.trunc == {agent: values[2] for agent, values in turn.items()}
            assert step.progress == dict.fromkeys(turn, 0.0)
            infos = steps[t + 1][4]
            assert step.info == {agent: infos[agent] for agent in turn}
        assert result.episode_return == {
            agent: sum(turn[agent][0] for turn in turns if agent in turn) for agent in AGENTS
        }


@given(turns=episodes(), batch_size=st.integers(1, 5))
def test_agents_see_what_they_saw(turns, batch_size):
    updates, _ = record(ScriptEnv([turns]), batch_size=batch_size)
    batches = [update for update in updates if isinstance(update, StepBatch)]
    for agent in AGENTS:
        acted = [t for t, turn in enumerate(turns) if agent in turn]
        rows = [batch.agent(agent) for batch in batches]
        # Before an action: the last that was shown, which is that step's own, for who acts next sees the step.
        before = np.concatenate([part.observations[agent] for part in rows if len(part)]) if acted else []
        assert [tuple(seen) for seen in before] == [(0, t) for t in acted]
        after = [step.obs[agent] for batch in batches for step in batch.steps() if agent in step.obs]
        known = [tuple(seen) for seen in after]
        assert len(known) == len(acted)
        for t, seen in zip(acted, known, strict=True):
            later = [u for u in acted if u > t]
            # Within a batch, the observation of its next action; at its end, the last that was shown to the agent.
            assert seen in {(0, t + 1), (0, later[0]) if later else (0, t + 1)}


@given(turns=episodes(), batch_size=st.integers(1, 9))
def test_one_agents_batch_is_its_own_episode(turns, batch_size):
    updates, _ = record(ScriptEnv([turns]), batch_size=batch_size)
    batches = [update for update in updates if isinstance(update, StepBatch)]
    for agent in AGENTS:
        mine = [turn[agent] for turn in turns if agent in turn]
        parts = [batch.agent(agent) for batch in batches]
        steps = [step for part in parts for step in part.steps()]
        assert [(step.reward, step.term, step.trunc) for step in steps] == mine
        for part in parts:
            assert part.agents == (agent,)
            assert part.single_agent
            assert part.active.all()
            assert part.rewards.shape == (len(part), 1)
        if mine:
            last = [len(part) for part in parts if len(part)]
            ended = [part.ends_episode for part in parts if len(part)]
            assert ended == [False] * (len(last) - 1) + [True]


@given(turns=episodes())
def test_without_step_fields_only_the_result_is_sent(turns):
    updates, _ = record(ScriptEnv([turns], loose=True), fields=frozenset())
    (result,) = updates
    assert result.length == len(turns)
    assert result.episode_return == {
        agent: sum(turn[agent][0] for turn in turns if agent in turn) for agent in AGENTS
    }


@pytest.mark.parametrize("field", ["rewards", "dones", "observations", "infos", "progress"])
def test_only_what_is_asked_for_is_recorded(field):
    turns = [{"a": (1.0, False, False), "b": (2.0, False, False), "c": (0.0, False, False)}] * 2
    turns.append({"a": (1.0, True, False), "b": (2.0, True, False), "c": (0.0, False, True)})
    updates, _ = record(ScriptEnv([turns]), fields=frozenset({field}))
    batch = updates[0]
    assert batch.rewards.tolist() == [[1.0, 2.0, 0.0]] * 3
    assert batch.rewards.dtype == np.float32
    assert bool(batch.observations) == bool(batch.final_observations) == (field == "observations")
    assert bool(batch.infos) == (field == "infos")
    assert (batch.progress is not None) == (field == "progress")


def test_dead_columns_are_marked_and_zero():
    turns = [{"a": (1.0, True, False), "b": (2.0, False, False)}, {"b": (3.0, False, True)}]
    updates, _ = record(ScriptEnv([turns]))
    batch = updates[0]
    assert batch.agents == AGENTS
    assert batch.active.tolist() == [[True, True, False], [False, True, False]]
    assert batch.rewards.tolist() == [[1.0, 2.0, 0.0], [0.0, 3.0, 0.0]]
    assert batch.terminations.tolist() == [[True, False, False], [False, False, False]]
    assert batch.truncations.tolist() == [[False, False, False], [False, True, False]]
    assert batch.observations["a"].tolist() == [[0, 0], [0, 0]]
    assert batch.observations["b"].tolist() == [[0, 0], [0, 1]]
    assert "c" not in batch.observations
    assert {agent: seen.tolist() for agent, seen in batch.final_observations.items()} == {
        "a": [0, 1],
        "b": [0, 2],
    }


def recorder(fields=ALL, agents=("a",), batch_size=8, remove_keys=frozenset(), single=True):
    spec = EnvSpec(agents, agents, single_agent=single)
    return Recorder(0, spec, fields, batch_size, remove_keys, dict.fromkeys(agents, 0.0))


def add(made, observation, reward=0.0, info=None):
    agent = made._agents[0]
    return made.add(
        {agent: observation}, {agent: reward}, {agent: False}, {agent: False}, {agent: info or {}}
    )


def test_buffers_that_are_used_again_do_not_change_the_past():
    made, buffer = recorder(), np.zeros(2, np.float32)
    nested = {"image": buffer, "parts": (buffer, [buffer])}
    made.begin(0, {"a": nested})
    for t in (1, 2):
        buffer[:] = t
        add(made, nested)
    buffer[:] = 99
    batch = made.flush(ends=True)
    assert [row["image"].tolist() for row in batch.observations["a"]] == [[0, 0], [1, 1]]
    assert [row["parts"][1][0].tolist() for row in batch.observations["a"]] == [[0, 0], [1, 1]]
    assert batch.final_observations["a"]["parts"][0].tolist() == [2, 2]


def test_a_plain_buffer_that_is_used_again_does_not_change_the_past_either():
    made, buffer = recorder(), np.zeros(2, np.float32)
    made.begin(0, {"a": buffer})
    for t in (1, 2):
        buffer[:] = t
        add(made, buffer)
    buffer[:] = 99
    batch = made.flush(ends=True)
    assert batch.observations["a"].tolist() == [[0, 0], [1, 1]]
    assert batch.final_observations["a"].tolist() == [2, 2]


def test_observations_stack_where_they_can():
    for rows, shape in (
        ([np.zeros((2, 2), np.uint8)] * 3, (2, 2, 2)),
        ([1, 2, 3], (2,)),
        ([1.5, 2.5, 3.5], (2,)),
        ([np.float32(1)] * 3, (2,)),
    ):
        made = recorder()
        made.begin(0, {"a": rows[0]})
        add(made, rows[1])
        add(made, rows[2])
        assert made.flush(ends=True).observations["a"].shape == shape
    for rows in (
        [np.zeros(1), np.zeros(2), np.zeros(3)],
        ["text", "more", "end"],
        [{"x": 1}, {"x": 2}, {"x": 3}],
    ):
        made = recorder()
        made.begin(0, {"a": rows[0]})
        add(made, rows[1])
        add(made, rows[2])
        stacked = made.flush(ends=True).observations["a"]
        assert isinstance(stacked, list)
        assert len(stacked) == 2


def test_keys_that_are_to_be_removed_are_not_recorded():
    made = recorder(remove_keys=frozenset({"secret"}))
    made.begin(0, {"a": 0})
    info = {"secret": object(), "fine": 1}
    add(made, 1, info=info)
    assert made.flush(ends=True).infos == ({"a": {"fine": 1}},)
    assert set(info) == {"secret", "fine"}


def test_batches_of_big_observations_are_cut_early():
    made = recorder(batch_size=1000)
    image = np.zeros(LARGEST_BATCH // 3, np.uint8)
    made.begin(0, {"a": image})
    assert [add(made, image) for _ in range(3)] == [False, False, True]
    assert not recorder(fields=frozenset({"rewards"}), batch_size=1000).flush(ends=False)


def test_rewards_may_be_arrays_of_one_number():
    made = recorder()
    made.begin(0, {"a": 0})
    add(made, 1, reward=np.array(1.5))
    add(made, 2, reward=np.float32(2.5))
    assert made.flush(ends=True).rewards.tolist() == [[1.5], [2.5]]
    assert made.returns == {"a": 4.0}


def test_returns_are_summed_in_double_precision():
    made = recorder(fields=frozenset({"rewards"}), batch_size=10_000)
    made.begin(0, {})
    for _ in range(1000):
        add(made, None, reward=0.1)
    made.flush(ends=True)
    assert abs(made.returns["a"] - 100.0) < 1e-9

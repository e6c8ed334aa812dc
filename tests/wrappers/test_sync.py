"""The sync wrapper of Parallel environments: tasks in, updates out, and the environment otherwise unchanged."""

import gymnasium
import numpy as np
import pytest
from pettingzoo.utils.conversions import parallel_to_aec

from macurr import (
    BoxTaskSpace,
    CurriculumError,
    DictTaskSpace,
    DiscreteTaskSpace,
    EpisodeAborted,
    EpisodeResult,
    StepBatch,
    TaskError,
    TaskProgress,
    TupleTaskSpace,
    UsageError,
    make_local_curriculum,
)
from macurr.curricula import Constant
from macurr.testing import ProbeEnv, TraceCurriculum
from macurr.wrappers import (
    MultiProcessingSyncWrapper,
    PettingZooSyncWrapper,
    PettingZooTaskWrapper,
    SeedTaskWrapper,
)
from tests.support.envs import CompletionEnv, CrashEnv, RandomWalkEnv, ScriptEnv


@pytest.fixture
def connect():
    """Serves a trace, or another curriculum, and wraps an environment."""
    opened = []

    def make(env, curriculum=None, fields=(), **options):
        curriculum = curriculum or TraceCurriculum(fields=frozenset(fields))
        opened.append(make_local_curriculum(curriculum))
        return curriculum, PettingZooSyncWrapper(env, opened[-1].components, **options)

    yield make
    for synced in opened:
        synced.close()


def play(env, steps=1000):
    for _ in range(steps):
        if env.agents:
            env.step(dict.fromkeys(env.agents, 0))


def told(trace, *kinds):
    return [
        what for kind, what in trace.calls if kind in (kinds or {"steps", "progress", "episode", "abort"})
    ]


# --- tasks -------------------------------------------------------------------------------------------------


def test_the_task_comes_as_an_option_beside_the_users(connect):
    space = DiscreteTaskSpace(["easy", "hard"])
    env = ScriptEnv([[{"a": (0.0, True, False)}]])
    _, wrapped = connect(env, Constant(space, 1))
    options = {"other": 1, "task": "mine"}
    wrapped.reset(seed=3, options=options)
    assert env.told == [{"other": 1, "task": "hard"}]
    assert options == {"other": 1, "task": "mine"}
    wrapped.reset()
    assert env.told[1] == {"task": "hard"}


def test_the_task_comes_by_keyword_where_reset_takes_it(connect):
    class Keyword(PettingZooTaskWrapper):
        def reset(self, seed=None, options=None, new_task=None):
            self.heard = (seed, options, new_task)
            return self.env.reset(seed=seed, options=options)

    env = Keyword(RandomWalkEnv())
    _, wrapped = connect(env, Constant(DiscreteTaskSpace(["easy", "hard"]), 0))
    wrapped.reset(seed=3, options={"other": 1})
    assert env.heard == (3, {"other": 1}, "easy")


@pytest.mark.parametrize(
    ("space", "task", "expected"),
    [
        (DiscreteTaskSpace(["easy", "hard"]), 1, {"a": 1, "b": 1, "c": 1}),
        (BoxTaskSpace([0, 0], [1, 1]), [0.5, 1.0], dict.fromkeys("abc", np.array([0.5, 1.0]))),
        (
            TupleTaskSpace([DiscreteTaskSpace(3), BoxTaskSpace([0, 0], [1, 1])], names=["agent", "env"]),
            (2, [0.5, 1.0]),
            dict.fromkeys("abc", np.array([2.0, 0.5, 1.0])),
        ),
        (
            DictTaskSpace({"level": DiscreteTaskSpace(3), "wind": DiscreteTaskSpace(9)}),
            {"level": 2, "wind": 8},
            dict.fromkeys("abc", np.array([2, 8])),
        ),
        (
            DictTaskSpace({agent: DiscreteTaskSpace(9) for agent in "abc"}),
            {"a": 1, "b": 2, "c": 3},
            {"a": 1, "b": 2, "c": 3},
        ),
    ],
)
def test_infos_hold_the_task_as_numbers(connect, space, task, expected):
    _, wrapped = connect(RandomWalkEnv(), Constant(space, task))
    for infos in (wrapped.reset()[1], wrapped.step(dict.fromkeys("abc", 0))[4]):
        assert set(infos) == set(expected)
        for agent, number in expected.items():
            assert set(infos[agent]) == {"task"}
            assert np.array_equal(infos[agent]["task"], number)


def test_infos_say_more_where_the_curriculum_does(connect):
    class Saying(Constant):
        def task_info(self, task):
            return {"trains": 1.0}

    _, wrapped = connect(RandomWalkEnv(), Saying(DiscreteTaskSpace(3), 2))
    for infos in (wrapped.reset()[1], wrapped.step(dict.fromkeys("abc", 0))[4]):
        assert infos == {agent: {"task": 2, "trains": 1.0} for agent in "abc"}


def test_the_reset_hears_what_the_curriculum_says(connect):
    class Saying(Constant):
        def task_info(self, task):
            return {"trains": 1.0}

    class Hearing(RandomWalkEnv):
        def reset(self, seed=None, options=None):
            self.heard = options
            return super().reset(seed, options)

    bare, wrapped = Hearing(), connect(Hearing(), Constant(DiscreteTaskSpace(3), 2))[1]
    wrapped.reset()
    assert wrapped.env.heard == {"task": 2}, "where there is nothing to say, nothing is said"
    _, wrapped = connect(bare, Saying(DiscreteTaskSpace(3), 2))
    wrapped.reset(options={"other": 1})
    assert bare.heard == {"other": 1, "task": 2, "task_info": {"trains": 1.0}}
    _, wrapped = connect(SeedTaskWrapper(bare), Saying(DiscreteTaskSpace(3), 2))
    wrapped.reset(options={"other": 1})
    assert bare.heard == {"other": 1}, "task wrappers keep what is theirs"


def test_infos_are_left_alone_on_request(connect):
    turns = [{"a": (1.0, False, False), "b": (1.0, True, False)}, {"a": (1.0, True, False)}]
    trace, wrapped = connect(ScriptEnv([turns], without_info=("b",)), info_keys=False)
    assert wrapped.reset()[1] == {"a": {}}
    assert wrapped.step({"a": 0, "b": 0})[4] == {"a": {"step": 1}}
    play(wrapped)
    assert [r.length for r in told(trace, "episode")] == [2]


def test_agents_without_info_get_one(connect):
    turns = [{"a": (1.0, False, False), "b": (1.0, True, False)}, {"a": (1.0, True, False)}]
    _, wrapped = connect(ScriptEnv([turns], without_info=("b",)))
    assert wrapped.reset()[1] == {"a": {"task": 0}, "b": {"task": 0}}
    assert wrapped.step({"a": 0, "b": 0})[4] == {"a": {"step": 1, "task": 0}, "b": {"task": 0}}
    assert wrapped.step({"a": 0})[4] == {"a": {"step": 2, "task": 0}}


def test_ids_and_tasks_are_there_when_they_are(connect):
    _, wrapped = connect(ProbeEnv())
    assert wrapped.env_id is None
    assert wrapped.task is None
    wrapped.reset()
    assert (wrapped.env_id, wrapped.task) == (0, 0)
    play(wrapped)
    assert wrapped.task is None
    wrapped.reset()
    assert (wrapped.env_id, wrapped.task) == (0, 1)


# --- episodes ----------------------------------------------------------------------------------------------


def test_updates_come_in_order(connect):
    trace, wrapped = connect(ProbeEnv(length=5), fields=("rewards",), batch_size=2, buffer_size=0)
    for _ in range(2):
        wrapped.reset()
        play(wrapped)
    kinds = [kind for kind, _ in trace.calls if kind != "register"]
    assert kinds == ["sample", "steps", "steps", "steps", "episode"] * 2
    assert [len(batch) for batch in told(trace, "steps")] == [2, 2, 1] * 2
    nobody = {"left": 0.0, "right": 0.0}
    assert told(trace, "episode") == [
        EpisodeResult(task, 0, {"left": 5.0, "right": -2.5}, 5, nobody) for task in range(2)
    ]


def test_a_full_last_batch_is_the_last(connect):
    trace, wrapped = connect(ProbeEnv(length=4), fields=("rewards",), batch_size=2)
    wrapped.reset()
    play(wrapped)
    assert [(len(b), b.starts_episode, b.ends_episode) for b in told(trace, "steps")] == [
        (2, True, False),
        (2, False, True),
    ]


def test_a_reset_before_the_first_step_plays_the_same_task(connect):
    trace, wrapped = connect(ProbeEnv(), buffer_size=1)
    for _ in range(3):
        wrapped.reset()
        assert wrapped.task == 0
    play(wrapped)
    wrapped.reset()
    assert wrapped.task == 1
    assert told(trace, "sample") == [0, 1, 2]
    assert not told(trace, "abort")


def test_a_reset_in_mid_episode_aborts_it(connect):
    trace, wrapped = connect(ProbeEnv(length=5), fields=("rewards",), batch_size=4)
    wrapped.reset()
    play(wrapped, 2)
    wrapped.reset()
    play(wrapped)
    wrapped.close()
    cut, aborted, first, last, result = told(trace)[:5]
    assert (cut.task, len(cut), cut.ends_episode) == (0, 2, False)
    assert aborted == EpisodeAborted(0, 0)
    assert (first.task, len(first), first.starts_episode, first.ends_episode) == (1, 4, True, False)
    assert (last.task, len(last), last.starts_episode, last.ends_episode) == (1, 1, False, True)
    assert result == EpisodeResult(1, 0, {"left": 5.0, "right": -2.5}, 5, {"left": 0.0, "right": 0.0})
    # The stock goes back: what was drawn ahead, and what was asked for together with the result.
    assert told(trace)[5:] == [EpisodeAborted(2, 0), EpisodeAborted(3, 0)]


def test_an_episode_ends_when_everybody_is_done_whoever_stays_listed(connect):
    class Listed(ScriptEnv):
        """Finished agents stay in `agents` until the next reset, and are in no dict of later steps."""

        def step(self, actions):
            self.agents = sorted(self.script[self.t])
            result = super().step(dict.fromkeys(self.agents, 0))
            self.agents = ["a", "b", "c"]
            return result

    turns = [
        {"a": (1.0, True, False), "b": (2.0, False, False), "c": (0.0, False, False)},
        {"b": (2.0, False, True), "c": (0.0, False, False)},
        {"c": (4.0, True, True)},
    ]
    trace, wrapped = connect(Listed([turns]))
    wrapped.reset()
    for t in range(3):
        assert len(told(trace, "episode")) == 0
        wrapped.step(turns[t])
    assert [(r.length, r.episode_return) for r in told(trace, "episode")] == [
        (3, {"a": 1.0, "b": 4.0, "c": 4.0})
    ]
    wrapped.reset()
    assert not told(trace, "abort")


def test_stepping_before_the_first_reset_is_named(connect):
    env = RandomWalkEnv()
    env.reset()
    _, wrapped = connect(env)
    with pytest.raises(UsageError, match=r"stepped before its first reset\. Call reset\(\) first"):
        wrapped.step(dict.fromkeys("abc", 0))


def test_steps_after_the_end_belong_to_nobody(connect):
    class Endless(ProbeEnv):
        def step(self, actions):
            self.agents = self.possible_agents[:]
            return super().step(actions)

    trace, wrapped = connect(Endless(length=2), fields=("rewards",))
    wrapped.reset()
    for _ in range(4):
        wrapped.step({"left": 0, "right": 0})
    wrapped.reset()
    assert [len(batch) for batch in told(trace, "steps")] == [2]
    assert [result.length for result in told(trace, "episode")] == [2]
    assert not told(trace, "abort")


@pytest.mark.parametrize("where", ["reset", "step"])
def test_an_env_that_raises_can_go_on(connect, where):
    trace, wrapped = connect(CrashEnv(where), fields=("rewards",))

    def use():
        wrapped.reset()
        play(wrapped)

    with pytest.raises(RuntimeError, match=f"crash in {where}"):
        use()
    use()
    assert [(result.task, result.length) for result in told(trace, "episode")] == [(0, 1)]
    assert not told(trace, "abort")


def test_closing_aborts_and_closes_the_env(connect):
    closed = []

    class Closing(ProbeEnv):
        def close(self):
            closed.append(True)

    trace, wrapped = connect(Closing(), buffer_size=0)
    wrapped.close()
    wrapped.reset()
    play(wrapped, 1)
    wrapped.close()
    assert told(trace, "abort", "unregister") == [EpisodeAborted(0, 0), 0]
    assert closed == [True, True]


# --- task completion ---------------------------------------------------------------------------------------


def test_completion_is_told_when_it_changes_after_its_steps(connect):
    trace, wrapped = connect(CompletionEnv(length=6), fields=("rewards", "progress"))
    wrapped.reset()
    play(wrapped)
    progress = [told_of.progress for told_of in told(trace, "progress")]
    assert progress == [
        {"a": 0.5, "b": 0.0, "c": 0.0},
        {"a": 1.0, "b": 0.5, "c": 0.0},
        {"a": 1.0, "b": 1.0, "c": 0.5},
        {"a": 1.0, "b": 1.0, "c": 1.0},
    ]
    assert [type(update) for update in told(trace)] == [StepBatch, TaskProgress] * 4 + [
        StepBatch,
        EpisodeResult,
    ]
    assert [len(batch) for batch in told(trace, "steps")] == [1, 1, 1, 1, 2]
    rows = np.concatenate([batch.progress for batch in told(trace, "steps")])
    assert rows.tolist() == [list(by_agent.values()) for by_agent in progress] + [[1, 1, 1]] * 2
    assert told(trace, "episode")[0].progress == {"a": 1.0, "b": 1.0, "c": 1.0}


def test_completion_begins_anew_with_each_episode(connect):
    trace, wrapped = connect(CompletionEnv(length=1))
    for _ in range(2):
        wrapped.reset()
        play(wrapped)
    assert [update.progress["a"] for update in told(trace, "progress")] == [0.5, 0.5]
    assert [result.progress["a"] for result in told(trace, "episode")] == [0.5, 0.5]


def test_a_completed_task_is_changed_on_request(connect):
    env = CompletionEnv(length=10)
    trace, wrapped = connect(
        env, fields=("rewards",), change_task_on_completion=True, batch_size=3, buffer_size=0
    )
    wrapped.reset()
    play(wrapped)
    # All are done at the fourth step after each beginning; the last two steps complete nothing.
    assert env.changes == [1, 2]
    parts = [(r.task, r.length, r.episode_return["a"], r.progress["c"]) for r in told(trace, "episode")]
    assert parts == [(0, 4, 4.0, 1.0), (1, 4, 4.0, 1.0), (2, 2, 2.0, 0.0)]
    for task in range(3):
        batches = [batch for batch in told(trace, "steps") if batch.task == task]
        assert sum(map(len, batches)) == (4, 4, 2)[task]
        assert [batch.starts_episode for batch in batches] == [True] + [False] * (len(batches) - 1)
        assert [batch.ends_episode for batch in batches] == [False] * (len(batches) - 1) + [True]
    assert not told(trace, "abort")


def test_a_task_completed_with_the_last_step_ends_once(connect):
    env = CompletionEnv(length=4)
    trace, wrapped = connect(env, change_task_on_completion=True)
    wrapped.reset()
    play(wrapped)
    assert env.changes == []
    assert [result.length for result in told(trace, "episode")] == [4]


def test_changing_tasks_wants_change_task(connect):
    with pytest.raises(UsageError, match=r"has none\. Subclass PettingZooTaskWrapper to give it one"):
        connect(ProbeEnv(), change_task_on_completion=True)


# --- making one --------------------------------------------------------------------------------------------


def test_learners_are_registered(connect):
    trace, wrapped = connect(ProbeEnv(), learners=["right"])
    wrapped.reset()
    ((_, spec),) = told(trace, "register")
    assert (spec.possible_agents, spec.learners, spec.single_agent) == (("left", "right"), ("right",), False)
    trace, wrapped = connect(ProbeEnv())
    wrapped.reset()
    assert told(trace, "register")[0][1].learners == ("left", "right")


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda c: PettingZooSyncWrapper(ProbeEnv(), c, learners=["up"]), r"learners=\['up'\] do not fit"),
        (lambda c: PettingZooSyncWrapper(ProbeEnv(), c, batch_size=0), "batch_size must be at least 1"),
        (lambda c: PettingZooSyncWrapper(ProbeEnv(), c, buffer_size=-1), "buffer_size at least 0"),
        # As another library orders them: a task space before the components.
        (lambda c: PettingZooSyncWrapper(ProbeEnv(), DiscreteTaskSpace(5), c), r"got DiscreteTaskSpace\(5\)"),
        (lambda c: PettingZooSyncWrapper(ProbeEnv(), c, DiscreteTaskSpace(5)), "whole numbers; got Discrete"),
        (
            lambda c: PettingZooSyncWrapper(ProbeEnv(), TraceCurriculum()),
            "a handle, not the TraceCurriculum itself",
        ),
        (
            lambda c: PettingZooSyncWrapper(ProbeEnv(), "local-0"),
            "needs the components of a synced curriculum",
        ),
        (lambda c: PettingZooSyncWrapper(parallel_to_aec(RandomWalkEnv()), c), "use AECSyncWrapper"),
        (lambda c: PettingZooSyncWrapper(gymnasium.make("CartPole-v1"), c), "use GymnasiumSyncWrapper"),
        (lambda c: PettingZooSyncWrapper("an env", c), "needs a PettingZoo ParallelEnv; got 'an env'"),
    ],
)
def test_misuse_is_named(make, match):
    with make_local_curriculum(TraceCurriculum()) as synced, pytest.raises(UsageError, match=match):
        make(synced.components)


def test_the_environment_is_otherwise_unchanged(connect):
    env = SeedTaskWrapper(RandomWalkEnv(), 5)
    _, wrapped = connect(env, Constant(DiscreteTaskSpace(5), 3))
    assert wrapped.possible_agents == env.possible_agents
    assert wrapped.unwrapped is env.unwrapped
    assert wrapped.observation_space("a") is env.observation_space("a")
    assert wrapped.action_space("a") is env.action_space("a")
    assert wrapped.metadata is env.metadata
    assert wrapped.render_mode is None
    assert wrapped.task_space == DiscreteTaskSpace(5)
    twin = RandomWalkEnv()
    mine, plain = wrapped.reset(), twin.reset(seed=3)
    assert all(np.array_equal(mine[0][agent], plain[0][agent]) for agent in "abc")
    while twin.agents:
        mine, plain = wrapped.step(dict.fromkeys("abc", 1)), twin.step(dict.fromkeys("abc", 1))
        assert all(np.array_equal(mine[0][agent], plain[0][agent]) for agent in "abc")
        assert mine[1:4] == plain[1:4]
        assert wrapped.agents == twin.agents


def test_it_has_the_name_that_its_users_know():
    assert MultiProcessingSyncWrapper is PettingZooSyncWrapper


def test_a_task_outside_the_environments_space_raises_there(connect):
    _, wrapped = connect(SeedTaskWrapper(RandomWalkEnv(), 5), Constant(DiscreteTaskSpace(["level"]), 0))
    with pytest.raises(TaskError, match="A seed is a whole number"):
        wrapped.reset()


def test_a_reset_that_gets_no_task_leaves_no_episode_behind():
    class Breaking(TraceCurriculum):
        broken = False

        def sample(self, k=1):
            if self.broken:
                raise ValueError("broken")
            return super().sample(k)

    trace = Breaking()
    synced = make_local_curriculum(trace)
    env = PettingZooSyncWrapper(ProbeEnv(), synced.components, buffer_size=0)
    env.reset()
    env.step(dict.fromkeys(env.agents, 0))
    trace.broken = True
    for _ in range(2):
        with pytest.raises(CurriculumError, match="broken"):
            env.reset()
        assert env.task is None
    assert len(told(trace, "abort")) == 1
    synced.close()

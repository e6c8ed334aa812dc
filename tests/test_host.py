"""The host: ids, tasks that are out, order, counters, and whose failure is whose."""

import threading

import numpy as np
import pytest

from macurr import (
    CurriculumError,
    CurriculumHost,
    DiscreteTaskSpace,
    EnvSpec,
    StateError,
    TaskError,
    TupleTaskSpace,
    UsageError,
)
from macurr.messages import EpisodeAborted, EpisodeResult, TaskProgress
from macurr.testing import TraceCurriculum, random_episode
from macurr.testing.nested import leaves, not_plain, replaced, same, through_files

SPEC = EnvSpec(("a", "b"), ("a",))
RETURNS = {"a": 1.0, "b": 0.0}


def result(task, env_id=0):
    return EpisodeResult(task, env_id, RETURNS, 3, {"a": 0.0, "b": 0.0})


@pytest.fixture
def trace():
    return TraceCurriculum(fields=frozenset({"rewards"}))


@pytest.fixture
def host(trace):
    return CurriculumHost(trace)


def test_ids_count_up_and_are_never_used_again(host, trace):
    assert [host.connect(SPEC).env_id for _ in range(3)] == [0, 1, 2]
    host.disconnect(2)
    host.disconnect(2)
    assert [host.connect(SPEC).env_id for _ in range(2)] == [3, 4]
    assert [what for kind, what in trace.calls if kind == "register"] == [(n, SPEC) for n in range(5)]


def test_an_env_learns_what_to_send(trace):
    limited = CurriculumHost(trace, max_envs=1)
    assert [limited.connect(SPEC).step_fields for _ in range(2)] == [{"rewards"}, frozenset()]
    assert CurriculumHost(TraceCurriculum(), max_envs=0).connect(SPEC).step_fields == frozenset()


def test_tasks_come_encoded_and_decoded():
    host = CurriculumHost(TraceCurriculum(DiscreteTaskSpace(["easy", "hard"])))
    env_id = host.connect(SPEC).env_id
    drawn = host.draw(env_id, 3, start=True)
    assert [(task.encoded, task.decoded) for task in drawn] == [(0, "easy"), (1, "hard"), (0, "easy")]


def test_what_the_curriculum_says_of_a_draw_goes_with_its_task():
    class Saying(TraceCurriculum):
        def task_info(self, task):
            return {"trains": float(self.drawn % 2), "number": float(task)}

    host = CurriculumHost(Saying())
    drawn = host.draw(host.connect(SPEC).env_id, 3, start=True)
    assert [task.info for task in drawn] == [{"trains": (n + 1) % 2, "number": n} for n in range(3)]


def test_tasks_that_are_out_are_counted(host):
    one, two = host.connect(SPEC).env_id, host.connect(SPEC).env_id
    host.draw(one, 1, start=True)
    host.draw(one, 2, start=False)
    host.draw(two, 1, start=False)
    assert host.metrics()["tasks_outstanding"] == 4
    host.apply(result(0, one))
    assert host.metrics()["tasks_outstanding"] == 3
    host.start(one, 0.5)
    assert host.metrics()["tasks_outstanding"] == 3
    host.disconnect(one)
    assert host.metrics()["tasks_outstanding"] == 1
    assert host.metrics()["envs"] == 1


def test_disconnecting_gives_back_the_played_task_first(host, trace):
    env_id = host.connect(SPEC).env_id
    host.draw(env_id, 1, start=True)
    host.draw(env_id, 2, start=False)
    host.disconnect(env_id)
    assert trace.calls[-4:] == [
        *[("abort", EpisodeAborted(task, env_id)) for task in (0, 1, 2)],
        ("unregister", env_id),
    ]
    assert host.metrics()["aborted_episodes"] == 1


def test_counters_count(host):
    env_id = host.connect(SPEC).env_id
    host.draw(env_id, 2, start=True)
    updates = random_episode(0, env_id, SPEC, np.random.default_rng(0), frozenset({"rewards"}), (2,), 5)
    for update in updates:
        host.apply(update)
    host.start(env_id, 0.25)
    host.apply(EpisodeAborted(1, env_id))
    host.draw(env_id, 1, start=True)
    metrics = host.metrics()
    assert metrics["updates_applied"] == 5  # two batches, progress, a result, an abortion
    assert metrics["steps_applied"] == 5
    assert metrics["episodes"] == metrics["aborted_episodes"] == 1
    assert metrics["tasks_drawn"] == 3
    # Begun after 0, 4 and 0 further updates; waited for 0, 0.25 and 0 seconds.
    assert metrics["lag_mean"] == pytest.approx(4 / 3)
    assert metrics["lag_max"] == 4
    assert metrics["reset_wait_mean"] == pytest.approx(0.25 / 3)
    assert metrics["reset_wait_max"] == 0.25
    assert {type(value) for value in metrics.values()} == {float}


def test_every_message_reaches_its_method(host, trace):
    env_id = host.connect(SPEC).env_id
    host.draw(env_id, 1, start=True)
    messages = [
        *random_episode(0, env_id, SPEC, np.random.default_rng(0), frozenset({"rewards"})),
        TaskProgress(0, env_id, {"a": 1.0, "b": 0.5}),
        EpisodeAborted(0, env_id),
    ]
    for message in messages:
        host.apply(message)
    heard = [what for kind, what in trace.calls if kind in {"steps", "progress", "episode", "abort"}]
    assert heard[0] is messages[0]
    assert heard[1:] == messages[1:]


@pytest.mark.parametrize("use", ["apply", "draw", "start"])
def test_strangers_are_refused(host, use):
    calls = {
        "apply": lambda: host.apply(result(0, 7)),
        "draw": lambda: host.draw(7, 1, start=True),
        "start": lambda: host.start(7),
    }
    with pytest.raises(UsageError, match=r"Environment 7 is not connected \(connected: \[\]\)"):
        calls[use]()
    assert host.failure is None
    host.disconnect(7)


@pytest.mark.parametrize("call", ["sample", "episode", "abort", "unregister", "register"])
def test_what_a_curriculum_raises_ends_the_service(host, trace, call):
    env_id = host.connect(SPEC).env_id
    host.draw(env_id, 1, start=True)
    trace.fail_on = call
    with pytest.raises(
        CurriculumError, match=f"TraceCurriculum failed .* ValueError: boom in {call}"
    ) as caught:
        {
            "sample": lambda: host.draw(env_id, 1, start=False),
            "episode": lambda: host.apply(result(0)),
            "abort": lambda: host.disconnect(env_id),
            "unregister": lambda: host.disconnect(env_id),
            "register": lambda: host.connect(SPEC),
        }[call]()
    assert isinstance(caught.value.__cause__, ValueError)
    for later in (
        lambda: host.connect(SPEC),
        lambda: host.draw(env_id, 1, start=False),
        lambda: host.disconnect(env_id),
        host.state_dict,
        host.check,
    ):
        with pytest.raises(CurriculumError, match="boom"):
            later()


def test_the_first_failure_is_the_one_that_is_told(host):
    host.fail(ValueError("first"))
    host.fail(ValueError("second"))
    with pytest.raises(CurriculumError, match="first"):
        host.check()


def test_a_result_that_no_environment_can_mean_ends_the_service(host):
    env_id = host.connect(SPEC).env_id
    host.draw(env_id, 1, start=True)
    with pytest.raises(CurriculumError, match="not finite") as caught:
        host.apply(EpisodeResult(0, env_id, {"a": float("nan")}, 3, {}))
    assert isinstance(caught.value.__cause__, TaskError)


def test_the_learners_mistakes_end_nothing(host):
    with pytest.raises(TaskError), host.locked() as curriculum:
        curriculum.update_on_episode(float("nan"), 1, 0, 0)
    assert host.failure is None
    host.connect(SPEC)


def test_a_refused_env_is_not_connected(trace):
    trace.single_agent = True
    host = CurriculumHost(trace)
    with pytest.raises(UsageError, match="MultiagentSharedCurriculumWrapper"):
        host.connect(SPEC)
    assert host.failure is None
    assert host.metrics()["envs"] == 0
    assert host.connect(EnvSpec(("a",), ("a",), single_agent=True)).env_id == 0


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: CurriculumHost("a curriculum"), "serves a macurr.Curriculum; got 'a curriculum'"),
        (lambda: CurriculumHost(TraceCurriculum(), max_envs=-1), "max_envs must be 0 or more"),
    ],
)
def test_misuse_is_named(make, match):
    with pytest.raises(UsageError, match=match):
        make()


def test_calls_of_many_threads_are_served_one_at_a_time():
    class Touchy(TraceCurriculum):
        inside = 0

        def update_task_progress(self, task, progress, env_id=None):
            self.inside += 1
            if self.inside != 1:
                raise RuntimeError("two at once")
            threading.Event().wait(0.0005)
            self.inside -= 1

    host = CurriculumHost(Touchy())
    ids = [host.connect(SPEC).env_id for _ in range(4)]

    def tell(env_id):
        for _ in range(10):
            host.apply(TaskProgress(0, env_id, {}))

    threads = [threading.Thread(target=tell, args=(env_id,)) for env_id in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert host.failure is None
    assert host.metrics()["updates_applied"] == 40


# --- state -------------------------------------------------------------------------------------------------


def parts(n=9):
    space = TupleTaskSpace([DiscreteTaskSpace(n), DiscreteTaskSpace(2)], names=["agent", "env"])
    return TraceCurriculum(space)


def saved():
    host = CurriculumHost(parts())
    one, two = host.connect(SPEC).env_id, host.connect(SPEC).env_id
    host.draw(one, 2, start=True)
    host.draw(two, 2, start=True)
    host.apply(result((0, 0), one))
    return host.state_dict()


def test_a_state_is_plain_and_names_the_tasks_that_are_out():
    state = saved()
    assert not list(not_plain(state))
    assert state["outstanding"] == [[0, 1], [1, 0], [1, 1]]
    assert state["counters"]["episodes"] == 1


def test_tasks_that_were_out_come_first_after_a_load():
    host = CurriculumHost(parts())
    host.load_state_dict(through_files(saved()))
    assert host.state_dict()["outstanding"] == [[0, 1], [1, 0], [1, 1]]
    env_id = host.connect(SPEC).env_id
    assert host.draw(env_id, 2, start=True)[0].encoded.env == 1
    assert [task.encoded for task in host.draw(env_id, 3, start=False)] == [(1, 1), (2, 0), (2, 1)]
    assert host.metrics()["episodes"] == 1
    assert host.metrics()["tasks_drawn"] == 9


def test_a_state_of_connected_envs_is_not_overwritten():
    host = CurriculumHost(parts())
    host.connect(SPEC)
    before = host.state_dict()
    with pytest.raises(UsageError, match="1 environments are connected; load a state before"):
        host.load_state_dict(saved())
    assert same(host.state_dict(), before)


def test_a_damaged_state_changes_nothing():
    host = CurriculumHost(parts(5))
    before, state = host.state_dict(), saved()
    damaged = [
        replaced(state, path, 3 if isinstance(value, str) else "damaged")
        for path, value in leaves(state)
        if path[:2]
        not in {("curriculum", "drawn"), ("curriculum", "calls")}  # the trace does not check these
    ]
    damaged += [
        None,
        {},
        {**state, "type": "else"},
        {**state, "outstanding": 3},
        {**state, "outstanding": [[8, 1]]},
    ]
    damaged += [{key: value for key, value in state.items() if key != lost} for lost in state]
    for wrong in damaged:
        with pytest.raises(StateError):
            host.load_state_dict(wrong)
        assert same(host.state_dict(), before)

"""Environments of one process that share a socket: each for itself, and none held up by another."""

import copy
import os
import pickle
import signal
import threading

import pytest

from macurr import CurriculumLost, UsageError, make_local_curriculum, make_multiprocessing_curriculum
from macurr.messages import EnvSpec, EpisodeAborted, EpisodeResult, TaskProgress
from macurr.testing import ProbeEnv, TraceCurriculum
from macurr.transports import SharedComponents, shared
from macurr.transports.wire import CHUNK
from macurr.wrappers import PettingZooSyncWrapper
from tests.support.processes import FORK, child, in_child
from tests.transports.test_process import until

pytestmark = pytest.mark.timeout(60)

SPEC = EnvSpec(("left", "right"), ("left", "right"))


@pytest.fixture
def served():
    with make_multiprocessing_curriculum(TraceCurriculum(), timeout=20) as synced:
        yield synced


def result(task, link):
    return EpisodeResult(task, link.env_id, dict.fromkeys(SPEC.possible_agents, 1.0), 3, {})


def sockets(synced):
    return len(synced._server._peers)


def test_each_has_its_own_tasks_and_order_on_one_socket(served):
    handle = shared(served.components)
    envs = [PettingZooSyncWrapper(ProbeEnv(length=n + 1), handle) for n in range(5)]
    played = {}
    for env in envs:
        env.reset()
        played[env.env_id] = []
    assert sockets(served) == 1
    assert sorted(played) == list(range(5))
    for _ in range(40):
        for env in envs:
            if not env.agents:
                env.reset()
            task = env.task
            env.step(dict.fromkeys(env.agents, 0))
            if not env.agents:
                played[env.env_id].append(task)
    for env in envs:
        env.close()
    until(lambda: served.metrics()["sync/envs"] == 0)
    ended = TraceCurriculum.heard(served, "episode")
    assert {i: [end.task for end in ended if end.env_id == i] for i in played} == played
    assert [len(played[i]) for i in range(5)] == [40, 20, 13, 10, 8]
    until(lambda: sockets(served) == 0)


def test_who_leaves_gives_its_tasks_back_behind_its_updates(served):
    handle = shared(served.components)
    leaver, stayer = (handle.connect(SPEC) for _ in range(2))
    for link in (leaver, stayer):
        link.request(2, start=True)
    first = leaver.task()
    with served.host.locked():  # nothing is applied in here
        leaver.send(result(first.encoded, leaver))
        leaver.close()
        leaver.close()
    until(lambda: served.metrics()["sync/envs"] == 1)
    assert [end.task for end in TraceCurriculum.heard(served, "episode")] == [first.encoded]
    aborted = TraceCurriculum.heard(served, "abort")
    assert [(abort.env_id, abort.task != first.encoded) for abort in aborted] == [(leaver.env_id, True)]
    assert TraceCurriculum.heard(served, "unregister") == [leaver.env_id]
    stayer.task()
    stayer.send(TaskProgress(0, stayer.env_id, {"left": 0.5}))
    until(lambda: TraceCurriculum.heard(served, "progress"))
    assert sockets(served) == 1
    another = handle.connect(SPEC)
    assert sockets(served) == 1
    stayer.close()
    another.close()
    until(lambda: sockets(served) == 0)


def test_after_the_last_has_left_a_new_one_makes_a_new_socket(served):
    handle = shared(served.components)
    handle.connect(SPEC).close()
    until(lambda: sockets(served) == 0)
    link = handle.connect(SPEC)
    link.request(1, start=True)
    assert link.task().encoded == 0
    link.close()


def test_leaving_waits_for_nobody_and_comes_before_what_is_sent_next(served):
    handle = shared(served.components)
    leaver, stayer = (handle.connect(SPEC) for _ in range(2))
    sock = leaver._channel._sock
    real, full = sock.send, threading.Event()

    class Full:
        def send(self, data):
            if full.is_set():
                raise BlockingIOError
            return real(data)

        def __getattr__(self, name):
            return getattr(sock, name)

    leaver._channel._sock = Full()
    full.set()
    leaver.close()  # does not fit
    assert served.metrics()["sync/envs"] == 2
    full.clear()
    stayer.send(TaskProgress(0, stayer.env_id, {"left": 0.5}))
    until(lambda: TraceCurriculum.heard(served, "progress"))
    assert TraceCurriculum.heard(served, "unregister") == [leaver.env_id]
    leaver._channel._sock = sock
    stayer.close()


def test_a_task_for_one_that_has_left_is_dropped(served):
    handle = shared(served.components)
    leaver, stayer = (handle.connect(SPEC) for _ in range(2))
    leaver.request(3, start=False)
    leaver.close()
    stayer.request(1, start=True)
    stayer.task()
    assert not leaver.tasks
    until(lambda: served.metrics()["sync/tasks_outstanding"] == 1)
    stayer.close()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda handle: pickle.loads(pickle.dumps(handle))])
def test_a_copy_makes_a_socket_of_its_own(served, copied):
    handle = shared(served.components)
    link = handle.connect(SPEC)
    other = copied(handle)
    assert isinstance(other, SharedComponents)
    stranger = other.connect(SPEC)
    another = handle.shared().connect(SPEC)
    assert sockets(served) == 3
    for one in (link, stranger, another):
        one.close()


def play_one(env):
    env.reset()
    while env.agents:
        env.step(dict.fromkeys(env.agents, 0))
    own = env.env_id
    env.close()
    return own


@FORK
def test_a_forked_process_lets_go_of_the_socket_and_makes_its_own(served):
    handle = shared(served.components)
    envs = [PettingZooSyncWrapper(ProbeEnv(), handle) for _ in range(2)]
    for env in envs:
        env.reset()
    assert in_child(play_one, envs[0]) == ("returned", 2)
    until(lambda: served.metrics()["sync/envs"] == 2)
    assert sorted(play_one(env) for env in envs) == [0, 1]


def wait_shared(components, ready):
    handle = shared(components)
    links = [handle.connect(SPEC) for _ in range(3)]
    for link in links:
        link.request(1, start=True)
        link.task()
    ready.set()
    threading.Event().wait()


@FORK
def test_a_killed_process_takes_all_of_its_environments_and_no_other(served):
    import multiprocessing

    bystander = shared(served.components).connect(SPEC)
    ready = multiprocessing.get_context("fork").Event()
    with child(wait_shared, served.components, ready) as (process, _):
        assert ready.wait(20)
        os.kill(process.pid, signal.SIGKILL)
        until(lambda: served.metrics()["sync/envs"] == 1)
    assert sorted(abort.env_id for abort in TraceCurriculum.heard(served, "abort")) == [1, 2, 3]
    assert all(isinstance(abort, EpisodeAborted) for abort in TraceCurriculum.heard(served, "abort"))
    bystander.request(1, start=True)
    bystander.task()
    bystander.close()


def test_a_refusal_ends_the_socket_for_all(served):
    handle = shared(served.components)
    link = handle.connect(SPEC)

    def refuse(env_id, spec):
        raise UsageError("Not such an environment.")

    served.host._curriculum.register_env = refuse
    with pytest.raises(UsageError, match="Not such an environment"):
        handle.connect(SPEC)
    with pytest.raises(CurriculumLost):
        link.request(1, start=True)
    link.close()


def test_many_answers_arrive_whole_and_in_order(served):
    handle = shared(served.components)
    links = [handle.connect(SPEC) for _ in range(4)]
    with served.host.locked():
        for _ in range(3):
            for link in links:
                link.request(500, start=False)
    numbers = [[link.task().encoded for _ in range(1500)] for link in links]
    assert all(own == sorted(own) for own in numbers)
    assert sorted(number for own in numbers for number in own) == list(range(6000))
    assert len(pickle.dumps(numbers)) * 4 > CHUNK // 4
    for link in links:
        link.close()


def test_nobody_takes_another_environments_place(served):
    ours, theirs = shared(served.components).connect(SPEC), shared(served.components).connect(SPEC)
    ours.env_id = theirs.env_id
    ours.request(1, start=True)
    with pytest.raises(Exception, match=r"is of the environments \[0\], not of 1"):
        ours._channel.read_until(lambda: False, UsageError, "the refusal")
    theirs.request(1, start=True)
    theirs.task()
    theirs.close()


def test_where_nothing_is_saved_the_handle_is_the_same():
    with make_local_curriculum(TraceCurriculum()) as synced:
        assert shared(synced.components) is synced.components
    assert shared(None) is None

"""The process transport: every start method, every option, and nothing left behind."""

import gc
import multiprocessing
import os
import socket
import threading
import time
from types import SimpleNamespace

import pytest

from macurr import (
    BacklogError,
    DiscreteTaskSpace,
    TaskTimeoutError,
    TransportError,
    make_multiprocessing_curriculum,
)
from macurr.errors import UsageError
from macurr.messages import EnvSpec, EpisodeResult, TaskProgress
from macurr.testing import ProbeEnv, TraceCurriculum, TransportTests
from macurr.testing.probes import play
from macurr.transports import server
from macurr.wrappers import PettingZooSyncWrapper
from tests.support.processes import FORK, METHODS, in_child

SPEC = EnvSpec(("left", "right"), ("left", "right"))
SLOW = 0.15


class _Slow(TraceCurriculum):
    """Takes its time over every progress report."""

    def update_task_progress(self, task, progress, env_id=None):
        time.sleep(SLOW)
        super().update_task_progress(task, progress, env_id)


class _Gated(TraceCurriculum):
    """Takes a progress report only when a permit is given."""

    def __init__(self):
        super().__init__()
        self.permits = threading.Semaphore(0)
        self.entered = 0

    def update_task_progress(self, task, progress, env_id=None):
        self.entered += 1
        assert self.permits.acquire(timeout=20)
        super().update_task_progress(task, progress, env_id)


def until(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@FORK
@pytest.mark.timeout(60)
class TestProcess(TransportTests):
    def make(self, curriculum, **options):
        return make_multiprocessing_curriculum(curriculum, timeout=30, **options)

    def run_apart(self, function, arguments):
        with multiprocessing.get_context("fork").Pool(len(arguments)) as pool:
            results = pool.starmap(function, arguments, chunksize=1)
            pool.close()
            pool.join()
        return results


@pytest.mark.timeout(60)
@pytest.mark.parametrize("method", METHODS)
def test_every_start_method(method):
    with make_multiprocessing_curriculum(TraceCurriculum(fields=frozenset({"rewards"}))) as synced:
        what, played = in_child(play, synced.components, 4, method=method)
        assert what == "returned", played
        until(lambda: synced.metrics()["sync/envs"] == 0)
        assert [r.task for r in TraceCurriculum.heard(synced, "episode")] == [task for _, task in played]


@FORK
@pytest.mark.timeout(60)
def test_a_forked_copy_of_a_running_env_becomes_its_own():
    with make_multiprocessing_curriculum(TraceCurriculum()) as synced:
        env = PettingZooSyncWrapper(ProbeEnv(), synced.components, buffer_size=0)
        env.reset()
        env.step(dict.fromkeys(env.agents, 0))

        def in_the_child():
            env.reset()
            while env.agents:
                env.step(dict.fromkeys(env.agents, 0))
            env.close()
            return env.env_id, env.task

        assert in_child(in_the_child) == ("returned", (None, None))
        while env.agents:
            env.step(dict.fromkeys(env.agents, 0))
        env.reset()
        until(lambda: synced.metrics()["sync/envs"] == 1)
        results = [(r.env_id, r.task, r.length) for r in TraceCurriculum.heard(synced, "episode")]
        assert results == [(1, 1, 3), (0, 0, 3)]
        assert not TraceCurriculum.heard(synced, "abort")


@FORK
@pytest.mark.timeout(60)
def test_a_forked_copy_cannot_go_on_with_its_parents_episode():
    with make_multiprocessing_curriculum(TraceCurriculum()) as synced:
        env = PettingZooSyncWrapper(ProbeEnv(length=1), synced.components, buffer_size=0)
        env.reset()
        kind, message = in_child(env.step, {"left": 0, "right": 0})
        assert kind == "UsageError"
        assert "Call reset() first" in message
        env.step({"left": 0, "right": 0})
        env.reset()
        assert len(TraceCurriculum.heard(synced, "episode")) == 1


@FORK
@pytest.mark.timeout(60)
def test_an_env_disconnects_although_a_child_holds_a_copy_of_its_socket():
    with make_multiprocessing_curriculum(TraceCurriculum()) as synced:
        env = PettingZooSyncWrapper(ProbeEnv(), synced.components)
        env.reset()
        process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
        process.start()
        env.close()
        until(lambda: synced.metrics()["sync/envs"] == 0)
        process.kill()
        process.join()


@pytest.mark.timeout(60)
def test_envs_that_connect_before_the_start_wait_for_it():
    synced = make_multiprocessing_curriculum(TraceCurriculum(), start=False, timeout=30)
    played = []
    thread = threading.Thread(target=lambda: played.extend(play(synced.components, 2)))
    thread.start()
    time.sleep(0.05)
    assert not played
    synced.start()
    synced.start()
    thread.join(20)
    assert [task for _, task in played] == [0, 1]
    synced.close()


@pytest.mark.timeout(60)
def test_a_curriculum_that_was_never_started_closes():
    synced = make_multiprocessing_curriculum(TraceCurriculum(), start=False)
    synced.close()
    synced.close()


@pytest.mark.timeout(60)
def test_a_slow_curriculum_stops_an_env_that_tells_too_much():
    curriculum = _Gated()
    synced = make_multiprocessing_curriculum(curriculum, maxsize=16, timeout=30)
    link = synced.components.connect(SPEC)
    for i in range(16):
        link.send(TaskProgress(i, link.env_id, {"left": 0.5}))
    curriculum.permits.release(7)  # updates are acknowledged by eights
    link._channel._timeout = 0.2
    with pytest.raises(BacklogError, match="raise timeout or maxsize"):
        link.send(TaskProgress(16, link.env_id, {"left": 0.5}))
    assert synced._server.queued <= 16
    curriculum.permits.release(9)
    until(lambda: synced.metrics()["sync/updates_applied"] == 16)
    synced.close()
    assert [p.task for p in TraceCurriculum.heard(synced, "progress")] == list(range(16))


@pytest.mark.timeout(60)
def test_a_window_that_is_full_opens_again():
    with make_multiprocessing_curriculum(_Slow(), maxsize=1, timeout=30) as synced:
        link = synced.components.connect(SPEC)
        for i in range(3):
            link.send(TaskProgress(i, link.env_id, {"left": 0.5}))
            assert len(TraceCurriculum.heard(synced, "progress")) >= i
    assert [p.task for p in TraceCurriculum.heard(synced, "progress")] == [0, 1, 2]


@pytest.mark.timeout(60)
def test_tasks_do_not_queue_behind_updates():
    curriculum = _Gated()
    with make_multiprocessing_curriculum(curriculum, timeout=30) as synced:
        busy, other = synced.components.connect(SPEC), synced.components.connect(SPEC)
        for i in range(5):
            busy.send(TaskProgress(i, busy.env_id, {"left": 0.5}))
        until(lambda: curriculum.entered)
        other.request(1, start=False)
        time.sleep(2 * server.LOOK_SECONDS)  # so that the server's next look is due
        curriculum.permits.release(2)  # at the third, everything would stop
        other._channel._timeout = 10
        other.task()
        assert len([kind for kind, _ in curriculum.calls if kind == "progress"]) <= 2
        curriculum.permits.release(3)


@pytest.mark.timeout(60)
def test_a_reset_that_times_out_can_be_tried_again():
    awake = threading.Event()

    class Sleepy(TraceCurriculum):
        def _sample(self, k):
            assert self.drawn == 0 or awake.wait(20)
            return super()._sample(k)

    synced = make_multiprocessing_curriculum(Sleepy(), timeout=30)
    env = PettingZooSyncWrapper(ProbeEnv(length=1), synced.components, buffer_size=0)
    env.reset()
    env.step({"left": 0, "right": 0})
    channel = env._client._link._channel
    channel._timeout = 0.02
    with pytest.raises(TaskTimeoutError, match="a task"):
        env.reset()
    channel._timeout = 20
    awake.set()
    env.reset()
    assert env.task == 1
    env.step({"left": 0, "right": 0})
    env.reset()
    assert env.task == 2
    assert [r.task for r in TraceCurriculum.heard(synced, "episode")] == [0, 1]
    assert TraceCurriculum.heard(synced, "sample") == [0, 1, 2]
    env.close()
    synced.close()


@pytest.mark.timeout(60)
def test_infos_that_cannot_be_sent_are_named_with_the_cure():
    fields = frozenset({"infos"})
    with make_multiprocessing_curriculum(TraceCurriculum(fields=fields)) as synced:
        secret = threading.Lock()
        env = PettingZooSyncWrapper(ProbeEnv(length=1, info=secret), synced.components)
        env.reset()
        with pytest.raises(
            TransportError, match=r"infos\['left'\]\['extra'\], a lock, at step 0.*remove_keys"
        ):
            env.step({"left": 0, "right": 0})
        env.close()
        env = PettingZooSyncWrapper(ProbeEnv(length=1, info=secret), synced.components, remove_keys=["extra"])
        env.reset()
        assert env.step({"left": 0, "right": 0})[4]["left"]["extra"] is secret
        env.close()
        until(lambda: synced.metrics()["sync/envs"] == 0)
        (batch,) = TraceCurriculum.heard(synced, "steps")
        assert all("extra" not in info for infos in batch.infos for info in infos.values())


@pytest.mark.parametrize("options", [{"timeout": 0}, {"timeout": -1}, {"maxsize": 0}, {"max_envs": -1}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(UsageError, match="must be"):
        make_multiprocessing_curriculum(TraceCurriculum(), **options)


@pytest.mark.timeout(60)
@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="descriptors are counted in /proc")
def test_nothing_is_left_open():
    def use():
        synced = make_multiprocessing_curriculum(TraceCurriculum())
        envs = [PettingZooSyncWrapper(ProbeEnv(), synced.components) for _ in range(5)]
        for env in envs:
            env.reset()
        envs[0].close()
        stranger = socket.socket(socket.AF_UNIX)
        stranger.connect(synced.components.address.place)
        stranger.close()
        synced.close()
        for env in envs[1:]:
            env.close()
        return [thread for thread in threading.enumerate() if thread.name.startswith("macurr")]

    use()
    gc.collect()
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(3):
        use()
    gc.collect()
    until(lambda: not [t for t in threading.enumerate() if t.name.startswith("macurr")])
    assert sorted(os.listdir("/proc/self/fd")) == before


@pytest.mark.timeout(60)
@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="descriptors are counted in /proc")
def test_a_curriculum_that_is_dropped_unclosed_leaves_nothing_open():
    before = len(os.listdir("/proc/self/fd"))
    synced = make_multiprocessing_curriculum(TraceCurriculum())
    env = PettingZooSyncWrapper(ProbeEnv(), synced.components)
    env.reset()
    del synced, env
    gc.collect()
    until(lambda: len(os.listdir("/proc/self/fd")) <= before)


def test_a_curriculum_is_wanted():
    with pytest.raises(UsageError, match=r"serves a macurr\.Curriculum"):
        make_multiprocessing_curriculum(DiscreteTaskSpace(3))


# --- naps ----------------------------------------------------------------------------------------------------


class _Naps:
    """A server's clock whose naps are counted, and last until they are let go."""

    def __init__(self, monkeypatch):
        self.taken, self.over = 0, threading.Event()
        clock = SimpleNamespace(monotonic=time.monotonic, sleep=self._sleep)
        monkeypatch.setattr(server, "time", clock)
        monkeypatch.setattr(server, "AWAKE_SECONDS", 3600.0)

    def _sleep(self, seconds):
        self.taken += 1
        assert self.over.wait(20)


@pytest.fixture
def naps(monkeypatch):
    counted = _Naps(monkeypatch)
    yield counted
    counted.over.set()


def _stocked(synced):
    """An environment that plays one task and has the next one."""
    link = synced.components.connect(SPEC)
    link.request(1, start=True)
    task = link.task()
    link.request(1, start=False)
    until(lambda: synced.metrics()["sync/tasks_drawn"] == 2)
    return link, task


def _result(link, task):
    return EpisodeResult(task.encoded, link.env_id, dict.fromkeys(SPEC.possible_agents, 1.0), 3, {})


def _allow_naps(synced):
    synced._server._awake_until = 0.0


@pytest.mark.timeout(60)
def test_results_gather_while_everybody_has_a_task(naps):
    with make_multiprocessing_curriculum(TraceCurriculum(), timeout=10) as synced:
        link, first = _stocked(synced)
        _allow_naps(synced)
        link.send_all([_result(link, first)], 1)
        until(lambda: naps.taken == 1)
        second = link.task()
        link.started(0.0)
        link.send_all([_result(link, second)], 1)
        applied = synced.metrics()["sync/episodes"]
        naps.over.set()
        until(lambda: synced.metrics()["sync/episodes"] == 2)
        assert applied == 1
        link.close()


def _asks_for_a_task(link, task):
    link.request(1, start=True)


def _waited_for_its_stock(link, task):
    link.task()
    link._waited = True  # as if the task had not been there
    link.started(0.5)
    link.send_all([_result(link, task)], 1)


def _wants_no_task_yet(link, task):
    link.send(_result(link, task))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("event", [_asks_for_a_task, _waited_for_its_stock, _wants_no_task_yet])
def test_nobody_waits_for_a_nap_twice(naps, event):
    with make_multiprocessing_curriculum(TraceCurriculum(), timeout=10) as synced:
        link, task = _stocked(synced)
        before = synced.metrics()["sync/updates_applied"] + synced.metrics()["sync/tasks_drawn"]
        _allow_naps(synced)
        event(link, task)
        until(
            lambda: synced.metrics()["sync/updates_applied"] + synced.metrics()["sync/tasks_drawn"] > before
        )
        link.request(2, start=False)
        until(lambda: synced.metrics()["sync/tasks_drawn"] >= 4)
        assert naps.taken == 0
        link.close()


@pytest.mark.timeout(60)
def test_what_was_sent_during_a_nap_is_applied_at_the_end(naps):
    with make_multiprocessing_curriculum(TraceCurriculum(), timeout=10) as synced:
        link, first = _stocked(synced)
        _allow_naps(synced)
        link.send_all([_result(link, first)], 1)
        until(lambda: naps.taken == 1)
        second = link.task()
        link.send_all([_result(link, second)], 1)
        threading.Timer(0.05, naps.over.set).start()
    assert synced.metrics()["sync/episodes"] == 2
    link.close()

"""What happens to everybody else when a worker, a stranger or the curriculum itself goes wrong."""

import contextlib
import logging
import multiprocessing
import os
import pickle
import signal
import socket
import threading
import time

import numpy as np
import pytest

from macurr import (
    BacklogError,
    CurriculumError,
    CurriculumLost,
    DiscreteTaskSpace,
    TransportError,
    UsageError,
    make_multiprocessing_curriculum,
)
from macurr.curricula import DomainRandomization
from macurr.messages import EnvSpec, EpisodeAborted, EpisodeResult, TaskProgress
from macurr.testing import ProbeEnv, TraceCurriculum, random_episode
from macurr.transports import connections
from macurr.transports.process import ProcessComponents
from macurr.transports.wire import CHALLENGE, DIGEST, Address, pack, proof
from macurr.wrappers import PettingZooSyncWrapper
from tests.support.processes import FORK, child, in_child

SPEC = EnvSpec(("left", "right"), ("left", "right"))
STEPS = frozenset({"rewards", "observations"})
AT_ONCE = 15.0  # half of the links' timeout: a busy machine is not a failure
"""Seconds: milliseconds as a rule, on a busy machine more, and far less than any timeout of the link."""


@pytest.fixture
def served():
    """A served trace, open to environments of this and other processes."""
    with make_multiprocessing_curriculum(TraceCurriculum(fields=STEPS), timeout=30) as synced:
        yield synced


def until(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def serves(synced):
    """Whether an environment still gets a task, an update is applied, and nothing takes long."""
    link = synced.components.connect(SPEC)
    before = len(TraceCurriculum.heard(synced, "episode"))
    begun = time.monotonic()
    link.send(EpisodeResult(0, link.env_id, {"left": 0.0, "right": 0.0}, 1, {}))
    link.request(1, start=True)
    link.task()
    link.close()
    assert time.monotonic() - begun < AT_ONCE
    return len(TraceCurriculum.heard(synced, "episode")) == before + 1


# --- killed workers ----------------------------------------------------------------------------------------


def send_for_ever(components, ready):
    """Announce each update after it has been handed over whole."""
    link = components.connect(SPEC)
    rng = np.random.default_rng(0)
    batch = random_episode(0, link.env_id, SPEC, rng, STEPS, length=50)[0]
    with ready:
        while True:
            link.send(batch)
            ready.send(link.env_id)


def wait_in_reset(components, ready):
    env = PettingZooSyncWrapper(ProbeEnv(), components, buffer_size=0)
    env.reset()
    env.step(dict.fromkeys(env.agents, 0))
    ready.send(env.env_id)
    ready.close()
    env.reset()


def start(target, *args):
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=target, args=(*args, theirs))
    process.start()
    theirs.close()
    return process, ours


@FORK
@pytest.mark.timeout(60)
def test_a_worker_killed_while_it_waits_for_its_task_harms_nobody(served):
    process, pipe = start(wait_in_reset, served.components)
    env_id = pipe.recv()
    with served.host.locked():  # nobody is served in here, so that the worker has to wait
        time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    until(lambda: served.metrics()["sync/envs"] == 0)
    aborted = TraceCurriculum.heard(served, "abort")
    assert [abort.env_id for abort in aborted][:1] == [env_id]
    assert served.metrics()["sync/tasks_outstanding"] == 0
    assert serves(served)


@FORK
@pytest.mark.timeout(90)
def test_workers_killed_while_they_send_lose_only_what_nobody_acknowledged(served):
    bystander = served.components.connect(SPEC)
    rng = np.random.default_rng(0)
    told = {}
    for _ in range(12):
        process, pipe = start(send_for_ever, served.components)
        env_id = pipe.recv()
        told[env_id] = 1
        deadline = time.monotonic() + rng.uniform(0, 0.02)
        while time.monotonic() < deadline:
            while pipe.poll():
                pipe.recv()
                told[env_id] += 1
        os.kill(process.pid, signal.SIGKILL)
        with contextlib.suppress(EOFError):
            while True:
                pipe.recv()
                told[env_id] += 1
        process.join()
        bystander.request(1, start=True)
        bystander.task()
    until(lambda: served.metrics()["sync/envs"] == 1)
    arrived = dict.fromkeys(told, 0)
    for batch in TraceCurriculum.heard(served, "steps"):
        arrived[batch.env_id] += 1
        assert len(batch) == 50
    assert all(0 <= arrived[env_id] - told[env_id] <= 1 for env_id in told)
    assert sorted(TraceCurriculum.heard(served, "unregister")) == sorted(told)
    assert serves(served)


@pytest.mark.timeout(60)
def test_a_frame_that_breaks_off_is_counted_and_dropped(served):
    link = served.components.connect(SPEC)
    link.send(EpisodeResult(7, link.env_id, {"left": 1.0, "right": 0.0}, 3, {}))
    whole = pack("update", EpisodeResult(8, link.env_id, {"left": 1.0, "right": 0.0}, 3, {}))
    link._channel._sock.sendall(whole[:-1])
    link.close()
    until(lambda: served.metrics()["sync/envs"] == 0)
    assert [result.task for result in TraceCurriculum.heard(served, "episode")] == [7]
    assert served.metrics()["sync/lost_frames"] == 1
    assert serves(served)


def play_for_ever(components, ready):
    env = PettingZooSyncWrapper(ProbeEnv(), components)
    while True:
        env.reset()
        ready.send(env.env_id)
        while env.agents:
            env.step(dict.fromkeys(env.agents, 0))


@FORK
@pytest.mark.timeout(90)
def test_many_kills_at_random_points(served):
    rng = np.random.default_rng(1)
    survivor, news = start(play_for_ever, served.components)
    env_id = news.recv()
    for _ in range(50):
        victims = [start(play_for_ever, served.components) for _ in range(2)]
        for _, pipe in victims:
            pipe.recv()
        time.sleep(rng.uniform(0, 0.01))
        for victim, _ in victims:
            os.kill(victim.pid, signal.SIGKILL)
        for victim, pipe in victims:
            victim.join()
            pipe.close()
        while news.poll():
            news.recv()
        assert news.poll(AT_ONCE), "the survivor is held up"
    until(lambda: served.metrics()["sync/envs"] == 1)
    os.kill(survivor.pid, signal.SIGKILL)
    survivor.join()
    until(lambda: served.metrics()["sync/envs"] == 0)
    assert served.metrics()["sync/tasks_outstanding"] == 0
    # Every task that was drawn has been finished, given back, or never arrived; none twice.
    ended = TraceCurriculum.heard(served, "episode", "abort")
    tasks = [end.task for end in ended]
    assert len(set(tasks)) == len(tasks)
    assert sorted(tasks) == sorted(TraceCurriculum.heard(served, "sample"))
    assert len([end for end in ended if end.env_id == env_id and not isinstance(end, EpisodeAborted)]) > 20


# --- strangers ---------------------------------------------------------------------------------------------


def stranger(synced):
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(10)
    sock.connect(synced.components.address.place)
    return sock


def is_cut_off(sock):
    try:
        while sock.recv(4096):
            pass
    except ConnectionError:
        pass
    sock.close()
    return True


class _Bomb:
    def __reduce__(self):
        return os.mkdir, (os.environ["MACURR_BOMB"],)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("size", [DIGEST + CHALLENGE, 100_000])
def test_foreign_bytes_are_cut_off(served, size, caplog):
    link = served.components.connect(SPEC)
    with caplog.at_level(logging.WARNING, "macurr"):
        sock = stranger(served)
        with contextlib.suppress(ConnectionError):
            sock.sendall(os.urandom(size))
        assert is_cut_off(sock)
        until(lambda: "does not speak macurr's protocol" in caplog.text)
    link.request(1, start=True)
    link.task()
    assert serves(served)


@pytest.mark.timeout(60)
def test_a_pickle_of_a_stranger_is_never_opened(served, tmp_path, monkeypatch):
    monkeypatch.setenv("MACURR_BOMB", str(tmp_path / "exploded"))
    sock = stranger(served)
    sock.recv(CHALLENGE)
    sock.sendall(os.urandom(DIGEST + CHALLENGE) + pack(_Bomb()))
    assert is_cut_off(sock)
    assert serves(served)
    assert not (tmp_path / "exploded").exists()
    pickle.loads(pickle.dumps(_Bomb()))
    assert (tmp_path / "exploded").exists()


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "frame",
    [
        pack("no such message"),
        pack("update", "no update"),
        pack(),
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x02no",
        pack("request", 0, 1, True, None),
        pack("hello", "no spec", 1),
    ],
    ids=["kind", "update", "empty", "length", "pickle", "stolen id", "hello"],
)
def test_a_peer_with_the_key_that_speaks_nonsense_harms_itself_alone(served, frame):
    link = served.components.connect(SPEC)
    sock = stranger(served)
    challenge = sock.recv(CHALLENGE)
    sock.sendall(proof(served.components.address.key, b"env", challenge) + os.urandom(CHALLENGE) + frame)
    time.sleep(0.02)
    link.request(1, start=True)
    assert link.task().encoded == 0
    assert serves(served)
    sock.close()


@pytest.mark.timeout(60)
def test_a_wrong_key_is_refused(served):
    address = served.components.address
    served.components.address = Address(address.kind, address.place, bytes(32))
    with pytest.raises(TransportError, match="key") as caught:
        served.components.connect(SPEC)
    assert "components of the curriculum that is running now" in str(caught.value)
    served.components.address = address
    assert serves(served)


@pytest.mark.timeout(60)
def test_a_false_curriculum_is_refused_and_never_believed(tmp_path, monkeypatch):
    monkeypatch.setenv("MACURR_BOMB", str(tmp_path / "exploded"))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()

    def pretend():
        peer, _ = listener.accept()
        peer.sendall(os.urandom(CHALLENGE))
        peer.recv(DIGEST + CHALLENGE)
        peer.sendall(os.urandom(DIGEST) + pack(_Bomb()))
        peer.close()

    thread = threading.Thread(target=pretend)
    thread.start()
    components = ProcessComponents(Address("unix", str(tmp_path / "s"), os.urandom(32)), 10, 8)
    with pytest.raises(TransportError, match="does not hold the key"):
        components.connect(SPEC)
    thread.join()
    listener.close()
    assert not (tmp_path / "exploded").exists()


@pytest.mark.timeout(60)
def test_a_silent_peer_is_cut_off_and_holds_nobody_up(served, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(connections, "HANDSHAKE_SECONDS", 0.2)
        silent, slow = stranger(served), stranger(served)
        for sock in (silent, slow):
            assert len(sock.recv(CHALLENGE)) == CHALLENGE  # its time has begun
    slow.sendall(b"half a proof")
    assert serves(served)
    assert is_cut_off(silent)
    assert is_cut_off(slow)
    assert serves(served)


# --- the curriculum ----------------------------------------------------------------------------------------


def _send_many(link, batch):
    for _ in range(1000):
        link.send(batch)


def _play_on(env, episodes):
    for _ in range(episodes):
        while env.agents:
            env.step(dict.fromkeys(env.agents, 0))
        env.reset()


def serve_for_ever(ready):
    synced = make_multiprocessing_curriculum(DomainRandomization(DiscreteTaskSpace(9), seed=0))
    ready.send(synced.components)
    time.sleep(60)


@FORK
@pytest.mark.timeout(60)
@pytest.mark.parametrize("buffer_size", [0, 1])
def test_envs_learn_at_once_that_the_curriculum_was_killed(buffer_size):
    process, pipe = start(serve_for_ever)
    components = pipe.recv()
    env = PettingZooSyncWrapper(ProbeEnv(), components, buffer_size=buffer_size)
    env.reset()
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    begun = time.monotonic()
    with pytest.raises(CurriculumLost, match="gone"):
        _play_on(env, 3)
    with pytest.raises(CurriculumLost, match="No curriculum listens"):
        PettingZooSyncWrapper(ProbeEnv(), components).reset()
    assert time.monotonic() - begun < AT_ONCE
    env.close()


def wait_for_a_task(components):
    link = components.connect(SPEC)
    link.request(1, start=True)
    link.task()


@FORK
@pytest.mark.timeout(60)
def test_an_env_that_waits_learns_at_once_that_the_curriculum_was_killed():
    process, pipe = start(serve_for_ever)
    components = pipe.recv()
    os.kill(process.pid, signal.SIGSTOP)  # alive, but without an answer
    with child(wait_for_a_task, components) as (_, answer):
        assert not answer.poll(0.2)
        os.kill(process.pid, signal.SIGKILL)
        assert answer.poll(AT_ONCE)
        kind, _ = answer.recv()
        assert kind in {"CurriculumLost", "TransportError"}
    process.join()


@FORK
@pytest.mark.timeout(60)
def test_envs_that_wait_are_told_at_once_when_the_curriculum_raises(served):
    gate = threading.Event()

    def stuck_then_raise(k):
        gate.wait(20)
        raise ValueError("boom")

    served.host._curriculum._sample = stuck_then_raise
    with (
        child(wait_for_a_task, served.components) as (_, one),
        child(wait_for_a_task, served.components) as (_, two),
    ):
        assert not one.poll(0.1)
        gate.set()
        for pipe in (one, two):
            assert pipe.poll(AT_ONCE), "an environment waits for its timeout instead of the error"
            kind, message = pipe.recv()
            assert kind == "CurriculumError"
            assert "ValueError: boom" in message
    with pytest.raises(CurriculumError, match="boom") as caught:
        served.sample()
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.timeout(60)
def test_a_curriculum_that_does_not_return_is_named():
    gate = threading.Event()

    class Stuck(TraceCurriculum):
        def _sample(self, k):
            gate.wait(20)
            return super()._sample(k)

    synced = make_multiprocessing_curriculum(Stuck(), timeout=1.0)
    synced.components.timeout = 20  # the environment's; that of the curriculum is over first
    link = synced.components.connect(SPEC)
    link.request(1, start=True)
    with pytest.raises(CurriculumError, match="busy with one request for tasks"):
        link.task()
    gate.set()
    with pytest.raises(CurriculumError, match="busy with one request for tasks"):
        synced.metrics()
    synced.close()


@pytest.mark.timeout(60)
def test_closing_a_curriculum_that_does_not_return_does_not_wait_for_ever(caplog):
    gate = threading.Event()

    class Stuck(TraceCurriculum):
        def update_task_progress(self, task, progress, env_id=None):
            gate.wait(20)

    synced = make_multiprocessing_curriculum(Stuck(), timeout=1.0)
    synced.components.timeout = 20  # the environment's; that of the curriculum is over first
    link = synced.components.connect(SPEC)
    link.send(TaskProgress(0, link.env_id, {}))
    with pytest.raises(TransportError, match=r"still busy after 1\.0 s, with \d updates waiting"):
        synced.close()
    with caplog.at_level(logging.WARNING, "macurr"):
        synced._finalizer()
    assert "still busy" in caplog.text
    gate.set()
    synced.close()


@pytest.mark.timeout(60)
def test_a_link_without_room_gives_up_after_its_timeout():
    gate = threading.Event()

    class Stuck(TraceCurriculum):
        def update_on_step_batch(self, batch):
            gate.wait(20)

    with make_multiprocessing_curriculum(Stuck(fields=STEPS), timeout=30) as synced:
        link = synced.components.connect(SPEC)
        link._channel._timeout = 0.2
        batch = random_episode(0, link.env_id, SPEC, np.random.default_rng(0), STEPS, length=20_000)[0]
        with pytest.raises(BacklogError, match="room for updates"):
            _send_many(link, batch)
        with pytest.raises((CurriculumLost, BacklogError)):
            link.send(batch)
        gate.set()
        until(lambda: synced.metrics()["sync/envs"] == 0)
        assert synced.metrics()["sync/lost_frames"] == 1


@pytest.mark.timeout(60)
def test_an_interrupted_send_leaves_no_half_message(served):
    link = served.components.connect(SPEC)
    batch = random_episode(0, link.env_id, SPEC, np.random.default_rng(0), STEPS, length=50)[0]
    link.send(batch)

    class Interrupted:
        def __init__(self, sock):
            self.sock = sock

        def __getattr__(self, name):
            return getattr(self.sock, name)

        def send(self, data):
            self.sock.send(data[:100])
            raise KeyboardInterrupt

    link._channel._sock = Interrupted(link._channel._sock)
    with pytest.raises(KeyboardInterrupt):
        link.send(batch)
    with pytest.raises(CurriculumLost):
        link.send(batch)
    link.close()
    until(lambda: served.metrics()["sync/envs"] == 0)
    assert len(TraceCurriculum.heard(served, "steps")) == 1
    assert serves(served)


@pytest.mark.timeout(60)
def test_a_connection_that_cannot_be_accepted_is_logged(served, monkeypatch, caplog):
    class Full:
        def accept(self):
            raise OSError(24, "Too many open files")

    link = served.components.connect(SPEC)
    with caplog.at_level(logging.WARNING, "macurr"), monkeypatch.context() as patch:
        patch.setattr(served._server, "_listener", Full())
        served._server._accept()
    assert "could not be let in" in caplog.text
    link.request(1, start=True)
    link.task()


@pytest.mark.timeout(60)
def test_a_defect_of_the_server_reaches_the_learner(served, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("a defect")

    link = served.components.connect(SPEC)
    monkeypatch.setattr(served._server, "_attend", broken)
    link.request(1, start=True)
    with pytest.raises((CurriculumLost, CurriculumError)):
        link.task()
    until(lambda: served.host.failure is not None)
    with pytest.raises(CurriculumError, match="a defect"):
        served.sample()


@FORK
@pytest.mark.timeout(60)
def test_a_forked_child_of_the_server_does_not_keep_its_connections(served):
    link = served.components.connect(SPEC)
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    process.start()
    served.close()
    with pytest.raises(CurriculumLost):
        link.task()
    with pytest.raises(CurriculumLost):
        served.components.connect(SPEC)
    process.kill()
    process.join()


@FORK
@pytest.mark.timeout(60)
def test_a_child_that_ends_does_not_close_its_parents_curriculum(served):
    assert in_child(os.getpid)[0] == "returned"
    assert in_child(served.close) == ("returned", None)
    assert serves(served)


@pytest.mark.timeout(60)
def test_a_refusal_names_the_cure_through_the_wrapper():
    class Single(TraceCurriculum):
        single_agent = True

        def __init__(self):
            super().__init__(single_agent=True)

    with make_multiprocessing_curriculum(Single()) as synced:
        env = PettingZooSyncWrapper(ProbeEnv(), synced.components)
        with pytest.raises(UsageError, match="MultiagentSharedCurriculumWrapper"):
            env.reset()
        assert synced.metrics()["sync/envs"] == 0
        env.close()

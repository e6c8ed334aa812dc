"""The Ray transport on one machine: every promise of the links, and no call of Ray in a step or a reset."""

import itertools
import logging
import threading
import time
from collections import deque

import numpy as np
import pytest
import ray

from macurr import (
    BacklogError,
    CurriculumError,
    CurriculumLost,
    DiscreteTaskSpace,
    StateError,
    TaskTimeoutError,
    TransportError,
    UsageError,
    make_local_curriculum,
    make_ray_curriculum,
)
from macurr.curricula import DomainRandomization, PrioritizedLevelReplay, SelfPlay
from macurr.messages import EnvSpec, TaskProgress
from macurr.opponents import AgentPool
from macurr.testing import ProbeEnv, TraceCurriculum, TransportTests
from macurr.transports import RayComponents, get_ray_curriculum
from macurr.wrappers import PettingZooSyncWrapper, VectorSync
from tests.support.processes import FORK, in_child
from tests.support.scripts import assert_succeeded, run_python

pytestmark = [
    pytest.mark.xdist_group("ray"),
    pytest.mark.timeout(120),
    pytest.mark.usefixtures("ray_on_two_cpus"),
]
SPEC = EnvSpec(("left", "right"), ("left", "right"))
NAMES = map("curriculum-{}".format, itertools.count())


def until(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def play_episode(env):
    while env.agents:
        env.step(dict.fromkeys(env.agents, 0))


class TestRay(TransportTests):
    def make(self, curriculum, **options):
        return make_ray_curriculum(curriculum, next(NAMES), timeout=30, **options)

    def run_apart(self, function, arguments):
        task = ray.remote(function).options(num_cpus=0.5)
        return ray.get([task.remote(*each) for each in arguments])


# --- who calls Ray -----------------------------------------------------------------------------------------


class Spied:
    """Notes which thread looks something up in a module or an actor's handle."""

    def __init__(self, real):
        self.real, self.threads = real, []

    def __getattr__(self, name):
        self.threads.append(threading.get_ident())
        return getattr(self.real, name)


@pytest.mark.parametrize("direct", [True, False])
def test_neither_a_step_nor_a_reset_calls_ray(direct, monkeypatch):
    trace = TraceCurriculum(fields=frozenset({"rewards"}))
    with make_ray_curriculum(trace, next(NAMES), direct=direct) as synced:
        env = PettingZooSyncWrapper(ProbeEnv(length=50), synced.components)
        env.reset()
        agent, waits = env._client._link._agent, []
        until(lambda: not direct or agent._courier._line.open)
        port = agent._port
        port.handle, port._ray = handle, package = Spied(port.handle), Spied(port._ray)
        with monkeypatch.context() as patch:
            patch.setattr(type(agent), "await_task", lambda agent, link: waits.append(link))
            for _ in range(20):
                play_episode(env)
                until(lambda: env._client._link.tasks)  # the next one has come in
                env.reset()
        here = threading.get_ident()
        assert here not in handle.threads + package.threads
        env.close()
        assert waits == []
        # Another thread does, or has a connection; a message carries what several steps and an episode have to tell.
        calls, exchanges = len(handle.threads), synced.metrics()["sync/exchanges"]
        assert 10 <= exchanges <= 100
        assert calls < 5 if direct else len(set(handle.threads)) == 1 and 10 <= calls <= 100
        assert synced.metrics()["sync/episodes"] == 20
        assert synced.metrics()["sync/steps_applied"] == 1000


def test_all_envs_of_a_process_share_one_exchange():
    with make_ray_curriculum(TraceCurriculum(), next(NAMES)) as synced:
        envs = [PettingZooSyncWrapper(ProbeEnv(), synced.components) for _ in range(16)]
        vector = VectorSync(synced.components, 16, ["left", "right"])
        for env in envs:
            env.reset()
        vector.reset()
        before = synced.metrics()
        assert before["sync/workers"] == 1
        assert before["sync/envs"] == 32
        for env in envs:
            play_episode(env)
        for _ in range(3):
            vector.update_batch(np.ones((16, 2)), np.zeros((16, 2)), np.zeros((16, 2)))
        vector.update_batch(np.ones((16, 2)), np.ones((16, 2)), np.zeros((16, 2)))
        until(lambda: synced.metrics()["sync/episodes"] == 32)
        assert synced.metrics()["sync/exchanges"] - before["sync/exchanges"] <= 20
        vector.close()
        for env in envs:
            env.close()
        until(lambda: synced.metrics()["sync/envs"] == 0)
        assert [t for t in threading.enumerate() if t.name == "macurr-ray-agent" and t.is_alive()] == []


def test_a_link_that_is_forgotten_leaves():
    with make_ray_curriculum(TraceCurriculum(), next(NAMES)) as synced:
        kept, forgotten = (PettingZooSyncWrapper(ProbeEnv(), synced.components) for _ in range(2))
        kept.reset()
        forgotten.reset()
        del forgotten
        until(lambda: synced.metrics()["sync/envs"] == 1)
        kept.close()


# --- slow and stuck curricula ------------------------------------------------------------------------------


class Slow(TraceCurriculum):
    """Takes its time over every progress report."""

    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds

    def update_task_progress(self, task, progress, env_id=None):
        time.sleep(self.seconds)
        super().update_task_progress(task, progress, env_id)


def set_timeout(owner, seconds):
    """How long its calls wait from now on: to connect and to close may take its time on a busy machine."""
    owner.settings = owner.settings._replace(timeout=seconds)


def test_a_slow_curriculum_stops_an_env_that_tells_too_much():
    with make_ray_curriculum(Slow(0.3), next(NAMES), maxsize=8, timeout=30) as synced:
        link = synced.components.connect(SPEC)
        set_timeout(link._agent, 1.0)
        reports = [TaskProgress(i, link.env_id, {"left": 0.5}) for i in range(20)]
        with pytest.raises(BacklogError, match="raise timeout or maxsize"):
            deque(map(link.send, reports), maxlen=0)
        until(lambda: link.under_way == 0)
        heard = [report.task for report in TraceCurriculum.heard(synced, "progress")]
        assert heard == list(range(len(heard)))
        assert len(heard) >= 8
        link.close()


def test_a_window_that_is_full_opens_again():
    with make_ray_curriculum(Slow(0.02), next(NAMES), maxsize=1, timeout=30) as synced:
        link = synced.components.connect(SPEC)
        for i in range(5):
            link.send(TaskProgress(i, link.env_id, {"left": 0.5}))
            assert link.under_way <= 1
        link.close()
    assert [report.task for report in TraceCurriculum.heard(synced, "progress")] == list(range(5))


def test_a_stuck_curriculum_is_told_of_and_its_health_can_be_asked():
    synced = make_ray_curriculum(Slow(30.0), next(NAMES), timeout=30)
    link = synced.components.connect(SPEC)
    set_timeout(link._agent, 0.5)
    set_timeout(synced._remote, 0.5)
    assert synced.health()["busy_with"] is None
    link.send(TaskProgress(0, link.env_id, {"left": 0.5}))
    link.request(1, start=True)
    with pytest.raises(TaskTimeoutError, match=r"waited 0\.5 s for a task"):
        link.task()
    with pytest.raises(TransportError, match="has not answered for"):
        synced.distribution()
    health = synced.health()
    assert health["busy_with"] == "letter of a worker"
    assert health["busy_seconds"] > 0.3
    set_timeout(link._agent, 30)
    ray.kill(ray.get_actor(synced.components.actor_name))
    with pytest.raises(CurriculumLost):
        link.task()
    synced.close()
    link.close()


# --- the learner -------------------------------------------------------------------------------------------


def test_the_learner_sees_the_curriculum_as_it_is_now():
    levels = DomainRandomization(DiscreteTaskSpace(5), seed=3, record_stats=True, task_names=list("abcde"))
    expected = DomainRandomization(DiscreteTaskSpace(5), seed=3)
    with make_ray_curriculum(levels, next(NAMES)) as synced:
        assert synced.sample(4) == expected.sample(4)
        assert synced.rng.bit_generator.state == expected.rng.bit_generator.state
        synced.update_on_episode({"left": 2.0}, 7, 3, {})
        assert synced.stats.state_dict() != levels.stats.state_dict()
        assert levels.sample(4) == DomainRandomization(DiscreteTaskSpace(5), seed=3).sample(4)  # a copy went
        np.testing.assert_allclose(synced.distribution(), np.full(5, 0.2))
        synced.distribution()[:] = 0.0  # the caller's own
        assert synced.task_name(3) == "d"
        written = []

        class Writer:
            def add_scalar(self, tag, scalar_value, global_step=None):
                written.append(tag)

        synced.log_metrics(Writer(), step=1, log_n_tasks=1)
        assert {"curriculum/entropy", "curriculum/sync/envs", "curriculum/probability/a"} <= set(written)
        metrics = synced.metrics()
    assert metrics["sync/exchanges"] == 1
    assert synced.metrics()["sync/exchanges"] == 1


def test_scores_reach_a_replay_and_its_state_another_transport():
    def make():
        return PrioritizedLevelReplay(DiscreteTaskSpace(50), seed=0)

    with make_ray_curriculum(make(), next(NAMES)) as synced:
        scores = np.linspace(0, 1, 50)
        synced.update_on_demand({"tasks": np.arange(50), "scores": scores})
        synced.update_on_demand({"tasks": [7], "scores": [2.0]})
        distribution = synced.distribution()
        state = synced.state_dict()
        with pytest.raises(CurriculumError.__mro__[1]):  # any of macurr's
            synced.update_on_demand({"tasks": [7]})
    with make_local_curriculum(make()) as other:
        other.load_state_dict(state)
        np.testing.assert_array_equal(other.distribution(), distribution)
        state = other.state_dict()
    with make_ray_curriculum(make(), next(NAMES)) as third:
        third.load_state_dict(state)
        np.testing.assert_array_equal(third.distribution(), distribution)
        third.update_on_demand({"tasks": [8], "scores": [3.0]})  # what it was loaded from is its own
        with pytest.raises(StateError):
            third.load_state_dict({**state, "counters": {}})
    assert third.sample(1)


def test_a_pool_of_opponents_grows_under_its_curriculum(tmp_path):
    pool = AgentPool(tmp_path / "pool")
    with make_ray_curriculum(SelfPlay(pool, seed=0), next(NAMES)) as synced:
        first = pool.add({"w": np.zeros(1)})
        assert synced.task_space.num_tasks == len(pool)
        assert set(synced.sample(3)) <= {first}


def test_a_failure_keeps_its_type_and_cause():
    with make_ray_curriculum(TraceCurriculum(fail_on="demand"), next(NAMES)) as synced:
        with pytest.raises(ValueError, match="boom in demand") as caught:
            synced.update_on_demand({})
        assert "In the curriculum's actor" in str(caught.value.__cause__)
        assert "update_on_demand" in str(caught.value.__cause__)
        assert len(synced.sample(2)) == 2


class Unpicklable(TraceCurriculum):
    """Cannot be sent back once it has been asked for a task."""

    def _sample(self, k):
        self.lock = threading.Lock()
        return super()._sample(k)


def test_a_curriculum_that_cannot_come_back_stays_readable(caplog):
    synced = make_ray_curriculum(Unpicklable(), next(NAMES))
    synced.sample()
    with caplog.at_level(logging.WARNING, "macurr"):
        synced.close()
    assert "stays in its actor" in caplog.text
    assert TraceCurriculum.heard(synced, "sample") == [0]


def test_a_second_face_of_the_same_curriculum():
    name = next(NAMES)
    with make_ray_curriculum(TraceCurriculum(), name, detached=True) as synced:
        again = get_ray_curriculum(name)
        again.update_on_demand({"a": 1})
        assert TraceCurriculum.heard(synced, "demand") == [{"a": 1}]
    with pytest.raises(CurriculumLost, match="There is no curriculum named"):
        get_ray_curriculum(name)
    with pytest.raises(CurriculumLost, match="gone for good"):
        again.sample()


# --- what is refused ---------------------------------------------------------------------------------------


def test_what_cannot_be_served_is_refused_with_the_reason(tmp_path):
    name = next(NAMES)
    for wrong in ({"timeout": 0}, {"maxsize": 0}, {"checkpoint_every": 0}, {"max_envs": -1}):
        with pytest.raises(UsageError):
            make_ray_curriculum(TraceCurriculum(), name, **wrong)
    with pytest.raises(UsageError, match=r"macurr\.Curriculum"):
        make_ray_curriculum("levels", name)
    holder = TraceCurriculum()
    holder.lock = threading.Lock()
    with pytest.raises(UsageError, match=r"cannot be sent to an actor.*lock"):
        make_ray_curriculum(holder, name)
    with pytest.raises(FileNotFoundError):
        make_ray_curriculum(TraceCurriculum(), name, checkpoint=tmp_path / "no" / "where")
    held = make_ray_curriculum(TraceCurriculum(), name, checkpoint=tmp_path / "run")
    with held, pytest.raises(UsageError, match="is taken"):
        make_ray_curriculum(TraceCurriculum(), name)
    with pytest.raises(UsageError, match="resume=True"):
        make_ray_curriculum(TraceCurriculum(), name, checkpoint=tmp_path / "run")


def test_a_run_is_resumed_from_its_checkpoint(tmp_path):
    name = next(NAMES)
    with make_ray_curriculum(TraceCurriculum(), name, checkpoint=tmp_path / "run") as synced:
        env = PettingZooSyncWrapper(ProbeEnv(), synced.components)
        for _ in range(3):
            env.reset()
            play_episode(env)
        env.reset()
        env.step(dict.fromkeys(env.agents, 0))
    resumed = make_ray_curriculum(TraceCurriculum(), name, checkpoint=tmp_path / "run", resume=True)
    with resumed:
        assert [result.task for result in TraceCurriculum.heard(resumed, "episode")] == [0, 1, 2]
        env = PettingZooSyncWrapper(ProbeEnv(), resumed.components, buffer_size=0)
        env.reset()
        assert env.task == 3  # it was being played
        env.close()


@FORK
def test_a_forked_child_is_refused_with_the_cure():
    with make_ray_curriculum(TraceCurriculum(), next(NAMES)) as synced:
        connected = PettingZooSyncWrapper(ProbeEnv(), synced.components)
        connected.reset()
        fresh = PettingZooSyncWrapper(ProbeEnv(), synced.components)
        for env in (connected, fresh):
            kind, message = in_child(env.reset)
            assert kind == "UsageError"
            assert "does not survive a fork" in message
            assert "spawn" in message
        kind, message = in_child(make_ray_curriculum, TraceCurriculum(), "other")
        assert (kind, "spawn" in message) == ("UsageError", True)
        play_episode(connected)
        connected.close()
        assert [result.task for result in TraceCurriculum.heard(synced, "episode")] == [0]


def test_a_spawned_child_finds_its_way_to_the_cluster():
    with make_ray_curriculum(TraceCurriculum(), next(NAMES)) as synced:
        what, played = in_child(_play_two, synced.components, method="spawn")
        assert what == "returned", played
        until(lambda: synced.metrics()["sync/envs"] == 0)
        assert [r.task for r in TraceCurriculum.heard(synced, "episode")] == played
        nowhere = RayComponents(synced.components.actor_name)
        kind, message = in_child(_play_two, nowhere, method="spawn")
        assert kind == "UsageError"
        assert "ray.init(address=...)" in message


def _play_two(components):
    env = PettingZooSyncWrapper(ProbeEnv(), components)
    tasks = []
    for _ in range(2):
        env.reset()
        tasks.append(env.task)
        play_episode(env)
    env.close()
    return tasks


SHUT_DOWN = """
import ray
from macurr import CurriculumLost, make_ray_curriculum
from macurr.testing import ProbeEnv, TraceCurriculum
from macurr.wrappers import RaySyncWrapper

ray.init("local", num_cpus=1, log_to_driver=False, include_dashboard=False)
synced = make_ray_curriculum(TraceCurriculum())
env = RaySyncWrapper(ProbeEnv(length=1))
env.reset()
ray.shutdown()
try:
    for _ in range(1000):
        env.step(dict.fromkeys(env.agents, 0))
        env.reset()
except CurriculumLost as error:
    assert "before ray.shutdown()" in str(error), error
else:
    raise AssertionError("nothing was noticed")
env.close()
synced.close()
assert not ray.is_initialized()
"""


def test_the_end_of_ray_is_noticed_and_starts_nothing(tmp_path):
    assert_succeeded(run_python(["-c", SHUT_DOWN], cwd=tmp_path))


NO_RAY = """
import sys
sys.modules["ray"] = None
import macurr
from macurr.testing import ProbeEnv, TraceCurriculum
from macurr.wrappers import PettingZooSyncWrapper, RaySyncWrapper
from macurr.transports import RayComponents, get_ray_curriculum

calls = [
    lambda: macurr.make_ray_curriculum(TraceCurriculum()),
    lambda: RaySyncWrapper(ProbeEnv()),
    lambda: get_ray_curriculum(),
    lambda: PettingZooSyncWrapper(ProbeEnv(), RayComponents()).reset(),
]
for call in calls:
    try:
        call()
    except macurr.MissingDependencyError as error:
        assert "pip install 'macurr[ray]'" in str(error), error
    else:
        raise AssertionError("ray is missing, and nobody says so")
with macurr.make_local_curriculum(TraceCurriculum()) as synced:
    PettingZooSyncWrapper(ProbeEnv(), synced.components).reset()
"""


def test_without_ray_the_extra_is_named_and_the_rest_works(tmp_path):
    assert_succeeded(run_python(["-c", NO_RAY], cwd=tmp_path))

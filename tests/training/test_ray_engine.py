"""Training on a Ray cluster: environments and curriculum in actors, the same results in the same files."""

import os
import signal

import numpy as np
import pytest

from macurr.errors import ConfigError, UsageError, WorkerLost
from macurr.opponents import AgentPool
from macurr.training import TrainConfig, resume, train
from macurr.training.envs import EnvSource
from macurr.training.frames import FrameShape
from macurr.training.ray_engine import RayEnv, ray_session
from macurr.training.rundir import read_csv
from macurr.training.session import probe
from macurr.training.status import Listener
from macurr.training.vector import VectorEnv
from macurr.training.worker import Job

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(180)]

SOURCE = EnvSource("macurr.envs.apple_race_v0")


def jobs_of(source, groups, envs):
    return [
        Job(source, ((0,),) * envs, 1, schedules=tuple(((i, 10 * g + i),) for i in range(envs)))
        for g in range(groups)
    ]


def shapes_of(groups, envs):
    return [FrameShape.of(probe(SOURCE), envs, 1)] * groups


def settings(out, **changed):
    own = {"seeds": 4, "matrix_seeds": 1, "report": False, "tensorboard": False, "envs_per_worker": 8}
    return TrainConfig.of(engine="ray", rollout=16, out=str(out), **{**own, **changed})


def test_frames_are_those_of_worker_processes(ray_on_two_cpus):
    jobs, shapes = jobs_of(SOURCE, 4, 3), shapes_of(4, 3)
    rng = np.random.default_rng(0)
    with RayEnv(jobs, shapes, splits=2) as here, VectorEnv(jobs, shapes, local=True) as there:
        for one, other in zip(here.groups, there.groups, strict=True):
            one.reset()
            other.reset()
        for _ in range(30):
            held = rng.random(3) < 0.2
            for one, other in zip(here.groups, there.groups, strict=True):
                assert one in here.wait([one])
                assert bytes(one.frame()[0].buffer[-one.frame()[0].size :]) == bytes(other.frame()[0].buffer)
                actions = rng.integers(5, size=(3, 2))
                one.act(actions, held)
                other.act(actions, held)


def test_a_worker_that_is_killed_is_begun_anew_and_the_others_go_on(ray_on_two_cpus):
    ray = ray_on_two_cpus
    with RayEnv(jobs_of(SOURCE, 2, 2), shapes_of(2, 2)) as env:
        lost, other = env.groups
        for group in env.groups:
            group.reset()
            group.frame()
        os.kill(ray.get(lost.worker.actor.pid.remote()), signal.SIGKILL)
        lost.act(np.zeros((2, 2), np.int64))
        other.act(np.zeros((2, 2), np.int64))
        assert other in env.wait([other])
        other.frame()
        with pytest.raises(WorkerLost, match="Worker 0"):
            lost.frame()
        assert env.restart(lost) == [lost]
        assert env.wait([lost], timeout=60) == [lost]
        assert lost.frame()[0].alive.all()
        with pytest.raises(UsageError, match="Ray actors"):
            env.restart(object())


def test_an_environment_that_fails_says_so(ray_on_two_cpus):
    source = EnvSource("tests.support.training:Failing")
    layout = probe(source)
    job = Job(source, ((0,),), 1, schedules=(((0, 0),),))
    with RayEnv([job], [FrameShape.of(layout, 1, 1)]) as env:
        (group,) = env.groups
        group.reset()
        with pytest.raises(ConfigError, match="failed on task"):  # noqa: PT012  # at which step is its own affair
            for _ in range(10):
                group.frame()
                group.act(np.zeros((1, len(layout.agents)), np.int64))


def test_a_cluster_without_room_is_told_of(ray_on_two_cpus, monkeypatch):
    monkeypatch.setattr("macurr.training.ray_engine._ROOM", 1.0)
    with pytest.raises(ConfigError, match=r"4 workers need a CPU each.*has 2 CPUs"):
        RayEnv(jobs_of(SOURCE, 4, 1), shapes_of(4, 1))


def test_groups_must_fill_the_workers(ray_on_two_cpus):
    with pytest.raises(UsageError, match="3 groups"):
        RayEnv(jobs_of(SOURCE, 3, 1), shapes_of(3, 1), splits=2)


def test_no_cluster_at_an_address(monkeypatch):
    import ray

    def refuse(**_):
        raise ConnectionError("nobody there")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    with (
        pytest.raises(ConfigError, match=r"No Ray cluster answers at '192\.0\.2\.1:1'"),
        ray_session("192.0.2.1:1"),
    ):
        pass


def test_a_run_on_a_cluster_and_on_from_its_checkpoint(ray_on_two_cpus, tmp_path):
    config = settings(tmp_path / "run", steps=16 * 16 * 4, snapshot_every=2, async_rl=False)
    result = train(config)
    metrics = read_csv(result.run.metrics)
    assert result.status.steps == 16 * 16 * 4
    assert sum(metrics["episodes"]) > 0
    assert AgentPool(result.run.snapshots, create=False).ids == [0, 1, 2]
    assert result.evaluation.row("random").games == 8
    again = resume(str(tmp_path / "run"), steps=16 * 16 * 6)
    assert again.status.steps == 16 * 16 * 6


def test_training_goes_on_when_a_worker_and_the_curriculum_are_killed(ray_on_two_cpus, tmp_path, monkeypatch):
    ray = ray_on_two_cpus
    opened = []
    find_room = RayEnv._find_room
    monkeypatch.setattr(RayEnv, "_find_room", lambda env: (opened.append(env), find_room(env)))

    class Kill(Listener):
        killed: tuple[int, ...] = ()

        def updated(self, status):
            if status.update == 3 and not self.killed:
                (name,) = [name for name in ray.util.list_named_actors() if name.startswith("macurr-")]
                worker, curriculum = opened[0].groups[0].worker.actor, ray.get_actor(name)
                ask_pid = curriculum.__ray_call__.remote(lambda actor: os.getpid())
                self.killed = tuple(ray.get([worker.pid.remote(), ask_pid]))
                for pid in self.killed:
                    os.kill(pid, signal.SIGKILL)

    listener = Kill()
    result = train(settings(tmp_path / "run", steps=16 * 16 * 12), listener)
    assert len(set(listener.killed)) == 2
    assert result.status.steps >= 16 * 16 * 12
    assert sum(read_csv(result.run.metrics)["episodes"]) > 0
    assert ray.is_initialized(), "a connection that was there is left open"

"""Groups of environments in worker processes: who is ready, who is lost, and how the lost begin anew."""

import os
import pathlib
import select
import signal
import subprocess
import time

import numpy as np
import pytest

from macurr import (
    ConfigError,
    CurriculumLost,
    DiscreteTaskSpace,
    EpisodeAborted,
    EpisodeResult,
    TransportError,
    UsageError,
    WorkerLost,
    make_multiprocessing_curriculum,
)
from macurr.curricula import Constant
from macurr.training import children, vector
from macurr.training.envs import EnvSource
from macurr.training.frames import FrameShape
from macurr.training.layout import Layout
from macurr.training.vector import VectorEnv
from macurr.training.worker import Job
from tests.support.ledger import Ledger
from tests.support.processes import alive, child
from tests.support.processes import wait_for as wait_until

HERE = "tests.support.training:"

pytestmark = pytest.mark.timeout(60)


def opened(name, groups, synced=None, *, envs=2, local=False, splits=1, **args):
    """A vector of groups of a tiny environment; without a curriculum, of schedules."""
    source = EnvSource(HERE + name, args)
    schedules = (((0, 0),),) * envs if synced is None else None
    components = None if synced is None else synced.components
    jobs = [Job(source, ((0, 1),) * envs, 1, components, schedules)] * groups
    env = source.make() if name != "Forking" else EnvSource(HERE + "Duel").make()
    shapes = [FrameShape.of(Layout(env, "x"), envs, 1)] * groups
    return VectorEnv(jobs, shapes, local=local, splits=splits)


def begin(env):
    for group in env.groups:
        group.reset()
    for group in env.groups:
        group.frame()


def acts(group, value=0):
    return np.full((group.shape.envs, group.shape.agents), value)


def turn(group, times=1):
    """Acts and takes the frame, so many times."""
    for _ in range(times):
        group.act(acts(group))
        frame, _ = group.frame()
    return frame


def pid(group):
    return group.process._process.pid


def collected(env, steps, seed=0):
    """Frames and last sights of all groups, served in order of arrival; each group's own chance is its own."""
    rngs = {id(group): np.random.default_rng([seed, i]) for i, group in enumerate(env.groups)}
    told = {id(group): [] for group in env.groups}
    for group in env.groups:
        group.reset()
    going = list(env.groups)
    while going:
        ready = env.wait(going)
        assert ready
        for group in ready:
            frame, finals = group.frame()
            told[id(group)].append(
                (bytes(frame.buffer[: frame.size]), finals.agents.tolist(), finals.observations.tolist())
            )
            if len(told[id(group)]) > steps:
                going.remove(group)
            else:
                held = rngs[id(group)].random(group.shape.envs) < 0.2
                group.act(rngs[id(group)].integers(0, 2, acts(group).shape), held)
    return [told[id(group)] for group in env.groups]


@pytest.mark.parametrize("splits", [1, 2, 4])
def test_groups_of_one_worker_are_like_groups_of_several_and_like_none(splits):
    with opened("Duel", 4, local=True) as env:
        here = collected(env, 12)
    with opened("Duel", 4, splits=splits) as env:
        assert len({pid(group) for group in env.groups}) == 4 // splits
        assert collected(env, 12) == here
    assert any(agents for _, agents, _ in here[0])


def test_what_arrives_first_is_served_first():
    with opened("Duel", 4, splits=2) as env:
        begin(env)
        slow, quick = env.groups[:2], env.groups[2:]
        os.kill(pid(slow[0]), signal.SIGSTOP)
        for group in env.groups:
            group.act(acts(group))
        served = []
        while len(served) < 2:
            served += [group for group in env.wait(env.groups) if group not in served]
        assert served == list(quick)
        assert env.wait(slow, timeout=0.0) == []
        assert env.wait(slow, timeout=0.02) == []
        assert env.wait([]) == []
        os.kill(pid(slow[0]), signal.SIGCONT)
        while len(served) < 4:
            served += [group for group in env.wait(slow) if group not in served]
        # Both answers came over one line; each waits in its own place, in whatever order it is fetched.
        for group in reversed(env.groups):
            assert env.wait([group]) == [group]
            assert group.frame()[0].observations[:, 0, 0].tolist() == [1, 1]


def test_a_killed_worker_is_noticed_at_once_and_begun_anew():
    with opened("Duel", 4, splits=2) as env:
        begin(env)
        lost, going = env.groups[:2], env.groups[2:]
        old = pid(lost[0])
        os.kill(old, signal.SIGSTOP)  # in the middle of its work
        for group in env.groups:
            group.act(acts(group))
        os.kill(old, signal.SIGKILL)
        for group in lost:
            assert env.wait([group]) == [group]
            with pytest.raises(WorkerLost, match=rf"Worker 0 \(process {old}\) died with status -9"):
                group.frame()
        assert [group.frame()[0].observations[0, 0, 0] for group in going] == [1, 1]
        assert env.restart(lost[1]) == list(lost)
        assert pid(lost[0]) == pid(lost[1]) != old
        assert [turn(group).observations[0, 0, 0] for group in going] == [2, 2]
        for group in lost:
            frame, finals = group.frame()
            assert frame.observations[:, 0, 0].tolist() == [0, 0]
            assert frame.alive.all()
            assert len(finals.envs) == 0
        assert [turn(group, 3).observations[0, 0, 0] for group in env.groups] == [3, 3, 0, 0]


def test_only_the_episodes_of_the_dead_come_back():
    curriculum = Ledger(fields=())
    with make_multiprocessing_curriculum(curriculum) as synced, opened("Duel", 2, synced) as env:
        begin(env)
        for group in env.groups:
            turn(group, 7)
        os.kill(pid(env.groups[0]), signal.SIGKILL)
        with pytest.raises(WorkerLost):
            env.groups[0].frame()
        env.restart(env.groups[0])
        env.groups[0].frame()
        for group in env.groups:
            turn(group, 7)
    told = {env_id: list(map(type, messages)) for env_id, messages in curriculum.told.items()}
    # Four environments, and two in the place of the dead. Each had an episode under way and a task ahead at its end.
    once, twice = [[EpisodeResult] * n + [EpisodeAborted] * 2 for n in (1, 2)]
    assert sorted((told[i] for i in range(6)), key=len) == [once] * 4 + [twice] * 2


def test_a_worker_that_is_killed_again_and_again_can_be_begun_again():
    with opened("Duel", 1) as env:
        begin(env)
        group = env.groups[0]
        for _ in range(3):
            os.kill(pid(group), signal.SIGKILL)
            with pytest.raises(WorkerLost):
                group.frame()
            assert env.restart(group) == [group]
            assert group.frame()[0].alive.all()


def test_a_worker_that_cannot_begin_says_so():
    with opened("Dying", 1) as env:
        begin(env)
        group = env.groups[0]
        with pytest.raises(WorkerLost, match="status 7"):
            turn(group, 5)
        with pytest.raises(WorkerLost):
            group.frame()
        with pytest.raises(WorkerLost):
            group.act(acts(group))
        env.restart(group)
        assert group.frame()[0].alive.all()


def test_a_child_of_a_dead_worker_does_not_keep_it_alive():
    with opened("Forking", 1, envs=1) as env:
        begin(env)
        group = env.groups[0]
        os.kill(pid(group), signal.SIGKILL)
        with pytest.raises(WorkerLost, match="status -9"):
            group.frame()


def test_a_stopped_worker_is_lost_after_a_while_and_a_slow_one_is_not(monkeypatch):
    monkeypatch.setattr(children, "PATIENCE", 0.3)
    monkeypatch.setattr(vector, "PULSE", 0.1)
    with opened("Slow", 2, envs=1, seconds=1.2) as env:
        begin(env)
        stopped, slow = env.groups
        os.kill(pid(stopped), signal.SIGSTOP)
        for group in env.groups:
            group.act(acts(group))
        with pytest.raises(WorkerLost, match="was stopped"):
            stopped.frame()
        assert slow.frame()[0].observations[0, 0, 0] == 1
        env.restart(stopped)
        assert stopped.frame()[0].alive.all()


def test_large_messages_both_ways_do_not_stand_in_each_other_s_way():
    with opened("Wide", 2, envs=2, splits=2) as env:
        begin(env)
        actions = np.zeros((2, 2, 400_000), np.float32)
        actions[:, 0, -1] = 1.0
        for t in range(1, 4):
            for group in env.groups:  # nobody reads before both have been told
                group.act(actions)
            for group in env.groups:
                frame, _ = group.frame()
                assert (frame.observations[:, :, :400_000] == t).all()
                assert frame.rewards.tolist() == [[1, -1]] * 2


def test_half_a_frame_is_no_frame():
    with opened("Wide", 1) as env:
        begin(env)
        group = env.groups[0]
        group.act(np.zeros((2, 2, 400_000), np.float32))
        select.select([group.process], [], [], 30.0)  # it writes, and cannot end before it is read
        os.kill(pid(group), signal.SIGKILL)
        with pytest.raises(WorkerLost, match="status -9"):
            group.frame()
        env.restart(group)
        assert group.frame()[0].alive.all()


def test_arguments_that_cannot_be_sent_are_refused():
    with pytest.raises(ConfigError, match="arguments cannot be sent"):
        opened("Duel", 1, length=(step for step in range(3)))


def test_a_worker_that_cannot_be_started_is_one_error(monkeypatch):
    def refuse(*_args, **_options):
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with pytest.raises(TransportError, match=r"Worker 0 cannot be started: no more processes"):
        opened("Duel", 1)


def stuck(tmp_path, *, late=30.0, timeout=None, how="sleep"):
    """Two workers of one group, the first of which does not come back; and the process of its program."""
    (tmp_path / "marker").touch()
    source = EnvSource(HERE + "Stuck", {"marker": str(tmp_path / "marker"), "how": how})
    schedules = (((0, 7),), ((1, 8),))
    jobs = [
        Job(source, ((0, 1),) * 2, 1, None, schedules, late=late),
        Job(EnvSource(HERE + "Duel"), ((0, 1),) * 2, 1, None, schedules),
    ]
    shapes = [FrameShape.of(Layout(EnvSource(HERE + "Duel").make(), "x"), 2, 1)] * 2
    return VectorEnv(jobs, shapes, local=False, timeout=timeout)


def numbers_in(tmp_path):
    wait_until((tmp_path / "marker.pid").exists, 30)
    return tuple(map(int, (tmp_path / "marker.pid").read_text().split()))


def test_an_environment_that_does_not_come_back_is_told_of_with_its_task_and_place(tmp_path, caplog):
    with stuck(tmp_path, late=0.3) as env:
        begin(env)
        group, other = env.groups
        turn(group, 2)
        group.act(acts(group))
        wait_until(lambda: env.wait([group], timeout=0.1) == [] and caplog.messages, 20)
        (told,) = caplog.messages
        assert told.startswith(
            f"Worker 0 (process {pid(group)}) is slow: environment 0 has been at a step of task [0] for"
        )
        assert "time.sleep(600.0)" in told
        assert env.wait([group], timeout=1.2) == [], "it is waited for"
        assert len(caplog.messages) == 1
        turn(other, 3)


def test_a_process_that_cannot_even_say_where_it_hangs_is_told_of(tmp_path, caplog):
    with stuck(tmp_path, late=0.2) as env:
        begin(env)
        group = env.groups[0]
        os.kill(pid(group), signal.SIGSTOP)
        group.act(acts(group))
        wait_until(lambda: env.wait([group], timeout=0.1) == [] and caplog.messages, 20)
        assert f"Worker 0 (process {pid(group)}) has not answered for" in caplog.messages[0]


def test_a_worker_that_does_not_answer_in_time_is_lost_while_others_keep_coming(tmp_path):
    with stuck(tmp_path, timeout=1.0, how="once") as env:
        begin(env)
        group, other = env.groups
        turn(group, 2)
        group.act(acts(group))
        worker, program = numbers_in(tmp_path)
        assert worker == pid(group)
        begun, ready = time.monotonic(), []
        while group not in ready:
            assert time.monotonic() - begun < 20
            other.act(acts(other))
            ready = env.wait(env.groups)
            while other not in ready:
                ready += env.wait([other])
            other.frame()
        with pytest.raises(WorkerLost, match=r"has not answered for [12] s \(worker_timeout=1\)\. Find out"):
            group.frame()
        env.restart(group)
        frame, _ = group.frame()
        assert frame.observations[:, 0, 0].tolist() == [0, 0]
        turn(group, 4)
        assert not alive(worker)
        wait_until(lambda: not alive(program))


def test_a_worker_at_rest_is_never_late(tmp_path, caplog):
    with stuck(tmp_path, late=0.2, timeout=0.5) as env:
        begin(env)
        for _ in range(12):
            time.sleep(0.2)
            assert env.wait(env.groups[:1], timeout=0.0) == []
        (tmp_path / "marker").unlink()
        turn(env.groups[0], 3)
        assert caplog.messages == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_is_meant_for_the_parent_does_nothing_to_a_worker(tmp_path, number):
    with stuck(tmp_path) as env:
        begin(env)
        group = env.groups[0]
        os.kill(pid(group), number)
        turn(group, 2)
        group.act(acts(group))
        worker, program = numbers_in(tmp_path)
        os.kill(worker, number)
        os.kill(program, number)
        assert env.wait([group], timeout=0.5) == []
        assert alive(worker)
        wait_until(lambda: not alive(program), 10)  # it hears them as ever


def _be_stuck(folder):
    env = stuck(pathlib.Path(folder))
    begin(env)
    turn(env.groups[0], 2)
    env.groups[0].act(acts(env.groups[0]))
    env.wait(env.groups[:1])


def test_no_worker_that_is_stuck_outlives_a_parent_that_is_killed(tmp_path):
    with child(_be_stuck, str(tmp_path), method="spawn") as (process, _):
        worker, program = numbers_in(tmp_path)
        process.kill()
        process.join()
        wait_until(lambda: not alive(worker) and not alive(program), 20)


def test_closing_waits_for_nobody_for_long(monkeypatch):
    monkeypatch.setattr(vector, "PATIENCE", 0.2)
    env = opened("Duel", 4, splits=2)
    begin(env)
    workers = {pid(group) for group in env.groups}
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    begun = time.monotonic()
    env.close()
    assert time.monotonic() - begun < 10.0
    env.close()
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)


def test_an_environment_s_exception_is_told_by_all_groups_of_its_worker():
    with opened("Failing", 4, splits=2) as env:
        begin(env)
        group, neighbour, elsewhere, _ = env.groups
        turn(group, 2)
        for each in (group, neighbour):
            with pytest.raises(ConfigError, match="the lever broke"):
                turn(each)
        assert turn(elsewhere).alive.all()


def test_a_curriculum_that_is_gone_is_no_lost_worker():
    with make_multiprocessing_curriculum(Constant(DiscreteTaskSpace(9), 3)) as synced:
        env = opened("Duel", 1, synced)
        begin(env)
    with env, pytest.raises(CurriculumLost):
        turn(env.groups[0], 20)


def test_local_groups_are_ready_at_once_and_never_lost():
    with opened("Duel", 2, local=True, splits=2) as env:
        begin(env)
        assert env.wait(env.groups) == list(env.groups)
        assert env.groups[0].ready()
        with pytest.raises(UsageError, match="restarted"):
            env.restart(env.groups[0])


def test_groups_that_cannot_be_dealt_out_are_refused():
    with pytest.raises(UsageError, match=r"3 groups .* 2 each"):
        opened("Duel", 3, splits=2)


def test_no_process_is_left_behind():
    with opened("Duel", 2) as env:
        begin(env)
        workers = [pid(group) for group in env.groups]
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)

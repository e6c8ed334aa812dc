"""A collector in a process of its own: it collects what one in this process does, and whoever dies is missed."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch

from macurr import make_multiprocessing_curriculum
from macurr.errors import ConfigError, PoolError, StateError, TransportError, UsageError
from macurr.persistence import load_state
from macurr.training import Listener, TrainConfig, channel, children, collector_process, resume, train
from macurr.training.batch import BatchPlan
from macurr.training.collector import Collector
from macurr.training.collector_process import CollectorProcess
from macurr.training.learner import LearnerReport
from macurr.training.loops import AsynchronousLoop
from macurr.training.rundir import read_csv
from macurr.training.trainer import Trainer
from tests.support.apart import gathered, parts
from tests.support.collecting import HERE, constant, source
from tests.support.processes import alive, children_of, descendants_of, wait_for
from tests.support.training import chosen_in_turn

pytestmark = pytest.mark.timeout(120)

ARRAYS = (
    "observations",
    "masks",
    "actions",
    "log_probs",
    "values",
    "rewards",
    "dones",
    "valid",
    "starts",
    "policies",
    "versions",
    "env_of",
    "agent_of",
    "last_values",
    "state0",
    "central",
    "central_of",
    "cut_steps",
    "cut_streams",
    "cut_values",
)
RICH = {
    "num_policies": 2,
    "mapping": "random",
    "recurrent": "gru",
    "recurrent_size": 4,
    "centralised_critic": True,
    "opponents": "none",
    "normalize_observations": True,
    "normalize_returns": True,
}


def same(one, other):
    for name in ARRAYS:
        ours, theirs = getattr(one, name), getattr(other, name)
        assert (ours is None) == (theirs is None), name
        if ours is not None:
            assert ours.dtype == theirs.dtype
            assert np.array_equal(ours, theirs), name
    assert (one.episodes, one.number) == (other.episodes, other.number)


def made(folder, name="Duel", level=7, **options):
    """The curriculum that is to be open, and what a collector is made of."""
    synced = make_multiprocessing_curriculum(constant(0, level))
    return synced, parts(folder, source(name) if isinstance(name, str) else name, synced, **options)


# What is collected


@pytest.mark.parametrize(("name", "more"), [("Duel", {}), ("Reacher", {}), ("Ragged", RICH)])
def test_it_collects_what_this_process_collects(tmp_path, name, more):
    synced, own = made(tmp_path, name, warm_up=8, **more)
    with synced, own.apart() as collector:
        there, strays = gathered(collector, 5), collector.strays
    synced, own = made(tmp_path / "here", name, warm_up=8, **more)
    with synced, own.here() as collector:
        here = gathered(collector, 5)
        assert strays[: len(collector.strays)] == collector.strays
    for one, other in zip(here, there, strict=False):
        same(one, other)
    assert all(rollout.observations.flags.writeable for rollout in there)


def test_it_goes_on_from_its_state(tmp_path):
    synced, own = made(tmp_path, **RICH)
    with synced, own.apart() as collector:
        gathered(collector, 3)
        collector.paused = True
        while collector.busy:
            collector.pump()
        state = collector.state_dict(whole=False)
        with pytest.raises(UsageError, match="process of its own"):
            collector.state_dict(whole=True)
    assert state["envs"] is None
    found = []
    for place in ("one", "two", "here"):
        synced, own = made(tmp_path / place, **RICH)
        with synced, (own.here if place == "here" else own.apart)(state) as collector:
            found.append(gathered(collector, 3)[:3])
    for one, two, here in zip(*found, strict=True):
        same(one, here)
        same(two, here)


def test_a_state_of_another_run_is_refused(tmp_path):
    synced, own = made(tmp_path, num_policies=2, mapping="random")
    with synced, own.here() as collector:
        state = collector.state_dict(whole=False)
    state["mapping"]["envs"], state["mapping"]["drawn"] = np.arange(1), np.full((1, 2), 7, np.int16)
    synced, own = made(tmp_path / "other", num_policies=2, mapping="random")
    with synced, pytest.raises(StateError, match="2 policies are wanted"), own.apart(state):
        pass


def test_messages_larger_than_any_socket_go_both_ways_at_once(tmp_path):
    synced, own = made(tmp_path, "Wide", steps=2, envs=2, splits=2)
    with synced, own.apart() as collector:
        # Megabytes of rollouts come while megabytes of weights go.
        for version in range(1, 4):
            own.learner.versions = [version]
            own.learner.publish()
            for rollout in gathered(collector, 2):
                assert rollout.observations.shape == (2, 1, 400_002)
                assert (rollout.versions <= version).all()
        while not (gathered(collector, 1)[0].versions == 3).all():
            pass


# What it acts by


def set_to(learner, number):
    """Policies that expect `number` and one half more for each policy before, and are of that version."""
    with torch.no_grad():
        for p, policy in enumerate(learner.policies):
            for parameter in policy.parameters():
                parameter.zero_()
            policy.critic.last.bias.fill_(number + p / 2)
    learner.versions = [number] * len(learner.policies)
    learner.publish()


def test_every_step_bears_the_version_of_the_weights_that_made_it(tmp_path):
    synced, own = made(tmp_path, num_policies=2, mapping="random", workers=2, splits=2)
    set_to(own.learner, 0)
    stop = threading.Event()

    def publish():
        number = 0
        while not stop.is_set():
            number += 1
            set_to(own.learner, number)
            stop.wait(0.002)

    with synced, own.apart() as collector:
        thread = threading.Thread(target=publish)
        thread.start()
        try:
            rollouts = gathered(collector, 60)
        finally:
            stop.set()
            thread.join()
        last = own.learner.versions[0]
        versions = [rollout.versions for rollout in rollouts]
        for rollout in rollouts:
            assert np.array_equal(rollout.values, rollout.versions + rollout.policies / 2)
        assert len(np.unique(np.concatenate([each.ravel() for each in versions]))) > 5
        assert any(len(np.unique(each)) > 1 for each in versions), "weights change in mid-rollout"
        # The newest always comes, however many went before.
        while not (gathered(collector, 1)[0].versions == last).all():
            pass


def test_weights_that_were_copied_arrive_with_their_jump(tmp_path):
    synced, own = made(tmp_path, num_policies=2, mapping="role", max_policy_lag=5)
    set_to(own.learner, 3)
    with synced, own.apart() as collector:
        # Environments 0 and 2 are learned by the left player, policy 0; the others by the right one, policy 1.
        assert np.array_equal(gathered(collector, 1)[0].values[0], [3, 3.5, 3, 3.5])
        with own.learner.lock:
            own.learner.policies[1].copy_from(own.learner.policies[0])
            own.learner.replaced(1)
        while True:
            newest = gathered(collector, 1)[-1]
            if newest.versions.max() > 3 and (newest.versions[0] == newest.versions[-1]).all():
                break
    assert (newest.versions == [3, 9, 3, 9]).all()
    assert (newest.values == 3).all()


def test_a_state_that_is_loaded_into_the_learner_is_acted_by(tmp_path):
    synced, own = made(tmp_path)
    set_to(own.learner, 9)
    state = own.learner.state_dict()
    set_to(own.learner, 1)
    with synced, own.apart() as collector:
        gathered(collector, 1)
        own.learner.load_state_dict(state)
        while not (gathered(collector, 1)[0].values == 9).all():
            pass


# Pauses


def test_a_pause_stops_everybody_and_all_go_on_where_they_were(tmp_path):
    synced, own = made(tmp_path, workers=2, splits=2)
    with synced, own.apart() as collector:
        found = gathered(collector, 3)
        for _ in range(3):
            collector.paused = True
            while collector.busy:
                found += collector.pump()
            assert collector.take_steps() > 0
            time.sleep(0.05)
            collector.wake()
            assert collector.pump() == []
            assert (collector.busy, collector.take_steps()) == (False, 0)
            collector.paused = False
            assert collector.busy
            found += gathered(collector, 4)
    for rollout in found:
        assert rollout.valid.all()
        assert (rollout.log_probs < 0).all()
    for number in range(4):
        own_ = [rollout for rollout in found if rollout.number == number]
        # Episodes of five steps, one after the other without a gap.
        starts = np.concatenate([rollout.starts[:, 0] for rollout in own_])
        assert np.diff(np.flatnonzero(starts)).tolist() == [5] * (int(starts.sum()) - 1)


def test_it_is_no_further_ahead_than_a_rollout_of_each_group(tmp_path):
    synced, own = made(tmp_path, steps=2, workers=1, splits=2)
    with synced, own.apart() as collector:
        for _ in range(3):
            time.sleep(0.4)  # nobody takes anything; at this size hundreds of rollouts would fit
            collector.paused = True
            found = []
            while collector.busy:
                found += collector.pump()
            assert 1 <= len(found) <= 3
            collector.paused = False


def test_what_some_finish_before_others_begin_is_not_lost(tmp_path):
    env = source("Tardy", marker=str(tmp_path / "marker"))
    synced, own = made(tmp_path, env, steps=5, workers=2, envs=1)
    with synced, own.apart() as collector:
        first = collector.pump()
        rollouts = first + gathered(collector, 6)
        steps = collector.take_steps()
    assert 2 <= len(first) <= 3, "as far ahead as may be, and no further"
    assert len({rollout.number for rollout in first[:2]}) == 1
    assert all(rollout.starts[0].all() for rollout in rollouts), "each is an episode, and none is missing"
    assert steps >= 5 * len(rollouts)


def test_who_waits_for_news_can_be_woken(tmp_path):
    synced, own = made(tmp_path)
    with synced, own.apart() as collector:
        collector.paused = True
        while collector.busy:
            collector.pump()
        waker = threading.Timer(0.1, collector.wake)
        waker.start()
        begun = time.monotonic()
        collector.pump()
        waker.join()
        assert time.monotonic() - begun < channel.PULSE


# What breaks


def workers_of(collector):
    return children_of(collector._child.pid)


def test_a_collector_that_is_killed_is_replaced_and_leaves_nobody_behind(tmp_path):
    synced, own = made(tmp_path, workers=2, restarts=1, num_policies=2, mapping="random")
    set_to(own.learner, 4)
    with synced, own.apart() as collector:
        gathered(collector, 3)
        old, workers = collector._child.pid, workers_of(collector)
        assert len(workers) == 2
        os.kill(old, signal.SIGKILL)
        set_to(own.learner, 5)
        while collector.restarted == 0:
            collector.pump()
        rollouts = gathered(collector, 6)
        assert not alive(old)
        wait_for(lambda: not any(map(alive, workers)))
        assert rollouts[-1].versions.min() == 5
        assert collector._child.pid != old
        os.kill(collector._child.pid, signal.SIGKILL)
        begun = time.monotonic()
        words = r"The collector \(process \d+\) died with status -9.*1 workers.*worker_restarts=1"
        with pytest.raises(TransportError, match=words):
            gathered(collector, 1000)
        assert time.monotonic() - begun < 10


def test_what_was_under_way_in_a_collector_that_died_counts_as_lost(tmp_path):
    synced, own = made(tmp_path, steps=1000, restarts=1)
    with synced, own.apart() as collector:
        collector.paused = True
        while collector.busy:
            collector.pump()
        under_way = collector.take_steps()
        assert 0 < under_way < 4000
        os.kill(collector._child.pid, signal.SIGKILL)
        while collector.restarted == 0:
            collector.pump()
        assert collector.lost_steps == under_way
        # The new one rests as well.
        while collector.busy:
            collector.pump()
        assert collector.paused


def test_a_stopped_collector_is_lost_after_a_while(tmp_path, monkeypatch):
    synced, own = made(tmp_path, restarts=1)
    with synced, own.apart() as collector:
        monkeypatch.setattr(children, "PATIENCE", 0.3)
        monkeypatch.setattr(collector_process, "PULSE", 0.1)
        gathered(collector, 1)
        old = collector._child.pid
        os.kill(old, signal.SIGSTOP)
        while collector.restarted == 0:
            collector.pump()
        assert not alive(old)
        gathered(collector, 2)


def test_its_workers_are_replaced_as_often_as_may_be(tmp_path):
    synced, own = made(tmp_path, workers=2, splits=2, restarts=1)
    with synced, own.apart() as collector:
        gathered(collector, 4)
        os.kill(workers_of(collector)[0], signal.SIGKILL)
        while collector.restarted == 0:
            collector.pump()
        gathered(collector, 8)
        assert len(workers_of(collector)) == 2
        os.kill(workers_of(collector)[1], signal.SIGKILL)
        words = r"Worker \d \(process \d+\) died with status -9.*1 workers.*worker_restarts=1"
        with pytest.raises(TransportError, match=words):
            gathered(collector, 1000)


def test_replaced_workers_and_collectors_count_together(tmp_path):
    synced, own = made(tmp_path, restarts=2)
    with synced, own.apart() as collector:
        for count in (1, 2):
            gathered(collector, 2)
            os.kill(workers_of(collector)[0] if count == 2 else collector._child.pid, signal.SIGKILL)
            while collector.restarted < count:
                collector.pump()
        gathered(collector, 2)
        os.kill(workers_of(collector)[0], signal.SIGKILL)
        with pytest.raises(TransportError, match=r"2 workers.*worker_restarts=2"):
            gathered(collector, 1000)


def error_of(folder, how, kind, **options):
    """What goes wrong, in a process of its own or in this one."""
    synced, own = made(folder, **options)
    with synced, pytest.raises(kind) as error, getattr(own, how)() as collector:
        gathered(collector, 100)
    return str(error.value)


@pytest.mark.parametrize(
    ("kind", "words", "options"),
    [
        (ConfigError, "the lever broke", {"name": "Failing"}),
        (ConfigError, "mapping='.*' gave 7", {"num_policies": 2, "mapping": HERE + "chosen_wrongly"}),
        (PoolError, "snapshot", {"snapshots": 0}),
    ],
)
def test_errors_are_those_of_a_collector_in_this_process(tmp_path, kind, words, options):
    there = error_of(tmp_path, "apart", kind, **options)
    assert there.replace(str(tmp_path / "pool"), "") == error_of(
        tmp_path / "here", "here", kind, **options
    ).replace(str(tmp_path / "here" / "pool"), "")
    with pytest.raises(kind, match=f"(?i){words}"):
        raise kind(there)


def test_a_defect_is_told_with_its_traceback(tmp_path):
    synced, own = made(tmp_path)
    object.__setattr__(own.job, "spec", None)
    with synced, pytest.raises(TransportError, match=r"The collector failed: .*\nTraceback"), own.apart():
        pass


def test_arguments_that_cannot_be_sent_are_refused(tmp_path):
    synced, own = made(tmp_path)
    object.__setattr__(own.jobs[0].source, "args", {"length": (step for step in range(3))})
    with synced, pytest.raises(ConfigError, match="arguments cannot be sent"), own.apart():
        pass


def test_a_process_that_cannot_be_started_is_one_error(tmp_path, monkeypatch):
    def refuse(*_args, **_options):
        raise BlockingIOError("no more processes")

    synced, own = made(tmp_path)
    monkeypatch.setattr(subprocess, "Popen", refuse)
    with synced, pytest.raises(TransportError, match="The collector cannot be started: no more"), own.apart():
        pass


def test_everybody_stands_back_for_the_learner_and_ends_with_it(tmp_path):
    before = set(descendants_of(os.getpid()))  # of other tests, such as a server of forks
    synced, own = made(tmp_path, workers=2)
    with synced, own.apart() as collector:
        gathered(collector, 1)
        everybody = set(descendants_of(os.getpid())) - before
        assert len(everybody) == 3
        ours = os.getpriority(os.PRIO_PROCESS, 0)
        assert {os.getpriority(os.PRIO_PROCESS, pid) for pid in everybody} == {min(ours + 5, 19)}
        assert {os.getpgid(pid) for pid in everybody} == everybody
        collector.close()
        assert not any(map(alive, everybody))
        own.learner.publish()  # nobody listens


# Whole runs

RUN = {
    "env": "tests.support.training:Duel",
    "workers": 2,
    "envs_per_worker": 2,
    "rollout": 10,
    "steps": 4 * 10 * 12,
    "hidden": (8,),
    "levels": 20,
    "decorrelate": 4,
    "tensorboard": False,
    "seeds": 2,
    "matrix_seeds": 1,
    "report": False,
}


def settings(folder, **changes):
    return TrainConfig.of(**{**RUN, "out": str(folder / "run"), **changes})


@pytest.fixture
def started(tmp_path):
    """A run without an end in a process group of its own, its family as soon as all are there, and its table."""
    given = {**RUN, "steps": 1_000_000_000, "hidden": [8]}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.killed", "start", str(tmp_path / "run"), json.dumps(given)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(lambda: len(descendants_of(process.pid)) == 3, 60)
        yield process, descendants_of(process.pid), tmp_path / "run" / "metrics.csv"
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("when", ["as it begins", "at work"])
def test_nobody_outlives_a_learner_that_is_killed(started, when):
    process, family, table = started
    if when == "at work":
        wait_for(lambda: table.exists() and table.stat().st_size > 1000, 60)
    process.kill()
    process.wait()
    wait_for(lambda: not any(map(alive, family)), 30)


def test_an_interrupt_saves_what_was_reached_and_leaves_nobody(started):
    process, family, table = started
    wait_for(lambda: table.exists() and table.stat().st_size > 1000, 60)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(30) != 0
    assert not any(map(alive, family))
    assert load_state(table.parent / "checkpoint.state")["counters"]["update"] >= 1


class Watching(Listener):
    """Notes what happens, and interrupts after some updates."""

    def __init__(self, until=None, then=None):
        self.until, self.then = until, then

    def updated(self, status):
        if status.update == self.until:
            if self.then is None:
                raise KeyboardInterrupt
            self.then()


def used(monkeypatch, kind):
    """The collectors of a kind that are made, with what they are made of."""
    found, build = [], kind.__init__

    def noted(collector, *args, **kwargs):
        found.append((collector, args))
        build(collector, *args, **kwargs)

    monkeypatch.setattr(kind, "__init__", noted)
    return found


def test_a_run_with_policies_that_are_compared_is_interrupted_and_goes_on(tmp_path, monkeypatch):
    processes, threads = used(monkeypatch, CollectorProcess), used(monkeypatch, Collector)
    config = settings(
        tmp_path,
        num_policies=2,
        mapping=HERE + "chosen_in_turn",
        pbt=True,
        pbt_period=40,
        pbt_start=40,
        pbt_replace_gap=0.0,
        pbt_replace_gap_absolute=0.0,
        pbt_replace_fraction=0.5,
        max_policy_lag=50,
        checkpoint_minutes=0.0,
    )
    others = set(descendants_of(os.getpid()))
    with pytest.raises(KeyboardInterrupt):
        train(config, Watching(6))
    state = load_state(tmp_path / "run" / "checkpoint.state")
    (_, first), chance = processes[0], state["collector"]["generator"]
    assert first[-1] is None
    assert not np.array_equal(chance, first[-2]), "chance has moved on"
    result = resume(config.out)
    assert np.array_equal(processes[1][1][-1]["generator"], chance), "it goes on from there"
    assert (len(processes), threads) == (2, [])
    rows = read_csv(result.run.metrics)
    assert rows["steps"][-1] >= RUN["steps"]
    assert rows["update"] == list(range(1, len(rows["update"]) + 1))
    assert np.isfinite(rows["policy_loss"]).any()
    assert not set(descendants_of(os.getpid())) - others


@pytest.mark.parametrize("who", ["collector", "worker"])
def test_a_run_survives_the_death_of(tmp_path, monkeypatch, who):
    processes = used(monkeypatch, CollectorProcess)

    def kill():
        child = processes[0][0]._child
        os.kill(child.pid if who == "collector" else children_of(child.pid)[0], signal.SIGKILL)

    result = train(settings(tmp_path), Watching(3, kill))
    assert processes[0][0].restarted == 1
    rows = read_csv(result.run.metrics)
    assert rows["steps"][-1] >= RUN["steps"]
    assert np.isfinite(rows["policy_loss"]).all()


def test_seconds_are_those_of_the_collector_s_process(tmp_path):
    begun = time.perf_counter()
    result = train(settings(tmp_path))
    passed = time.perf_counter() - begun
    rows = read_csv(result.run.timing)
    collecting = sum(rows["env_wait"]) + sum(rows["inference"])
    assert all(value >= 0 for name in ("env_wait", "inference", "train", "other") for value in rows[name])
    assert 0.0 < sum(rows["inference"]) < collecting < passed


class _Made(Exception):
    """Enough was seen."""


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, CollectorProcess),
        ({"async_rl": False}, Collector),
        ({"transport": "local", "workers": 1, "async_rl": True}, Collector),
        ({"num_policies": 2, "mapping": "__main__:choose"}, Collector),
    ],
)
def test_who_collects_where(tmp_path, monkeypatch, changes, wanted):
    monkeypatch.setattr(sys.modules["__main__"], "choose", chosen_in_turn, raising=False)
    seen = []

    def look(config, collector, *_):
        seen.append(type(collector))
        raise _Made

    monkeypatch.setattr("macurr.training.trainer.make_loop", look)
    trainer = Trainer.start(settings(tmp_path, **changes))
    try:
        with pytest.raises(_Made):
            trainer.run()
    finally:
        trainer.directory.release()
    assert seen == [wanted]


def test_a_dataset_that_is_done_is_told_before_the_next_rollout_comes(tmp_path, monkeypatch):
    monkeypatch.setattr(collector_process, "PULSE", 60.0)
    synced, own = made(tmp_path, source("Slow", seconds=2.0), steps=5, envs=1)
    taken = []

    def trained(rollouts, progress):
        taken.extend(rollouts)
        return LearnerReport(rollouts, [], [], [{}], (0, 0.0, 0), 1.0, 1.0, 0, 0.0)

    with synced, own.apart() as collector:
        plan = BatchPlan(total=5, per_policy=5, wanted=5, policies=1, rounds=1)
        learner = type("Quick", (), {"train": staticmethod(trained)})()
        loop = AsynchronousLoop(collector, learner, plan, lambda: 0.0, 1)
        for count in (1, 2):
            report = loop.update()
            assert len(taken) == count
            assert list(report.rollouts) == taken[-1:]
        loop.close()

"""Runs that were killed or interrupted at any moment go on as if nothing had happened."""

import itertools
import json
import random
import signal
import subprocess
import sys
import time

import pytest

from macurr.errors import MacurrError
from macurr.opponents import AgentPool
from macurr.persistence import load_state
from macurr.training import Listener, TrainConfig, resume, train
from macurr.training.checkpoints import settle_pool
from macurr.training.ppo import PPO
from macurr.training.rundir import read_csv
from tests.support.processes import alive, descendants_of

pytestmark = pytest.mark.timeout(240)

SMALL = {
    "transport": "local",
    "workers": 1,
    "envs_per_worker": 4,
    "rollout": 8,
    "steps": 4 * 8 * 40,
    "hidden": (8,),
    "epochs": 2,
    "minibatches": 2,
    "levels": 30,
    "snapshot_every": 3,
    "capacity": 3,
    "decorrelate": 10,
    "checkpoint_minutes": 0.001,
    "tensorboard": False,
    "seeds": 2,
    "matrix_seeds": 1,
    "report": False,
}
RICH = {
    "num_policies": 2,
    "mapping": "random",
    "mapping_episodes": 2,
    "recurrent": "gru",
    "recurrent_size": 4,
    "curriculum": "joint",
    "score": "max_mc",
    "normalize_observations": True,
    "normalize_returns": True,
    "splits": 2,
    "batch_size": 16,
}
FILES = ("metrics.csv", "policy.safetensors", "evaluation.json")


def same(folder, other):
    for name in FILES:
        assert (folder / name).read_bytes() == (other / name).read_bytes(), name


STARTED = []


@pytest.fixture(autouse=True)
def _nothing_goes_on_after_a_test():
    yield
    while STARTED:
        process = STARTED.pop()
        process.kill()
        process.wait()


def start(action, folder, settings):
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.killed", action, str(folder), json.dumps(settings)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    STARTED.append(process)
    return process


@pytest.mark.parametrize("more", [{}, RICH], ids=["plain", "rich"])
def test_a_run_that_is_killed_again_and_again_is_the_run_that_never_was(tmp_path, more):
    settings = {**SMALL, **more}
    train(TrainConfig.of(out=str(tmp_path / "whole"), **settings))
    folder, chance = tmp_path / "killed", random.Random(7)
    action, kills = "start", 0
    for _ in range(2):
        process = start(action, folder, settings)
        before = (folder / "metrics.csv").stat().st_size if (folder / "metrics.csv").exists() else 0
        while process.poll() is None:
            table = folder / "metrics.csv"
            if table.exists() and table.stat().st_size > before + 300:  # it is at work
                time.sleep(chance.uniform(0.0, 0.3))
                process.kill()
                process.wait()
                kills += 1
                break
            time.sleep(0.002)
        action = "resume"
    assert kills >= 1
    resume(str(folder))
    same(folder, tmp_path / "whole")
    assert AgentPool(folder / "snapshots").ids == AgentPool(tmp_path / "whole" / "snapshots").ids


@pytest.mark.parametrize("more", [{}, RICH], ids=["plain", "rich"])
def test_a_run_that_is_killed_before_its_first_checkpoint_begins_again(tmp_path, more):
    settings = {**SMALL, **more}
    train(TrainConfig.of(out=str(tmp_path / "whole"), **settings))
    folder = tmp_path / "killed"
    assert start("unsaved", folder, settings).wait(60) == -signal.SIGKILL
    assert len(read_csv(folder / "metrics.csv")["update"]) == 1, "it was at work"
    assert not (folder / "checkpoint.state").exists()
    resume(str(folder))
    same(folder, tmp_path / "whole")
    assert AgentPool(folder / "snapshots").ids == AgentPool(tmp_path / "whole" / "snapshots").ids


def test_a_run_that_cannot_be_taken_up_in_mid_episode_says_so_once(tmp_path, caplog):
    few = {**SMALL, "steps": 4 * 8 * 4, "checkpoint_minutes": 0.0}
    train(TrainConfig.of(out=str(tmp_path / "whole"), **few))
    assert not caplog.records
    train(TrainConfig.of(out=str(tmp_path / "held"), env="tests.support.training:Unpicklable", **few))
    (record,) = caplog.records
    assert "tests.support.training:Unpicklable cannot be saved in mid-episode" in record.getMessage()


class Stop(Listener):
    def __init__(self, update, error=KeyboardInterrupt):
        self.update, self.error = update, error

    def updated(self, status):
        if status.update == self.update:
            raise self.error


@pytest.mark.parametrize("place", ["training", "collecting", "between"])
def test_an_interrupt_at_any_place_loses_nothing_that_cannot_be_made_again(tmp_path, monkeypatch, place):
    settings = {**SMALL, "checkpoint_minutes": 1000.0, "snapshot_every": 1000}
    train(TrainConfig.of(out=str(tmp_path / "whole"), **settings))
    folder = tmp_path / "parted"

    def broken(*_, **__):
        raise KeyboardInterrupt

    class Break(Listener):
        def updated(self, status):
            if status.update != 20:
                return
            if place == "between":
                raise KeyboardInterrupt
            if place == "training":
                patched.setattr(PPO, "_step", broken)
            else:
                patched.setattr("macurr.training.vector.LocalGroup.frame", broken)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        train(TrainConfig.of(out=str(folder), **settings), Break())
    reached = load_state(folder / "checkpoint.state")["counters"]["update"]
    assert reached == 20 if place == "between" else 1 <= reached <= 20
    resume(str(folder))
    same(folder, tmp_path / "whole")


def test_a_snapshot_is_neither_lost_nor_taken_twice(tmp_path):
    """Kills in the middle of adding one: before it is there, and before those that make room for it are gone."""
    for when in ("id", "file", "done"):
        pool = AgentPool(tmp_path / when, 2, keep="spread")
        for update in (0, 3):
            pool.add({"w": [float(update)]}, update=update)
        known = pool.ids
        if when == "id":
            pool._folder.claim()
        elif when == "file":
            AgentPool(tmp_path / when).add({"w": [6.0]}, update=6)  # no capacity: nobody goes
        else:
            pool.add({"w": [6.0]}, update=6)
        again = AgentPool(tmp_path / when, 2, keep="spread")
        settle_pool(again, known, 6)
        if again.metadata(again.latest)["update"] != 6:
            assert again.add({"w": [6.0]}, update=6) == 2
        assert again.ids == [0, 2]
        assert again.add({"w": [9.0]}, update=9) == 3


def test_snapshots_of_updates_that_are_made_again_go(tmp_path):
    pool = AgentPool(tmp_path / "pool", 5)
    for update in (0, 3, 6, 9):
        pool.add({"w": [0.0]}, update=update)
    settle_pool(pool, [0, 1], 6)
    assert pool.ids == [0, 1, 2]


def test_an_asynchronous_run_goes_on_from_its_last_checkpoint(tmp_path):
    settings = {
        **SMALL,
        "transport": "process",
        "num_policies": 2,
        "mapping": "random",
        "recurrent": "gru",
        "recurrent_size": 4,
        "steps": 4 * 8 * 2000,
    }
    folder = tmp_path / "run"
    process = start("start", folder, settings)
    try:
        while (
            not (folder / "checkpoint.state").exists() or len(read_csv(folder / "metrics.csv")["update"]) < 8
        ):
            assert process.poll() is None
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    state, rows = load_state(folder / "checkpoint.state"), read_csv(folder / "metrics.csv")
    saved, written = state["counters"]["update"], len(rows["update"])
    # 0.001 minutes are 60 ms.
    timing = read_csv(folder / "timing.csv")["seconds"]
    assert timing[-1] - timing[saved - 1] < 5
    with pytest.raises(KeyboardInterrupt):
        resume(str(folder), Stop(written + 5))
    rows = read_csv(folder / "metrics.csv")
    assert rows["update"] == [float(i) for i in range(1, len(rows["update"]) + 1)]
    assert len(rows["update"]) >= written + 5
    steps = rows["steps"]
    assert all(after > before for before, after in itertools.pairwise(steps))
    assert rows["lag_max"][saved] == 0, "what is collected first is of the policies that were saved"


def test_nothing_of_a_run_is_left_running(tmp_path):
    settings = {**SMALL, "transport": "process", "workers": 2, "steps": 10_000_000}
    for delay in (0.0, 0.4):
        folder = tmp_path / f"run-{delay}"
        process = start("start", folder, settings)
        while not (folder / "metrics.csv").exists():
            assert process.poll() is None
            time.sleep(0.01)
        children = descendants_of(process.pid)
        assert len(children) == 3, "the collector and its workers"
        time.sleep(delay)
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(40) != 0
        assert time.monotonic() - begun < 30
        assert load_state(folder / "checkpoint.state")["counters"]["update"] >= 1
        deadline = time.monotonic() + 30
        while any(map(alive, children)):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    with pytest.raises((KeyboardInterrupt, MacurrError)):
        resume(str(folder), Stop(load_state(folder / "checkpoint.state")["counters"]["update"] + 2))

"""What breaks while a run goes on: one clear error, or another worker; and what was reached is kept."""

import os
import signal
import time

import numpy as np
import pytest

from macurr.errors import ConfigError, CurriculumError, TrainingError, TransportError
from macurr.persistence import load_state
from macurr.training import Listener, TrainConfig, resume, train
from macurr.training.collector import Collector
from macurr.training.collector_process import CollectorProcess
from macurr.training.ppo import PPO
from macurr.training.rundir import read_csv
from macurr.training.trainer import Trainer
from tests.support.processes import children_of

pytestmark = pytest.mark.timeout(120)


def settings(folder, **changes):
    given = {
        "out": str(folder / "run"),
        "env": "tests.support.training:Duel",
        "workers": 1,
        "envs_per_worker": 4,
        "rollout": 10,
        "steps": 4 * 10 * 12,
        "hidden": (8,),
        "levels": 20,
        "decorrelate": 0,
        "tensorboard": False,
        "seeds": 2,
        "matrix_seeds": 1,
        "report": False,
    }
    return TrainConfig.of(**{**given, **changes})


class At(Listener):
    """Does something after an update."""

    def __init__(self, update, what):
        self.update, self.what = update, what

    def updated(self, status):
        if status.update == self.update:
            self.what()


MODES = {
    "local": {"transport": "local"},
    "sync": {"async_rl": False},
    "async": {"async_rl": True},
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("what", "error", "words"),
    [
        ("raise", ConfigError, "FloatingPointError: the lever broke"),
        ("nan", (TrainingError, CurriculumError), "not finite"),
    ],
)
def test_an_environment_that_breaks_ends_the_run_with_all_that_was_reached(
    tmp_path, mode, what, error, words
):
    marker = tmp_path / "marker"
    config = settings(
        tmp_path,
        env="tests.support.training:Sick",
        env_args={"marker": str(marker), "what": what},
        steps=100_000,
        **MODES[mode],
    )
    begun = []

    def fall_ill():
        marker.touch()
        begun.append(time.monotonic())

    with pytest.raises(error, match=words):
        train(config, At(3, fall_ill))
    assert time.monotonic() - begun[0] < 30
    state = load_state(tmp_path / "run" / "checkpoint.state")
    rows = read_csv(tmp_path / "run" / "metrics.csv")
    reached = state["counters"]["update"]
    assert reached >= (3 if (mode, what) == ("sync", "raise") else 1)
    assert len(rows["update"]) >= reached
    arrays = state["learner"]["ppos"][0]["policy"]
    assert all(np.isfinite(array).all() for array in arrays.values())
    # Mended, it goes on.
    marker.unlink()
    with pytest.raises(KeyboardInterrupt):
        resume(config.out, At(reached + 2, _interrupt))


def _interrupt():
    raise KeyboardInterrupt


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_worker_that_is_killed_is_replaced(tmp_path, monkeypatch, mode):
    made = _collectors(monkeypatch, Collector if mode == "sync" else CollectorProcess)
    others = set(children_of(os.getpid()))  # such as another test's server of forks

    def kill():
        parent = os.getpid() if mode == "sync" else made[0]._child.pid
        os.kill(min(set(children_of(parent)) - others), signal.SIGKILL)

    result = train(settings(tmp_path, workers=2, envs_per_worker=2, **MODES[mode]), At(3, kill))
    assert made[0].restarted == 1
    rows = read_csv(result.run.metrics)
    assert rows["steps"][-1] >= 480
    assert np.isfinite(rows["policy_loss"]).all()
    assert set(np.diff([0.0, *rows["steps"]])) == {40.0}, "updates are as large as ever"


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_worker_that_hangs_is_replaced_where_that_is_asked_for(tmp_path, monkeypatch, caplog, mode):
    made = _collectors(monkeypatch, Collector if mode == "sync" else CollectorProcess)
    marker = tmp_path / "marker"
    env = {"env": "tests.support.training:Stuck", "env_args": {"marker": str(marker), "how": "once"}}
    sizes = {"workers": 2, "envs_per_worker": 2, "steps": 1_000_000_000}

    class Until(Listener):
        def updated(self, status):
            if made[0].restarted:
                raise KeyboardInterrupt

    marker.touch()
    with pytest.raises(KeyboardInterrupt):
        train(settings(tmp_path, worker_timeout=1.5, **sizes, **env, **MODES[mode]), Until())
    assert made[0].restarted == 1
    (told,) = caplog.messages
    assert "has not answered for" in told
    assert "It is replaced: number 1 of the 3 that worker_restarts allows" in told


@pytest.mark.parametrize("changes", [{"transport": "local"}, {"engine": "ray"}])
def test_nobody_is_timed_who_is_no_worker_process(tmp_path, changes):
    with pytest.raises(ConfigError, match="worker_timeout=5 is for worker processes"):
        settings(tmp_path, worker_timeout=5.0, **changes)


def test_workers_that_keep_dying_end_the_run(tmp_path, monkeypatch):
    made = _collectors(monkeypatch)

    class Killing(Listener):
        def updated(self, status):
            if status.update >= 2:
                os.kill(made[0]._vector.groups[0].process._process.pid, signal.SIGKILL)

    config = settings(tmp_path, worker_restarts=2, async_rl=False, steps=100_000)
    with pytest.raises(TransportError, match=r"died with status -9.*2 workers.*worker_restarts=2"):
        train(config, Killing())
    assert load_state(tmp_path / "run" / "checkpoint.state")["counters"]["update"] >= 3


def _collectors(monkeypatch, kind=Collector):
    made, build = [], kind.__init__

    def noted(collector, *args, **kwargs):
        build(collector, *args, **kwargs)
        made.append(collector)

    monkeypatch.setattr(kind, "__init__", noted)
    return made


def test_what_is_interrupted_while_an_update_is_written_down_is_made_again(tmp_path, monkeypatch):
    config = {"transport": "local", "snapshot_every": 1000, "checkpoint_minutes": 1000.0}
    whole = train(settings(tmp_path / "whole", **config)).run
    calls = []

    def broken(trainer, synced, report):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return teach(trainer, synced, report)

    teach = Trainer._teach
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_teach", broken)
        with pytest.raises(KeyboardInterrupt):
            train(settings(tmp_path / "parted", **config))
    run = resume(str(tmp_path / "parted" / "run")).run
    assert run.metrics.read_bytes() == whole.metrics.read_bytes()
    assert run.policy.read_bytes() == whole.policy.read_bytes()


def test_a_failure_in_the_middle_of_an_update_keeps_the_update_before(tmp_path, monkeypatch):
    update, calls = PPO.update, []

    def broken(ppo, batch, progress=0.0):
        calls.append(1)
        if len(calls) == 5:
            raise TrainingError("the loss is not finite")
        return update(ppo, batch, progress)

    monkeypatch.setattr(PPO, "update", broken)
    with pytest.raises(TrainingError):
        train(settings(tmp_path, transport="local"))
    reached = load_state(tmp_path / "run" / "checkpoint.state")["counters"]["update"]
    assert 1 <= reached <= 4

"""Asynchronous training: collection goes on while a thread trains, within bounds."""

import logging
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from macurr import make_multiprocessing_curriculum
from macurr.errors import TrainingError
from macurr.persistence import load_state
from macurr.training import TrainConfig
from macurr.training.background import BackgroundTraining
from macurr.training.batch import BatchPlan, batch_plan
from macurr.training.learner import Learner, LearnerReport
from macurr.training.loops import AsynchronousLoop
from macurr.training.policy import PolicySpec
from macurr.training.ppo import PPO
from macurr.training.rollout import merged
from macurr.training.rundir import read_csv
from macurr.training.trainer import Trainer
from tests.support.collecting import constant, rig, source

SPEC = PolicySpec(features=6, actions=3, kind="discrete", hidden=(8,), agents=2)


def config(folder, **changes):
    settings = {
        "out": str(folder / "run"),
        "workers": 1,
        "envs_per_worker": 8,
        "rollout": 8,
        "steps": 8 * 8 * 8,
        "hidden": (8,),
        "levels": 20,
        "decorrelate": 4,
        "tensorboard": False,
    }
    return TrainConfig.of(**{**settings, **changes})


def trained(folder, **changes):
    trainer = Trainer.start(config(folder, **changes))
    try:
        trainer.run()
    finally:
        trainer.directory.release()
    return trainer


def report_of(rollouts):
    return LearnerReport(rollouts, [], [], [{}], (0, 0.0, 0), 1.0, 1.0, 0, 0.0)


def wait_for(what, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.002)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("bound", [1, 2, 3])
def test_a_slow_learner_stops_collection(bound):
    sizes, looks = [], []
    with (
        make_multiprocessing_curriculum(constant()) as synced,
        rig(source("Duel"), synced, 6, splits=2, local=False) as made,
    ):
        collector = made.collector

        def slow(rollouts, progress):
            sizes.append(sum(rollout.samples for rollout in rollouts))
            if len(looks) == 4:
                return report_of(rollouts)
            wait_for(lambda: loop.background.full and collector.paused and not collector.busy)
            time.sleep(0.05)  # the frame that came last is being counted
            waiting, steps = loop.background.waiting, collector.take_steps()
            time.sleep(0.05)
            # A single group's rollout may be under way to the next dataset; nothing moves while everybody waits.
            looks.append((waiting, collector.take_steps(), steps > 0))
            return report_of(rollouts)

        learner = type("Slow", (), {"train": staticmethod(slow)})()
        plan = BatchPlan(total=24, per_policy=24, wanted=24, policies=1, rounds=1)
        loop = AsynchronousLoop(collector, learner, plan, lambda: 0.0, bound)
        for _ in range(4):
            loop.update()
        loop.close()
    assert set(sizes) == {24}
    assert [waiting for waiting, _, _ in looks[:4]] == [bound] * 4
    assert [moved for _, moved, _ in looks[:4]] == [0] * 4
    assert all(moved_before for _, _, moved_before in looks[:4]), "it goes on once there is room"


@pytest.mark.timeout(60)
def test_versions_tell_how_old_every_step_is(tmp_path):
    trainer = trained(tmp_path, steps=8 * 8 * 12)
    rows = read_csv(trainer.directory.metrics)
    steps = trainer.config.ppo.epochs * trainer.config.ppo.minibatches
    # Besides those that wait: one that is trained on, one that is being put together, and one that is on its way.
    bound = trainer.config.num_batches_to_accumulate + 3
    assert rows["lag_min"][0] == rows["lag_max"][0] == 0
    assert 0 < max(rows["lag_max"]) <= steps * bound
    assert all(
        low <= mean <= high
        for low, mean, high in zip(rows["lag_min"], rows["lag_mean"], rows["lag_max"], strict=True)
    )
    assert trainer.learner.versions == [steps * len(rows["update"])]
    assert rows["valid_fraction"] == rows["same_policy_fraction"] == [1.0] * len(rows["update"])
    # Datasets of any size: whole rollouts of a group, at least as many samples as asked for.
    assert all(taken >= trainer.plan.dataset for taken in np.diff([0.0, *rows["steps"]]))


@pytest.mark.timeout(60)
def test_datasets_of_any_size(tmp_path):
    trainer = trained(tmp_path, batch_size=29, minibatches=3, splits=4)
    assert trainer.plan.dataset == 87
    taken = np.diff([0.0, *read_csv(trainer.directory.metrics)["steps"]])
    assert set(taken) == {96.0}, "six rollouts of 2 environments x 8 steps are the first to reach 87"


def collected(learner, rounds, versions):
    """Rollouts of a learner's policies that pretend to be of some version."""
    with make_multiprocessing_curriculum(constant()) as synced, rig(source("Duel"), synced, 10) as made:
        made.live.policies[:] = learner.policies
        made.live.versions[:] = versions
        return made.collect(rounds)


def learner(**changes):
    settings = TrainConfig.of(envs_per_worker=4, workers=1, hidden=(8,), epochs=1, minibatches=2, **changes)
    return Learner(SPEC, settings, torch.Generator().manual_seed(3))


def test_steps_that_are_too_old_are_left_out(caplog):
    made = learner(max_policy_lag=5)
    made.versions = [105]
    [old, new] = collected(made, 2, [100])
    new.versions[:] = 101
    old.versions[:2] = 103
    with caplog.at_level(logging.WARNING, logger="macurr"):
        report = made.train([old, new])
    assert (report.valid_fraction, report.same_policy_fraction) == (0.6, 1.0)
    assert report.lags == (2, pytest.approx((0.5 * 4 + 0.1 * 2) / 0.6), 4)  # what was trained on
    assert report.samples == 48
    assert report.counted[0][:, 0].tolist() == [True] * 2 + [False] * 8
    assert report.counted[1].all()
    assert made.versions == [107]
    assert not caplog.records
    new.versions[1:] = 2
    with caplog.at_level(logging.WARNING, logger="macurr"):
        made.train([new])
    assert "40 of 40 steps for policy 0 are older than max_policy_lag=5" in caplog.text


def test_nothing_but_old_steps_trains_nothing():
    made = learner(max_policy_lag=5)
    rollouts = collected(made, 1, [0])
    made.replaced(0)
    assert made.versions == [6]
    before = made.policies[0].arrays()
    report = made.train(rollouts)
    assert (report.metrics, report.samples, report.valid_fraction) == ([{}], 0, 0.0)
    assert made.versions == [6]
    assert all(np.array_equal(before[name], array) for name, array in made.policies[0].arrays().items())


def test_each_policy_has_a_discount_of_its_own():
    made = learner(num_policies=2, mapping="random")
    made.ppos[1].settings.gamma = 0.5
    with (
        make_multiprocessing_curriculum(constant()) as synced,
        rig(source("Duel"), synced, 10, policies=2, mapping="random", episodes=1) as played,
    ):
        played.live.policies[:] = made.policies
        rollouts = played.collect()
    whole = merged(rollouts)
    assert {0, 1} == set(whole.policies.ravel().tolist())
    report = made.train(rollouts)
    first, second = whole.advantages(0.97, 0.95), whole.advantages(0.5, 0.95)
    wanted = np.where(whole.policies == 0, first, second)
    assert np.array_equal(np.concatenate(report.estimates, axis=1), wanted)


@pytest.mark.timeout(60)
def test_nobody_acts_by_weights_that_are_half_replaced():
    settings = TrainConfig.of(hidden=(64, 64), num_policies=2, mapping="random")
    made = Learner(SPEC, settings, torch.Generator(), copies=True)
    stop = threading.Event()

    def train():
        number = 0
        while not stop.is_set():
            number += 1
            with torch.no_grad():
                for policy in made.policies:
                    for parameter in policy.parameters():
                        parameter.fill_(number)
            made.versions = [number] * 2
            made.publish()

    made.versions = [0, 0]
    with torch.no_grad():
        for policy in made.policies:
            for parameter in policy.parameters():
                parameter.zero_()
    made.publish()
    thread = threading.Thread(target=train)
    thread.start()
    try:
        seen = set()
        for _ in range(2000):
            with made.acting() as crew:
                values = [
                    float(p.detach().flatten()[-1]) for policy in crew.policies for p in policy.parameters()
                ]
                assert values == [float(crew.versions[0])] * len(values)
                assert crew.versions[0] == crew.versions[1]
            seen.add(values[0])
    finally:
        stop.set()
        thread.join()
    assert len(seen) > 1


@pytest.mark.timeout(30)
def test_a_failure_of_the_thread_reaches_whoever_feeds_it():
    done = threading.Event()

    def train(rollouts, progress):
        if rollouts:
            raise TrainingError("not finite")
        done.set()
        return report_of(rollouts)

    background = BackgroundTraining(train, 2)
    background.put([], 0.0)
    background.put([object()], 0.0)
    assert done.wait(20)
    wait_for(lambda: background._failure is not None)
    assert len(background.take()) == 1, "what was done before is told first"
    for _ in range(2):
        with pytest.raises(TrainingError, match="not finite"):
            background.take()
    assert background.stop(20)


@pytest.mark.timeout(30)
def test_an_end_does_not_wait_for_what_was_not_begun():
    begun, go_on = threading.Event(), threading.Event()

    def train(rollouts, progress):
        begun.set()
        go_on.wait(20)
        return report_of(rollouts)

    background = BackgroundTraining(train, 3)
    for _ in range(3):
        background.put([], 0.0)
    assert begun.wait(20)
    assert not background.stop(0.05), "it is still at the first"
    go_on.set()
    assert background.stop(20)
    assert len(background.take()) == 1
    assert background.waiting == 0


@pytest.mark.timeout(60)
def test_a_loss_that_is_not_finite_ends_the_run_with_the_last_good_state(tmp_path, monkeypatch):
    update, calls = PPO.update, []

    def broken(ppo, batch, progress=0.0):
        calls.append(ppo.policy.arrays())
        if len(calls) == 4:
            batch = replace(batch, advantages=torch.full_like(batch.advantages, torch.nan))
        return update(ppo, batch, progress)

    monkeypatch.setattr(PPO, "update", broken)
    begun = time.monotonic()
    with pytest.raises(TrainingError, match="advantages are not finite"):
        trained(tmp_path, steps=10_000_000)
    assert time.monotonic() - begun < 30
    state = load_state(tmp_path / "run" / "checkpoint.state")
    assert state["counters"]["update"] == 3
    saved = state["learner"]["ppos"][0]["policy"]
    assert all(np.array_equal(calls[3][name], array) for name, array in saved.items())
    assert len(read_csv(tmp_path / "run" / "metrics.csv")["update"]) == 3


@pytest.mark.timeout(60)
def test_levels_are_scored_by_what_was_trained_on(tmp_path, monkeypatch):
    told = []
    score = "macurr.training.trainer.score_message"

    def heard(settings, scored, versions=()):
        told.extend(zip(scored, versions, strict=True))

    monkeypatch.setattr(score, heard)
    trainer = trained(tmp_path, env="tests.support.training:Duel", steps=8 * 8 * 10)
    assert len(told) > 20
    versions = [version for _, version in told]
    assert versions[0] == 0
    assert max(versions) > 0
    assert max(versions) <= trainer.learner.versions[0]


def test_any_number_of_samples_is_a_dataset():
    plan = batch_plan(TrainConfig.of(batch_size=777, minibatches=2), [1] * 128)
    assert plan.dataset == 1554

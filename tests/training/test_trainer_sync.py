"""Synchronous training: exactly so many rollouts of everybody, then an update of every policy."""

import csv
from fractions import Fraction

import numpy as np
import pytest
import torch

from macurr.errors import ConfigError
from macurr.opponents import AgentPool
from macurr.training import TrainConfig
from macurr.training.batches import Sequences
from macurr.training.envs import EnvSource
from macurr.training.learner import Learner
from macurr.training.ppo import PPO
from macurr.training.rundir import read_csv
from macurr.training.session import probe, seats_of
from macurr.training.trainer import Trainer

APPLES, TAG, SPREAD = "macurr.envs.apple_race_v0", "mpe2.simple_tag_v3", "mpe2.simple_spread_v3"


def config(folder, **changes):
    settings = {
        "out": str(folder / "run"),
        "transport": "local",
        "workers": 1,
        "envs_per_worker": 4,
        "rollout": 8,
        "steps": 4 * 8 * 4,
        "hidden": (8,),
        "recurrent_size": 4,
        "epochs": 2,
        "minibatches": 2,
        "levels": 20,
        "snapshot_every": 2,
        "decorrelate": 4,
        "tensorboard": False,
    }
    return TrainConfig.of(**{**settings, **changes})


def trained(folder, **changes):
    trainer = Trainer.start(config(folder, **changes))
    trainer.run()
    trainer.directory.release()
    return trainer


class Spy:
    """Looks at every dataset before the learner gets it."""

    def __init__(self, monkeypatch):
        self.seen = []
        train = Learner.train

        def watched(learner, rollouts, progress=0.0):
            self.seen.append((list(learner.versions), rollouts))
            return train(learner, rollouts, progress)

        monkeypatch.setattr(Learner, "train", watched)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"splits": 2, "batch_size": 48},  # 96 samples: three rounds of 32
        {
            "num_policies": 2,
            "mapping": "env",
            "batch_size": 32,
            "env": TAG,
            "sides": "role",
            "envs_per_worker": 4,
        },
        {"num_policies": 3, "mapping": "random", "mapping_episodes": 1, "batch_size": 16},
        {"transport": "process", "workers": 2, "envs_per_worker": 2, "splits": 2, "async_rl": False},
    ],
)
def test_every_step_is_of_the_version_that_is_trained(tmp_path, monkeypatch, changes):
    spy = Spy(monkeypatch)
    trainer = trained(tmp_path, **changes)
    plan = trainer.plan
    groups = trainer.config.workers * trainer.config.num_splits
    assert len(spy.seen) >= 2
    for versions, rollouts in spy.seen:
        assert [rollout.number for rollout in rollouts] == [*range(groups)] * plan.rounds
        assert sum(rollout.samples for rollout in rollouts) == plan.dataset
        for rollout in rollouts:
            wanted = np.array(versions)[rollout.policies]
            assert np.array_equal(rollout.versions[rollout.valid], wanted[rollout.valid])
    assert spy.seen[-1][0] != spy.seen[0][0]
    rows = read_csv(trainer.directory.metrics)
    for name in ("lag_min", "lag_mean", "lag_max"):
        assert rows[name] == [0.0] * len(spy.seen)
    assert rows["valid_fraction"] == [1.0] * len(spy.seen)


def test_an_update_takes_a_whole_number_of_rounds(tmp_path):
    trainer = trained(tmp_path, splits=2, batch_size=48, steps=192)
    assert (trainer.plan.rounds, trainer.plan.per_policy) == (3, Fraction(32))
    assert read_csv(trainer.directory.metrics)["steps"] == [96.0, 192.0]
    # Two epochs of two minibatches, twice.
    assert trainer.learner.versions == [8]


def test_sizes_that_do_not_fit_are_refused_before_anything_starts(tmp_path):
    with pytest.raises(ConfigError, match=r"R = 32 .*S / R = 5/4 \(1\.25\).*batch_size=16 or 32"):
        Trainer.start(config(tmp_path, batch_size=20))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("recurrent", ["none", "gru"])
@pytest.mark.parametrize(
    ("env", "more"),
    [
        (APPLES, {"mapping": "random", "mapping_episodes": 1, "num_policies": 3}),
        ("tests.support.training:Ragged", {"mapping": "random", "mapping_episodes": 1, "num_policies": 2}),
        (TAG, {"mapping": "role", "sides": "role", "num_policies": 2}),
    ],
)
def test_no_step_of_another_policy_enters_a_loss(tmp_path, monkeypatch, env, more, recurrent):
    """What a policy is trained on it would do itself with just the probability that was noted down."""
    update, seen = PPO.update, []

    def watched(ppo, batch, progress=0.0):
        with torch.no_grad():
            flat = batch.targets()
            log_probs, _, values = ppo.policy.evaluate(batch, flat)
        assert isinstance(batch, Sequences) == (recurrent != "none")
        assert torch.allclose(log_probs, flat.log_probs, atol=1e-5)
        assert torch.allclose(values, flat.values, atol=1e-4)
        seen.append(len(flat))
        return update(ppo, batch, progress)

    monkeypatch.setattr(PPO, "update", watched)
    trainer = trained(tmp_path, env=env, recurrent=recurrent, rollout=16, steps=4 * 16 * 3, **more)
    rows = read_csv(trainer.directory.metrics)
    assert len(seen) > len(rows["update"])
    assert sum(version > 0 for version in trainer.learner.versions) >= 2


def test_where_everybody_learns_there_is_no_win_rate(tmp_path):
    trainer = trained(tmp_path, env=SPREAD, opponents="none", centralised_critic=True, rollout=25, steps=300)
    with trainer.directory.metrics.open(newline="") as lines:
        [*rows] = csv.DictReader(lines)
    assert not {"win", "draw", "loss"} & set(rows[0])
    assert trainer.status().win_rate is None
    assert float(rows[-1]["learner_return"]) < 0
    # Three agents, four environments, 25 steps.
    assert trainer.plan.total == 300
    snapshots = AgentPool(trainer.directory.snapshots, create=False)
    assert snapshots.metadata(snapshots.latest)["policies"] == 1
    assert all(name.startswith("policy_0.") for name in snapshots.get(snapshots.latest))


def test_roles_have_policies_of_their_own(tmp_path):
    trainer = trained(tmp_path, env=TAG, sides="role", mapping="role", num_policies=2, rollout=25, steps=300)
    rows = read_csv(trainer.directory.metrics)
    # Whoever chases is rewarded for what the chased is punished for.
    assert all(chase >= 0 for chase in rows["learner_return_p0"])
    assert all(flee <= 0 for flee in rows["learner_return_p1"])
    mean = (np.array(rows["policy_loss_p0"]) + np.array(rows["policy_loss_p1"])) / 2
    assert np.allclose(rows["policy_loss"], mean)
    snapshots = AgentPool(trainer.directory.snapshots, create=False)
    names = snapshots.get(snapshots.latest)
    assert {name.partition(".")[0] for name in names} == {"policy_0", "policy_1"}
    assert snapshots.metadata(snapshots.latest)["policies"] == 2


def test_one_side_of_everybody_has_nobody_to_play(tmp_path):
    with pytest.raises(ConfigError, match="opponents='none'"):
        Trainer.start(config(tmp_path, env=SPREAD, sides="role"))


def test_a_policy_that_nobody_would_play_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"2 of them \(adversary, agent\): 1 of num_policies=3 would never"):
        Trainer.start(config(tmp_path, env=TAG, mapping="role", num_policies=3))
    assert not (tmp_path / "run").exists()


def test_policies_that_alternate_over_the_environments_learn_from_every_seat(tmp_path):
    settings = config(tmp_path, envs_per_worker=8, num_policies=2, mapping="env")
    layout = probe(EnvSource(settings.env))
    seats = [own for (own,) in seats_of(settings, layout)]
    assert [sorted(seats[policy::2]) for policy in range(2)] == [[0, 0, 1, 1]] * 2


def test_where_a_second_goes(tmp_path):
    trainer = trained(tmp_path, transport="process", async_rl=False)
    rows = read_csv(trainer.directory.timing)
    parts = [rows[name] for name in ("env_wait", "inference", "train", "curriculum", "other")]
    assert np.allclose(np.sum(parts, axis=0), np.diff([0.0, *rows["seconds"]]), rtol=1e-3)
    assert all(min(part) > 0 for part in parts)
    assert min(rows["collect_steps_per_second"]) > min(rows["steps_per_second"])
    assert min(rows["train_samples_per_second"]) > 0


@pytest.mark.parametrize(
    ("env", "more"),
    [
        ("tests.support.training:Reacher", {"normalize_observations": True, "normalize_returns": True}),
        ("tests.support.training:Masked", {"recurrent": "lstm"}),
        ("pettingzoo.classic.connect_four_v3", {"recurrent": "gru", "num_policies": 2, "mapping": "random"}),
        (
            SPREAD,
            {"opponents": "none", "centralised_critic": True, "recurrent": "lstm", "normalize_returns": True},
        ),
        (TAG, {"sides": "role", "curriculum": "joint", "score": "max_mc"}),
        (TAG, {"opponents": "self", "num_policies": 4, "mapping": "env", "curriculum": "dr"}),
    ],
)
def test_kinds_of_training_come_to_finite_numbers(tmp_path, env, more):
    trainer = trained(tmp_path, env=env, rollout=16, steps=4 * 16 * 3, **more)
    rows = read_csv(trainer.directory.metrics)
    assert len(rows["update"]) == 3
    losses = [
        rows[name] for name in ("policy_loss", "value_loss", "entropy", "grad_norm", "curriculum_entropy")
    ]
    assert np.isfinite(losses).all()
    assert rows["learning_rate"][0] > rows["learning_rate"][-1]


def test_there_is_no_win_rate_before_a_match_is_over(tmp_path):
    long = {"env": "tests.support.training:Duel", "env_args": {"length": 20}, "decorrelate": 0}
    trainer = trained(tmp_path / "short", steps=4 * 8 * 2, **long)  # 16 steps of each environment
    assert (trainer.records.episodes, trainer.status().win_rate) == (0, None)
    trainer = trained(tmp_path / "longer", steps=4 * 8 * 3, **long)
    assert trainer.records.episodes == 4
    assert 0.0 <= trainer.status().win_rate <= 1.0

"""The learner's update: by hand, bit by bit from a state, and refusing what would ruin it."""

import copy
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from macurr.errors import StateError, TrainingError, UsageError
from macurr.training import PPO, Policy, PPOConfig
from macurr.training.batches import Samples, Sequences
from macurr.training.policy import PolicySpec
from macurr.training.ppo import PPOSettings

DISCRETE = PolicySpec(features=4, actions=3, kind="discrete", hidden=(8,))
FULL = PolicySpec(
    features=4,
    actions=2,
    kind="continuous",
    hidden=(8, 8),
    agents=1,
    recurrent="lstm",
    recurrent_size=5,
    normalize_observations=True,
    normalize_returns=True,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def bandit(policy, n, seed):
    """Observation-free task: action 2 is right."""
    seen = torch.randn(n, 4, generator=generator(seed))
    step = policy.step(seen, None, None, generator(seed + 1))
    rewards = (step.actions == 2).float()
    return Samples(seen, None, step.actions, step.log_probs, step.values, rewards - step.values)


def played(policy, steps, streams, seed):
    """Sequences of a policy with a memory, with pauses and fresh starts."""
    noise = generator(seed)
    seen = torch.randn(steps, streams, 4, generator=noise)
    starts = torch.rand(steps, streams, generator=noise) < 0.2
    valid = torch.rand(steps, streams, generator=noise) < 0.8
    state = first = torch.randn(streams, policy.spec.state_size, generator=noise)
    taken = []
    for t in range(steps):
        state = torch.where(starts[t, :, None], torch.zeros_like(state), state)
        step = policy.step(seen[t], None, state, noise)
        state = torch.where(valid[t, :, None], step.state, state)
        taken.append(step)
    actions, log_probs, values = (
        torch.stack([getattr(step, name) for step in taken]) for name in ("actions", "log_probs", "values")
    )
    advantages = torch.randn(steps, streams, generator=noise)
    return Sequences(seen, None, actions, log_probs, values, advantages, valid, starts, first)


def ppo_of(spec=DISCRETE, seed=0, **given):
    return PPO(Policy(spec, generator(seed)), PPOConfig(**given), generator(seed + 1))


def everything(ppo):
    """All numbers of a learner."""
    state = ppo.state_dict()
    arrays = {("policy", k): v for k, v in state["policy"].items()}
    for name, held in state["moments"].items():
        arrays.update({(name, k): v for k, v in held.items()})
    return arrays, state["settings"], state["sgd_steps"]


def same(one, other):
    (a, *rest), (b, *others) = everything(one), everything(other)
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a) and rest == others


# Learning


def test_updates_find_the_better_action():
    ppo = ppo_of(learning_rate=0.01, anneal=False)
    for i in range(25):
        metrics = ppo.update(bandit(ppo.policy, 256, 10 * i))
    with torch.no_grad():
        chosen = torch.softmax(ppo.policy.actor(torch.zeros(1, 4))[0], -1)[0, 2]
    assert chosen > 0.9
    assert ppo.sgd_steps == 25 * 4 * 4
    assert set(metrics) == {
        "policy_loss",
        "value_loss",
        "entropy",
        "approx_kl",
        "clip_fraction",
        "grad_norm",
        "explained_variance",
        "learning_rate",
    }
    assert all(math.isfinite(value) for value in metrics.values())


@pytest.mark.parametrize("spec", [DISCRETE, FULL])
def test_the_first_step_has_ratio_one(spec):
    ppo = ppo_of(spec, learning_rate=1e-12, epochs=1, minibatches=1)
    batch = bandit(ppo.policy, 64, 0) if spec is DISCRETE else played(ppo.policy, 6, 9, 0)
    metrics = ppo.update(batch)
    assert metrics["approx_kl"] == pytest.approx(0, abs=1e-6)
    assert metrics["clip_fraction"] == 0


def test_one_gradient_step_by_hand():
    # Two logits and one value without any features: policy and critic are their biases alone.
    policy = Policy(PolicySpec(1, 2, "discrete", ()), generator())
    with torch.no_grad():
        for network in (policy.actor, policy.critic):
            network.last.weight.zero_()
            network.last.bias.zero_()
        policy.critic.last.bias.fill_(1.0)
    settings = PPOSettings(learning_rate=0.1, anneal=False, epochs=1, minibatches=1, entropy=0.0, value=0.5)
    settings.max_grad_norm = 1e9
    ppo = PPO(policy, settings, generator())
    # Both actions are as likely; action 0 was taken once and better than expected, action 1 once and worse.
    half = math.log(0.5)
    batch = Samples(
        torch.ones(2, 1),
        None,
        torch.tensor([0, 1]),
        torch.tensor([half, half]),
        torch.ones(2),
        torch.tensor([3.0, -1.0]),
    )
    metrics = ppo.update(batch)
    # Normalised advantages are +-1/sqrt(2); the ratios are 1, so that the loss is 0. The value's targets are 4 and 0.
    assert metrics["policy_loss"] == pytest.approx(0, abs=1e-6)
    assert metrics["value_loss"] == pytest.approx(0.5 * (9 + 1) / 2)
    assert metrics["entropy"] == pytest.approx(math.log(2))
    # d loss / d logits = -(1 / sqrt 2) / 2 and its opposite, for the bias and for the weight of the feature 1;
    # d loss / d value = 0.5 * (1 - 2), likewise.
    slope = 1 / math.sqrt(2) / 2
    assert metrics["grad_norm"] == pytest.approx(math.sqrt(4 * slope**2 + 2 * 0.5**2), rel=1e-5)
    # Adam's first step is as long as the learning rate, whatever the gradient.
    assert policy.actor.last.bias.tolist() == pytest.approx([0.1, -0.1], rel=1e-3)
    assert policy.critic.last.bias.item() == pytest.approx(1.1, rel=1e-3)
    assert metrics["explained_variance"] == pytest.approx(0)


def test_steps_that_do_not_count_change_nothing():
    one, other = (ppo_of(FULL, minibatches=2) for _ in range(2))
    batch = played(one.policy, 6, 8, 0)
    changed = copy.deepcopy(batch)
    for name in ("observations", "actions", "log_probs", "values", "advantages"):
        getattr(changed, name)[~batch.valid] = 7.0
    one.update(batch)
    other.update(changed)
    assert same(one, other)


def test_streams_of_which_nothing_counts_are_left_out():
    one, other = (ppo_of(FULL, minibatches=2) for _ in range(2))
    batch = played(one.policy, 6, 8, 0)
    batch.valid[:, 3] = False
    one.update(batch)
    other.update(batch.pick(torch.tensor([0, 1, 2, 4, 5, 6, 7])))
    assert same(one, other)
    before = everything(one)[2]
    batch.valid[:] = False
    assert one.update(batch) == {}
    assert one.sgd_steps == before


def test_a_step_that_moved_the_memory_counts_for_the_memory_where_it_is_not_trained_on():
    policy = ppo_of(FULL).policy
    batch = played(policy, 6, 8, 0)
    kept = batch.valid.clone()
    kept[:3] = False
    old = Sequences(**{**vars(batch), "valid": kept})
    assert torch.equal(old.acts, batch.valid)
    with torch.no_grad():
        log_probs, *_ = policy.evaluate(old, old.targets())
    assert torch.allclose(log_probs, old.targets().log_probs, atol=1e-5)


def test_value_clipping_holds_the_error_of_a_value_that_moved_far():
    policy = Policy(PolicySpec(1, 2, "discrete", ()), generator())
    with torch.no_grad():
        policy.critic.last.weight.zero_()
        policy.critic.last.bias.fill_(5.0)
    batch = Samples(
        torch.zeros(1, 1), None, torch.tensor([0]), torch.tensor([-0.7]), torch.zeros(1), torch.tensor([6.0])
    )
    # Now 5, was 0, wanted 6: unclipped (5 - 6)^2, clipped to 0.5 it is (0.5 - 6)^2, and the larger one counts.
    for clip, wanted in ((None, 0.5), (0.5, 0.5 * 5.5**2), (10.0, 0.5)):
        ppo = PPO(copy.deepcopy(policy), PPOConfig(value_clip=clip, epochs=1, minibatches=1), generator())
        assert ppo.update(batch)["value_loss"] == pytest.approx(wanted)


def test_the_critic_learns_normalised_returns_and_its_values_stay_in_units_of_reward():
    spec = PolicySpec(4, 3, "discrete", (8,), normalize_returns=True)
    ppo = PPO(Policy(spec, generator()), PPOConfig(learning_rate=0.01, epochs=10, anneal=False), generator())
    seen = torch.randn(256, 4, generator=generator())
    returns = 1000 + 200 * seen[:, 0]
    for _ in range(12):
        step = ppo.policy.step(seen, None, None, generator())
        batch = Samples(seen, None, step.actions, step.log_probs, step.values, returns - step.values)
        metrics = ppo.update(batch)
    assert metrics["value_loss"] < 1, "in deviations"
    assert ppo.policy.values(seen).mean().item() == pytest.approx(1000, abs=30)
    assert metrics["explained_variance"] > 0.8


def test_observations_are_taken_in_once_an_update_is_over():
    ppo = ppo_of(FULL)
    batch = played(ppo.policy, 6, 8, 0)
    ppo.update(batch)
    counted = batch.observations[batch.valid][:, :-1].double()
    normaliser = ppo.policy.normaliser
    assert normaliser.count.item() == len(batch) == len(counted)
    assert torch.allclose(normaliser.mean, counted.mean(dim=0))
    assert torch.allclose(normaliser.var, counted.var(dim=0, correction=0))


# Minibatches


def plan(units, unit=1, **given):
    return [(rows.tolist(), ends) for rows, ends in ppo_of(**given)._plan(units, unit)]


def joined(parts):
    return [row for rows, _ in parts for row in rows]


def test_parts_of_an_epoch_hold_each_step_once():
    parts = plan(10, epochs=3, minibatches=4)
    assert [len(rows) for rows, _ in parts] == [3, 3, 2, 2] * 3
    assert [ends for _, ends in parts] == [False, False, False, True] * 3
    for epoch in range(3):
        assert sorted(joined(parts[4 * epoch : 4 * epoch + 4])) == list(range(10))
    assert [len(rows) for rows, _ in plan(6, epochs=1, minibatches=4)] == [2, 2, 1, 1], "as many as asked for"
    assert len(plan(2, epochs=1, minibatches=4)) == 2, "a batch smaller than that has fewer"


def test_minibatches_are_of_exactly_the_size_asked_for():
    def sized(units, unit, size, epochs):
        ppo = ppo_of(epochs=epochs)
        ppo.settings.batch_size = size
        return [(rows.tolist(), ends) for rows, ends in ppo._plan(units, unit)]

    exact = sized(12, 1, 4, 2)
    assert [len(rows) for rows, _ in exact] == [4] * 6
    assert [ends for _, ends in exact] == [False, False, True] * 2
    assert sorted(joined(exact[:3])) == list(range(12))
    # 3 epochs of 10 steps are 7 minibatches of 4 and 2 steps that are left; none is left out twice.
    odd = sized(10, 1, 4, 3)
    assert [len(rows) for rows, _ in odd] == [4] * 7
    assert [ends for _, ends in odd] == [False, False, True, False, True, False, False]
    counts = np.bincount(joined(odd), minlength=10)
    assert counts.sum() == 28
    assert counts.min() >= 2
    # Fewer than a minibatch: all of them. And streams of 5 steps: 3 of them make 15.
    assert [len(rows) for rows, _ in sized(3, 1, 4, 2)] == [3, 3]
    assert [len(rows) for rows, _ in sized(6, 5, 15, 1)] == [3, 3]


# Settings


def test_annealing_and_early_stop():
    ppo = ppo_of(learning_rate=1.0)
    assert [ppo._set_rate(p) for p in (0, 0.5, 1, 7)] == pytest.approx([1, 0.55, 0.1, 0.1])
    stopped = ppo_of(learning_rate=0.3, target_kl=1e-4, epochs=50, minibatches=2)
    stopped.update(bandit(stopped.policy, 64, 0))
    assert stopped.sgd_steps == 2


def test_settings_may_be_changed_between_updates():
    config = PPOConfig(learning_rate=0.5, anneal=False)
    ppo = PPO(Policy(DISCRETE, generator()), config, generator())
    ppo.settings.learning_rate = 0.25
    ppo.settings.entropy = 0.0
    assert ppo.update(bandit(ppo.policy, 64, 0))["learning_rate"] == 0.25
    assert config.learning_rate == 0.5, "a copy is changed"


def test_a_single_sample_is_enough():
    ppo = ppo_of()
    metrics = ppo.update(bandit(ppo.policy, 1, 0))
    assert all(math.isfinite(value) for value in metrics.values())


# State


@pytest.mark.parametrize("spec", [DISCRETE, FULL])
def test_a_learner_goes_on_from_its_state_bit_by_bit(spec):
    def batch(ppo, seed):
        return bandit(ppo.policy, 64, seed) if spec is DISCRETE else played(ppo.policy, 6, 8, seed)

    ppo, other = ppo_of(spec, 0, minibatches=2), ppo_of(spec, 7)
    ppo.settings.clip = 0.13
    for seed in (1, 2):
        ppo.update(batch(ppo, seed))
    other.load_state_dict(copy.deepcopy(ppo.state_dict()))
    other._generator.set_state(ppo._generator.get_state())
    assert same(ppo, other)
    assert (other.settings.clip, other.sgd_steps) == (0.13, ppo.sgd_steps)
    for seed in (3, 4):
        assert ppo.update(batch(ppo, seed)) == other.update(batch(other, seed))
    assert same(ppo, other)


def test_a_state_is_plain_numbers_and_arrays():
    ppo = ppo_of(FULL)
    fresh = ppo.state_dict()
    assert all(held == {} for held in fresh["moments"].values())
    ppo.update(played(ppo.policy, 4, 4, 0))
    state = ppo.state_dict()
    assert state["settings"] == asdict(ppo.settings)
    assert set(state) == {"policy", "moments", "settings", "sgd_steps"}
    assert all(
        isinstance(array, np.ndarray)
        for held in (state["policy"], *state["moments"].values())
        for array in held.values()
    )
    # Back to a state from before the first step: no moments are left over.
    ppo.load_state_dict(fresh)
    assert all(held == {} for held in ppo.state_dict()["moments"].values())


@pytest.mark.parametrize(
    "spoil",
    [
        lambda state: state.pop("moments"),
        lambda state: state.pop("policy"),
        lambda state: state["moments"].pop("actor.0.weight"),
        lambda state: state["moments"]["actor.0.weight"].pop("exp_avg"),
        lambda state: state["moments"]["actor.0.weight"].update(exp_avg=np.zeros(3)),
        lambda state: state["policy"].pop("actor.0.weight"),
        lambda state: state["policy"].update({"actor.0.weight": np.zeros(3)}),
        lambda state: state["settings"].update(unheard_of=1),
        lambda state: state.update(sgd_steps="many"),
        lambda state: state.update(moments=None),
    ],
)
def test_a_damaged_state_is_refused_and_nothing_is_changed(spoil):
    ppo, other = ppo_of(seed=0), ppo_of(seed=5)
    ppo.update(bandit(ppo.policy, 64, 0))
    other.update(bandit(other.policy, 64, 1))
    state, before = ppo.state_dict(), everything(other)
    spoil(state)
    with pytest.raises(StateError):
        other.load_state_dict(state)
    after = everything(other)
    assert all(np.array_equal(before[0][k], after[0][k]) for k in before[0])
    assert before[1:] == after[1:]


# What would ruin it


def test_steps_are_for_policies_without_a_memory_and_sequences_for_those_with_one():
    plain, remembering = ppo_of(), ppo_of(FULL)
    with pytest.raises(UsageError, match="recurrent='none' was given Sequences"):
        plain.update(played(remembering.policy, 3, 2, 0))
    with pytest.raises(UsageError, match="recurrent='lstm' was given Samples"):
        remembering.update(bandit(plain.policy, 8, 0))


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("advantages", "rewards"),
        ("observations", "what the environment shows"),
        ("log_probs", "blown up"),
        ("values", "normalize_returns"),
    ],
)
@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_batch_that_is_not_finite_is_refused_before_anything_is_touched(name, advice, number):
    ppo = ppo_of()
    ppo.update(bandit(ppo.policy, 64, 0))
    before, order = everything(ppo), ppo._generator.get_state()
    batch = bandit(ppo.policy, 64, 1)
    getattr(batch, name)[5] = number
    with pytest.raises(TrainingError, match=rf"\d of .* {name} .*{advice}"):
        ppo.update(batch)
    after = everything(ppo)
    assert all(np.array_equal(before[0][k], after[0][k]) for k in before[0])
    assert before[1:] == after[1:]
    assert torch.equal(order, ppo._generator.get_state())


def test_large_numbers_are_not_taken_for_infinite_ones_though_their_sum_is():
    spec = PolicySpec(4, 3, "discrete", (8,), normalize_observations=True)
    ppo = ppo_of(spec)  # which clips them to 10
    batch = bandit(ppo.policy, 64, 0)
    batch.observations[:] = 3e38
    assert not math.isfinite(batch.observations.sum())
    assert math.isfinite(ppo.update(batch)["policy_loss"])


def test_a_last_step_that_carries_weights_out_of_range_undoes_the_whole_update():
    # Loss and gradient of the only step are finite; what Adam makes of a step size of 1e38 and 64 units is not.
    policy = Policy(replace(DISCRETE, hidden=(64,)), generator())
    settings = PPOConfig(learning_rate=3e38, epochs=1, minibatches=1, anneal=False)
    learner = PPO(policy, settings, generator(1))
    before = copy.deepcopy(learner.state_dict())
    batch = bandit(policy, 32, 2)
    with pytest.raises(
        TrainingError, match=r"After gradient step 1 the weights actor.* not finite.*learning rate"
    ):
        learner.update(batch)
    after = learner.state_dict()
    assert after["sgd_steps"] == 0
    for name, array in before["policy"].items():
        np.testing.assert_array_equal(after["policy"][name], array)


@pytest.mark.parametrize("spec", [DISCRETE, FULL])
def test_a_gradient_that_is_not_finite_undoes_the_whole_update(spec):
    ppo = ppo_of(spec, minibatches=2)
    batch = bandit(ppo.policy, 64, 0) if spec is DISCRETE else played(ppo.policy, 6, 8, 0)
    ppo.update(batch)
    before, order = everything(ppo), ppo._generator.get_state()
    # The first gradient step sends the weights to infinity; the second sees it.
    ppo.settings.learning_rate = math.inf
    with pytest.raises(TrainingError, match=r"Gradient step \d+ is not finite.*learning rate"):
        ppo.update(batch)
    ppo.settings.learning_rate = before[1]["learning_rate"]
    after = everything(ppo)
    assert all(np.array_equal(before[0][k], after[0][k]) for k in before[0])
    assert before[2] == after[2]
    assert torch.equal(order, ppo._generator.get_state())
    assert math.isfinite(ppo.update(batch)["policy_loss"]), "training may go on with other settings"

"""The policy, its updates, and the opponents that are made of it."""

import math

import numpy as np
import pytest
import torch

from macurr.errors import StateError
from macurr.training import PPO, Policy, PPOConfig
from macurr.training.opponents import RANDOM, PolicyBank
from macurr.training.policy import PolicySpec, entropy, log_prob, sample
from macurr.training.ppo import Samples

DISCRETE = PolicySpec(features=4, actions=3, kind="discrete", hidden=(8,))
GAUSSIAN = PolicySpec(features=4, actions=2, kind="continuous", hidden=(8, 8))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_masked_actions_are_never_chosen_and_have_no_share_of_the_entropy():
    params = torch.tensor([[5.0, 0.0, 0.0]]).repeat(2000, 1)
    masks = torch.tensor([False, True, True]).repeat(2000, 1)
    actions = sample(DISCRETE, params, masks, generator())
    assert set(actions.tolist()) == {1, 2}
    assert (actions == 1).float().mean().item() == pytest.approx(0.5, abs=0.05)
    assert log_prob(DISCRETE, params[:1], torch.tensor([2]), masks[:1]).item() == pytest.approx(-math.log(2))
    assert entropy(DISCRETE, params[:1], masks[:1]).item() == pytest.approx(math.log(2))


def test_draws_follow_the_softmax():
    params = torch.log(torch.tensor([[0.2, 0.5, 0.3]])).repeat(20000, 1)
    shares = torch.bincount(sample(DISCRETE, params, None, generator()), minlength=3) / 20000
    assert shares.tolist() == pytest.approx([0.2, 0.5, 0.3], abs=0.02)


def test_gaussian_density_and_entropy_by_hand():
    params = torch.tensor([[1.0, 0.0, math.log(2.0), 0.0]])
    actions = torch.tensor([[3.0, 9.0]])
    only_first = torch.tensor([[True, False]])
    # N(3; 1, 2) = exp(-1/2) / (2 sqrt(2 pi)); the second coordinate does not exist for this agent.
    wanted = -0.5 - math.log(2) - 0.5 * math.log(2 * math.pi)
    assert log_prob(GAUSSIAN, params, actions, only_first).item() == pytest.approx(wanted)
    assert entropy(GAUSSIAN, params, only_first).item() == pytest.approx(
        0.5 * math.log(2 * math.pi * math.e) + math.log(2)
    )


def test_initial_weights_are_orthogonal_and_leave_the_global_generator_alone():
    before = torch.random.get_rng_state()
    policy = Policy(PolicySpec(6, 3, "discrete", (4,)), generator(1))
    assert torch.equal(before, torch.random.get_rng_state())
    weight = policy.actor[0].weight.detach()
    assert torch.allclose(weight @ weight.T, 2 * torch.eye(4), atol=1e-5)
    again = Policy(PolicySpec(6, 3, "discrete", (4,)), generator(1))
    assert all(torch.equal(a, b) for a, b in zip(policy.parameters(), again.parameters(), strict=True))


def test_parameters_of_other_sizes_are_refused():
    policy = Policy(DISCRETE, generator())
    arrays = policy.arrays()
    with pytest.raises(StateError, match="other"):
        policy.load_arrays(Policy(GAUSSIAN, generator()).arrays())
    assert all(np.array_equal(arrays[k], v) for k, v in policy.arrays().items())


def bandit(policy, n, seed):
    """Observation-free task: action 2 is right."""
    with torch.no_grad():
        seen = torch.randn(n, 4, generator=generator(seed))
        params, values = policy(seen)
        actions = sample(policy.spec, params, None, generator(seed + 1))
        rewards = (actions == 2).float()
        return Samples(
            seen, None, actions, log_prob(policy.spec, params, actions, None), values, rewards - values
        )


def test_updates_find_the_better_action():
    policy = Policy(DISCRETE, generator())
    ppo = PPO(policy, PPOConfig(learning_rate=0.01, anneal=False), generator(1))
    for i in range(25):
        metrics = ppo.update(bandit(policy, 256, 10 * i))
    with torch.no_grad():
        chosen = torch.softmax(policy(torch.zeros(1, 4))[0], -1)[0, 2]
    assert chosen > 0.9
    assert set(metrics) >= {
        "policy_loss",
        "value_loss",
        "entropy",
        "approx_kl",
        "clip_fraction",
        "explained_variance",
    }
    assert all(math.isfinite(value) for value in metrics.values())


def test_the_first_step_has_ratio_one():
    policy = Policy(DISCRETE, generator())
    config = PPOConfig(learning_rate=1e-12, epochs=1, minibatches=1)
    metrics = PPO(policy, config, generator()).update(bandit(policy, 64, 0))
    assert metrics["approx_kl"] == pytest.approx(0, abs=1e-6)
    assert metrics["clip_fraction"] == 0


def test_annealing_and_early_stop():
    policy = Policy(DISCRETE, generator())
    ppo = PPO(policy, PPOConfig(learning_rate=1.0), generator())
    assert [ppo._set_rate(p) for p in (0, 0.5, 1, 7)] == pytest.approx([1, 0.55, 0.1, 0.1])
    policy = Policy(DISCRETE, generator())
    stopped = PPO(policy, PPOConfig(learning_rate=0.3, target_kl=1e-9, epochs=50, minibatches=1), generator())
    samples = bandit(policy, 64, 0)
    assert (
        stopped.update(samples)["approx_kl"] == pytest.approx(0, abs=1e-6)
        or stopped._optimizer.state[next(policy.parameters())]["step"].item() < 50
    )


def test_a_single_sample_is_enough():
    policy = Policy(DISCRETE, generator())
    metrics = PPO(policy, PPOConfig(), generator()).update(bandit(policy, 1, 0))
    assert all(math.isfinite(value) for value in metrics.values())


def test_a_learner_goes_on_from_its_state():
    policy = Policy(DISCRETE, generator())
    ppo = PPO(policy, PPOConfig(), generator(5))
    ppo.update(bandit(policy, 64, 0))
    other_policy = Policy(DISCRETE, generator(9))
    order = generator(5)
    order.set_state(ppo._generator.get_state())
    other = PPO(other_policy, PPOConfig(), order)
    other.load_state_dict(ppo.state_dict())
    samples = bandit(policy, 64, 3)
    ppo.update(samples)
    other.update(samples)
    assert all(np.array_equal(a, other_policy.arrays()[k]) for k, a in policy.arrays().items())
    with pytest.raises(StateError):
        other.load_state_dict({"policy": {}, "moments": {}})


@pytest.mark.parametrize("spec", [DISCRETE, GAUSSIAN])
def test_each_row_is_played_by_its_own_snapshot(spec):
    policies = {i: Policy(spec, generator(i)) for i in range(3)}
    with torch.no_grad():
        for i, policy in policies.items():
            layer = policy.actor[-1]
            layer.weight.zero_()
            layer.bias.zero_()
            layer.bias[i % spec.actions] = 50.0
            if not spec.discrete:
                policy.log_std.fill_(-20.0)
    loaded = []

    def load(number):
        loaded.append(number)
        return policies[number].arrays()

    bank = PolicyBank(spec, load, capacity=2)
    ids = np.array([2, 0, 0, 1, 2])
    actions = bank.act(torch.zeros(5, 4), None, ids, generator())
    chosen = actions if spec.discrete else actions.argmax(dim=-1)
    assert chosen.tolist() == [i % spec.actions for i in ids]
    assert sorted(loaded) == [0, 1, 2]
    bank.act(torch.zeros(1, 4), None, np.array([0]), generator())
    assert loaded.count(0) == 2, "the least recently used of three was dropped from two places"


def test_random_is_uniform_over_what_is_allowed():
    bank = PolicyBank(DISCRETE, lambda i: {})
    masks = torch.tensor([True, False, True]).repeat(3000, 1)
    actions = bank.act(torch.zeros(3000, 4), masks, np.full(3000, RANDOM), generator())
    assert torch.bincount(actions, minlength=3).tolist() == pytest.approx([1500, 0, 1500], abs=120)

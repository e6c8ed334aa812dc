"""That it learns: tiny problems of which the best return is known, each in a few seconds."""

import numpy as np
import pytest
import torch

from macurr.training.batches import Samples, Sequences
from macurr.training.gae import advantages
from macurr.training.policy import Policy, PolicySpec
from macurr.training.ppo import PPO, PPOSettings


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def learner(spec, seed=0, **settings):
    given = {
        "learning_rate": 0.005,
        "anneal": False,
        "entropy": 0.003,
        "epochs": 4,
        "minibatches": 2,
        **settings,
    }
    return PPO(Policy(spec, generator(seed)), PPOSettings(**given), generator(seed + 1))


def bandits(ppo, observe, reward, updates, n=256, central=None):
    """Episodes of one step; returns the mean reward of the last batch, and the critic's last error."""
    noise = generator(9)
    for _ in range(updates):
        seen = observe(noise, n)
        everyone = None if central is None else central(seen)
        step = ppo.policy.step(seen, None, None, noise, everyone)
        paid = reward(seen, step.actions)
        batch = Samples(seen, None, step.actions, step.log_probs, step.values, paid - step.values, everyone)
        ppo.update(batch)
    return paid.mean().item(), (paid - step.values).abs().mean().item()


# Memory


STEPS, STREAMS, LENGTH = 16, 48, 4


def recall(ppo, updates):
    """The first of four observations shows a number, the last asks for it; returns the last share of right answers."""
    noise, spec = generator(5), ppo.policy.spec
    # Streams are at different places of their episodes, so that rollouts cut them anywhere.
    ages, secrets = torch.arange(STREAMS) % LENGTH, torch.randint(0, 2, (STREAMS,), generator=noise)
    state = ppo.policy.initial_state(STREAMS)
    share = 0.0
    for _ in range(updates):
        before, told = state, []
        arrays = {name: [] for name in ("seen", "starts", "dones", "rewards")}
        for _ in range(STEPS):
            seen = torch.zeros(STREAMS, 3)
            seen[ages == 0, 0] = 2.0 * secrets[ages == 0] - 1
            seen[:, 1], seen[:, 2] = (ages == LENGTH - 1).float(), 1
            if state is not None:
                state = torch.where((ages == 0)[:, None], torch.zeros_like(state), state)
            step = ppo.policy.step(seen, None, state, noise)
            asked = ages == LENGTH - 1
            right = (step.actions == secrets) & asked
            told.append(step)
            for name, value in zip(arrays, (seen, ages == 0, asked, right.float()), strict=True):
                arrays[name].append(value)
            ages = torch.where(asked, torch.zeros_like(ages), ages + 1)
            secrets = torch.where(asked, torch.randint(0, 2, (STREAMS,), generator=noise), secrets)
            state = step.state
        seen, starts, dones, rewards = map(torch.stack, arrays.values())
        actions, log_probs, values = (
            torch.stack([getattr(step, name) for step in told]) for name in ("actions", "log_probs", "values")
        )
        last = np.zeros(STREAMS, np.float32)
        estimates = torch.from_numpy(
            advantages(rewards.numpy(), values.numpy(), dones.numpy(), last, 0.9, 0.9)
        )
        if spec.state_size:
            valid = torch.ones_like(dones)
            batch = Sequences(seen, None, actions, log_probs, values, estimates, valid, starts, before)
        else:
            flat = (part.flatten(0, 1) for part in (actions, log_probs, values, estimates))
            batch = Samples(seen.flatten(0, 1), None, *flat)
        ppo.update(batch)
        share = (rewards.sum() / dones.sum()).item()
    return share


@pytest.mark.parametrize("recurrent", ["lstm", "gru"])
def test_what_has_to_be_remembered_is_learned_by_a_policy_with_a_memory(recurrent):
    spec = PolicySpec(3, 2, "discrete", (16,), recurrent=recurrent, recurrent_size=16)
    assert recall(learner(spec, learning_rate=0.01), 40) > 0.95


def test_and_by_no_other():
    share = recall(learner(PolicySpec(3, 2, "discrete", (16,)), learning_rate=0.01), 40)
    assert share == pytest.approx(0.5, abs=0.15)


# Images


def test_where_in_an_image_the_light_is():
    def observe(noise, n):
        rows = torch.randint(0, 40, (n, 6 * 6 * 3), generator=noise)
        light = torch.randint(0, 36, (n,), generator=noise)
        rows[torch.arange(n), light * 3 + 1] = 255
        return rows.to(torch.uint8)

    def reward(seen, actions):
        light = seen.view(-1, 36, 3)[:, :, 1].int().argmax(dim=-1)
        # Which half, and whether on top.
        return (actions == 2 * (light % 6 >= 3) + (light >= 18)).float()

    spec = PolicySpec(108, 4, "discrete", (32,), image=(6, 6, 3))
    mean, _ = bandits(learner(spec, learning_rate=0.002), observe, reward, 30)
    assert mean > 0.9


# Kinds of actions


def test_the_parts_of_a_multi_discrete_action_are_learned_each():
    def observe(noise, n):
        return torch.randn(n, 3, generator=noise)

    def reward(seen, actions):
        right = torch.stack(
            [(seen[:, 0] > 0).long(), 2 * (seen[:, 1] > 0).long(), torch.ones(len(seen)).long()], -1
        )
        return (actions == right).float().mean(dim=-1)

    spec = PolicySpec(3, 9, "multidiscrete", (16,), nvec=(2, 3, 4))
    mean, _ = bandits(learner(spec, learning_rate=0.01), observe, reward, 30)
    assert mean > 0.9


def test_continuous_actions_go_where_they_are_paid_for():
    def observe(noise, n):
        return torch.randn(n, 2, generator=noise)

    def reward(seen, actions):
        return -((actions - 0.5 * seen) ** 2).sum(dim=-1)

    spec = PolicySpec(2, 2, "continuous", (16,), normalize_returns=True)
    ppo = learner(spec, learning_rate=0.01)
    bandits(ppo, observe, reward, 60)
    seen = observe(generator(77), 100)
    with torch.no_grad():
        means = ppo.policy.actor(seen)[0]
    assert (means - 0.5 * seen).abs().mean() < 0.15
    assert (ppo.policy.log_std < -0.5).all(), "and grow surer"


# Normalisation and the centralised critic


def test_badly_scaled_observations_and_returns_are_learned_with_normalisation_only():
    def observe(noise, n):
        return 1000 + 0.01 * torch.randn(n, 2, generator=noise)

    def reward(seen, actions):
        return 1e4 * (actions == (seen[:, 0] > 1000)).float()

    share = {}
    for on in (True, False):
        spec = PolicySpec(2, 2, "discrete", (16,), normalize_observations=on, normalize_returns=on)
        mean, _ = bandits(learner(spec, learning_rate=0.01), observe, reward, 25)
        share[on] = mean / 1e4
    assert share[True] > 0.9
    assert share[False] < 0.7


def test_a_centralised_critic_knows_what_the_actor_cannot_see():
    def observe(noise, n):
        return torch.randn(n, 2, generator=noise)

    # What is paid depends on an observation of somebody else's, which only the critic is shown.
    def central(seen):
        return torch.cat([seen, torch.arange(len(seen)).remainder(5).float()[:, None].expand(-1, 2)], -1)

    def reward(seen, actions):
        return torch.arange(len(seen)).remainder(5).float() + (actions == 0)

    errors = {}
    for length in (0, 4):
        spec = PolicySpec(2, 2, "discrete", (16,), central=length)
        mean, errors[length] = bandits(
            learner(spec, learning_rate=0.01), observe, reward, 30, central=central if length else None
        )
        assert mean > 2.9
    assert errors[4] < 0.3
    assert errors[0] > 1

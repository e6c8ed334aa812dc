"""Policies with a memory: what they did while acting is what training computes again."""

import pytest
import torch

from macurr.training.batches import Sequences
from macurr.training.policy import Policy, PolicySpec

FEATURES, ACTIONS, AGENTS = 6, 3, 2


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def spec_of(recurrent, **extra):
    return PolicySpec(
        FEATURES, ACTIONS, "discrete", (8,), agents=AGENTS, recurrent=recurrent, recurrent_size=5, **extra
    )


def acted(policy, steps=9, streams=7, seed=0):
    """A rollout as a collector records it: each step asks only the streams that act, for their own state."""
    noise = generator(seed)
    spec = policy.spec
    seen = torch.randn(steps, streams, spec.features, generator=noise)
    if spec.image is not None:
        seen = torch.randint(0, 256, seen.shape, generator=noise).to(torch.uint8)
    central = torch.randn(steps, streams, spec.central, generator=noise) if spec.central else None
    starts = torch.rand(steps, streams, generator=noise) < 0.25
    valid = torch.rand(steps, streams, generator=noise) < 0.75
    starts[2], starts[5], valid[3] = True, False, True
    masks = torch.rand(steps, streams, ACTIONS, generator=noise) < 0.7
    masks[..., 1] = True
    state = first = torch.randn(streams, spec.state_size, generator=noise)
    actions, log_probs = torch.zeros(steps, streams, dtype=torch.int64), torch.zeros(steps, streams)
    values = torch.zeros(steps, streams)
    for t in range(steps):
        state = state.clone()
        state[starts[t]] = 0
        rows = valid[t].nonzero().squeeze(-1)
        given = None if central is None else central[t, rows]
        step = policy.step(seen[t, rows], masks[t, rows], state[rows], noise, given)
        actions[t, rows], log_probs[t, rows], values[t, rows] = step.actions, step.log_probs, step.values
        state[rows] = step.state
    zeros = torch.zeros(steps, streams)
    return Sequences(seen, masks, actions, log_probs, values, zeros, valid, starts, first, central)


VARIANTS = {
    "plain": {},
    "central": {"central": AGENTS * FEATURES},
    "normalised": {"normalize_observations": True, "normalize_returns": True},
}


def busy(spec):
    policy = Policy(spec, generator(1))
    with torch.no_grad():  # so that choices depend on what is seen and remembered
        policy.actor.last.weight.mul_(300)
    if policy.normaliser is not None:
        policy.normaliser.merge(torch.randn(50, FEATURES, generator=generator()) * 2 + 1)
        policy.returns.absorb(torch.randn(50, generator=generator()) * 5 + 3, policy.critic.last)
    return policy


@pytest.mark.parametrize("recurrent", ["lstm", "gru"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_training_computes_again_what_was_recorded_while_acting(recurrent, variant):
    policy = busy(spec_of(recurrent, **VARIANTS[variant]))
    batch = acted(policy)
    flat = batch.targets()
    with torch.no_grad():
        log_probs, entropies, outputs = policy.evaluate(batch, flat)
    values = outputs if policy.returns is None else policy.returns.denormalise(outputs)
    assert len(log_probs) == len(entropies) == int(batch.valid.sum())
    assert torch.allclose(log_probs, flat.log_probs, atol=1e-5)
    assert torch.allclose(values, flat.values, atol=1e-4)
    # The test can fail: a start or a pause that is overlooked is seen.
    for name in ("starts", "acts"):
        other = torch.zeros_like(batch.starts) if name == "starts" else torch.ones_like(batch.starts)
        with torch.no_grad():
            wrong, *_ = policy.evaluate(Sequences(**{**vars(batch), name: other}), flat)
        assert not torch.allclose(wrong, flat.log_probs, atol=1e-3), name


def test_images_are_remembered():
    image = (2, 2, 1)
    policy = busy(spec_of("gru", image=image))
    batch = acted(policy)
    flat = batch.targets()
    with torch.no_grad():
        log_probs, *_ = policy.evaluate(batch, flat)
    assert torch.allclose(log_probs, flat.log_probs, atol=1e-4)


@pytest.mark.parametrize("recurrent", ["lstm", "gru"])
def test_actor_and_critic_remember_each_for_itself(recurrent):
    policy = busy(spec_of(recurrent))
    half = policy.spec.actor_state_size
    seen, state = (
        torch.randn(4, FEATURES, generator=generator()),
        torch.randn(4, 2 * half, generator=generator(1)),
    )
    assert policy.initial_state(4).shape == state.shape
    step = policy.step(seen, None, state, generator())
    other = state.clone()
    other[:, half:] += 1
    moved = policy.step(seen, None, other, generator())
    assert torch.equal(step.log_probs, moved.log_probs)
    assert torch.equal(step.state[:, :half], moved.state[:, :half])
    assert (step.values != moved.values).all()
    assert torch.equal(policy.values(seen, other), moved.values)
    actions, after = policy.act(seen, None, state, generator())
    assert torch.equal(actions, step.actions)
    assert torch.equal(after[:, :half], step.state[:, :half])
    assert torch.equal(after[:, half:], state[:, half:])


def test_at_the_start_of_an_episode_nothing_is_remembered():
    policy = busy(spec_of("lstm"))
    seen = torch.randn(4, FEATURES, generator=generator())
    fresh, zeros = (policy.step(seen, None, state, generator()) for state in (None, policy.initial_state(4)))
    assert torch.equal(fresh.values, zeros.values)
    assert torch.equal(fresh.state, zeros.state)


@pytest.mark.parametrize("recurrent", ["lstm", "gru"])
def test_what_was_seen_long_ago_gets_its_gradient_and_what_was_before_a_start_gets_none(recurrent):
    policy = busy(spec_of(recurrent))
    steps = 8
    seen = torch.randn(steps, 1, FEATURES, generator=generator())
    for forgets in (None, 4):
        starts = torch.zeros(steps, 1, dtype=torch.bool)
        if forgets is not None:
            starts[forgets] = True
        rows = seen.clone().requires_grad_()
        outputs = policy.actor.unroll(
            rows, torch.zeros(1, policy.spec.actor_state_size), starts, ~torch.zeros_like(starts)
        )
        outputs[-1].sum().backward()
        reached = (rows.grad.abs().sum(dim=-1) > 0).squeeze(-1).tolist()
        assert reached == [forgets is None or t >= forgets for t in range(steps)]


def test_streams_that_are_picked_keep_all_that_is_theirs():
    policy = busy(spec_of("gru", central=AGENTS * FEATURES))
    batch = acted(policy)
    chosen = torch.tensor([5, 0, 3])
    part = batch.pick(chosen)
    flat = part.targets()
    assert len(part) == len(flat) == int(batch.valid[:, chosen].sum())
    assert torch.equal(flat.log_probs, batch.log_probs[:, chosen][batch.valid[:, chosen]])
    with torch.no_grad():
        log_probs, *_ = policy.evaluate(part, flat)
    assert torch.allclose(log_probs, flat.log_probs, atol=1e-5)

"""Distributions over actions: by hand, against torch's own, and by adding up all actions."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import distributions as oracle

from macurr.training.distributions import Discrete, Gaussian, MultiDiscrete

NUMBERS = st.floats(-20, 20, width=32)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def rows(n, width, seed=0):
    return torch.randn(n, width, generator=generator(seed))


# Discrete


def test_masked_actions_are_never_chosen_and_have_no_share_of_the_entropy():
    kind = Discrete(3)
    params = torch.tensor([[5.0, 0.0, 0.0]]).repeat(2000, 1)
    masks = torch.tensor([False, True, True]).repeat(2000, 1)
    actions = kind.sample(params, masks, generator())
    assert set(actions.tolist()) == {1, 2}
    assert (actions == 1).float().mean().item() == pytest.approx(0.5, abs=0.05)
    logs, entropy = kind.evaluate(params[:1], torch.tensor([2]), masks[:1])
    assert (logs.item(), entropy.item()) == pytest.approx((-math.log(2), math.log(2)))


def test_draws_follow_the_softmax():
    params = torch.log(torch.tensor([[0.2, 0.5, 0.3]])).repeat(20000, 1)
    shares = torch.bincount(Discrete(3).sample(params, None, generator()), minlength=3) / 20000
    assert shares.tolist() == pytest.approx([0.2, 0.5, 0.3], abs=0.02)


@given(st.lists(NUMBERS, min_size=1, max_size=8), st.data())
def test_discrete_agrees_with_torch_s_own(logits, data):
    action = data.draw(st.integers(0, len(logits) - 1))
    params = torch.tensor([logits])
    logs, entropy = Discrete(len(logits)).evaluate(params, torch.tensor([action]), None)
    wanted = oracle.Categorical(logits=params)
    assert logs.item() == pytest.approx(wanted.log_prob(torch.tensor(action)).item(), abs=1e-4)
    assert entropy.item() == pytest.approx(wanted.entropy().item(), abs=1e-4)


def test_a_row_that_allows_nothing_still_gets_an_action_of_its_range():
    # Dead agents are asked, too; nobody uses what they do.
    nothing = torch.zeros(50, 5, dtype=torch.bool)
    assert Discrete(5).sample(rows(50, 5), nothing, generator()).max() < 5
    kind = MultiDiscrete((2, 3))
    actions = kind.sample(rows(50, 5), nothing, generator())
    assert (actions < torch.tensor([2, 3])).all()
    logs, entropy = kind.evaluate(rows(50, 5), actions, nothing)
    assert logs.isfinite().all()
    assert entropy.isfinite().all()


# Multi-discrete


def test_parts_by_hand():
    kind = MultiDiscrete((2, 3))
    # Part one: 3 to 1. Part two: of three equal ones the last is forbidden.
    params = torch.tensor([[math.log(3), 0.0, 7.0, 7.0, 7.0]])
    masks = torch.tensor([[True, True, True, True, False]])
    logs, entropy = kind.evaluate(params, torch.tensor([[0, 1]]), masks)
    assert logs.item() == pytest.approx(math.log(3 / 4) + math.log(1 / 2))
    first = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert entropy.item() == pytest.approx(first + math.log(2))


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(0, 99), st.booleans())
def test_the_probabilities_of_all_actions_add_up_and_make_the_entropy(nvec, seed, masked):
    kind = MultiDiscrete(nvec)
    params = rows(1, sum(nvec), seed)
    masks = None
    if masked:
        masks = torch.rand(1, sum(nvec), generator=generator(seed)) < 0.6
        start = 0
        for n in nvec:  # something of each part is allowed
            masks[0, start + seed % n] = True
            start += n
    every = torch.tensor(list(itertools.product(*map(range, nvec))))
    logs, entropy = kind.evaluate(
        params.expand(len(every), -1), every, None if masks is None else masks.expand(len(every), -1)
    )
    assert logs.exp().sum().item() == pytest.approx(1, abs=1e-5)
    likely = logs[logs > -1e6]
    assert entropy[0].item() == pytest.approx(-(likely.exp() * likely).sum().item(), abs=1e-4)


def test_multi_discrete_is_discrete_part_by_part():
    nvec = (3, 1, 4)
    params, masks = rows(200, 8), torch.ones(200, 8, dtype=torch.bool)
    masks[:100, 1] = masks[:, 5] = False
    actions = MultiDiscrete(nvec).sample(params, masks, generator())
    assert masks.gather(-1, actions + torch.tensor([0, 3, 4])).all()
    logs, entropy = MultiDiscrete(nvec).evaluate(params, actions, masks)
    parts = [
        Discrete(n).evaluate(p, a, m)
        for n, p, a, m in zip(
            nvec, params.split(nvec, -1), actions.unbind(-1), masks.split(nvec, -1), strict=True
        )
    ]
    assert torch.allclose(logs, sum(part[0] for part in parts), atol=1e-5)
    assert torch.allclose(entropy, sum(part[1] for part in parts), atol=1e-5)


def test_multi_discrete_draws_follow_each_part_s_softmax():
    params = torch.log(torch.tensor([[0.2, 0.8, 0.5, 0.3, 0.2]])).repeat(20000, 1)
    actions = MultiDiscrete((2, 3)).sample(params, None, generator())
    for part, wanted in ((0, [0.2, 0.8]), (1, [0.5, 0.3, 0.2])):
        shares = torch.bincount(actions[:, part], minlength=len(wanted)) / 20000
        assert shares.tolist() == pytest.approx(wanted, abs=0.02)
    # The parts are independent.
    both = ((actions[:, 0] == 1) & (actions[:, 1] == 0)).float().mean().item()
    assert both == pytest.approx(0.8 * 0.5, abs=0.02)


# Continuous


def test_gaussian_density_and_entropy_by_hand():
    params = torch.tensor([[1.0, 0.0, math.log(2.0), 0.0]])
    only_first = torch.tensor([[True, False]])
    # N(3; 1, 2) = exp(-1/2) / (2 sqrt(2 pi)); the second coordinate does not exist for this agent.
    wanted = -0.5 - math.log(2) - 0.5 * math.log(2 * math.pi)
    for absent in (9.0, math.inf):
        logs, entropy = Gaussian(2).evaluate(params, torch.tensor([[3.0, absent]]), only_first)
        assert logs.item() == pytest.approx(wanted)
    assert entropy.item() == pytest.approx(0.5 * math.log(2 * math.pi * math.e) + math.log(2))


@given(st.lists(st.tuples(NUMBERS, st.floats(-3, 3, width=32), NUMBERS), min_size=1, max_size=5))
def test_gaussian_agrees_with_torch_s_own(data):
    means, spreads, actions = (torch.tensor([column]) for column in zip(*data, strict=True))
    logs, entropy = Gaussian(len(data)).evaluate(torch.cat([means, spreads], -1), actions, None)
    wanted = oracle.Normal(means, spreads.exp())
    assert logs.item() == pytest.approx(wanted.log_prob(actions).sum().item(), rel=1e-4, abs=1e-3)
    assert entropy.item() == pytest.approx(wanted.entropy().sum().item(), rel=1e-5, abs=1e-4)


def test_gaussian_draws_have_its_moments():
    params = torch.tensor([[1.0, -2.0, 0.0, math.log(0.1)]]).repeat(20000, 1)
    actions = Gaussian(2).sample(params, None, generator())
    assert actions.mean(dim=0).tolist() == pytest.approx([1, -2], abs=0.03)
    assert actions.std(dim=0).tolist() == pytest.approx([1, 0.1], rel=0.03)


# All of them

KINDS = [(Discrete(4), 4), (MultiDiscrete((3, 2)), 5), (Gaussian(3), 3)]


@pytest.mark.parametrize(("kind", "actions"), KINDS)
@pytest.mark.parametrize("masked", [True, False])
def test_a_draw_comes_with_its_own_log_probability(kind, actions, masked):
    params = rows(40, kind.width)
    masks = None
    if masked:
        masks = torch.ones(40, actions, dtype=torch.bool)
        masks[::2, 0] = False
    drawn, logs = kind.draw(params, masks, generator(3))
    assert torch.equal(drawn, kind.sample(params, masks, generator(3)))
    assert torch.equal(logs, kind.evaluate(params, drawn, masks)[0])


@pytest.mark.parametrize(("kind", "actions"), KINDS)
def test_what_is_masked_gets_no_gradient(kind, actions):
    params = rows(30, kind.width).requires_grad_()
    masks = torch.ones(30, actions, dtype=torch.bool)
    masks[:, 0] = False
    drawn, _ = kind.draw(params.detach(), masks, generator())
    logs, entropy = kind.evaluate(params, drawn, masks)
    (logs.sum() + entropy.sum()).backward()
    assert (params.grad[:, 0] == 0).all()
    assert (params.grad[:, 1] != 0).any()

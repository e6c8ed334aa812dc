"""Adam over one vector does what torch's does parameter by parameter."""

import pytest
import torch
from torch import nn

from macurr.training.adam import Adam


def network(seed=0):
    chance = torch.Generator().manual_seed(seed)
    made = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=chance))
    return made


def loss(made, step):
    return (made(torch.full((5, 3), 0.1 * step)) - step).square().mean()


def advance(made, adam, step, rate, most=1e9):
    gradient, norm = adam.gradient(loss(made, step))
    adam.step(gradient * min(1.0, most / (float(norm) + 1e-6)), rate)
    return norm


@pytest.mark.parametrize("most", [0.5, 1e9])
def test_steps_are_those_of_torch(most):
    mine, theirs = network(), network()
    adam = Adam(dict(mine.named_parameters()))
    optimizer = torch.optim.Adam(theirs.parameters(), lr=1.0, eps=1e-5)
    for step in range(30):
        rate = 0.1 / (step + 1)
        norm = advance(mine, adam, step, rate, most)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        loss(theirs, step).backward()
        assert float(norm) == pytest.approx(
            float(nn.utils.clip_grad_norm_(theirs.parameters(), most)), rel=1e-5
        )
        optimizer.step()
    for one, other in zip(mine.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)
        assert one.grad is None
    for held, parameter in zip(adam.moments().values(), theirs.parameters(), strict=True):
        wanted = optimizer.state[parameter]
        assert held.keys() == wanted.keys()
        for name in held:
            torch.testing.assert_close(held[name], wanted[name], atol=1e-6, rtol=1e-5)


def test_moments_that_are_loaded_go_on_bit_by_bit():
    straight, broken = network(), network()
    adam = Adam(dict(straight.named_parameters()))
    first = Adam(dict(broken.named_parameters()))
    assert first.moments() == {name: {} for name, _ in broken.named_parameters()}
    for step in range(3):
        advance(straight, adam, step, 0.1)
        advance(broken, first, step, 0.1)
    second = Adam(dict(broken.named_parameters()))
    second.load(first.moments())
    assert second.steps == 3
    for step in range(3, 6):
        advance(straight, adam, step, 0.1)
        advance(broken, second, step, 0.1)
    for one, other in zip(straight.parameters(), broken.parameters(), strict=True):
        assert torch.equal(one, other)
    second.load({name: {} for name in first.moments()})
    assert second.moments() == {name: {} for name in first.moments()}


def test_a_parameter_without_a_gradient_stays():
    made, idle = network(), nn.Parameter(torch.ones(2))
    adam = Adam({**dict(made.named_parameters()), "idle": idle})
    for step in range(3):
        advance(made, adam, step, 0.1)
    assert idle.tolist() == [1, 1]
    assert adam.moments()["idle"]["exp_avg"].tolist() == [0, 0]

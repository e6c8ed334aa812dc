"""Running statistics: batch by batch as all at once, and a critic whose values stay when its unit moves."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from macurr.training.normalisers import ObservationNormaliser, ReturnNormaliser, RunningMoments


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=6), st.floats(-1000, 1000), st.integers(0, 99))
def test_batches_one_by_one_are_all_rows_at_once(sizes, offset, seed):
    rng = np.random.default_rng(seed)
    batches = [rng.normal(offset, 3, (n, 2)) for n in sizes]
    moments = RunningMoments(2)
    for batch in batches:
        moments.merge(torch.from_numpy(batch))
    together = np.concatenate(batches)
    assert moments.count.item() == len(together)
    if len(together):
        assert moments.mean.numpy() == pytest.approx(together.mean(axis=0), rel=1e-9, abs=1e-9)
        assert moments.var.numpy() == pytest.approx(together.var(axis=0), rel=1e-7, abs=1e-7)


def test_two_batches_by_hand():
    moments = RunningMoments(1)
    moments.merge(torch.tensor([[1.0], [3.0]]))
    assert (moments.mean.item(), moments.var.item()) == (2, 1)
    moments.merge(torch.tensor([[8.0], [8.0]]))
    # 1, 3, 8, 8: mean 5, squares of 16, 4, 9 and 9.
    assert (moments.mean.item(), moments.var.item(), moments.count.item()) == (5, 9.5, 4)


def test_old_batches_fade_where_a_new_one_has_a_least_share():
    moments = RunningMoments(1, least_share=0.5)
    for _ in range(20):
        moments.merge(torch.zeros(100, 1))
    for _ in range(20):
        moments.merge(torch.full((100, 1), 7.0))
    assert moments.mean.item() == pytest.approx(7, abs=1e-4)
    assert moments.var.item() == pytest.approx(0, abs=1e-3)


def test_observations_become_standard_and_the_indicator_stays():
    normaliser = ObservationNormaliser(5, 2)
    seen = torch.randn(4000, 3, generator=generator()) * torch.tensor([1.0, 100.0, 0.01]) + 5
    indicator = torch.eye(2).repeat(2000, 1)
    rows = torch.cat([seen, indicator], dim=-1)
    assert torch.equal(normaliser(rows), rows.clamp(-10, 10)), "before the first batch nothing is known"
    normaliser.merge(rows)
    out = normaliser(rows)
    assert out[:, :3].mean(dim=0).tolist() == pytest.approx([0, 0, 0], abs=1e-3)
    assert out[:, :3].std(dim=0).tolist() == pytest.approx([1, 1, 1], abs=1e-2)
    assert torch.equal(out[:, 3:], indicator)


def test_observations_are_clipped_and_a_feature_that_never_changed_does_no_harm():
    normaliser = ObservationNormaliser(2, 0)
    normaliser.merge(torch.tensor([[1.0, 4.0], [-1.0, 4.0]]))
    out = normaliser(torch.tensor([[1e6, 4.0], [-50.0, 5.0]]))
    assert out.tolist() == [[10, 0], [-10, 10]]


@settings(deadline=None)
@given(
    mean=st.floats(-1e3, 1e3),
    spread=st.floats(0, 1e3),
    before=st.tuples(st.floats(-100, 100), st.floats(0, 100)),
    seed=st.integers(0, 99),
)
def test_values_stay_what_they_are_when_the_unit_of_returns_moves(mean, spread, before, seed):
    normaliser = ReturnNormaliser()
    last = nn.Linear(4, 1)
    with torch.no_grad():
        last.weight.normal_(generator=generator(seed))
        last.bias.normal_(generator=generator(seed + 1))
    inputs = torch.randn(20, 4, generator=generator(seed))
    for centre, width in (before, (mean, spread)):
        with torch.no_grad():
            wanted = normaliser.denormalise(last(inputs))
            normaliser.absorb(centre + width * torch.randn(50, generator=generator(seed)), last)
            found = normaliser.denormalise(last(inputs))
        scale = max(1.0, abs(centre), wanted.abs().max().item())
        assert torch.allclose(found, wanted, atol=1e-4 * scale)


def test_returns_become_standard_and_come_back():
    normaliser = ReturnNormaliser()
    returns = 40 + 3 * torch.randn(5000, generator=generator())
    normaliser.absorb(returns, nn.Linear(2, 1))
    out = normaliser.normalise(returns)
    assert (out.mean().item(), out.std().item()) == pytest.approx((0, 1), abs=0.01)
    assert torch.allclose(normaliser.denormalise(out), returns, atol=1e-4)


def test_returns_that_are_all_the_same_divide_by_no_zero():
    normaliser, last = ReturnNormaliser(), nn.Linear(2, 1)
    normaliser.absorb(torch.full((30,), 2.5), last)
    assert torch.isfinite(last.weight).all()
    assert normaliser.normalise(torch.tensor([2.5, 2.6])).tolist() == pytest.approx([0, 1000], rel=1e-4)


def test_the_last_layer_by_hand():
    # From mean 0 and deviation 1 to mean 3 and deviation 2: w' = w / 2, b' = (b - 3) / 2.
    normaliser, last = ReturnNormaliser(), nn.Linear(1, 1)
    with torch.no_grad():
        last.weight.fill_(6.0)
        last.bias.fill_(5.0)
    normaliser.absorb(torch.tensor([1.0, 5.0]), last)
    assert (last.weight.item(), last.bias.item()) == pytest.approx((3, 1))

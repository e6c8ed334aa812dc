"""Memories: torch's own cells as the oracle, and gradients against differences."""

import pytest
import torch
from torch import nn

from macurr.training.memories import Memory, memory_width


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def cell_of(memory):
    """Torch's cell with the same weights."""
    kind = nn.LSTMCell if memory.kind == "lstm" else nn.GRUCell
    cell = kind(memory.weight_ih.shape[1], memory.size).to(memory.weight_ih.dtype)
    cell.load_state_dict(memory.state_dict())
    return cell


def stepped(memory, rows, state):
    """One step of torch's cell on a state of ours."""
    cell = cell_of(memory)
    if memory.kind == "gru":
        after = cell(rows, state)
        return after, after
    output, inner = cell(rows, state.chunk(2, dim=-1))
    return output, torch.cat([output, inner], dim=-1)


def memory_of(kind, inputs=3, size=4, seed=0):
    memory = Memory(kind, inputs, size, generator(seed))
    with torch.no_grad():
        for bias in (memory.bias_ih, memory.bias_hh):
            bias.normal_(generator=generator(seed + 1))
    return memory


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_a_step_is_that_of_torch_s_cell(kind):
    memory = memory_of(kind)
    rows, state = (
        torch.randn(5, 3, generator=generator(2)),
        torch.randn(5, memory_width(kind, 4), generator=generator(3)),
    )
    with torch.no_grad():
        mine, wanted = memory(rows, state), stepped(memory, rows, state)
        fresh, zeros = memory(rows, None), memory(rows, torch.zeros_like(state))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(mine, wanted, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(fresh, zeros, strict=True))


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_unrolling_is_step_after_step_with_pauses_and_fresh_starts(kind):
    memory = memory_of(kind)
    steps, streams = 7, 6
    rows = torch.randn(steps, streams, 3, generator=generator(2))
    starts = torch.rand(steps, streams, generator=generator(3)) < 0.3
    acts = torch.rand(steps, streams, generator=generator(4)) < 0.6
    starts[3], acts[3] = False, True
    state = first = torch.randn(streams, memory_width(kind, 4), generator=generator(5))
    with torch.no_grad():
        outputs = memory.unroll(rows, first, starts, acts)
        for t in range(steps):
            state = torch.where(starts[t, :, None], torch.zeros_like(state), state)
            output, after = stepped(memory, rows[t], state)
            state = torch.where(acts[t, :, None], after, state)
            assert torch.allclose(outputs[t], output, atol=1e-6)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_gradients_agree_with_differences(kind):
    memory = memory_of(kind, inputs=2, size=3).double()
    rows = torch.randn(4, 3, 2, generator=generator(2), dtype=torch.float64, requires_grad=True)
    state = torch.randn(3, memory_width(kind, 3), generator=generator(3), dtype=torch.float64)
    state.requires_grad_()
    starts = torch.tensor([[0, 1, 0], [0, 0, 0], [1, 0, 0], [0, 0, 1]], dtype=torch.bool)
    acts = torch.tensor([[1, 1, 0], [1, 1, 1], [0, 1, 0], [1, 0, 1]], dtype=torch.bool)
    names = [name for name, _ in memory.named_parameters()]

    def unrolled(rows, state, *parameters):
        given = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(
            Unrolled(memory),
            {f"memory.{name}": value for name, value in given.items()},
            (rows, state, starts, acts),
        )

    assert torch.autograd.gradcheck(unrolled, (rows, state, *memory.parameters()))


class Unrolled(nn.Module):
    def __init__(self, memory):
        super().__init__()
        self.memory = memory

    def forward(self, *args):
        return self.memory.unroll(*args)

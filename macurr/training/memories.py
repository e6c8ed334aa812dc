"""What policies remember between steps.

Training unrolls a memory over whole rollouts, step after step. Gradients are written by hand: weights get theirs from
all steps at once, which halves the time that torch's own differentiation of the loop takes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from macurr.training.layers import orthogonal, tanh

__all__ = ["Memory", "memory_width"]

_GATES = {"lstm": 4, "gru": 3}
_VECTORS = {"none": 0, "gru": 1, "lstm": 2}


def memory_width(kind: str, size: int) -> int:
    """Numbers that a memory ("none", "lstm" or "gru") keeps between steps: an LSTM's output and its cell, say."""
    return _VECTORS[kind] * size


class Memory(nn.Module):
    """A long short-term memory (Hochreiter and Schmidhuber, 1997) or gated recurrent unit (Cho et al., 2014).

    Weights are laid out as torch's own cells have them; the state of an LSTM is its output followed by its cell.

    Args:
        kind: "lstm" or "gru".
        inputs: Length of an input row.
        size: Units.
        generator: Where the first weights come from; None leaves them unset.
    """

    def __init__(self, kind: str, inputs: int, size: int, generator: torch.Generator | None) -> None:
        super().__init__()
        self.kind, self.size = kind, size
        gates = _GATES[kind]
        self.weight_ih = nn.Parameter(torch.cat([orthogonal(size, inputs, generator) for _ in range(gates)]))
        self.weight_hh = nn.Parameter(torch.cat([orthogonal(size, size, generator) for _ in range(gates)]))
        self.bias_ih = nn.Parameter(torch.zeros(gates * size))
        self.bias_hh = nn.Parameter(torch.zeros(gates * size))

    def forward(self, rows: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """One step, without gradients: outputs (n, size) and the states after it."""
        if state is None:
            state = rows.new_zeros(len(rows), memory_width(self.kind, self.size))
        driven = functional.linear(rows, self.weight_ih, self.bias_ih)
        if self.kind == "gru":
            output = _gru(driven, state, self.weight_hh, self.bias_hh)[0]
            return output, output
        before, inner = state.chunk(2, dim=-1)
        output, cell, *_ = _lstm(driven, before, inner, self.weight_hh, self.bias_hh)
        return output, torch.cat([output, cell], dim=-1)

    def unroll(self, rows: Tensor, state: Tensor, starts: Tensor, acts: Tensor) -> Tensor:
        """T steps of B streams.

        Args:
            rows: float32 (T, B, inputs).
            state: float32 (B, state size), before the first step.
            starts: bool (T, B), before which steps the state is forgotten.
            acts: bool (T, B), at which steps it moves.

        Returns:
            Outputs, (T, B, size).
        """
        # What does not depend on the state is computed for all steps at once.
        driven = functional.linear(rows, self.weight_ih, self.bias_ih)
        loop = _LSTM if self.kind == "lstm" else _GRU
        outputs: Tensor = loop.apply(driven, state, starts, acts, self.weight_hh, self.bias_hh)  # type: ignore[no-untyped-call]  # torch
        return outputs


def _lstm(driven: Tensor, output: Tensor, cell: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
    """New output and cell, the gates (enter, forget, content, leave) and the cell's tanh."""
    gates = torch.addmm(bias, output, weight.t()).add_(driven)
    enter, forget, content, leave = gates.chunk(4, dim=-1)
    content.copy_(tanh(content))
    for gate in (enter, forget, leave):
        gate.sigmoid_()
    cell = torch.addcmul(forget * cell, enter, content)
    bent = tanh(cell)
    return leave * bent, cell, gates, bent


def _gru(driven: Tensor, state: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
    """New state, the gates (reset, update), the proposal and the state's part in it."""
    heard = torch.addmm(bias, state, weight.t())
    size = state.shape[-1]
    gates = (driven[:, : 2 * size] + heard[:, : 2 * size]).sigmoid_()
    reset, update = gates.chunk(2, dim=-1)
    echo = heard[:, 2 * size :]
    new = tanh(torch.addcmul(driven[:, 2 * size :], reset, echo))
    return torch.lerp(new, state, update), gates, new, echo


class _Course:
    """Which streams forget before a step, and which act on it; the usual case of none and all is told apart.

    Args:
        starts: bool (T, B).
        acts: bool (T, B).
        like: A tensor of the wanted type.
    """

    def __init__(self, starts: Tensor, acts: Tensor, like: Tensor) -> None:
        self._keeps, self._acts = ((~starts).unsqueeze(-1).to(like), acts.unsqueeze(-1).to(like))
        self._forgets, self._rests = starts.any(dim=1).tolist(), (~acts).any(dim=1).tolist()

    def kept(self, t: int, state: Tensor) -> Tensor:
        """What is remembered at a step; for gradients, what comes back through it."""
        return state * self._keeps[t] if self._forgets[t] else state

    def moved(self, t: int, before: Tensor, after: Tensor) -> Tensor:
        """`after` for who acts, `before` for the others."""
        return torch.lerp(before, after, self._acts[t].expand_as(after)) if self._rests[t] else after

    def share(self, t: int, gradient: Tensor) -> tuple[Tensor, Tensor | float]:
        """Of the gradient of a state after a step: what goes to the step's result, and past it."""
        if not self._rests[t]:
            return gradient, 0.0
        through = gradient * self._acts[t]
        return through, gradient - through


class _LSTM(torch.autograd.Function):
    """A long short-term memory over T steps of B streams."""

    @staticmethod
    def forward(
        ctx: Any, driven: Tensor, state: Tensor, starts: Tensor, acts: Tensor, weight: Tensor, bias: Tensor
    ) -> Tensor:
        course = _Course(starts, acts, state)
        output, cell = state.chunk(2, dim=-1)
        kept: list[tuple[Tensor, ...]] = []
        outputs = []
        for t, rows in enumerate(driven):
            output, cell = course.kept(t, output), course.kept(t, cell)
            new, new_cell, gates, bent = _lstm(rows, output, cell, weight, bias)
            kept.append((output, cell, gates, bent))
            outputs.append(new)
            output, cell = course.moved(t, output, new), course.moved(t, cell, new_cell)
        ctx.course, ctx.kept = course, kept
        ctx.save_for_backward(weight)
        return torch.stack(outputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        course, kept = ctx.course, ctx.kept
        driven = gradient.new_empty(*gradient.shape[:2], len(weight))
        d_output, d_cell = torch.zeros_like(gradient[0]), torch.zeros_like(gradient[0])
        for t in range(len(kept) - 1, -1, -1):
            _, cell, gates, bent = kept[t]
            enter, forget, content, leave = gates.chunk(4, dim=-1)
            d_new, past = course.share(t, d_output)
            d_new = d_new + gradient[t]
            d_moved, past_cell = course.share(t, d_cell)
            d_inner = d_moved + d_new * leave * (1 - bent * bent)
            d_gates = torch.cat([d_inner * content, d_inner * cell, d_inner * enter, d_new * bent], dim=-1)
            slopes = gates * (1 - gates)
            slopes.chunk(4, dim=-1)[2].copy_(1 - content * content)
            torch.mul(d_gates, slopes, out=driven[t])
            d_output = course.kept(t, driven[t] @ weight + past)
            d_cell = course.kept(t, d_inner * forget + past_cell)
        flat = driven.flatten(0, 1)
        heard = torch.cat([output for output, *_ in kept])
        return driven, torch.cat([d_output, d_cell], dim=-1), None, None, flat.t() @ heard, flat.sum(dim=0)


class _GRU(torch.autograd.Function):
    """A gated recurrent unit over T steps of B streams."""

    @staticmethod
    def forward(
        ctx: Any, driven: Tensor, state: Tensor, starts: Tensor, acts: Tensor, weight: Tensor, bias: Tensor
    ) -> Tensor:
        course = _Course(starts, acts, state)
        kept: list[tuple[Tensor, ...]] = []
        outputs = []
        for t, rows in enumerate(driven):
            state = course.kept(t, state)
            after, gates, new, echo = _gru(rows, state, weight, bias)
            kept.append((state, gates, new, echo))
            outputs.append(after)
            state = course.moved(t, state, after)
        ctx.course, ctx.kept = course, kept
        ctx.save_for_backward(weight)
        return torch.stack(outputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        course, kept = ctx.course, ctx.kept
        size = gradient.shape[-1]
        driven = gradient.new_empty(*gradient.shape[:2], 3 * size)
        heard = torch.empty_like(driven)
        d_state = torch.zeros_like(gradient[0])
        for t in range(len(kept) - 1, -1, -1):
            state, gates, new, echo = kept[t]
            reset, update = gates.chunk(2, dim=-1)
            d_after, past = course.share(t, d_state)
            d_after = d_after + gradient[t]
            d_inner = d_after * (1 - update) * (1 - new * new)
            d_gates = torch.cat([d_inner * echo, d_after * (state - new)], dim=-1) * (gates * (1 - gates))
            driven[t, :, : 2 * size], driven[t, :, 2 * size :] = d_gates, d_inner
            heard[t, :, : 2 * size] = d_gates
            torch.mul(d_inner, reset, out=heard[t, :, 2 * size :])
            d_state = course.kept(t, torch.addcmul(heard[t] @ weight + past, d_after, update))
        flat = heard.flatten(0, 1)
        before = torch.cat([state for state, *_ in kept])
        return driven, d_state, None, None, flat.t() @ before, flat.sum(dim=0)

"""The networks of policies: hidden layers, a memory between steps, and convolutions for images.

No weight is drawn from torch's global generator, and all run on any device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Memory", "Network", "Torso", "memory_width"]

_GATES = {"lstm": 4, "gru": 3}
_VECTORS = {"none": 0, "gru": 1, "lstm": 2}
_ROOT_2 = math.sqrt(2)


def memory_width(kind: str, size: int) -> int:
    """Numbers that a memory ("none", "lstm" or "gru") keeps between steps: an LSTM's output and its cell, say."""
    return _VECTORS[kind] * size


class Network(nn.Sequential):
    """Hidden layers with tanh, a memory where one is asked for, and a linear output.

    Layers are named as in a sequence with activations between them ("0", "2", ...), the memory "memory".

    Args:
        inputs: Length of an input row.
        hidden: Units of the hidden layers.
        outputs: Length of an output row.
        recurrent: "none", "lstm" or "gru": what stands between the hidden layers and the output.
        recurrent_size: Units of the memory.
        gain: Scale of the output layer's first weights.
        generator: Where they come from; None leaves them unset, for weights that are loaded.

    Attributes:
        memory: The memory, or None.
    """

    def __init__(
        self,
        inputs: int,
        hidden: Sequence[int],
        outputs: int,
        *,
        recurrent: str = "none",
        recurrent_size: int = 0,
        gain: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        # A plain list beside the registered modules: looking a module up costs as much as a small layer.
        self._layers: list[nn.Linear] = []
        width = inputs
        for units in hidden:
            self._append(linear(width, units, _ROOT_2, generator))
            width = units
        self.memory: Memory | None = None
        if recurrent != "none":
            self.memory = Memory(recurrent, width, recurrent_size, generator)
            width = recurrent_size
        self._append(linear(width, outputs, gain, generator))

    @property
    def last(self) -> nn.Linear:
        """The output layer."""
        return self._layers[-1]

    def forward(self, rows: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """One step of each stream.

        Args:
            rows: float32 (n, inputs).
            state: float32 (n, state size), what the streams remember; zeros where None.

        Returns:
            (n, outputs), and the states after the step, None without a memory.
        """
        rows = self._below(rows)
        if self.memory is not None:
            rows, state = self.memory(rows, state)
        last = self._layers[-1]
        return functional.linear(rows, last.weight, last.bias), state

    def unroll(self, rows: Tensor, state: Tensor, starts: Tensor, acts: Tensor) -> Tensor:
        """T steps of B streams.

        Args:
            rows: float32 (T, B, inputs).
            state: float32 (B, state size), before the first step.
            starts: bool (T, B), whether an episode begins with the step's observation: what was remembered is
                forgotten before it.
            acts: bool (T, B), whether the stream acts; where it does not, its state stays as it is.

        Returns:
            (T, B, outputs); those of steps at which a stream does not act mean nothing.
        """
        rows = self._below(rows)
        if self.memory is not None:
            rows = self.memory.unroll(rows, state, starts, acts)
        return functional.linear(rows, self.last.weight, self.last.bias)

    def _append(self, layer: nn.Linear) -> None:
        self.add_module(str(2 * len(self._layers)), layer)
        self._layers.append(layer)

    def _below(self, rows: Tensor) -> Tensor:
        for layer in self._layers[:-1]:
            rows = functional.linear(rows, layer.weight, layer.bias).tanh_()
        return rows


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
        self.weight_ih = nn.Parameter(_orthogonal_blocks(gates, size, inputs, generator))
        self.weight_hh = nn.Parameter(_orthogonal_blocks(gates, size, size, generator))
        self.bias_ih = nn.Parameter(torch.zeros(gates * size))
        self.bias_hh = nn.Parameter(torch.zeros(gates * size))

    def forward(self, rows: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """One step: outputs (n, size) and the states after it."""
        if state is None:
            state = rows.new_zeros(len(rows), memory_width(self.kind, self.size))
        return self._advance(functional.linear(rows, self.weight_ih, self.bias_ih), state)

    def unroll(self, rows: Tensor, state: Tensor, starts: Tensor, acts: Tensor) -> Tensor:
        """T steps: outputs (T, B, size); see `Network.unroll`."""
        # What does not depend on the state is computed for all steps at once.
        driven = functional.linear(rows, self.weight_ih, self.bias_ih)
        keeps = (~starts).unsqueeze(-1).to(state.dtype)
        always, never = acts.all(dim=1).tolist(), (~starts).all(dim=1).tolist()
        outputs = []
        for t in range(len(rows)):
            before = state if never[t] else state * keeps[t]
            output, after = self._advance(driven[t], before)
            state = after if always[t] else torch.where(acts[t].unsqueeze(-1), after, before)
            outputs.append(output)
        return torch.stack(outputs)

    def _advance(self, driven: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return (self._lstm if self.kind == "lstm" else self._gru)(driven, state)

    def _lstm(self, driven: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        output, cell = state.chunk(2, dim=-1)
        gates = driven + functional.linear(output, self.weight_hh, self.bias_hh)
        enter, forget, content, leave = gates.chunk(4, dim=-1)
        cell = forget.sigmoid() * cell + enter.sigmoid() * content.tanh()
        output = leave.sigmoid() * cell.tanh()
        return output, torch.cat([output, cell], dim=-1)

    def _gru(self, driven: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        reset_x, update_x, new_x = driven.chunk(3, dim=-1)
        reset_h, update_h, new_h = functional.linear(state, self.weight_hh, self.bias_hh).chunk(3, dim=-1)
        update = (update_x + update_h).sigmoid()
        new = (new_x + (reset_x + reset_h).sigmoid() * new_h).tanh()
        state = new + update * (state - new)
        return state, state


class Torso(nn.Module):
    """Convolutions that turn images into features.

    From 36 pixels on each side the three layers of Mnih et al. (2015), 8x8, 4x4 and 3x3 with strides 4, 2 and 1; for
    smaller images 3x3 layers that keep their size or halve it. Then one linear layer; all with ReLU.

    Args:
        image: Height, width and channels.
        generator: Where the first weights come from; None leaves them unset.

    Attributes:
        features: Length of what it returns.
    """

    def __init__(self, image: tuple[int, int, int], generator: torch.Generator | None) -> None:
        super().__init__()
        self._image = image
        height, width, channels = image
        large = min(height, width) >= _LARGE
        self.features = 512 if large else 256
        self._strides: list[tuple[int, int]] = []
        convolutions = []
        for units, size, stride in _NATURE if large else _small(min(height, width)):
            padding = 0 if large else size // 2
            convolutions.append(_convolution(channels, units, size, generator))
            self._strides.append((stride, padding))
            height, width = ((side + 2 * padding - size) // stride + 1 for side in (height, width))
            channels = units
        self.convolutions = nn.ModuleList(convolutions)
        self.linear = linear(height * width * channels, self.features, _ROOT_2, generator)

    def forward(self, pixels: Tensor) -> Tensor:
        """Features, float32 (n, features), of uint8 rows (n, H * W * C), channels last."""
        # Seen as channels first without a copy: the memory stays channels last, which convolutions are fast on.
        rows = (pixels.float() / 255).view(-1, *self._image).permute(0, 3, 1, 2)
        for layer, (stride, padding) in zip(self.convolutions, self._strides, strict=True):
            rows = functional.conv2d(rows, layer.weight, layer.bias, stride, padding).relu_()  # type: ignore[arg-type]  # a module
        return functional.linear(rows.flatten(1), self.linear.weight, self.linear.bias).relu_()


_LARGE = 36
"""Pixels from which on the strides of the large network leave something."""
_NATURE = ((32, 8, 4), (64, 4, 2), (64, 3, 1))


def _small(side: int) -> list[tuple[int, int, int]]:
    """Units, size and stride of the layers for images whose shorter side is this long."""
    layers = [(32, 3, 1), (64, 3, 2 if side >= 4 else 1)]
    return layers if side < 12 else [*layers, (64, 3, 2)]


def linear(inputs: int, outputs: int, gain: float, generator: torch.Generator | None) -> nn.Linear:
    """A layer with orthogonal weights (Saxe et al., 2014) and without bias at first."""
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, inputs, outputs)  # type: ignore[no-untyped-call]  # torch
    with torch.no_grad():
        layer.weight.copy_(gain * _orthogonal(outputs, inputs, generator))
        layer.bias.zero_()
    return layer


def _convolution(inputs: int, outputs: int, size: int, generator: torch.Generator | None) -> nn.Conv2d:
    layer: nn.Conv2d = nn.utils.skip_init(nn.Conv2d, inputs, outputs, size)  # type: ignore[no-untyped-call]  # torch
    with torch.no_grad():
        weight = _ROOT_2 * _orthogonal(outputs, inputs * size * size, generator)
        layer.weight.copy_(weight.view(outputs, inputs, size, size))
        if layer.bias is not None:
            layer.bias.zero_()
    return layer


def _orthogonal_blocks(blocks: int, size: int, inputs: int, generator: torch.Generator | None) -> Tensor:
    return torch.cat([_orthogonal(size, inputs, generator) for _ in range(blocks)])


def _orthogonal(rows: int, columns: int, generator: torch.Generator | None) -> Tensor:
    """A matrix with orthonormal rows or columns, whichever are fewer; zeros without a generator."""
    if generator is None:
        return torch.zeros(rows, columns)
    square = torch.empty(max(rows, columns), min(rows, columns), device=generator.device)
    q, r = torch.linalg.qr(square.normal_(generator=generator))
    basis: Tensor = q * torch.sign(torch.diagonal(r))
    return (basis if rows >= columns else basis.T).cpu()

"""The networks of policies: hidden layers with a memory between steps, and convolutions for images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from macurr.training.layers import convolution, linear, tanh_layer
from macurr.training.memories import Memory
from macurr.training.plain import MOST_ROWS, Layers, fits, forward

__all__ = ["Network", "Torso"]

_ROOT_2 = math.sqrt(2)


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
        self._arrays: Layers | None = None
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

    @property
    def arrays(self) -> Layers:
        """Weights and biases as arrays that share their memory; empty where torch is the better place to compute.

        That is on other devices than the processor, in other than single precision, with a memory, and for large
        layers.
        """
        if self._arrays is None:
            layers: Layers = ()
            weight = self.last.weight
            if self.memory is None and weight.is_cpu and weight.dtype is torch.float32:
                layers = [
                    (layer.weight.detach().numpy().T, layer.bias.detach().numpy()) for layer in self._layers
                ]
            self._arrays = layers if fits(layers) else ()
        return self._arrays

    def forward(self, rows: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """One step of each stream.

        Args:
            rows: float32 (n, inputs).
            state: float32 (n, state size), what the streams remember; zeros where None.

        Returns:
            (n, outputs), and the states after the step, None without a memory.
        """
        if rows.shape[0] <= MOST_ROWS and not torch.is_grad_enabled() and self.arrays:
            return torch.from_numpy(forward(self.arrays, rows.numpy())), None
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
        steps, streams = rows.shape[:2]
        rows = self._below(rows.flatten(0, 1)).view(steps, streams, -1)
        if self.memory is not None:
            rows = self.memory.unroll(rows, state, starts, acts)
        return functional.linear(rows, self.last.weight, self.last.bias)

    def _apply(self, *args: Any, **options: Any) -> Network:
        # Parameters may move: to another device, say.
        self._arrays = None
        return super()._apply(*args, **options)  # type: ignore[no-any-return,no-untyped-call]  # torch

    def __getstate__(self) -> dict[str, Any]:
        # Of a copy the arrays would not share the memory.
        return {**self.__dict__, "_arrays": None}

    def _append(self, layer: nn.Linear) -> None:
        self.add_module(str(2 * len(self._layers)), layer)
        self._layers.append(layer)

    def _below(self, rows: Tensor) -> Tensor:
        for layer in self._layers[:-1]:
            rows = tanh_layer(rows, layer.weight, layer.bias)
        return rows


class Torso(nn.Module):
    """Convolutions that turn images into features.

    From 36 pixels on each side the three layers of Mnih et al. (2015), 8x8, 4x4 and 3x3 with strides 4, 2 and 1; for
    smaller images 3x3 layers that keep their size or halve it. Of images larger than about 120 pixels neighbouring
    features are averaged, so that 12 x 12 places are left. Then one linear layer; all with ReLU.

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
            convolutions.append(convolution(channels, units, size, generator))
            self._strides.append((stride, padding))
            height, width = ((side + 2 * padding - size) // stride + 1 for side in (height, width))
            channels = units
        self.convolutions = nn.ModuleList(convolutions)
        self._places = min(height, _MOST), min(width, _MOST)
        self._pools = self._places != (height, width)
        height, width = self._places
        self.linear = linear(height * width * channels, self.features, _ROOT_2, generator)

    def forward(self, pixels: Tensor) -> Tensor:
        """Features, float32 (n, features), of uint8 rows (n, H * W * C), channels last."""
        # Seen as channels first without a copy: the memory stays channels last, which convolutions are fast on.
        rows = (pixels.float() / 255).view(-1, *self._image).permute(0, 3, 1, 2)
        for layer, (stride, padding) in zip(self.convolutions, self._strides, strict=True):
            rows = functional.conv2d(rows, layer.weight, layer.bias, stride, padding).relu_()  # type: ignore[arg-type]  # a module
        if self._pools:
            rows = functional.adaptive_avg_pool2d(rows, self._places)
        return functional.linear(rows.flatten(1), self.linear.weight, self.linear.bias).relu_()


_LARGE = 36
"""Pixels from which on the strides of the large network leave something."""
_MOST = 12
"""Places on each side that the linear layer reads: its weights do not grow with the image."""
_NATURE = ((32, 8, 4), (64, 4, 2), (64, 3, 1))


def _small(side: int) -> list[tuple[int, int, int]]:
    """Units, size and stride of the layers for images whose shorter side is this long."""
    layers = [(32, 3, 1), (64, 3, 2 if side >= 4 else 1)]
    return layers if side < 12 else [*layers, (64, 3, 2)]

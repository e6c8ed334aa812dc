"""Adam with clipped gradients, over all parameters of a policy as one vector.

Networks of policies are small: a step over each parameter by itself is spent on calls, not on arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

__all__ = ["Adam"]

_DECAY = (0.9, 0.999)
_TINY = 1e-5
"""Added to deviations, as usual with PPO; it is 1e-8 elsewhere."""


class Adam:
    """Adam (Kingma and Ba, 2015), with the gradient's norm clipped (Pascanu et al., 2013).

    Args:
        parameters: What to change, by name, all on one device.

    Attributes:
        steps: Steps so far.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        self._names = list(parameters)
        self._parameters: list[Tensor] = list(parameters.values())
        sizes = [parameter.numel() for parameter in self._parameters]
        self._mean, self._square, self._change = (
            torch.zeros(sum(sizes), device=self._parameters[0].device) for _ in range(3)
        )
        self._changes = self._views(self._change)
        self.steps = 0

    def gradient(self, loss: Tensor) -> tuple[Tensor, Tensor]:
        """A loss's gradient in all parameters, one after the other, and its norm ()."""
        # Not backward(): what that adds up in each parameter's own place is added to nothing here.
        parts = torch.autograd.grad(loss, self._parameters, allow_unused=True)
        whole = torch.cat(
            [
                parameter.new_zeros(parameter.numel()) if part is None else part.reshape(-1)
                for part, parameter in zip(parts, self._parameters, strict=True)
            ]
        )
        return whole, torch.linalg.vector_norm(whole)

    @torch.no_grad()
    def step(self, gradient: Tensor, rate: float) -> None:
        """Move the parameters.

        Args:
            gradient: From `gradient`.
            rate: The step size.
        """
        self.steps += 1
        first, second = _DECAY
        self._mean.lerp_(gradient, 1 - first)
        self._square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        deviations = self._square.sqrt().div_(math.sqrt(1 - second**self.steps)).add_(_TINY)
        torch.div(self._mean, deviations, out=self._change)
        torch._foreach_add_(self._parameters, self._changes, alpha=-rate / (1 - first**self.steps))

    def moments(self) -> dict[str, dict[str, Tensor]]:
        """Of each parameter "step" (), "exp_avg" and "exp_avg_sq", shaped like it; nothing before the first step."""
        if not self.steps:
            return {name: {} for name in self._names}
        count = torch.tensor(float(self.steps))
        return {
            name: {"step": count, "exp_avg": mean, "exp_avg_sq": square}
            for name, mean, square in zip(
                self._names, self._views(self._mean), self._views(self._square), strict=True
            )
        }

    @torch.no_grad()
    def load(self, moments: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Go on from `moments()`; of parameters without any they are zeros."""
        self.steps = 0
        self._mean.zero_()
        self._square.zero_()
        means, squares = self._views(self._mean), self._views(self._square)
        for name, mean, square in zip(self._names, means, squares, strict=True):
            if moments[name]:
                mean.copy_(moments[name]["exp_avg"])
                square.copy_(moments[name]["exp_avg_sq"])
                self.steps = max(self.steps, int(moments[name]["step"]))

    def _views(self, whole: Tensor) -> list[Tensor]:
        parts = torch.split(whole, [parameter.numel() for parameter in self._parameters])
        return [part.view_as(parameter) for part, parameter in zip(parts, self._parameters, strict=True)]

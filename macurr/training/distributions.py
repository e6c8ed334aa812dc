"""Distributions over actions: what a network's outputs mean, how to draw from it, and how likely a draw was.

A network gives one row of numbers for each observation, the *parameters*: logits of discrete actions, the logits of
all parts of a multi-discrete action one after the other, or the means of continuous coordinates followed by the
logarithms of their deviations. Masks say what an agent may choose: actions, actions of the parts one after the other,
or which coordinates it has at all.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["ActionDistribution", "Discrete", "Gaussian", "MultiDiscrete"]

_FORBIDDEN = -1e9
"""The logit of an action that is masked: its probability is 0 in single precision."""
_ABSENT = -2e9
"""The logit of what is no action: less likely than the forbidden ones, where everything is forbidden."""
_LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)


class ActionDistribution(ABC):
    """A kind of distribution over actions.

    Attributes:
        width: Parameters of one action.
    """

    width: int

    @abstractmethod
    def sample(self, params: Tensor, masks: Tensor | None, generator: torch.Generator) -> Tensor:
        """Draw actions.

        Args:
            params: float32 (n, width).
            masks: bool (n, actions), what is allowed; None allows all. Of a row that allows nothing the draw is
                arbitrary, but of the action's range.
            generator: Where chance comes from. Noise is drawn on its device, so that a generator of the processor
                gives the same actions on a GPU, up to rounding.

        Returns:
            int64 (n,) or (n, parts), or float32 (n, coordinates).
        """

    @abstractmethod
    def mode(self, params: Tensor, masks: Tensor | None) -> Tensor:
        """The likeliest actions, shaped like a draw; among equals the first."""

    @abstractmethod
    def evaluate(self, params: Tensor, actions: Tensor, masks: Tensor | None) -> tuple[Tensor, Tensor]:
        """Logarithm of the probability (or density) of actions, and the distributions' entropy in nats; each (n,)."""

    def draw(self, params: Tensor, masks: Tensor | None, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Actions, and the logarithms of their probabilities (n,)."""
        actions = self.sample(params, masks, generator)
        return actions, self.evaluate(params, actions, masks)[0]


class Discrete(ActionDistribution):
    """One of several actions, by the softmax of the logits.

    Args:
        actions: How many there are.
    """

    def __init__(self, actions: int) -> None:
        self.width = actions

    def sample(self, params: Tensor, masks: Tensor | None, generator: torch.Generator) -> Tensor:
        """Draw actions, int64 (n,)."""
        return _argmax(params, masks, generator)

    def mode(self, params: Tensor, masks: Tensor | None) -> Tensor:
        """The likeliest actions, int64 (n,)."""
        return _masked(params, masks).argmax(dim=-1)

    def evaluate(self, params: Tensor, actions: Tensor, masks: Tensor | None) -> tuple[Tensor, Tensor]:
        """Logarithm of the probability of actions, and the entropy; each (n,)."""
        logs = functional.log_softmax(_masked(params, masks), dim=-1)
        chosen = logs.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
        return chosen, -(logs.exp() * logs).sum(dim=-1)

    def draw(self, params: Tensor, masks: Tensor | None, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Actions, and the logarithms of their probabilities (n,)."""
        actions = _argmax(params, masks, generator)
        logs = functional.log_softmax(_masked(params, masks), dim=-1)
        return actions, logs.gather(-1, actions.unsqueeze(-1)).squeeze(-1)


class MultiDiscrete(ActionDistribution):
    """Several independent parts, each one of several actions.

    The parts are padded to the largest, so that all are computed at once however many there are.

    Args:
        nvec: Actions of each part.
    """

    def __init__(self, nvec: Sequence[int]) -> None:
        self.nvec = tuple(nvec)
        self.width = sum(self.nvec)
        sizes = torch.tensor(self.nvec)
        starts = torch.cumsum(sizes, 0) - sizes
        places = torch.arange(int(sizes.max()))
        self._present = places < sizes[:, None]
        # What is absent points at the part's first action; its value is never used.
        self._index = torch.where(self._present, starts[:, None] + places, starts[:, None])

    def sample(self, params: Tensor, masks: Tensor | None, generator: torch.Generator) -> Tensor:
        """Draw actions, int64 (n, parts)."""
        logits, allowed = self._parts(params, masks)
        return _argmax(logits, allowed, generator)

    def mode(self, params: Tensor, masks: Tensor | None) -> Tensor:
        """The likeliest actions, int64 (n, parts)."""
        logits, allowed = self._parts(params, masks)
        return logits.masked_fill(~allowed, -math.inf).argmax(dim=-1)

    def evaluate(self, params: Tensor, actions: Tensor, masks: Tensor | None) -> tuple[Tensor, Tensor]:
        """Logarithm of the probability of actions, and the entropy: sums over the parts; each (n,)."""
        logits, allowed = self._parts(params, masks)
        logits = logits.masked_fill(~allowed, _FORBIDDEN).masked_fill(
            ~self._present.to(params.device), _ABSENT
        )
        logs = functional.log_softmax(logits, dim=-1)
        chosen = logs.gather(-1, actions.unsqueeze(-1)).squeeze(-1).sum(dim=-1)
        return chosen, -(logs.exp() * logs).sum(dim=(-1, -2))

    def _parts(self, params: Tensor, masks: Tensor | None) -> tuple[Tensor, Tensor]:
        """Logits and what is allowed, (n, parts, largest)."""
        shape, index = (*params.shape[:-1], *self._index.shape), self._index.to(params.device).reshape(-1)
        logits = params.index_select(-1, index).view(shape)
        present = self._present.to(params.device)
        if masks is None:
            return logits, present
        return logits, masks.index_select(-1, index).view(shape) & present


class Gaussian(ActionDistribution):
    """Independent normal coordinates; masks say which an agent has.

    Args:
        coordinates: How many there are.
    """

    def __init__(self, coordinates: int) -> None:
        self.width = 2 * coordinates

    def sample(self, params: Tensor, masks: Tensor | None, generator: torch.Generator) -> Tensor:
        """Draw actions, float32 (n, coordinates); those that an agent has not mean nothing."""
        means, log_std = params.chunk(2, dim=-1)
        noise = torch.empty(means.shape, device=generator.device).normal_(generator=generator)
        return means + log_std.exp() * noise.to(means.device)

    def mode(self, params: Tensor, masks: Tensor | None) -> Tensor:
        """The means, float32 (n, coordinates)."""
        return params.chunk(2, dim=-1)[0]

    def evaluate(self, params: Tensor, actions: Tensor, masks: Tensor | None) -> tuple[Tensor, Tensor]:
        """Logarithm of the density of actions, and the differential entropy; each (n,)."""
        means, log_std = params.chunk(2, dim=-1)
        logs = -0.5 * ((actions - means) * (-log_std).exp()) ** 2 - log_std - _LOG_SQRT_2PI
        spread = log_std + (0.5 + _LOG_SQRT_2PI)
        if masks is not None:
            # Not a product: what is not there may hold anything.
            logs, spread = logs.masked_fill(~masks, 0.0), spread.masked_fill(~masks, 0.0)
        return logs.sum(dim=-1), spread.sum(dim=-1)


def _masked(logits: Tensor, masks: Tensor | None) -> Tensor:
    return logits if masks is None else logits.masked_fill(~masks, _FORBIDDEN)


def _argmax(logits: Tensor, allowed: Tensor | None, generator: torch.Generator) -> Tensor:
    """A draw from the softmax: the largest of the logits plus Gumbel noise (Maddison et al., 2014)."""
    noise = torch.empty(logits.shape, device=generator.device).exponential_(generator=generator)
    perturbed = logits - noise.log_().to(logits.device)
    if allowed is not None:
        # After the noise, which may be infinite: nothing forbidden is drawn, however rare.
        perturbed = perturbed.masked_fill(~allowed, -math.inf)
    return perturbed.argmax(dim=-1)

"""The actor-critic: two multi-layer perceptrons shared by all agents, told apart by the indicator they see."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from macurr.errors import StateError
from macurr.training.layout import Layout

__all__ = ["Policy", "PolicySpec", "entropy", "log_prob", "mlp_forward", "sample"]

_NEVER = -1e9
"""The logit of an action that is masked: its probability is 0 in single precision."""


@dataclass(frozen=True)
class PolicySpec:
    """The sizes of a policy.

    Attributes:
        features: Length of an observation row.
        actions: Number of discrete actions, or of continuous coordinates.
        discrete: Whether actions are discrete.
        hidden: Units of the hidden layers.
    """

    features: int
    actions: int
    discrete: bool
    hidden: tuple[int, ...]

    @classmethod
    def of(cls, layout: Layout, hidden: Sequence[int]) -> PolicySpec:
        """The sizes that fit an environment."""
        return cls(layout.features, layout.actions, layout.discrete, tuple(hidden))


class Policy(nn.Module):
    """Actor and critic.

    Args:
        spec: The sizes.
        generator: Where the initial weights come from.

    Attributes:
        spec: The sizes.
    """

    def __init__(self, spec: PolicySpec, generator: torch.Generator) -> None:
        super().__init__()
        self.spec = spec
        self.actor = _mlp([spec.features, *spec.hidden, spec.actions], 0.01, generator)
        self.critic = _mlp([spec.features, *spec.hidden, 1], 1.0, generator)
        if not spec.discrete:
            self.log_std = nn.Parameter(torch.zeros(spec.actions))

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Action parameters (logits, or means followed by logarithms of deviations) and values.

        Args:
            observations: float32 (n, features).

        Returns:
            (n, actions) or (n, 2 * actions), and (n,).
        """
        return self.act(observations), self.value(observations)

    def act(self, observations: Tensor) -> Tensor:
        """Action parameters alone."""
        out: Tensor = self.actor(observations)
        return out if self.spec.discrete else torch.cat([out, self.log_std.expand_as(out)], dim=-1)

    def value(self, observations: Tensor) -> Tensor:
        """Values alone, (n,)."""
        values: Tensor = self.critic(observations).squeeze(-1)
        return values

    def arrays(self) -> dict[str, NDArray[Any]]:
        """A copy of all parameters, by name."""
        return {name: tensor.detach().numpy().copy() for name, tensor in self.state_dict().items()}

    def load_arrays(self, arrays: Mapping[str, Any]) -> None:
        """Take over parameters from `arrays()`.

        Raises:
            StateError: they belong to a policy of other sizes; nothing is changed.
        """
        own = self.state_dict()
        shapes = {name: tuple(np.shape(array)) for name, array in arrays.items()}
        wanted = {name: tuple(tensor.shape) for name, tensor in own.items()}
        if shapes != wanted:
            raise StateError(
                f"These parameters have the shapes {shapes}; this policy needs {wanted}. They were made for another "
                "environment or with other hidden layers."
            )
        self.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in arrays.items()})


def sample(spec: PolicySpec, params: Tensor, masks: Tensor | None, generator: torch.Generator) -> Tensor:
    """Draw actions.

    Args:
        spec: The sizes.
        params: What `Policy.act` gave, (n, ...).
        masks: bool (n, actions), the actions that are allowed; None allows all.
        generator: Where chance comes from.

    Returns:
        int64 (n,), or float32 (n, actions).
    """
    if spec.discrete:
        # The largest of logits plus Gumbel noise is a draw from their softmax.
        noise = torch.empty_like(params).exponential_(generator=generator).log_().neg_()
        return (_masked(params, masks) + noise).argmax(dim=-1)
    means, log_std = params.chunk(2, dim=-1)
    return means + log_std.exp() * torch.empty_like(means).normal_(generator=generator)


def log_prob(spec: PolicySpec, params: Tensor, actions: Tensor, masks: Tensor | None) -> Tensor:
    """Logarithm of the probability (or density) of actions, (n,)."""
    if spec.discrete:
        logs = functional.log_softmax(_masked(params, masks), dim=-1)
        return logs.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
    means, log_std = params.chunk(2, dim=-1)
    logs = -0.5 * ((actions - means) / log_std.exp()) ** 2 - log_std - 0.5 * math.log(2 * math.pi)
    return (logs if masks is None else logs * masks).sum(dim=-1)


def entropy(spec: PolicySpec, params: Tensor, masks: Tensor | None) -> Tensor:
    """Entropy of the distribution over actions in nats, (n,)."""
    if spec.discrete:
        logs = functional.log_softmax(_masked(params, masks), dim=-1)
        return -(logs.exp() * logs).sum(dim=-1)
    log_std = params.chunk(2, dim=-1)[1]
    each = log_std + 0.5 * math.log(2 * math.pi * math.e)
    return (each if masks is None else each * masks).sum(dim=-1)


def mlp_forward(layers: Sequence[tuple[Tensor, Tensor]], rows: Tensor) -> Tensor:
    """What the actor computes, from its bare weights: many policies act without a module for each."""
    for weight, bias in layers[:-1]:
        rows = torch.tanh(functional.linear(rows, weight, bias))
    weight, bias = layers[-1]
    return functional.linear(rows, weight, bias)


def _masked(logits: Tensor, masks: Tensor | None) -> Tensor:
    return logits if masks is None else logits.masked_fill(~masks, _NEVER)


def _mlp(sizes: Sequence[int], last_gain: float, generator: torch.Generator) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i, (n_in, n_out) in enumerate(pairwise(sizes)):
        last = i == len(sizes) - 2
        layers.append(_linear(n_in, n_out, last_gain if last else math.sqrt(2), generator))
        if not last:
            layers.append(nn.Tanh())
    return nn.Sequential(*layers)


def _linear(n_in: int, n_out: int, gain: float, generator: torch.Generator) -> nn.Linear:
    """A layer with orthogonal weights, without a draw from torch's global generator."""
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, n_in, n_out)  # type: ignore[no-untyped-call]  # torch
    square = torch.empty(max(n_in, n_out), min(n_in, n_out)).normal_(generator=generator)
    q, r = torch.linalg.qr(square)
    q = q * torch.sign(torch.diagonal(r))
    with torch.no_grad():
        layer.weight.copy_(gain * (q if n_out >= n_in else q.T))
        layer.bias.zero_()
    return layer

"""Running statistics that keep what networks read and predict of order one.

They move between updates only, so that all steps of a rollout are taken by the same policy.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["ObservationNormaliser", "ReturnNormaliser", "RunningMoments"]

_BOUND = 10.0
"""What is normalised is clipped to this many deviations."""
_TINY = 1e-8
_LEAST_DEVIATION = 1e-4
_LEAST_SHARE = 0.01
"""The least weight of a new batch in the statistics of returns, which move as the policy learns."""


class RunningMoments(nn.Module):
    """Mean and variance of columns, merged batch by batch (Chan et al., 1983), in double precision.

    Args:
        columns: How many columns.
        least_share: The least weight of a new batch. With 0 all rows ever seen count the same; above, older batches
            fade exponentially.

    Attributes:
        mean: float64 (columns,).
        var: float64 (columns,), population variance; 1 before the first batch.
        count: float64 (), rows that stand behind them.
    """

    mean: Tensor
    var: Tensor
    count: Tensor

    def __init__(self, columns: int, least_share: float = 0.0) -> None:
        super().__init__()
        self._least_share = least_share
        self.register_buffer("mean", torch.zeros(columns, dtype=torch.float64))
        self.register_buffer("var", torch.ones(columns, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    @torch.no_grad()
    def merge(self, rows: Tensor) -> None:
        """Take in a batch, (n, columns); n = 0 changes nothing."""
        n = len(rows)
        if not n:
            return
        rows = rows.double()
        mean, var = rows.mean(dim=0), rows.var(dim=0, correction=0)
        before = float(self.count)
        share = max(n / (before + n), self._least_share)
        delta = mean - self.mean
        # With share = n / (n + before) these are the moments of all rows together.
        self.var.copy_((1 - share) * self.var + share * var + share * (1 - share) * delta**2)
        self.mean.copy_(self.mean + share * delta)
        self.count.fill_(before + n)


class ObservationNormaliser(RunningMoments):
    """Observations less their mean, over their deviation, clipped to 10 deviations.

    Args:
        features: Length of an observation row.
        agents: Length of the indicator at its end, which is left as it is.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, features: int, agents: int) -> None:
        super().__init__(features - agents)
        self._agents = agents
        # What is computed with: single precision, and for the indicator 0 and 1.
        self.register_buffer("shift", torch.zeros(features), persistent=False)
        self.register_buffer("scale", torch.ones(features), persistent=False)

    def forward(self, rows: Tensor) -> Tensor:
        """Rows (..., features), normalised."""
        return ((rows - self.shift) * self.scale).clamp_(-_BOUND, _BOUND)

    def merge(self, rows: Tensor) -> None:
        """Take in a batch of observation rows, (n, features)."""
        super().merge(rows[:, : len(self.mean)])
        self.refresh()

    def refresh(self) -> None:
        """Compute again what is computed with, after the statistics were set."""
        self.shift[: len(self.mean)].copy_(self.mean)
        self.scale[: len(self.mean)].copy_((self.var + _TINY).rsqrt())


class ReturnNormaliser(RunningMoments):
    """Mean and deviation of returns, for a critic that predicts them normalised (van Hasselt et al., 2016: PopArt)."""

    def __init__(self) -> None:
        super().__init__(1, _LEAST_SHARE)

    @property
    def deviation(self) -> Tensor:
        """float64 (1,); never 0."""
        return self.var.sqrt().clamp(min=_LEAST_DEVIATION)

    def normalise(self, returns: Tensor) -> Tensor:
        """Returns in deviations from the mean."""
        return ((returns - self.mean) / self.deviation).to(returns.dtype)

    def denormalise(self, values: Tensor) -> Tensor:
        """What the critic's outputs stand for."""
        return (values * self.deviation + self.mean).to(values.dtype)

    @torch.no_grad()
    def absorb(self, returns: Tensor, last: nn.Linear) -> None:
        """Take in a batch, and rescale the critic's last layer so that all its values stay what they were.

        With deviation s and mean m before and s', m' after, w' = w s / s' and b' = (s b + m - m') / s'.

        Args:
            returns: float32 (n,).
            last: The critic's last layer, (1, units).
        """
        mean, deviation = self.mean.clone(), self.deviation
        self.merge(returns.unsqueeze(-1))
        weight, bias = last.weight.double(), last.bias.double()
        last.weight.copy_(weight * (deviation / self.deviation))
        last.bias.copy_((deviation * bias + mean - self.mean) / self.deviation)

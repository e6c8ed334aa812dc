"""Feed-forward networks in NumPy, to act by on processors.

For the few dozen rows of a group of environments, a call of torch costs more than the arithmetic in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["MOST_ROWS", "Layers", "Plain", "Team", "fits", "forward"]

MOST_ROWS = 256
"""Rows from which on torch is as fast, and may use its own threads."""

Floats = NDArray[np.float32]
Layers = Sequence[tuple[Floats, Floats]]
"""Weights (inputs, units) and biases (units,) of each layer."""

_SERIAL = 1 << 18
"""Multiplications of one product. From there on BLAS libraries call threads, who wait for work in a loop: that takes
the processors away from the environments."""
_FEWEST = 8
"""Rows that a product must have room for: less is no batch."""
_BOUND = 10.0
_QUIET: dict[str, Any] = {"over": "ignore", "invalid": "ignore"}
"""What is not finite is found by those who are told of it: learners refuse it, with advice."""


def fits(layers: Layers) -> bool:
    """Whether a network is small enough to be computed here faster than by torch."""
    return all(weight.size * _FEWEST <= _SERIAL for weight, _ in layers)


def forward(layers: Layers, rows: Floats) -> Floats:
    """Hidden layers with tanh and a linear output: (n, outputs) of rows (n, inputs)."""
    with np.errstate(**_QUIET):
        for weight, bias in layers[:-1]:
            rows = _product(rows, weight)
            rows += bias
            np.tanh(rows, rows)
        weight, bias = layers[-1]
        rows = _product(rows, weight)
        rows += bias
    return rows


class Plain:
    """A policy that only plays, as arrays.

    Args:
        layers: Its network.
        normaliser: What is taken off each feature, and what the rest is multiplied by; None for neither.
        log_std: Logarithms of the deviations of continuous coordinates, or None.

    Attributes:
        weights: The layers' weights, (inputs, units) each.
        kind: Sizes of all arrays: policies of one kind can play together.
        vectors: What is added to rows or multiplies them, one after the other.
    """

    def __init__(
        self, layers: Layers, normaliser: tuple[Floats, Floats] | None, log_std: Floats | None
    ) -> None:
        self.weights = [np.array(weight, order="C") for weight, _ in layers]
        parts = [*(normaliser or ()), *(bias for _, bias in layers), *(() if log_std is None else (log_std,))]
        self.kind = (normaliser is not None, log_std is not None, *(weight.shape for weight in self.weights))
        self.vectors = np.concatenate(parts)


class Team:
    """Policies of one kind, each of which plays some of the rows of a batch.

    What policies do to rows one by one is done to all rows together: the number of calls hardly grows with the number
    of policies. What comes out for a row depends on the rows of its own policy alone.

    Args:
        policies: The policies.
        counts: Rows of each; they follow each other in the order of the policies.
    """

    def __init__(self, policies: Sequence[Plain], counts: Sequence[int]) -> None:
        first = policies[0]
        ends = np.cumsum(counts).tolist()
        self._slices = [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]
        self._weights = list(zip(*(policy.weights for policy in policies), strict=True))
        self._vectors = np.array([policy.vectors for policy in policies])
        self._player = np.repeat(np.arange(len(policies)), counts)
        self._normalised, self._continuous = first.kind[:2]
        units = [weight.shape[1] for weight in first.weights]
        start = 2 * len(first.weights[0]) if self._normalised else 0
        starts = np.cumsum([start, *units]).tolist()
        self._biases = [slice(*pair) for pair in pairwise(starts)]
        self._log_std = slice(starts[-1], None)

    def parameters(self, rows: Floats) -> Floats:
        """Parameters of distributions over actions, (n, width), of observations (n, features)."""
        vectors = self._vectors.take(self._player, 0)
        with np.errstate(**_QUIET):
            if self._normalised:
                features = rows.shape[1]
                rows = (rows - vectors[:, :features]) * vectors[:, features : 2 * features]
                np.minimum(np.maximum(rows, -_BOUND, out=rows), _BOUND, out=rows)
            for weights, biases in zip(self._weights[:-1], self._biases, strict=False):
                rows = self._products(rows, weights)
                rows += vectors[:, biases]
                np.tanh(rows, rows)
            rows = self._products(rows, self._weights[-1])
            rows += vectors[:, self._biases[-1]]
        return np.concatenate([rows, vectors[:, self._log_std]], axis=1) if self._continuous else rows

    def _products(self, rows: Floats, weights: Sequence[Floats]) -> Floats:
        """Each policy's rows times its weights."""
        after = np.empty((len(rows), weights[0].shape[1]), np.float32)
        for part, weight in zip(self._slices, weights, strict=True):
            _product(rows[part], weight, after[part])
        return after


def _product(rows: Floats, weight: Floats, out: Floats | None = None) -> Floats:
    """The product, so many rows at a time that no threads are called."""
    most = _SERIAL // weight.size
    if len(rows) <= most:
        return rows.dot(weight, out)
    if out is None:
        out = np.empty((len(rows), weight.shape[1]), np.float32)
    for start in range(0, len(rows), most):
        rows[start : start + most].dot(weight, out[start : start + most])
    return out

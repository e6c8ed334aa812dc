"""Mixtures of Gaussians, fitted by expectation-maximisation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["GaussianMixture", "fit_by_aic", "fit_mixture"]

_FLOOR = 1e-6
"""Added to variances, so that a component that sits on equal points stays a distribution."""
_ROUNDS = 100
_ENOUGH = 1e-3


@dataclass(frozen=True)
class GaussianMixture:
    """Several Gaussians with full covariances.

    Attributes:
        weights: Shape (k,), summing to 1.
        means: Shape (k, d).
        covariances: Shape (k, d, d).
    """

    weights: NDArray[np.float64]
    means: NDArray[np.float64]
    covariances: NDArray[np.float64]

    def log_densities(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Log of weight times density of each component at each point, shape (n, k)."""
        cholesky = np.linalg.cholesky(self.covariances)
        centred = points[None] - self.means[:, None]  # (k, n, d)
        whitened = np.linalg.solve(cholesky, centred.transpose(0, 2, 1))  # (k, d, n)
        log_determinants = 2.0 * np.log(np.diagonal(cholesky, axis1=1, axis2=2)).sum(axis=1)
        d = points.shape[1]
        constants: NDArray[np.float64] = np.log(np.maximum(self.weights, 1e-300)) - 0.5 * (
            d * math.log(2 * math.pi) + log_determinants
        )
        densities: NDArray[np.float64] = (constants[:, None] - 0.5 * (whitened**2).sum(axis=1)).T
        return densities

    def log_likelihood(self, points: NDArray[np.float64]) -> float:
        """The log-likelihood of independent points."""
        return float(np.sum(_log_sum(self.log_densities(points))))

    def aic(self, points: NDArray[np.float64]) -> float:
        """Akaike's information criterion: 2 parameters - 2 log-likelihood; smaller is better."""
        k, d = self.means.shape
        parameters = (k - 1) + k * d + k * d * (d + 1) // 2
        return 2.0 * float(parameters) - 2.0 * self.log_likelihood(points)


def fit_mixture(points: NDArray[np.float64], k: int, rng: np.random.Generator) -> GaussianMixture:
    """Fit k Gaussians by expectation-maximisation (Dempster, Laird and Rubin 1977) from k-means++ seeds.

    It ends when the mean log-likelihood gains less than 1e-3 in a round, or after 100 rounds.

    Args:
        points: Shape (n, d), n at least k.
        k: How many Gaussians.
        rng: Where the seeds come from.
    """
    distances = ((points[:, None] - _seeds(points, k, rng)[None]) ** 2).sum(axis=2)
    shares = np.eye(k)[distances.argmin(axis=1)]
    before = -math.inf
    mixture = _maximise(points, shares)
    for _ in range(_ROUNDS):
        logs = mixture.log_densities(points)
        totals = _log_sum(logs)
        likelihood = float(totals.mean())
        if likelihood - before < _ENOUGH:
            break
        before = likelihood
        mixture = _maximise(points, np.exp(logs - totals[:, None]))
    return mixture


def fit_by_aic(
    points: NDArray[np.float64], most: int, rng: np.random.Generator, least: int = 2
) -> GaussianMixture:
    """The mixture of `least` to `most` Gaussians with the smallest AIC."""
    fits = [fit_mixture(points, k, rng) for k in range(least, max(least, most) + 1)]
    return min(fits, key=lambda mixture: mixture.aic(points))


def _maximise(points: NDArray[np.float64], shares: NDArray[np.float64]) -> GaussianMixture:
    """The mixture that explains points best if component j owns `shares[i, j]` of point i."""
    mass = shares.sum(axis=0) + 1e-12
    means = shares.T @ points / mass[:, None]
    centred = points[None] - means[:, None]
    covariances = np.einsum("nk,kni,knj->kij", shares, centred, centred) / mass[:, None, None]
    return GaussianMixture(mass / mass.sum(), means, covariances + _FLOOR * np.eye(points.shape[1]))


def _seeds(points: NDArray[np.float64], k: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Points far from one another: k of them, k-means++ (Arthur and Vassilvitskii 2007)."""
    chosen = [points[rng.integers(len(points))]]
    while len(chosen) < k:
        squares = ((points[:, None] - np.array(chosen)[None]) ** 2).sum(axis=2).min(axis=1)
        total = squares.sum()
        probabilities = squares / total if total > 0 else None
        chosen.append(points[rng.choice(len(points), p=probabilities)])
    return np.array(chosen)


def _log_sum(logs: NDArray[np.float64]) -> NDArray[np.float64]:
    highest = logs.max(axis=1)
    total: NDArray[np.float64] = highest + np.log(np.exp(logs - highest[:, None]).sum(axis=1))
    return total

"""Numbers over the course of a run, made fit to be drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["MOST_POINTS", "Floats", "bounds", "ends", "smooth", "thin"]

Floats = NDArray[np.float64]

MOST_POINTS = 300
"""Points of a curve: more than a chart has room for only make the page heavy."""


def smooth(values: Floats, share: float = 0.05) -> Floats:
    """Centred moving average over a share of the run; what is no number is left out of it, and small gaps close."""
    values = np.asarray(values, np.float64)
    width = max(1, int(len(values) * share)) | 1
    known = np.isfinite(values)
    kernel = np.ones(width)
    sums = np.convolve(np.where(known, values, 0.0), kernel, mode="same")
    weights = np.convolve(known.astype(np.float64), kernel, mode="same")
    with np.errstate(invalid="ignore", divide="ignore"):
        averages: Floats = sums / weights
    return averages if len(values) >= width else values


def ends(values: Floats) -> tuple[float, float]:
    """The first and the last of the numbers; not a number where there is none."""
    known = values[np.isfinite(values)]
    return (float(known[0]), float(known[-1])) if len(known) else (float("nan"), float("nan"))


def thin(columns: Mapping[str, Any], most: int = MOST_POINTS) -> dict[str, Floats]:
    """At most so many rows: neighbours are averaged, what is no number left out.

    Args:
        columns: Columns of one length by name.
        most: Rows to keep.
    """
    arrays = {name: np.asarray(values, np.float64) for name, values in columns.items()}
    length = len(next(iter(arrays.values()), ()))
    if length <= most:
        return arrays
    edges = np.linspace(0, length, most + 1).astype(int)[:-1]
    counts = np.diff([*edges, length])
    thinned = {}
    for name, values in arrays.items():
        known = np.isfinite(values)
        sums = np.add.reduceat(np.where(known, values, 0.0), edges)
        numbers = np.add.reduceat(known.astype(np.float64), edges)
        whole = numbers == counts
        mean = np.divide(sums, numbers, out=np.full(most, np.nan), where=numbers > 0)
        thinned[name] = np.where(whole, sums / counts, mean)
    return thinned


def bounds(*arrays: Any, floor: float | None = None, room: float = 0.06) -> tuple[float, float]:
    """The range that holds all finite numbers, with some room; (0, 1) where there are none.

    Args:
        arrays: Numbers of any shape.
        floor: A number that the range holds in any case, such as 0.
        room: Share of the range that is added at either end; at the floor none is.
    """
    flat = np.concatenate([np.ravel(np.asarray(array, np.float64)) for array in arrays])
    flat = flat[np.isfinite(flat)]
    if not len(flat):
        return 0.0, 1.0
    low, high = float(flat.min()), float(flat.max())
    if floor is not None:
        low, high = min(low, floor), max(high, floor)
    if low == high and floor is None:
        # A number that never changes: an axis of its own size, not one of its last digits.
        return low - (abs(low) or 1.0) / 2, high + (abs(high) or 1.0) / 2
    extent = high - low or max(abs(high), 1.0) * 0.1
    bottom = low if floor is not None and low == floor else low - room * extent
    top = high if floor is not None and high == floor and low < high else high + room * extent
    return bottom, top

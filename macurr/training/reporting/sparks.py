"""Small pictures within a line of text: no axes, no labels."""

from __future__ import annotations

import numpy as np

from macurr.training.reporting.series import Floats, bounds
from macurr.training.reporting.svg import Axis, Canvas

__all__ = ["spark"]


def spark(steps: Floats, scores: Floats, plays: Floats, label: str) -> str:
    """A level's score over the run as a small line, above bars of how often it was played.

    Args:
        steps: float64 (n,).
        scores: float64 (n,), not a number where it was not known.
        plays: float64 (n,), episodes since the step before.
        label: What it shows.
    """
    low, high = bounds(scores, floor=0.0)
    canvas = Canvas(
        Axis(0.0, float(steps[-1]) or 1.0, (), ()),
        Axis(low, high, (), ()),
        width=300,
        height=64,
        left=2,
        right=2,
        top=4,
        bottom=18,
    )
    highest = max(float(plays.max()), 1.0)
    starts = np.concatenate([[0.0], steps[:-1]])
    for left, right, played in zip(canvas.at_x(starts), canvas.at_x(steps), plays, strict=True):
        if played:
            height = 14.0 * float(played) / highest
            canvas.add(
                "rect",
                x=float(left),
                width=max(float(right - left) - 0.6, 0.6),
                y=64 - height,
                height=height,
                fill="var(--steel)",
            )
    canvas.path(steps, scores, stroke="var(--win)", class_="curve thin")
    return canvas.svg(label)

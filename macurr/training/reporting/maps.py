"""When what was played: a row for each opponent or level, a column for each stretch of the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from macurr.training.reporting.charts import SLIM, Chart, steps_axis
from macurr.training.reporting.series import Floats
from macurr.training.reporting.svg import Axis, Canvas, element
from macurr.training.reporting.words import short_steps

__all__ = ["Band", "play_map"]

_WIDE = 1240.0
_ROW, _HEAD, _FOOT = 15.0, 22.0, 44.0
"""Units of a row's height, of the line above a band, and of what is below the last."""
_SLIM_ROWS, _SLIM_COLUMNS = 16, 24
"""What a phone has room for."""


@dataclass(frozen=True)
class Band:
    """Rows of one kind.

    Attributes:
        title: What the rows are.
        names: What to call them, from the top down.
        plays: int64 (rows, n), episodes in each stretch.
        said: What a row is, for a pointer: from its name.
        totals: int64 (n,), all episodes of each stretch, where colours stand for shares of them; None where they stand
            for episodes.
    """

    title: str
    names: tuple[str, ...]
    plays: NDArray[np.int64]
    said: Callable[[str], str]
    totals: NDArray[np.int64] | None = None

    @property
    def amounts(self) -> Floats:
        """What the colours stand for: episodes, or shares of them."""
        amounts: Floats = self.plays / (1 if self.totals is None else np.maximum(self.totals, 1))
        return amounts


def play_map(title: str, note: str, bands: Sequence[Band], steps: Floats) -> Chart:
    """When opponents and levels were played, one above the other: the stronger the colour, the more.

    Args:
        title: What it is about.
        note: How to read it.
        bands: The rows.
        steps: float64 (n,), the ends of the stretches.
    """
    rows = ", ".join(f"{len(band.names)} {band.title}" for band in bands)
    label = f"{title}. {rows}."
    slim_steps, slim = _slim(bands, steps)
    return Chart(
        title,
        note,
        _draw(bands, steps, _WIDE, 7, label),
        size="whole",
        small=_draw(slim, slim_steps, SLIM, 5, label),
    )


def _slim(bands: Sequence[Band], steps: Floats) -> tuple[Floats, list[Band]]:
    """Fewer rows, of the most played, and fewer columns, each of several stretches."""
    edges = np.unique(np.linspace(0, len(steps), min(len(steps), _SLIM_COLUMNS) + 1).astype(int))
    found = []
    for band in bands:
        kept = np.sort(np.argsort(-band.plays.sum(axis=1), kind="stable")[:_SLIM_ROWS])
        plays = np.add.reduceat(band.plays[kept], edges[:-1], axis=1)
        names = tuple(band.names[i] for i in kept)
        totals = None if band.totals is None else np.add.reduceat(band.totals, edges[:-1])
        found.append(Band(band.title, names, plays, band.said, totals))
    return steps[edges[1:] - 1], found


def _draw(bands: Sequence[Band], steps: Floats, width: float, most: int, label: str) -> str:
    height = sum(_HEAD + _ROW * len(band.names) for band in bands) + _FOOT
    longest = max(len(name) for band in bands for name in band.names)
    canvas = Canvas(
        steps_axis(0.0, float(steps[-1]), most),
        Axis(0.0, 1.0, (), ()),
        width=width,
        height=height,
        left=12.0 + 7.4 * longest,
        bottom=_FOOT - 4,
    )
    top = 0.0
    for band in bands:
        canvas.text(0, top + _HEAD - 7, band.title, class_="title")
        _rows(canvas, band, steps, top + _HEAD)
        top += _HEAD + _ROW * len(band.names)
    canvas.labels()
    return canvas.svg(label)


def _rows(canvas: Canvas, band: Band, steps: Floats, top: float) -> None:
    starts = np.concatenate([[0.0], steps[:-1]])
    left, right = canvas.at_x(starts), canvas.at_x(steps)
    weights = band.amounts / (band.amounts.max(initial=0.0) or 1.0)
    for i, name in enumerate(band.names):
        y = top + i * _ROW
        canvas.text(canvas.left - 8, y + _ROW / 2 + 4, name, class_="tick end")
        wide = canvas.width - canvas.left - canvas.right
        canvas.add("rect", x=canvas.left, y=y + 0.5, width=wide, height=_ROW - 1, fill="var(--cell)")
        for k in np.flatnonzero(band.plays[i]):
            span = f"{short_steps(starts[k])} to {short_steps(steps[k])} steps"
            canvas.add(
                "rect",
                element("title", escape(f"{band.said(name)}: {band.plays[i, k]} episodes, {span}")),
                x=float(left[k]),
                y=y + 0.5,
                width=float(right[k] - left[k]),
                height=_ROW - 1,
                fill="var(--heat)",
                fill_opacity=f"{max(float(weights[i, k]) ** 0.6, 0.06):.2f}",
            )

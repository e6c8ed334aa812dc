"""The charts of a report: each takes numbers and gives a `Chart`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from macurr.training.reporting.series import Floats, bounds, ends, smooth, thin
from macurr.training.reporting.svg import Axis, Canvas, axis, element
from macurr.training.reporting.words import MISSING, number, percent, short_steps

__all__ = [
    "SERIES",
    "SLIM",
    "Chart",
    "Line",
    "Mark",
    "Words",
    "fan",
    "histogram",
    "lines",
    "percents",
    "run_axis",
    "stack",
    "steps_axis",
]

SERIES = ("blue", "gold", "win", "loss", "violet", "moss", "rose", "steel")
"""Colours of curves that mean nothing by themselves, in the order in which they are given out."""

SLIM = 340.0
"""Units of the view box of a chart that is drawn for a phone."""

Words = Callable[[float], str]
"""How to write a number."""


@dataclass(frozen=True)
class Chart:
    """A picture for the page.

    Attributes:
        title: What it is about.
        note: How to read it.
        svg: The picture, as markup.
        keys: (colour, name) of what it shows, for the legend; empty where the picture says it.
        reading: What a pointer can read off it, as JSON; "" for nothing.
        size: Its part of the page's width: "third", "half" or "whole".
        small: The picture for a phone, as markup; "" where the picture itself fits one.
    """

    title: str
    note: str
    svg: str
    keys: tuple[tuple[str, str], ...] = ()
    reading: str = ""
    size: str = "half"
    small: str = ""


@dataclass(frozen=True)
class Line:
    """A curve.

    Attributes:
        name: What it is called.
        values: Its numbers.
        colour: A name of the palette.
    """

    name: str
    values: Floats
    colour: str


@dataclass(frozen=True)
class Mark:
    """A ring on a chart, where something happened.

    Attributes:
        step: When.
        value: At which number.
        colour: A name of the palette.
        said: What happened.
    """

    step: float
    value: float
    colour: str
    said: str


def steps_axis(low: float, high: float, most: int = 7) -> Axis:
    """An axis of environment steps."""
    return axis(low, high, short_steps, most=most, title="environment steps")


def run_axis(steps: Floats, most: int = 7) -> Axis:
    """The axis of a curve: from its first step to its last; from the run's beginning where there is one alone."""
    return steps_axis(float(steps[0]) if len(steps) > 1 else 0.0, float(steps[-1]), most)


def percents(value: float) -> str:
    """A share as a percentage, with as many digits as it needs."""
    small = abs(value) < 0.1 and abs(100 * value - round(100 * value)) >= 0.05
    return percent(value, 1 if small else 0)


def lines(
    title: str,
    note: str,
    steps: Floats,
    curves: Sequence[Line],
    *,
    words: Words = number,
    floor: float | None = None,
    span: tuple[float, float] | None = None,
    narrow: bool = False,
    averaged: bool = True,
    held: bool = False,
    marks: Sequence[Mark] = (),
) -> Chart:
    """Curves over the steps of a run: the numbers faint, and their moving average.

    Args:
        title: What it is about.
        note: How to read it.
        steps: float64 (n,).
        curves: The curves.
        words: How to write their numbers.
        floor: A number that the chart shows in any case.
        span: The range of the chart; None for that of the numbers.
        narrow: Whether it takes a third of the page's width only.
        averaged: Whether the curves are moving averages; otherwise they are the numbers themselves.
        held: Whether a number holds until the next, and is drawn so, as stairs; it is not averaged then.
        marks: Rings on top.
    """
    averaged = averaged and not held
    x = thin({"steps": steps})["steps"]
    drawn = thin({str(i): curve.values for i, curve in enumerate(curves)})
    averages = thin({str(i): smooth(curve.values) for i, curve in enumerate(curves)}) if averaged else drawn
    low, high = span or bounds(*(drawn if len(curves) == 1 else averages).values(), floor=floor)
    canvas = Canvas(run_axis(x, 6 if narrow else 7), axis(low, high, words))
    if narrow:
        canvas.width, canvas.height = 410, 240
    canvas.grid()
    for name, curve in zip(drawn, curves, strict=True):
        colour = f"var(--{curve.colour})"
        if len(curves) <= 2 and averaged:
            canvas.path(x, drawn[name], stroke=colour, class_="raw")
        canvas.path(*(_stairs if held else _as_they_are)(x, averages[name]), stroke=colour, class_="curve")
    for mark in marks:
        _ring(canvas, mark)
    canvas.labels()
    keys = tuple((curve.colour, curve.name) for curve in curves) if len(curves) > 1 else ()
    label = f"{title}. " + "; ".join(_course(curve, words) for curve in curves)
    said = [(curve.name, curve.colour, drawn[name], words) for name, curve in zip(drawn, curves, strict=True)]
    size = "third" if narrow else "half"
    return Chart(title, note, canvas.svg(label), keys, _reading(canvas, x, said), size)


def stack(
    title: str,
    note: str,
    steps: Floats,
    parts: Sequence[Line],
    *,
    words: Words = percents,
    top: float | None = 1.0,
) -> Chart:
    """Amounts on top of each other, over the steps of a run.

    Args:
        title: What it is about.
        note: How to read it.
        steps: float64 (n,).
        parts: The amounts, from the bottom up.
        words: How to write a number.
        top: The end of the axis; None for the largest sum.
    """
    x = thin({"steps": steps})["steps"]
    raw = thin({part.name: part.values for part in parts})
    level = thin({part.name: smooth(part.values) for part in parts})
    sums = np.cumsum([np.nan_to_num(level[part.name]) for part in parts], axis=0)
    high = top if top is not None else bounds(sums, floor=0.0)[1]
    canvas = Canvas(run_axis(x), axis(0.0, high, words))
    # What is known of one update alone is of the time before it.
    ends_at = x if len(x) > 1 else np.array([0.0, x[0]])
    below = np.zeros(len(ends_at))
    for part, sums_so_far in zip(parts, sums, strict=True):
        above = np.broadcast_to(sums_so_far, ends_at.shape)
        canvas.band(ends_at, below, above, fill=f"var(--{part.colour})", class_="part")
        below = above
    canvas.grid()
    canvas.labels()
    label = f"{title}. " + "; ".join(_course(part, words) for part in parts)
    said = [(part.name, part.colour, raw[part.name], words) for part in reversed(parts)]
    keys = tuple((part.colour, part.name) for part in parts)
    return Chart(title, note, canvas.svg(label), keys, _reading(canvas, x, said))


def fan(title: str, note: str, steps: Floats, quantiles: Mapping[str, Floats]) -> Chart:
    """The spread of many numbers over the steps of a run.

    Args:
        title: What it is about.
        note: How to read it.
        steps: float64 (n,).
        quantiles: "5 %", "25 %", "median", "75 %", "95 %" and "99 %" of them, float64 (n,) each.
    """
    low, high = bounds(*quantiles.values(), floor=0.0)
    canvas = Canvas(run_axis(steps), axis(low, high, number))
    canvas.grid()
    for below, above, shade in (("5 %", "95 %", "0.16"), ("25 %", "75 %", "0.3")):
        canvas.band(steps, quantiles[below], quantiles[above], fill="var(--win)", fill_opacity=shade)
    canvas.path(steps, quantiles["median"], stroke="var(--win)", class_="curve")
    canvas.path(steps, quantiles["99 %"], stroke="var(--loss)", class_="curve thin")
    canvas.labels()
    keys = (("win", "median, middle half and middle 90 % of the levels"), ("loss", "highest 1 %"))
    said = [
        (name, "loss" if name == "99 %" else "win", values, number)
        for name, values in reversed(list(quantiles.items()))
    ]
    label = f"{title}. Median {number(float(quantiles['median'][-1]))} at the end."
    return Chart(title, note, canvas.svg(label), keys, _reading(canvas, steps, said))


def histogram(title: str, note: str, samples: Sequence[Line], unit: str, bins: int = 36) -> Chart:
    """How numbers are spread, at one time or at several.

    Args:
        title: What it is about.
        note: How to read it.
        samples: The numbers of each time; the last is filled.
        unit: What they are.
        bins: Number of bins.
    """
    known = [sample.values[np.isfinite(sample.values)] for sample in samples]
    everything = np.concatenate(known)
    low, high = float(min(everything.min(), 0.0)), float(np.quantile(everything, 0.995))
    edges = np.linspace(low, high if high > low else low + 1.0, bins + 1)
    shares = [np.histogram(np.clip(v, edges[0], edges[-1]), edges)[0] / max(len(v), 1) for v in known]
    top = max(float(share.max()) for share in shares)
    x = np.repeat(edges, 2)[1:-1]
    keys = tuple((sample.colour, sample.name) for sample in samples)
    medians = "; ".join(
        f"{s.name}: median {number(float(np.median(v)))}" for s, v in zip(samples, known, strict=True)
    )

    def draw(width: float, most: int) -> str:
        along = axis(edges[0], edges[-1], number, most=most, title=unit)
        canvas = Canvas(along, axis(0.0, 1.08 * top, percents), width=width)
        canvas.grid()
        for sample, share in zip(samples, shares, strict=True):
            y, colour = np.repeat(share, 2), f"var(--{sample.colour})"
            if sample is samples[-1]:
                canvas.band(x, np.zeros(len(x)), y, fill=colour, fill_opacity="0.25")
            canvas.path(x, y, stroke=colour, class_="curve thin")
        canvas.labels()
        return canvas.svg(f"{title}. {medians}.")

    return Chart(title, note, draw(620, 6), keys, small=draw(SLIM, 5))


def _stairs(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """A line through numbers that each hold until the next."""
    return np.repeat(x, 2)[1:], np.repeat(y, 2)[:-1]


def _as_they_are(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    return x, y


def _ring(canvas: Canvas, mark: Mark) -> None:
    canvas.add(
        "circle",
        element("title", escape(mark.said)),
        cx=float(canvas.at_x(mark.step)),
        cy=float(canvas.at_y(mark.value)),
        r=5.5,
        class_="ring",
        stroke=f"var(--{mark.colour})",
    )


def _course(line: Line, words: Words) -> str:
    """From where to where a line goes, in words."""
    first, last = map(words, ends(smooth(line.values)))
    return f"{line.name}: from {first} to {last}"


def _reading(canvas: Canvas, x: Floats, series: Sequence[tuple[str, str, Floats, Words]]) -> str:
    """What the page's script needs to tell the numbers under a pointer."""
    data: dict[str, Any] = {
        "at": [round(float(place), 1) for place in canvas.at_x(x)],
        "box": [canvas.left, canvas.top, canvas.width - canvas.right, canvas.height - canvas.bottom],
        "head": [f"{float(step):,.0f} steps" for step in x],
        "rows": [
            {
                "name": name,
                "colour": colour,
                "said": [words(float(value)) if np.isfinite(value) else MISSING for value in values],
            }
            for name, colour, values, words in series
        ],
    }
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False)

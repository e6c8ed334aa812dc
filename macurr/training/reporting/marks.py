"""The charts of single results: points with their intervals, and matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from macurr.training.reporting.charts import SLIM, Chart, Words, percents, steps_axis
from macurr.training.reporting.series import Floats, bounds
from macurr.training.reporting.svg import Axis, Canvas, axis, element
from macurr.training.reporting.words import count, number, percent

__all__ = ["Point", "matrix", "matrix_height", "means", "ratings", "scores"]

_LETTER = 7.0
"""Units that a letter of a label is wide."""


@dataclass(frozen=True)
class Point:
    """A result with its 95 % interval.

    Attributes:
        name: What it is of.
        value: The result.
        low: Lower end.
        high: Upper end.
        at: Environment steps that it belongs to; None for none.
    """

    name: str
    value: float
    low: float
    high: float
    at: float | None = None


def scores(title: str, note: str, points: Sequence[Point], under: str, *, height: float = 290) -> Chart:
    """Scores from 0 to 1 side by side, in colour where the interval is clear of one half.

    Args:
        title: What it is about.
        note: How to read it.
        points: The scores.
        under: What the names are.
        height: Units of the view box.
    """
    low = min(0.3, *(point.low - 0.04 for point in points))
    colours = ["win" if p.low > 0.5 else "loss" if p.high < 0.5 else "steel" for p in points]
    said = "; ".join(f"{p.name}: {percent(p.value)}" for p in points)

    def draw(width: float, tall: float) -> str:
        upwards = axis(max(low, 0.0), 1.05, percents, most=8)
        canvas = Canvas(_places(points, under, width), upwards, width=width, height=tall)
        canvas.grid()
        half = float(canvas.at_y(0.5))
        canvas.add("line", class_="even", x1=canvas.left, x2=canvas.width - canvas.right, y1=half, y2=half)
        _columns(canvas, points, colours, percent)
        return canvas.svg(f"{title}. {said}.")

    return Chart(title, note, draw(620, height), small=draw(SLIM, 260))


def means(title: str, note: str, points: Sequence[Point], under: str) -> Chart:
    """Numbers of any size side by side, the last of them in colour.

    Args:
        title: What it is about.
        note: How to read it.
        points: The numbers.
        under: What the names are.
    """
    low, high = bounds([p.low for p in points], [p.high for p in points], room=0.1)
    said = "; ".join(f"{p.name}: {number(p.value)}" for p in points)

    def draw(width: float, tall: float) -> str:
        canvas = Canvas(_places(points, under, width), axis(low, high, number), width=width, height=tall)
        canvas.grid()
        _columns(canvas, points, ["steel"] * (len(points) - 1) + ["win"], number)
        return canvas.svg(f"{title}. {said}.")

    return Chart(title, note, draw(1240, 300), size="whole", small=draw(SLIM, 260))


def _places(points: Sequence[Point], under: str, width: float) -> Axis:
    """A place for each point, and fewer names where they are many."""
    step = -(-len(points) // (14 if width > SLIM else 7))
    shown = range(0, len(points), step)
    names = tuple(points[i].name for i in shown)
    return Axis(-0.6, len(points) - 0.4, tuple(float(i) for i in shown), names, under)


def _columns(canvas: Canvas, points: Sequence[Point], colours: Sequence[str], words: Words) -> None:
    """Dots with their intervals, and the numbers above them where there is room."""
    room = (canvas.width - canvas.left - canvas.right) / len(points)
    widest = (max(len(words(point.value)) for point in points) + 1) * _LETTER
    for place, point, colour in zip(canvas.at_x(range(len(points))), points, colours, strict=True):
        _point(canvas, float(place), point, colour, words)
        if widest <= room:
            top = float(canvas.at_y(point.high)) - 7
            canvas.text(float(place), top, words(point.value), class_="mark middle")
    canvas.labels()


def ratings(title: str, note: str, points: Sequence[Point], end: float) -> Chart:
    """Ratings over the steps at which their players were taken.

    Args:
        title: What it is about.
        note: How to read it.
        points: The ratings, in order of their steps.
        end: Steps at the end of the axis.
    """
    low, high = bounds([p.low for p in points], [p.high for p in points])
    xs, ys = np.array([p.at for p in points], np.float64), np.array([p.value for p in points])
    said = "; ".join(f"{p.name}: {p.value:.0f}" for p in points)

    def draw(width: float, tall: float, most: int) -> str:
        canvas = Canvas(steps_axis(0.0, end, most), axis(low, high, count), width=width, height=tall)
        canvas.grid()
        canvas.path(xs, ys, stroke="var(--blue)", class_="curve thin")
        for x, point in zip(canvas.at_x(xs), points, strict=True):
            _point(canvas, float(x), point, "blue", count)
        canvas.labels()
        return canvas.svg(f"{title}. {said}.")

    return Chart(title, note, draw(620, 290, 7), small=draw(SLIM, 260, 5))


def _point(canvas: Canvas, x: float, point: Point, colour: str, words: Words) -> None:
    """A dot and its interval, with the numbers for a pointer."""
    low, middle, high = canvas.at_y([point.low, point.value, point.high])
    fill = f"var(--{colour})"
    said = f"{point.name}: {words(point.value)} (95 %: {words(point.low)} to {words(point.high)})"
    canvas.add(
        "g",
        element("title", escape(said)),
        element("line", x1=x, x2=x, y1=float(low), y2=float(high), stroke=fill, class_="interval"),
        element("circle", cx=x, cy=float(middle), r=4.5, fill=fill, class_="dot"),
    )


def matrix(title: str, note: str, names: Sequence[str], values: Floats) -> Chart:
    """Scores of rows against columns, 0 to 1; what is no number stays empty."""

    def draw(span: float) -> str:
        return _matrix(title, names, values, _side(len(names), span))

    return Chart(title, note, draw(_SPAN), small=draw(SLIM - _MARGIN - 4))


_SPAN, _MARGIN = 520.0, 66.0
"""Units that the cells of a matrix take at most, and those of the names beside them."""


def _matrix(title: str, names: Sequence[str], values: Floats, cell: float) -> str:
    n = len(names)
    left, top = _MARGIN, 30.0
    # Names above the columns stand side by side; where they would touch, every so many are left out.
    every = max(1, math.ceil(max(map(len, names)) * _LETTER / cell))
    parts = []
    for i in range(n):
        y = top + i * cell
        if (n - 1 - i) % math.ceil(2 * _LETTER / cell) == 0:
            parts.append(_label(left - 8, y + cell / 2 + 4, names[i], "tick end"))
        if (n - 1 - i) % every == 0:
            parts.append(_label(left + (i + 0.5) * cell, top - 10, names[i], "tick middle"))
        for j in range(n):
            parts.append(_cell(left + j * cell, y, cell, float(values[i, j]), (names[i], names[j])))
    width, height = left + n * cell + 4, top + n * cell + 4
    known = int(np.isfinite(values).sum())
    return element(
        "svg",
        *parts,
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        role="img",
        aria_label=f"{title}. {known} scores of {n} players against each other.",
        style=f"max-width:{max(width, 260):.0f}px",
    )


def matrix_height(n: int) -> float:
    """Units that a matrix of so many players is high."""
    return 34.0 + n * _side(n, _SPAN)


def _side(n: int, span: float) -> float:
    """Units of a cell's side."""
    return min(44.0, span / n)


def _label(x: float, y: float, said: str, kind: str) -> str:
    return element("text", escape(said), x=x, y=y, class_=kind)


def _cell(x: float, y: float, size: float, value: float, names: tuple[str, str]) -> str:
    """A square in the winner's colour, the stronger the clearer."""
    box = {"x": x + 1, "y": y + 1, "width": size - 2, "height": size - 2, "rx": 3.0}
    if not np.isfinite(value):
        return element("rect", fill="var(--line)", fill_opacity="0.6", **box)
    strength = min(abs(value - 0.5) * 2.0, 1.0)
    number_fits = size >= 3 * _LETTER - 1
    return element(
        "g",
        element("title", escape(f"{names[0]} scores {percent(value, 1)} against {names[1]}")),
        element("rect", fill="var(--cell)", **box),
        element(
            "rect",
            fill="var(--win)" if value >= 0.5 else "var(--loss)",
            fill_opacity=f"{0.85 * strength:.3f}",
            **box,
        ),
        element(
            "text",
            f"{100 * value:.0f}",
            x=x + size / 2,
            y=y + size / 2 + 4,
            class_="mark middle strong" if strength > 0.7 else "mark middle",
        )
        if number_fits
        else "",
    )

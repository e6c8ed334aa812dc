"""Scalable pictures in the page's own colours: elements, scales and axes.

Colours are names of the page's palette, such as "win", drawn as `var(--win)`: so a chart follows the page from light
to dark. Lengths are in units of a view box; a chart is as wide as its place in the page.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np

from macurr.training.reporting.series import Floats

__all__ = ["Axis", "Canvas", "axis", "element", "ticks_of"]

Attribute = str | float | None


def element(name: str, *children: str, **attributes: Attribute) -> str:
    """An element as text.

    Args:
        name: Its name.
        children: What it holds, as markup.
        attributes: By name, with _ for - and none at the end; None leaves one out.
    """
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_plain(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = "".join(children)
    return f"<{name}{said}>{inner}</{name}>" if inner else f"<{name}{said}/>"


def _plain(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")


def ticks_of(low: float, high: float, most: int) -> list[float]:
    """Round numbers from low to high, a step of 1, 2 or 5 times a power of ten apart, at most so many."""
    if not high > low:
        return [low]
    rough = (high - low) / max(most - 1, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * k for k in (1, 2, 5, 10) if power * k >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


@dataclass(frozen=True)
class Axis:
    """One direction of a chart.

    Attributes:
        low: The number at its start.
        high: The number at its end.
        ticks: Where it is labelled.
        labels: What is said there.
        title: What the numbers are.
    """

    low: float
    high: float
    ticks: tuple[float, ...]
    labels: tuple[str, ...]
    title: str = ""


def axis(low: float, high: float, words: Callable[[float], str], *, most: int = 6, title: str = "") -> Axis:
    """An axis with round numbers.

    Args:
        low: The number at its start.
        high: The number at its end; one above where that is none.
        words: How to write a number.
        most: Most labels.
        title: What the numbers are.
    """
    high = high if high > low else low + 1.0
    ticks = tuple(ticks_of(low, high, most))
    labels = tuple(words(tick) for tick in ticks)
    if len(set(labels)) < len(labels):  # too close together for rounded numbers
        digits = math.ceil(-math.log10(ticks[1] - ticks[0]) - 1e-9)
        labels = tuple(f"{tick:.{max(digits, 0)}f}" for tick in ticks)
    return Axis(low, high, ticks, labels, title)


@dataclass
class Canvas:
    """A chart under way.

    Args:
        x: The axis along the bottom.
        y: The axis along the left.
        width: Units of the view box.
        height: Units of the view box.
        left: Margin; by default as wide as the labels need.
        right: Margin.
        top: Margin.
        bottom: Margin.
    """

    x: Axis
    y: Axis
    width: float = 620
    height: float = 270
    left: float = 0
    right: float = 14
    top: float = 12
    bottom: float = 40
    parts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.left:
            self.left = 18.0 + 7.4 * max([2, *map(len, self.y.labels)])

    def at_x(self, values: float | Iterable[float] | Floats) -> Floats:
        """Places of numbers along the bottom."""
        return self._at(self.x, values, self.left, self.width - self.right)

    def at_y(self, values: float | Iterable[float] | Floats) -> Floats:
        """Places of numbers along the left."""
        return self._at(self.y, values, self.height - self.bottom, self.top)

    @staticmethod
    def _at(axis: Axis, values: float | Iterable[float] | Floats, start: float, end: float) -> Floats:
        given = np.asarray(list(values) if isinstance(values, Iterable) else values, np.float64)
        share = (given - axis.low) / (axis.high - axis.low)
        return np.asarray(start + np.clip(share, -0.5, 1.5) * (end - start))

    def add(self, name: str, *children: str, **attributes: Attribute) -> None:
        """Draw an element on top."""
        self.parts.append(element(name, *children, **attributes))

    def text(self, x: float, y: float, said: str, **attributes: Attribute) -> None:
        """Write something."""
        self.add("text", escape(said), x=float(x), y=float(y), **attributes)

    def grid(self, *, vertical: bool = False) -> None:
        """Lines at the labels of the left axis, and of the other too if asked for."""
        right = self.width - self.right
        for y in self.at_y(self.y.ticks):
            self.add("line", class_="grid", x1=self.left, x2=right, y1=float(y), y2=float(y))
        for x in self.at_x(self.x.ticks) if vertical else ():
            self.add(
                "line", class_="grid", x1=float(x), x2=float(x), y1=self.top, y2=self.height - self.bottom
            )

    def labels(self) -> None:
        """What the axes say."""
        base = self.height - self.bottom
        self.add("line", class_="axis", x1=self.left, x2=self.width - self.right, y1=base, y2=base)
        for y, said in zip(self.at_y(self.y.ticks), self.y.labels, strict=True):
            self.text(self.left - 8, float(y) + 4, said, class_="tick end")
        for x, said in zip(self.at_x(self.x.ticks), self.x.labels, strict=True):
            self.text(float(x), base + 17, said, class_="tick middle")
        if self.x.title:
            middle = (self.left + self.width - self.right) / 2
            self.text(middle, self.height - 5, self.x.title, class_="title middle")

    def path(self, xs: Floats, ys: Floats, **attributes: Attribute) -> None:
        """A line through points, broken where a number is missing; a point between two gaps is a dot."""
        for piece in _pieces(xs, ys):
            places = list(zip(self.at_x(xs[piece]), self.at_y(ys[piece]), strict=True))
            if len(places) == 1:
                [(x, y)] = places
                self.add("circle", cx=float(x), cy=float(y), r=4.5, class_="dot", fill=attributes["stroke"])
            else:
                self.add("polyline", points=_points(places), fill="none", **attributes)

    def band(self, xs: Floats, low: Floats, high: Floats, **attributes: Attribute) -> None:
        """The area between two lines."""
        for piece in _pieces(xs, low + high):
            x, top, base = self.at_x(xs[piece]), self.at_y(high[piece]), self.at_y(low[piece])
            places = [*zip(x, top, strict=True), *zip(x[::-1], base[::-1], strict=True)]
            self.add("polygon", points=_points(places), **attributes)

    def svg(self, label: str) -> str:
        """The whole chart.

        Args:
            label: What it shows, for those who cannot see it.
        """
        return element(
            "svg",
            *self.parts,
            viewBox=f"0 0 {self.width:g} {self.height:g}",
            role="img",
            aria_label=label,
        )


def _points(places: Iterable[Sequence[float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _pieces(xs: Floats, ys: Floats) -> list[slice]:
    """The stretches in which every number is there."""
    known = np.concatenate([[False], np.isfinite(xs) & np.isfinite(ys), [False]])
    edges = np.flatnonzero(known[1:] != known[:-1])
    return [slice(start, end) for start, end in zip(edges[::2], edges[1::2], strict=True)]

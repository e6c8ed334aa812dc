"""A tournament in one picture: who beats whom, and beside it what ratings and populations make of it."""

from __future__ import annotations

import io

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from macurr.training import panels
from macurr.training.tournament_result import Tournament

__all__ = ["draw"]

_MOST_NUMBERED = 24
"""Players up to which every cell carries its score."""
_LONGEST = 40
"""Letters of a name."""


def draw(result: Tournament) -> bytes:
    """The picture as a PNG.

    Args:
        result: What was played.
    """
    n = len(result.players)
    cell = min(0.62, 15.0 / n)
    label = 0.085 * max(len(name) for name in _names(result)) + 0.25
    # The panels' titles need some room, however few the players are.
    side, tall = max(n * cell, 4.6), max(n * cell, 1.6)
    width, height = label + side + 6.0, tall + label + 0.75
    with mpl.rc_context(panels.STYLE):
        figure = Figure(figsize=(width, height), facecolor="white")
        FigureCanvasAgg(figure)
        grid = figure.add_gridspec(
            1,
            3,
            width_ratios=(side, 2.7, 2.0),
            wspace=0.06,
            left=label / width,
            right=1 - 0.35 / width,
            bottom=label / height,
            top=1 - 0.75 / height,
        )
        axes = figure.add_subplot(grid[0])
        _matrix(axes, result)
        _ratings(figure.add_subplot(grid[1]), result)
        _weights(figure.add_subplot(grid[2]), result)
        buffer = io.BytesIO()
        figure.savefig(buffer, dpi=110, format="png")
    return buffer.getvalue()


def _names(result: Tournament) -> list[str]:
    """The players' names, long paths by their ends."""
    return [
        entry.name if len(entry.name) <= _LONGEST else "\u2026" + entry.name[1 - _LONGEST :]
        for entry in result.players
    ]


def _matrix(axes: Axes, result: Tournament) -> None:
    _title(
        axes,
        "Who beats whom",
        f"score of the row against the column, in percent; {len(result.levels)} levels",
    )
    names, scores = _names(result), result.scores
    places = range(len(names))
    axes.set_facecolor("#eef1f4")
    axes.imshow(scores, cmap=panels.DUEL, vmin=0, vmax=1, aspect="auto")
    if len(names) <= _MOST_NUMBERED:
        for i, j in zip(*np.nonzero(np.isfinite(scores)), strict=True):
            colour = "white" if abs(scores[i, j] - 0.5) > 0.38 else panels.INK
            axes.text(j, i, f"{100 * scores[i, j]:.0f}", ha="center", va="center", fontsize=9, color=colour)
    size = min(10.0, 600.0 / len(names))
    axes.set_xticks(places, names, rotation=90, fontsize=size)
    axes.set_yticks(places, names, fontsize=size)
    axes.set_xticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=min(2.0, 40.0 / len(names)))
    axes.tick_params(which="both", length=0)
    for side in axes.spines.values():
        side.set_visible(False)


def _ratings(axes: Axes, result: Tournament) -> None:
    _title(axes, "Elo", "greatest likelihood, 95 % intervals")
    places = np.arange(len(result.players))
    elo = np.array([entry.elo for entry in result.players])
    axes.hlines(
        places,
        [entry.elo_low for entry in result.players],
        [entry.elo_high for entry in result.players],
        color=panels.BLUE,
        linewidth=5,
        alpha=0.32,
    )
    axes.scatter(elo, places, color=panels.BLUE, s=40, zorder=3, edgecolors="white", linewidths=1)
    if len(places) <= _MOST_NUMBERED:
        for place, value in zip(places, elo, strict=True):
            axes.annotate(
                f"{value:.0f}",
                (value, place),
                (0, 6),
                textcoords="offset points",
                ha="center",
                fontsize=8.5,
                color=panels.INK,
            )
    axes.grid(axis="x", color=panels.FAINT)
    _beside(axes, len(places))
    axes.margins(x=0.14)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))


def _weights(axes: Axes, result: Tournament) -> None:
    axes.set_title("Population")
    _said(axes, "Nash averaging", panels.WIN)
    _said(axes, "alpha-rank", panels.GOLD, 92)
    places = np.arange(len(result.players))
    for values, shift, colour in (
        ([entry.nash for entry in result.players], -0.18, panels.WIN),
        ([entry.alpha_rank for entry in result.players], 0.18, panels.GOLD),
    ):
        shown = [0.0 if value is None else value for value in values]
        axes.barh(places + shift, shown, height=0.34, color=colour)
    axes.set_xlim(0, 1.0)
    axes.set_xticks([0, 0.5, 1.0], ["0", "50%", "100%"])
    axes.grid(axis="x", color=panels.FAINT)
    axes.set_axisbelow(True)
    _beside(axes, len(places))


def _beside(axes: Axes, n: int) -> None:
    """Rows at the heights of the matrix's, without names."""
    axes.set_ylim(n - 0.5, -0.5)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)


def _title(axes: Axes, title: str, subtitle: str) -> None:
    axes.set_title(title)
    _said(axes, subtitle, panels.SOFT)


def _said(axes: Axes, text: str, colour: str, right: int = 0) -> None:
    """A text under the title, so many points from the left."""
    axes.annotate(
        text,
        (0, 1),
        (right, 7),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=9.5,
        color=colour,
        va="bottom",
    )

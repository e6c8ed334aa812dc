"""The panels of a report, each drawn on axes of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.ticker import FuncFormatter, MaxNLocator

from macurr.training.evaluation import Evaluation
from macurr.training.reporting.headline import teams_by_age
from macurr.training.reporting.record import History
from macurr.training.reporting.series import Floats, smooth
from macurr.training.reporting.teaching import most_played, top_share
from macurr.training.reporting.words import short_steps
from macurr.training.scoring import Team

__all__ = [
    "BLUE",
    "DUEL",
    "FAINT",
    "GOLD",
    "INK",
    "SOFT",
    "STYLE",
    "WIN",
    "against_the_past",
    "breadth",
    "learning",
    "level_scores",
    "levels_that_mattered",
    "result_matrix",
    "results",
]

INK, SOFT, FAINT = "#1d2b3a", "#66737f", "#e4e8ec"
WIN, DRAW, LOSS, BLUE, GOLD = "#12908e", "#d3d9df", "#e0653f", "#3a6ea5", "#e0a030"

STYLE: Any = {
    "font.size": 10,
    "axes.edgecolor": "#b9c2ca",
    "axes.labelcolor": SOFT,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 12.5,
    "axes.titleweight": "bold",
    "axes.titlecolor": INK,
    "axes.titlepad": 24,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "legend.frameon": False,
    "legend.labelcolor": INK,
}
"""Settings of Matplotlib that the panels are drawn with."""

DUEL = LinearSegmentedColormap.from_list("duel", [LOSS, "#f6d9ce", "#ffffff", "#cbe7e5", WIN])
"""Scores from 0 to 1, one half in white."""
_HEAT = LinearSegmentedColormap.from_list("heat", ["#f4f6f8", "#cfe3e6", "#6fb7bb", "#1c7f8c", "#10394e"])

_MOST_LEVELS = 30


def results(axes: Axes, metrics: Mapping[str, Floats]) -> None:
    """Shares of wins, draws and losses against the pool; returns where nobody wins or loses."""
    steps = metrics.get("steps", np.zeros(0))
    if len(steps) and {"win", "draw", "loss"} <= metrics.keys():
        _outcomes(axes, steps, metrics)
    else:
        _title(axes, "Return of the learner", "undiscounted, mean of the episodes of an update")
        if len(steps) and "learner_return" in metrics:
            _line(axes, steps, metrics["learner_return"], WIN, "return")
        axes.grid(axis="y", color=FAINT)
    if len(steps):
        axes.set_xlim(steps[0], max(steps[-1], steps[0] + 1))
    _steps(axes)


def _outcomes(axes: Axes, steps: Floats, metrics: Mapping[str, Floats]) -> None:
    _title(axes, "Against the pool", "share of training episodes; the pool grows stronger too")
    won, drawn, lost = (np.nan_to_num(smooth(metrics[name])) for name in ("win", "draw", "loss"))
    axes.stackplot(steps, won, drawn, lost, colors=[WIN, DRAW, LOSS], linewidth=0)
    x = steps[0] + 0.97 * (steps[-1] - steps[0])
    for name, middle, share in (
        ("won", won[-1] / 2, won[-1]),
        ("drawn", won[-1] + drawn[-1] / 2, drawn[-1]),
        ("lost", 1 - lost[-1] / 2, lost[-1]),
    ):
        if share > 0.045:
            colour = INK if name == "drawn" else "white"
            axes.text(
                x, middle, f"{name} {share:.0%}", color=colour, ha="right", va="center", fontweight="bold"
            )
    axes.axhline(0.5, color="white", linewidth=0.9, linestyle=(0, (4, 3)))
    axes.set_ylim(0, 1)
    _percent(axes.yaxis)


def learning(axes: Axes, metrics: Mapping[str, Floats]) -> None:
    """Entropy of the policy and explained variance of the critic."""
    _title(axes, "The learner", "how undecided the policy is, and what the critic foresees")
    steps = metrics.get("steps", np.zeros(0))
    if len(steps) and {"explained_variance", "entropy"} <= metrics.keys():
        _line(axes, steps, metrics["explained_variance"], BLUE, "explained variance")
        # A critic that knows nothing yet may be far below zero; that would leave no room for what comes later.
        lowest = float(np.nanmin(smooth(metrics["explained_variance"]), initial=0.0))
        axes.set_ylim(max(1.1 * lowest, -1.0), 1.0)
        right = axes.twinx()
        right.spines["right"].set_visible(True)
        _line(right, steps, metrics["entropy"], GOLD, "policy entropy (nats)")
        low = min(0.0, float(np.nanmin(metrics["entropy"], initial=0.0)))
        right.set_ylim(low, 1.25 * max(float(np.nanmax(metrics["entropy"], initial=0.0)), low + 0.1))
        axes.tick_params(axis="y", colors=BLUE)
        right.tick_params(axis="y", colors="#a8741a")
        handles = [*axes.get_lines()[1::2], *right.get_lines()[1::2]]
        axes.legend(handles=handles, loc="upper right", fontsize=9.5)
        axes.set_xlim(steps[0], max(steps[-1], steps[0] + 1))
    axes.grid(axis="y", color=FAINT)
    _steps(axes)


def against_the_past(axes: Axes, evaluation: Evaluation) -> None:
    """The final policy's score against random and each snapshot; or its return beside theirs, with intervals."""
    if evaluation.teams:
        _beside_the_past(axes, teams_by_age(evaluation))
        return
    _title(
        axes,
        "The final policy against its past",
        "score and its 95 % interval; in colour where clear of one half",
    )
    rows = evaluation.rows
    names = ["random" if row.steps is None else short_steps(row.steps) for row in rows]
    numbers = np.array([(row.low, row.score, row.high) for row in rows]).reshape(-1, 3)
    colours = [WIN if row.low > 0.5 else LOSS if row.high < 0.5 else "#8a97a3" for row in rows]
    axes.axhline(0.5, color=SOFT, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    _columns(axes, names, numbers, colours)
    for place, row in enumerate(rows):
        axes.text(place, row.high + 0.02, f"{row.score:.0%}", ha="center", va="bottom", fontsize=9, color=INK)
    axes.set_ylim(min(0.3, float(numbers[:, 0].min(initial=1.0)) - 0.05), 1.06)
    axes.set_xlabel("opponent: snapshot after so many steps")
    _percent(axes.yaxis)


def _beside_the_past(axes: Axes, teams: Sequence[Team]) -> None:
    _title(
        axes, "The final policy beside its past", "mean return where each plays all agents, 95 % intervals"
    )
    names = ["random" if team.steps is None else short_steps(team.steps) for team in teams]
    numbers = np.array([(team.low, team.mean_return, team.high) for team in teams]).reshape(-1, 3)
    # One level alone tells nothing of the interval.
    numbers = np.where(np.isfinite(numbers), numbers, numbers[:, 1:2])
    _columns(axes, names, numbers, ["#8a97a3"] * len(teams))
    axes.set_xlabel("policy: snapshot after so many steps")


def _columns(axes: Axes, names: Sequence[str], numbers: Floats, colours: Sequence[str]) -> None:
    """Dots with their intervals: (n, 3) lower end, number and upper end."""
    places = np.arange(len(names))
    axes.vlines(places, numbers[:, 0], numbers[:, 2], colors=colours, linewidth=5, alpha=0.32, zorder=2)
    axes.scatter(places, numbers[:, 1], c=colours, s=52, zorder=3, edgecolors="white", linewidths=1)
    axes.set_xticks(places, names, rotation=35 if len(names) > 8 else 0)
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.grid(axis="y", color=FAINT)
    axes.set_axisbelow(True)


def level_scores(axes: Axes, history: History | None, score: str) -> None:
    """Quantiles of the levels' scores over training."""
    _title(axes, "What the levels have to teach", f"latest score ({score}) of all levels seen, over training")
    if history is not None and len(history.known):
        x = history.steps[history.known]
        levels = np.nanquantile(history.scores[history.known], [0.05, 0.25, 0.5, 0.75, 0.95, 0.99], axis=1)
        axes.fill_between(x, levels[0], levels[4], color=WIN, alpha=0.16, linewidth=0, label="5 to 95 %")
        axes.fill_between(x, levels[1], levels[3], color=WIN, alpha=0.34, linewidth=0, label="25 to 75 %")
        axes.plot(x, levels[2], color=WIN, linewidth=2.2, label="median")
        axes.plot(x, levels[5], color=LOSS, linewidth=1.3, label="highest 1 %")
        axes.set_xlim(x[0], max(x[-1], x[0] + 1))
        axes.legend(loc="upper right", ncols=2, fontsize=9.5)
        axes.set_ylim(min(0.0, float(levels.min())), 1.28 * max(float(levels.max()), 1e-6))
    axes.grid(axis="y", color=FAINT)
    _steps(axes)


def levels_that_mattered(axes: Axes, history: History | None) -> None:
    """When the most played levels were played."""
    most = np.zeros(0, np.int64) if history is None else most_played(history, _MOST_LEVELS)
    share = 0.0 if history is None else top_share(history)
    _title(
        axes,
        "Levels that mattered",
        f"the {len(most)} most played, by seed; the top tenth of all got {share:.0%} of play",
    )
    if history is not None and len(most) and len(history.steps) > 1:
        counts = history.intervals[:, most].T
        edges = np.concatenate([[0], history.steps])
        mesh = axes.pcolormesh(
            edges, np.arange(len(most) + 1), counts, cmap=_HEAT, norm=PowerNorm(0.6), rasterized=True
        )
        axes.set_yticks(np.arange(len(most)) + 0.5, [str(seed) for seed in most], fontsize=7.5)
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        bar = axes.figure.colorbar(mesh, ax=axes, fraction=0.035, pad=0.02)
        bar.outline.set_visible(False)
        bar.set_label("episodes in the interval", color=SOFT, fontsize=9)
        bar.ax.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
        bar.ax.tick_params(length=0, labelsize=8.5)
    _steps(axes)


def result_matrix(axes: Axes, evaluation: Evaluation) -> None:
    """Score of each snapshot against each other; nothing where nobody met."""
    if not evaluation.snapshots:
        axes.set_axis_off()
        return
    _title(
        axes,
        "Who beats whom",
        f"score of the row against the column, {evaluation.matrix_seeds} held-out levels",
    )
    matrix = np.array([[np.nan if x is None else x for x in row] for row in evaluation.matrix], np.float64)
    steps = {row.opponent: row.steps for row in evaluation.rows}
    known = [steps.get(f"snapshot {i}") for i in evaluation.snapshots]
    names = ["final" if at is None else short_steps(at) for at in known]
    axes.set_facecolor("#eef1f4")
    axes.imshow(matrix, cmap=DUEL, vmin=0, vmax=1, aspect="auto")
    for i, line in enumerate(matrix):
        for j, value in enumerate(line):
            if np.isfinite(value):
                colour = "white" if abs(value - 0.5) > 0.38 else INK
                axes.text(j, i, f"{100 * value:.0f}", ha="center", va="center", fontsize=9, color=colour)
    axes.set_xticks(range(len(names)), names, rotation=35 if len(names) > 8 else 0)
    axes.set_yticks(range(len(names)), names)
    axes.set_xticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="both", length=0)
    for side in axes.spines.values():
        side.set_visible(False)


def breadth(axes: Axes, metrics: Mapping[str, Floats], levels: int) -> None:
    """Entropy of the choice of levels; nothing where it is not known."""
    entropy = metrics.get("curriculum_entropy", np.zeros(0))
    if not np.isfinite(entropy).any():
        axes.set_axis_off()
        return
    _title(
        axes, "How widely it chooses levels", "entropy of the choice in nats; low where it is set on a few"
    )
    steps, widest = metrics["steps"], float(np.log(levels))
    axes.axhline(widest, color=SOFT, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.text(steps[-1], 0.985 * widest, "uniform over all", color=SOFT, fontsize=9, ha="right", va="top")
    _line(axes, steps, entropy, BLUE, "entropy")
    axes.set_ylim(0, 1.08 * max(widest, float(np.nanmax(entropy)), 1e-6))
    axes.set_xlim(steps[0], max(steps[-1], steps[0] + 1))
    axes.grid(axis="y", color=FAINT)
    _steps(axes)


def _title(axes: Axes, title: str, subtitle: str) -> None:
    axes.set_title(title)
    axes.text(0, 1.03, subtitle, transform=axes.transAxes, fontsize=9.5, color=SOFT, va="bottom")


def _line(axes: Axes, x: Floats, y: Floats, colour: str, label: str) -> None:
    """The numbers, faint, and their moving average."""
    axes.plot(x, y, color=colour, alpha=0.22, linewidth=1)
    axes.plot(x, smooth(y), color=colour, linewidth=2.2, label=label)


def _steps(axes: Axes) -> None:
    axes.set_xlabel("environment steps")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: short_steps(x)))


def _percent(axis: Any) -> None:
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.0%}"))

"""The run in one picture: how the policy learned, which levels mattered, and who beats whom."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from macurr.errors import ConfigError
from macurr.training import panels
from macurr.training.config import TrainConfig
from macurr.training.evaluation import Evaluation, Row
from macurr.training.rundir import RunDir, read_csv

__all__ = ["write_report"]

_CURRICULUM = {"plr": "prioritized level replay", "dr": "uniform levels"}
_OPPONENTS = {
    "pfsp": "prioritized fictitious self-play",
    "fsp": "fictitious self-play",
    "self": "the latest self",
}


def write_report(path: str | os.PathLike[str]) -> Path:
    """Draw report.png of an evaluated run.

    Args:
        path: The run's directory.

    Returns:
        The picture's file.

    Raises:
        ConfigError: there is no evaluated run.
    """
    run, config = RunDir.open(os.fspath(path))
    try:
        evaluation = Evaluation.from_json(run.evaluation.read_text())
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(
            f"The run {run.path} has no evaluation to draw ({error}). Finish it by --resume, or `macurr evaluate` it."
        ) from error
    metrics = {name: np.array(values) for name, values in read_csv(run.metrics).items()}
    history = run.load()["history"]
    with mpl.rc_context(panels.STYLE):
        figure = _draw(config, evaluation, metrics, history)
        figure.savefig(run.report, dpi=110)
    return run.report


def _draw(
    config: TrainConfig, evaluation: Evaluation, metrics: dict[str, Any], history: dict[str, Any]
) -> Figure:
    figure = Figure(figsize=(17.5, 10.4), facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        2,
        3,
        left=0.05,
        right=0.975,
        top=0.845,
        bottom=0.075,
        wspace=0.27,
        hspace=0.42,
        width_ratios=[1, 1, 1.08],
    )
    _headline(figure, config, evaluation, metrics)
    panels.results(figure.add_subplot(grid[0, 0]), metrics)
    panels.learning(figure.add_subplot(grid[0, 1]), metrics)
    panels.against_the_past(figure.add_subplot(grid[0, 2]), evaluation)
    panels.level_scores(figure.add_subplot(grid[1, 0]), history, config.tasks.score)
    panels.levels_that_mattered(figure.add_subplot(grid[1, 1]), history)
    panels.result_matrix(figure.add_subplot(grid[1, 2]), evaluation)
    return figure


def _headline(figure: Figure, config: TrainConfig, evaluation: Evaluation, metrics: dict[str, Any]) -> None:
    name = config.env.partition(":")[0].rpartition(".")[2]
    figure.text(0.05, 0.952, name, fontsize=23, fontweight="bold", color=panels.INK)
    steps = int(metrics["steps"][-1]) if len(metrics.get("steps", ())) else 0
    figure.text(
        0.05,
        0.921,
        f"{_CURRICULUM[config.curriculum]}  ·  {_OPPONENTS[config.opponents]}  ·  {steps:,} steps  ·  "
        f"{config.tasks.levels:,} training levels  ·  seed {config.seed}",
        fontsize=11.5,
        color=panels.SOFT,
    )
    figure.text(
        0.975,
        0.955,
        _verdict(evaluation),
        fontsize=13,
        color=panels.INK,
        ha="right",
        va="center",
        linespacing=1.6,
    )
    figure.text(
        0.975,
        0.914,
        f"on {evaluation.seeds} held-out levels, every seat; a draw counts half; 95 % intervals",
        fontsize=10,
        color=panels.SOFT,
        ha="right",
    )


def _verdict(evaluation: Evaluation) -> str:
    first = [row for row in evaluation.rows if row.opponent != "random"][:1]
    said = [f"{_percent(evaluation.row('random'))} against random"]
    said += [f"{_percent(row)} against its first snapshot" for row in first]
    return "Final policy scores " + ",  ".join(said)


def _percent(row: Row) -> str:
    return f"{row.score:.1%} ({row.low:.0%} to {row.high:.0%})"

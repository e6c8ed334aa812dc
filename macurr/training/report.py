"""The report of a run: one page that opens in any browser, and its picture in brief."""

from __future__ import annotations

import io
import math
import os
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from macurr.errors import ConfigError
from macurr.persistence import write_atomically
from macurr.training import panels
from macurr.training.evaluation import Evaluation
from macurr.training.reporting.headline import benchmarks, methods, team_benchmarks, title_of
from macurr.training.reporting.page import page
from macurr.training.reporting.record import Record, read_record
from macurr.training.reporting.words import number, percent
from macurr.training.scoring import Team
from macurr.training.threads import bounded_threads

__all__ = ["write_report"]

_GRID: Any = {
    "left": 0.05,
    "right": 0.975,
    "top": 0.845,
    "bottom": 0.075,
    "wspace": 0.27,
    "hspace": 0.42,
    "width_ratios": [1, 1, 1.08],
}


def write_report(
    path: str | os.PathLike[str], *, films: bool = True, out: str | os.PathLike[str] | None = None
) -> Path:
    """Write report.html of a run, and of an evaluated one report.png too.

    The page holds everything that it shows and asks for nothing from anywhere. A run that is still going on, or that
    was stopped, is shown as far as it came. It is only read.

    Args:
        path: The run's directory.
        films: Whether to play a match on each of the levels that mattered, and to film it where the environment
            draws pictures.
        out: The page's file; None for report.html in the run's directory. an evaluated run's picture is
            written beside it, with the same name and .png.

    Returns:
        The page's file.

    Raises:
        ConfigError: there is no run, or one without numbers; or the file cannot be written.
    """
    record = read_record(path)
    with bounded_threads(record.config.threads):
        text = page(record, films=films)
    file = record.directory.report if out is None else Path(out)
    _write(file, text.encode())
    if record.evaluation is not None:
        picture = record.directory.picture if out is None else file.with_suffix(".png")
        _write(picture, _picture(record, record.evaluation))
    return file


def _write(file: Path, data: bytes) -> None:
    try:
        write_atomically(file, data)
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be written: {error.strerror or error}. Make room, or name a file of your own for the page: "
            "macurr report RUN --out FILE. The run itself is only read, and intact."
        ) from error


def _picture(record: Record, evaluation: Evaluation) -> bytes:
    picture = io.BytesIO()
    with mpl.rc_context(panels.STYLE):
        _draw(record, evaluation).savefig(picture, dpi=110)
    return picture.getvalue()


def _draw(record: Record, evaluation: Evaluation) -> Figure:
    figure = Figure(figsize=(17.5, 10.4), facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 3, **_GRID)
    _headline(figure, record, evaluation)
    panels.results(figure.add_subplot(grid[0, 0]), record.metrics)
    panels.learning(figure.add_subplot(grid[0, 1]), record.metrics)
    panels.against_the_past(figure.add_subplot(grid[0, 2]), evaluation)
    panels.level_scores(figure.add_subplot(grid[1, 0]), record.history, record.config.tasks.score)
    panels.levels_that_mattered(figure.add_subplot(grid[1, 1]), record.history)
    corner = figure.add_subplot(grid[1, 2])
    if evaluation.snapshots:
        panels.result_matrix(corner, evaluation)
    else:
        panels.breadth(corner, record.metrics, record.config.tasks.levels)
    return figure


def _headline(figure: Figure, record: Record, evaluation: Evaluation) -> None:
    config = record.config
    figure.text(0.05, 0.952, title_of(record), fontsize=23, fontweight="bold", color=panels.INK)
    method = "  ·  ".join([*methods(config), f"{record.steps:,} steps"])
    figure.text(
        0.05,
        0.921,
        f"{method}  ·  {config.tasks.levels:,} training levels  ·  seed {config.seed}",
        fontsize=11.5,
        color=panels.SOFT,
    )
    right: Any = {"ha": "right", "va": "center"}
    figure.text(0.975, 0.955, _verdict(evaluation), fontsize=13, color=panels.INK, **right)
    how = ", every seat; a draw counts half" if evaluation.rows else ", mean over agents"
    below = f"on {evaluation.seeds} held-out levels{how}; 95 % intervals"
    figure.text(0.975, 0.92, below, fontsize=10, color=panels.SOFT, **right)


def _verdict(evaluation: Evaluation) -> str:
    said = [
        f"{percent(row.score, 1)} ({percent(row.low)} to {percent(row.high)}) against {name}"
        for name, row in benchmarks(evaluation)
    ]
    if said:
        return f"Final policy scores {',  '.join(said)}"
    return ",  ".join(
        f"{name} returns {number(team.mean_return)}{_interval(team)}"
        for name, team in team_benchmarks(evaluation)
    )


def _interval(team: Team) -> str:
    """One level alone tells nothing of it."""
    return f" ({number(team.low)} to {number(team.high)})" if math.isfinite(team.high) else ""

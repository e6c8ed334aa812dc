"""The curriculum: how it spreads its choice, what the levels score, and which were played when."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from macurr.training.reporting.charts import Chart, Line, fan, histogram, lines
from macurr.training.reporting.maps import Band, play_map
from macurr.training.reporting.record import History, Record
from macurr.training.reporting.section import Section
from macurr.training.reporting.series import Floats
from macurr.training.reporting.words import count, percent, plural, short_steps

__all__ = ["most_played", "teaching_section", "top_share"]

_QUANTILES = {"5 %": 0.05, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "95 %": 0.95, "99 %": 0.99}
_MOST_ROWS = 32
_MOST_RIVALS = 16
_SCORES = {
    "value_l1": "mean absolute advantage",
    "signed_value_loss": "mean advantage",
    "positive_value_loss": "mean of the advantages above zero, the others as zero",
    "max_mc": "best return so far less the critic's values",
    "grounded_positive_value_loss": "best return so far less the critic's values, where that is above zero",
    "learnability": "p(1 - p) of the win rate p",
}
"""What a score is, for those who do not know it by name."""
_WHAT = {
    "plr": "Prioritized level replay chooses levels by their scores and by how long they have not been played",
    "dr": "Levels are drawn uniformly",
    "joint": "Level and opponent are drawn together, by the scores of the levels against each opponent",
}


def teaching_section(record: Record) -> Section:
    """The curriculum over training."""
    history = record.history
    charts = [] if history is None else [*_played(history)]
    charts += _entropy(record)
    notes = []
    if history is None:
        notes.append(
            "Nothing is known of single levels yet: the run has no readable checkpoint with a history."
        )
    else:
        charts += _spread(record, history)
    return Section("curriculum", "The curriculum", _lead(record), tuple(charts), notes=tuple(notes))


def top_share(history: History) -> float:
    """The share of all episodes that went to the most played tenth of the levels."""
    plays = np.sort(history.total)[::-1]
    return float(plays[: max(1, len(plays) // 10)].sum() / max(int(plays.sum()), 1))


def _lead(record: Record) -> str:
    config, history = record.config, record.history
    said = [f"{_WHAT.get(config.curriculum, config.curriculum)}."]
    if history is not None:
        seen = int((history.total > 0).sum())
        played = f"{count(seen)} of {plural(len(history.total), 'training level')} were played"
        share = top_share(history)
        said.append(
            f"{played}; the most played tenth got {percent(share)} of all episodes."
            if share < 1
            else f"{played}."
        )
    entropy = record.column("curriculum_entropy")
    if entropy is not None:
        known = entropy[np.isfinite(entropy)]
        said.append(
            f"Its choice is as wide as a uniform one among {count(math.exp(float(known[-1])))} levels at the end."
        )
    return " ".join(said)


def _entropy(record: Record) -> list[Chart]:
    """Entropy, levels seen and mean score: a row of three where all are there."""
    config, steps = record.config, record.metrics["steps"]
    entropy, seen, scores = map(record.column, ("curriculum_entropy", "levels_seen", "level_score"))
    narrow = all(column is not None for column in (entropy, seen, scores))
    charts = []
    if entropy is not None:
        uniform = np.full(len(steps), math.log(config.tasks.levels))
        curves = [Line("levels drawn", entropy, "blue"), Line("uniform over all", uniform, "steel")]
        note = "entropy of the choice of levels in nats; low where it is set on a few"
        charts.append(lines("How widely it chooses", note, steps, curves, floor=0.0, narrow=narrow))
    if scores is not None:
        meaning = f" ({_SCORES[config.tasks.score]})" if config.tasks.score in _SCORES else ""
        note = f"{config.tasks.score}{meaning}, mean of the episodes of an update"
        line = Line("mean score", scores, "win")
        charts.append(lines("Scores of the levels played", note, steps, [line], floor=0.0, narrow=narrow))
    if seen is not None:
        note = f"of {plural(config.tasks.levels, 'training level')}"
        line = Line("levels played so far", seen, "violet")
        charts.append(
            lines("Levels played so far", note, steps, [line], floor=0.0, words=count, narrow=narrow)
        )
    return charts


def _spread(record: Record, history: History) -> list[Chart]:
    known = history.known.tolist()
    if not known:
        return []
    charts = []
    score = record.config.tasks.score
    if len(known) > 1:
        ends = np.nanquantile(history.scores[known], list(_QUANTILES.values()), axis=1)
        quantiles = dict(zip(_QUANTILES, ends, strict=True))
        note = f"latest score ({score}) of all levels played so far"
        charts.append(fan("What the levels have to teach", note, history.steps[known], quantiles))
    return [*charts, _distribution(history, known, score)]


def _distribution(history: History, known: list[int], score: str) -> Chart:
    """Scores early and at the end."""
    early = next((i for i in known if _share_known(history.scores[i]) >= 0.25), known[0])
    times = [early, known[-1]] if early != known[-1] else [known[-1]]
    colours = ("steel", "win")[-len(times) :]
    samples = [
        Line(f"after {short_steps(history.steps[i])} steps", history.scores[i], colour)
        for i, colour in zip(times, colours, strict=True)
    ]
    note = "share of the levels played by then, by their latest score"
    return histogram("How the scores are spread", note, samples, f"score ({score})")


def _share_known(scores: Floats) -> float:
    return float(np.isfinite(scores).mean())


def most_played(history: History, most: int) -> NDArray[np.int64]:
    """The most played levels, by when each was played most, so that the eye can follow the run down the rows.

    Args:
        history: The levels over time.
        most: How many at most.
    """
    plays = history.total
    chosen = np.argsort(-plays, kind="stable")[: min(most, int((plays > 0).sum()))]
    order = np.lexsort((-plays[chosen], history.intervals[:, chosen].argmax(axis=0)))
    return chosen[order]


def _played(history: History) -> list[Chart]:
    """Whom and what was played when, in one picture."""
    levels = most_played(history, _MOST_ROWS)
    if len(levels) == 0 or len(history.steps) < 2:
        return []
    plays = history.intervals
    band = Band("levels", tuple(map(str, levels.tolist())), plays[:, levels].T, lambda name: f"level {name}")
    rivals = _rivals(history, plays.sum(axis=1))
    most = f"at most {count(band.plays.max())} episodes in a stretch of the run"
    said = f"Levels: the {len(levels)} most played, by when each was played most; {most}."
    if rivals is None:
        note = f"{said} The stronger the colour, the more."
        return [play_map("Which levels when", note, [band], history.steps)]
    shown, known = len(rivals.names), len(history.opponents)
    who = (
        "the past selves that were played"
        if shown == known
        else f"of {known} past selves the {shown} played most"
    )
    note = (
        f"Opponents: {who}; at most "
        f"{percent(float(rivals.amounts.max()))} of a stretch's episodes. {said} The stronger the colour, the more."
    )
    return [play_map("Which opponents and levels when", note, [rivals, band], history.steps)]


def _rivals(history: History, episodes: NDArray[np.int64]) -> Band | None:
    """The most played snapshots, oldest first; None where nobody was played."""
    if not history.opponents.size:
        return None
    shown = np.sort(np.argsort(-history.met[-1], kind="stable")[:_MOST_RIVALS])
    names = tuple(
        f"#{history.opponents[i]}" if history.taken[i] < 0 else short_steps(float(history.taken[i]))
        for i in shown
    )
    met = np.diff(history.met[:, shown], axis=0, prepend=0).T
    title = "opponents: snapshots after so many steps"
    return Band(title, names, met, lambda name: f"the snapshot of {name} steps", episodes)

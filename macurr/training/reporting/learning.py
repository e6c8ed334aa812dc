"""Does it learn? The curves of the learner."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from macurr.training.reporting.charts import SERIES, Chart, Line, lines, percents, stack
from macurr.training.reporting.record import Record
from macurr.training.reporting.section import Section
from macurr.training.reporting.series import Floats, ends, smooth
from macurr.training.reporting.words import count, number, percent

__all__ = ["learning_section", "policies_of"]

_OUTCOMES = ("win", "draw", "loss")
_SHOWN: Mapping[str, tuple[str, str]] = {
    "learner_return": ("Return of the learner", "undiscounted, mean of the episodes of an update"),
    "episode_length": ("Episode length", "steps, mean of the episodes of an update"),
    "entropy": ("Entropy of the policy", "nats; how undecided it is: it falls as it makes up its mind"),
    "explained_variance": ("What the critic foresees", "explained variance of the returns; 1 is all of it"),
}
_ELSEWHERE = frozenset(
    {
        *("update", "steps", "episodes", "level_score", "levels_seen", "pool", "curriculum_entropy"),
        *("lag_min", "lag_mean", "lag_max", "valid_fraction", "same_policy_fraction", *_OUTCOMES),
    }
)
"""Columns that are no curve of the learner, or are drawn in another section."""
_NAMES: Mapping[str, str] = {
    "policy_loss": "Policy loss",
    "value_loss": "Value loss",
    "approx_kl": "Divergence of an update (nats)",
    "clip_fraction": "Share of clipped ratios",
    "learning_rate": "Step size",
    "grad_norm": "Norm of the gradient",
}


def learning_section(record: Record) -> Section:
    """Outcomes, returns and losses over training."""
    shown = [name for name in _SHOWN if policies_of(record, name)]
    charts = [*_outcomes(record)]
    # The last three share a row where there would be a gap.
    thirds = shown[-3:] if (len(charts) + len(shown)) % 2 and len(shown) >= 3 else []
    charts += [_curves(record, name, *_SHOWN[name], narrow=name in thirds) for name in shown]
    return Section("learning", "Does it learn?", _lead(record), tuple(charts), more=_others(record))


def policies_of(record: Record, name: str) -> list[tuple[str, Floats]]:
    """The columns of a number by whom they are of: "all", or "policy 0" and so on where each has one.

    Args:
        record: The run.
        name: The number.
    """
    each = re.compile(re.escape(name) + r"_p(\d+)")
    found = [(int(match[1]), column) for column in record.metrics if (match := each.fullmatch(column))]
    parts = [(f"policy {k}", record.column(column)) for k, column in sorted(found)]
    kept = [(who, values) for who, values in parts if values is not None]
    whole = record.column(name)
    return kept or ([] if whole is None else [("all", whole)])


def _curves(record: Record, name: str, title: str, note: str, *, narrow: bool = False) -> Chart:
    found = policies_of(record, name)
    single = len(found) == 1
    curves = [
        Line(title if single else who, values, SERIES[i % len(SERIES)])
        for i, (who, values) in enumerate(found)
    ]
    return lines(title, note, record.metrics["steps"], curves, narrow=narrow)


def _outcomes(record: Record) -> list[Chart]:
    columns = [record.column(name) for name in _OUTCOMES]
    if any(column is None for column in columns):
        return []
    parts = [
        Line(said, column, colour)
        for said, column, colour in zip(("won", "drawn", "lost"), columns, _OUTCOMES, strict=True)
        if column is not None
    ]
    note = "share of training episodes; the pool grows stronger too"
    charts = [stack("Against the pool", note, record.metrics["steps"], parts)]
    rates = policies_of(record, "win")
    if len(rates) > 1:
        curves = [Line(who, values, SERIES[i % len(SERIES)]) for i, (who, values) in enumerate(rates)]
        charts.append(
            lines(
                "Win rate of each policy",
                "share of training episodes",
                record.metrics["steps"],
                curves,
                words=percents,
            )
        )
    return charts


def _others(record: Record) -> tuple[Chart, ...]:
    """Every other column of numbers: nothing that was written down is kept back."""
    bases = dict.fromkeys(re.sub(r"_p\d+$", "", column) for column in record.metrics)
    kept = [base for base in bases if base not in _ELSEWHERE and base not in _SHOWN]
    return tuple(
        _curves(record, base, _NAMES.get(base, base.replace("_", " ").capitalize()), base, narrow=True)
        for base in kept
        if policies_of(record, base)
    )


def _lead(record: Record) -> str:
    won, drawn = record.column("win"), record.column("draw")
    if won is not None and drawn is not None:
        rate = smooth(won + drawn / 2)
        best = int(np.nanargmax(rate))
        return (
            f"Against the pool of its past selves it scores {percent(ends(rate)[1])} at the end (a draw counts half); "
            f"at its best, after {count(record.metrics['steps'][best])} steps, {percent(float(rate[best]))}. A score "
            "near one half is no standstill: the pool grows with the learner."
        )
    returns = record.column("learner_return")
    if returns is None:
        return ""
    first, last = ends(smooth(returns))
    return f"The mean return of its episodes goes from {number(first)} to {number(last)}."

"""How the machine kept up: the age of what is learned from, and where the time went."""

from __future__ import annotations

import numpy as np

from macurr.training.reporting.charts import SERIES, Chart, Line, lines, percents, stack
from macurr.training.reporting.record import Record
from macurr.training.reporting.section import Section, Table
from macurr.training.reporting.series import Floats
from macurr.training.reporting.words import count, listed, number, percent, span

__all__ = ["lag_section", "speed_section"]

_LAGS = {"lag_max": ("oldest", "loss"), "lag_mean": ("mean", "blue"), "lag_min": ("newest", "win")}
_FRACTIONS = {
    "valid_fraction": ("trained on", "win"),
    "same_policy_fraction": ("acted by the policy being trained", "blue"),
}
_RATES = {
    "steps_per_second": ("everything included", "blue"),
    "collect_steps_per_second": ("collection alone", "win"),
    "train_samples_per_second": ("samples trained on", "gold"),
}
_PARTS = {
    "env_wait": "waiting for environments",
    "inference": "choosing actions",
    "collect": "collecting steps",
    "train": "training",
    "curriculum": "curriculum",
    "other": "everything else",
}


def lag_section(record: Record) -> Section:
    """How old steps were when they were trained on."""
    steps = record.metrics["steps"]
    lags, fractions = _lines(record, _LAGS), _lines(record, _FRACTIONS)
    charts = []
    # Zeros and ones all through say nothing that a sentence does not say better.
    if not any(np.nanmax(line.values) > 0 for line in lags):
        lags = []
    if not lags and all(np.nanmin(line.values) >= 1 for line in fractions):
        fractions = []
    if lags:
        note = "gradient steps that the policy made between a step's collection and its training"
        charts.append(lines("Policy lag", note, steps, lags, floor=0.0, words=count))
    if fractions:
        note = "share of the steps of a batch; turns of others, and steps of dead agents, are neither"
        charts.append(lines("What a batch holds", note, steps, fractions, span=(0.0, 1.02), words=percents))
    lead = _lag_lead(lags) if lags else ""
    notes: tuple[str, ...] = ()
    if not lags:
        notes = (
            "This run collects and trains by turns: every step was trained on by the very policy that took it, so "
            "there is no lag to draw.",
        )
    return Section("lag", "Policy lag", lead, tuple(charts), notes=notes)


def _lag_lead(lags: list[Line]) -> str:
    said = {line.name: line.values[np.isfinite(line.values)] for line in lags}
    parts = []
    if "mean" in said:
        parts.append(f"{number(float(said['mean'].mean()))} gradient steps on average")
    if "oldest" in said:
        parts.append(f"{number(float(said['oldest'].max()))} at most")
    return f"Steps were {listed(parts)} behind the policy that learned from them." if parts else ""


def _lines(record: Record, names: dict[str, tuple[str, str]]) -> list[Line]:
    found = [(record.column(name), *how) for name, how in names.items()]
    return [Line(said, values, colour) for values, said, colour in found if values is not None]


def speed_section(record: Record) -> Section:
    """Steps a second, and what the seconds went into."""
    timing = record.timing
    rows = min(len(record.metrics["steps"]), len(timing.get("seconds", ())))
    if not rows:
        return Section(
            "throughput", "Throughput", notes=("The run has no timing.csv, so its speed is not known.",)
        )
    steps = record.metrics["steps"][:rows]
    rates = [
        Line(said, timing[name][:rows], colour) for name, (said, colour) in _RATES.items() if name in timing
    ]
    charts = []
    if rates:
        note = "rates of each update"
        charts.append(lines("Steps a second", note, steps, rates, floor=0.0, words=count))
    parts = _parts(record, rows)
    tables = []
    if parts:
        charts.append(_breakdown(record, steps, parts))
        tables.append(_shares(parts))
    return Section(
        "throughput", "Throughput", _speed_lead(record, parts), tuple(charts), tables=tuple(tables)
    )


def _parts(record: Record, rows: int) -> list[Line]:
    """The columns that are seconds of an update."""
    names = [name for name in record.timing if name not in _RATES and name not in ("update", "seconds")]
    ordered = sorted(names, key=lambda name: list(_PARTS).index(name) if name in _PARTS else len(_PARTS))
    return [
        Line(_PARTS.get(name, name.replace("_", " ")), record.timing[name][:rows], SERIES[i % len(SERIES)])
        for i, name in enumerate(ordered)
        if np.isfinite(record.timing[name]).any()
    ]


def _breakdown(record: Record, steps: Floats, parts: list[Line]) -> Chart:
    note = "seconds of each update"
    if record.config.asynchronous:
        note += "; training runs beside the rest, so that the sum may exceed the clock"
    return stack("Where the time goes", note, steps, parts, words=_seconds, top=None)


def _seconds(value: float) -> str:
    return span(value).replace(".0 s", " s") if value else "0"


def _shares(parts: list[Line]) -> Table:
    totals = [float(np.nansum(part.values)) for part in parts]
    whole = sum(totals) or 1.0
    rows = tuple(
        (part.name, span(total), percent(total / whole, 1)) for part, total in zip(parts, totals, strict=True)
    )
    return Table(("what for", "in all", "share"), rows)


def _speed_lead(record: Record, parts: list[Line]) -> str:
    rate = record.steps / record.seconds if record.seconds else float("nan")
    said = [f"{count(record.steps)} steps in {span(record.seconds)} of training: {count(rate)} a second."]
    if parts:
        totals = {part.name: float(np.nansum(part.values)) for part in parts}
        most = max(totals, key=lambda name: totals[name])
        share = totals[most] / (sum(totals.values()) or 1.0)
        said.append(f"The largest part of the time, {percent(share)}, went into {most}.")
    return " ".join(said)

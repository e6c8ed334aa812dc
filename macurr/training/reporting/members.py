"""Population-based training: who did how well, who copied whom, and where the settings went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from macurr.training.reporting.charts import SERIES, Chart, Line, lines
from macurr.training.reporting.record import Record
from macurr.training.reporting.section import Section, Table
from macurr.training.reporting.series import Floats
from macurr.training.reporting.words import count, number, plural

__all__ = ["members_section"]

Row = Mapping[str, Any]


def members_section(record: Record) -> Section | None:
    """The population over training; None where there is none."""
    rows = [row for row in record.population if {"member", "steps", "objective", "settings"} <= row.keys()]
    if not rows:
        return None
    members = sorted({str(row["member"]) for row in rows})
    copies = [row for row in rows if row.get("copied_from") is not None]
    rounds = len({row["steps"] for row in rows})
    lead = (
        f"{plural(len(members), 'member')} of the population in {plural(rounds, 'round')}: "
        f"{plural(len(copies), 'time')} one went on with the weights of a better one."
    )
    steps = np.array(sorted({float(row["steps"]) for row in rows}))
    note = f"{record.config.pbt.pbt_objective} of each member, over its latest episodes"
    curves = _curves(rows, members, steps, lambda row: row["objective"])
    charts = (
        [lines("Objective", note, steps, curves), *_settings(rows, members, steps)] if len(steps) > 1 else []
    )
    return Section("population", "The population", lead, tuple(charts), folded=(_table(rows),))


def _settings(rows: Sequence[Row], members: Sequence[str], steps: Floats) -> list[Chart]:
    """Each setting that is tuned, of every member after each round."""
    names = dict.fromkeys(name for row in rows for name in row["settings"])
    charts = []
    for name in names:
        curves = _curves(rows, members, steps, lambda row, name=name: row["settings"].get(name))
        title = name.replace("_", " ").replace("/", ": ").capitalize()
        charts.append(lines(title, f"{name} after each round", steps, curves))
    return charts


def _curves(rows: Sequence[Row], members: Sequence[str], steps: Floats, what: Any) -> list[Line]:
    curves = []
    for i, member in enumerate(members):
        values = np.full(len(steps), np.nan)
        for row in rows:
            found = what(row)
            if str(row["member"]) == member and found is not None:
                values[np.searchsorted(steps, row["steps"])] = found
        name = f"policy {member}" if member.isdigit() else member
        curves.append(Line(name, values, SERIES[i % len(SERIES)]))
    return curves


def _table(rows: Sequence[Row]) -> Table:
    said = tuple(
        (
            count(row["steps"]),
            str(row["member"]),
            f"{row['rank'] + 1} of {row['of']}",
            number(float(row["objective"])),
            "" if row.get("copied_from") is None else str(row["copied_from"]),
            ", ".join(f"{name} {float(value):.3g}" for name, value in row["settings"].items()),
        )
        for row in rows
    )
    head = ("after steps", "member", "place", "objective", "copied", "settings after it")
    marked = frozenset(i for i, row in enumerate(rows) if row.get("copied_from") is not None)
    return Table(head, said, marked, "Every round", words=6)

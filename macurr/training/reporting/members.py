"""Population-based training: who did how well, who copied whom, and where the settings went."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from macurr.training.config import TrainConfig, settings_of
from macurr.training.reporting.charts import SERIES, Chart, Line, Mark, lines
from macurr.training.reporting.record import Record
from macurr.training.reporting.section import Section, Table
from macurr.training.reporting.series import Floats
from macurr.training.reporting.words import count, listed, number, plural
from macurr.training.tuned import ARGUMENTS

__all__ = ["members_section"]

Row = Mapping[str, Any]


def members_section(record: Record) -> Section | None:
    """The population over training; None where there is none."""
    rows = [row for row in record.population if {"member", "steps", "objective", "settings"} <= row.keys()]
    if not rows:
        return None
    members = sorted({str(row["member"]) for row in rows})
    steps = np.array(sorted({float(row["steps"]) for row in rows}))
    changing, fixed = _tuned(rows)
    charts: list[Chart] = []
    if len(steps) > 1:
        charts = [_objectives(record, rows, members, steps)]
        charts += [_setting(name, rows, members, steps) for name in changing]
    lead = _lead(rows, members, fixed)
    return Section("population", "The population", lead, tuple(charts), folded=(_table(rows),))


def _lead(rows: Sequence[Row], members: Sequence[str], fixed: Sequence[str]) -> str:
    copies = sum(row.get("copied_from") is not None for row in rows)
    rounds = len({row["steps"] for row in rows})
    times = "once" if copies == 1 else plural(copies, "time")
    said = f"{times} a member went on with the weights of a better one" if copies else "nobody was replaced"
    runs = max((int(row["of"]) for row in rows if row.get("scope") == "runs"), default=0)
    who = (
        plural(len(members), "member") + " of the population"
        if not runs
        else f"One of {runs} runs of a population"
    )
    lead = f"{who}, {plural(rounds, 'round')}: {said}."
    return f"{lead} Nobody mutated {listed([_short(name) for name in fixed])}." if fixed else lead


def _tuned(rows: Sequence[Row]) -> tuple[list[str], list[str]]:
    """The settings that differ between members or rounds, and those that do not."""
    found: dict[str, set[float]] = {}
    for row in rows:
        for name, value in row["settings"].items():
            found.setdefault(name, set()).add(float(value))
    changing = [name for name, values in found.items() if len(values) > 1]
    return changing, [name for name in found if name not in changing]


def _objectives(record: Record, rows: Sequence[Row], members: Sequence[str], steps: Floats) -> Chart:
    curves = _curves(rows, members, steps, lambda row: row["objective"])
    colours = {member: curve.colour for member, curve in zip(members, curves, strict=True)}
    marks = [
        Mark(
            float(row["steps"]),
            float(row["objective"]),
            colours[str(row["member"])],
            f"{_name(str(row['member']))} goes on with the weights of {_name(str(row['copied_from']))}",
        )
        for row in rows
        if row.get("copied_from") is not None
    ]
    ring = "; a ring where one went on with the weights of a better one" if marks else ""
    note = f"{record.config.pbt.pbt_objective} of each member, over its latest episodes{ring}"
    return lines("Objective", note, steps, curves, marks=marks, averaged=False)


def _setting(name: str, rows: Sequence[Row], members: Sequence[str], steps: Floats) -> Chart:
    """A setting that is tuned, of every member after each round."""
    curves = _curves(rows, members, steps, lambda row: row["settings"].get(name))
    return lines(_short(name).capitalize(), _meaning(name), steps, curves, held=True)


def _short(name: str) -> str:
    """What a setting is called: its own name, without where it stands."""
    return name.rpartition("/")[2].replace("_", " ")


def _meaning(name: str) -> str:
    """What a setting is, in a few words."""
    if ARGUMENTS in name:
        return "argument of the environment, after each round"
    known = {item.name: item.text for item in settings_of(TrainConfig)}
    return f"{known.get(name.rpartition('/')[2], name)}; after each round"


def _curves(
    rows: Sequence[Row], members: Sequence[str], steps: Floats, what: Callable[[Row], float | None]
) -> list[Line]:
    curves = []
    for i, member in enumerate(members):
        values = np.full(len(steps), np.nan)
        for row in rows:
            found = what(row)
            if str(row["member"]) == member and found is not None:
                values[np.searchsorted(steps, row["steps"])] = found
        curves.append(Line(_name(member), values, SERIES[i % len(SERIES)]))
    return curves


def _name(member: str) -> str:
    return f"policy {member}" if member.isdigit() else member


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
    return Table(head, said, marked, "Every round", words=6, counted="copied")

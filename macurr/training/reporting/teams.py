"""How good is it? Where all agents learned together: each policy of the run as all agents."""

from __future__ import annotations

import math
from collections.abc import Sequence

from macurr.training.evaluation import Evaluation
from macurr.training.reporting.headline import teams_by_age
from macurr.training.reporting.marks import Point, means
from macurr.training.reporting.record import FINAL, Record
from macurr.training.reporting.section import Section, Table
from macurr.training.reporting.words import MISSING, number, plural, short_steps
from macurr.training.scoring import Team

__all__ = ["teams_section"]


def teams_section(record: Record, evaluation: Evaluation) -> Section:
    """Where all agents learned together nobody is beaten: each policy plays all of them."""
    teams = teams_by_age(evaluation)
    points = [Point(_team_name(team), team.mean_return, *_finite(team)) for team in teams]
    note = (
        f"mean return over agents and {plural(evaluation.seeds, 'held-out level')}, with 95 % intervals, where each "
        "policy plays all agents"
    )
    chart = means("The final policy beside its past", note, points, "policy: snapshot after so many steps")
    notes = (
        [] if record.evaluated else ["The run has gone on since: the final policy here is not its latest."]
    )
    head = ("policy", "taken after steps", "games", "mean return", "95 % interval")
    shown = evaluation.agents if len(evaluation.agents) <= 4 else ()
    rows = tuple(_team_row(team, len(shown)) for team in teams)
    table = Table((*head, *shown), rows, title="Every policy in numbers")
    return Section(
        "opponents", "How good is it?", _team_verdict(teams), (chart,), notes=tuple(notes), folded=(table,)
    )


def _team_name(team: Team) -> str:
    return {"random": "random", FINAL: "final"}.get(team.name, short_steps(team.steps or 0))


def _finite(team: Team) -> tuple[float, float]:
    """The interval, or the mean itself where one level tells nothing of it."""
    return (team.low, team.high) if math.isfinite(team.high) else (team.mean_return, team.mean_return)


def _team_row(team: Team, agents: int) -> tuple[str, ...]:
    return (
        team.name,
        MISSING if team.steps is None else f"{team.steps:,}",
        f"{team.games:,}",
        number(team.mean_return),
        f"{number(team.low)} to {number(team.high)}" if math.isfinite(team.high) else MISSING,
        *(number(value) for value in team.agents[:agents]),
    )


def _team_verdict(teams: Sequence[Team]) -> str:
    final, others = teams[-1], teams[:-1]
    better = sum(final.low > team.high for team in others)
    worse = sum(final.high < team.low for team in others)
    return (
        "All agents learned together, so nobody is beaten here: each policy plays all agents. The final policy returns "
        f"{number(final.mean_return)} on average; that is clearly more than {better} of the {len(others)} others, "
        f"clearly less than {worse}."
    )

"""The head of the page: the run in one sentence and a few numbers."""

from __future__ import annotations

import math

import numpy as np

from macurr.training.config import TrainConfig
from macurr.training.evaluation import Evaluation, Row, Team
from macurr.training.reporting.record import FINAL, Record
from macurr.training.reporting.section import Tile
from macurr.training.reporting.series import ends, smooth
from macurr.training.reporting.words import count, listed, number, percent, plural, short_name, span

__all__ = [
    "benchmarks",
    "methods",
    "state_of",
    "summary",
    "team_benchmarks",
    "teams_by_age",
    "tiles",
    "title_of",
]

_METHODS = {
    "plr": "prioritized level replay",
    "dr": "uniform levels",
    "joint": "levels and opponents drawn together",
}
_RIVALS = {
    "pfsp": "prioritized fictitious self-play",
    "fsp": "fictitious self-play",
    "self": "self-play against the latest self",
    "none": "all agents learning together",
}


def methods(config: TrainConfig) -> list[str]:
    """What a run is trained by: how levels are chosen, and opponents where that is another matter."""
    chosen = [_METHODS[config.curriculum]]
    return chosen if config.curriculum == "joint" else [*chosen, _RIVALS[config.opponents]]


def title_of(record: Record) -> str:
    """What the run is called: its environment."""
    return short_name(record.config.env)


def summary(record: Record) -> str:
    """What was trained, how long, and what came of it, in a sentence or two."""
    config = record.config
    trained = f"PPO with {listed(methods(config))}, trained for {count(record.steps)} environment steps"
    if record.seconds:
        trained += f" in {span(record.seconds)}"
    return f"{trained}. {_outcome(record)}"


def _outcome(record: Record) -> str:
    evaluation = record.evaluation
    if evaluation is not None and evaluation.rows:
        against = [f"{percent(row.score, 1)} against {name}" for name, row in benchmarks(evaluation)]
        whose = "The final policy" if record.evaluated else "Its policy, when it was last evaluated,"
        levels = plural(evaluation.seeds, "level")
        return f"{whose} scores {' and '.join(against)} on {levels} that it had never seen."
    if evaluation is not None and evaluation.teams:
        said = listed([f"{name} {number(team.mean_return)}" for name, team in team_benchmarks(evaluation)])
        return f"Mean return on {plural(evaluation.seeds, 'level')} that it had never seen: {said}."
    won, drawn = record.column("win"), record.column("draw")
    if won is not None and drawn is not None:
        rate = ends(smooth(won + drawn / 2))[1]
        return f"It has not been evaluated; against its pool it scores {percent(rate)} at this point."
    returns = record.column("learner_return")
    if returns is None:
        return ""
    first, last = ends(smooth(returns))
    return f"The mean return of its episodes went from {number(first)} to {number(last)}."


def benchmarks(evaluation: Evaluation) -> list[tuple[str, Row]]:
    """The opponents that stand for the start: chance, and the first snapshot of the run."""
    rows = {row.opponent: row for row in evaluation.rows}
    first = next((row for row in evaluation.rows if row.opponent != "random"), None)
    found = [("random play", rows["random"])] if "random" in rows else []
    return [*found, *([("its first snapshot", first)] if first is not None else [])]


def team_benchmarks(evaluation: Evaluation) -> list[tuple[str, Team]]:
    """The policies that stand for the end and for the start, where each plays all agents."""
    rows = {team.name: team for team in evaluation.teams}
    return [
        (said, rows[name])
        for said, name in (("the final policy", FINAL), ("random play", "random"))
        if name in rows
    ]


def teams_by_age(evaluation: Evaluation) -> list[Team]:
    """Where each policy plays all agents: the random one, the snapshots from the oldest on, the final one."""
    order = {"random": -1.0, FINAL: math.inf}
    return sorted(evaluation.teams, key=lambda team: order.get(team.name, float(team.steps or 0)))


def _spread(team: Team) -> str:
    if not math.isfinite(team.high):
        return ""
    return f"interval {number(team.low)} to {number(team.high)}"


def state_of(record: Record) -> str:
    """What to say of a run that is not over; "" for one that is."""
    if record.evaluated:
        return ""
    done, owner = record.done, record.directory.owner
    where = f"{percent(done)} of it is done. " if done is not None and done < 1 else ""
    shown = f"{where}The page shows what there was after update {count(record.updates)}"
    if owner is not None:
        return f"This run is still going on ({owner}). {shown}; macurr report draws it again."
    return f"This run was stopped before its end. {shown}; macurr train --resume goes on with it."


def tiles(record: Record) -> list[Tile]:
    """The numbers that matter."""
    rate = record.steps / record.seconds if record.seconds else float("nan")
    found = [*_score_tiles(record)]
    found.append(
        Tile(record.steps, count(record.steps), "environment steps", plural(record.updates, "update"))
    )
    if record.seconds:
        found.append(Tile(record.seconds, span(record.seconds), "of training", f"{count(rate)} a second"))
    history = record.history
    if history is not None:
        seen = int((history.total > 0).sum())
        found.append(Tile(seen, count(seen), "levels played", f"of {count(len(history.total))}"))
    lag = record.column("lag_mean")
    if lag is not None and np.nanmax(lag) > 0:
        mean = float(np.nanmean(lag))
        found.append(Tile(mean, number(mean), "gradient steps of lag", "mean over the run"))
    found.append(Tile(len(record.snapshots), count(len(record.snapshots)), "snapshots in the pool"))
    return found


def _score_tiles(record: Record) -> list[Tile]:
    evaluation = record.evaluation
    if evaluation is not None and evaluation.rows:
        return [
            Tile(row.score, percent(row.score, 1), f"against {name}", _interval(row))
            for name, row in benchmarks(evaluation)
        ]
    if evaluation is not None and evaluation.teams:
        return [
            Tile(team.mean_return, number(team.mean_return), f"return of {name}", _spread(team))
            for name, team in team_benchmarks(evaluation)
        ]
    returns = record.column("learner_return")
    if returns is None:
        return []
    last = ends(returns)[1]
    return [Tile(last, number(last), "return of the learner", "last update")]


def _interval(row: Row) -> str:
    return f"interval {100 * row.low:.0f} to {percent(row.high)}"

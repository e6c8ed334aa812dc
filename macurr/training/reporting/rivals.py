"""Against whom? The final policy against its past, ratings over time, and who beats whom."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from macurr import make_local_curriculum
from macurr.curricula.opponents import LEARNER, OpponentCurriculum
from macurr.errors import MacurrError, SolverError
from macurr.opponents import AgentPool, elo_ratings, nash_averaging
from macurr.training.evaluation import Evaluation
from macurr.training.reporting.charts import Chart
from macurr.training.reporting.marks import Point, matrix, matrix_height, ratings, scores
from macurr.training.reporting.record import Record
from macurr.training.reporting.section import Section, Table
from macurr.training.reporting.series import Floats
from macurr.training.reporting.teams import teams_section
from macurr.training.reporting.words import MISSING, listed, percent, plural, short_steps
from macurr.training.scoring import Row, wilson
from macurr.training.standings import Results, cycles_of
from macurr.training.tasks import build_curriculum

__all__ = ["rivals_section"]


@dataclass(frozen=True)
class _Ladder:
    """The snapshots of the result matrix.

    Attributes:
        names: What to call them.
        steps: When they were taken; None where nobody knows any more.
        results: Who scored how much against whom.
        scores: The matrix, float64 (n, n), not a number where nothing was played.
    """

    names: tuple[str, ...]
    steps: tuple[int | None, ...]
    results: Results
    scores: Floats


def rivals_section(record: Record) -> Section:
    """What the evaluation says, and what the curriculum knows of its opponents."""
    evaluation = record.evaluation
    notes: list[str] = []
    charts: list[Chart] = []
    tables: list[Table] = []
    lead = []
    if evaluation is not None and evaluation.teams:
        return teams_section(record, evaluation)
    if evaluation is not None:
        ladder = _ladder(record, evaluation)
        lead += _verdict(evaluation, ladder)
        charts += [_past(evaluation), *_matrix_charts(record, evaluation, ladder)]
        tables += [_games(evaluation), *_ranking(ladder)]
        if not record.evaluated:
            notes.append(
                "The run has gone on since this evaluation: the final policy here is not its latest."
            )
    else:
        notes.append(
            "The run has not been evaluated yet: ratings and the result matrix are played at its end."
        )
    curriculum = _opponent_curriculum(record)
    if curriculum is not None:
        lead += _draws(record, curriculum)
        charts += _in_training(record, curriculum, 290.0 if len(charts) != 3 else _matching(evaluation))
    said = " ".join(lead)
    return Section(
        "opponents", "Against whom?", said, tuple(charts), notes=tuple(notes), folded=tuple(tables)
    )


def _matching(evaluation: Evaluation | None) -> float:
    """As high as the matrix beside it, as far as that looks well."""
    return min(max(matrix_height(len(evaluation.snapshots) if evaluation else 0), 290.0), 540.0)


def _past(evaluation: Evaluation) -> Chart:
    points = [
        Point("random" if row.steps is None else short_steps(row.steps), row.score, row.low, row.high)
        for row in evaluation.rows
    ]
    note = (
        f"score on {plural(evaluation.seeds, 'held-out level')} from every seat, with 95 % intervals; in colour where "
        "clear of one half"
    )
    return scores("The final policy against its past", note, points, "opponent: snapshot after so many steps")


def _ladder(record: Record, evaluation: Evaluation) -> _Ladder:
    rows = {row.opponent: row.steps for row in evaluation.rows}
    steps = [record.steps_of(i) for i in evaluation.snapshots]
    # A run that went on has dropped some of them since; the table still tells when they were taken.
    steps = [
        rows.get(f"snapshot {i}") if at is None else at
        for i, at in zip(evaluation.snapshots, steps, strict=True)
    ]
    known = [
        f"#{i}" if at is None else short_steps(at) for i, at in zip(evaluation.snapshots, steps, strict=True)
    ]
    n = len(known)
    table = np.array([[np.nan if x is None else x for x in row] for row in evaluation.matrix], np.float64)
    table = table.reshape(n, n)
    pairs = tuple((i, j) for i in range(n) for j in range(n) if i != j and np.isfinite(table[i, j]))
    played = np.array([table[i, j] for i, j in pairs]).reshape(-1, 1).repeat(evaluation.matrix_seeds, axis=1)
    names = (*known[:-1], "final") if known else ()
    return _Ladder(names, tuple(steps), Results(pairs, played, n), table)


def _matrix_charts(record: Record, evaluation: Evaluation, ladder: _Ladder) -> list[Chart]:
    if len(ladder.names) < 2 or not ladder.results.pairs:
        return []
    levels = plural(evaluation.matrix_seeds, "held-out level")
    note = f"score of the row against the column in per cent, on {levels} from every seat"
    return [*_rated(record, ladder), matrix("Who beats whom", note, ladder.names, ladder.scores)]


def _points_of(ladder: _Ladder) -> Floats:
    points = ladder.results.levels * ladder.results.advantage()
    np.fill_diagonal(points, 0.0)
    return points


def _rated(record: Record, ladder: _Ladder) -> list[Chart]:
    table = elo_ratings(_points_of(ladder))
    points = [
        Point(name, float(table.ratings[i]), float(table.low[i]), float(table.high[i]), at)
        for i, (name, at) in enumerate(zip(ladder.names, ladder.steps, strict=True))
        if at is not None
    ]
    note = (
        "Elo of each snapshot at the steps at which it was taken, fitted to the result matrix; mean 1500, 95 % "
        "intervals, 400 points are odds of ten to one"
    )
    return [ratings("Ratings over time", note, points, float(max(record.steps, 1)))] if points else []


def _ranking(ladder: _Ladder) -> list[Table]:
    if len(ladder.names) < 2 or not ladder.results.pairs:
        return []
    table = elo_ratings(_points_of(ladder))
    shares = _nash(ladder)
    rows = tuple(
        (
            name,
            MISSING if at is None else f"{at:,}",
            f"{table.ratings[i]:.0f}",
            f"{table.low[i]:.0f} to {table.high[i]:.0f}",
            MISSING if shares is None else percent(float(shares[i]), 1),
        )
        for i, (name, at) in enumerate(zip(ladder.names, ladder.steps, strict=True))
    )
    head = ("snapshot", "taken after steps", "Elo", "95 % interval", "weight in the Nash average")
    return [Table(head, rows, title="Ratings in numbers")]


def _nash(ladder: _Ladder) -> Floats | None:
    advantage = ladder.results.advantage()
    try:
        return nash_averaging((advantage - advantage.T) / 2).rows
    except SolverError:
        return None


def _games(evaluation: Evaluation) -> Table:
    seats = evaluation.agents if len(evaluation.agents) <= 4 else ()
    head = (
        "opponent",
        "taken after steps",
        "games",
        "won",
        "drawn",
        "lost",
        "score",
        "95 % interval",
        "return",
    )
    rows = tuple(_game_row(row, len(seats)) for row in evaluation.rows)
    return Table((*head, *(f"as {seat}" for seat in seats)), rows, title="Every opponent in numbers")


def _game_row(row: Row, seats: int) -> tuple[str, ...]:
    return (
        row.opponent,
        MISSING if row.steps is None else f"{row.steps:,}",
        f"{row.games:,}",
        *(percent(share, 1) for share in (row.win, row.draw, row.loss, row.score)),
        f"{percent(row.low, 1)} to {percent(row.high, 1)}",
        f"{row.mean_return:.2f}",
        *(percent(seat, 1) for seat in row.seats[:seats]),
    )


def _verdict(evaluation: Evaluation, ladder: _Ladder) -> list[str]:
    past = [row for row in evaluation.rows if row.steps is not None]
    better = sum(row.low > 0.5 for row in past)
    worse = sum(row.high < 0.5 for row in past)
    said = []
    if past:
        selves = f"{len(past)} past selves" if len(past) > 1 else "1 past self"
        said.append(
            f"Of {selves} in the pool the final policy {_clearly('beats', better)}, {_clearly('loses to', worse)}, "
            f"and is too close to call with {len(past) - better - worse}."
        )
    cycles = cycles_of(ladder.results) if ladder.results.pairs else []
    if cycles:
        around = [ladder.names[i] for i in cycles[0]]
        said.append(
            f"{plural(len(cycles), 'cycle')} in which each beats the next, such as {listed(around)}: one number cannot "
            "rank them, so look at the matrix and at the weights of the Nash average."
        )
    elif len(ladder.names) > 2 and ladder.results.pairs:
        said.append(
            "No three of them clearly beat each other in a circle, so one number ranks them fairly."
            if _decided(ladder.results)
            else "The matches of the matrix tell no two of them apart; --matrix-seeds asks for more of them."
        )
    return said


def _decided(results: Results) -> bool:
    """Whether anybody clearly beats anybody."""
    scores = results.advantage()
    return any(wilson(score, results.levels)[0] > 0.5 for score in scores[np.isfinite(scores)].tolist())


def _clearly(does: str, how_many: int) -> str:
    return f"{does} none" if not how_many else f"clearly {does} {how_many}"


def _draws(record: Record, curriculum: OpponentCurriculum) -> list[str]:
    """Whom the curriculum chooses most often."""
    ids, chances = [snapshot.id for snapshot in record.snapshots], curriculum.distribution()
    # Ids never come again: the pool was the same all the time, unless the run has changed it meanwhile.
    if len(ids) < 2 or curriculum.pool.ids != ids:
        return []
    chance = dict(zip(ids, chances, strict=True))
    likely = sorted(ids, key=lambda i: -chance[i])[:3]
    said = listed([f"{short_steps(record.steps_of(i) or 0)} ({percent(float(chance[i]))})" for i in likely])
    return [f"The curriculum now draws most often the snapshots taken after {said} steps."]


def _in_training(record: Record, curriculum: OpponentCurriculum, height: float) -> list[Chart]:
    """What the opponents' curriculum goes by: the learner's results against each, forgotten slowly."""
    ids = [snapshot.id for snapshot in record.snapshots]
    played = curriculum.payoffs.games(LEARNER, ids)
    points = [
        _trained_against(record, curriculum, i) for i, games in zip(ids, played, strict=True) if games > 0
    ]
    if not points:
        return []
    note = (
        "the learner's score in its latest training episodes against each, with 95 % intervals: what the curriculum "
        "goes by"
    )
    under = "opponent: snapshot after so many steps"
    return [scores("Opponents in training", note, points, under, height=height)]


def _trained_against(record: Record, curriculum: OpponentCurriculum, snapshot: int) -> Point:
    low, high = curriculum.payoffs.interval(LEARNER, snapshot)
    rate = curriculum.payoffs.win_rate(LEARNER, snapshot)
    return Point(short_steps(record.steps_of(snapshot) or 0), rate, low, high)


def _opponent_curriculum(record: Record) -> OpponentCurriculum | None:
    """The part of the run's curriculum that chooses opponents, as the checkpoint left it."""
    if not record.snapshots or "curriculum" not in record.state or record.config.curriculum == "joint":
        return None
    try:
        pool = AgentPool(record.directory.snapshots, create=False)
        curriculum = build_curriculum(record.config, pool)
        with make_local_curriculum(curriculum) as synced:
            synced.load_state_dict(record.state["curriculum"])
    except (MacurrError, OSError):  # snapshots that came or went since: the picture is left out
        return None
    part = getattr(curriculum, "agent_curriculum", None)
    return part if isinstance(part, OpponentCurriculum) else None

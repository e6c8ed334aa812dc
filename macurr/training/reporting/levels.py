"""Which levels mattered? A gallery: each level's first picture, its course, and a match on it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from macurr.errors import MacurrError
from macurr.training.duels import arena_of
from macurr.training.envs import EnvSource
from macurr.training.mapping import sides_of
from macurr.training.matches import Matches
from macurr.training.players import OpenRun
from macurr.training.reporting.films import Reel, filming, with_pictures
from macurr.training.reporting.pictures import Film
from macurr.training.reporting.record import History, Record
from macurr.training.reporting.section import Card, Section
from macurr.training.reporting.series import Floats
from macurr.training.reporting.sparks import spark
from macurr.training.reporting.teaching import top_share
from macurr.training.reporting.words import number, percent, plural, short_steps
from macurr.training.session import probe
from macurr.training.stage import Stage

__all__ = ["chosen_levels", "levels_section"]

_CARDS = 6
_SEED_OFFSET = 2_000_003
"""Apart from the seeds of training and of evaluation."""


@dataclass(frozen=True)
class _Show:
    """The matches of the gallery.

    Attributes:
        seats: Names of the sides; () where nothing was played.
        returns: By level the returns of the agents of the first side, and of all others.
        films: The films by level.
        why: Why there are no films, "" where there are.
    """

    seats: tuple[str, ...] = ()
    returns: Mapping[int, tuple[Floats, Floats]] = field(default_factory=dict)
    films: Mapping[int, Film] = field(default_factory=dict)
    why: str = ""


def levels_section(record: Record, *, films: bool = True) -> Section:
    """The levels that mattered.

    Args:
        record: The run.
        films: Whether to play and film a match on each.
    """
    title, history = "Which levels mattered?", record.history
    if history is None or not history.total.any():
        note = "Nothing is known of single levels yet: the run has no readable checkpoint with a history."
        return Section("levels", title, notes=(note,))
    levels = chosen_levels(history, record.config.curriculum)
    opponents = {level: _opponent(record, history, level) for level in levels}
    show = _play(record, opponents) if films else _Show(why="none were asked for")
    cards = tuple(_card(record, history, level, opponents[level], show) for level in levels)
    notes = (f"There are no pictures of the levels: {show.why}.",) if show.why else ()
    return Section("levels", title, _lead(record, history, show), cards=cards, notes=notes)


def chosen_levels(history: History, curriculum: str, most: int = _CARDS) -> list[int]:
    """The levels that mattered most: the most played, or where all are played alike those of the highest scores.

    Args:
        history: The levels over time.
        curriculum: The run's curriculum.
        most: How many.
    """
    plays = history.total
    if curriculum == "dr":
        known = np.isfinite(history.scores)
        sums = np.where(known, history.scores, 0.0).sum(axis=0)
        rank = np.where(known.any(axis=0), sums / np.maximum(known.sum(axis=0), 1), -np.inf)
    else:
        rank = plays.astype(np.float64)
    order = np.lexsort((np.arange(len(plays)), -rank))
    return [int(level) for level in order[:most] if plays[level] > 0]


def _lead(record: Record, history: History, show: _Show) -> str:
    if record.config.curriculum == "dr":
        said = ["Levels were drawn uniformly, so these are the ones whose scores were highest over the run."]
    else:
        share = top_share(history)
        tenth = f"; the most played tenth of all got {percent(share)} of the episodes" if share < 1 else ""
        said = [f"The most played levels of the run{tenth}."]
    if show.returns:
        policy = "final" if record.evaluated else "newest"
        said.append(
            f"On each, the {policy} policy plays one match as it was trained, by chance and not greedily"
        )
        rival = ", against the newest snapshot of the time at which the level was played most"
        said[-1] += f"{rival if _rivals(record) else ''}."
    said.append("Below each level, over the run: its score as a line, its episodes as bars.")
    return " ".join(said)


def _rivals(record: Record) -> bool:
    """Whether somebody is played by the past."""
    return record.config.opponents != "none"


def _peak(history: History, level: int) -> int:
    """The interval in which a level was played most."""
    return int(history.intervals[:, level].argmax())


def _opponent(record: Record, history: History, level: int) -> int | None:
    """The newest snapshot of the time at which a level was played most, of those that are left; None for none."""
    if not record.snapshots:
        return None
    peak = _peak(history, level)
    began = history.steps[peak - 1] if peak else 0.0
    known = [snapshot for snapshot in record.snapshots if snapshot.steps <= began]
    return (known[-1] if known else record.snapshots[0]).id


# Matches


def _play(record: Record, opponents: Mapping[int, int | None]) -> _Show:
    """One match on each level, filmed where the environment draws."""
    if not record.snapshots:
        return _Show(why="the run has no snapshot that could play")
    source = EnvSource(record.config.env, dict(record.config.env_args))
    try:
        filmed = with_pictures(source)
        if isinstance(filmed, str):
            return _matches(record, source, opponents, why=filmed)
        with filming(filmed) as (camera, reels):
            show = _matches(record, camera, opponents)
        return _developed(show, reels)
    except MacurrError as error:
        return _Show(why=f"the matches could not be played ({str(error).splitlines()[0]})")


def _developed(show: _Show, reels: Sequence[Reel]) -> _Show:
    shown = {reel.seed: reel for reel in reels if reel.seed is not None and reel.frames}
    films = {
        seed: Film.of(reel.chosen(), reel.fps, reel.steps, reel.stride, at_end=_begin_alike(shown.values()))
        for seed, reel in shown.items()
    }
    failed = next((reel.failure for reel in reels if reel.failure), "")
    return replace(show, films=films, why=f"drawing failed with {failed}" if failed and not films else "")


def _begin_alike(reels: Collection[Reel]) -> bool:
    """Whether the first pictures say nothing of the levels, as an empty board does: then the last ones are shown."""
    first, *others = (reel.frames[0] for reel in reels)
    return bool(others) and all(np.array_equal(first, other) for other in others)


def _matches(record: Record, source: EnvSource, opponents: Mapping[int, int | None], why: str = "") -> _Show:
    """Play them: the newest policy as the first side, the opponent as all others."""
    run, layout, levels = OpenRun(record.directory.path), probe(source), list(opponents)
    sides = sides_of(layout.agents, record.config.policies.sides)
    newest = record.snapshots[-1].id
    cast = sorted({newest, *(i for i in opponents.values() if i is not None)})
    players = np.full((len(levels), len(layout.agents)), cast.index(newest), np.int64)
    if _rivals(record):
        others = [k for k in range(len(layout.agents)) if k not in sides[0]]
        players[:, others] = [[cast.index(opponents[level] or 0)] for level in levels]
    stage = Stage(source, layout, tuple(levels), False, sides)
    arena = arena_of([run.player(i) for i in cast], stage, 0, record.config.seed + _SEED_OFFSET)
    played = arena.play(Matches(players, np.array(levels, np.int64)))
    first = np.isin(np.arange(len(layout.agents)), sides[0])
    returns = {level: (row[first], row[~first]) for level, row in zip(levels, played, strict=True)}
    return _Show(stage.seats, returns, why=why)


# Cards


def _card(record: Record, history: History, level: int, opponent: int | None, show: _Show) -> Card:
    plays = int(history.total[level])
    scores = history.scores[:, level]
    known = scores[np.isfinite(scores)]
    peak = _peak(history, level)
    began = history.steps[peak - 1] if peak else 0.0
    busiest = f"{short_steps(began)} to {short_steps(history.steps[peak])} steps"
    facts = [("episodes", f"{plays:,}"), ("busiest", busiest)]
    if len(known):
        score = f"{number(float(known[-1]))} now, {number(float(known.max()))} at most"
        facts.append((f"score ({record.config.tasks.score})", score))
    label = (
        f"Level {level}: its score over the run as a line, its episodes as bars; {plural(plays, 'episode')}."
    )
    picture = spark(history.steps, scores, history.intervals[:, level].astype(np.float64), label)
    players, result = _told(record, level, opponent, show)
    return Card(level, plays, tuple(facts), picture, show.films.get(level), players, result)


def _told(record: Record, level: int, opponent: int | None, show: _Show) -> tuple[tuple[str, ...], str]:
    """Who played the match, and what came of it."""
    if level not in show.returns:
        return (), ""
    own = "the final policy" if record.evaluated else "the newest policy"
    mine, theirs = show.returns[level]
    if not _rivals(record) or not len(theirs):
        return (f"all by {own}",), f"mean return {number(float(np.concatenate([mine, theirs]).mean()))}"
    ahead = float(mine.mean() - theirs.mean())
    verdict = "drawn" if abs(ahead) < 1e-9 else "won" if ahead > 0 else "lost"
    result = f"{verdict}: return {number(float(mine.mean()))} against {number(float(theirs.mean()))}"
    rest = show.seats[1] if len(show.seats) == 2 else "the others"
    return (f"{show.seats[0]}: {own}", f"{rest}: {_named(record, opponent)}"), result


def _named(record: Record, snapshot: int | None) -> str:
    steps = None if snapshot is None else record.steps_of(snapshot)
    if not steps:
        return "a snapshot" if steps is None else "the untrained policy"
    return f"the snapshot of {short_steps(steps)} steps"

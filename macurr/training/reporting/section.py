"""What the page is made of: sections with their charts, tables and cards."""

from __future__ import annotations

from dataclasses import dataclass

from macurr.training.reporting.charts import Chart
from macurr.training.reporting.pictures import Film

__all__ = ["Card", "Section", "Table", "Tile"]


@dataclass(frozen=True)
class Tile:
    """A number that matters.

    Attributes:
        value: The number itself, as it stands in the run's files.
        said: The number as people read it.
        name: What it is.
        more: What else to know of it.
    """

    value: float
    said: str
    name: str
    more: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of texts.

    Attributes:
        head: Names of the columns.
        rows: The rows.
        marked: Places of the rows that are marked.
        title: What it is about.
        words: How many of the first columns are words; the others are numbers, set flush right.
        counted: What the marked rows are called where their number is told.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    marked: frozenset[int] = frozenset()
    title: str = ""
    words: int = 1
    counted: str = "changed"


@dataclass(frozen=True)
class Card:
    """A level.

    Attributes:
        level: Its seed.
        plays: Episodes on it.
        facts: What is known of it, (name, value).
        spark: Its score over the run, as markup.
        film: The match played on it; None where there are no pictures.
        players: Who played the match.
        result: How the match ended; "" where none was played.
    """

    level: int
    plays: int
    facts: tuple[tuple[str, str], ...]
    spark: str
    film: Film | None = None
    players: tuple[str, ...] = ()
    result: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        key: Its anchor.
        title: Its heading.
        lead: What is to be seen, in a sentence or two.
        charts: Its pictures.
        cards: Levels.
        tables: Tables.
        notes: What is missing, and why.
        more: Pictures that are folded away.
        folded: Tables that are folded away, each under its title.
        code: Lines for a shell.
    """

    key: str
    title: str
    lead: str = ""
    charts: tuple[Chart, ...] = ()
    cards: tuple[Card, ...] = ()
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    more: tuple[Chart, ...] = ()
    folded: tuple[Table, ...] = ()
    code: str = ""

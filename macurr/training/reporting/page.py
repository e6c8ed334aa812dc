"""The page: one HTML file that needs nothing but a browser."""

from __future__ import annotations

import datetime
from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

import macurr
from macurr.training.reporting.headline import state_of, summary, tiles, title_of
from macurr.training.reporting.learning import learning_section
from macurr.training.reporting.levels import levels_section
from macurr.training.reporting.machine import lag_section, speed_section
from macurr.training.reporting.members import members_section
from macurr.training.reporting.record import Record
from macurr.training.reporting.rivals import rivals_section
from macurr.training.reporting.section import Section
from macurr.training.reporting.settings import again_section, settings_section
from macurr.training.reporting.teaching import teaching_section

__all__ = ["page", "sections_of"]

_PARTS = files("macurr.training.reporting") / "parts"


def page(record: Record, *, films: bool = True) -> str:
    """The whole page as a text.

    Args:
        record: The run.
        films: Whether to play and film a match on each of the levels that mattered.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(_part("page.html"))
    return template.render(
        title=title_of(record),
        env=record.config.env,
        run=str(record.directory.path),
        state=state_of(record),
        summary=summary(record),
        notes=record.notes,
        tiles=tiles(record),
        sections=sections_of(record, films=films),
        style=Markup(_part("page.css")),  # a file of ours
        script=Markup(_part("page.js")),
        markup=Markup,
        version=macurr.__version__,
        made=datetime.datetime.now(datetime.timezone.utc).strftime("%d %B %Y, %H:%M UTC"),
    )


def sections_of(record: Record, *, films: bool = True) -> list[Section]:
    """The sections, in the order in which one asks.

    Args:
        record: The run.
        films: Whether to play and film a match on each of the levels that mattered.
    """
    population = members_section(record)
    return [
        learning_section(record),
        rivals_section(record),
        levels_section(record, films=films),
        teaching_section(record),
        *([] if population is None else [population]),
        lag_section(record),
        speed_section(record),
        settings_section(record),
        again_section(record),
    ]


def _part(name: str) -> str:
    return (_PARTS / name).read_text(encoding="utf-8")

"""The one owner of a curriculum: it registers environments, routes their updates and hands out tasks."""

from macurr.host.records import Assignment, EnvRecord, Welcome
from macurr.host.serving import CurriculumHost

__all__ = ["Assignment", "CurriculumHost", "EnvRecord", "Welcome"]

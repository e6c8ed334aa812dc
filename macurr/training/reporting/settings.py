"""What the run was set to, and how to have it again."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
import pettingzoo
import torch

import macurr
from macurr.training.config import Setting, TrainConfig, settings_of
from macurr.training.reporting.record import Record
from macurr.training.reporting.section import Section, Table

__all__ = ["again_section", "settings_section"]


def settings_section(record: Record) -> Section:
    """Every setting, those that differ from the default marked."""
    groups: dict[str, list[Setting]] = {}
    for item in settings_of(TrainConfig):
        groups.setdefault(item.group, []).append(item)
    tables = tuple(_table(record.config, title, items) for title, items in groups.items())
    changed = [name for table in tables for name in _names(table)]
    lead = "Every setting is at its default."
    if changed:
        lead = f"Different from the default: {', '.join(changed)}. Everything else is as it comes."
    return Section("settings", "Configuration", lead, folded=tables)


def again_section(record: Record) -> Section:
    """The lines that train the same again, and what it ran on."""
    same = (
        "Everything that decides about the run is in its config.yaml. With the local transport the same settings "
        "repeat it exactly."
        if record.config.transport == "local"
        else "Everything that decides about the run is in its config.yaml. Environments in processes of their own "
        "answer in an order of their own, so another run of the same settings comes out alike, not equal; with "
        "--transport local and one worker it would repeat exactly."
    )
    versions = {
        "macurr": macurr.__version__,
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "NumPy": np.__version__,
        "Gymnasium": gymnasium.__version__,
        "PettingZoo": pettingzoo.__version__,
        "system": f"{platform.system()} {platform.machine()}",
    }
    table = Table(("", "version"), tuple(versions.items()), title="This page was made with", words=2)
    return Section("again", "Reproduce it", same, folded=(table,), code=_command(record))


def _command(record: Record) -> str:
    path = shlex.quote(str(record.directory.path))
    lines = [
        f"macurr train --config {shlex.quote(str(record.directory.config))} --out ANOTHER_DIRECTORY",
        f"macurr report {path}",
        f"tensorboard --logdir {shlex.quote(str(record.directory.tensorboard))}",
    ]
    if not record.evaluated:
        lines.insert(1, f"macurr train --resume {path}")
    return "\n".join(lines)


def _names(table: Table) -> list[str]:
    """The marked settings with their values."""
    return [f"{table.rows[i][0]} {table.rows[i][1]}" for i in sorted(table.marked)]


def _table(config: TrainConfig, title: str, items: list[Setting]) -> Table:
    values = [_value(config, item) for item in items]
    rows = tuple(
        (item.name, _said(value), item.default_text or _said(item.default), item.text)
        for item, value in zip(items, values, strict=True)
    )
    marked = frozenset(
        i
        for i, (item, value) in enumerate(zip(items, values, strict=True))
        if value != item.default and item.name != "out"
    )
    head = ("setting", "value", "default", "meaning")
    return Table(head, rows, marked, title[0].upper() + title[1:], words=4)


def _value(config: TrainConfig, item: Setting) -> Any:
    return getattr(getattr(config, item.part) if item.part else config, item.name)


def _said(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={item!r}" for key, item in value.items()) or "none"
    if isinstance(value, (tuple, list)):
        return ", ".join(map(str, value)) or "none"
    return str(value)

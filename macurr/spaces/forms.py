"""Encoded tasks in other forms: as keys, and as plain state."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np

__all__ = ["frozen", "plain"]


def frozen(task: Any) -> Hashable:
    """A hashable stand-in for an encoded task, equal for equal tasks."""
    if isinstance(task, np.ndarray):
        return (task.shape, task.tobytes())
    if isinstance(task, Mapping):
        return tuple((key, frozen(task[key])) for key in sorted(task))
    if isinstance(task, tuple | list):
        return tuple(frozen(part) for part in task)
    return int(task) if isinstance(task, np.integer) else task


def plain(task: Any) -> Any:
    """An encoded task as states hold it: a nest of lists, dicts, numbers and arrays of its own."""
    if isinstance(task, np.ndarray):
        return task.copy()
    if isinstance(task, Mapping):
        return {key: plain(part) for key, part in task.items()}
    if isinstance(task, tuple | list):
        return [plain(part) for part in task]
    return int(task) if isinstance(task, np.integer) else task

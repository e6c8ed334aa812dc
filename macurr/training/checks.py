"""What a single setting must be: a predicate, and the words for it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

__all__ = ["TEXT", "Check", "choice", "instance", "optional", "real", "whole"]

Check = tuple[Callable[[Any], bool], str]


def whole(low: int, high: float = math.inf) -> Check:
    """A whole number in a range, both ends included."""
    wanted = f"a whole number of at least {low}" + ("" if high == math.inf else f" and at most {high:g}")
    return lambda v: isinstance(v, int) and not isinstance(v, bool) and low <= v <= high, wanted


def real(low: float, high: float = math.inf, *, above: bool = False) -> Check:
    """A finite number in a range, both ends included; with `above`, the lower one not."""
    wanted = f"a finite number {'above' if above else 'of at least'} {low:g}" + (
        "" if high == math.inf else f" and at most {high:g}"
    )

    def holds(value: Any) -> bool:
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return number and value <= high and (value > low if above else value >= low)

    return holds, wanted


def optional(check: Check) -> Check:
    """What `check` says, or None."""
    return lambda v: v is None or check[0](v), f"{check[1]}, or None"


def choice(*values: str) -> Check:
    """One of several words."""
    return lambda v: isinstance(v, str) and v in values, "one of " + ", ".join(map(repr, values))


def instance(kind: type, wanted: str) -> Check:
    """An object of a class."""
    return lambda v: isinstance(v, kind), wanted


TEXT: Check = (lambda v: isinstance(v, str) and bool(v), "a text that is not empty")
"""Any text."""

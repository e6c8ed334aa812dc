"""What a single setting must be: a predicate, the words for it, and how it is written on a command line."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

__all__ = [
    "FLAG",
    "KEYWORDS",
    "NAMES",
    "SIZES",
    "TEXT",
    "Check",
    "choice",
    "instance",
    "one_of",
    "optional",
    "real",
    "text_like",
    "whole",
]


@dataclasses.dataclass(frozen=True)
class Check:
    """What a setting must be.

    Attributes:
        holds: Whether a value will do.
        wanted: What will do, in words.
        kind: How it is written: "whole", "real", "text", "flag", "sizes", "names", "keywords", or "part" for a part of
            the tree.
        choices: The words to choose from; empty where there are too many to list.
        optional: Whether None will do too.
    """

    holds: Callable[[Any], bool]
    wanted: str
    kind: str
    choices: tuple[str, ...] = ()
    optional: bool = False

    def taken(self, value: Any) -> Any:
        """A value that is only written differently as its setting keeps it: a list of sizes, 2e6, no keywords."""
        if self.kind in ("sizes", "names") and isinstance(value, list):
            return tuple(value)
        if self.kind == "keywords" and value is None:
            return {}
        if self.kind == "whole" and isinstance(value, float) and value.is_integer():
            return int(value)
        return value


def whole(low: int, high: float = math.inf) -> Check:
    """A whole number in a range, both ends included."""
    wanted = f"a whole number of at least {low}" + ("" if high == math.inf else f" and at most {high:g}")
    return Check(lambda v: _is_whole(v) and low <= v <= high, wanted, "whole")


def real(low: float, high: float = math.inf, *, above: bool = False) -> Check:
    """A finite number in a range, both ends included; with `above`, the lower one not."""
    wanted = f"a finite number {'above' if above else 'of at least'} {low:g}" + (
        "" if high == math.inf else f" and at most {high:g}"
    )

    def holds(value: Any) -> bool:
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return number and value <= high and (value > low if above else value >= low)

    return Check(holds, wanted, "real")


def optional(check: Check) -> Check:
    """What `check` says, or None."""
    return dataclasses.replace(
        check,
        holds=lambda v: v is None or check.holds(v),
        wanted=f"{check.wanted}, or None",
        optional=True,
    )


def choice(*values: str) -> Check:
    """One of several words."""
    wanted = "one of " + ", ".join(map(repr, values))
    return Check(lambda v: isinstance(v, str) and v in values, wanted, "text", choices=values)


def text_like(pattern: str, wanted: str) -> Check:
    """A text that a regular expression matches as a whole."""
    compiled = re.compile(pattern)
    return Check(lambda v: isinstance(v, str) and compiled.fullmatch(v) is not None, wanted, "text")


def one_of(*values: str, function: str) -> Check:
    """One of several words, or the import path of a function of the user's.

    Args:
        values: The words.
        function: What the function says, for errors.
    """
    known = choice(*values)
    path = r"[\w.]+:[\w.]+"
    return Check(
        lambda v: known.holds(v) or (isinstance(v, str) and re.fullmatch(path, v) is not None),
        f"{known.wanted}, or the import path module:function of {function}",
        "text",
    )


def instance(kind: type, wanted: str) -> Check:
    """An object of a class: a part of the tree."""
    return Check(lambda v: isinstance(v, kind), wanted, "part")


TEXT = Check(lambda v: isinstance(v, str) and bool(v), "a text that is not empty", "text")
"""Any text."""

FLAG = Check(lambda v: isinstance(v, bool), "True or False", "flag")
"""On or off."""


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _are_sizes(value: Any) -> bool:
    return isinstance(value, tuple) and bool(value) and all(_is_whole(n) and n > 0 for n in value)


SIZES = Check(_are_sizes, "a tuple of positive whole numbers", "sizes")
"""Sizes of layers."""


def _are_names(value: Any) -> bool:
    named = isinstance(value, tuple) and all(isinstance(name, str) and name.isidentifier() for name in value)
    return named and len(set(value)) == len(value)


NAMES = Check(_are_names, "a tuple of different names", "names")
"""Names of things."""


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return _are_keywords(value)
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or type(value) in (bool, int, float, str)


def _are_keywords(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(k, str) and _is_plain(v) for k, v in value.items())


KEYWORDS = Check(
    _are_keywords,
    "a mapping of keywords to numbers, texts, booleans, None, and lists or mappings of such",
    "keywords",
)
"""Keywords of an environment; what a settings file can hold."""

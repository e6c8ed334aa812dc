"""Numbers as people read them."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = [
    "MISSING",
    "count",
    "listed",
    "number",
    "percent",
    "plural",
    "short_name",
    "short_steps",
    "span",
]

MISSING = "\N{EN DASH}"
"""Stands for a number that is not there."""


def percent(share: float, digits: int = 0) -> str:
    """A share of one as a percentage."""
    if not math.isfinite(share):
        return MISSING
    return f"{share:.{digits}%}".replace("%", "\N{NO-BREAK SPACE}%")


def count(n: float) -> str:
    """A whole number, its thousands apart."""
    return f"{n:,.0f}"


def number(value: float) -> str:
    """Any number in three digits that count."""
    if not math.isfinite(value):
        return MISSING
    if value and (abs(value) < 1e-4 or abs(value) >= 1e6):
        return f"{value:.2e}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def short_steps(steps: float) -> str:
    """A number of steps in few letters: 850, 1.5k, 164k, 1M."""
    if abs(steps) >= 999_500:
        return f"{steps / 1e6:.3g}M"
    if abs(steps) >= 9_950:
        return f"{steps / 1e3:.0f}k"
    return f"{steps / 1e3:.3g}k" if abs(steps) >= 1e3 else f"{steps:.3g}"


def plural(n: float, word: str) -> str:
    """So many of something: 1 level, 2,000 levels."""
    return f"{count(n)} {word}" if n == 1 else f"{count(n)} {word}s"


def span(seconds: float) -> str:
    """A length of time: 48 s, 3 min 5 s, 2 h 10 min, 3 d 4 h."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    parts = [(whole // 86400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "min"), (whole % 60, "s")]
    first = next((i for i, (n, _) in enumerate(parts) if n), len(parts) - 1)
    return " ".join(f"{n} {unit}" for n, unit in parts[first : first + 2] if n)


def listed(words: Sequence[str]) -> str:
    """a, b and c."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"


def short_name(path: str) -> str:
    """What an environment is called in a title: the last part of its module, or its callable."""
    module, _, name = path.partition(":")
    return name or module.rpartition(".")[2]

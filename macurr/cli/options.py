"""What the sub-commands share: exit codes, the parser, and the types of options."""

from __future__ import annotations

import argparse
import ast
import difflib
import textwrap
from collections.abc import Sequence
from typing import Any, NoReturn

from typing_extensions import override

__all__ = [
    "CANNOT",
    "DONE",
    "INTERRUPTED",
    "TERMINATED",
    "Parser",
    "Wide",
    "levels",
    "names",
    "pair",
    "sizes",
    "whole",
]

DONE, CANNOT, INTERRUPTED, TERMINATED = 0, 2, 130, 143

_MOST_LEVELS = 1_000_000


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one message, without the usage of forty options."""

    @override
    def error(self, message: str) -> NoReturn:
        self.exit(CANNOT, f"{self.prog}: error: {message}. See {self.prog} --help.\n")

    @override
    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse what is unknown here, where its neighbours are known, and not in the parser above."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self._refuse(unknown)
        return found, unknown

    def _refuse(self, unknown: Sequence[str]) -> NoReturn:
        name = next((text for text in unknown if text.startswith("-")), unknown[0]).partition("=")[0]
        if not name.startswith("-"):
            self.error(f"nothing takes the argument {name!r}")
        known = {option.lstrip("-"): option for option in self._option_string_actions}
        near = difflib.get_close_matches(name.lstrip("-"), known, n=1, cutoff=0.7)
        self.error(f"there is no option {name}" + (f" (did you mean {known[near[0]]}?)" if near else ""))


class Wide(argparse.HelpFormatter):
    """Help with room for the names of options."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34, width=110)

    @override
    def _split_lines(self, text: str, width: int) -> list[str]:
        """Options in a text stay whole."""
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False, break_long_words=False)


def whole(text: str) -> int:
    """A whole number, also as 1e6 or 1_000_000."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not value.is_integer():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number, such as 200000 or 2e5")
    return int(text) if text.strip("+-").isdigit() else int(value)


def levels(text: str) -> int | tuple[int, ...]:
    """How many levels, or which: a whole number, a range FIRST-LAST, or numbers with commas between."""
    first, dash, last = text.partition("-")
    if dash and first:
        start, stop = whole(first), whole(last) + 1
        if not 0 < stop - start <= _MOST_LEVELS:
            raise argparse.ArgumentTypeError(f"{text!r} is no range of 1 to {_MOST_LEVELS:,} levels")
        return tuple(range(start, stop))
    return tuple(whole(part) for part in text.split(",") if part) if "," in text else whole(text)


def sizes(text: str) -> tuple[int, ...]:
    """Whole numbers with commas between."""
    return tuple(whole(part) for part in text.split(","))


def names(text: str) -> tuple[str, ...]:
    """Names with commas between."""
    return tuple(part for part in text.split(",") if part)


def pair(text: str) -> tuple[str, Any]:
    """A keyword and its value: a Python literal, or a text."""
    key, sign, value = text.partition("=")
    if not sign or not key.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form key=value")
    try:
        return key, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return key, value

"""Stopping conditions as text: `steps>=1000`, `episode_return>=0.9&episodes>=50`, with `|` and parentheses.

```text
either     = both { "|" both }
both       = single { "&" single }
single     = "(" either ")" | name comparison number
comparison = ">=" | "<=" | "==" | "=" | "!=" | ">" | "<"
```
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from macurr.errors import UsageError

__all__ = ["AllOf", "AnyOf", "Comparison", "Condition", "parse_condition"]

Condition = Callable[[Mapping[str, float]], bool]
"""Whether something holds, given the numbers by name."""

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "=": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}
_TOKEN = re.compile(
    r"\s*(?:(?P<name>[A-Za-z_]\w*)|(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
    r"|(?P<operator>>=|<=|==|!=|=|>|<)|(?P<sign>[&|()]))"
)


@dataclass(frozen=True)
class Comparison:
    """A named number against a constant. It does not hold while the number is NaN: not known yet."""

    name: str
    operator: str
    value: float

    def __call__(self, metrics: Mapping[str, float]) -> bool:
        """Whether it holds for these numbers."""
        known = metrics[self.name]
        return not math.isnan(known) and _OPERATORS[self.operator](known, self.value)


@dataclass(frozen=True)
class AllOf:
    """Holds if all of its parts hold."""

    parts: tuple[Condition, ...]

    def __call__(self, metrics: Mapping[str, float]) -> bool:
        """Whether it holds for these numbers."""
        return all(part(metrics) for part in self.parts)


@dataclass(frozen=True)
class AnyOf:
    """Holds if one of its parts holds."""

    parts: tuple[Condition, ...]

    def __call__(self, metrics: Mapping[str, float]) -> bool:
        """Whether it holds for these numbers."""
        return any(part(metrics) for part in self.parts)


def parse_condition(text: str, names: Collection[str]) -> Condition:
    """A condition from its text. `&` binds tighter than `|`.

    Args:
        text: Comparisons such as `steps>=1000`, joined by `&` and `|`, with parentheses.
        names: The names that may be compared.

    Raises:
        UsageError: the text is no condition; the message shows where.

    Example:
        >>> done = parse_condition("steps>=10 | (episodes>2 & steps>5)", ["steps", "episodes"])
        >>> done({"steps": 7, "episodes": 3}), done({"steps": 7, "episodes": 2})
        (True, False)
    """
    return _Parser(text, names).parse()


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    position: int


class _Parser:
    """Recursive descent over the grammar above."""

    def __init__(self, text: str, names: Collection[str]) -> None:
        self._text, self._names = text, names
        self._tokens = self._split()
        self._next = 0

    def parse(self) -> Condition:
        condition = self._either()
        if self._peek().kind != "end":
            raise self._error("'&', '|' or the end")
        return condition

    def _split(self) -> list[_Token]:
        tokens: list[_Token] = []
        position, end = 0, len(self._text.rstrip())
        while position < end:
            match = _TOKEN.match(self._text, position)
            if match is None:
                start = position + len(self._text[position:]) - len(self._text[position:].lstrip())
                raise self._complaint(start, f"{self._text[start]!r} has no meaning here")
            kind = str(match.lastgroup)
            tokens.append(_Token(kind, match.group(kind), match.start(kind)))
            position = match.end()
        return [*tokens, _Token("end", "", end)]

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _accept(self, kind: str, *texts: str) -> _Token | None:
        token = self._peek()
        if token.kind != kind or (texts and token.text not in texts):
            return None
        self._next += 1
        return token

    def _either(self) -> Condition:
        parts = [self._both()]
        while self._accept("sign", "|"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else AnyOf(tuple(parts))

    def _both(self) -> Condition:
        parts = [self._single()]
        while self._accept("sign", "&"):
            parts.append(self._single())
        return parts[0] if len(parts) == 1 else AllOf(tuple(parts))

    def _single(self) -> Condition:
        if self._accept("sign", "("):
            inner = self._either()
            if self._accept("sign", ")") is None:
                raise self._error("')'")
            return inner
        return self._comparison()

    def _comparison(self) -> Condition:
        name = self._accept("name")
        if name is None:
            raise self._error("a name or '('")
        if name.text not in self._names:
            raise self._complaint(name.position, f"{name.text!r} is none of {sorted(self._names)}")
        sign = self._accept("operator")
        if sign is None:
            raise self._error("a comparison such as '>='")
        number = self._accept("number")
        if number is None:
            raise self._error("a number")
        return Comparison(name.text, sign.text, float(number.text))

    def _error(self, wanted: str) -> UsageError:
        token = self._peek()
        found = f"{token.text!r}" if token.text else "the end"
        return self._complaint(token.position, f"expected {wanted}, found {found}")

    def _complaint(self, position: int, what: str) -> UsageError:
        return UsageError(
            f"The condition cannot be read at position {position}: {what}.\n"
            f"    {self._text}\n    {' ' * position}^\n"
            "Write comparisons such as steps>=1000, joined by & and |."
        )

"""What may be set about a level and an episode: read, checked and revised in one place."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar, TypeAlias, TypeVar

import numpy as np

from macurr.errors import ConfigError, MacurrError, TaskError

SIZES = (5, 99)
DENSITIES = (0.0, 0.6)
VIEWS = (3, 15)

P = TypeVar("P", bound="GridParameters")
Reader: TypeAlias = Callable[[str, Any, type[MacurrError]], Any]


def _numbers(name: str, value: Any, error: type[MacurrError]) -> list[float]:
    """One number, or the two ends of a range, from whatever a user or a task space hands in."""
    try:
        numbers: list[float] = np.asarray(value, dtype=float).reshape(-1).tolist()
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) not in (1, 2) or not np.isfinite(numbers).all() or isinstance(value, str):
        raise error(f"{name} must be a number or a (low, high) pair, got {value!r}")
    return numbers


def _nearly_within(bounds: tuple[float, float], number: float) -> float:
    """The bound itself for a number that missed it by a rounding: 0.6 is more than 0.6 as a float32 of a task space."""
    return next((float(bound) for bound in bounds if abs(number - bound) < 1e-6), number)


def _range(bounds: tuple[float, float], *, whole: bool) -> Reader:
    """A reader of ranges within `bounds`; one number stands for a range of one."""

    def read(name: str, value: Any, error: type[MacurrError]) -> tuple[float, float]:
        low, high = (_nearly_within(bounds, number) for number in (_numbers(name, value, error) * 2)[:2])
        if not bounds[0] <= low <= high <= bounds[1]:
            raise error(
                f"{name}={value!r} is not a range within {bounds[0]} to {bounds[1]}: give a number, or a (low, high) "
                "pair with low <= high"
            )
        if whole and not (low.is_integer() and high.is_integer()):
            raise error(f"{name} counts whole things, got {value!r}: round it first")
        return (int(low), int(high)) if whole else (low, high)

    return read


def _whole(bounds: tuple[int, int], *, odd: bool = False) -> Reader:
    """A reader of one whole number within `bounds`."""

    def read(name: str, value: Any, error: type[MacurrError]) -> int:
        numbers = _numbers(name, value, error)
        number = numbers[0]
        if (
            len(numbers) == 2
            or not number.is_integer()
            or not bounds[0] <= number <= bounds[1]
            or (odd and not number % 2)
        ):
            kind = "an odd" if odd else "a whole"
            raise error(f"{name} must be {kind} number from {bounds[0]} to {bounds[1]}, got {value!r}")
        return int(number)

    return read


def _flag(name: str, value: Any, error: type[MacurrError]) -> bool:
    """A reader of truth values; 0 and 1 count, for task spaces have no booleans."""
    numbers = _numbers(name, value, error)
    if numbers not in ([0.0], [1.0]):
        raise error(f"{name} must be True or False, got {value!r}")
    return numbers == [1.0]


@lru_cache(maxsize=64)
def _meant(name: str, known: tuple[str, ...]) -> str | None:
    """The known name that `name` looks like, if any."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
    return close[0] if close else None


@dataclass(frozen=True)
class GridParameters:
    """The parameters that all grid games share; ranges are `(low, high)`, both included."""

    size: tuple[int, int]
    density: tuple[float, float]
    view: int
    max_cycles: int
    swap_seats: bool

    readers: ClassVar[Mapping[str, Reader]] = {
        "size": _range(SIZES, whole=True),
        "density": _range(DENSITIES, whole=False),
        "view": _whole(VIEWS, odd=True),
        "max_cycles": _whole((1, 1_000_000)),
        "swap_seats": _flag,
    }
    fixed: ClassVar[tuple[str, ...]] = ("render_mode",)
    """Arguments of the constructor that an episode cannot change."""

    @classmethod
    def read(cls: type[P], **arguments: Any) -> P:
        """The parameters of an environment from its constructor's arguments.

        Raises:
            ConfigError: An argument is out of its range, or the smallest level has no room for what goes into
                it.
        """
        read = cls(**{name: cls.readers[name](name, value, ConfigError) for name, value in arguments.items()})
        read.check(ConfigError)
        return read

    def revised(self: P, options: Mapping[str, Any]) -> P:
        """The parameters of one episode: these, with what `options` says about them.

        `options` is a channel shared with wrappers, so keys of others are ignored; a key that looks like a
        slip of the pen for one of ours is not.

        Raises:
            TaskError: A value is out of its range or beyond what the observation and state spaces were made
                for.
        """
        if not isinstance(options, Mapping):
            raise TaskError(f"options must be a mapping of names to values, got {options!r}")
        for name in options:
            if name not in self.readers:
                self._refuse_slip(name)
        read = {
            name: reader(name, options[name], TaskError)
            for name, reader in self.readers.items()
            if name in options
        }
        revised = replace(self, **read) if read else self
        if revised.size[1] > self.size[1] or revised.view > self.view:
            raise TaskError(
                f"options ask for size {revised.size} and view {revised.view}, but the spaces of this environment "
                f"were made for sizes up to {self.size[1]} and a view of {self.view}: give the larger ones to the "
                "constructor"
            )
        revised.check(TaskError)
        return revised

    def check(self, error: type[MacurrError]) -> None:
        """Raise `error` where the parameters, each in its own range, do not fit together."""

    def _refuse_slip(self, name: object) -> None:
        """Raise for option keys that were meant for us and would be ignored."""
        if name in self.fixed:
            raise TaskError(f"{name!r} is not an option of reset: give it to the constructor")
        meant = _meant(name, tuple(self.readers)) if isinstance(name, str) else None
        if meant:
            raise TaskError(f"options have the unknown key {name!r}: did you mean {meant!r}?")


@dataclass(frozen=True)
class AppleParameters(GridParameters):
    """The parameters of the apple race."""

    apples: tuple[int, int]
    reachable: bool

    readers: ClassVar[Mapping[str, Reader]] = {
        **GridParameters.readers,
        "apples": _range((1, 999), whole=True),
        "reachable": _flag,
    }

    def check(self, error: type[MacurrError]) -> None:
        """Every level, the smallest and densest too, must have a cell for each apple and each player."""
        cells = self.size[0] ** 2
        room = cells - round(self.density[1] * cells) - 2
        if self.apples[1] > room:
            raise error(
                f"{self.apples[1]} apples do not fit into the smallest and densest level: size {self.size[0]} at "
                f"density {self.density[1]} has room for {room}. Ask for fewer apples, less density or a larger size"
            )


@dataclass(frozen=True)
class TagParameters(GridParameters):
    """The parameters of laser tag."""

    fixed: ClassVar[tuple[str, ...]] = ("render_mode", "compass")

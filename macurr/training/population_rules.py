"""The rules of population-based training: who is best, who copies whom, and how hyper-parameters are mutated.

Jaderberg et al. (2017), with the figures of Sample Factory (`pbt/population_based_training.py` and its documentation).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeVar

import numpy as np

from macurr.errors import StateError
from macurr.training.config import PBTConfig

__all__ = [
    "BOUNDS",
    "Bounds",
    "Groups",
    "Settings",
    "checked_settings",
    "choose_source",
    "groups",
    "leads",
    "mutate",
    "relative_gap",
]

Name = TypeVar("Name", bound=Hashable)
Settings = Mapping[str, float]
"""Hyper-parameters by name."""


@dataclass(frozen=True)
class Bounds:
    """Where a hyper-parameter stays while it is mutated; bounds give way to a default that lies beyond them.

    Attributes:
        low: The least value.
        high: The greatest value.
        complement: Whether 1 - value is what is multiplied: of a discount, that is one over its horizon.
    """

    low: float
    high: float
    complement: bool = False

    def scaled(self, value: float, factor: float, default: float) -> float:
        """The value times a factor, within the bounds. What is 0 (what was switched off) stays 0."""
        if self.complement:
            mirrored = Bounds(1.0 - self.high, 1.0 - self.low)
            return 1.0 - mirrored.scaled(1.0 - value, factor, 1.0 - default)
        if value == 0.0:
            return value
        return self.clipped(value * factor, default)

    def clipped(self, value: float, default: float) -> float:
        """The value, or the nearest within the bounds; 0 where it is that."""
        if value == 0.0:
            return value
        return min(max(value, min(self.low, default)), max(self.high, default))


BOUNDS: Mapping[str, Bounds] = {
    "learning_rate": Bounds(1e-7, 0.1),
    "entropy": Bounds(1e-7, 1.0),
    "value": Bounds(0.01, 10.0),
    "max_grad_norm": Bounds(0.01, 100.0),
    "clip": Bounds(0.01, 0.9),
    "value_clip": Bounds(0.01, 1000.0),
    "gamma": Bounds(0.5, 0.99999, complement=True),
}
"""The hyper-parameters of the learner that are mutated; `gamma` where `pbt_gamma` asks for it."""


@dataclass(frozen=True)
class Groups:
    """The members of a population by how they do, best first.

    Attributes:
        top: Those that stay as they are, and may be copied.
        middle: Those that only mutate.
        bottom: Those that may be replaced.
    """

    top: tuple[Any, ...]
    middle: tuple[Any, ...]
    bottom: tuple[Any, ...]

    @property
    def ranking(self) -> tuple[Any, ...]:
        """All of them, best first."""
        return (*self.top, *self.middle, *self.bottom)


def groups(objectives: Mapping[Name, float], fraction: float) -> Groups:
    """Rank the members of a population; of equals the one that is named first comes first.

    Args:
        objectives: By member, finite.
        fraction: Share of the members that are best, and that are worst, each rounded up. Whoever would be both is
            one of the best.
    """
    ranking = sorted(objectives, key=lambda member: -objectives[member])
    # The decimal fraction that was written, not the binary one next to it: 0.07 of 100 are 7.
    count = math.ceil(Fraction(str(fraction)) * len(ranking))
    worst = max(count, len(ranking) - count)
    return Groups(tuple(ranking[:count]), tuple(ranking[count:worst]), tuple(ranking[worst:]))


def relative_gap(better: float, worse: float) -> float:
    """The lead of one objective over another, as a share of the larger of their magnitudes.

    (better - worse) / max(|better|, |worse|), from 0 to 2; 0 where both are 0. For objectives that are not negative,
    this is the published lead, relative to the better one. That loses its meaning where objectives are negative: a
    lead from 1 to 10 is 0.9 of the better one, but one from -10 to -1 would be 9 of it, and one from -1 to 0 infinite.
    Here they are 0.9, 0.9 and 1. Around 0 every difference is relatively large: there `pbt_replace_gap_absolute`, in
    the objective's own units, is the bound that counts.
    """
    scale = max(abs(better), abs(worse))
    return (better - worse) / scale if scale > 0.0 else 0.0


def leads(better: float, worse: float, config: PBTConfig) -> bool:
    """Whether one objective is ahead of another by more than both gaps."""
    ahead = better - worse > config.pbt_replace_gap_absolute
    return ahead and relative_gap(better, worse) > config.pbt_replace_gap


def mutate(
    settings: Settings,
    defaults: Settings,
    bounds: Mapping[str, Bounds],
    config: PBTConfig,
    rng: np.random.Generator,
) -> dict[str, float]:
    """Mutate hyper-parameters: each with probability `pbt_mutation_rate`, independently.

    One that is mutated goes back to its default with probability `pbt_reset_rate`; otherwise it is multiplied or, as
    likely, divided by a factor drawn uniformly between `pbt_perturb_min` and `pbt_perturb_max`.

    Args:
        settings: By name; those without bounds stay as they are.
        defaults: What the run was given, by name.
        bounds: Where to stay, by name.
        config: The rates.
        rng: Where chance comes from.
    """
    mutated = dict(settings)
    for name in settings:
        if name not in bounds or rng.random() >= config.pbt_mutation_rate:
            continue
        if rng.random() < config.pbt_reset_rate:
            mutated[name] = defaults[name]
            continue
        factor = rng.uniform(config.pbt_perturb_min, config.pbt_perturb_max)
        up = rng.random() < 0.5
        mutated[name] = bounds[name].scaled(settings[name], factor if up else 1.0 / factor, defaults[name])
    return mutated


def choose_source(
    member: Name,
    found: Groups,
    objectives: Mapping[Name, float],
    config: PBTConfig,
    rng: np.random.Generator,
    usable: Callable[[Name], bool] = lambda _: True,
) -> Name | None:
    """Whom a member copies: one of the best, drawn uniformly, if the member is one of the worst and far behind it.

    Args:
        member: The member.
        found: The ranking.
        objectives: By member.
        config: The rules.
        rng: Where chance comes from. Nothing is drawn for members that are not among the worst.
        usable: Whether one of the best can be copied at all; the next one drawn is asked where it cannot.
    """
    if member not in found.bottom:
        return None
    for place in rng.permutation(len(found.top)):
        candidate: Name = found.top[place]
        if not leads(objectives[candidate], objectives[member], config):
            return None
        if usable(candidate):
            return candidate
    return None


def checked_settings(settings: Any, known: Settings) -> dict[str, float]:
    """Hyper-parameters read from outside, with the names of those that are known.

    Raises:
        StateError: a name is missing or unknown, or a value is no finite number.
    """
    numbers = isinstance(settings, Mapping) and all(
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        for value in settings.values()
    )
    if not numbers or set(settings) != set(known):
        raise StateError(f"Settings are finite numbers for {sorted(known)}; got {settings!r}.")
    return {name: float(settings[name]) for name in known}

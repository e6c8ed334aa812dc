"""Population-based training (Jaderberg et al., 2017): who copies whom, and how hyper-parameters are mutated.

Nothing here knows networks: the trainer reports each member's objective, asks for a round from time to time, and
carries out what is decided. A round is this, of n members ranked by their objective, the larger the better:

- the best ceil(f n) stay as they are, f being `pbt_replace_fraction`;
- each of the worst ceil(f n) that is not among them meets one of the best, drawn uniformly, and copies it if that one
  `leads` by enough;
- all but the best then mutate their hyper-parameters, those of the copied one where one was copied. The first member
  of all never does, so that the settings that the run was given stay in the population.

Published figures: Sample Factory, `pbt/population_based_training.py` and the documentation of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from macurr.errors import StateError, UsageError
from macurr.seeding import check_generator_state, generator_state, load_generator_state
from macurr.training.config import PBTConfig
from macurr.training.population_rules import (
    BOUNDS,
    Bounds,
    Groups,
    Settings,
    checked_settings,
    choose_source,
    groups,
    mutate,
)

__all__ = ["Decision", "Population"]


@dataclass(frozen=True)
class Decision:
    """What becomes of a member in a round.

    Attributes:
        member: The member.
        copy_from: Whose weights it takes over; None to keep its own.
        before: Its hyper-parameters so far.
        settings: Its hyper-parameters from now on.
        rank: Its place in the ranking, 0 for the best.
        objective: What it was ranked by.
    """

    member: int
    copy_from: int | None
    before: dict[str, float]
    settings: dict[str, float]
    rank: int
    objective: float


class Population:
    """The members of one run. Deterministic: equal reports and equal generators give equal decisions.

    A round is due once `pbt_start` steps have been taken in all and `pbt_period` since the one before. It waits until
    every member has reported since then.

    Args:
        n: The number of members.
        config: The rules.
        defaults: The hyper-parameters that each member starts with, and goes back to.
        rng: Where chance comes from.
        bounds: Which of the hyper-parameters are mutated, and where they stay.

    Raises:
        UsageError: there are not as many defaults as members, or one lacks a name of another.

    Example:
        >>> config = PBTConfig(pbt=True, pbt_period=100, pbt_start=0)
        >>> rates = [{"learning_rate": 0.001}] * 3
        >>> population = Population(3, config, rates, np.random.default_rng(0))
        >>> for member, objective in enumerate([-9.0, -2.0, -3.0]):
        ...     population.report(member, objective, 100)
        >>> [(decision.member, decision.copy_from) for decision in population.step(100)]
        [(1, None), (2, None), (0, 1)]
    """

    def __init__(
        self,
        n: int,
        config: PBTConfig,
        defaults: Sequence[Settings],
        rng: np.random.Generator,
        bounds: Mapping[str, Bounds] = BOUNDS,
    ) -> None:
        if n < 1 or len(defaults) != n or any(set(own) != set(defaults[0]) for own in defaults):
            raise UsageError(
                f"A population of {n} members needs the settings of each, under the same names; got {defaults!r}."
            )
        self.config, self.bounds = config, dict(bounds)
        self._defaults = [dict(own) for own in defaults]
        self._settings = [dict(own) for own in defaults]
        self._rng = rng
        self._reports: dict[int, float] = {}
        self._last = 0

    @property
    def settings(self) -> list[dict[str, float]]:
        """The hyper-parameters of each member."""
        return [dict(own) for own in self._settings]

    def __len__(self) -> int:
        return len(self._settings)

    def report(self, member: int, objective: float, steps: int) -> None:
        """Tell how a member does. The latest report before a round counts.

        Args:
            member: Its number.
            objective: The larger the better.
            steps: Environment steps so far. What is from before the last round is left aside: the member may have
                been another one then.

        Raises:
            UsageError: there is no such member, or the objective is not finite.
        """
        if not 0 <= member < len(self) or not math.isfinite(objective):
            raise UsageError(
                f"Members 0 to {len(self) - 1} report finite objectives; got {objective!r} of member {member!r}."
            )
        if steps > self._last:
            self._reports[member] = float(objective)

    def due(self, steps: int) -> bool:
        """Whether a round would be held after this many steps, were every member's objective known."""
        return steps >= self.config.pbt_start and steps - self._last >= self.config.pbt_period

    def step(self, steps: int) -> list[Decision]:
        """Hold a round, if one is due and everybody has reported.

        All decisions are made on the same ranking, and those who are copied do not change: the decisions may be
        carried out in any order.

        Args:
            steps: Environment steps so far.

        Returns:
            What becomes of each member, best first; empty where no round was held.
        """
        if not self.due(steps) or len(self._reports) < len(self):
            return []
        objectives = {member: self._reports[member] for member in range(len(self))}
        found = groups(objectives, self.config.pbt_replace_fraction)
        decisions = [
            self._decide(member, rank, found, objectives) for rank, member in enumerate(found.ranking)
        ]
        for decision in decisions:
            self._settings[decision.member] = dict(decision.settings)
        self._reports.clear()
        self._last = int(steps)
        return decisions

    def _decide(self, member: int, rank: int, found: Groups, objectives: Mapping[int, float]) -> Decision:
        source = choose_source(member, found, objectives, self.config, self._rng)
        before = self._settings[member]
        settings = dict(before)
        if member != 0 and member not in found.top:
            start = before if source is None else self._settings[source]
            settings = mutate(start, self._defaults[member], self.bounds, self.config, self._rng)
        return Decision(member, source, dict(before), settings, rank, objectives[member])

    def adopt(self, settings: Sequence[Settings]) -> None:
        """Go on with other members, about whom nothing is known but their hyper-parameters.

        Args:
            settings: The hyper-parameters of each.

        Raises:
            StateError: they are not those of so many members; nothing is changed.
        """
        checked = [checked_settings(own, self._defaults[0]) for own in settings]
        if len(checked) != len(self):
            raise StateError(f"{len(self)} members have {len(self)} settings; got {len(checked)}.")
        self._settings = checked
        self._reports.clear()

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides the next rounds."""
        return {
            "rng": generator_state(self._rng),
            "settings": self.settings,
            "reports": [[member, objective] for member, objective in self._reports.items()],
            "last": self._last,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()`.

        Raises:
            StateError: it is of another population; nothing is changed.
        """
        try:
            settings = [checked_settings(own, self._defaults[0]) for own in state["settings"]]
            reports = {int(member): float(objective) for member, objective in state["reports"]}
            last = int(state["last"])
            check_generator_state(self._rng, state["rng"])
        except (KeyError, TypeError, ValueError) as error:
            raise StateError(
                f"This is no state of a population ({error!r}). Resume the run it belongs to."
            ) from error
        if len(settings) != len(self) or not set(reports) <= set(range(len(self))):
            raise StateError(
                f"This is the state of a population of {len(settings)}; this one has {len(self)} members. Resume the "
                "run it belongs to."
            )
        load_generator_state(self._rng, state["rng"])
        self._settings, self._reports, self._last = settings, reports, last

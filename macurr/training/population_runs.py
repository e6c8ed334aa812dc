"""A run as a member of a population of runs: it publishes how it does, and decides for itself what becomes of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from macurr.errors import StateError
from macurr.seeding import check_generator_state, generator_state, load_generator_state
from macurr.training.config import PBTConfig
from macurr.training.population_rules import (
    Bounds,
    Settings,
    checked_settings,
    choose_source,
    groups,
    mutate,
)
from macurr.training.population_weights import fits
from macurr.training.shared_population import Member, SharedPopulation

__all__ = ["Outcome", "RunMember"]

_logger = logging.getLogger("macurr")


@dataclass(frozen=True)
class Outcome:
    """What a round came to for this run.

    Attributes:
        rank: Its place among the members, 0 for the best.
        members: How many of them there were.
        objective: What it was ranked by.
        copy_from: The name of the run that it takes over; None to go on with its own.
        state: The weights of that run; None without one.
        before: Its hyper-parameters so far.
        settings: Its hyper-parameters from now on.
    """

    rank: int
    members: int
    objective: float
    copy_from: str | None
    state: dict[str, Any] | None
    before: dict[str, float]
    settings: dict[str, float]


class RunMember:
    """One run of a population of runs.

    It publishes every `pbt_period` steps and, from `pbt_start` on, decides what becomes of it by the rules of
    `macurr.training.population`, with whoever has published and still runs. The first of these by name never mutates.
    What it decides depends on when the others publish, so a population of runs does not repeat exactly.

    Args:
        shared: The directory.
        config: The rules.
        defaults: The hyper-parameters that the run started with.
        bounds: Which of them are mutated, and where they stay.
        rng: Where chance comes from.
    """

    def __init__(
        self,
        shared: SharedPopulation,
        config: PBTConfig,
        defaults: Settings,
        bounds: Mapping[str, Bounds],
        rng: np.random.Generator,
    ) -> None:
        self.shared, self.config = shared, config
        self._defaults, self._bounds = dict(defaults), dict(bounds)
        self._rng = rng
        self._last = 0

    def due(self, steps: int) -> bool:
        """Whether it is time to publish."""
        return steps - self._last >= self.config.pbt_period

    def know(self, defaults: Settings, bounds: Mapping[str, Bounds]) -> None:
        """Learn of further hyper-parameters. What is known of them from before a resumed run was saved stays."""
        self._defaults = {**defaults, **self._defaults}
        self._bounds = {**self._bounds, **bounds}

    def step(
        self, objective: float, steps: int, settings: Settings, state: Mapping[str, Any]
    ) -> Outcome | None:
        """Publish if it is time to, and decide.

        A directory that cannot be written or read for a while is logged and costs a round, not the run.

        Args:
            objective: How the run does.
            steps: Environment steps so far.
            settings: Its hyper-parameters.
            state: Its weights.

        Returns:
            What came of the round; None where none was held.
        """
        if not self.due(steps):
            return None
        self._last = int(steps)
        try:
            self.shared.publish(objective, steps, settings, state)
            members = self.shared.members() if steps >= self.config.pbt_start else {}
        except OSError as error:
            _logger.warning("The population %s is left alone for a round: %s", self.shared.path, error)
            return None
        return self._decide(members, state, settings) if len(members) > 1 else None

    def _decide(self, members: Mapping[str, Member], state: Mapping[str, Any], settings: Settings) -> Outcome:
        name = self.shared.name
        objectives = {each: member.objective for each, member in members.items()}
        found = groups(objectives, self.config.pbt_replace_fraction)
        loaded: dict[str, dict[str, Any]] = {}

        def usable(source: str) -> bool:
            content = self.shared.read(members[source])
            if content is None:
                return False
            difference = fits(content, state)
            if difference is not None:
                _logger.warning("The weights of member %r cannot be taken over: %s.", source, difference)
                return False
            loaded[source] = content
            return True

        source = choose_source(name, found, objectives, self.config, self._rng, usable)
        after = dict(settings)
        if name not in found.top and name != min(members):
            after |= {} if source is None else self._known(members[source].settings)
            after = mutate(after, self._defaults, self._bounds, self.config, self._rng)
        return Outcome(
            found.ranking.index(name),
            len(members),
            objectives[name],
            source,
            None if source is None else loaded[source],
            dict(settings),
            after,
        )

    def _known(self, settings: Settings) -> dict[str, float]:
        """Another run's settings, as far as this run has them too."""
        return {
            name: self._bounds[name].clipped(settings[name], default)
            for name, default in self._defaults.items()
            if name in settings and name in self._bounds
        }

    def record(self, row: Mapping[str, Any]) -> None:
        """Add a line to the member's history in the directory; one that cannot be written is logged and left out."""
        try:
            self.shared.history.add(row)
        except OSError as error:
            _logger.warning("%s lacks a line: %s", self.shared.history.path, error)

    def state_dict(self) -> dict[str, Any]:
        """When it published last, what it started with, the length of its history there, and the generator."""
        return {
            "rng": generator_state(self._rng),
            "last": self._last,
            "defaults": dict(self._defaults),
            "lines": self.shared.history.lines,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()`.

        Raises:
            StateError: it is none; nothing is changed.
        """
        try:
            last, lines = int(state["last"]), int(state["lines"])
            defaults = checked_settings(state["defaults"], state["defaults"])
            check_generator_state(self._rng, state["rng"])
        except (KeyError, TypeError, ValueError) as error:
            raise StateError(
                f"This is no state of a member ({error!r}). Resume the run it belongs to."
            ) from error
        load_generator_state(self._rng, state["rng"])
        self._last, self._defaults = last, defaults
        try:
            self.shared.history.cut(lines)
        except OSError as error:
            _logger.warning("%s is left as it is: %s", self.shared.history.path, error)

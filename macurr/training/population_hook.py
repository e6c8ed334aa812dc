"""Population-based training in a run: the policies of the run, the runs of a shared directory, or both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from macurr.curriculum import Curriculum
from macurr.errors import ConfigError, StateError
from macurr.training.config import TrainConfig
from macurr.training.objectives import Episode, RecentEpisodes, objective_of, objective_value
from macurr.training.population import Decision, Population
from macurr.training.population_history import PopulationHistory
from macurr.training.population_learners import (
    PopulationLearner,
    known_numbers,
    set_numbers,
    take_over,
)
from macurr.training.population_rules import BOUNDS, Bounds
from macurr.training.population_runs import Outcome, RunMember
from macurr.training.population_words import fingerprint_of, note_of, row_of
from macurr.training.ppo import PPO
from macurr.training.shared_population import SharedPopulation
from macurr.training.tuned import ARGUMENTS, argument_range, prefixes_of

__all__ = ["PopulationHook", "make_population"]

_CURRICULUM = "curriculum/"
"""What the names of the curriculum's options begin with among the settings of a run."""
_WITHIN, _BETWEEN = 0x5EED, 0x5EEE
"""Tell the generators of the two populations of one seed apart."""


class PopulationHook:
    """What the trainer calls after each update.

    Policies of one run are compared with one another, and what is tuned are the learner's hyper-parameters of each, and
    the arguments of its environments that `pbt_env_args` names. Runs that share a directory are compared as wholes:
    with all their policies, and with the curriculum's tunable options (`Curriculum.tunable_options`). Where a run has a
    population of its own policies as well, hyper-parameters and arguments are tuned there alone.

    A copy is of the weights, the statistics of normalisation and the optimiser's moments: the moments belong to the
    place in weight space, and without them the first steps are those of a cold start. It does not take over the number
    of steps, nor settings that are not tuned; nor the levels' scores and the pool, which the run goes on with.

    Args:
        config: The run's settings.
        run: The run's directory.
        learner: The learner, with the settings that the run was given.

    Raises:
        ConfigError: the objective or the population's directory cannot be used.
    """

    def __init__(self, config: TrainConfig, run: Path, learner: PopulationLearner) -> None:
        _check_objective(config)
        self._config = config.pbt
        self._objective = objective_of(config.pbt.pbt_objective)
        self._met = False
        count = len(learner.ppos)
        self.recent = RecentEpisodes(count)
        self.history = PopulationHistory(run / "population.jsonl")
        names = [name for name in BOUNDS if config.pbt.pbt_gamma or name != "gamma"]
        self._names = [name for name in names if getattr(learner.ppos[0].settings, name) is not None]
        self.within: Population | None = None
        self.between: RunMember | None = None
        if count > 1 and config.policies.mapping != "role":
            given = {f"{ARGUMENTS}{name}": float(config.env_args[name]) for name in config.pbt.pbt_env_args}
            self.within = Population(
                count,
                config.pbt,
                [{**self._settings_of(ppo), **given} for ppo in learner.ppos],
                np.random.default_rng([config.seed, _WITHIN]),
                {**BOUNDS, **{name: Bounds(*argument_range(value)) for name, value in given.items()}},
            )
        if config.pbt.population is not None:
            shared = SharedPopulation(config.pbt.population, run, fingerprint_of(config))
            self.between = RunMember(
                shared,
                config.pbt,
                {} if self.within is not None else self._settings_of(learner.ppos[0]),
                BOUNDS,
                np.random.default_rng([config.seed, _BETWEEN, *shared.name.encode()]),
            )

    def after_update(
        self,
        learner: PopulationLearner,
        curriculum: Curriculum,
        episodes: Iterable[Episode],
        steps: int,
        update: int,
    ) -> list[str]:
        """Take note of episodes, and hold the rounds that are due.

        Args:
            learner: The learner.
            curriculum: The curriculum, as the learner has it.
            episodes: Those that have ended since the last call.
            steps: Environment steps so far.
            update: The number of the update.

        Returns:
            What was done, one sentence for each policy or run that changed.

        Raises:
            ConfigError: the user's objective failed.
            OSError: the run's history cannot be written.
        """
        for episode in episodes:
            self.recent.add_episode(episode)
        self._meet(curriculum)
        notes = self._round_of_policies(learner, curriculum, steps, update)
        return notes + self._round_of_runs(learner, curriculum, steps, update)

    def _meet(self, curriculum: Curriculum) -> None:
        """Learn what the curriculum's options were at the start of the run."""
        if self.between is not None and not self._met:
            present, tunable = curriculum.get_options(), curriculum.tunable_options()
            options = {f"{_CURRICULUM}{name}": float(present[name]) for name in tunable}
            bounds = {f"{_CURRICULUM}{name}": Bounds(*ends) for name, ends in tunable.items()}
            self.between.know(options, bounds)
        self._met = True

    def best(self) -> int | None:
        """The policy that does best now; None where that cannot be said, or policies are not alike."""
        if self.within is None:
            return None
        known = {policy: self._measured(policy) for policy in range(len(self.within))}
        found = {policy: objective for policy, objective in known.items() if objective is not None}
        return max(found, key=lambda policy: found[policy]) if found else None

    # The run's own policies

    def _round_of_policies(
        self, learner: PopulationLearner, curriculum: Curriculum, steps: int, update: int
    ) -> list[str]:
        if self.within is None or not self.within.due(steps):
            return []
        for policy in range(len(self.within)):
            objective = self._measured(policy)
            if objective is not None:
                self.within.report(policy, objective, steps)
        decisions = self.within.step(steps)
        with learner.lock:
            for decision in decisions:
                self._carry_out(learner, decision)
        arguments = self._arguments() if decisions else {}
        if arguments:
            curriculum.set_options(**arguments)
        for decision in decisions:
            self.history.add(row_of("policies", update, steps, decision.member, decision, len(decisions)))
        return [
            note
            for decision in decisions
            for note in [note_of(f"policy {decision.member}", decision)]
            if note
        ]

    def _carry_out(self, learner: PopulationLearner, decision: Decision) -> None:
        ppo = learner.ppos[decision.member]
        if decision.copy_from is not None:
            take_over(ppo, learner.ppos[decision.copy_from].state_dict())
            learner.replaced(decision.member)
            self.recent.clear(decision.member)
        set_numbers(ppo, decision.settings)

    def _arguments(self) -> dict[str, float]:
        """The arguments of each policy's environments, as the curriculum calls them."""
        members = [] if self.within is None else self.within.settings
        return {
            name.replace(ARGUMENTS, prefix, 1): value
            for own, prefix in zip(members, prefixes_of(len(members)), strict=True)
            for name, value in own.items()
            if name.startswith(ARGUMENTS)
        }

    # The run among others

    def _round_of_runs(
        self, learner: PopulationLearner, curriculum: Curriculum, steps: int, update: int
    ) -> list[str]:
        if self.between is None or not self.between.due(steps):
            return []
        objective = self._measured(*range(len(learner.ppos)))
        if objective is None:
            return []
        with learner.lock:
            state = {"policies": [ppo.state_dict() for ppo in learner.ppos]}
        outcome = self.between.step(objective, steps, self._run_settings(learner, curriculum), state)
        if outcome is None:
            return []
        with learner.lock:
            self._follow(learner, curriculum, outcome)
        name = self.between.shared.name
        row = row_of("runs", update, steps, name, outcome, outcome.members)
        self.history.add(row)
        self.between.record(row)
        note = note_of(f"the run {name}", outcome)
        return [note] if note else []

    def _follow(self, learner: PopulationLearner, curriculum: Curriculum, outcome: Outcome) -> None:
        for policy, state in enumerate(outcome.state["policies"] if outcome.state else ()):
            take_over(learner.ppos[policy], state)
            learner.replaced(policy)
            self.recent.clear(policy)
            if self.within is not None:
                set_numbers(learner.ppos[policy], known_numbers(state["settings"], self._names))
        if self.within is not None and outcome.state is not None:
            before = self.within.settings
            self.within.adopt(
                [{**own, **self._settings_of(ppo)} for own, ppo in zip(before, learner.ppos, strict=True)]
            )
        own = {name: value for name, value in outcome.settings.items() if not name.startswith(_CURRICULUM)}
        for ppo in learner.ppos:
            set_numbers(ppo, own)
        options = {
            name.removeprefix(_CURRICULUM): value
            for name, value in outcome.settings.items()
            if name.startswith(_CURRICULUM)
        }
        if options:
            curriculum.set_options(**options)

    # Inside

    def _measured(self, *policies: int) -> float | None:
        """How policies do, together; None while too few of their episodes are known."""
        statistics = self.recent.of(*policies)
        if statistics is None:
            return None
        return objective_value(self._config.pbt_objective, self._objective, statistics)

    def _settings_of(self, ppo: PPO) -> dict[str, float]:
        return {name: float(getattr(ppo.settings, name)) for name in self._names}

    def _run_settings(self, learner: PopulationLearner, curriculum: Curriculum) -> dict[str, float]:
        """What is tuned of the run as a whole."""
        own = {} if self.within is not None else self._settings_of(learner.ppos[0])
        present = curriculum.get_options()
        tuned = {f"{_CURRICULUM}{name}": float(present[name]) for name in curriculum.tunable_options()}
        return {**own, **tuned}

    # State

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs; the learner and the curriculum keep the settings themselves."""
        return {
            "recent": self.recent.state_dict(),
            "lines": self.history.lines,
            "policies": None if self.within is None else self.within.state_dict(),
            "runs": None if self.between is None else self.between.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()`; what the histories say of later rounds is dropped.

        Raises:
            StateError: it is of another run; nothing is changed.
            OSError: a history cannot be written.
        """
        parts: list[tuple[str, Any]] = [
            ("recent", self.recent),
            ("policies", self.within),
            ("runs", self.between),
        ]
        if any((state.get(name) is None) != (part is None) for name, part in parts) or "lines" not in state:
            raise StateError("This is the state of another population. Resume the run that it belongs to.")
        before = self.state_dict()
        try:
            for name, part in parts:
                if part is not None:
                    part.load_state_dict(state[name])
        except StateError:
            for name, part in parts:
                if part is not None:
                    part.load_state_dict(before[name])
            raise
        self.history.cut(int(state["lines"]))


def make_population(config: TrainConfig, run: Path, learner: PopulationLearner) -> PopulationHook | None:
    """The population that a run's settings ask for; None where they ask for none.

    Raises:
        ConfigError: as for `PopulationHook`.
    """
    return PopulationHook(config, run, learner) if config.pbt.pbt else None


def _check_objective(config: TrainConfig) -> None:
    """Refuse win rates that can only be one half."""
    alone = config.policies.mapping in ("shared", "env") or config.pbt.population is not None
    if config.pbt.pbt_objective == "win_rate" and config.opponents == "none" and alone:
        raise ConfigError(
            "pbt_objective='win_rate' has nobody to win against: with opponents='none' every agent learns, and those "
            "of one member play each other. Rank by learner_return or a function of your own, or play past selves."
        )

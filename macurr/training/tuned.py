"""Arguments of the environment that a population tunes while a run goes on.

They travel with the curriculum's tasks (`Curriculum.task_info`), so that they reach every environment, wherever it
runs, with the next task that is drawn, and are part of the curriculum's state. An environment whose arguments have
changed is made anew as its next episode begins. Imported by workers: no torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pettingzoo import AECEnv, ParallelEnv
from typing_extensions import override

from macurr.curriculum import Curriculum, CurriculumWrapper, State, check_state
from macurr.errors import ConfigError, StateError, UsageError
from macurr.wrappers import AECSeedTaskWrapper, SeedTaskWrapper

if TYPE_CHECKING:
    from macurr.training.envs import EnvSource

__all__ = [
    "ARGUMENTS",
    "Rebuilt",
    "TunedArguments",
    "TunedSeeds",
    "TunedTurns",
    "argument_range",
    "prefixes_of",
]

ARGUMENTS = "env_args/"
"""What the names of the environment's arguments begin with, among options and settings."""

_SPAN = 100.0


def argument_range(value: float) -> tuple[float, float]:
    """Where an argument stays: from a hundredth of what the run was given to a hundred times it, with its sign."""
    ends = (value / _SPAN, value * _SPAN)
    return min(ends), max(ends)


def prefixes_of(groups: int) -> list[str]:
    """What the options of each group of environments begin with: of one alone, and of several by their numbers."""
    return [ARGUMENTS] if groups == 1 else [f"{ARGUMENTS}{group}/" for group in range(groups)]


class TunedArguments(CurriculumWrapper):
    """Says with each task of a curriculum what the environment's arguments are by now.

    Args:
        curriculum: Where the tasks come from.
        arguments: What the run was given, by name.
        groups: Groups of environments that have arguments of their own: the environments of each policy.

    Raises:
        UsageError: `curriculum` is no curriculum.

    Example:
        >>> from macurr import DiscreteTaskSpace
        >>> from macurr.curricula import DomainRandomization
        >>> tuned = TunedArguments(DomainRandomization(DiscreteTaskSpace(5)), {"bonus": 0.5})
        >>> tuned.set_options(**{"env_args/bonus": 0.6})
        >>> tuned.task_info(3)
        {'env_args/bonus': 0.6}
    """

    def __init__(self, curriculum: Curriculum, arguments: Mapping[str, float], groups: int = 1) -> None:
        super().__init__(curriculum)
        self._values = {
            f"{prefix}{name}": float(value)
            for prefix in prefixes_of(groups)
            for name, value in arguments.items()
        }
        self._ranges = {name: argument_range(value) for name, value in self._values.items()}
        self._groups = groups

    @override
    def task_info(self, task: Any) -> Mapping[str, float]:
        return {**self.curriculum.task_info(task), **self._values}

    @override
    def get_options(self) -> dict[str, Any]:
        return {**self.curriculum.get_options(), **self._values}

    @override
    def tunable_options(self) -> dict[str, tuple[float, float]]:
        """Those of the curriculum; and the arguments, where all environments have the same."""
        own = self._ranges if self._groups == 1 else {}
        return {**self.curriculum.tunable_options(), **own}

    @override
    def check_options(self, **options: Any) -> None:
        own, others = self._parted(options)
        self.curriculum.check_options(**others)
        for name, value in own.items():
            low, high = self._ranges[name]
            if not isinstance(value, int | float) or not low <= value <= high:
                raise UsageError(f"{name} is a number from {low:g} to {high:g}; got {value!r}.")

    @override
    def set_options(self, **options: Any) -> None:
        self.check_options(**options)
        own, others = self._parted(options)
        self.curriculum.set_options(**others)
        self._values |= {name: float(value) for name, value in own.items()}

    @override
    def update_on_demand(self, metrics: Mapping[str, Any]) -> None:
        with self._with_options(metrics) as told:
            self.curriculum.update_on_demand(told)

    def _parted(self, options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The arguments, and the options of the curriculum."""
        own = {name: value for name, value in options.items() if name in self._values}
        return own, {name: value for name, value in options.items() if name not in own}

    @override
    def state_dict(self) -> State:
        return {**super().state_dict(), "arguments": dict(self._values)}

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_state(state, type(self).__name__, {"curriculum", "arguments"})
        values = state["arguments"]
        known = isinstance(values, Mapping) and set(values) == set(self._values)
        if not known or not all(isinstance(v, int | float) and math.isfinite(v) for v in values.values()):
            raise StateError(
                f"The state's arguments are finite numbers for {sorted(self._values)}; got {values!r}."
            )
        super().load_state_dict(state)
        self._values = {name: float(values[name]) for name in self._values}


class Rebuilt:
    """Makes an environment anew when its arguments have changed.

    Args:
        source: The environment, with the arguments that the run was given.
        prefix: What the names of its arguments begin with.
    """

    def __init__(self, source: EnvSource, prefix: str) -> None:
        self._source, self._prefix = source, prefix
        self._built: dict[str, float] = {}

    def renewed(self, env: Any, options: Mapping[str, Any] | None) -> Any:
        """The environment to play on with.

        Args:
            env: The one so far, which is closed where it is replaced.
            options: Those of the reset, with "task_info".

        Raises:
            ConfigError: the environment cannot be made with its arguments, or then has another form.
        """
        wanted = self._wanted((options or {}).get("task_info", {}))
        if wanted == self._built:
            return env
        fresh: Any = replace(self._source, args={**self._source.args, **wanted}).make()
        if not _alike(env, fresh):
            fresh.close()
            raise ConfigError(
                f"{self._source.path} has other agents or spaces with {wanted}, and a run cannot change them: leave "
                "the argument that does it out of pbt_env_args (--pbt-env-args)."
            )
        env.close()
        self._built = wanted
        return fresh

    def _wanted(self, info: Mapping[str, float]) -> dict[str, float]:
        found = {
            name.removeprefix(self._prefix): value
            for name, value in info.items()
            if name.startswith(self._prefix)
        }
        return {name: _of_kind(value, self._source.args[name]) for name, value in found.items()}


def _of_kind(value: float, given: Any) -> float:
    """A whole number where the run was given one, and never 0."""
    if not isinstance(given, int):
        return value
    return round(value) or int(math.copysign(1, given))


def _alike(one: Any, other: Any) -> bool:
    agents: Sequence[str] = one.possible_agents
    return list(agents) == list(other.possible_agents) and all(
        one.observation_space(agent) == other.observation_space(agent)
        and one.action_space(agent) == other.action_space(agent)
        for agent in agents
    )


class TunedSeeds(SeedTaskWrapper):
    """A Parallel environment whose task is its seed, and whose arguments may change between episodes.

    Args:
        env: The environment.
        source: Where it comes from.
        prefix: What the names of its arguments begin with.
    """

    def __init__(self, env: ParallelEnv[str, Any, Any], source: EnvSource, prefix: str) -> None:
        super().__init__(env)
        self._rebuilt = Rebuilt(source, prefix)

    @override
    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None, new_task: Any = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        self.env = self._rebuilt.renewed(self.env, options)
        return super().reset(seed, options, new_task)


class TunedTurns(AECSeedTaskWrapper):
    """The same of a turn-based environment.

    Args:
        env: The environment.
        source: Where it comes from.
        prefix: What the names of its arguments begin with.
    """

    def __init__(self, env: AECEnv[str, Any, Any], source: EnvSource, prefix: str) -> None:
        super().__init__(env)
        self._rebuilt = Rebuilt(source, prefix)

    @override
    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None, new_task: Any = None
    ) -> None:
        self.env = self._rebuilt.renewed(self.env, options)
        super().reset(seed, options, new_task)

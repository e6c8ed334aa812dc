"""Environments by their import path, and how a run's environment is put together. Imported by workers: no torch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from pettingzoo import AECEnv, ParallelEnv
from pettingzoo.utils.wrappers.base_parallel import BaseParallelWrapper
from typing_extensions import override

from macurr.errors import ConfigError, MissingDependencyError
from macurr.training.imports import line_of
from macurr.training.tuned import TunedSeeds, TunedTurns
from macurr.training.turns import ScheduledTurns
from macurr.wrappers import AECSeedTaskWrapper, AECSyncWrapper, PettingZooSyncWrapper, SeedTaskWrapper

__all__ = ["Env", "EnvSource", "ScheduledWrapper", "make_env", "make_scheduled_env", "make_training_env"]

Env = ParallelEnv[str, Any, Any] | AECEnv[str, Any, Any]
"""An environment whose agents act at the same time, or in turns."""

# Who brings the environments that the documentation speaks of.
_EXTRA_OF = {"mpe2": "envs", "supersuit": "supersuit"}


@dataclass(frozen=True)
class EnvSource:
    """Where an environment comes from; small enough to be sent to workers.

    Attributes:
        path: A module with `parallel_env` or `env`, or `module:callable`.
        args: Keywords for it.
    """

    path: str
    args: Mapping[str, Any] = field(default_factory=dict)

    def make(self) -> Env:
        """Import it and make one environment; see `make_env`."""
        return make_env(self.path, self.args)


def make_env(path: str, args: Mapping[str, Any] | None = None) -> Env:
    """Make a Parallel or turn-based (AEC) environment from its import path.

    Of a module that has both, `parallel_env` is taken.

    Args:
        path: A module with `parallel_env` or `env`, or `module:callable`.
        args: Keywords for it.

    Raises:
        ConfigError: there is no such thing, it cannot be called so, or it makes something else.
        MissingDependencyError: the package is one that an extra of macurr installs.
    """
    factory = _find(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # an environment's own affair
        try:
            env = factory(**(args or {}))
        except (Exception, SystemExit) as error:  # constructors of environments raise what they like
            raise ConfigError(
                f"{path}({_keywords(args)}) failed: {type(error).__name__}: {error}. Give arguments that it takes "
                "by --env-arg key=value (env_args)."
            ) from error
    return _check(env, path)


def _find(path: str) -> Callable[..., Any]:
    module_name, _, name = path.partition(":")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            module: Any = import_module(module_name)
    except ModuleNotFoundError as error:
        raise _not_found(path, module_name, error) from error
    except (ImportError, ValueError, TypeError) as error:
        raise ConfigError(f"The environment {path!r} cannot be imported: {error}.") from error
    except (Exception, SystemExit) as error:  # whatever a module does when it is imported
        raise ConfigError(
            f"The environment {path!r} cannot be imported: {type(error).__name__}: {error}{line_of(error)}. Mend its "
            "module."
        ) from error
    found = module
    for part in (name or _factory_name(module)).split("."):
        found = getattr(found, part, None)
    if not callable(found):
        wanted = f"{name}()" if name else "parallel_env() or env()"
        raise ConfigError(
            f"The module {module_name!r} has no {wanted}, which is to make the environment. Check the name: give a "
            "module with parallel_env() or env(), or module:callable."
        )
    made: Callable[..., Any] = found
    return made


def _factory_name(module: Any) -> str:
    return "env" if hasattr(module, "env") and not hasattr(module, "parallel_env") else "parallel_env"


def _not_found(path: str, module_name: str, error: ModuleNotFoundError) -> Exception:
    missing = error.name or ""
    if missing in _EXTRA_OF:
        return MissingDependencyError.for_extra(missing, _EXTRA_OF[missing], f"The environment {path}")
    if f"{module_name}.".startswith(f"{missing}."):
        return ConfigError(
            f"There is no module {missing!r}, asked for as environment {path!r}. Give the import path of an "
            "installed module with parallel_env(), such as macurr.envs.apple_race_v0, or module:callable."
        )
    return ConfigError(
        f"The environment {path!r} needs the module {missing!r}, which is not installed. Install its package."
    )


def _check(env: Any, path: str) -> Env:
    if isinstance(env, ParallelEnv | AECEnv):
        if getattr(env, "possible_agents", None) is None:
            env.close()  # type: ignore[no-untyped-call]  # PettingZoo
            raise ConfigError(
                f"{path} makes an environment without possible_agents: agents that nobody knows beforehand have no "
                "place in a network's input. Name an environment that lists all agents that may come."
            )
        if not env.possible_agents:
            env.close()  # type: ignore[no-untyped-call]  # PettingZoo
            raise ConfigError(f"{path} makes an environment without agents; at least one is needed.")
        odd = [name for name in env.possible_agents if not isinstance(name, str)]
        if odd:
            env.close()  # type: ignore[no-untyped-call]  # PettingZoo
            raise ConfigError(
                f"{path} calls an agent {odd[0]!r}, a {type(odd[0]).__name__}. Agents have names, such as "
                "'player_0': let possible_agents list texts."
            )
        return env
    if hasattr(env, "observation_space") and hasattr(env, "step"):
        hint = "It is a single-agent Gymnasium environment, and this trainer is for several agents."
    else:
        hint = "Name a module with parallel_env() or env(), or module:callable."
    raise ConfigError(f"{path} makes {_article(env)}, not a PettingZoo ParallelEnv or AECEnv. {hint}")


def _article(thing: Any) -> str:
    return f"a {type(thing).__module__}.{type(thing).__qualname__}"


def _keywords(args: Mapping[str, Any] | None) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in (args or {}).items())


def make_training_env(
    source: EnvSource, components: Any, learners: Sequence[int], tuned: str | None = None
) -> Any:
    """One environment of a run: level and opponent by the curriculum.

    Args:
        source: Where it comes from.
        components: The curriculum's handle.
        learners: The numbers of the agents that learn.
        tuned: What the names of its arguments begin with, where a population tunes them (`macurr.training.tuned`).
    """
    env = source.make()
    names = [env.possible_agents[learner] for learner in learners]
    if isinstance(env, AECEnv):
        turns = AECSeedTaskWrapper(env) if tuned is None else TunedTurns(env, source, tuned)
        return AECSyncWrapper(turns, components, learners=names)
    seeds = SeedTaskWrapper(env) if tuned is None else TunedSeeds(env, source, tuned)
    return PettingZooSyncWrapper(seeds, components, learners=names)


def make_scheduled_env(source: EnvSource, schedule: Sequence[tuple[int, int]]) -> Any:
    """One environment that plays given episodes.

    Args:
        source: Where it comes from.
        schedule: (number, seed) of each episode.
    """
    env = source.make()
    return ScheduledTurns(env, schedule) if isinstance(env, AECEnv) else ScheduledWrapper(env, schedule)


class ScheduledWrapper(BaseParallelWrapper[str, Any, Any]):
    """Plays given seeds one after the other, and from the start again after the last.

    `infos[agent]["task"]` is the number of the episode in the schedule.

    Args:
        env: The environment.
        schedule: (number, seed) of each episode.
    """

    def __init__(self, env: ParallelEnv[str, Any, Any], schedule: Sequence[tuple[int, int]]) -> None:
        super().__init__(env)
        self._schedule = list(schedule)
        self._played = 0

    @override
    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        number, level = self._schedule[self._played % len(self._schedule)]
        self._played += 1
        observations, _ = self.env.reset(seed=level, options=options)
        return observations, {agent: {"task": number} for agent in observations}

    def state_dict(self) -> dict[str, Any]:
        """Where it is in its schedule."""
        return {"played": self._played}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()`."""
        self._played = state["played"]

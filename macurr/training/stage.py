"""Where the players of a tournament or an evaluation meet: an environment that suits all, and its levels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from macurr.errors import ConfigError
from macurr.training.envs import EnvSource
from macurr.training.layout import Layout
from macurr.training.mapping import side_names, sides_of
from macurr.training.players import OpenRun
from macurr.training.session import probe

__all__ = ["Stage"]

_MOST_LEVELS = 1_000_000


@dataclass(frozen=True)
class Stage:
    """Where players meet.

    Attributes:
        source: The environment.
        layout: How it is laid out.
        levels: The seeds to play.
        held_out: Whether no run was trained on any of them.
        sides: The numbers of the agents of each side: those whom one player plays, against all others.
    """

    source: EnvSource
    layout: Layout
    levels: tuple[int, ...]
    held_out: bool
    sides: tuple[tuple[int, ...], ...]

    @classmethod
    def of(
        cls,
        runs: Sequence[OpenRun],
        levels: int | Sequence[int],
        env: str | None = None,
        env_args: Mapping[str, Any] | None = None,
    ) -> Stage:
        """The stage for players of some runs.

        Args:
            runs: The runs.
            levels: How many levels beyond those trained on, or the levels themselves.
            env: Another environment than the runs', of the same shape.
            env_args: Keywords for it; without `env`, keywords to change of the runs' own.

        Raises:
            ConfigError: the runs play different environments or other sides of it, or the environment named is of
                another shape.
        """
        source = _common_source(runs) if env is None else EnvSource(env)
        if env_args:
            source = EnvSource(source.path, {**source.args, **env_args})
        layout = probe(source)
        if env is not None or env_args:
            _check_shape(runs, source, layout)
        seen = max(run.config.tasks.levels for run in runs)
        played = _levels(levels, seen)
        return cls(source, layout, played, min(played) >= seen, _common_sides(runs, layout))

    def check_meeting(self) -> None:
        """Refuse an environment in which nobody meets.

        Raises:
            ConfigError: all its agents are one side.
        """
        if len(self.sides) < 2:
            raise ConfigError(
                f"All agents of {self.source.path} are one side: nobody meets there. Compare runs by "
                "macurr evaluate RUN --against OTHER."
            )

    @property
    def seats(self) -> tuple[str, ...]:
        """The names of the sides."""
        return side_names(self.layout.agents, self.sides)

    @property
    def described(self) -> str:
        """The levels in words."""
        first, last, count = self.levels[0], self.levels[-1], len(self.levels)
        kind = "held-out levels" if self.held_out else "levels"
        seen = "" if self.held_out else " (some were trained on)"
        if self.levels != tuple(range(first, last + 1)):
            return f"{count} {kind} from {min(self.levels)} to {max(self.levels)}{seen}"
        return f"{kind} {first} to {last}{seen}" if count > 1 else f"{kind[:-1]} {first}{seen}"


def _levels(levels: int | Sequence[int], seen: int) -> tuple[int, ...]:
    if isinstance(levels, int) and not isinstance(levels, bool) and 0 < levels <= _MOST_LEVELS:
        return tuple(range(seen, seen + levels))
    try:
        played = tuple(int(level) for level in levels)  # type: ignore[union-attr]  # a wrong type is told below
    except (TypeError, ValueError):
        played = ()
    if not played or min(played) < 0 or len(set(played)) < len(played):
        raise ConfigError(
            f"levels={levels!r} cannot be played: give a number of levels from 1 to {_MOST_LEVELS:,}, or different "
            "seeds of at least 0, such as 5000-5099."
        )
    return played


def _common_source(runs: Sequence[OpenRun]) -> EnvSource:
    first = runs[0]
    for run in runs[1:]:
        if _described(run.source) != _described(first.source):
            raise ConfigError(
                f"These runs play different environments: {first.label} plays {_described(first.source)}, {run.label} "
                f"plays {_described(run.source)}. Name runs of one environment, or the one that all are to play by "
                "--env (env)."
            )
    return first.source


def _common_sides(runs: Sequence[OpenRun], layout: Layout) -> tuple[tuple[int, ...], ...]:
    found = {run.config.policies.sides: run.label for run in runs}
    if len(found) > 1:
        raise ConfigError(
            "These runs were trained with different sides: "
            + ", ".join(f"{label} with --sides {sides}" for sides, label in found.items())
            + ". Name runs whose agents play together alike."
        )
    return sides_of(layout.agents, next(iter(found)))


def _check_shape(runs: Sequence[OpenRun], source: EnvSource, layout: Layout) -> None:
    own: dict[str, Layout] = {}
    for run in runs:
        where = _described(run.source)
        if where not in own:
            own[where] = probe(run.source)
        if _shape(own[where]) != _shape(layout):
            raise ConfigError(
                f"{run.label} was trained on {where}: {_shape(own[where])}. {_described(source)} has another shape: "
                f"{_shape(layout)}. Name an environment of the same shape by --env and --env-arg."
            )


def _shape(layout: Layout) -> str:
    kind = "coordinates of actions" if layout.kind == "continuous" else "actions"
    each = layout.masks.sum(axis=1).tolist()
    return f"{len(layout.agents)} agents, rows of {layout.features} numbers, {each} {kind}"


def _described(source: EnvSource) -> str:
    # Through JSON, in which runs keep their settings: a tuple is a list there.
    args = json.loads(json.dumps(dict(source.args), sort_keys=True, default=str))
    return f"{source.path}({', '.join(f'{key}={value!r}' for key, value in args.items())})"

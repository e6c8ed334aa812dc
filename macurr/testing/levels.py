"""Whether the same seed really is the same level."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.utils.env_checker import data_equivalence
from pettingzoo import ParallelEnv

from macurr.errors import UsageError

__all__ = ["Difference", "LevelReport", "check_level_determinism"]

FIELDS = ("observations", "rewards", "terminations", "truncations")


@dataclass(frozen=True, slots=True)
class Difference:
    """Where two episodes of one seed first differ.

    Attributes:
        seed: The reset seed.
        reused: Whether the second episode was played in an environment that had played others before.
        step: Environment steps before it: 0 is the reset itself.
        field: "agents", "observations", "rewards", "terminations" or "truncations".
        agent: The first agent whose value differs; None where the agents themselves do.
    """

    seed: int
    reused: bool
    step: int
    field: str
    agent: str | None

    def __str__(self) -> str:
        where = "the reset" if self.step == 0 else f"step {self.step}"
        whose = "" if self.agent is None else f" of {self.agent}"
        which = "an environment that has played before" if self.reused else "a fresh environment"
        return f"seed {self.seed} in {which}: {self.field}{whose} differ at {where}"


@dataclass(frozen=True, slots=True)
class LevelReport:
    """What `check_level_determinism` found.

    Attributes:
        seeds: The seeds that were played.
        steps: Environment steps of the reference episodes, together.
        differences: For each seed that is not the same level, where it first differs, fresh and reused.
    """

    seeds: tuple[int, ...]
    steps: int
    differences: tuple[Difference, ...]

    @property
    def fresh(self) -> bool:
        """Whether a seed is the same level in every newly made environment."""
        return all(difference.reused for difference in self.differences)

    @property
    def reused(self) -> bool:
        """Whether a seed is the same level in an environment that has played others before."""
        return not any(difference.reused for difference in self.differences)

    def __bool__(self) -> bool:
        return not self.differences

    def __str__(self) -> str:
        if self:
            return f"The same seed is the same level: {len(self.seeds)} seeds, {self.steps} steps."
        return "The same seed is not the same level: " + "; ".join(map(str, self.differences)) + "."


Frame = tuple[list[str], dict[str, dict[str, Any]], dict[str, Any]]
"""Who lives, what came of the step by field and agent, and the actions that follow."""


def check_level_determinism(
    env_fn: Callable[[], ParallelEnv[str, Any, Any]], seeds: Iterable[int] = range(3), max_steps: int = 1000
) -> LevelReport:
    """Tell whether the reset seed decides the level: the same seed and the same actions, the same episode.

    Curricula over seeds rest on this. Each seed is played three times with the same random actions over a whole
    episode: twice in fresh environments, and in one that has played all seeds before it.

    Args:
        env_fn: Makes the environment.
        seeds: The seeds to try.
        max_steps: Where an episode is cut.

    Returns:
        A report that is true if all seeds are levels, and says where they first differ otherwise.

    Raises:
        UsageError: `env_fn` makes no Parallel environment, or there are no seeds.

    Example:
        >>> from macurr.testing import ProbeEnv
        >>> print(check_level_determinism(ProbeEnv))
        The same seed is the same level: 3 seeds, 9 steps.
    """
    tried = tuple(int(seed) for seed in seeds)
    veteran = env_fn()
    if not tried or not isinstance(veteran, ParallelEnv):
        raise UsageError(
            f"check_level_determinism wants a function that makes a PettingZoo ParallelEnv, and at least one seed; got "
            f"{veteran!r} and {len(tried)} seeds."
        )
    steps, found = 0, []
    # The veteran begins with another seed, so that its first episode is no fresh one.
    _play(veteran, max(tried) + 1, max_steps)
    for seed in tried:
        reference = _fresh(env_fn, seed, max_steps)
        steps += len(reference) - 1
        again = _fresh(env_fn, seed, max_steps, reference)
        later = _play(veteran, seed, max_steps, reference)
        pairs = ((again, False), (later, True))
        found += [d for episode, reused in pairs if (d := _compare(reference, episode, seed, reused))]
    veteran.close()  # type: ignore[no-untyped-call]
    return LevelReport(tried, steps, tuple(found))


def _fresh(
    env_fn: Callable[[], ParallelEnv[str, Any, Any]],
    seed: int,
    max_steps: int,
    script: list[Frame] | None = None,
) -> list[Frame]:
    env = env_fn()
    try:
        return _play(env, seed, max_steps, script)
    finally:
        env.close()  # type: ignore[no-untyped-call]


def _play(
    env: ParallelEnv[str, Any, Any], seed: int, max_steps: int, script: list[Frame] | None = None
) -> list[Frame]:
    """One episode; its actions are random, or those of the script for as long as the same agents live."""
    for i, agent in enumerate(env.possible_agents):
        env.action_space(agent).seed(1000 * i + 1)
    observations, _ = env.reset(seed=seed)
    frames: list[Frame] = []
    fields: dict[str, dict[str, Any]] = {"observations": _copied(observations)}
    while True:
        alive = list(env.agents)
        over = not alive or len(frames) >= max_steps
        scripted = script[len(frames)] if script and len(frames) < len(script) else None
        if scripted is not None and scripted[0] == alive:
            actions = scripted[2]
        else:
            over, actions = over or script is not None, {}
            if not over:
                actions = {agent: _action(env, agent, observations.get(agent)) for agent in alive}
        frames.append((alive, fields, actions))
        if over or not actions:
            return frames
        observations, *rest = env.step(dict(actions))
        fields = {name: _copied(value) for name, value in zip(FIELDS, (observations, *rest[:3]), strict=True)}


def _action(env: ParallelEnv[str, Any, Any], agent: str, seen: Any) -> Any:
    mask = seen.get("action_mask") if isinstance(seen, dict) else None
    return env.action_space(agent).sample(mask)


def _copied(by_agent: Any) -> dict[str, Any]:
    return {agent: _deep(value) for agent, value in by_agent.items()}


def _deep(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _deep(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return tuple(map(_deep, value))
    return np.array(value) if isinstance(value, np.ndarray) else value


def _compare(one: list[Frame], other: list[Frame], seed: int, reused: bool) -> Difference | None:
    for step, (a, b) in enumerate(zip(one, other, strict=False)):
        for field, values in a[1].items():
            for agent in dict.fromkeys([*values, *b[1][field]]):
                if agent not in values or agent not in b[1][field]:
                    return Difference(seed, reused, step, field, agent)
                if not data_equivalence(values[agent], b[1][field][agent], exact=True):
                    return Difference(seed, reused, step, field, agent)
        if a[0] != b[0]:
            return Difference(seed, reused, step, "agents", None)
    return None

"""Who is who: which agents learn together, and which of a run's policies plays each agent."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from macurr.errors import ConfigError, StateError
from macurr.seeding import check_generator_state, generator_state, load_generator_state
from macurr.training.imports import imported

__all__ = [
    "MAPPINGS",
    "Choose",
    "PolicyMapping",
    "learning_seats",
    "role_of",
    "roles_of",
    "side_names",
    "sides_of",
]

Choose = Callable[[str, int, int, np.random.Generator], int]
"""A user's mapping: from the agent, the number of the environment, the number of its episode and a generator to the
policy that plays the agent in that episode."""

MAPPINGS = ("shared", "env", "random", "role")
"""The mappings that have a name."""

_NUMBERED = re.compile(r"(?P<role>.+)_\d+")


def role_of(agent: str) -> str:
    """The name of an agent's role: what precedes the last "_<number>" of its own, or all of it."""
    match = _NUMBERED.fullmatch(agent)
    return match["role"] if match else agent


def roles_of(agents: Sequence[str]) -> tuple[int, ...]:
    """The role of each agent: agents whose names share the part before a last "_<number>" have the same one.

    Args:
        agents: The possible agents.

    Returns:
        For each agent the number of its role, in order of first appearance.

    Example:
        >>> roles_of(["adversary_0", "adversary_1", "agent_0"])
        (0, 0, 1)
    """
    numbers: dict[str, int] = {}
    return tuple(numbers.setdefault(role_of(agent), len(numbers)) for agent in agents)


def sides_of(agents: Sequence[str], sides: str) -> tuple[tuple[int, ...], ...]:
    """The agents that learn together.

    Args:
        agents: The possible agents.
        sides: "agent", each is a side of its own; or "role", those of one role are.

    Returns:
        For each side the numbers of its agents.
    """
    if sides == "agent":
        return tuple((k,) for k in range(len(agents)))
    roles = roles_of(agents)
    return tuple(tuple(np.flatnonzero(np.equal(roles, r)).tolist()) for r in range(max(roles) + 1))


def side_names(agents: Sequence[str], sides: Sequence[Sequence[int]]) -> tuple[str, ...]:
    """What to call each side: its agent, or the role of its agents.

    Example:
        >>> side_names(["adversary_0", "adversary_1", "agent_0"], [(0, 1), (2,)])
        ('adversary', 'agent_0')
    """
    return tuple(agents[side[0]] if len(side) == 1 else role_of(agents[side[0]]) for side in sides)


def learning_seats(
    agents: Sequence[str], envs: int, sides: str, everyone: bool, run: int = 1
) -> tuple[tuple[int, ...], ...]:
    """Who learns in each environment: the sides one after the other, so that each is trained alike.

    Args:
        agents: The possible agents.
        envs: Number of environments.
        sides: As for `sides_of`.
        everyone: Whether every agent learns everywhere, because nobody is played by the past.
        run: Neighbouring environments in which the same side learns: where policies alternate from environment to
            environment, as many as there are policies, or some would never learn some of the sides.

    Returns:
        For each environment the numbers of the agents that learn.
    """
    if everyone:
        return (tuple(range(len(agents))),) * envs
    found = sides_of(agents, sides)
    return tuple(found[i // run % len(found)] for i in range(envs))


class PolicyMapping:
    """Which of the run's policies plays each agent of an environment, decided as an episode begins.

    Opponents are played by a snapshot, which holds all policies of its time; the mapping says which of them.

    Args:
        name: "shared", policy 0 plays everybody; "env", environment i is played by policy i modulo their number;
            "random", each agent by one drawn uniformly, anew every so many episodes of its environment; "role", each
            agent by the number of its role, modulo their number; or an import path, "module:function", of a `Choose`.
        policies: Number of policies, P.
        agents: The possible agents.
        rng: Where chance comes from.
        episodes: Episodes of an environment between two draws of "random".

    Attributes:
        fixed: Whether an agent of an environment is always played by the same policy.

    Raises:
        ConfigError: there is no such mapping.
    """

    def __init__(
        self,
        name: str,
        policies: int,
        agents: Sequence[str],
        rng: np.random.Generator,
        episodes: int = 10,
    ) -> None:
        self.name, self.policies, self.agents = name, policies, tuple(agents)
        self.fixed = name in ("shared", "env", "role") or policies == 1
        self._rng, self._episodes = rng, episodes
        self._roles = roles_of(self.agents)
        self._choose = None if name in MAPPINGS else _function(name)
        self._drawn: dict[int, NDArray[np.int16]] = {}

    def __getstate__(self) -> dict[str, Any]:
        # A user's function is found again by its path, whatever pickle thinks of it.
        return {name: value for name, value in vars(self).items() if name != "_choose"}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)
        self._choose = None if self.name in MAPPINGS else _function(self.name)

    def draw(self, env: int, episode: int) -> NDArray[np.int16]:
        """The policies of an episode that begins.

        Args:
            env: The number of the environment in the run.
            episode: The number of its episode, from 0.

        Returns:
            int16 (A,), the policy of each possible agent.

        Raises:
            ConfigError: the user's function gave something that is no policy.
        """
        if self._choose is not None:
            return self._chosen(env, episode, self._rng)
        if self.name == "random" and self.policies > 1:
            return self._random(env, episode)
        numbers = {"env": [env] * len(self.agents), "role": self._roles}.get(
            self.name, [0] * len(self.agents)
        )
        return np.remainder(numbers, self.policies).astype(np.int16)

    def for_evaluation(self, agent: str) -> int:
        """The policy that plays an agent outside of the training.

        It is that of the first episode of environment 0, without chance; with "random", policy 0.

        Raises:
            ConfigError: the user's function gave something that is no policy.
        """
        place = self.agents.index(agent)
        if self._choose is not None:
            return int(self._chosen(0, 0, np.random.default_rng(0))[place])
        return 0 if self.name == "random" else int(self.draw(0, 0)[place])

    def state_dict(self) -> dict[str, Any]:
        """The generator, and the policies that were drawn for the environments."""
        envs = sorted(self._drawn)
        return {
            "rng": generator_state(self._rng),
            "envs": np.array(envs, np.int64),
            "drawn": np.array([self._drawn[env] for env in envs], np.int16).reshape(-1, len(self.agents)),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()`.

        Raises:
            StateError: it is of another mapping; nothing is changed.
        """
        envs, drawn = np.asarray(state["envs"]), np.asarray(state["drawn"])
        fits = drawn.shape == (len(envs), len(self.agents)) or not len(envs)
        if not fits or (len(envs) and not 0 <= drawn.min() <= drawn.max() < self.policies):
            raise StateError(
                f"The state maps {drawn.shape} agents to policies; {len(self.agents)} agents of each environment to "
                f"{self.policies} policies are wanted. Resume the run it belongs to."
            )
        check_generator_state(self._rng, state["rng"])
        load_generator_state(self._rng, state["rng"])
        self._drawn = {int(env): row.astype(np.int16) for env, row in zip(envs, drawn, strict=True)}

    def _random(self, env: int, episode: int) -> NDArray[np.int16]:
        if env not in self._drawn or episode % self._episodes == 0:
            self._drawn[env] = self._rng.integers(self.policies, size=len(self.agents)).astype(np.int16)
        drawn: NDArray[np.int16] = self._drawn[env].copy()
        return drawn

    def _chosen(self, env: int, episode: int, rng: np.random.Generator) -> NDArray[np.int16]:
        chosen = [self._checked(agent, env, episode, rng) for agent in self.agents]
        return np.array(chosen, np.int16)

    def _checked(self, agent: str, env: int, episode: int, rng: np.random.Generator) -> int:
        choose = self._choose or (lambda *_: 0)
        try:
            number: Any = choose(agent, env, episode, rng)
        except Exception as error:  # whatever the user's function raises
            raise ConfigError(
                f"mapping={self.name!r} failed for agent {agent!r} of environment {env} in episode {episode} with "
                f"{type(error).__name__}: {error}. It is called as function(agent, env, episode, rng)."
            ) from error
        whole = isinstance(number, int | np.integer) and not isinstance(number, bool)
        if not whole or not 0 <= number < self.policies:
            raise ConfigError(
                f"mapping={self.name!r} gave {number!r} for agent {agent!r} of environment {env} in episode "
                f"{episode}: it must give the number of a policy, from 0 to {self.policies - 1} (--num-policies)."
            )
        return int(number)


def _function(path: str) -> Choose:
    choose: Choose = imported("mapping", path, MAPPINGS, "(agent, env, episode, rng) -> policy")
    return choose

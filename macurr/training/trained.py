"""Policies of a run in the user's own hands: they choose actions in any environment of the run's kind."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from macurr.errors import ConfigError
from macurr.training.layout import Layout
from macurr.training.opponents import policies_of
from macurr.training.players import OpenRun, check_players
from macurr.training.policy import Actor, PolicySpec
from macurr.training.session import probe

__all__ = ["TrainedPolicy", "load_policy"]


def load_policy(run: str | os.PathLike[str], seed: int = 0) -> TrainedPolicy:
    """A policy that a run has trained.

    Args:
        run: The run's directory; RUN:ID names a snapshot by its id, RUN@STEPS the one taken nearest to so many steps.
        seed: Seed of its choices.

    Raises:
        ConfigError: there is no such run, or its environment cannot be made.
        PoolError: the snapshot is damaged, was dropped, or is of another architecture than its run.

    Example:
        ```python
        policy = load_policy("runs/apples")
        observations, infos = env.reset(seed=7)
        policy.reset()
        while env.agents:
            actions = policy.act(observations)
            observations, rewards, terminations, truncations, infos = env.step(actions)
        ```
    """
    opened = OpenRun(run)
    (chosen,) = opened.chosen("last")
    layout = probe(opened.source)
    player = opened.player(chosen)
    check_players([player], layout, opened.source.path)
    spec = PolicySpec.of(layout, opened.config.model)
    actors = []
    for arrays in policies_of(player.weights()):
        actor = Actor(spec)
        actor.load_arrays({name: arrays[name] for name in actor.state_dict()})
        actors.append(actor)
    return TrainedPolicy(layout, actors, player.casting(layout), seed)


class TrainedPolicy:
    """Plays any of the agents of an environment, as it was trained to.

    Args:
        layout: How the environment is laid out.
        actors: The policies.
        casting: The number of the policy that plays each agent.
        seed: Seed of its choices.

    Attributes:
        agents: The agents that it can play.
    """

    def __init__(self, layout: Layout, actors: list[Actor], casting: tuple[int, ...], seed: int = 0) -> None:
        self.agents = layout.agents
        self._layout, self._actors, self._casting = layout, actors, casting
        self._generator = torch.Generator().manual_seed(seed)
        self._rows = layout.indicator()
        self._masks = layout.masks.copy()
        self.reset()

    def reset(self) -> None:
        """Forget what was seen, at the start of an episode; only policies with a memory need it."""
        self._states: dict[str, Tensor | None] = {}

    def act(self, observations: Mapping[str, Any], greedy: bool = False) -> dict[str, Any]:
        """Choose an action for each agent that observes.

        Args:
            observations: By agent, as the environment gives them, `action_mask` included where it brings one.
            greedy: Choose what is likeliest (continuous: the mean) instead of by chance.

        Returns:
            By agent, what its action space holds.

        Raises:
            ConfigError: an agent is unknown.
        """
        return {agent: self._choose(agent, seen, greedy) for agent, seen in observations.items()}

    @torch.no_grad()
    def probabilities(self, agent: str, observation: Any) -> NDArray[np.float64]:
        """The probability of each action of an agent with discrete actions, (N,), in the order of its space.

        A memory is read, and stays as it is.

        Raises:
            ConfigError: the agent is unknown, or its actions are not discrete.
        """
        if not self._layout.discrete:
            raise ConfigError(
                f"Actions of {self._layout.name} are {self._layout.kind}: they have no list of probabilities. Use "
                "act()."
            )
        params, masks, _ = self._think(agent, observation)
        chances = params.masked_fill(~masks, -torch.inf).double().softmax(dim=-1)[0].numpy()
        found: NDArray[np.float64] = chances[: self._layout.masks[self._number(agent)].sum()]
        return found

    @torch.no_grad()
    def _choose(self, agent: str, observation: Any, greedy: bool) -> Any:
        params, masks, self._states[agent] = self._think(agent, observation)
        kind = self._actors[0].spec.distribution
        action = kind.mode(params, masks) if greedy else kind.sample(params, masks, self._generator)
        return self._layout.decode(self._number(agent), action[0].numpy())

    @torch.no_grad()
    def _think(self, agent: str, observation: Any) -> tuple[Tensor, Tensor, Tensor | None]:
        """Parameters of the distribution over actions, what is allowed, and the memory afterwards."""
        number = self._number(agent)
        mask = self._masks[number] if self._layout.masked else None
        self._layout.encode(number, observation, self._rows[number], mask)
        actor = self._actors[self._casting[number]]
        row = torch.from_numpy(self._rows[number : number + 1].copy())
        outputs, state = actor.actor(actor.encode(row), self._states.get(agent))
        return actor.parameters_of(outputs), torch.from_numpy(self._masks[number : number + 1].copy()), state

    def _number(self, agent: str) -> int:
        if agent not in self.agents:
            raise ConfigError(
                f"{agent!r} is none of the agents that this policy was trained to play: {', '.join(self.agents)}."
            )
        return self.agents.index(agent)

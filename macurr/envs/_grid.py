"""What the grid games have in common: two players, levels from seeds, PettingZoo's Parallel API, rendering."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar

import numpy as np
from gymnasium import logger
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from macurr.envs._calls import (
    FIRST,
    N_ACTIONS,
    SECOND,
    Infos,
    LevelSeeds,
    Observations,
    Step,
    after_the_end,
    checked_actions,
    checked_seed,
)
from macurr.envs._level import Level
from macurr.envs._maze import distances, steps
from macurr.envs._parameters import GridParameters
from macurr.envs._render import Figure, Scene, paint
from macurr.envs._view import Floats
from macurr.errors import ConfigError, UsageError

STAY = 0
TRAIL = 6
"""Cells behind a player that its trail shows."""

L = TypeVar("L", bound=Level)
Q = TypeVar("Q", bound=GridParameters)


class GridGame(ParallelEnv[str, NDArray[Any], Any], Generic[L, Q]):
    """A zero-sum game of two players who move at the same time in a maze.

    A game says what a level holds (`_draw`), what a cycle does (`_begin`, `_play`), what is seen (`_observe`,
    `_fill_state`, `_scene`) and how a good player would move (`scripted_action`).

    Args:
        parameters: What levels and episodes are like unless `reset` is told otherwise.
        render_mode: One of `metadata["render_modes"]`, or None.
        observation_size: Numbers per observation, the first `signed_from` of them in [0, 1] and the others in
            [-1, 1].
        signed_from: See `observation_size`.
        state_planes: Planes of `state()`.
    """

    def __init__(
        self,
        parameters: Q,
        render_mode: str | None,
        *,
        observation_size: int,
        signed_from: int,
        state_planes: int,
    ) -> None:
        modes = self.metadata["render_modes"]
        if render_mode is not None and render_mode not in modes:
            raise ConfigError(f"render_mode={render_mode!r} is not offered: use one of {modes}, or None")
        self.render_mode = render_mode
        self.possible_agents = [FIRST, SECOND]
        self.agents: list[str] = []
        low = np.zeros(observation_size, np.float32)
        low[signed_from:] = -1.0
        self._observation_spaces = {
            a: Box(low, np.ones_like(low), dtype=np.float32) for a in self.possible_agents
        }
        self._action_spaces = {a: Discrete(N_ACTIONS) for a in self.possible_agents}
        side = parameters.size[1]
        self.state_space = Box(0.0, 1.0, (state_planes, side, side), np.float32)
        self._parameters = parameters
        self._seeds = LevelSeeds()
        self._level: L | None = None
        self._cycle = 0
        self._limit = parameters.max_cycles
        self._cells = b""
        self._moves = steps(2)
        self._trails: tuple[list[int], list[int]] = ([], [])

    @abstractmethod
    def _draw(self, seed: int, parameters: Q) -> L:
        """The level of a seed."""

    @abstractmethod
    def _begin(self, level: L, parameters: Q) -> None:
        """Set up the first cycle of an episode."""

    @abstractmethod
    def _play(self, first: int, second: int) -> tuple[float, bool]:
        """Play one cycle; returns what the first player gains, which the other loses, and whether the game is over."""

    @abstractmethod
    def _observe(self, seat: int) -> Floats:
        """A fresh observation of the player in that seat."""

    @abstractmethod
    def _fill_state(self, planes: Floats) -> None:
        """Write the global state into zeroed planes; plane 0 (walls) is already there."""

    @abstractmethod
    def _scene(self, level: L) -> Scene:
        """What there is to draw."""

    @abstractmethod
    def _places(self) -> tuple[int, int]:
        """Where both players are, as places in the level's map."""

    @abstractmethod
    def scripted_action(self, agent: str) -> int:
        """What the scripted shortest-path player does in the current situation; see `macurr.envs.bfs_policy`.

        Args:
            agent: Whose action.

        Returns:
            An action of `agent`.

        Raises:
            UsageError: No episode is going on, or there is no such agent.
        """

    @property
    def max_cycles(self) -> int:
        """Cycles after which an episode is truncated; a new value counts from the next reset on."""
        return self._parameters.max_cycles

    @max_cycles.setter
    def max_cycles(self, value: int) -> None:
        limit = self._parameters.readers["max_cycles"]("max_cycles", value, ConfigError)
        self._parameters = replace(self._parameters, max_cycles=limit)

    @property
    def current_level(self) -> L:
        """The level being played, or played last.

        Raises:
            UsageError: There has been no reset yet.
        """
        if self._level is None:
            raise UsageError("there is no level before the first episode: call reset()")
        return self._level

    def level(self, seed: int, options: Mapping[str, Any] | None = None) -> L:
        """The level that `reset(seed, options)` would play, without touching the episode going on.

        Args:
            seed: A whole number from 0.
            options: As for `reset`.

        Raises:
            TaskError: The seed or an option is out of its range.
        """
        parameters = self._parameters.revised(options) if options else self._parameters
        return self._draw(checked_seed(seed), parameters)

    def observation_space(self, agent: str) -> Box:
        """The observation space of `agent`, the same object at every call."""
        return self._observation_spaces[agent]

    def action_space(self, agent: str) -> Discrete[Any]:
        """The action space of `agent`, the same object at every call."""
        return self._action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Observations, Infos]:
        """Begin an episode.

        Args:
            seed: The level, a whole number from 0: the same seed and options give the same level in every
                object and at any time. None draws the next level from a stream that the last seed given
                began.
            options: Parameters of the constructor, by name, that hold for this episode only; keys of others
                are ignored.

        Returns:
            Observations and empty infos, both by agent.

        Raises:
            TaskError: The seed or an option is out of its range; the episode going on is untouched.
        """
        parameters = self._parameters.revised(options) if options else self._parameters
        level = self._draw(self._seeds.next(seed), parameters)
        self._level = level
        self._limit = parameters.max_cycles
        self._cycle = 0
        self._cells = level.cells
        self._moves = steps(level.width)
        self._begin(level, parameters)
        self._trails = ([], [])
        self.agents = self.possible_agents[:]
        return {FIRST: self._observe(0), SECOND: self._observe(1)}, {FIRST: {}, SECOND: {}}

    def step(self, actions: Mapping[str, int]) -> Step:
        """Play one cycle.

        Args:
            actions: A whole number from 0 to 4 per agent.

        Returns:
            Observations, rewards (zero-sum), terminations, truncations and empty infos, by agent. After the
            end, and only without actions, five empty dicts: some vectorisers make one step too many.

        Raises:
            UsageError: An action is missing or is none, or the episode is over or has not begun; nothing has
                changed.
        """
        if not self.agents:
            return after_the_end(actions)
        first, second = checked_actions(actions)
        if self.render_mode is not None:
            self._leave_trails()
        gain, over = self._play(first, second)
        self._cycle += 1
        late = not over and self._cycle >= self._limit
        if over or late:
            self.agents = []
        return (
            {FIRST: self._observe(0), SECOND: self._observe(1)},
            {FIRST: gain, SECOND: 0.0 - gain},
            {FIRST: over, SECOND: over},
            {FIRST: late, SECOND: late},
            {FIRST: {}, SECOND: {}},
        )

    def state(self) -> Floats:
        """A global view for centralised critics: planes in [0, 1], shape `state_space.shape`.

        Levels smaller than the largest lie in the upper left corner; beyond them everything is wall.

        Raises:
            UsageError: There has been no reset yet.
        """
        level = self.current_level
        planes = np.zeros(self.state_space.shape, np.float32)
        planes[0] = 1.0
        planes[0, : level.size, : level.size] = level.walls
        self._fill_state(planes)
        return planes

    def render(self) -> NDArray[np.uint8] | None:
        """A picture, uint8, always of the same shape (height, width, 3); None without a render mode.

        Raises:
            UsageError: There has been no reset yet.
        """
        if self.render_mode is None:
            logger.warn(
                f"render() draws nothing without a render mode: construct {self} with render_mode='rgb_array'"
            )
            return None
        return paint(self._scene(self.current_level))

    def close(self) -> None:
        """Nothing is held open."""

    def _seat(self, agent: str) -> int:
        """The seat of an agent of the episode going on."""
        if agent not in self.agents:
            raise UsageError(
                f"no agent {agent!r} is playing: the agents are {self.agents}; reset() begins an episode"
            )
        return self.agents.index(agent)

    def _direction(self, place: int, targets: list[int]) -> int | None:
        """The direction of a first step on a shortest path to the nearest target, or None where there is none."""
        away = distances(self._cells, self.current_level.width, targets)
        for direction, move in enumerate(self._moves):
            if away[place + move] == away[place] - 1 >= 0:
                return direction
        return None

    def _leave_trails(self) -> None:
        """Remember where the players were, for the picture."""
        for trail, place in zip(self._trails, self._places(), strict=True):
            trail.append(place)
            del trail[:-TRAIL]

    def _figure(
        self,
        seat: int,
        facing: int,
        seen: tuple[int, int, int, int],
        beam: Sequence[int] = (),
        tagged: bool = False,
    ) -> Figure:
        """A player as the picture shows it; `seen` is relative to its cell, the beam in places of the map."""
        width = self.current_level.width
        row, column = divmod(self._places()[seat], width)
        return Figure(
            row=row,
            column=column,
            facing=facing,
            window=(seen[0] + row, seen[1] + column, seen[2] + row, seen[3] + column),
            trail=[divmod(place, width) for place in self._trails[seat]],
            beam=[divmod(place, width) for place in beam],
            tagged=tagged,
        )

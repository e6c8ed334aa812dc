"""Laser tag: two players hunt each other in a random maze; who tags the other with a beam first wins.

The seed decides everything about a level: its size (5 to 13 cells per side), how densely it is walled (0 to
42 % of its cells), where both players start and where they look; they never start in each other's line. The
winner gets +1 and the loser -1, and the episode terminates. It is truncated after 100 cycles: a draw.

**Moves.** Both players act at the same time: first they move and turn, then beams are fired along where the
shooters look, up to the first wall. So one can step out of a beam. Players block each other: who would enter
a cell that the other stays in does not move, and if both would enter the same cell, or each the other's,
neither moves.

**Ties.** Players that tag each other in the same cycle draw: the episode terminates and pays nobody. Hence no
rule prefers a seat: a level with exchanged starts (`options={"swap_seats": True}`) is the same game with
exchanged names.

**Actions.** 0 stay, 1 turn left, 2 turn right, 3 step forward, 4 fire.

**Observations.** `2 * view * view + 5` float32: two planes (walls, the opponent) of the `view` by `view`
cells before the player, turned so that it looks up from the middle of the last row; where the opponent in
sight looks, as one of four (as the player, to its right, the opposite way, to its left), zeros when it is out of
sight; the part of the episode's time that is left. Walls do not block sight. With `compass=True` three more
numbers say where the opponent is, in sight or not: right and down in the player's frame, each divided by the
distance, and the distance divided by the largest possible one.

**State.** Planes: walls; `player_0` by where it looks (up, right, down, left), the same for `player_1`; the
time left.

**Options** of `reset`, for one episode: `size`, `density` (a number or a (low, high) pair each), `view` (at
most the constructor's: what lies beyond is hidden), `max_cycles`, `swap_seats`.

Turning, stepping, beams and a partial view are those of the LaserTag of Lanctot et al., "A Unified
Game-Theoretic Approach to Multiagent Reinforcement Learning" (2017), with one tag per episode and walls that
vary by level as in Samvelyan et al., "MAESTRO: Open-Ended Environment Design for Multi-Agent Reinforcement
Learning" (2023).

Example:
    >>> from macurr.envs import laser_tag_v0
    >>> env = laser_tag_v0.parallel_env()
    >>> observations, infos = env.reset(seed=3)
    >>> observations["player_0"].shape
    (103,)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from gymnasium.utils import EzPickle
from numpy.typing import NDArray
from pettingzoo import AECEnv
from pettingzoo.utils.conversions import parallel_to_aec
from pettingzoo.utils.wrappers import OrderEnforcingWrapper

from macurr.envs._grid import STAY, GridGame
from macurr.envs._level import Level, draw_plot
from macurr.envs._maze import steps
from macurr.envs._parameters import TagParameters
from macurr.envs._render import Scene
from macurr.envs._view import Floats, Window, compass, compass_place, turned, turned_offset, turned_place

LEFT_TURN, RIGHT_TURN, FORWARD, FIRE = range(1, 5)
TURNS = (0, -1, 1, 0, 0)
N_SCALARS = 5
N_COMPASS = 3


@dataclass(frozen=True)
class TagLevel(Level):
    """A level of laser tag.

    Attributes:
        facings: Where `player_0` and `player_1` look at first: 0 up, 1 right, 2 down, 3 left.
    """

    facings: tuple[int, int]


class parallel_env(GridGame[TagLevel, TagParameters], EzPickle):
    """Laser tag as a Parallel environment; the module says how it is played.

    Args:
        size: Cells per side, 5 to 99: a number or a (low, high) pair, like the next.
        density: Walls per cell, 0 to 0.6.
        view: Cells per side of what a player sees, odd, 3 to 15.
        max_cycles: Cycles after which the episode is truncated.
        compass: Observe where the opponent is, in sight or not; without it the game is also one of search.
        swap_seats: Exchange the players' starts.
        render_mode: `"rgb_array"` or None.

    Raises:
        ConfigError: An argument is out of its range.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]  # of the instance in the base class
        "name": "laser_tag_v0",
        "render_modes": ["rgb_array"],
        "is_parallelizable": True,
        "render_fps": 8,
    }

    def __init__(
        self,
        size: int | tuple[int, int] = (5, 13),
        density: float | tuple[float, float] = (0.0, 0.42),
        view: int = 7,
        max_cycles: int = 100,
        compass: bool = False,
        swap_seats: bool = False,
        render_mode: str | None = None,
    ) -> None:
        EzPickle.__init__(self, size, density, view, max_cycles, compass, swap_seats, render_mode)
        parameters = TagParameters.read(
            size=size, density=density, view=view, max_cycles=max_cycles, swap_seats=swap_seats
        )
        self._area = parameters.view**2
        seen = 2 * self._area + N_SCALARS
        self._n_observed = seen + N_COMPASS * bool(compass)
        super().__init__(
            parameters, render_mode, observation_size=self._n_observed, signed_from=seen, state_planes=10
        )
        self._has_compass = bool(compass)

    def _draw(self, seed: int, parameters: TagParameters) -> TagLevel:
        rng = np.random.default_rng(seed)
        plot = draw_plot(rng, rng.random(2).tolist(), parameters)
        facings = rng.integers(4, size=2).tolist()
        width = plot.size + 2
        first, *others = plot.free
        lines = {
            place
            for move in steps(width)
            for place in _beam(plot.cells, (first[0] + 1) * width + first[1] + 1, move)
        }
        # There always is one: a level has more free cells than a row and a column together.
        second = next(cell for cell in others if (cell[0] + 1) * width + cell[1] + 1 not in lines)
        # Who was drawn first is decided last, for the second is drawn from fewer cells than the first.
        if (rng.random() < 0.5) is not parameters.swap_seats:
            return TagLevel(seed, plot.size, plot.cells, (first, second), (facings[0], facings[1]))
        return TagLevel(seed, plot.size, plot.cells, (second, first), (facings[1], facings[0]))

    def _begin(self, level: TagLevel, parameters: TagParameters) -> None:
        self._window = Window(self._parameters.view, forward=True, sight=parameters.view)
        walls = self._window.padded(level.cells, level.width, 1)
        self._turned = turned(walls)
        self._last = walls.shape[1] - 1
        self._players = (level.index(level.starts[0]), level.index(level.starts[1]))
        self._facings = level.facings
        self._hits = (False, False)
        self._fired = (False, False)

    def _play(self, first: int, second: int) -> tuple[float, bool]:
        one, two = self._facings
        self._facings = one, two = (one + TURNS[first]) % 4, (two + TURNS[second]) % 4
        if FORWARD in (first, second):
            self._players = self._moved(first == FORWARD, second == FORWARD)
        self._fired = fired = (first == FIRE, second == FIRE)
        places = self._players
        tags = fired[0] and self._reaches(places[0], one, places[1])
        is_tagged = fired[1] and self._reaches(places[1], two, places[0])
        self._hits = (tags, is_tagged)
        return float(tags - is_tagged), tags or is_tagged

    def _moved(self, first: bool, second: bool) -> tuple[int, int]:
        """Where both players are after those who want to have stepped forward."""
        one, two = self._players
        target = one + self._moves[self._facings[0]] * first
        other_target = two + self._moves[self._facings[1]] * second
        if self._cells[target]:
            target = one
        if self._cells[other_target]:
            other_target = two
        if target == other_target or (target == two and other_target == one):
            return one, two
        return target, other_target

    def _reaches(self, place: int, facing: int, other: int) -> bool:
        """Whether a beam from `place` hits `other` before a wall."""
        move, cells = self._moves[facing], self._cells
        place += move
        while not cells[place]:
            if place == other:
                return True
            place += move
        return False

    def _observe(self, seat: int) -> Floats:
        level, area, window = self.current_level, self._area, self._window
        facing = self._facings[seat]
        shift = window.pad - 1
        row, column = divmod(self._players[seat], level.width)
        other_row, other_column = divmod(self._players[1 - seat], level.width)
        observation = np.zeros(self._n_observed, np.float32)
        top, left = turned_place(facing, row + shift, column + shift, self._last)
        top, left = top - window.ahead, left - window.aside
        rows, columns = window.ahead + window.behind + 1, 2 * window.aside + 1
        planes = observation[:area].reshape(1, window.side, window.side)
        planes[window.block] = self._turned[facing][:, top : top + rows, left : left + columns]
        down, right = turned_offset(facing, other_row - row, other_column - column)
        place = window.place(down, right)
        if place >= 0:
            observation[area + place] = 1.0
            observation[2 * area + (self._facings[1 - seat] - facing) % 4] = 1.0
        observation[2 * area + 4] = 1.0 - self._cycle / self._limit
        if self._has_compass:
            reach = self._parameters.size[1]
            observation[2 * area + N_SCALARS :] = compass(reach)[compass_place(reach, down, right)]
        return observation

    def _places(self) -> tuple[int, int]:
        return self._players

    def _fill_state(self, planes: Floats) -> None:
        width = self.current_level.width
        for seat, place in enumerate(self._players):
            planes[1 + 4 * seat + self._facings[seat], place // width - 1, place % width - 1] = 1.0
        planes[9] = 1.0 - self._cycle / self._limit

    def _scene(self, level: TagLevel) -> Scene:
        first, second = (
            self._figure(
                seat,
                self._facings[seat],
                self._window.bounds(self._facings[seat]),
                self._lit(seat),
                self._hits[1 - seat],
            )
            for seat in (0, 1)
        )
        return Scene(
            width=level.width,
            cells=level.cells,
            players=(first, second),
            scores=(int(self._hits[0]), int(self._hits[1])),
            out_of=1,
            time_left=1.0 - self._cycle / self._limit,
        )

    def _lit(self, seat: int) -> list[int]:
        """The cells that a player's beam crosses in this cycle, up to the other player."""
        if not self._fired[seat]:
            return []
        beam = _beam(self._cells, self._players[seat], self._moves[self._facings[seat]])
        other = self._players[1 - seat]
        return beam[: beam.index(other)] if other in beam else beam

    def scripted_action(self, agent: str) -> int:
        """Fire when the opponent is in the line of fire, else turn to and follow a shortest path to it.

        Of equally short ways it takes the first of up, right, down and left.

        Args:
            agent: Whose action.

        Returns:
            An action of `agent`.

        Raises:
            UsageError: No episode is going on, or there is no such agent.
        """
        seat = self._seat(agent)
        place, other, facing = self._players[seat], self._players[1 - seat], self._facings[seat]
        if self._reaches(place, facing, other):
            return FIRE
        direction = self._direction(place, [other])
        if direction is None:
            return STAY
        return (FORWARD, RIGHT_TURN, RIGHT_TURN, LEFT_TURN)[(direction - facing) % 4]


def _beam(cells: bytes, place: int, move: int) -> list[int]:
    """The free cells from `place`, itself excluded, on to the first wall."""
    crossed = []
    place += move
    while not cells[place]:
        crossed.append(place)
        place += move
    return crossed


def raw_env(**kwargs: Any) -> AECEnv[str, NDArray[Any], Any]:
    """Laser tag as an AEC environment without wrappers; takes what `parallel_env` takes."""
    return parallel_to_aec(parallel_env(**kwargs))


def env(**kwargs: Any) -> AECEnv[str, NDArray[Any], Any]:
    """Laser tag as an AEC environment that watches the order of calls; takes what `parallel_env` takes."""
    return OrderEnforcingWrapper(raw_env(**kwargs))

"""Apple race: two players race for the apples of a random maze.

The seed decides everything about a level: its size (5 to 13 cells per side), how densely it is walled (0 to
42 % of its cells), 3 to 9 apples, and where both players start. Every apple can be reached by both. Who
enters the cell of an apple gets +1 and the other -1. The episode terminates when all apples are eaten, and is
truncated after 60 cycles.

**Moves.** Both players move at the same time and never block each other: they may share a cell and pass
through each other. A move into a wall is no move.

**Ties.** An apple that both reach in the same cycle is gone and pays nobody: +1 and -1 for each. Hence no
rule prefers a
seat: a level with exchanged starts (`options={"swap_seats": True}`) is the same game with exchanged names.

**Actions.** 0 stay, 1 up, 2 right, 3 down, 4 left.

**Observations.** `3 * view * view + 8` float32: three planes (walls, apples, the opponent) of the `view` by
`view` cells around the player, row by row; then the compass to the nearest apple (right and down, each
divided by the distance, and the distance divided by the largest possible one), the same for the opponent; the
part of the episode's time that is left; and the lead in apples divided by the level's apples. Walls do not
block sight, and distances count steps as if there were none. Of equally near apples the compass points to the
uppermost, then to the leftmost.

**State.** Planes: walls, apples, `player_0`, `player_1`, the time left.

**Options** of `reset`, for one episode: `size`, `density`, `apples` (a number or a (low, high) pair each),
`view` (at most the constructor's: what lies beyond is hidden), `max_cycles`, `reachable`, `swap_seats`.

Example:
    >>> from macurr.envs import apple_race_v0
    >>> env = apple_race_v0.parallel_env()
    >>> observations, infos = env.reset(seed=7, options={"density": 0.3})
    >>> observations["player_0"].shape
    (155,)
    >>> level = env.level(7, {"density": 0.3})
    >>> level.size, len(level.apples), round(level.density, 1)
    (10, 8, 0.3)
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
from macurr.envs._level import Cell, Level, draw_plot, pick
from macurr.envs._maze import DOWN
from macurr.envs._parameters import AppleParameters
from macurr.envs._render import Scene
from macurr.envs._view import Floats, Window, compass, compass_place

N_SCALARS = 8


@dataclass(frozen=True)
class AppleLevel(Level):
    """A level of the apple race.

    Attributes:
        apples: Where the apples lie, as (row, column) inside the border, row by row.
    """

    apples: tuple[Cell, ...]


class parallel_env(GridGame[AppleLevel, AppleParameters], EzPickle):
    """The apple race as a Parallel environment; the module says how it is played.

    Args:
        size: Cells per side, 5 to 99: a number or a (low, high) pair, like the next two.
        density: Walls per cell, 0 to 0.6.
        apples: How many apples.
        view: Cells per side of what a player sees, odd, 3 to 15.
        max_cycles: Cycles after which the episode is truncated.
        reachable: Keep all free cells connected. Without it walls lie anywhere, so that apples may be out of
            reach and the players apart: degenerate levels, for studies of how a curriculum deals with them.
        swap_seats: Exchange the players' starts.
        render_mode: `"rgb_array"` or None.

    Raises:
        ConfigError: An argument is out of its range, or the apples do not fit into the smallest level.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]  # of the instance in the base class
        "name": "apple_race_v0",
        "render_modes": ["rgb_array"],
        "is_parallelizable": True,
        "render_fps": 8,
    }

    def __init__(
        self,
        size: int | tuple[int, int] = (5, 13),
        density: float | tuple[float, float] = (0.0, 0.42),
        apples: int | tuple[int, int] = (3, 9),
        view: int = 7,
        max_cycles: int = 60,
        reachable: bool = True,
        swap_seats: bool = False,
        render_mode: str | None = None,
    ) -> None:
        EzPickle.__init__(self, size, density, apples, view, max_cycles, reachable, swap_seats, render_mode)
        parameters = AppleParameters.read(
            size=size,
            density=density,
            apples=apples,
            view=view,
            max_cycles=max_cycles,
            reachable=reachable,
            swap_seats=swap_seats,
        )
        self._area = parameters.view**2
        seen = 3 * self._area
        super().__init__(
            parameters, render_mode, observation_size=seen + N_SCALARS, signed_from=seen, state_planes=5
        )
        self._reach = parameters.size[1]
        self._compass = compass(self._reach)

    def _draw(self, seed: int, parameters: AppleParameters) -> AppleLevel:
        rng = np.random.default_rng(seed)
        *shares, share = rng.random(3).tolist()
        plot = draw_plot(rng, shares, parameters, connected=parameters.reachable)
        first, second, *others = plot.free
        starts = (second, first) if parameters.swap_seats else (first, second)
        apples = sorted(others[: pick(share, parameters.apples)])
        return AppleLevel(seed, plot.size, plot.cells, starts, tuple(apples))

    def _begin(self, level: AppleLevel, parameters: AppleParameters) -> None:
        self._window = window = Window(self._parameters.view, forward=False, sight=parameters.view)
        self._maps = window.padded(level.cells, level.width, 2)
        # Row by row, as in the level: the first of equally near apples is the one that the compass points to.
        self._apples = {level.index(cell): (cell[0] + 1, cell[1] + 1) for cell in level.apples}
        for row, column in level.apples:
            self._maps[1, row + window.pad, column + window.pad] = 1.0
        self._players = (level.index(level.starts[0]), level.index(level.starts[1]))
        self._facings = (DOWN, DOWN)
        self._scores = (0, 0)
        self._deltas = (0, *self._moves)

    def _play(self, first: int, second: int) -> tuple[float, bool]:
        one, two = self._players
        target = one + self._deltas[first]
        if not self._cells[target]:
            one = target
        target = two + self._deltas[second]
        if not self._cells[target]:
            two = target
        self._players = one, two
        if self.render_mode is not None:
            self._turn(first, second)
        eats, other_eats = one in self._apples, two in self._apples
        if not (eats or other_eats):
            return 0.0, False
        self._scores = self._scores[0] + eats, self._scores[1] + other_eats
        self._remove(one)
        self._remove(two)
        return float(eats - other_eats), not self._apples

    def _remove(self, place: int) -> None:
        """Take the apple from a cell, if there is one."""
        cell = self._apples.pop(place, None)
        if cell is not None:
            shift = self._window.pad - 1
            self._maps[1, cell[0] + shift, cell[1] + shift] = 0.0

    def _turn(self, first: int, second: int) -> None:
        """Let the players look where they went, for the picture."""
        one, two = self._facings
        self._facings = (one if first == STAY else first - 1, two if second == STAY else second - 1)

    def _observe(self, seat: int) -> Floats:
        level, area, window, reach = self.current_level, self._area, self._window, self._reach
        row, column = divmod(self._players[seat], level.width)
        other_row, other_column = divmod(self._players[1 - seat], level.width)
        observation = np.zeros(3 * area + N_SCALARS, np.float32)
        sight = 2 * window.aside + 1
        planes = observation[: 2 * area].reshape(2, window.side, window.side)
        planes[window.block] = self._maps[:, row - 1 : row - 1 + sight, column - 1 : column - 1 + sight]
        down, right = other_row - row, other_column - column
        place = window.place(down, right)
        if place >= 0:
            observation[2 * area + place] = 1.0
        if self._apples:
            observation[3 * area : 3 * area + 3] = self._compass[self._nearest(row, column)]
        observation[3 * area + 3 : 3 * area + 6] = self._compass[compass_place(reach, down, right)]
        observation[3 * area + 6] = 1.0 - self._cycle / self._limit
        lead = self._scores[seat] - self._scores[1 - seat]
        observation[3 * area + 7] = lead / len(level.apples)
        return observation

    def _nearest(self, row: int, column: int) -> int:
        """The compass's place for the nearest apple."""
        best, down, right = 2 * self._reach, 0, 0
        for apple_row, apple_column in self._apples.values():
            distance = abs(apple_row - row) + abs(apple_column - column)
            if distance < best:
                best, down, right = distance, apple_row - row, apple_column - column
        return compass_place(self._reach, down, right)

    def _places(self) -> tuple[int, int]:
        return self._players

    def _fill_state(self, planes: Floats) -> None:
        width = self.current_level.width
        for row, column in self._apples.values():
            planes[1, row - 1, column - 1] = 1.0
        for seat, place in enumerate(self._players):
            planes[2 + seat, place // width - 1, place % width - 1] = 1.0
        planes[4] = 1.0 - self._cycle / self._limit

    def _scene(self, level: AppleLevel) -> Scene:
        seen = self._window.bounds()
        return Scene(
            width=level.width,
            cells=level.cells,
            apples=list(self._apples.values()),
            players=(self._figure(0, self._facings[0], seen), self._figure(1, self._facings[1], seen)),
            scores=self._scores,
            out_of=len(level.apples),
            time_left=1.0 - self._cycle / self._limit,
        )

    def scripted_action(self, agent: str) -> int:
        """The first step of a shortest path to the nearest apple, or 0 where none can be reached.

        Of equally short ways it takes the first of up, right, down and left.

        Args:
            agent: Whose action.

        Returns:
            An action of `agent`.

        Raises:
            UsageError: No episode is going on, or there is no such agent.
        """
        seat = self._seat(agent)
        direction = self._direction(self._players[seat], list(self._apples))
        return STAY if direction is None else direction + 1


def raw_env(**kwargs: Any) -> AECEnv[str, NDArray[Any], Any]:
    """The apple race as an AEC environment without wrappers; takes what `parallel_env` takes."""
    return parallel_to_aec(parallel_env(**kwargs))


def env(**kwargs: Any) -> AECEnv[str, NDArray[Any], Any]:
    """The apple race as an AEC environment that watches the order of calls; takes what `parallel_env` takes."""
    return OrderEnforcingWrapper(raw_env(**kwargs))

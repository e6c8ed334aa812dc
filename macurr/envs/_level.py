"""A level: what a seed decides before the first move."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from macurr.envs._maze import grow_maze
from macurr.envs._parameters import GridParameters

Cell: TypeAlias = tuple[int, int]
"""Row and column, counted from 0 inside the border."""


@dataclass(frozen=True)
class Level:
    """One level of a grid game.

    Attributes:
        seed: The seed that it was drawn from.
        size: Cells per side, the border of walls not counted.
        cells: The flat map of `(size + 2) ** 2` cells, border included: 1 is a wall.
        starts: Where `player_0` and `player_1` begin, as (row, column) inside the border.
    """

    seed: int
    size: int
    cells: bytes = field(repr=False)
    starts: tuple[Cell, Cell]

    @property
    def width(self) -> int:
        """Columns of `cells`."""
        return self.size + 2

    @property
    def walls(self) -> NDArray[np.bool_]:
        """The walls inside the border, shape (size, size)."""
        bordered = np.frombuffer(self.cells, np.uint8).reshape(self.width, self.width)
        walls: NDArray[np.bool_] = bordered[1:-1, 1:-1] != 0
        return walls

    @property
    def density(self) -> float:
        """Walls per cell inside the border."""
        return float(self.walls.mean())

    def index(self, cell: Cell) -> int:
        """The place of a (row, column) in `cells`."""
        return (cell[0] + 1) * self.width + cell[1] + 1


@dataclass(frozen=True)
class Plot:
    """A maze without anything in it.

    Attributes:
        size: Cells per side.
        cells: The flat map, border included.
        free: The free cells as (row, column) inside the border, in random order.
    """

    size: int
    cells: bytes
    free: list[Cell]


def draw_plot(
    rng: np.random.Generator, shares: list[float], parameters: GridParameters, *, connected: bool = True
) -> Plot:
    """Draw size, density and maze.

    Args:
        rng: The level's own generator.
        shares: Two numbers in [0, 1): where in their ranges size and density lie. They are handed in so that
            all numbers of a level are drawn first and one each, and fixing one parameter of a seed leaves its
            others as they are.
        parameters: The ranges.
        connected: Keep the free cells connected.
    """
    size = pick(shares[0], parameters.size)
    low, high = parameters.density
    cells = grow_maze(rng, size, round((low + shares[1] * (high - low)) * size * size), connected=connected)
    width = size + 2
    free = [place for place, wall in enumerate(cells) if not wall]
    order = rng.permutation(len(free)).tolist()
    return Plot(size, cells, [(free[rank] // width - 1, free[rank] % width - 1) for rank in order])


def pick(share: float, bounds: tuple[int, int]) -> int:
    """The whole number at `share` (in [0, 1)) of the range `bounds`, both ends included and all equally likely."""
    return bounds[0] + int(share * (bounds[1] - bounds[0] + 1))

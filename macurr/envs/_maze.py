"""Random mazes whose free cells stay connected, and shortest paths in them.

Every map here is a flat `bytes` of `width * height` cells, row by row, with a border of walls: 1 is a wall, 0
is free. Moving by one cell adds one of `steps(width)` to a flat index, and the border makes bounds checks
unnecessary.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

import numpy as np

UP, RIGHT, DOWN, LEFT = range(4)
"""Directions, clockwise, so that adding one turns right."""


def steps(width: int) -> tuple[int, int, int, int]:
    """What moving up, right, down and left adds to a flat index in a map of `width` columns."""
    return (-width, 1, width, -1)


def grow_maze(rng: np.random.Generator, size: int, n_walls: int, *, connected: bool = True) -> bytes:
    """A square maze of `size` by `size` cells with exactly `n_walls` walls inside its border.

    Walls are put down cell by cell in random order. With `connected`, a cell is left free as long as a wall
    there would close a ring of walls around free cells: rings are told by a union-find over walls that touch
    (also at corners), which is Kruskal's algorithm on the walls. The free cells are therefore connected at
    every moment.

    Args:
        rng: Source of all randomness.
        size: Cells per side, border not counted.
        n_walls: Walls to place, fewer than `size * size`.
        connected: Keep all free cells connected; False places the walls anywhere.

    Returns:
        A flat map of `(size + 2) ** 2` cells, border included.
    """
    width = size + 2
    cells = _bordered(size)
    order = [width + 1 + cell // size * width + cell % size for cell in rng.permutation(size * size).tolist()]
    if not connected:
        for cell in order[:n_walls]:
            cells[cell] = 1
        return bytes(cells)
    parents = list(range(width * width))
    for index, cell in enumerate(cells):
        if cell:
            parents[index] = 0
    missing = n_walls
    while missing:
        # A cell refused once may become a dead end later, so passes go on: a dead end can always be walled up.
        missing -= _wall_up(cells, parents, order, missing)
        order = [cell for cell in order if not cells[cell]]
    return bytes(cells)


def _bordered(size: int) -> bytearray:
    """An empty map of `size` by `size` cells within its border of walls."""
    width = size + 2
    row = b"\1" + bytes(size) + b"\1"
    return bytearray(b"\1" * width + row * size + b"\1" * width)


def _wall_up(cells: bytearray, parents: list[int], order: Iterable[int], limit: int) -> int:
    """One pass over `order`: place up to `limit` walls that close no ring; returns how many were placed."""
    width = int(len(cells) ** 0.5)
    up, down, ring = -width, width, _ring(width)
    placed = 0
    for cell in order:
        touching = (
            cells[cell + up]
            | cells[cell + up + 1] << 1
            | cells[cell + 1] << 2
            | cells[cell + down + 1] << 3
            | cells[cell + down] << 4
            | cells[cell + down - 1] << 5
            | cells[cell - 1] << 6
            | cells[cell + up - 1] << 7
        )
        roots = [_root(parents, cell + ring[arc]) for arc in _ARCS[touching]]
        if len(roots) > 1 and len(set(roots)) < len(roots):
            continue
        cells[cell] = 1
        for root in roots:
            parents[root] = cell
        placed += 1
        if placed == limit:
            break
    return placed


def _root(parents: list[int], cell: int) -> int:
    """The representative of the walls that `cell` is connected to, halving the path on the way."""
    while parents[cell] != cell:
        parents[cell] = cell = parents[parents[cell]]
    return cell


def _ring(width: int) -> tuple[int, ...]:
    """Offsets of the eight cells around a cell, clockwise from above: even places share a side with it."""
    return (-width, 1 - width, 1, width + 1, width, width - 1, -1, -width - 1)


def _arcs(touching: int) -> tuple[int, ...]:
    """One wall of each arc of walls around a cell, as places in the ring.

    The ring is cut at its free side cells; the walls between two cuts touch each other, and those of
    different arcs do not touch within the ring. A free corner cuts nothing, for nobody steps through it from
    the middle.
    """
    free_sides = [place for place in (0, 2, 4, 6) if not touching >> place & 1]
    if not free_sides:
        return (0,)
    arcs = []
    for place, following in zip(free_sides, [*free_sides[1:], free_sides[0] + 8], strict=True):
        walls = [between % 8 for between in range(place + 1, following) if touching >> between % 8 & 1]
        arcs += walls[:1]
    return tuple(arcs)


_ARCS = tuple(_arcs(touching) for touching in range(256))


def distances(cells: Sequence[int], width: int, sources: Iterable[int]) -> list[int]:
    """Steps from every cell to the nearest of `sources`, by breadth-first search.

    Args:
        cells: A flat map with a border of walls.
        width: Its columns.
        sources: Flat indices of the cells to reach.

    Returns:
        A distance per cell of the map; -1 for walls and for cells from which no source can be reached.
    """
    found = [-1] * len(cells)
    queue = deque(sources)
    for source in queue:
        found[source] = 0
    around = steps(width)
    while queue:
        cell = queue.popleft()
        for step in around:
            following = cell + step
            if found[following] < 0 and not cells[following]:
                found[following] = found[cell] + 1
                queue.append(following)
    return found

"""What a player sees: a window cut out of the padded map, and a compass."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


class Window:
    """The square part of the map that moves with a player.

    Args:
        side: Cells per side of the block in the observation, odd.
        forward: The player stands in the middle of the window's last row and sees only what lies ahead;
            otherwise it stands in the middle.
        sight: Cells per side of what is really seen, odd, at most `side`; the rest of the block stays zero.

    Attributes:
        ahead: Rows seen in front of the player.
        behind: Rows seen behind it.
        aside: Columns seen to either side.
        pad: Cells to add around a map so that no window reaches beyond it.
        block: Where in the (side, side) block the seen part lies.
    """

    def __init__(self, side: int, *, forward: bool, sight: int) -> None:
        self.side = side
        self.ahead = sight - 1 if forward else sight // 2
        self.behind = sight - 1 - self.ahead
        self.aside = sight // 2
        self.pad = max(self.ahead, self.aside)
        self._top = side - 1 if forward else side // 2
        rows = slice(self._top - self.ahead, self._top + self.behind + 1)
        columns = slice(side // 2 - self.aside, side // 2 + self.aside + 1)
        self.block = (slice(None), rows, columns)

    def place(self, down: int, right: int) -> int:
        """The place in the flattened block of a cell relative to the player, or -1 if it is out of sight."""
        if -self.ahead <= down <= self.behind and -self.aside <= right <= self.aside:
            return (self._top + down) * self.side + self.side // 2 + right
        return -1

    def bounds(self, facing: int = 0) -> tuple[int, int, int, int]:
        """What is seen on the map by a player at (0, 0): first row and column, end row and column, ends excluded."""
        ahead, behind, aside = self.ahead, self.behind, self.aside
        if facing == 0:
            return -ahead, -aside, behind + 1, aside + 1
        if facing == 1:
            return -aside, -behind, aside + 1, ahead + 1
        if facing == 2:
            return -behind, -aside, ahead + 1, aside + 1
        return -aside, -ahead, aside + 1, behind + 1

    def padded(self, cells: bytes, width: int, planes: int) -> Floats:
        """Planes to cut windows from: walls first, then `planes - 1` empty ones.

        Args:
            cells: A flat map with a border of walls, `width` columns.
            width: Columns, border included.
            planes: How many planes.

        Returns:
            Shape (planes, width - 2 + 2 * pad, width - 2 + 2 * pad); beyond the map everything is wall.
        """
        outer = width - 2 + 2 * self.pad
        maps = np.zeros((planes, outer, outer), np.float32)
        walls = np.frombuffer(cells, np.uint8).reshape(width, width)[1:-1, 1:-1]
        maps[0] = 1.0
        maps[0, self.pad : -self.pad, self.pad : -self.pad] = walls
        return maps


def turned(planes: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Views of square planes turned so that up, right, down and left of the map point up."""
    mirrored = planes.transpose(0, 2, 1)
    return planes, mirrored[:, ::-1], planes[:, ::-1, ::-1], mirrored[:, :, ::-1]


def turned_place(facing: int, row: int, column: int, last: int) -> tuple[int, int]:
    """Where a cell of square planes with `last` as highest index lies in `turned(planes)[facing]`."""
    if facing == 0:
        return row, column
    if facing == 1:
        return last - column, row
    if facing == 2:
        return last - row, last - column
    return column, last - row


def turned_offset(facing: int, down: int, right: int) -> tuple[int, int]:
    """An offset on the map as a player with that facing sees it: (down, right) with ahead as up."""
    if facing == 0:
        return down, right
    if facing == 1:
        return -right, down
    if facing == 2:
        return -down, -right
    return right, -down


@lru_cache(maxsize=16)
def compass(size: int) -> Floats:
    """Direction and distance for every offset within a map of `size` cells per side.

    Returns:
        Shape ((2 * size - 1) ** 2, 3): right and down, each divided by the distance, and the distance in
        steps without walls, divided by its maximum 2 * (size - 1). The offset (down, right) is at
        `compass_place`. Read-only.
    """
    reach = np.arange(1 - size, size, dtype=np.float32)
    down, right = np.meshgrid(reach, reach, indexing="ij")
    distance = np.abs(down) + np.abs(right)
    nonzero = np.maximum(distance, 1.0)
    table = np.stack([right / nonzero, down / nonzero, distance / (2 * (size - 1))], axis=-1).reshape(-1, 3)
    table.setflags(write=False)
    return table


def compass_place(size: int, down: int, right: int) -> int:
    """The row of `compass(size)` for an offset."""
    return (down + size - 1) * (2 * size - 1) + right + size - 1

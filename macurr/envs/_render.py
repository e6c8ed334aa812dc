"""Pictures of the grid games, drawn with NumPy alone.

A picture is a square board, whatever the level's size, and a strip below it with the scores and the time
left. Shapes are drawn once per size on a finer grid and averaged down, which smooths their edges.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

BOARD, STRIP = 480, 32
"""Pixels of the board's side and of the strip's height: multiples of 16, as video encoders like them."""
FINER = 4

Colour: TypeAlias = tuple[int, int, int]
Canvas: TypeAlias = NDArray[np.float32]
Mask: TypeAlias = NDArray[np.floating[Any]]
Shape: TypeAlias = Callable[[Mask, Mask], NDArray[np.bool_]]

FLOORS: tuple[Colour, Colour] = ((247, 243, 233), (242, 237, 225))
WALL: Colour = (62, 72, 89)
WALL_LIGHT: Colour = (92, 104, 125)
MARGIN: Colour = (38, 45, 57)
RED: Colour = (214, 48, 56)
GREEN: Colour = (86, 156, 70)
BROWN: Colour = (110, 74, 46)
WHITE: Colour = (255, 255, 255)
INK: Colour = (28, 32, 40)
PLAYERS: tuple[Colour, Colour] = ((38, 108, 214), (236, 136, 24))


@dataclass(frozen=True)
class Figure:
    """A player in a picture.

    Attributes:
        row: Its row in the map, border included.
        column: Its column.
        facing: Where it looks: 0 up, 1 right, 2 down, 3 left.
        window: First row, first column, end row and end column of what it sees, ends excluded; may reach
            beyond the map.
        trail: Where it was, as (row, column), oldest first.
        beam: Cells that its beam crosses.
        tagged: Whether it has been hit.
    """

    row: int
    column: int
    facing: int
    window: tuple[int, int, int, int]
    trail: Sequence[tuple[int, int]] = ()
    beam: Sequence[tuple[int, int]] = ()
    tagged: bool = False


@dataclass(frozen=True)
class Scene:
    """What a picture shows.

    Attributes:
        width: Columns and rows of the map, border included.
        cells: The flat map: 1 is a wall.
        players: Both players.
        apples: Where apples lie, as (row, column).
        scores: Points of both players.
        out_of: Points that can be made.
        time_left: Part of the episode still to come, 1 to 0.
    """

    width: int
    cells: bytes
    players: tuple[Figure, Figure]
    scores: tuple[int, int]
    out_of: int
    time_left: float
    apples: Sequence[tuple[int, int]] = ()


def paint(scene: Scene) -> NDArray[np.uint8]:
    """Draw a scene.

    Args:
        scene: What to draw.

    Returns:
        RGB, uint8, shape (BOARD + STRIP, BOARD, 3).
    """
    canvas = np.empty((BOARD + STRIP, BOARD, 3), np.float32)
    canvas[:] = MARGIN
    tile = BOARD // scene.width
    edge = (BOARD - tile * scene.width) // 2
    board = canvas[edge : edge + tile * scene.width, edge : edge + tile * scene.width]
    _paint_maze(board, scene, tile)
    for figure, colour in zip(scene.players, PLAYERS, strict=True):
        _paint_window(board, figure.window, colour, tile)
    for figure, colour in zip(scene.players, PLAYERS, strict=True):
        _paint_trail(board, figure, colour, tile)
    for row, column in scene.apples:
        for colour, mask in _apple(tile):
            _blend(_tile(board, row, column, tile), colour, mask)
    for figure, colour in zip(scene.players, PLAYERS, strict=True):
        _paint_beam(board, figure, colour, tile)
    _paint_players(board, scene.players, tile)
    _paint_strip(canvas[BOARD:], scene)
    return np.rint(canvas).astype(np.uint8)


# --- parts of the board ---


def _tile(board: Canvas, row: int, column: int, tile: int) -> Canvas:
    """The pixels of a cell."""
    return board[row * tile : (row + 1) * tile, column * tile : (column + 1) * tile]


def _blend(pixels: Canvas, colour: Colour, alpha: Mask | float) -> None:
    """Lay a colour over pixels."""
    cover = alpha[..., None] if isinstance(alpha, np.ndarray) else alpha
    pixels += (np.asarray(colour, np.float32) - pixels) * cover


def _paint_maze(board: Canvas, scene: Scene, tile: int) -> None:
    """Floor and walls; a wall with floor below it shows a lighter edge, as if lit from there."""
    walls = np.frombuffer(scene.cells, np.bool_).reshape(scene.width, scene.width)
    rows, columns = np.indices(walls.shape)
    colours = np.asarray(FLOORS, np.float32)[(rows + columns) % 2]
    colours[walls] = WALL
    board[:] = colours.repeat(tile, axis=0).repeat(tile, axis=1)
    lit = walls.copy()
    lit[:-1] &= ~walls[1:]
    lit[-1] = False
    rim = max(1, tile // 8)
    for row, column in np.argwhere(lit).tolist():
        _tile(board, row, column, tile)[-rim:] = WALL_LIGHT


def _paint_window(board: Canvas, window: tuple[int, int, int, int], colour: Colour, tile: int) -> None:
    """Tint what a player sees and draw a thin frame around it."""
    last = board.shape[0]
    top, left, bottom, right = (min(max(0, bound * tile), last) for bound in window)
    part = board[top:bottom, left:right]
    _blend(part, colour, 0.07)
    line = max(1, tile // 24)
    for strip in (part[:line], part[-line:], part[line:-line, :line], part[line:-line, -line:]):
        _blend(strip, colour, 0.5)


def _paint_trail(board: Canvas, figure: Figure, colour: Colour, tile: int) -> None:
    """Dots where a player was, fading with age."""
    for age, (row, column) in enumerate(reversed(figure.trail)):
        _blend(_tile(board, row, column, tile), colour, _disc(tile, 0.12) * (0.75 - 0.11 * age))


def _paint_beam(board: Canvas, figure: Figure, colour: Colour, tile: int) -> None:
    """A beam with a bright core along the cells it crosses."""
    for row, column in figure.beam:
        pixels = _tile(board, row, column, tile)
        for shade, part, alpha in ((colour, 0.34, 0.55), (WHITE, 0.12, 0.9)):
            side = max(1, round(tile * part / 2))
            middle = slice(tile // 2 - side, tile // 2 + side)
            _blend(pixels[middle] if figure.facing % 2 else pixels[:, middle], shade, alpha)


def _paint_players(board: Canvas, players: tuple[Figure, Figure], tile: int) -> None:
    """Both players; in the same cell each gets a half of it."""
    together = (players[0].row, players[0].column) == (players[1].row, players[1].column)
    for seat, figure in enumerate(players):
        pixels = _tile(board, figure.row, figure.column, tile)
        part = slice(None)
        if together:
            part = slice(0, tile // 2) if seat == 0 else slice(tile // 2, tile)
        for colour, mask in _player(tile, figure.facing, seat, figure.tagged):
            _blend(pixels[:, part], colour, mask[:, part])


def _paint_strip(strip: Canvas, scene: Scene) -> None:
    """Points of either player from its side inwards, and the time left as a line above them."""
    left = round(BOARD * scene.time_left)
    strip[:3, :left] = WALL_LIGHT
    size = min(STRIP - 12, (BOARD // 2 - 16) // scene.out_of)
    if size < 3:
        return  # too many to be told apart
    for seat, colour in enumerate(PLAYERS):
        for point in range(scene.out_of):
            near = 8 + point * size if seat == 0 else BOARD - 8 - (point + 1) * size
            made = point < scene.scores[seat]
            _blend(strip[9 : 9 + size, near : near + size], colour if made else WALL, _disc(size, 0.36))


# --- shapes ---


def _mask(tile: int, shape: Shape) -> Mask:
    """How much of each pixel of a tile a shape covers; shapes are given in [0, 1] coordinates (x, y)."""
    fine = (np.arange(tile * FINER, dtype=np.float32) + 0.5) / (tile * FINER)
    x, y = np.meshgrid(fine, fine)
    covered = shape(x, y).reshape(tile, FINER, tile, FINER)
    mask: Mask = covered.mean(axis=(1, 3), dtype=np.float32)
    return mask


def _ellipse(x: float, y: float, across: float, high: float | None = None) -> Shape:
    """An ellipse with its middle at (x, y) and these half axes."""
    return lambda u, v: ((u - x) / across) ** 2 + ((v - y) / (high or across)) ** 2 <= 1.0


@lru_cache(maxsize=64)
def _disc(tile: int, radius: float) -> Mask:
    """A disc in the middle of a tile."""
    return _mask(tile, _ellipse(0.5, 0.5, radius))


@lru_cache(maxsize=32)
def _apple(tile: int) -> list[tuple[Colour, Mask]]:
    """An apple: two lobes, a stem, a leaf and a gleam."""
    lobes = (_ellipse(0.41, 0.57, 0.19, 0.24), _ellipse(0.59, 0.57, 0.19, 0.24))
    return [
        (RED, _mask(tile, lambda x, y: lobes[0](x, y) | lobes[1](x, y))),
        (BROWN, _mask(tile, lambda x, y: (abs(x - 0.5 - (0.4 - y) * 0.2) < 0.025) & (y > 0.22) & (y < 0.42))),
        (GREEN, _mask(tile, _ellipse(0.62, 0.26, 0.1, 0.055))),
        (WHITE, _mask(tile, _ellipse(0.37, 0.49, 0.05, 0.075)) * 0.7),
    ]


@lru_cache(maxsize=128)
def _player(tile: int, facing: int, seat: int, tagged: bool) -> list[tuple[Colour, Mask]]:
    """A round figure whose eyes look where it faces; a tagged one is pale and has its eyes shut."""
    ahead_x, ahead_y = ((0.0, -1.0), (1.0, 0.0), (0.0, 1.0), (-1.0, 0.0))[facing]
    dark: Colour = (PLAYERS[seat][0] * 2 // 3, PLAYERS[seat][1] * 2 // 3, PLAYERS[seat][2] * 2 // 3)
    parts = [
        (dark, _mask(tile, _ellipse(0.5, 0.5, 0.4))),
        (PLAYERS[seat], _mask(tile, _ellipse(0.5, 0.5, 0.34))),
    ]
    if tagged:
        parts.append((WHITE, _mask(tile, _ellipse(0.5, 0.5, 0.34)) * 0.55))
    for side in (-1.0, 1.0):
        x = 0.5 + 0.13 * ahead_x - 0.14 * side * ahead_y
        y = 0.5 + 0.13 * ahead_y + 0.14 * side * ahead_x
        if tagged:
            parts.append((INK, _mask(tile, _ellipse(x, y, 0.09, 0.025))))
            continue
        parts.append((WHITE, _mask(tile, _ellipse(x, y, 0.105))))
        parts.append((INK, _mask(tile, _ellipse(x + 0.045 * ahead_x, y + 0.045 * ahead_y, 0.055))))
    return parts

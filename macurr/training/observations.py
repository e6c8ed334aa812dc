"""Observation spaces as rows of numbers, and images as rows of bytes. Imported by workers: no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

__all__ = ["Encoder", "Writer", "encoder", "flattens", "image_encoder", "image_of"]

Writer = Callable[[Any], None]
"""Writes an observation to the front of the row that it is bound to."""
Encoder = Callable[[NDArray[Any]], Writer]
"""Binds a writer to a row."""

_FLAT = (spaces.Box, spaces.Discrete, spaces.MultiBinary, spaces.MultiDiscrete, spaces.Dict, spaces.Tuple)
_SMALLEST = 5
"""Pixels of an image's side: below that, convolutions have nothing to slide over."""


def flattens(space: gymnasium.Space[Any]) -> bool:
    """Whether a space has a fixed flat size."""
    if isinstance(space, spaces.Dict):
        return all(flattens(part) for part in space.spaces.values())
    if isinstance(space, spaces.Tuple):
        return all(flattens(part) for part in space.spaces)
    return isinstance(space, _FLAT)


def image_of(parts: Sequence[gymnasium.Space[Any]]) -> tuple[int, int, int] | None:
    """Height, width and channels, where all spaces are images of bytes of one shape; None otherwise.

    An image is a uint8 `Box` from 0 to 255 of two dimensions, or of three of which one is the channels: the first
    where it is the shortest of all, else the last. Its sides have 5 pixels at least.
    """
    first = parts[0]
    if not all(_bytes(part) and part.shape == first.shape for part in parts):
        return None
    shape = tuple(first.shape or ())
    if len(shape) == 2:
        shape = (*shape, 1)
    if len(shape) != 3:
        return None
    if _channels_first(shape):
        shape = (*shape[1:], shape[0])
    return (shape[0], shape[1], shape[2]) if min(shape[:2]) >= _SMALLEST else None


def image_encoder(space: gymnasium.Space[Any], image: tuple[int, int, int]) -> Encoder:
    """How to write images of this space to the front of rows of bytes, channels last."""
    shape = tuple(space.shape or ())
    turned = len(shape) == 3 and _channels_first(shape)

    def bind(row: NDArray[Any]) -> Writer:
        place = row[: int(np.prod(image))].reshape(image)
        # Seen through this view, the row has the space's own shape.
        place = place.transpose(2, 0, 1) if turned else place.reshape(shape)
        return _assigner(place)

    return bind


def encoder(space: gymnasium.Space[Any], size: int) -> Encoder:
    """How to write observations of this space to the front of rows of numbers."""
    if isinstance(space, spaces.Box):
        if _bytes(space):
            return lambda row: _scaler(row[:size].reshape(space.shape))
        return lambda row: _assigner(row[:size].reshape(space.shape))
    if isinstance(space, spaces.Discrete):
        return lambda row: _chooser(row[:size], int(space.start))

    def bind(row: NDArray[Any]) -> Writer:
        place = row[:size]

        def write(observation: Any) -> None:
            place[:] = np.asarray(spaces.flatten(space, observation))

        return write

    return bind


def _assigner(place: NDArray[Any]) -> Writer:
    return partial(place.__setitem__, ...)


def _scaler(place: NDArray[Any]) -> Writer:
    """Pictures come as bytes; networks want numbers of order one."""

    def write(observation: Any) -> None:
        np.multiply(observation, 1 / 255, out=place, dtype=np.float32)

    return write


def _chooser(place: NDArray[Any], start: int) -> Writer:
    def write(observation: Any) -> None:
        place[:] = 0.0
        place[int(observation) - start] = 1.0

    return write


def _bytes(space: gymnasium.Space[Any]) -> bool:
    return isinstance(space, spaces.Box) and space.dtype == np.uint8 and bool((space.high == 255).all())


def _channels_first(shape: tuple[int, ...]) -> bool:
    return shape[0] < min(shape[1:])

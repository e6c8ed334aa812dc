"""Observation spaces as rows of numbers, and images as rows of bytes. Imported by workers: no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

__all__ = ["Encoder", "encoder", "flattens", "image_encoder", "image_of"]

Encoder = Callable[[Any, NDArray[Any]], None]
"""Writes an observation to the front of a row."""

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
    """How to write an image of this space to the front of a row of bytes, channels last."""
    size = int(np.prod(image))
    shape = tuple(space.shape or ())
    turned = len(shape) == 3 and _channels_first(shape)

    def write_image(observation: Any, row: NDArray[Any]) -> None:
        pixels = np.asarray(observation)
        pixels = pixels.transpose(1, 2, 0) if turned else pixels.reshape(image)
        row[:size].reshape(image)[...] = pixels

    return write_image


def encoder(space: gymnasium.Space[Any], size: int) -> Encoder:
    """How to write an observation of this space to the front of a row of numbers."""
    if isinstance(space, spaces.Box):
        # Pictures come as bytes; networks want numbers of order one.
        scale = 1 / 255 if _bytes(space) else None

        def write_box(observation: Any, row: NDArray[Any]) -> None:
            row[:size] = np.ravel(observation)
            if scale is not None:
                row[:size] *= scale

        return write_box
    if isinstance(space, spaces.Discrete):
        start = int(space.start)

        def write_discrete(observation: Any, row: NDArray[Any]) -> None:
            row[:size] = 0.0
            row[int(observation) - start] = 1.0

        return write_discrete

    def write_flat(observation: Any, row: NDArray[Any]) -> None:
        row[:size] = np.asarray(spaces.flatten(space, observation))

    return write_flat


def _bytes(space: gymnasium.Space[Any]) -> bool:
    return isinstance(space, spaces.Box) and space.dtype == np.uint8 and bool((space.high == 255).all())


def _channels_first(shape: tuple[int, ...]) -> bool:
    return shape[0] < min(shape[1:])

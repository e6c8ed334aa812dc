"""Pictures for the page: stills and films as data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["RGB", "Film", "gif", "still"]

RGB = NDArray[np.uint8]
"""A picture, (height, width, 3)."""

_SIDE = 400
"""Pixels of the longer side of a film."""
_SPEED = 2.0
"""Times faster than the environment's own frame rate."""
_COLOURS = 256
_MOST_BYTES, _LEAST_SIDE = 700_000, 130
"""A film larger than this shrinks, down to a side of so many pixels at least: six of them make a page."""


@dataclass(frozen=True)
class Film:
    """A filmed match.

    Attributes:
        still: The first picture, or the last, as a data URI.
        moving: All of it, as a data URI; "" where there is one picture only.
        width: Pixels.
        height: Pixels.
        steps: Steps of the episode.
        stride: Steps from one picture to the next.
        at_end: Whether the still is the last picture.
    """

    still: str
    moving: str
    width: int
    height: int
    steps: int
    stride: int
    at_end: bool = False

    @classmethod
    def of(cls, frames: Sequence[RGB], fps: float, steps: int, stride: int, *, at_end: bool = False) -> Film:
        """Of RGB pictures.

        Args:
            frames: The pictures, at least one.
            fps: The environment's own pictures a second.
            steps: Steps of the episode.
            stride: Steps from one picture to the next.
            at_end: Whether the still is to be the last picture.
        """
        pictures = [_sized(frame, _SIDE) for frame in frames]
        first, moving = still(pictures[-1 if at_end else 0]), gif(pictures, fps) if len(pictures) > 1 else ""
        while len(moving) > _MOST_BYTES and max(pictures[0].size) > _LEAST_SIDE:
            pictures = [_sized(frame, round(0.7 * max(pictures[0].size))) for frame in frames]
            moving = gif(pictures, fps)
        width, height = pictures[0].size
        return cls(first, moving, width, height, steps, stride, at_end)


def gif(pictures: Sequence[Image.Image], fps: float) -> str:
    """An endless GIF at twice the environment's speed, the end held for a second, as a data URI.

    Args:
        pictures: RGB pictures of one size.
        fps: The environment's own pictures a second.
    """
    # One palette for all, so that equal places stay equal and cost nothing.
    palette = _palette(_sheet(pictures))
    frames = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    # Browsers slow down what is faster than 20 ms a frame.
    each = max(20, round(1000 / max(fps, 1.0) / _SPEED))
    durations = [each] * (len(frames) - 1) + [1000]
    out = io.BytesIO()
    frames[0].save(
        out, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=False
    )
    return _uri("image/gif", out.getvalue())


def still(picture: Image.Image) -> str:
    """A picture as a data URI."""
    out = io.BytesIO()
    plain = picture.quantize(palette=_palette(picture), dither=Image.Dither.NONE)
    plain.save(out, "PNG", optimize=True)
    return _uri("image/png", out.getvalue())


def _palette(picture: Image.Image) -> Image.Image:
    """Half of the colours by how common they are, half by how far they are from each other.

    Frequent shades stay apart, and small things, such as a player on a large board, keep their colour.
    """
    half = _COLOURS // 2
    colours: list[int] = []
    for method in (Image.Quantize.MEDIANCUT, Image.Quantize.FASTOCTREE):
        found = picture.quantize(half, method=method).getpalette() or []
        colours += found[: 3 * half]
    palette = Image.new("P", (1, 1))
    palette.putpalette(colours)
    return palette


def _sheet(pictures: Sequence[Image.Image]) -> Image.Image:
    """Some of the pictures below each other: what the palette is chosen from."""
    some = pictures[:: max(1, len(pictures) // 6)][:8]
    width, height = some[0].size
    sheet = Image.new("RGB", (width, height * len(some)))
    for i, picture in enumerate(some):
        sheet.paste(picture, (0, i * height))
    return sheet


def _sized(frame: RGB, side: int) -> Image.Image:
    """A picture whose longer side is that many pixels, or somewhat fewer where whole numbers keep it sharp."""
    picture = Image.fromarray(np.ascontiguousarray(frame))
    longest = max(picture.size)
    if longest > side:
        width, height = (max(1, round(length * side / longest)) for length in picture.size)
        return picture.resize((width, height), Image.Resampling.LANCZOS)
    # Small boards grow by whole numbers, so that their cells stay sharp.
    times = side // longest
    return picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"

"""Environments as bytes, in the middle of whatever they do. Imported by workers: no torch.

Environments are meant to be pickled before they are used: many forget all that has happened since they were made
(Gymnasium's `EzPickle`), and what draws with pygame cannot be pickled at all. Here all that an object holds is kept, or
it is refused.
What an environment keeps elsewhere, such as the state of a global random generator, is not.
"""

from __future__ import annotations

import copyreg
import io
import pickle
import sys
import zlib
from collections.abc import Callable
from importlib import import_module
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
from gymnasium.utils import EzPickle

__all__ = ["dumps", "loads"]

_Reduction = tuple[Callable[..., Any], tuple[Any, ...]] | tuple[Any, ...]


def dumps(thing: Any) -> bytes:
    """Everything that an object holds, as bytes.

    Raises:
        Exception: what pickling raises, and whatever the objects' own methods raise.
    """
    file = io.BytesIO()
    _Pickler(file, protocol=5).dump(thing)
    return file.getvalue()


def loads(data: bytes | memoryview) -> Any:
    """The object again. Only for bytes of one's own: what is loaded can run anything.

    Raises:
        Exception: whatever unpickling and the objects' own methods raise.
    """
    return pickle.loads(data)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # untyped
    """cloudpickle, but for objects that would forget, or refuse."""

    def reducer_override(self, obj: Any) -> Any:
        """How to take an object apart; NotImplemented for its own way."""
        kind = type(obj)
        if isinstance(obj, EzPickle) and kind.__getstate__ is EzPickle.__getstate__:
            return copyreg.__newobj__, (kind,), dict(obj.__dict__), None, None, _fill  # type: ignore[attr-defined]
        if kind.__module__.partition(".")[0] == "pygame" and kind.__name__ in _PYGAME:
            return _PYGAME[kind.__name__](obj)
        space = getattr(sys.modules.get("pymunk"), "Space", None)
        if space is not None and isinstance(obj, space):
            # Its own way forgets the impulses at contacts, from which the next step goes on: pistonball's ball would
            # take another course.
            raise pickle.PicklingError("A space of pymunk cannot be pickled with all that it holds.")
        return super().reducer_override(obj)


def _fill(obj: Any, state: dict[str, Any]) -> None:
    obj.__dict__.update(state)


# pygame


def _take_surface(surface: Any) -> _Reduction:
    if surface.get_parent() is not None or surface is import_module("pygame.display").get_surface():
        raise pickle.PicklingError("A window of pygame, or a part of another surface, cannot be pickled.")
    bits = surface.get_bitsize()
    look = (
        surface.get_colorkey(),
        surface.get_alpha(),
        [tuple(colour) for colour in surface.get_palette()] if bits <= 8 else None,
    )
    # Most of a canvas is one colour: the fastest compression takes it to a hundredth.
    pixels = zlib.compress(surface.get_buffer().raw, 1)
    return _make_surface, (surface.get_size(), surface.get_flags(), bits, surface.get_masks(), look, pixels)


def _make_surface(size: Any, flags: int, bits: int, masks: Any, look: tuple[Any, ...], pixels: bytes) -> Any:
    pygame = import_module("pygame")
    colorkey, alpha, palette = look
    surface = pygame.Surface(size, flags & pygame.SRCALPHA, bits, masks)
    if palette is not None:
        surface.set_palette(palette)
    if alpha not in {None, 255}:
        surface.set_alpha(alpha)
    if colorkey is not None:
        surface.set_colorkey(colorkey)
    surface.get_buffer().write(zlib.decompress(pixels), 0)
    return surface


def _take_font(font: Any) -> _Reduction:
    return _make_font, (font.path, font.size)


def _make_font(path: str, size: float) -> Any:
    freetype = import_module("pygame.freetype")
    freetype.init()
    return freetype.Font(path, size)


_PYGAME: dict[str, Callable[[Any], _Reduction]] = {"Surface": _take_surface, "Font": _take_font}

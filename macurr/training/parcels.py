"""Objects with large arrays as messages between processes of one run, without a copy of the arrays.

A parcel is the number of its buffers and the length of each, the pickled object, and the buffers (PEP 574), each at a
multiple of sixteen bytes. Imported by workers: no torch.
"""

from __future__ import annotations

import pickle
import struct
from typing import Any

from macurr.training.channel import Part

__all__ = ["packed", "unpacked"]

_COUNT = struct.Struct("<Q")
_ALIGNED = 16
_PADDING = bytes(_ALIGNED)


def packed(thing: Any) -> list[Part]:
    """The parts of a message. Those of arrays are the arrays' own memory.

    Raises:
        Exception: what pickling raises, and whatever the objects' own methods raise.
    """
    buffers: list[pickle.PickleBuffer] = []
    body = pickle.dumps(thing, protocol=5, buffer_callback=buffers.append)
    views = [buffer.raw() for buffer in buffers]
    sizes = [len(body), *(len(view) for view in views)]
    head = b"".join(map(_COUNT.pack, [len(sizes), *sizes]))
    contents: list[Part] = [head, body, *views]
    parts: list[Part] = []
    for part in contents:
        parts += [part, _PADDING[: -len(part) % _ALIGNED]]
    return parts


def unpacked(content: bytearray) -> Any:
    """The object of a message, whose arrays are parts of the message. Only for what this run's processes send.

    Raises:
        Exception: whatever unpickling and the objects' own methods raise.
    """
    (count,) = _COUNT.unpack_from(content)
    sizes = struct.unpack_from(f"<{count}Q", content, _COUNT.size)
    views, start = [], _padded(_COUNT.size * (count + 1))
    whole = memoryview(content)
    for size in sizes:
        views.append(whole[start : start + size])
        start += _padded(size)
    return pickle.loads(views[0], buffers=views[1:])


def _padded(size: int) -> int:
    return size + -size % _ALIGNED

"""A learner's state as a safetensors file: arrays by their path in the nest, the rest of it in the header."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as from_safetensors
from safetensors.numpy import save as to_safetensors

from macurr.errors import StateError

__all__ = ["digest", "fits", "pack", "unpack"]

_HEADER = "macurr.learner"
_ARRAY = "__array__"
_LENGTH = 8  # bytes of the number before the header
_LARGEST_HEADER = 100_000_000


def pack(state: Mapping[str, Any]) -> bytes:
    """A nest of mappings, lists, plain values and arrays as the content of a safetensors file.

    Args:
        state: The nest. Its arrays are called by their paths, "0/policy/actor.weight".
    """
    arrays: dict[str, NDArray[Any]] = {}
    tree = _without_arrays(state, (), arrays)
    return to_safetensors(arrays, metadata={_HEADER: json.dumps(tree)})


def unpack(content: bytes) -> dict[str, Any]:
    """What `pack` was given.

    Raises:
        StateError: the content is damaged, cut short, or something else.
    """
    try:
        arrays = from_safetensors(content)
        length = int.from_bytes(content[:_LENGTH], "little")
        header = json.loads(content[_LENGTH : _LENGTH + min(length, _LARGEST_HEADER)])
        tree = json.loads(header["__metadata__"][_HEADER])
        state = _with_arrays(tree, arrays)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise StateError(
            f"The weights cannot be read: {error!r}. The file was cut short or damaged."
        ) from error
    if not isinstance(state, dict):
        raise StateError(f"The weights are those of no learner: they hold {type(state).__name__}.")
    return state


def digest(content: bytes) -> str:
    """A fingerprint of a file's content: what its writer says it is, a reader can check."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def fits(state: Any, like: Any) -> str | None:
    """Compare the form of two nests: names, lengths, and the shapes and types of arrays.

    Args:
        state: A nest.
        like: What it should be like.

    Returns:
        The first difference in words; None where there is none and all numbers are finite.
    """
    found, wanted = dict(_leaves(state, ())), dict(_leaves(like, ()))
    for path in sorted({*found, *wanted}, key="/".join):
        name = "/".join(path)
        if path not in found or path not in wanted:
            return f"{name} is {'missing' if path not in found else 'not known here'}"
        difference = _difference(found[path], wanted[path])
        if difference:
            return f"{name} {difference}"
    return None


def _difference(one: Any, other: Any) -> str | None:
    if not isinstance(one, np.ndarray) or not isinstance(other, np.ndarray):
        return (
            None
            if isinstance(one, np.ndarray) == isinstance(other, np.ndarray)
            else "is no array, or another"
        )
    if one.shape != other.shape or one.dtype != other.dtype:
        return f"is {one.dtype} {one.shape}, and {other.dtype} {other.shape} here"
    return None if one.dtype.kind != "f" or np.isfinite(one).all() else "holds numbers that are not finite"


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, (*path, str(key)))
    elif isinstance(value, list | tuple):
        for place, item in enumerate(value):
            yield from _leaves(item, (*path, str(place)))
    else:
        yield path, value


def _without_arrays(value: Any, path: tuple[str, ...], arrays: dict[str, NDArray[Any]]) -> Any:
    if isinstance(value, np.ndarray):
        name = "/".join(path)
        arrays[name] = np.asarray(value, order="C")
        return {_ARRAY: name}
    if isinstance(value, Mapping):
        return {key: _without_arrays(item, (*path, str(key)), arrays) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_arrays(item, (*path, str(place)), arrays) for place, item in enumerate(value)]
    return value.item() if isinstance(value, np.generic) else value


def _with_arrays(value: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    if isinstance(value, dict):
        if set(value) == {_ARRAY}:
            return arrays[value[_ARRAY]]
        return {key: _with_arrays(item, arrays) for key, item in value.items()}
    return [_with_arrays(item, arrays) for item in value] if isinstance(value, list) else value

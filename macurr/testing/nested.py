"""Nests of plain values: compared, taken apart, damaged, and sent through JSON and npz."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

Path = tuple[Any, ...]


def same(one: Any, other: Any, tolerance: float = 0.0) -> bool:
    """Whether two nests hold the same values, NaN being equal to NaN; types of containers do not matter."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return set(one) == set(other) and all(same(one[key], other[key], tolerance) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(lambda a, b: same(a, b, tolerance), one, other))
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return _same_arrays(np.asarray(one), np.asarray(other), tolerance)
    if isinstance(one, float) and isinstance(other, float) and one != other:
        return (math.isnan(one) and math.isnan(other)) or math.isclose(
            one, other, rel_tol=0, abs_tol=tolerance
        )
    return bool(type(one) is type(other) and one == other)


def _same_arrays(one: Any, other: Any, tolerance: float) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if one.dtype.kind in "fc":
        return bool(np.allclose(one, other, rtol=0, atol=tolerance, equal_nan=True))
    return bool(np.array_equal(one, other))


def leaves(nest: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every value that is no dict or list, with the keys that lead to it."""
    if isinstance(nest, dict):
        for key, value in nest.items():
            yield from leaves(value, (*path, key))
    elif isinstance(nest, list):
        for i, value in enumerate(nest):
            yield from leaves(value, (*path, i))
    else:
        yield path, nest


def not_plain(nest: Any, path: Path = ()) -> Iterator[str]:
    """What a state must not hold: containers other than dict and list, keys but strings, objects."""
    if isinstance(nest, dict):
        for key, value in nest.items():
            if type(key) is not str:
                yield f"the key {key!r} at {list(path)}"
            yield from not_plain(value, (*path, key))
    elif isinstance(nest, list):
        for i, value in enumerate(nest):
            yield from not_plain(value, (*path, i))
    elif isinstance(nest, np.ndarray):
        if nest.dtype.hasobject:
            yield f"an array of objects at {list(path)}"
    elif nest is not None and type(nest) not in {bool, int, float, str, np.float64}:
        yield f"a {type(nest).__name__} at {list(path)}"


def replaced(nest: Any, path: Path, value: Any) -> Any:
    """A copy of a nest with another value at the end of a path; arrays are shared."""
    if not path:
        return value
    copy = dict(nest) if isinstance(nest, dict) else list(nest)
    copy[path[0]] = replaced(copy[path[0]], path[1:], value)
    return copy


def through_files(nest: Any) -> Any:
    """What comes back after a nest has been written as JSON, its arrays as npz; the arrays are read-only."""
    arrays: dict[str, Any] = {}

    def without(value: Any) -> Any:
        if isinstance(value, dict):
            return {"": {key: without(item) for key, item in value.items()}}
        if isinstance(value, list):
            return [without(item) for item in value]
        if isinstance(value, np.ndarray):
            arrays[f"a{len(arrays)}"] = value
            return {"array": f"a{len(arrays) - 1}"}
        return value

    text, file = json.dumps(without(nest)), io.BytesIO()
    np.savez(file, **arrays)
    file.seek(0)
    with np.load(file, allow_pickle=False) as stored:
        loaded = {name: stored[name] for name in stored.files}
    for array in loaded.values():
        array.flags.writeable = False

    def back(value: Any) -> Any:
        if isinstance(value, dict):
            if "array" in value:
                return loaded[value["array"]]
            return {key: back(item) for key, item in value[""].items()}
        return [back(item) for item in value] if isinstance(value, list) else value

    return back(json.loads(text))


@contextmanager
def raises(kind: type[BaseException], promise: str, *mentioned: str) -> Iterator[list[BaseException]]:
    """Demand that the block raises an error of a kind whose message mentions something.

    Yields:
        A list that holds the error afterwards.

    Raises:
        AssertionError: it raises nothing, or something else; `promise` says what was promised.
    """
    caught: list[BaseException] = []
    try:
        yield caught
    except kind as error:
        caught.append(error)
    except Exception as error:
        raise AssertionError(f"{promise} Instead of {kind.__name__} came {error!r}.") from error
    if not caught:
        raise AssertionError(f"{promise} Instead of {kind.__name__} nothing was raised.")
    for text in mentioned:
        if text not in str(caught[0]):
            raise AssertionError(f"{promise} The message should mention {text!r}: {caught[0]}") from caught[0]

"""States on disk: one file for a nest of plain values and arrays, written whole or not at all, never a pickle.

A file is a zip archive with `tree.json`, where each array is replaced by its number, and the arrays as
`arrays/<number>.npy`. JSON carries integers of any size, so the states of random generators fit; zip carries a
checksum for each member, so damage is noticed.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from macurr.errors import StateError

__all__ = ["FORMAT", "load_state", "save_state", "write_atomically"]

FORMAT = "macurr-state-1"
"""What the files call themselves; other formats are refused."""

_TREE = "tree.json"
_ARRAY = "__array__"
_TUPLE = "__tuple__"
_DICT = "__dict__"
_MARKS = (_ARRAY, _TUPLE, _DICT)


def save_state(path: str | os.PathLike[str], state: Mapping[str, Any]) -> None:
    """Write a state to a file, which afterwards holds the old state or the new one, and never half of it.

    Args:
        path: The file; its directory must exist.
        state: A nest of dicts with string keys, lists, tuples, numbers, strings, booleans, None and NumPy arrays
            of plain dtypes (no objects).

    Raises:
        StateError: the state holds something else; nothing is written.
        OSError: the file cannot be written; what was there before is still there.
    """
    arrays: list[NDArray[Any]] = []
    tree = {"format": FORMAT, "state": _pack(state, arrays, "state")}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(_TREE, json.dumps(tree))
        for number, array in enumerate(arrays):
            with archive.open(f"arrays/{number}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    write_atomically(path, buffer.getvalue())


def load_state(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what `save_state` wrote.

    Raises:
        StateError: the file is damaged, cut short, or no state file.
        OSError: the file cannot be read.
    """
    data = Path(path).read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            tree = json.loads(archive.read(_TREE))
            if not isinstance(tree, dict) or tree.get("format") != FORMAT:
                raise StateError(_unreadable(path, f"it is not in the format {FORMAT}"))
            state = _unpack(tree["state"], archive)
    except StateError:
        raise
    # zipfile, json and numpy each have their own ways to say that bytes make no sense to them.
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError, NotImplementedError, OSError) as error:
        raise StateError(_unreadable(path, str(error))) from error
    if not isinstance(state, dict):
        raise StateError(_unreadable(path, f"it holds a {type(state).__name__} where a mapping is wanted"))
    return state


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Replace a file's content: written beside it, flushed to the disk, then renamed over it.

    Raises:
        OSError: it cannot be written; what was there before is still there.
    """
    target = Path(path)
    # The process id keeps two writers of one directory apart.
    scratch = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with scratch.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(target)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def _pack(value: Any, arrays: list[NDArray[Any]], where: str) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return _plain(value)
    if isinstance(value, np.generic):
        return _pack(value.item(), arrays, where)
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        arrays.append(value)
        return {_ARRAY: len(arrays) - 1}
    if isinstance(value, list):
        return [_pack(item, arrays, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, tuple):
        return {_TUPLE: [_pack(item, arrays, f"{where}[{i}]") for i, item in enumerate(value)]}
    if isinstance(value, Mapping):
        return _pack_mapping(value, arrays, where)
    raise StateError(
        f"{where} is a {type(value).__name__}, which a state cannot hold. Use dicts with string keys, lists, tuples, "
        "numbers, strings, None and NumPy arrays of plain dtypes."
    )


def _pack_mapping(value: Mapping[Any, Any], arrays: list[NDArray[Any]], where: str) -> Any:
    wrong = [key for key in value if not isinstance(key, str)]
    if wrong:
        raise StateError(f"{where} has the key {wrong[0]!r}; the keys of a state are strings.")
    packed = {key: _pack(item, arrays, f"{where}[{key!r}]") for key, item in value.items()}
    # A dict that looks like one of the marks is wrapped once more.
    return {_DICT: packed} if len(packed) == 1 and next(iter(packed)) in _MARKS else packed


def _plain(value: Any) -> Any:
    """Subclasses, such as those of int and str in enums, would be written by their names."""
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value


def _unpack(value: Any, archive: zipfile.ZipFile) -> Any:
    if isinstance(value, list):
        return [_unpack(item, archive) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((key, item),) = value.items()
        if key == _ARRAY:
            with archive.open(f"arrays/{int(item)}.npy") as member:
                return np.lib.format.read_array(io.BytesIO(member.read()), allow_pickle=False)
        if key == _TUPLE:
            return tuple(_unpack(part, archive) for part in item)
        if key == _DICT:
            return {name: _unpack(part, archive) for name, part in item.items()}
    return {name: _unpack(item, archive) for name, item in value.items()}


def _unreadable(path: str | os.PathLike[str], why: str) -> str:
    return (
        f"{os.fspath(path)} cannot be read as a state: {why}. It was damaged, cut short or written by something else; "
        "go back to an earlier one."
    )

"""One snapshot, one file: weights in the safetensors format, their metadata as JSON in its header."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_safetensors

from macurr.errors import PoolError

__all__ = [
    "Parameters",
    "encode_snapshot",
    "publish",
    "read_metadata",
    "read_parameters",
    "remove_leftovers",
    "sync_directory",
    "temporary_name",
]

Parameters = Mapping[str, NDArray[Any]]
"""Weights by name."""

_HEADER_KEY = "macurr"
_STALE_SECONDS = 3600.0


def encode_snapshot(parameters: Parameters, metadata: Mapping[str, Any]) -> bytes:
    """The content of a snapshot's file.

    Raises:
        PoolError: a parameter is no array of numbers, or the metadata are not plain JSON.
    """
    if not isinstance(parameters, Mapping) or not parameters:
        raise PoolError(f"A snapshot needs a mapping from names to arrays; got {type(parameters).__name__}.")
    arrays = {_name(name): _array(name, value) for name, value in parameters.items()}
    try:
        header = json.dumps(dict(metadata), allow_nan=False, default=_plain)
    except (TypeError, ValueError) as error:
        raise PoolError(f"The metadata {metadata!r} are not plain JSON values: {error}.") from error
    return to_safetensors(arrays, metadata={_HEADER_KEY: header})


def read_parameters(file: Path) -> dict[str, NDArray[Any]]:
    """The weights of a snapshot's file, immutable.

    Raises:
        PoolError: the file is damaged or cannot be read.
        FileNotFoundError: there is no such file.
    """
    with _opened(file) as snapshot:
        return {name: _frozen(snapshot.get_tensor(name)) for name in list(snapshot.keys())}


def read_metadata(file: Path) -> str:
    """The metadata of a snapshot's file, as JSON text. Reads the header only.

    Raises:
        PoolError: the file is damaged or cannot be read.
        FileNotFoundError: there is no such file.
    """
    with _opened(file) as snapshot:
        return str((snapshot.metadata() or {}).get(_HEADER_KEY, "{}"))


def publish(content: bytes, temporary: Path, final: Path) -> None:
    """Write a file so that it is there either whole or not at all, whatever happens in between.

    Raises:
        PoolError: it cannot be written (the disk is full, say); nothing is left behind.
    """
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, final)
        sync_directory(final.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise PoolError(
            f"Could not write {final}: {error}. Free some space or make the folder writable; the pool is unchanged."
        ) from error


def temporary_name(name: str) -> str:
    """A name for a file in the making that tells which process is writing it."""
    return f"{name}~{platform.node()}~{os.getpid()}~{time.monotonic_ns()}.tmp"


def remove_leftovers(folder: Path) -> None:
    """Remove files that writers left unfinished when they died; those of living writers stay."""
    for file in folder.glob("*.tmp"):
        # Another process may be tidying up too, and a pool may be read from a folder that cannot be written.
        with contextlib.suppress(OSError):
            if _abandoned(file):
                file.unlink()


def sync_directory(folder: Path) -> None:
    """Make the folder's entries survive a power cut, where the system can."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _abandoned(file: Path) -> bool:
    _, node, pid, _ = (file.name.split("~") + [""] * 3)[:4]
    if os.name == "posix" and node == platform.node() and pid.isdigit():
        return not _alive(int(pid))
    return time.time() - file.stat().st_mtime > _STALE_SECONDS


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it lives, as another user
        return True
    return True


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[Any]:
    try:
        with safe_open(str(file), framework="numpy") as snapshot:
            yield snapshot
    except FileNotFoundError:
        raise
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        raise PoolError(
            f"The snapshot file {file} cannot be read: {error}. It was cut short or damaged: put back a good copy, "
            "or remove the snapshot from the pool; the other snapshots are not affected."
        ) from error


def _name(name: Any) -> str:
    if not isinstance(name, str) or name in {"", "__metadata__"}:
        raise PoolError(f"Parameters are named by strings; got {name!r}.")
    return name


def _array(name: str, value: Any) -> NDArray[Any]:
    try:
        array = np.asarray(value, order="C")
    except (TypeError, ValueError, RuntimeError) as error:
        raise PoolError(
            f"Parameter {name!r} is no NumPy array: {error}. Convert PyTorch tensors by tensor.detach().cpu().numpy()."
        ) from error
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise PoolError(
            f"Parameter {name!r} has dtype {array.dtype}. Snapshots hold booleans, integers and floats."
        )
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    """The same numbers over immutable bytes: not even its flags can make this array writable."""
    frozen: NDArray[Any] = np.ndarray(array.shape, array.dtype, array.tobytes())
    return frozen


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r} is a {type(value).__name__}")

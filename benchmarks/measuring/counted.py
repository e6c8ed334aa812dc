"""Any parallel environment, with its steps counted where another process can read them at any moment."""

from __future__ import annotations

import mmap
import struct
import tempfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from pettingzoo import ParallelEnv

BYTES = 8


def parallel_env(env: str, args: Mapping[str, Any], folder: str) -> ParallelEnv[str, Any, Any]:
    """An environment whose steps are counted in a file of its own.

    Args:
        env: Import path of the module that makes it.
        args: Keywords for it.
        folder: Where the files are.
    """
    made = import_module(env).parallel_env(**args)
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
        file.write(bytes(BYTES))
        file.flush()
        count = memoryview(mmap.mmap(file.fileno(), BYTES)).cast("q")
    step = made.step

    def counted(actions: Any) -> Any:
        count[0] += 1
        return step(actions)

    made.step = counted  # on the instance: what is between a trainer and its environment stays what it is
    return made


def steps_in(folder: str) -> int:
    """Steps of all environments that count into a folder."""
    counts = (path.read_bytes() for path in Path(folder).iterdir())
    return sum(struct.unpack("q", count)[0] for count in counts if len(count) == BYTES)

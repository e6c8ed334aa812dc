"""Bounds on torch's threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["bounded_threads"]


@contextmanager
def bounded_threads(count: int) -> Iterator[None]:
    """Let torch use so many threads for the time of a `with` block.

    Inference for a few dozen rows is over in microseconds; threads that wait for each other on a busy machine make
    it take milliseconds.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)

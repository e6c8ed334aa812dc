"""Numbers to TensorBoard or Weights & Biases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from macurr.errors import UsageError

__all__ = ["write_scalars"]


def write_scalars(writer: Any, scalars: Mapping[str, float], step: int | None) -> None:
    """Write numbers to a SummaryWriter-like or wandb-like object.

    Raises:
        UsageError: the writer has neither `add_scalar` nor `log`.
    """
    if hasattr(writer, "add_scalar"):
        for tag, value in scalars.items():
            writer.add_scalar(tag, value, step)
    elif hasattr(writer, "log"):
        writer.log(dict(scalars), step=step)
    else:
        raise UsageError(f"A writer has add_scalar (TensorBoard) or log (wandb); {writer!r} has neither.")

"""What the groups of a collector have in common, and what is due at the end of a rollout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from macurr.training.layout import Layout

__all__ = ["Cuts", "Kinds"]


@dataclass(frozen=True)
class Kinds:
    """What is the same for all groups.

    Attributes:
        layout: How the environments are laid out.
        steps: Steps of a rollout, T.
        memory: Numbers that a policy remembers of a stream, H; 0 for none.
        others_memory: Numbers that a snapshot remembers of an agent that it plays; 0 for none.
        central: Whether there is a centralised critic, who sees every agent's row.
        opponent: The place of the opponent in a task; None where every agent learns.
        level: The place of the level in a task.
        warm_up: Steps over which environments start one after the other.
        envs: Environments of the run.
    """

    layout: Layout
    steps: int
    memory: int
    others_memory: int
    central: bool
    opponent: int | None
    level: int
    warm_up: int
    envs: int


@dataclass
class Cuts:
    """Streams that were truncated with one step: the value of what they saw last is due.

    Attributes:
        step: The step.
        streams: int64 (k,).
        policies: int16 (k,), who played them.
        observations: float32 or uint8 (k, F).
        state: float32 (k, H), or None.
        central: (k, C), or None.
    """

    step: int
    streams: NDArray[np.int64]
    policies: NDArray[np.int16]
    observations: NDArray[Any]
    state: NDArray[np.float32] | None
    central: NDArray[Any] | None

"""What a step of many environments gives, as packed arrays. Imported by workers: no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from macurr.training.layout import Layout

__all__ = ["TRUE_OBJECTIVE", "Finals", "Frame", "FrameShape"]

TRUE_OBJECTIVE = "true_objective"
"""The key of `infos[agent]` under which an environment says, with an agent's last step, how well it did."""


@dataclass(frozen=True)
class FrameShape:
    """The sizes of a frame.

    Attributes:
        envs: Environments, E.
        agents: Agents of each, A.
        features: Length of an observation row, F.
        actions: Length of an action mask, N; 0 where observations bring none.
        task: Numbers of a task, K.
        dtype: Of observations: float32, or uint8 for images.
    """

    envs: int
    agents: int
    features: int
    actions: int
    task: int
    dtype: type[np.float32] | type[np.uint8] = np.float32

    @classmethod
    def of(cls, layout: Layout, envs: int, task: int) -> FrameShape:
        """The sizes of a frame of that many environments, with tasks of that many numbers."""
        masks = layout.actions if layout.masked else 0
        return cls(envs, len(layout.agents), layout.features, masks, task, layout.dtype)

    def parts(self) -> dict[str, tuple[tuple[int, ...], type]]:
        """Shape and dtype of each array of a frame, widest dtype first, so that all are aligned."""
        e, a = self.envs, self.agents
        arrays: dict[str, tuple[tuple[int, ...], type]] = {
            "tasks": ((e, self.task), np.float64),
            "objectives": ((e, a), np.float64),
            "rewards": ((e, a), np.float32),
            "observations": ((e, a, self.features), self.dtype),
            "masks": ((e, a, self.actions), np.bool_),
            "alive": ((e, a), np.bool_),
            "terminated": ((e, a), np.bool_),
            "truncated": ((e, a), np.bool_),
            "ended": ((e,), np.bool_),
        }
        return arrays


class Frame:
    """What one step of E environments gave, as arrays that share one buffer.

    Attributes:
        tasks: float64 (E, K), the task of the episode that `observations` belong to.
        objectives: float64 (E, A), where an episode has just ended, the `TRUE_OBJECTIVE` of each agent in it; NaN where
            the environment says none.
        observations: float32 or uint8 (E, A, F), what the agents act on next: where an episode has just ended, the
            first of the next one. Agents that are out of the episode see zeros and their indicator.
        rewards: float32 (E, A), of the step before.
        masks: bool (E, A, N), the actions that the observations allow; all of its own for who does not act.
        alive: bool (E, A), who acts next. Where agents act in turns, the one whose turn it is; the others that are
            still in the episode see what there is to see.
        terminated: bool (E, A), whose episode ended by the rules with the step before. Told once.
        truncated: bool (E, A), whose episode was cut off with the step before. Told once, and not of the terminated.
        ended: bool (E,), in which environments a new episode has begun.
        size: Bytes of all.
        buffer: The bytes.
    """

    tasks: NDArray[np.float64]
    objectives: NDArray[np.float64]
    observations: NDArray[Any]
    rewards: NDArray[np.float32]
    masks: NDArray[np.bool_]
    alive: NDArray[np.bool_]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    ended: NDArray[np.bool_]

    def __init__(self, shape: FrameShape, buffer: bytearray | None = None, start: int = 0) -> None:
        parts = shape.parts()
        sizes = [int(np.prod(dims)) * np.dtype(kind).itemsize for dims, kind in parts.values()]
        self.size = sum(sizes)
        self.buffer = bytearray(self.size) if buffer is None else buffer
        for (name, (dims, kind)), size in zip(parts.items(), sizes, strict=True):
            flat: NDArray[Any] = np.frombuffer(self.buffer, kind, int(np.prod(dims)), start)
            setattr(self, name, flat.reshape(dims))
            start += size


@dataclass(frozen=True)
class Finals:
    """What learners saw last where their episode was truncated: the value of it belongs to their return.

    Attributes:
        envs: int64 (n,), the environments.
        agents: int64 (n,), the learners' numbers.
        observations: `dtype` of the frame (n, F).
    """

    envs: NDArray[np.int64]
    agents: NDArray[np.int64]
    observations: NDArray[Any]

    @classmethod
    def none(cls, shape: FrameShape) -> Finals:
        """Nothing was truncated."""
        nobody = np.zeros(0, np.int64)
        return cls(nobody, nobody, np.zeros((0, shape.features), shape.dtype))

    def packed(self) -> tuple[bytes, ...]:
        """The bytes of what there is, to follow those of a frame; nothing where nothing was truncated."""
        if not len(self.envs):
            return ()
        return self.envs.tobytes(), self.agents.tobytes(), self.observations.tobytes()

    @classmethod
    def unpacked(cls, shape: FrameShape, buffer: bytearray, start: int) -> Finals:
        """What follows a frame that ends at `start`."""
        row = shape.features * np.dtype(shape.dtype).itemsize + 16
        count = (len(buffer) - start) // row
        if not count:
            return cls.none(shape)
        envs, agents = np.frombuffer(buffer, np.int64, 2 * count, start).reshape(2, count)
        seen: NDArray[Any] = np.frombuffer(buffer, shape.dtype, offset=start + 16 * count)
        return cls(envs, agents, seen.reshape(count, shape.features))

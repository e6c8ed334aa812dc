"""What a policy is trained on, picked out of rollouts."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from macurr.errors import StateError
from macurr.training.batches import Samples, Sequences
from macurr.training.rollout import Rollout

__all__ = ["samples_of", "sequences_of"]

Bools = NDArray[np.bool_]


def samples_of(whole: Rollout, estimates: NDArray[np.float32], used: Bools) -> Samples:
    """The steps to train a policy without memory on.

    Args:
        whole: The rollout.
        estimates: Its advantages, float32 (T, S).
        used: Which steps, bool (T, S).

    Returns:
        They, in order of steps and streams.
    """
    everything = bool(used.all())

    def tensor(array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array.reshape(-1, *array.shape[2:]) if everything else array[used])

    return Samples(
        tensor(whole.observations),
        None if whole.masks is None else tensor(whole.masks),
        tensor(whole.actions),
        tensor(whole.log_probs),
        tensor(whole.values),
        tensor(estimates),
        None if whole.central is None else tensor(whole.central[:, whole.central_of]),
    )


def sequences_of(whole: Rollout, estimates: NDArray[np.float32], own: Bools, used: Bools) -> Sequences:
    """The streams to train a policy with a memory on, whole, with the steps that count marked.

    Args:
        whole: The rollout.
        estimates: Its advantages, float32 (T, S).
        own: At which steps the policy acted, bool (T, S).
        used: Which of them count.

    Raises:
        StateError: the rollout does not say what its policies remembered.
    """
    streams = np.flatnonzero(used.any(axis=0))

    def tensor(array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array[:, streams])

    if whole.state0 is None:  # never: policies with a memory note what they remembered
        raise StateError("The rollout does not say what its policies remembered.")
    return Sequences(
        tensor(whole.observations),
        None if whole.masks is None else tensor(whole.masks),
        tensor(whole.actions),
        tensor(whole.log_probs),
        tensor(whole.values),
        tensor(estimates),
        tensor(used),
        tensor(whole.starts),
        torch.from_numpy(whole.state0[streams]),
        None if whole.central is None else torch.from_numpy(whole.central[:, whole.central_of[streams]]),
        tensor(own),
    )

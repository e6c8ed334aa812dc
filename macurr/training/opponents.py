"""Opponents: frozen snapshots that act in batches, each row by the snapshot it is played by."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from macurr.training.policy import PolicySpec, mlp_forward, sample

__all__ = ["RANDOM", "PolicyBank"]

RANDOM = -1
"""The id of the policy that chooses uniformly (with continuous actions: by a standard normal, clipped)."""

Layers = list[tuple[Tensor, Tensor]]


class PolicyBank:
    """Policies by id, loaded when first needed, the least recently used dropped.

    Args:
        spec: The sizes of all of them; hidden layers may differ.
        load: Gives the parameters of an id, such as `AgentPool.get`.
        capacity: How many to keep loaded.
    """

    def __init__(
        self, spec: PolicySpec, load: Callable[[int], Mapping[str, NDArray[Any]]], capacity: int = 64
    ) -> None:
        self._spec = spec
        self._load = load
        self._capacity = capacity
        self._loaded: OrderedDict[int, tuple[Layers, Tensor | None]] = OrderedDict()

    def act(
        self,
        observations: Tensor,
        masks: Tensor | None,
        ids: NDArray[np.int64],
        generator: torch.Generator,
    ) -> Tensor:
        """Choose an action for each row.

        Args:
            observations: float32 (n, features).
            masks: bool (n, actions), or None.
            ids: int64 (n,), who plays each row.
            generator: Where chance comes from.

        Returns:
            int64 (n,), or float32 (n, actions).

        Raises:
            PoolError: a snapshot cannot be loaded.
        """
        width = self._spec.actions if self._spec.discrete else 2 * self._spec.actions
        params = torch.zeros(len(ids), width)
        for number in np.unique(ids).tolist():
            if number == RANDOM:
                continue
            rows = torch.from_numpy(np.flatnonzero(ids == number))
            layers, log_std = self._get(number)
            out = mlp_forward(layers, observations[rows])
            params[rows] = out if log_std is None else torch.cat([out, log_std.expand_as(out)], dim=-1)
        return sample(self._spec, params, masks, generator)

    def _get(self, number: int) -> tuple[Layers, Tensor | None]:
        if number not in self._loaded:
            self._loaded[number] = _layers(self._load(number))
            if len(self._loaded) > self._capacity:
                self._loaded.popitem(last=False)
        self._loaded.move_to_end(number)
        return self._loaded[number]


def _layers(parameters: Mapping[str, NDArray[Any]]) -> tuple[Layers, Tensor | None]:
    """The actor's layers, as many as there are: policies of other depths may meet."""

    def tensor(name: str) -> Tensor:
        return torch.from_numpy(np.array(parameters[name], np.float32))

    depth = sum(name.startswith("actor.") and name.endswith(".weight") for name in parameters)
    layers = [(tensor(f"actor.{2 * i}.weight"), tensor(f"actor.{2 * i}.bias")) for i in range(depth)]
    return layers, tensor("log_std") if "log_std" in parameters else None

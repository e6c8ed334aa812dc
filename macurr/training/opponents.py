"""Opponents: frozen snapshots that act in batches, each row by the policy of the snapshot it is played by."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from macurr.errors import PoolError, StateError
from macurr.training.plain import Plain, Team
from macurr.training.policy import Actor
from macurr.training.specs import PolicySpec

__all__ = ["RANDOM", "PolicyBank", "policies_of", "snapshot_of"]

RANDOM = -1
"""The id of the policy that chooses uniformly (with continuous actions: by a standard normal, clipped)."""

Weights = Mapping[str, NDArray[Any]]
_CASTS = 64
"""Batches of which it is kept who plays them: about one for each group of environments is needed again."""


def snapshot_of(policies: Sequence[Actor]) -> dict[str, NDArray[Any]]:
    """The policies of one moment as one snapshot: arrays named `policy_{p}.{parameter}`."""
    return {
        f"policy_{p}.{name}": array
        for p, policy in enumerate(policies)
        for name, array in policy.arrays().items()
    }


def policies_of(snapshot: Weights) -> list[dict[str, NDArray[Any]]]:
    """The arrays of each policy of a snapshot; one whose arrays bear no policy's name holds one policy."""
    if not any(name.startswith("policy_") for name in snapshot):
        return [dict(snapshot)]
    found: dict[str, dict[str, NDArray[Any]]] = {}
    for name, array in snapshot.items():
        policy, _, parameter = name.partition(".")
        found.setdefault(policy, {})[parameter] = array
    wanted = [f"policy_{p}" for p in range(len(found))]
    if set(found) != set(wanted):
        raise StateError(f"The arrays of a snapshot are of {sorted(found)}; wanted are {wanted}.")
    return [found[name] for name in wanted]


class PolicyBank:
    """Snapshots by id, loaded when first needed, the least recently used dropped.

    On processors, small ones without a memory are computed together: see `Team`.

    Args:
        spec: What policies read and do. Hidden layers, memories and normalisation are each snapshot's own.
        load: Gives the arrays of an id, such as `AgentPool.get`.
        capacity: How many snapshots to keep loaded.
        device: Where they act.

    Attributes:
        state_size: Numbers that an opponent remembers between steps, at most.
    """

    def __init__(
        self,
        spec: PolicySpec,
        load: Callable[[int], Weights],
        capacity: int = 64,
        device: torch.device | None = None,
    ) -> None:
        self._spec, self._load, self._capacity = spec, load, capacity
        self._device = device or torch.device("cpu")
        self._loaded: OrderedDict[int, list[Actor | Plain]] = OrderedDict()
        self._casts: OrderedDict[tuple[bytes, bytes], _Cast] = OrderedDict()
        self.state_size = spec.actor_state_size

    def initial_state(self, n: int) -> Tensor | None:
        """What n opponents remember at the start of an episode, zeros (n, state_size); None without a memory."""
        return torch.zeros(n, self.state_size) if self.state_size else None

    @torch.no_grad()
    def act(
        self,
        observations: Tensor,
        masks: Tensor | None,
        ids: NDArray[np.int64],
        policies: NDArray[np.int64],
        states: Tensor | None,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor | None]:
        """Choose an action for each row.

        Args:
            observations: float32 or uint8 (n, features).
            masks: bool (n, actions), or None.
            ids: int64 (n,), the snapshot that plays each row.
            policies: int64 (n,), which of its policies.
            states: float32 (n, at least state_size), what each row's player remembers; None where no snapshot has a
                memory. It is not changed.
            generator: Where chance comes from.

        Returns:
            Actions, int64 (n,) or (n, parts), or float32 (n, coordinates); and the states after the step. Both are
            on the device of `observations`.

        Raises:
            PoolError: a snapshot cannot be loaded, is of another architecture, has no such policy, or has a larger
                memory than `states` has room for.
        """
        home, device = observations.device, self._device
        after = None if states is None else states.to(device, copy=True)
        cast = self._cast(ids, policies)
        params = torch.zeros(len(ids), self._spec.distribution.width, device=device)
        seen = observations.to(device)
        for team, rows in cast.teams:
            params.numpy()[rows] = team.parameters(seen.numpy().take(rows, 0))
        for number, actor, chosen in cast.alone:
            before = _room(number, after, actor.spec.actor_state_size)
            memory = None if before is None else before.index_select(0, chosen)
            outputs, memory = actor.actor(actor.encode(seen.index_select(0, chosen)), memory)
            params[chosen] = actor.parameters_of(outputs)
            if before is not None:
                before[chosen] = memory
        masks = None if masks is None else masks.to(device)
        actions = self._spec.distribution.sample(params, masks, generator)
        return actions.to(home), None if after is None else after.to(home)

    def _cast(self, ids: NDArray[np.int64], policies: NDArray[np.int64]) -> _Cast:
        """Who plays which rows. It is kept for the next steps: opponents stay for whole episodes."""
        key = (ids.tobytes(), policies.tobytes())
        found = self._casts.get(key)
        if found is None:
            rows = _rows(ids, policies)
            found = _Cast([(who[0], self._get(*who), own) for who, own in rows], self._device)
            if all(number in self._loaded for number in found.numbers):
                self._casts[key] = found
            if len(self._casts) > _CASTS:
                self._casts.popitem(last=False)
        for number in found.numbers:
            if number in self._loaded:
                self._loaded.move_to_end(number)
        return found

    def _get(self, number: int, policy: int) -> Actor | Plain:
        if number not in self._loaded:
            self._loaded[number] = self._build(number)
            if len(self._loaded) > self._capacity:
                self._loaded.popitem(last=False)
                self._casts.clear()
        self._loaded.move_to_end(number)
        found = self._loaded[number]
        if not 0 <= policy < len(found):
            raise PoolError(
                f"Snapshot {number} holds {len(found)} policies; policy {policy} was asked for. It is of a run with "
                "another num_policies."
            )
        return found[policy]

    def _build(self, number: int) -> list[Actor | Plain]:
        try:
            actors = [
                _actor(self._spec, arrays).to(self._device) for arrays in policies_of(self._load(number))
            ]
        except (LookupError, ArithmeticError, ValueError) as error:
            raise PoolError(
                f"Snapshot {number} is of another architecture than this environment's policies ({error}). Name one "
                "that was taken on this environment, of a run that this version of macurr can read."
            ) from error
        return [actor.plain() or actor for actor in actors]


class _Cast:
    """Who plays which rows of a batch.

    Args:
        players: Snapshots, their policies and the rows of each, int64 (k,).
        device: Where policies act that are no arrays.

    Attributes:
        numbers: The snapshots, in the order in which they were needed.
        teams: What plays together, and its rows, policy by policy.
        alone: Snapshots of which each plays by itself, their policies, and their rows.
    """

    def __init__(self, players: Sequence[tuple[int, Actor | Plain, list[int]]], device: torch.device) -> None:
        self.numbers = list(dict.fromkeys(number for number, _, _ in players))
        self.alone: list[tuple[int, Actor, Tensor]] = []
        kinds: dict[Any, list[tuple[Plain, list[int]]]] = {}
        for number, player, rows in players:
            if isinstance(player, Plain):
                kinds.setdefault(player.kind, []).append((player, rows))
            else:
                self.alone.append((number, player, torch.tensor(rows, device=device)))
        self.teams = [
            (
                Team([player for player, _ in own], [len(rows) for _, rows in own]),
                np.array([row for _, rows in own for row in rows]),
            )
            for own in kinds.values()
        ]


def _rows(ids: NDArray[np.int64], policies: NDArray[np.int64]) -> list[tuple[tuple[int, int], list[int]]]:
    """(snapshot, policy) and its rows, for each that plays and is not `RANDOM`."""
    found: dict[tuple[int, int], list[int]] = {}
    for row, who in enumerate(zip(ids.tolist(), policies.tolist(), strict=True)):
        if who[0] != RANDOM:
            found.setdefault(who, []).append(row)
    return sorted(found.items())


def _room(number: int, states: Tensor | None, size: int) -> Tensor | None:
    """The columns of the states that a snapshot uses, a view; None where it has no memory."""
    if not size:
        return None
    given = 0 if states is None else states.shape[1]
    if states is None or given < size:
        raise PoolError(
            f"Snapshot {number} remembers {size} numbers between steps, and states of {given} were given. Give "
            "states that are wide enough, from initial_state()."
        )
    return states[:, :size]


def _actor(spec: PolicySpec, arrays: Weights) -> Actor:
    """The policy whose arrays these are, of its own layers: policies of other depths may meet."""
    widths = {
        int(name.split(".")[1]): array.shape[0]
        for name, array in arrays.items()
        if name.startswith("actor.") and name.endswith(".weight")
    }
    recurrent, size = "none", 0
    if "actor.memory.weight_hh" in arrays:
        rows, size = arrays["actor.memory.weight_hh"].shape
        recurrent = {4: "lstm", 3: "gru"}[rows // size]
    own = replace(
        spec,
        hidden=tuple(widths[place] for place in sorted(widths)[:-1]),
        recurrent=recurrent,
        recurrent_size=size,
        normalize_observations="normaliser.mean" in arrays,
    )
    actor = Actor(own)
    actor.load_arrays({name: arrays[name] for name in actor.state_dict()})
    return actor

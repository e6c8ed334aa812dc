"""Choosing actions for a group of environments: learners by the live policies, all others by snapshots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from macurr.training.kinds import Cuts, Kinds
from macurr.training.layout import Layout
from macurr.training.opponents import PolicyBank
from macurr.training.policy import Policy
from macurr.training.rollout import Rollout
from macurr.training.streams import Streams

__all__ = ["Actors", "Crew"]

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Crew:
    """The live policies of a moment.

    Attributes:
        policies: The policies, P of them.
        versions: Their versions.
    """

    policies: Sequence[Policy]
    versions: Sequence[int]


class Actors:
    """Plays groups of environments and writes down what the learners did.

    Args:
        layout: How environments are laid out.
        kinds: What is the same for all groups.
        bank: The opponents.
        generator: Where chance comes from.
    """

    def __init__(self, layout: Layout, kinds: Kinds, bank: PolicyBank, generator: torch.Generator) -> None:
        self._layout, self._kinds, self._bank = layout, kinds, bank
        self.generator = generator

    @torch.no_grad()
    def act(self, streams: Streams, crew: Crew) -> NDArray[Any]:
        """Choose actions for all agents of a group, and write down those of the learners.

        Returns:
            int64 (E, A) or (E, A, D), or float32 (E, A, N).
        """
        layout = self._layout
        envs, agents = streams.learns.shape
        everyone = np.zeros((envs * agents, *layout.action_shape), layout.action_dtype)
        self._play_others(streams, everyone)
        self._play_learners(streams, crew, everyone)
        return everyone.reshape(envs, agents, *layout.action_shape)

    @torch.no_grad()
    def finish(self, streams: Streams, crew: Crew) -> Rollout:
        """Complete a rollout with the values of what follows it, and of what truncated streams saw last."""
        rollout = streams.rollout
        if rollout is None:  # never: the collector asks for full rollouts only
            raise RuntimeError("There is no rollout to finish.")
        # Who does not act now is worth what it was worth when it last did.
        rollout.last_values[:] = streams.last_seen
        central = streams.everything()[streams.env_of] if self._kinds.central else None
        seen, memory = streams.seen(), streams.memory if self._kinds.memory else None
        for number, rows in _by_policy(streams.played(), streams.alive()):
            rollout.last_values[rows] = _values(crew.policies[number], rows, seen, memory, central)
        self._value_cuts(rollout, streams.cuts, crew)
        streams.rollout = None
        return rollout

    # Learners

    def _play_learners(self, streams: Streams, crew: Crew, everyone: NDArray[Any]) -> None:
        seen, alive, played = streams.seen(), streams.alive(), streams.played()
        masks = streams.masks(streams.flat)
        central = streams.everything() if self._kinds.central else None
        self._write_sight(streams, seen, alive, played, masks, central)
        own = None if central is None else central[streams.env_of]
        memory = streams.memory if self._kinds.memory else None
        for number, rows in _by_policy(played, alive):
            step = crew.policies[number].step(
                torch.from_numpy(seen[rows]),
                _tensor(masks, rows),
                _tensor(memory, rows),
                self.generator,
                _tensor(own, rows),
            )
            actions = step.actions.numpy()
            values = step.values.numpy()
            everyone[streams.flat[rows]] = actions
            streams.last_seen[rows] = values
            if step.state is not None:
                streams.memory[rows] = step.state.numpy()
            rollout, t = streams.rollout, streams.step
            if rollout is not None:
                rollout.actions[t, rows] = actions
                rollout.log_probs[t, rows] = step.log_probs.numpy()
                rollout.values[t, rows] = values
                rollout.versions[t, rows] = crew.versions[number]

    def _write_sight(
        self,
        streams: Streams,
        seen: NDArray[Any],
        alive: NDArray[np.bool_],
        played: NDArray[np.int16],
        masks: NDArray[np.bool_] | None,
        central: NDArray[Any] | None,
    ) -> None:
        rollout, t = streams.rollout, streams.step
        if rollout is None:
            return
        rollout.observations[t] = seen
        rollout.valid[t], rollout.policies[t], rollout.starts[t] = alive, played, streams.starting()
        if rollout.masks is not None and masks is not None:
            rollout.masks[t] = masks
        if rollout.central is not None:
            rollout.central[t] = central

    # Opponents

    def _play_others(self, streams: Streams, everyone: NDArray[Any]) -> None:
        if self._kinds.opponent is None:
            return
        places = streams.others_acting()
        if not len(places):
            return
        frame, envs = streams.playing, places // streams.learns.shape[1]
        masks = streams.masks(places)
        memory = streams.others_memory.reshape(streams.learns.size, -1) if self._kinds.others_memory else None
        actions, after = self._bank.act(
            torch.from_numpy(frame.observations.reshape(streams.learns.size, -1).take(places, 0)),
            None if masks is None else torch.from_numpy(masks),
            streams.tasks[envs, self._kinds.opponent].astype(np.int64),
            streams.policies.take(places).astype(np.int64),
            _tensor(memory, places),
            self.generator,
        )
        everyone[places] = actions.numpy()
        if memory is not None and after is not None:
            memory[places] = after.numpy()

    # Values

    def _value_cuts(self, rollout: Rollout, cuts: Sequence[Cuts], crew: Crew) -> None:
        """The values of what streams saw last whose episodes were truncated, in one go."""
        if not cuts:
            return
        rollout.cut_steps = np.concatenate([np.full(len(cut.streams), cut.step, np.int64) for cut in cuts])
        rollout.cut_streams = np.concatenate([cut.streams for cut in cuts])
        rollout.cut_values = np.zeros(len(rollout.cut_steps), np.float32)
        played = np.concatenate([cut.policies for cut in cuts])
        seen = np.concatenate([cut.observations for cut in cuts])
        memory = _joined([cut.state for cut in cuts])
        central = _joined([cut.central for cut in cuts])
        for number, rows in _by_policy(played, np.ones(len(played), np.bool_)):
            rollout.cut_values[rows] = _values(crew.policies[number], rows, seen, memory, central)


def _values(
    policy: Policy,
    rows: Rows | slice,
    seen: NDArray[Any],
    memory: NDArray[Any] | None,
    central: NDArray[Any] | None,
) -> NDArray[np.float32]:
    found: NDArray[np.float32] = policy.values(
        torch.from_numpy(seen[rows]), _tensor(memory, rows), _tensor(central, rows)
    ).numpy()
    return found


def _by_policy(played: NDArray[np.int16], acting: NDArray[np.bool_]) -> Iterator[tuple[int, Rows | slice]]:
    """Who acts, by the policy that plays them; a slice where that is everybody."""
    everybody = np.count_nonzero(acting) == len(acting)
    numbers = set((played if everybody else played[acting]).tolist())
    if everybody and len(numbers) == 1:
        yield numbers.pop(), slice(None)
        return
    for number in sorted(numbers):
        yield number, np.flatnonzero(acting & (played == number))


def _joined(parts: Sequence[NDArray[Any] | None]) -> NDArray[Any] | None:
    whole = [part for part in parts if part is not None]
    return np.concatenate(whole) if whole else None


def _tensor(array: NDArray[Any] | None, rows: Rows | slice) -> Tensor | None:
    return None if array is None else torch.from_numpy(array[rows])

"""What a learner is trained on: single steps, or whole sequences for policies with a memory."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

__all__ = ["Samples", "Sequences", "Targets"]


@dataclass(frozen=True)
class Targets:
    """What n steps are trained towards.

    Attributes:
        masks: bool (n, actions), or None.
        actions: int64 (n,) or (n, parts), or float32 (n, coordinates).
        log_probs: float32 (n,).
        values: float32 (n,).
        advantages: float32 (n,).
    """

    masks: Tensor | None
    actions: Tensor
    log_probs: Tensor
    values: Tensor
    advantages: Tensor

    def __len__(self) -> int:
        return len(self.advantages)

    @property
    def returns(self) -> Tensor:
        """What the critic is to predict, in units of reward, (n,)."""
        return self.advantages + self.values


@dataclass(frozen=True)
class Samples:
    """A batch of n steps.

    Attributes:
        observations: float32 or uint8 (n, features).
        masks: bool (n, actions), or None.
        actions: int64 (n,) or (n, parts), or float32 (n, coordinates).
        log_probs: float32 (n,), of the actions under the policy that chose them.
        values: float32 (n,), what that policy expected, in units of reward.
        advantages: float32 (n,), in units of reward; with `values` they add up to the returns to predict.
        central: float32 or uint8 (n, central), what a centralised critic reads besides; or None.
    """

    observations: Tensor
    masks: Tensor | None
    actions: Tensor
    log_probs: Tensor
    values: Tensor
    advantages: Tensor
    central: Tensor | None = None

    def __len__(self) -> int:
        return len(self.advantages)

    @property
    def units(self) -> int:
        """What minibatches are made of: steps."""
        return len(self)

    @property
    def unit(self) -> int:
        """Steps of a unit."""
        return 1

    @property
    def sights(self) -> Tensor:
        """The observations of the steps that count, (n, features)."""
        return self.observations

    def targets(self) -> Targets:
        """What the steps that count are trained towards."""
        return Targets(self.masks, self.actions, self.log_probs, self.values, self.advantages)

    def live(self) -> Samples:
        """The units of which any step counts: all."""
        return self

    def pick(self, rows: Tensor) -> Samples:
        """Some of the steps, by their numbers int64 (k,)."""
        return Samples(
            self.observations.index_select(0, rows),
            None if self.masks is None else self.masks.index_select(0, rows),
            self.actions.index_select(0, rows),
            self.log_probs.index_select(0, rows),
            self.values.index_select(0, rows),
            self.advantages.index_select(0, rows),
            None if self.central is None else self.central.index_select(0, rows),
        )

    def to(self, device: torch.device) -> Samples:
        """The batch on a device."""
        return Samples(
            self.observations.to(device),
            None if self.masks is None else self.masks.to(device),
            self.actions.to(device),
            self.log_probs.to(device),
            self.values.to(device),
            self.advantages.to(device),
            None if self.central is None else self.central.to(device),
        )


@dataclass(frozen=True)
class Sequences:
    """T steps of B streams, with what they remembered before the first.

    Attributes:
        observations: float32 or uint8 (T, B, features).
        masks: bool (T, B, actions), or None.
        actions: int64 (T, B) or (T, B, parts), or float32 (T, B, coordinates).
        log_probs: float32 (T, B), as of `Samples`.
        values: float32 (T, B).
        advantages: float32 (T, B).
        valid: bool (T, B), which steps count: what the others hold changes nothing, as long as it is finite.
        starts: bool (T, B), whether the step's observation is the first of an episode, also where the stream does
            not act on it: what was remembered is forgotten before it.
        state: float32 (B, state_size), what the streams remembered before the first step.
        central: float32 or uint8 (T, B, central), or None.
        acts: bool (T, B), at which steps the stream acted by this policy, so that its memory moved: `valid` and
            those that do not count for another reason, such as for their age. By default `valid`.
    """

    observations: Tensor
    masks: Tensor | None
    actions: Tensor
    log_probs: Tensor
    values: Tensor
    advantages: Tensor
    valid: Tensor
    starts: Tensor
    state: Tensor
    central: Tensor | None = None
    acts: Tensor = field(default=None)  # type: ignore[assignment]  # set below

    def __post_init__(self) -> None:
        if self.acts is None:
            object.__setattr__(self, "acts", self.valid)

    def __len__(self) -> int:
        return int(self.valid.sum())

    @property
    def units(self) -> int:
        """What minibatches are made of: streams."""
        return self.valid.shape[1]

    @property
    def unit(self) -> int:
        """Steps of a unit."""
        return self.valid.shape[0]

    @property
    def sights(self) -> Tensor:
        """The observations of the steps that count, (n, features), in order of steps and streams."""
        return self.observations[self.valid]

    def targets(self) -> Targets:
        """What the steps that count are trained towards, in the same order."""
        rows = self.valid
        return Targets(
            None if self.masks is None else self.masks[rows],
            self.actions[rows],
            self.log_probs[rows],
            self.values[rows],
            self.advantages[rows],
        )

    def live(self) -> Sequences:
        """The streams of which any step counts."""
        streams = self.valid.any(dim=0)
        return self if bool(streams.all()) else self.pick(streams.nonzero().squeeze(-1))

    def pick(self, streams: Tensor) -> Sequences:
        """Some of the streams, by their numbers int64 (k,)."""
        return Sequences(
            self.observations.index_select(1, streams),
            None if self.masks is None else self.masks.index_select(1, streams),
            self.actions.index_select(1, streams),
            self.log_probs.index_select(1, streams),
            self.values.index_select(1, streams),
            self.advantages.index_select(1, streams),
            self.valid.index_select(1, streams),
            self.starts.index_select(1, streams),
            self.state.index_select(0, streams),
            None if self.central is None else self.central.index_select(1, streams),
            self.acts.index_select(1, streams),
        )

    def to(self, device: torch.device) -> Sequences:
        """The batch on a device."""
        return Sequences(
            self.observations.to(device),
            None if self.masks is None else self.masks.to(device),
            self.actions.to(device),
            self.log_probs.to(device),
            self.values.to(device),
            self.advantages.to(device),
            self.valid.to(device),
            self.starts.to(device),
            self.state.to(device),
            None if self.central is None else self.central.to(device),
            self.acts.to(device),
        )

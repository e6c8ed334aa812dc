"""Policies: what agents act by, and what is expected of it.

One policy is shared by the agents that it plays, who are told apart by the indicator that they see.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from macurr.errors import StateError, UsageError
from macurr.training.batches import Samples, Sequences, Targets
from macurr.training.networks import Network, Torso
from macurr.training.normalisers import ObservationNormaliser, ReturnNormaliser
from macurr.training.plain import Plain
from macurr.training.specs import PolicySpec

__all__ = ["Actor", "Policy", "PolicySpec", "Step"]


@dataclass(frozen=True, slots=True)
class Step:
    """What a policy does at one step of n streams.

    Attributes:
        actions: int64 (n,) or (n, parts), or float32 (n, coordinates).
        log_probs: float32 (n,).
        values: float32 (n,), in units of reward.
        state: float32 (n, state_size), what the streams remember afterwards; None without a memory.
    """

    actions: Tensor
    log_probs: Tensor
    values: Tensor
    state: Tensor | None


class Actor(nn.Module):
    """What chooses actions: enough to play, not to train.

    Args:
        spec: What it reads, does and is made of.
        generator: Where its weights come from; None leaves them unset, for weights that are loaded.

    Attributes:
        spec: What it reads, does and is made of.
    """

    def __init__(self, spec: PolicySpec, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.spec = spec
        self._seen = spec.features - spec.agents
        self.normaliser: ObservationNormaliser | None = None
        if spec.normalize_observations and spec.image is None:
            self.normaliser = ObservationNormaliser(spec.features, spec.agents)
        self.torso = None if spec.image is None else Torso(spec.image, generator)
        self.encoded = spec.features if self.torso is None else self.torso.features + spec.agents
        outputs = spec.distribution.width // (2 if spec.kind == "continuous" else 1)
        self.actor = self._network(self.encoded, outputs, 0.01, generator)
        if spec.kind == "continuous":
            self.log_std = nn.Parameter(torch.zeros(spec.actions))

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.actor.last.weight.device

    def encode(self, rows: Tensor) -> Tensor:
        """What networks read, float32 (n, encoded), of observation rows (n, features)."""
        if self.torso is not None:
            return torch.cat([self.torso(rows[:, : self._seen]), rows[:, self._seen :].float()], dim=-1)
        return rows if self.normaliser is None else self.normaliser(rows)

    def parameters_of(self, outputs: Tensor) -> Tensor:
        """The parameters of distributions over actions, of the actor's outputs."""
        if self.spec.kind != "continuous":
            return outputs
        return torch.cat([outputs, self.log_std.expand_as(outputs)], dim=-1)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """A copy of all parameters and statistics, by name."""
        return {name: tensor.detach().cpu().numpy().copy() for name, tensor in self.state_dict().items()}

    def load_arrays(self, arrays: Mapping[str, Any]) -> None:
        """Take over parameters and statistics from `arrays()`.

        Raises:
            StateError: they belong to a policy of other sizes; nothing is changed.
        """
        wanted = {name: tuple(tensor.shape) for name, tensor in self.state_dict().items()}
        found = {name: tuple(np.shape(array)) for name, array in arrays.items()}
        wrong = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
        if wrong:
            name = wrong[0]
            raise StateError(
                f"{len(wrong)} of these arrays do not fit this policy, such as {name!r}: of the shape "
                f"{found.get(name)}, and {wanted.get(name)} is wanted. They were made for another environment or with "
                "other settings of the model."
            )
        self.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in arrays.items()})
        if self.normaliser is not None:
            self.normaliser.refresh()

    def plain(self) -> Plain | None:
        """A copy that plays by arrays alone; None for what torch computes faster, or cannot do without."""
        layers = self.actor.arrays
        if self.torso is not None or not layers:
            return None
        normaliser = self.normaliser
        return Plain(
            layers,
            None if normaliser is None else (normaliser.shift.numpy(), normaliser.scale.numpy()),
            self.log_std.detach().numpy() if self.spec.kind == "continuous" else None,
        )

    def _network(self, inputs: int, outputs: int, gain: float, generator: torch.Generator | None) -> Network:
        spec = self.spec
        return Network(
            inputs,
            spec.hidden,
            outputs,
            recurrent=spec.recurrent,
            recurrent_size=spec.recurrent_size,
            gain=gain,
            generator=generator,
        )


class Policy(Actor):
    """Actor and critic.

    Args:
        spec: What it reads, does and is made of.
        generator: Where the initial weights come from.

    Attributes:
        spec: What it reads, does and is made of.
        returns: The statistics of normalised returns, or None.
    """

    def __init__(self, spec: PolicySpec, generator: torch.Generator) -> None:
        super().__init__(spec, generator)
        rows = spec.central // spec.features
        self.critic = self._network(
            rows * self.encoded + spec.agents if rows else self.encoded, 1, 1.0, generator
        )
        self.returns = ReturnNormaliser() if spec.normalize_returns else None

    # Acting

    @torch.no_grad()
    def step(
        self,
        observations: Tensor,
        masks: Tensor | None,
        state: Tensor | None,
        generator: torch.Generator,
        central: Tensor | None = None,
    ) -> Step:
        """Choose actions, and say what the future is worth.

        Tensors may be on any device; results come back on that of `observations`.

        Args:
            observations: float32 or uint8 (n, features).
            masks: bool (n, actions), what is allowed; None allows all.
            state: float32 (n, state_size), what the streams remember; zeros where None.
            generator: Where chance comes from.
            central: What a centralised critic reads besides, (n, central).

        Raises:
            UsageError: the critic is centralised, and `central` is missing.
        """
        home, device = observations.device, self.device
        features = self.encode(observations.to(device))
        ours, theirs = self._split(state)
        outputs, ours = self.actor.forward(features, ours)
        params = self.parameters_of(outputs)
        masks = None if masks is None else masks.to(device)
        actions, log_probs = self.spec.distribution.draw(params, masks, generator)
        values, theirs = self.critic.forward(self._criticised(features, observations, central), theirs)
        after = None if ours is None or theirs is None else torch.cat([ours, theirs], dim=-1).to(home)
        return Step(actions.to(home), log_probs.to(home), self._denormalised(values).to(home), after)

    @torch.no_grad()
    def act(
        self,
        observations: Tensor,
        masks: Tensor | None,
        state: Tensor | None,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor | None]:
        """Choose actions alone: the actions, and the streams' states, in which only the actor's part moves.

        Args:
            observations: float32 or uint8 (n, features).
            masks: bool (n, actions), what is allowed; None allows all.
            state: float32 (n, state_size), what the streams remember; zeros where None.
            generator: Where chance comes from.
        """
        home, device = observations.device, self.device
        ours, theirs = self._split(state)
        outputs, ours = self.actor.forward(self.encode(observations.to(device)), ours)
        masks = None if masks is None else masks.to(device)
        actions = self.spec.distribution.sample(self.parameters_of(outputs), masks, generator).to(home)
        if ours is None:
            return actions, None
        theirs = torch.zeros_like(ours) if theirs is None else theirs
        return actions, torch.cat([ours, theirs], dim=-1).to(home)

    @torch.no_grad()
    def values(
        self, observations: Tensor, state: Tensor | None = None, central: Tensor | None = None
    ) -> Tensor:
        """What the future is worth in units of reward, (n,); see `step`."""
        features = self.encode(observations.to(self.device))
        values, _ = self.critic.forward(
            self._criticised(features, observations, central), self._split(state)[1]
        )
        return self._denormalised(values).to(observations.device)

    def initial_state(self, n: int) -> Tensor | None:
        """What n streams remember at the start of an episode, zeros (n, state_size); None without a memory."""
        return torch.zeros(n, self.spec.state_size) if self.spec.state_size else None

    # Training

    def evaluate(self, batch: Samples | Sequences, targets: Targets) -> tuple[Tensor, Tensor, Tensor]:
        """What is needed to train, of each step that counts.

        Args:
            batch: The steps, or sequences for a policy with a memory, on its device.
            targets: `batch.targets()`, whose order results are in.

        Returns:
            log-probabilities of the actions taken, entropies, and the critic's outputs, which are normalised where
            the policy normalises returns; each (n,).
        """
        if isinstance(batch, Samples):
            features = self.encode(batch.observations)
            outputs, _ = self.actor(features)
            values, _ = self.critic(self._criticised(features, batch.observations, batch.central))
        else:
            outputs, values = self._unroll(batch)
        log_probs, entropies = self.spec.distribution.evaluate(
            self.parameters_of(outputs), targets.actions, targets.masks
        )
        return log_probs, entropies, values.squeeze(-1)

    def _unroll(self, batch: Sequences) -> tuple[Tensor, Tensor]:
        """Outputs of actor and critic at the steps that count."""
        steps, streams = batch.valid.shape
        rows = batch.observations.flatten(0, 1)
        features = self.encode(rows)
        central = None if batch.central is None else batch.central.flatten(0, 1)
        criticised = self._criticised(features, rows, central)
        ours, theirs = batch.state.chunk(2, dim=-1)
        outputs = self.actor.unroll(features.view(steps, streams, -1), ours, batch.starts, batch.acts)
        values = self.critic.unroll(criticised.view(steps, streams, -1), theirs, batch.starts, batch.acts)
        return outputs[batch.valid], values[batch.valid]

    # Weights

    @torch.no_grad()
    def copy_from(self, other: Policy) -> None:
        """Take over another policy's weights and statistics; it must be of the same sizes.

        Raises:
            StateError: it is not; nothing is changed.
        """
        if other.spec != self.spec:
            raise StateError(f"A policy of {other.spec} cannot be copied into one of {self.spec}.")
        own, given = [*self.parameters(), *self.buffers()], [*other.parameters(), *other.buffers()]
        for mine, theirs in zip(own, given, strict=True):
            mine.copy_(theirs)

    # Helpers

    def _criticised(self, features: Tensor, observations: Tensor, central: Tensor | None) -> Tensor:
        """What the critic reads: the agent's own features, or everybody's and who it is."""
        spec = self.spec
        if not spec.central:
            return features
        if central is None:
            raise UsageError(
                "This policy's critic is centralised and was given no central observations. Pass central=, the "
                f"rows of all agents, (n, {spec.central})."
            )
        rows = central.to(self.device).reshape(-1, spec.features)
        # Who is dead is all zeros, and stays so whatever the statistics are.
        present = (rows[:, : self._seen] != 0).any(dim=-1, keepdim=True)
        everyone = (self.encode(rows) * present).view(len(features), -1)
        return torch.cat([everyone, observations[:, self._seen :].to(features)], dim=-1)

    def _split(self, state: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        if state is None or not self.spec.state_size:
            return None, None
        ours, theirs = state.to(self.device).chunk(2, dim=-1)
        return ours, theirs

    def _denormalised(self, values: Tensor) -> Tensor:
        values = values.squeeze(-1)
        return values if self.returns is None else self.returns.denormalise(values)

"""Proximal policy optimisation (Schulman et al., 2017), with the details of its well-known implementations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from macurr.errors import StateError
from macurr.training.config import PPOConfig
from macurr.training.policy import Policy, entropy, log_prob

__all__ = ["PPO", "Samples"]

_LAST_SHARE = 0.1
"""What annealing leaves of the step size at the end."""
_METRICS = ("policy_loss", "value_loss", "entropy", "approx_kl", "clip_fraction")


@dataclass(frozen=True)
class Samples:
    """A batch of n steps of the learner.

    Attributes:
        observations: float32 (n, features).
        masks: bool (n, actions), or None.
        actions: int64 (n,), or float32 (n, actions).
        log_probs: float32 (n,), of the actions under the policy that chose them.
        values: float32 (n,), of the observations then.
        advantages: float32 (n,).
    """

    observations: Tensor
    masks: Tensor | None
    actions: Tensor
    log_probs: Tensor
    values: Tensor
    advantages: Tensor

    def __len__(self) -> int:
        return len(self.advantages)

    def pick(self, rows: Tensor) -> Samples:
        """Some of the steps."""
        masks = None if self.masks is None else self.masks[rows]
        return Samples(
            self.observations[rows],
            masks,
            self.actions[rows],
            self.log_probs[rows],
            self.values[rows],
            self.advantages[rows],
        )


class PPO:
    """The learner: a policy, its optimiser and the update.

    Args:
        policy: What to train.
        config: The settings.
        generator: Where the order of minibatches comes from.
    """

    def __init__(self, policy: Policy, config: PPOConfig, generator: torch.Generator) -> None:
        self.policy = policy
        self.config = config
        self._generator = generator
        self._optimizer = torch.optim.Adam(policy.parameters(), lr=config.learning_rate, eps=1e-5)

    def update(self, samples: Samples, progress: float = 0.0) -> dict[str, float]:
        """Train on a batch.

        Args:
            samples: The batch.
            progress: How much of the run is done, from 0 to 1; for annealing.

        Returns:
            Means over the minibatches: policy_loss, value_loss, entropy, approx_kl, clip_fraction; and
            explained_variance and learning_rate.
        """
        rate = self._set_rate(progress)
        totals, parts = np.zeros(len(_METRICS)), 0
        for _ in range(self.config.epochs):
            order = torch.randperm(len(samples), generator=self._generator)
            kl = 0.0
            for rows in order.chunk(min(self.config.minibatches, len(samples))):
                numbers = self._step(samples.pick(rows))
                totals, parts, kl = totals + numbers, parts + 1, numbers[3]
            if self.config.target_kl is not None and kl > self.config.target_kl:
                break
        metrics = dict(zip(_METRICS, (totals / max(parts, 1)).tolist(), strict=True))
        return {**metrics, "explained_variance": _explained(samples), "learning_rate": rate}

    def state_dict(self) -> dict[str, Any]:
        """Parameters and the optimiser's moments, as arrays."""
        names = [name for name, _ in self.policy.named_parameters()]
        moments: dict[str, Any] = {}
        for name, parameter in zip(names, self.policy.parameters(), strict=True):
            held = self._optimizer.state.get(parameter, {})
            moments[name] = {key: value.detach().numpy().copy() for key, value in held.items()}
        return {"policy": self.policy.arrays(), "moments": moments}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()`.

        Raises:
            StateError: it belongs to another learner; nothing is changed.
        """
        parameters = dict(self.policy.named_parameters())
        moments = state.get("moments")
        if not isinstance(moments, Mapping) or set(moments) != set(parameters) or "policy" not in state:
            raise StateError(
                "This is no state of a learner with these parameters. Resume the run it belongs to."
            )
        self.policy.load_arrays(state["policy"])
        for name, parameter in parameters.items():
            held = {key: torch.from_numpy(np.array(value)) for key, value in moments[name].items()}
            if held:
                self._optimizer.state[parameter] = held

    def _set_rate(self, progress: float) -> float:
        share = 1.0 - (1.0 - _LAST_SHARE) * min(max(progress, 0.0), 1.0) if self.config.anneal else 1.0
        rate = self.config.learning_rate * share
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        return rate

    def _step(self, part: Samples) -> Any:
        """One gradient step; returns the numbers of `_METRICS`."""
        config, spec = self.config, self.policy.spec
        params, values = self.policy(part.observations)
        log_ratio = log_prob(spec, params, part.actions, part.masks) - part.log_probs
        ratio = log_ratio.exp()
        advantages = part.advantages
        if len(part) > 1:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        clipped = ratio.clamp(1 - config.clip, 1 + config.clip)
        policy_loss = -torch.min(ratio * advantages, clipped * advantages).mean()
        value_loss = self._value_loss(values, part)
        bonus = entropy(spec, params, part.masks).mean()
        loss = policy_loss + config.value * value_loss - config.entropy * bonus
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch
        nn.utils.clip_grad_norm_(self.policy.parameters(), config.max_grad_norm)
        self._optimizer.step()
        with torch.no_grad():
            kl = ((ratio - 1) - log_ratio).mean()
            far = ((ratio - 1).abs() > config.clip).float().mean()
        return np.array([float(x.detach()) for x in (policy_loss, value_loss, bonus, kl, far)])

    def _value_loss(self, values: Tensor, part: Samples) -> Tensor:
        targets = part.advantages + part.values
        errors = (values - targets) ** 2
        bound = self.config.value_clip
        if bound is not None:
            held = part.values + (values - part.values).clamp(-bound, bound)
            errors = torch.max(errors, (held - targets) ** 2)
        return 0.5 * errors.mean()


def _explained(samples: Samples) -> float:
    """Share of the returns' variance that the critic explained; 0 where there is none."""
    targets = samples.advantages + samples.values
    variance = float(targets.var(correction=0))
    return 1.0 - float(samples.advantages.var(correction=0)) / variance if variance > 0 else 0.0

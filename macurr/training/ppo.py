"""Proximal policy optimisation (Schulman et al., 2017), with the details of its well-known implementations."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from macurr.errors import StateError, TrainingError, UsageError
from macurr.training.batches import Samples, Sequences, Targets
from macurr.training.config import PPOConfig
from macurr.training.hyperparameters import PPOSettings
from macurr.training.policy import Policy

__all__ = ["PPO", "PPOSettings"]

_LAST_SHARE = 0.1
"""What annealing leaves of the step size at the end."""
_METRICS = ("policy_loss", "value_loss", "entropy", "approx_kl", "clip_fraction", "grad_norm")


class PPO:
    """The learner: a policy, its optimiser and the update.

    Args:
        policy: What to train. It must be on its device already.
        settings: The hyper-parameters; a copy is kept.
        generator: Where the order of minibatches comes from.

    Attributes:
        policy: What is trained.
        settings: The hyper-parameters; changes hold from the next update on.
        sgd_steps: Gradient steps so far.
    """

    def __init__(self, policy: Policy, settings: PPOConfig | PPOSettings, generator: torch.Generator) -> None:
        self.policy = policy
        self.settings = PPOSettings.of(settings)
        self.sgd_steps = 0
        self._generator = generator
        self._optimizer = torch.optim.Adam(
            policy.parameters(), lr=self.settings.learning_rate, eps=1e-5, fused=True
        )

    def update(self, batch: Samples | Sequences, progress: float = 0.0) -> dict[str, float]:
        """Train on a batch.

        Args:
            batch: Steps, or sequences for a policy with a memory; on any device.
            progress: How much of the run is done, from 0 to 1; for annealing.

        Returns:
            Means over the minibatches: policy_loss, value_loss, entropy, approx_kl, clip_fraction, grad_norm (before
            it is clipped); and explained_variance and learning_rate. Empty where no step of the batch counts.

        Raises:
            UsageError: the batch is of the wrong kind for the policy.
            TrainingError: the batch, a loss, a gradient or a weight is not finite; everything is as before the update.
        """
        _check_kind(self.policy, batch)
        targets = batch.targets()
        if not len(targets):
            return {}
        _check_finite(batch, targets)
        before, order = self.state_dict(), self._generator.get_state()
        try:
            return self._update(batch, targets, progress)
        except TrainingError:
            self.load_state_dict(before)
            self._generator.set_state(order)
            raise

    def state_dict(self) -> dict[str, Any]:
        """Parameters and statistics, the optimiser's moments, the settings and the count of steps.

        The generator is its owner's to save.
        """
        moments: dict[str, Any] = {}
        for name, parameter in self.policy.named_parameters():
            held = self._optimizer.state.get(parameter, {})
            moments[name] = {key: value.detach().cpu().numpy().copy() for key, value in held.items()}
        return {
            "policy": self.policy.arrays(),
            "moments": moments,
            "settings": asdict(self.settings),
            "sgd_steps": self.sgd_steps,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()`, bit by bit as the learner that it is of would have.

        Raises:
            StateError: it belongs to another learner; nothing is changed.
        """
        parameters = dict(self.policy.named_parameters())
        moments, settings, steps = _checked(state, parameters)
        self.policy.load_arrays(state["policy"])
        for name, parameter in parameters.items():
            self._optimizer.state.pop(parameter, None)
            if moments[name]:
                self._optimizer.state[parameter] = {
                    key: value.to(parameter.device) for key, value in moments[name].items()
                }
        self.settings, self.sgd_steps = settings, steps

    def _update(self, batch: Samples | Sequences, targets: Targets, progress: float) -> dict[str, float]:
        rate = self._set_rate(progress)
        device, policy = self.policy.device, self.policy
        batch = batch.to(device).live()
        if policy.returns is not None:
            policy.returns.absorb(targets.returns.to(device), policy.critic.last)
        totals, parts = np.zeros(len(_METRICS)), 0
        for rows, ends in self._plan(batch.units, batch.unit):
            part = batch.pick(rows.to(device))
            numbers = self._step(part, part.targets())
            totals, parts = totals + numbers, parts + 1
            if ends and self.settings.target_kl is not None and numbers[3] > self.settings.target_kl:
                break
        _check_weights(policy, self.sgd_steps)
        if policy.normaliser is not None:
            policy.normaliser.merge(batch.sights)
        metrics = dict(zip(_METRICS, (totals / parts).tolist(), strict=True))
        return {**metrics, "explained_variance": _explained(targets), "learning_rate": rate}

    def _plan(self, units: int, unit: int) -> Iterator[tuple[Tensor, bool]]:
        """The units of each minibatch, and whether an epoch ends with it.

        Minibatches of a given size are cut from one epoch's order after the other's without a gap, so that all are
        of exactly this size and no step is left out, but fewer than a minibatch at the very end.
        """
        settings = self.settings
        size = None if settings.batch_size is None else max(1, settings.batch_size // unit)
        if size is None or size >= units:
            parts = 1 if size is not None else min(settings.minibatches, units)
            for _ in range(settings.epochs):
                chunks = self._order(units).tensor_split(parts)  # chunk() may give fewer
                yield from ((rows, i == len(chunks) - 1) for i, rows in enumerate(chunks))
            return
        order = torch.cat([self._order(units) for _ in range(settings.epochs)])
        for end in range(size, len(order) + 1, size):
            yield order[end - size : end], end % units < size

    def _order(self, units: int) -> Tensor:
        generator = self._generator
        return torch.randperm(units, generator=generator, device=generator.device)

    def _set_rate(self, progress: float) -> float:
        settings = self.settings
        share = 1.0 - (1.0 - _LAST_SHARE) * min(max(progress, 0.0), 1.0) if settings.anneal else 1.0
        rate = settings.learning_rate * share
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        return rate

    def _step(self, part: Samples | Sequences, targets: Targets) -> Any:
        """One gradient step; returns the numbers of `_METRICS`."""
        settings = self.settings
        log_probs, entropies, values = self.policy.evaluate(part, targets)
        log_ratio = log_probs - targets.log_probs
        ratio = log_ratio.exp()
        advantages = targets.advantages
        if len(targets) > 1:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        clipped = ratio.clamp(1 - settings.clip, 1 + settings.clip)
        policy_loss = -torch.min(ratio * advantages, clipped * advantages).mean()
        value_loss = self._value_loss(values, targets)
        bonus = entropies.mean()
        loss = policy_loss + settings.value * value_loss - settings.entropy * bonus
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch
        norm = nn.utils.clip_grad_norm_(self.policy.parameters(), settings.max_grad_norm)
        with torch.no_grad():
            kl = ((ratio - 1) - log_ratio).mean()
            far = ((ratio - 1).abs() > settings.clip).float().mean()
            numbers = torch.stack([policy_loss, value_loss, bonus, kl, far, norm]).tolist()
        if not all(map(math.isfinite, numbers)):
            raise _not_finite(dict(zip(_METRICS, numbers, strict=True)), self.sgd_steps)
        self._optimizer.step()
        self.sgd_steps += 1
        return np.array(numbers)

    def _value_loss(self, values: Tensor, targets: Targets) -> Tensor:
        before, returns = targets.values, targets.returns
        if self.policy.returns is not None:
            before, returns = (self.policy.returns.normalise(x) for x in (before, returns))
        errors = (values - returns) ** 2
        bound = self.settings.value_clip
        if bound is not None:
            held = before + (values - before).clamp(-bound, bound)
            errors = torch.max(errors, (held - returns) ** 2)
        return 0.5 * errors.mean()


def _explained(targets: Targets) -> float:
    """Share of the returns' variance that the critic explained; 0 where there is none."""
    variance = float(targets.returns.var(correction=0))
    return 1.0 - float(targets.advantages.var(correction=0)) / variance if variance > 0 else 0.0


def _check_kind(policy: Policy, batch: Samples | Sequences) -> None:
    if isinstance(batch, Sequences) != bool(policy.spec.state_size):
        raise UsageError(
            f"A policy with recurrent={policy.spec.recurrent!r} was given {type(batch).__name__}. Policies with a "
            "memory are trained on Sequences, others on Samples."
        )


_LOOK_AT = {
    "observations": "Look at what the environment shows: its observations hold NaN or infinity.",
    "log_probs": "Look at the policy's weights and at the actions: the policy that chose them had blown up.",
    "values": "Look at the critic: very large rewards make it blow up; scale them, or set normalize_returns.",
    "advantages": "Look at the environment's rewards: one was NaN, infinite, or too large for single precision.",
}


def _check_finite(batch: Samples | Sequences, targets: Targets) -> None:
    for name, advice in _LOOK_AT.items():
        if name == "observations" and not batch.observations.is_floating_point():
            continue
        tensor: Tensor = batch.sights if name == "observations" else getattr(targets, name)
        # The sum is not finite if any of them is not: one pass, and a second only if it may matter.
        if bool(tensor.sum().isfinite()):
            continue
        bad = int((~tensor.isfinite()).sum())
        if bad:
            raise TrainingError(
                f"{bad} of the {tensor.numel()} numbers of the batch's {name} are not finite. {advice} Nothing has "
                "been trained on the batch."
            )


def _not_finite(numbers: Mapping[str, float], steps: int) -> TrainingError:
    found = ", ".join(f"{name} {value:g}" for name, value in numbers.items())
    return TrainingError(
        f"Gradient step {steps + 1} is not finite: {found}. The weights are those of before the update. {_LOWER}"
    )


_LOWER = (
    "Lower the learning rate or max_grad_norm, look for very large rewards or observations, or set normalize_returns "
    "and normalize_observations."
)


def _check_weights(policy: Policy, steps: int) -> None:
    # A finite gradient may still carry weights out of range, and no later loss would tell of the last step.
    wrong = [name for name, weights in policy.named_parameters() if not bool(weights.isfinite().all())]
    if wrong:
        raise TrainingError(
            f"After gradient step {steps} the weights {', '.join(wrong)} are not finite. The weights are those of "
            f"before the update. {_LOWER}"
        )


_MOMENTS = {"step", "exp_avg", "exp_avg_sq"}


def _checked(
    state: Mapping[str, Any], parameters: Mapping[str, Tensor]
) -> tuple[dict[str, dict[str, Tensor]], PPOSettings, int]:
    """The moments as tensors, the settings and the count of steps.

    Raises:
        StateError: they are not those of a learner with these parameters.
    """
    try:
        found = {
            name: {key: torch.from_numpy(np.array(value)) for key, value in held.items()}
            for name, held in state["moments"].items()
        }
        settings, steps = PPOSettings(**state["settings"]), int(state["sgd_steps"])
        fits = "policy" in state and set(found) == set(parameters)
        fits = fits and all(_fit(found[name], parameter) for name, parameter in parameters.items())
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StateError(f"This is no state of a learner ({error}). Resume the run it belongs to.") from error
    if not fits:
        raise StateError("This is no state of a learner with these parameters. Resume the run it belongs to.")
    return found, settings, steps


def _fit(moments: Mapping[str, Tensor], parameter: Tensor) -> bool:
    if not moments:
        return True
    shapes = {tuple(moments[key].shape) for key in _MOMENTS - {"step"} if key in moments}
    return set(moments) == _MOMENTS and shapes == {tuple(parameter.shape)} and moments["step"].numel() == 1

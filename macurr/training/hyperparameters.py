"""The hyper-parameters of a learner, which populations change while it trains."""

from __future__ import annotations

from dataclasses import dataclass, fields

from macurr.training.config import PPOConfig

__all__ = ["PPOSettings"]


@dataclass
class PPOSettings:
    """The hyper-parameters of a learner; they may be changed between updates.

    Attributes:
        learning_rate: Adam's step size at the start.
        anneal: Lower the step size linearly to a tenth over the run.
        gamma: Discount; the learner itself does not use it, it is kept with it.
        gae_lambda: Trace decay; likewise.
        clip: Clipping range of the probability ratio.
        value_clip: Clipping range of the value's change in an update, in units of reward, or of deviations where
            returns are normalised; None does not clip.
        entropy: Weight of the entropy bonus.
        value: Weight of the value loss.
        max_grad_norm: Largest norm of a gradient.
        epochs: Passes over each batch.
        minibatches: Parts of a batch, one gradient step each, where no `batch_size` is given.
        batch_size: Steps of a minibatch; None divides the batch into `minibatches`.
        target_kl: Stop an update's epochs early once the policy has moved this far (in nats); None never does.
    """

    learning_rate: float = 1e-3
    anneal: bool = True
    gamma: float = 0.97
    gae_lambda: float = 0.95
    clip: float = 0.2
    value_clip: float | None = None
    entropy: float = 0.01
    value: float = 0.5
    max_grad_norm: float = 0.5
    epochs: int = 4
    minibatches: int = 4
    batch_size: int | None = None
    target_kl: float | None = None

    @classmethod
    def of(cls, config: PPOConfig | PPOSettings) -> PPOSettings:
        """A copy of the settings of the same names."""
        return cls(**{item.name: getattr(config, item.name) for item in fields(cls)})

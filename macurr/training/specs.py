"""What policies read, do and are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from macurr.training.config import ModelConfig
from macurr.training.distributions import ActionDistribution, Discrete, Gaussian, MultiDiscrete
from macurr.training.layout import Layout
from macurr.training.memories import memory_width

__all__ = ["PolicySpec"]


@dataclass(frozen=True)
class PolicySpec:
    """What a policy reads, does and is made of.

    Attributes:
        features: Length of an observation row, F.
        actions: Number of discrete actions, of those of all parts of a multi-discrete action together, or of
            continuous coordinates.
        kind: "discrete", "multidiscrete" or "continuous".
        hidden: Units of the hidden layers, of actor and critic each.
        nvec: Actions of each part of a multi-discrete action; () otherwise.
        agents: Length of the indicator at the end of a row, A.
        image: Height, width and channels, where rows are uint8 images (channels last) with the indicator; or None.
        recurrent: What actor and critic remember between steps: "none", "lstm" or "gru".
        recurrent_size: Units of each one's memory.
        central: Length of what a centralised critic reads besides, the rows of all agents; 0 for none.
        normalize_observations: Whether observations are normalised by running statistics.
        normalize_returns: Whether the critic learns normalised returns.
    """

    features: int
    actions: int
    kind: str
    hidden: tuple[int, ...]
    nvec: tuple[int, ...] = ()
    agents: int = 0
    image: tuple[int, int, int] | None = None
    recurrent: str = "none"
    recurrent_size: int = 128
    central: int = 0
    normalize_observations: bool = False
    normalize_returns: bool = False

    @classmethod
    def of(cls, layout: Layout, model: ModelConfig | Sequence[int]) -> PolicySpec:
        """What fits an environment.

        Args:
            layout: How the environment is laid out.
            model: What policies are made of; or the units of the hidden layers, all else being as by default.
        """
        agents = len(layout.agents)
        sizes = (layout.features, layout.actions, str(layout.kind))
        if isinstance(model, Sequence):
            return cls(*sizes, tuple(model), layout.nvec, agents, layout.image)
        return cls(
            *sizes,
            tuple(model.hidden),
            layout.nvec,
            agents,
            layout.image,
            recurrent=model.recurrent,
            recurrent_size=model.recurrent_size,
            central=agents * layout.features if model.centralised_critic else 0,
            normalize_observations=model.normalize_observations,
            normalize_returns=model.normalize_returns,
        )

    @property
    def discrete(self) -> bool:
        """Whether an action is one of several."""
        return self.kind == "discrete"

    @property
    def actor_state_size(self) -> int:
        """Numbers that the actor alone keeps between steps: the first ones of a state."""
        return memory_width(self.recurrent, self.recurrent_size)

    @property
    def state_size(self) -> int:
        """Numbers that a policy keeps between the steps of a stream: the actor's, then the critic's."""
        return 2 * self.actor_state_size

    @cached_property
    def distribution(self) -> ActionDistribution:
        """The kind of its distributions over actions."""
        if self.kind == "multidiscrete":
            return MultiDiscrete(self.nvec)
        return Discrete(self.actions) if self.discrete else Gaussian(self.actions)

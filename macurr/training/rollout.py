"""Rollouts: the learner's steps in all environments, and the episodes that ended among them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from macurr.training.gae import advantages
from macurr.training.ppo import Samples

__all__ = ["Episode", "Rollout"]


@dataclass(frozen=True)
class Episode:
    """An episode that ended during a rollout.

    Attributes:
        env: The environment's column in the rollout.
        step: The step of the rollout that ended it.
        opponent: Who played against the learner.
        level: The level.
        learner_return: Undiscounted return of the learner.
        others_return: Mean of the other agents' returns; 0 where there are none.
        length: Environment steps.
    """

    env: int
    step: int
    opponent: int
    level: int
    learner_return: float
    others_return: float
    length: int

    @property
    def outcome(self) -> int:
        """1 where the learner got more than the others' mean, -1 where less, 0 where as much."""
        return int(np.sign(self.learner_return - self.others_return))


@dataclass
class Rollout:
    """T steps of E environments, as the learner's seat saw them.

    Attributes:
        observations: float32 (T, E, F).
        masks: bool (T, E, N), or None where every action is always allowed.
        actions: int64 (T, E), or float32 (T, E, N).
        log_probs: float32 (T, E).
        values: float32 (T, E).
        rewards: float32 (T, E); a truncated episode's last one holds the discounted value of what it saw last.
        dones: bool (T, E), whether the learner's episode ended with the step.
        valid: bool (T, E), whether the learner was alive.
        last_values: float32 (E,), of what follows the rollout.
        episodes: The episodes that ended, in order of steps and environments.
    """

    observations: NDArray[np.float32]
    masks: NDArray[np.bool_] | None
    actions: NDArray[np.int64] | NDArray[np.float32]
    log_probs: NDArray[np.float32]
    values: NDArray[np.float32]
    rewards: NDArray[np.float32]
    dones: NDArray[np.bool_]
    valid: NDArray[np.bool_]
    last_values: NDArray[np.float32]
    episodes: list[Episode] = field(default_factory=list)

    def advantages(self, gamma: float, gae_lambda: float) -> NDArray[np.float32]:
        """Generalised advantage estimates, float32 (T, E)."""
        return advantages(self.rewards, self.values, self.dones, self.last_values, gamma, gae_lambda)

    def samples(self, estimates: NDArray[np.float32]) -> Samples:
        """The steps to train on: those at which the learner was alive."""
        rows = self.valid

        def tensor(array: NDArray[np.generic]) -> Tensor:
            return torch.from_numpy(array[rows])

        return Samples(
            tensor(self.observations),
            None if self.masks is None else tensor(self.masks),
            tensor(self.actions),
            tensor(self.log_probs),
            tensor(self.values),
            tensor(estimates),
        )

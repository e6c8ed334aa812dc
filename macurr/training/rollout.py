"""Rollouts: what the learning agents of a group of environments did, and the episodes that ended meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from macurr.training.gae import advantages

__all__ = ["NOBODY", "Episode", "Rollout", "merged"]

NOBODY = -1
"""The opponent of an episode in which every agent learns."""


@dataclass(frozen=True)
class Episode:
    """An episode that ended during a rollout.

    Attributes:
        env: The number of the environment in the run.
        step: The step of the rollout that ended it.
        opponent: Who played against the learners; `NOBODY` where every agent learns.
        level: The level.
        learner_return: Mean of the learners' undiscounted returns.
        others_return: Mean of the other agents' returns; 0 where there are none.
        length: Environment steps.
        policies: The policy of each learner.
        returns: The return of each learner.
        contested: Whether anybody played against the learners: an episode that nobody can lose counts in no win rate.
        objectives: What the environment said of how well each learner did, "true_objective" in its infos: NaN where it
            said nothing of one, and () where it said nothing at all.
    """

    env: int
    step: int
    opponent: int
    level: int
    learner_return: float
    others_return: float
    length: int
    policies: tuple[int, ...] = (0,)
    returns: tuple[float, ...] = ()
    contested: bool = True
    objectives: tuple[float, ...] = ()

    @property
    def outcome(self) -> int:
        """1 where the learners got more than the others on average, -1 where less, 0 where as much.

        Without others it is the sign of the learners' return.
        """
        return int(np.sign(self.learner_return - self.others_return))


@dataclass
class Rollout:
    """T steps of S streams: a stream is one learning agent of one environment, environments first.

    Attributes:
        observations: float32 or uint8 (T, S, F).
        masks: bool (T, S, N), or None where every action is always allowed.
        actions: int64 (T, S) or (T, S, D), or float32 (T, S, N).
        log_probs: float32 (T, S).
        values: float32 (T, S).
        rewards: float32 (T, S).
        dones: bool (T, S), whether the agent's episode ended with the step.
        valid: bool (T, S), whether the agent acted. Everything else of a step at which it did not is 0.
        starts: bool (T, S), whether the environment's episode began with the step.
        policies: int16 (T, S), the policy that plays the stream.
        versions: int64 (T, S), the version of that policy.
        env_of: int64 (S,), the number of each stream's environment in the run.
        agent_of: int64 (S,), the number of each stream's agent.
        last_values: float32 (S,), of what follows the rollout.
        state0: float32 (S, H), the policies' memory before the first step; None where they have none.
        central: (T, E, C), what the centralised critic sees of each environment; None without one.
        central_of: int64 (S,), each stream's row in `central`.
        cut_steps: int64 (k,), at which steps streams were truncated.
        cut_streams: int64 (k,), which streams.
        cut_values: float32 (k,), the value of what they saw last.
        episodes: The episodes that ended, in order of steps and environments.
        number: The number of the group.
    """

    observations: NDArray[Any]
    masks: NDArray[np.bool_] | None
    actions: NDArray[Any]
    log_probs: NDArray[np.float32]
    values: NDArray[np.float32]
    rewards: NDArray[np.float32]
    dones: NDArray[np.bool_]
    valid: NDArray[np.bool_]
    starts: NDArray[np.bool_]
    policies: NDArray[np.int16]
    versions: NDArray[np.int64]
    env_of: NDArray[np.int64]
    agent_of: NDArray[np.int64]
    last_values: NDArray[np.float32]
    state0: NDArray[np.float32] | None = None
    central: NDArray[Any] | None = None
    central_of: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    cut_steps: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    cut_streams: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    cut_values: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    episodes: list[Episode] = field(default_factory=list)
    number: int = 0

    @property
    def samples(self) -> int:
        """Steps of all streams, T * S: what the size of a batch counts."""
        return self.valid.size

    @property
    def env_steps(self) -> int:
        """Steps of all environments, T * E."""
        return len(self.valid) * len(np.unique(self.env_of))

    def version_of(self, episode: Episode) -> int:
        """The latest version of a policy that acted in one of its episodes."""
        steps = slice(max(0, episode.step + 1 - episode.length), episode.step + 1)
        rows = self.versions[steps, self.env_of == episode.env]
        return int(rows.max()) if rows.size else 0

    def advantages(self, gamma: float, gae_lambda: float) -> NDArray[np.float32]:
        """Generalised advantage estimates, float32 (T, S); 0 where nobody acted.

        What a truncated stream saw last is worth `gamma` times its value, on top of its last reward.
        """
        rewards = self.rewards
        if len(self.cut_steps):
            rewards = rewards.copy()
            np.add.at(rewards, (self.cut_steps, self.cut_streams), np.float32(gamma) * self.cut_values)
        valid = None if self.valid.all() else self.valid
        return advantages(
            rewards, self.values, self.dones, self.last_values, gamma, gae_lambda, valid, self.starts
        )


def merged(rollouts: Sequence[Rollout]) -> Rollout:
    """Rollouts of as many steps side by side, as one; `number` and `episodes` are those of the first."""
    if len(rollouts) == 1:
        return rollouts[0]
    first = rollouts[0]
    width = np.cumsum([0, *(len(rollout.env_of) for rollout in rollouts)])
    tall = ("observations", "masks", "actions", "log_probs", "values", "rewards", "dones", "valid", "starts")
    parts: dict[str, Any] = {
        name: None
        if getattr(first, name) is None
        else np.concatenate([getattr(rollout, name) for rollout in rollouts], axis=1)
        for name in (*tall, "policies", "versions", "central")
    }
    for name in ("env_of", "agent_of", "last_values", "cut_steps", "cut_values"):
        parts[name] = np.concatenate([getattr(rollout, name) for rollout in rollouts])
    if first.state0 is not None:
        parts["state0"] = np.concatenate(
            [rollout.state0 for rollout in rollouts if rollout.state0 is not None]
        )
    parts["cut_streams"] = np.concatenate(
        [rollout.cut_streams + start for rollout, start in zip(rollouts, width[:-1], strict=True)]
    )
    if first.central is not None:
        rows = [0, *(rollout.central.shape[1] for rollout in rollouts if rollout.central is not None)]
        shifts = np.cumsum(rows)[:-1]
        parts["central_of"] = np.concatenate(
            [rollout.central_of + shift for rollout, shift in zip(rollouts, shifts, strict=True)]
        )
    return Rollout(**parts, episodes=first.episodes, number=first.number)

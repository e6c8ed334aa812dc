"""The learner: the run's policies, each with an optimiser of its own, trained on rollouts that carry their versions."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from macurr.errors import StateError
from macurr.training.acting import Crew
from macurr.training.config import TrainConfig
from macurr.training.datasets import samples_of, sequences_of
from macurr.training.lag import LagAlarm
from macurr.training.opponents import snapshot_of
from macurr.training.policy import Policy, PolicySpec
from macurr.training.ppo import PPO
from macurr.training.rollout import Rollout, merged

__all__ = ["Learner", "LearnerReport"]

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class LearnerReport:
    """What came of training on a dataset.

    Attributes:
        rollouts: The dataset.
        estimates: Of each rollout the advantages, float32 (T, S).
        counted: Of each rollout which steps were trained on, bool (T, S).
        metrics: For each policy, the means over its gradient steps; empty where there was nothing to train it on.
        lags: (least, mean, greatest) number of gradient steps between the policy that acted and the one that was about
            to be trained, over the steps that were trained on; 0 where there were none. Those that were too old, as
            all are that a replaced policy has played, are left out; `valid_fraction` tells of them.
        valid_fraction: Share of the trajectories' steps that was trained on.
        same_policy_fraction: Share of the trajectories' steps that were acted by the policy they were sorted to.
        samples: Steps trained on.
        seconds: How long it took.
    """

    rollouts: Sequence[Rollout]
    estimates: Sequence[NDArray[np.float32]]
    counted: Sequence[Bools]
    metrics: Sequence[Mapping[str, float]]
    lags: tuple[int, float, int]
    valid_fraction: float
    same_policy_fraction: float
    samples: int
    seconds: float


@dataclass
class _Shares:
    """Sums over the policies of a dataset."""

    steps: int = 0
    own: int = 0
    used: int = 0
    lags: list[NDArray[np.int64]] = field(default_factory=list)


class Learner:
    """The policies, their optimisers and versions, and what collectors act by meanwhile.

    A version is the number of gradient steps that a policy has had, plus what was added when weights were copied into
    it. Collectors never see a policy that is half trained: they act by copies that are replaced as a whole.

    Args:
        spec: What policies read, do and are made of.
        config: The settings.
        generator: Where initial weights and the order of minibatches come from.
        device: Where policies are trained and act.
        copies: Whether collectors act by copies, or by what they are sent of them, and snapshots are of copies: this is
            needed where training goes on at the same time.

    Attributes:
        policies: The policies in training.
        ppos: The optimisers.
        versions: The policies' versions.
        publications: How often policies were published.
        on_publish: Is called whenever policies were, in the thread that published them.
    """

    def __init__(
        self,
        spec: PolicySpec,
        config: TrainConfig,
        generator: torch.Generator,
        device: torch.device | None = None,
        *,
        copies: bool = False,
    ) -> None:
        self.spec, self._generator = spec, generator
        self._most_lag = config.max_policy_lag
        count = config.policies.num_policies
        self.policies = [Policy(spec, generator).to(device or torch.device("cpu")) for _ in range(count)]
        self.ppos = [PPO(policy, config.ppo, generator) for policy in self.policies]
        self.versions = [0] * count
        self.lock = threading.RLock()
        """Held while policies are trained: whoever changes them from another thread takes it."""
        self._alarms = [LagAlarm(number, self._most_lag) for number in range(count)]
        self._publishing = threading.Lock()
        self._acting = deepcopy(self.policies) if copies else self.policies
        self._published = [0] * count
        self.publications = 0
        self.on_publish: Callable[[], None] = _nothing

    # Acting

    @contextmanager
    def acting(self) -> Iterator[Crew]:
        """The policies that collectors act by; they stay as they are within the `with` block."""
        with self._publishing:
            yield Crew(self._acting, self._published)

    def publish(self) -> None:
        """Let collectors act by the policies as they are now."""
        with self._publishing:
            self._published = list(self.versions)
            self.publications += 1
            if self._acting is not self.policies:
                for acting, policy in zip(self._acting, self.policies, strict=True):
                    acting.copy_from(policy)
        self.on_publish()

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """The published policies as one entry of a pool."""
        with self._publishing:
            return snapshot_of(self._acting)

    # Training

    def train(self, rollouts: Sequence[Rollout], progress: float = 0.0) -> LearnerReport:
        """Train every policy on its steps of a dataset, and publish the result.

        Args:
            rollouts: The dataset.
            progress: How much of the run is done, from 0 to 1; for annealing.

        Raises:
            TrainingError: something was not finite; the policy that it happened to is as before.
        """
        with self.lock:
            begun = time.perf_counter()
            whole = merged(rollouts)
            estimates = self._estimates(whole)
            counted = np.zeros_like(whole.valid)
            shares, metrics = _Shares(), []
            for number, ppo in enumerate(self.ppos):
                own, used = self._sorted(whole, number, shares)
                counted |= used
                metrics.append(self._train_one(ppo, number, whole, estimates, own, used, progress))
            self.publish()
            seconds = time.perf_counter() - begun
        edges = np.cumsum([rollout.valid.shape[1] for rollout in rollouts])[:-1]
        lags = np.concatenate(shares.lags) if shares.lags else np.zeros(0, np.int64)
        return LearnerReport(
            rollouts,
            np.split(estimates, edges, axis=1),
            np.split(counted, edges, axis=1),
            metrics,
            (int(lags.min()), float(lags.mean()), int(lags.max())) if len(lags) else (0, 0.0, 0),
            shares.used / max(shares.steps, 1),
            shares.own / max(shares.steps, 1),
            shares.used,
            seconds,
        )

    def _estimates(self, whole: Rollout) -> NDArray[np.float32]:
        """Advantages, by each policy's own discount."""
        settings = [(ppo.settings.gamma, ppo.settings.gae_lambda) for ppo in self.ppos]
        estimates = whole.advantages(*settings[0])
        for pair in sorted(set(settings[1:]) - {settings[0]}):
            numbers = [number for number, own in enumerate(settings) if own == pair]
            rows = np.isin(whole.policies, numbers)
            if rows.any():
                estimates[rows] = whole.advantages(*pair)[rows]
        return estimates

    def _sorted(self, whole: Rollout, number: int, shares: _Shares) -> tuple[Bools, Bools]:
        """Which steps a policy acted, and which of them it is trained on."""
        mine = whole.policies == number
        own = mine & whole.valid
        lag = self.versions[number] - whole.versions[own]
        used = own.copy()
        used[own] = lag < self._most_lag
        shares.steps += int(mine.any(axis=0).sum()) * len(mine)
        shares.own += len(lag)
        shares.used += int(used.sum())
        shares.lags.append(lag[lag < self._most_lag])
        self._alarms[number].note(len(lag), int(used.sum()))
        return own, used

    def _train_one(
        self,
        ppo: PPO,
        number: int,
        whole: Rollout,
        estimates: NDArray[np.float32],
        own: Bools,
        used: Bools,
        progress: float,
    ) -> Mapping[str, float]:
        if not used.any():
            return {}
        before = ppo.sgd_steps
        batch = (
            sequences_of(whole, estimates, own, used)
            if self.spec.state_size
            else samples_of(whole, estimates, used)
        )
        metrics = ppo.update(batch, progress)
        self.versions[number] += ppo.sgd_steps - before
        return metrics

    def replaced(self, policy: int) -> None:
        """Note that a policy's weights are another's now: what the old ones have played is trained on no more.

        Its version jumps past `max_policy_lag`.
        """
        with self.lock:
            self.versions[policy] += self._most_lag + 1
            self.publish()

    # State

    def state_dict(self) -> dict[str, Any]:
        """Weights, statistics, moments, settings, versions and chance."""
        with self.lock:
            return {
                "ppos": [ppo.state_dict() for ppo in self.ppos],
                "versions": list(self.versions),
                "generator": self._generator.get_state().numpy().copy(),
            }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()`.

        Raises:
            StateError: it is of other policies; nothing is changed.
        """
        if len(state["ppos"]) != len(self.ppos) or len(state["versions"]) != len(self.ppos):
            raise StateError(
                f"The state is of {len(state['ppos'])} policies; there are {len(self.ppos)}. Resume the run it "
                "belongs to."
            )
        with self.lock:
            before = [ppo.state_dict() for ppo in self.ppos]
            try:
                for ppo, own in zip(self.ppos, state["ppos"], strict=True):
                    ppo.load_state_dict(own)
            except StateError:
                for ppo, own in zip(self.ppos, before, strict=True):
                    ppo.load_state_dict(own)
                raise
            self.versions = [int(version) for version in state["versions"]]
            self._generator.set_state(torch.from_numpy(np.array(state["generator"])))
            self.publish()


def _nothing() -> None:
    """Nobody waits for policies."""

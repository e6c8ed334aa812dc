"""What the learner and a collector in a process of its own tell each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from macurr.opponents import AgentPool
from macurr.training.acting import Actors
from macurr.training.collector import Collector, Published
from macurr.training.kinds import Kinds
from macurr.training.mapping import PolicyMapping
from macurr.training.opponents import PolicyBank
from macurr.training.rollout import Episode, Rollout
from macurr.training.specs import PolicySpec
from macurr.training.vector import Environments

__all__ = ["CollectorJob", "News", "Start", "Weights"]


@dataclass(frozen=True)
class CollectorJob:
    """What a collector is built of, besides its environments and the live policies.

    Attributes:
        seats: For each environment the numbers of the agents that learn.
        kinds: What is the same for all groups.
        spec: What policies read, do and are made of.
        device: Where they act.
        pool: The opponents.
        mapping: Which policy plays whom.
        restarts: How many crashed workers may be replaced.
        threads: Threads of torch, where the collector has a process of its own.
    """

    seats: Sequence[Sequence[int]]
    kinds: Kinds
    spec: PolicySpec
    device: torch.device
    pool: AgentPool
    mapping: PolicyMapping
    restarts: int
    threads: int

    def build(self, vector: Environments, published: Published, generator: torch.Generator) -> Collector:
        """The collector.

        Args:
            vector: The environments.
            published: Where the live policies come from.
            generator: Where the chance of actions comes from.
        """
        bank = PolicyBank(self.spec, self.pool.get, device=self.device)
        actors = Actors(self.kinds.layout, self.kinds, bank, generator)
        return Collector(vector, self.seats, self.kinds, actors, published, self.mapping, self.restarts)


@dataclass(frozen=True)
class Weights:
    """The live policies of a moment.

    Attributes:
        versions: Their versions.
        arrays: Of each policy the parameters and statistics, by name.
    """

    versions: Sequence[int]
    arrays: Sequence[Mapping[str, NDArray[Any]]]


@dataclass(frozen=True)
class Start:
    """What a collector goes on from.

    Attributes:
        job: What it is built of.
        generator: The state of the generator of actions, uint8.
        state: What it has told that it can go on from, or a checkpoint's; None to begin.
        restarted: Workers that were replaced before.
        weights: The live policies.
    """

    job: CollectorJob
    generator: NDArray[np.uint8]
    state: Mapping[str, Any] | None
    restarted: int
    weights: Weights


@dataclass(frozen=True)
class News:
    """What a collector has come to since it told last.

    Attributes:
        state: What it can go on from.
        rollouts: The rollouts that were finished.
        strays: Episodes that ended outside of rollouts.
        steps: Environment steps.
        seconds: Seconds by name, as its clock counts them.
        restarted: Workers that were replaced, since the run's sitting began.
        lost: Environment steps of rollouts that were given up with their worker.
        unfinished: Environment steps of rollouts that are under way.
        begun: Whether all environments have begun.
        still: The number of the pause that it has come to rest for; 0 while it goes on.
    """

    state: Mapping[str, Any]
    rollouts: Sequence[Rollout] = ()
    strays: Sequence[Episode] = ()
    steps: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    restarted: int = 0
    lost: int = 0
    unfinished: int = 0
    begun: bool = True
    still: int = 0

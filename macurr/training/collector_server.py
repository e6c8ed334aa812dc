"""A collector that goes on by itself, told by the learner what to act by and when to pause, and telling what it has."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from macurr.training.acting import Crew
from macurr.training.channel import GO, NEWS, PAUSE, PULSE, TAKEN, WEIGHTS, Line, Message, wait_for
from macurr.training.collector import Collector
from macurr.training.orders import News, Start, Weights
from macurr.training.parcels import packed, unpacked
from macurr.training.policy import Policy
from macurr.training.rollout import Rollout
from macurr.training.vector import VectorEnv

__all__ = ["CollectorServer", "Latest", "serve"]

_NEWS_SECONDS = 0.5
"""Seconds after which the learner is told how things are, even where no rollout was finished."""


class Latest:
    """The live policies, as they came last.

    Args:
        start: What the policies are made of, and their first weights.
    """

    def __init__(self, start: Start) -> None:
        device = start.job.device
        self._policies = [Policy(start.job.spec, torch.Generator()).to(device) for _ in start.weights.arrays]
        self.take(start.weights)

    def take(self, weights: Weights) -> None:
        """Act by other weights from now on."""
        for policy, arrays in zip(self._policies, weights.arrays, strict=True):
            policy.load_arrays(arrays)
        self._versions = list(weights.versions)

    @contextmanager
    def acting(self) -> Iterator[Crew]:
        """The policies and their versions: they change between two steps of the collector alone."""
        yield Crew(self._policies, self._versions)


class CollectorServer:
    """Serves the learner until it hangs up.

    No more than a rollout of each group is under way to the learner: where it takes none, collection rests.

    Args:
        learner: The line to it.
        collector: The collector, whose environments have not begun.
        latest: What it acts by.
        groups: How many groups of environments there are.
    """

    def __init__(self, learner: Line, collector: Collector, latest: Latest, groups: int) -> None:
        self._learner, self._collector, self._latest = learner, collector, latest
        self._most = groups
        self._under_way = 0
        self._pause = 0
        self._told, self._told_at = (False, 0), time.monotonic()
        self._lost = 0

    def serve(self) -> None:
        """Collect until the learner is gone.

        Raises:
            MacurrError: an environment or the curriculum failed, or workers died more often than they may.
            OSError: the learner is gone.
        """
        collector, learner = self._collector, self._learner
        collector.begin()
        while self._listen():
            collector.paused = bool(self._pause) or self._under_way >= self._most
            resting = collector.paused and not collector.busy
            rollouts = [] if resting else collector.pump()
            learner.flush()
            self._tell(rollouts, resting)
            if resting:
                wait_for([learner], PULSE, [learner] if learner.blocked else [])

    def _listen(self) -> bool:
        """Do as the learner says; whether it is there."""
        self._learner.read()
        weights = None
        while self._learner.inbox:
            message = self._learner.inbox.popleft()
            if message.kind == WEIGHTS:
                weights = message
            else:
                self._obey(message)
        if weights is not None:  # only the newest count
            self._latest.take(unpacked(weights.content))
        return not self._learner.over

    def _obey(self, message: Message) -> None:
        if message.kind == TAKEN:
            self._under_way -= message.group
        elif message.kind in {PAUSE, GO}:
            self._pause = message.group if message.kind == PAUSE else 0

    def _tell(self, rollouts: list[Rollout], resting: bool) -> None:
        """Tell the learner what there is to tell."""
        collector = self._collector
        begun, still = collector.begun or self._told[0], self._pause if resting else 0
        late = not resting and time.monotonic() - self._told_at > _NEWS_SECONDS
        if not (rollouts or late or (begun, still) != self._told):
            return
        strays, collector.strays = collector.strays, []
        news = News(
            state=collector.state_dict(whole=False),
            rollouts=rollouts,
            strays=strays,
            steps=collector.take_steps(),
            seconds=collector.clock.take(),
            restarted=collector.restarted,
            lost=collector.lost_steps - self._lost,
            unfinished=collector.unfinished,
            begun=begun,
            still=still,
        )
        self._lost = collector.lost_steps
        self._told, self._told_at = (begun, still), time.monotonic()
        self._under_way += len(rollouts)
        self._learner.post(NEWS, packed(news))


def serve(learner: Line, vector: VectorEnv, more: bytearray) -> None:
    """Build a collector on environments that are open, and collect until the learner is gone.

    Args:
        learner: The line to it.
        vector: The environments.
        more: The rest of what it has said first, a `Start`.

    Raises:
        MacurrError: an environment or the curriculum failed, or workers died more often than they may.
        OSError: the learner is gone.
    """
    start: Start = unpacked(more)
    torch.set_num_threads(start.job.threads)
    generator = torch.Generator()
    generator.set_state(torch.from_numpy(start.generator))
    latest = Latest(start)
    collector = start.job.build(vector, latest, generator)
    if start.state is not None:
        collector.load_state_dict(start.state)
    collector.restarted = start.restarted
    vector.beside = learner
    CollectorServer(learner, collector, latest, len(vector.groups)).serve()

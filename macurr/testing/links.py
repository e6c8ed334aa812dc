"""A transport under test: how it is made, and what is sent over it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from macurr.curriculum import Curriculum
from macurr.messages import EnvSpec, EpisodeAborted, StepBatch, Update
from macurr.testing.episodes import random_episode
from macurr.testing.nested import same
from macurr.transports.base import Link, SyncedCurriculum

SPEC = EnvSpec(("left", "right"), ("left",))
SINGLE = EnvSpec(("agent_0",), ("agent_0",), single_agent=True)
ALL_FIELDS = frozenset({"rewards", "dones", "observations", "infos", "progress"})
SECONDS = 20.0


class TransportSubject:
    """What the checks of `TransportTests` work with; its subclasses define `make`."""

    deterministic: bool = False
    serializes: bool = True
    apart: bool = True

    def make(self, curriculum: Curriculum, **options: Any) -> SyncedCurriculum:
        """Serve a curriculum; `options` are those that all transports have (`max_envs`)."""
        raise NotImplementedError(f"{type(self).__name__} has to define make(curriculum, **options).")

    def run_apart(self, function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Call a function in other processes, once for each tuple of arguments, all at the same time."""
        raise NotImplementedError(f"{type(self).__name__} has to define run_apart, or set apart = False.")


class Fixed(Curriculum):
    """Always one task, of any kind of space."""

    def __init__(self, space: Any, task: Any) -> None:
        super().__init__(space)
        self.task = space.check(task)

    def _sample(self, k: int) -> list[Any]:
        return [self.task] * k


def episodes(link: Link, spec: EnvSpec, n: int) -> list[Update]:
    """Messages of n episodes, cut into batches differently, with an aborted one at the end."""
    rng = np.random.default_rng(n)
    updates: list[Update] = []
    for i in range(n):
        cuts = ((), (1,), (1, 2))[i % 3]
        updates += random_episode(i, link.env_id, spec, rng, ALL_FIELDS, cuts, 4)
    return [*updates, EpisodeAborted(n, link.env_id)]


def settle(link: Link) -> None:
    """Wait until everything that was sent has been applied: a task for now is drawn after it."""
    link.request(1, start=True)
    link.task()


def wait_for(synced: SyncedCurriculum, metric: str, value: float) -> None:
    """Wait for what happens in another thread or process."""
    deadline = time.monotonic() + SECONDS
    while (now := synced.metrics()[metric]) != value:
        assert time.monotonic() < deadline, f"{metric} becomes {value} in {SECONDS:g} s; it is {now}."
        time.sleep(0.002)


def changed(batch: StepBatch, **changes: Any) -> StepBatch:
    """A batch with other values of some attributes."""
    return StepBatch(**{**{name: getattr(batch, name) for name in StepBatch.__slots__}, **changes})


def compare(sent: Sequence[Any], heard: Sequence[Any]) -> None:
    """Demand that what has arrived is what was sent.

    Raises:
        AssertionError: it is not.
    """
    assert len(heard) == len(sent), f"{len(sent)} messages were sent, {len(heard)} have arrived."
    for i, (one, other) in enumerate(zip(sent, heard, strict=True)):
        assert type(one) is type(other), (
            f"Message {i} was a {type(one).__name__}; got a {type(other).__name__}."
        )
        for name in type(one).__slots__:
            assert same(getattr(one, name), getattr(other, name)), f"{name} of message {i} has changed."

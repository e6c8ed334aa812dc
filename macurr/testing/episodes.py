"""Plausible episodes as messages, for driving a curriculum without an environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from macurr.curriculum import Curriculum
from macurr.messages import EnvSpec, EpisodeAborted, EpisodeResult, StepBatch, TaskProgress, Update

__all__ = ["apply_update", "random_episode"]

OBSERVATION = 3
"""Length of the observation vectors."""


def random_episode(
    task: Any,
    env_id: int,
    spec: EnvSpec,
    rng: np.random.Generator,
    fields: frozenset[str] = frozenset(),
    cuts: Sequence[int] = (),
    length: int | None = None,
) -> list[Update]:
    """One episode's messages in the order in which an environment sends them; their arrays are read-only.

    Every agent is paid 0 until the last step, and then 0 or 1.

    Args:
        task: The encoded task.
        env_id: The environment.
        spec: Who plays.
        rng: Where the numbers come from: a number of draws that does not depend on `fields` and `cuts`.
        fields: What the steps hold, as in `Curriculum.step_fields`; none: no steps are sent.
        cuts: The steps at which a new batch begins.
        length: Number of steps; 3 to 8 by default.

    Returns:
        Step batches if there are `fields`, one `TaskProgress`, one `EpisodeResult`.
    """
    drawn = int(rng.integers(3, 9))
    length = drawn if length is None else length
    agents = spec.possible_agents
    rewards = np.zeros((length, len(agents)), np.float32)
    rewards[-1] = rng.integers(2, size=len(agents))
    seen = rng.normal(size=(length + 1, len(agents), OBSERVATION)).astype(np.float32)
    progress = rng.integers(2, size=len(agents)).astype(np.float32)
    bounds = [0, *cuts, length]
    batches = [
        _batch(task, env_id, spec, fields, rewards, seen, progress, first, last)
        for first, last in pairwise(bounds)
    ]
    done = _by_agent(spec, progress)
    return [
        *(batches if fields else ()),
        TaskProgress(task, env_id, done),
        EpisodeResult(task, env_id, _by_agent(spec, rewards.sum(axis=0)), length, done),
    ]


def apply_update(curriculum: Curriculum, update: Update) -> None:
    """Hand one message to the curriculum's method for it, as a host does."""
    if isinstance(update, StepBatch):
        curriculum.update_on_step_batch(update)
    elif isinstance(update, EpisodeResult):
        curriculum.update_on_episode(
            update.episode_return, update.length, update.task, update.progress, env_id=update.env_id
        )
    elif isinstance(update, TaskProgress):
        curriculum.update_task_progress(update.task, update.progress, env_id=update.env_id)
    elif isinstance(update, EpisodeAborted):
        curriculum.update_on_abort(update.task, env_id=update.env_id)


def _batch(
    task: Any,
    env_id: int,
    spec: EnvSpec,
    fields: frozenset[str],
    rewards: Any,
    seen: Any,
    progress: Any,
    first: int,
    last: int,
) -> StepBatch:
    agents, steps = spec.possible_agents, last - first
    ends = last == len(rewards)
    dones = np.zeros((steps, len(agents)), dtype=bool)
    dones[-1] = ends
    done_so_far = np.zeros((steps, len(agents)), np.float32)
    done_so_far[-1] = progress if ends else 0
    observing = "observations" in fields
    return StepBatch(
        task=task,
        env_id=env_id,
        agents=agents,
        rewards=_frozen(rewards[first:last]),
        terminations=_frozen(dones),
        truncations=_frozen(np.zeros_like(dones)),
        active=_frozen(np.ones_like(dones)),
        observations={a: _frozen(seen[first:last, i]) for i, a in enumerate(agents)} if observing else {},
        final_observations={a: _frozen(seen[last, i]) for i, a in enumerate(agents)} if observing else {},
        infos=tuple({agent: {} for agent in agents} for _ in range(steps)) if "infos" in fields else (),
        progress=_frozen(done_so_far) if "progress" in fields else None,
        starts_episode=first == 0,
        ends_episode=ends,
        single_agent=spec.single_agent,
    )


def _frozen(array: Any) -> Any:
    array = array.copy()
    array.flags.writeable = False
    return array


def _by_agent(spec: EnvSpec, values: Any) -> float | Mapping[str, float]:
    numbers = [float(value) for value in values]
    return numbers[0] if spec.single_agent else dict(zip(spec.possible_agents, numbers, strict=True))

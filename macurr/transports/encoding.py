"""Updates as plain tuples of numbers, strings and bytes: a tenth of the cost of pickling the objects themselves."""

from __future__ import annotations

from typing import Any

import numpy as np

from macurr.errors import TransportError
from macurr.messages import EpisodeAborted, EpisodeResult, StepBatch, TaskProgress, Update

__all__ = ["decode", "encode"]

Encoded = tuple[Any, ...]


def encode(update: Update) -> Encoded:
    """An update as a tuple that begins with its kind."""
    if isinstance(update, EpisodeResult):
        return ("episode", update.task, update.env_id, update.episode_return, update.length, update.progress)
    if isinstance(update, StepBatch):
        return _encode_steps(update)
    if isinstance(update, TaskProgress):
        return ("progress", update.task, update.env_id, update.progress)
    if isinstance(update, EpisodeAborted):
        return ("aborted", update.task, update.env_id)
    raise TransportError(
        f"An update is one of the classes in macurr.messages; got a {type(update).__name__}."
    )


def decode(encoded: Encoded) -> Update:
    """The update of a tuple. The arrays of step batches are read-only.

    Raises:
        TransportError: it is no update.
    """
    kind, fields = encoded[0], encoded[1:]
    if kind == "episode":
        return EpisodeResult(*fields)
    if kind == "steps":
        return _decode_steps(*fields)
    if kind == "progress":
        return TaskProgress(*fields)
    if kind == "aborted":
        return EpisodeAborted(*fields)
    raise TransportError(f"There is no update of kind {kind!r}.")


def _encode_steps(batch: StepBatch) -> Encoded:
    return (
        "steps",
        batch.task,
        batch.env_id,
        batch.agents,
        batch.rewards.astype(np.float32, copy=False).tobytes(),
        batch.terminations.astype(np.bool_, copy=False).tobytes(),
        batch.truncations.astype(np.bool_, copy=False).tobytes(),
        batch.active.astype(np.bool_, copy=False).tobytes(),
        batch.observations,
        batch.final_observations,
        batch.infos,
        None if batch.progress is None else batch.progress.astype(np.float32, copy=False).tobytes(),
        batch.starts_episode,
        batch.ends_episode,
        batch.single_agent,
    )


def _decode_steps(
    task: Any,
    env_id: int,
    agents: tuple[str, ...],
    rewards: bytes,
    terminations: bytes,
    truncations: bytes,
    active: bytes,
    observations: Any,
    final_observations: Any,
    infos: Any,
    progress: bytes | None,
    starts_episode: bool,
    ends_episode: bool,
    single_agent: bool,
) -> StepBatch:
    shape = (-1, len(agents))
    return StepBatch(
        task=task,
        env_id=env_id,
        agents=agents,
        rewards=np.frombuffer(rewards, np.float32).reshape(shape),
        terminations=np.frombuffer(terminations, np.bool_).reshape(shape),
        truncations=np.frombuffer(truncations, np.bool_).reshape(shape),
        active=np.frombuffer(active, np.bool_).reshape(shape),
        observations=observations,
        final_observations=final_observations,
        infos=infos,
        progress=None if progress is None else np.frombuffer(progress, np.float32).reshape(shape),
        starts_episode=starts_episode,
        ends_episode=ends_episode,
        single_agent=single_agent,
    )

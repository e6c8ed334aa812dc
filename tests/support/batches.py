"""Step batches written down by hand."""

import numpy as np

from macurr import StepBatch


def make_batch(agents, rewards, *, done=(), cut=(), starts=True, ends=True, task=0, env_id=0, **fields):
    """A step batch.

    Args:
        agents: The columns.
        rewards: A row for each step; None where an agent did not act.
        done: (step, agent) pairs of terminations.
        cut: (step, agent) pairs of truncations.
        starts: Whether the episode starts with the first step.
        ends: Whether it ends with the last.
        task: The task.
        env_id: The environment.
        fields: Other fields of `StepBatch`.
    """
    shape = (len(rewards), len(agents))
    active = np.array([[reward is not None for reward in row] for row in rewards], bool).reshape(shape)
    values = np.array([[reward or 0.0 for reward in row] for row in rewards], np.float32).reshape(shape)
    return StepBatch(
        task=task,
        env_id=env_id,
        agents=tuple(agents),
        rewards=values,
        terminations=_flags(shape, agents, done),
        truncations=_flags(shape, agents, cut),
        active=active,
        starts_episode=starts,
        ends_episode=ends,
        **{"observations": {}, "final_observations": {}, "infos": (), "progress": None, **fields},
    )


def _flags(shape, agents, pairs):
    flags = np.zeros(shape, bool)
    for step, agent in pairs:
        flags[step, agents.index(agent)] = True
    return flags


def column(batch, name="rewards"):
    """A field of a single-agent batch as a list."""
    assert len(batch.agents) == 1
    return getattr(batch, name)[:, 0].tolist()

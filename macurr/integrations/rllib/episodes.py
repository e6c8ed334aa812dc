"""From the parts of episodes that the learner saw to whole episodes, and to what a curriculum scores levels by."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from macurr.integrations.rllib.env import EpisodeTag

__all__ = ["EpisodeAssembler", "EpisodePart", "FinishedEpisode", "score_messages"]

MOST_OPEN = 10_000
"""Open episodes that are kept; of more, those that went on last."""


class EpisodePart(NamedTuple):
    """Consecutive steps of one agent in one episode, as one train batch held them.

    Attributes:
        tag: Which episode; `ended` if the agent's last step is among these.
        agent: The agent.
        start: How many of its steps came before.
        rewards: Shape (T,).
        values: The critic's value before each step, shape (T,).
        final_value: The critic's value after the last step.
        terminated: Whether the agent terminated with the last step.
    """

    tag: EpisodeTag
    agent: str
    start: int
    rewards: NDArray[np.float64]
    values: NDArray[np.float64]
    final_value: float
    terminated: bool


class FinishedEpisode(NamedTuple):
    """One agent's whole episode.

    Attributes:
        task: The encoded task, in plain values.
        agent: The agent.
        rewards: Shape (T,).
        values: The critic's value before each step, shape (T,). Where the episode reached over several train
            batches, each part is from the critic that its batch was used to train.
        final_value: The value of what follows: 0 after a termination.
        terminated: Whether the agent terminated; otherwise it was truncated.
    """

    task: Any
    agent: str
    rewards: NDArray[np.float64]
    values: NDArray[np.float64]
    final_value: float
    terminated: bool


class EpisodeAssembler:
    """Puts the parts of episodes together. An episode of which a part is missing is left out as a whole."""

    def __init__(self) -> None:
        self._open: OrderedDict[tuple[int, int, str], list[EpisodePart]] = OrderedDict()

    def add(self, parts: Iterable[EpisodePart]) -> list[FinishedEpisode]:
        """Take the parts of one train batch, in any order.

        Returns:
            The episodes that have ended, in the order of their environments.
        """
        found = []
        for part in sorted(parts, key=_place):
            episode = self._extended(part)
            if part.tag.ended:
                self._open.pop(_key(part), None)
                if episode is not None:
                    found.append(_finished(episode))
        while len(self._open) > MOST_OPEN:
            self._open.popitem(last=False)
        return found

    def _extended(self, part: EpisodePart) -> list[EpisodePart] | None:
        episode = self._open.setdefault(_key(part), [])
        self._open.move_to_end(_key(part))
        if sum(len(before.rewards) for before in episode) != part.start:
            del self._open[_key(part)]
            return None
        episode.append(part)
        return episode


def _key(part: EpisodePart) -> tuple[int, int, str]:
    return part.tag.env_id, part.tag.number, part.agent


def _place(part: EpisodePart) -> tuple[int, int, str, int]:
    return *_key(part), part.start


def _finished(parts: Sequence[EpisodePart]) -> FinishedEpisode:
    last = parts[-1]
    return FinishedEpisode(
        last.tag.task,
        last.agent,
        np.concatenate([part.rewards for part in parts]),
        np.concatenate([part.values for part in parts]),
        0.0 if last.terminated else last.final_value,
        last.terminated,
    )


def score_messages(episodes: Iterable[FinishedEpisode]) -> list[dict[str, Any]]:
    """What `Curriculum.update_on_demand` takes to score the levels of finished episodes, by its own strategy.

    A rollout of one column, which holds the episodes one after the other; each counts once for its level. Where a
    task is a mapping by agent (`MultiagentIndependentCurriculumWrapper`), an agent's episodes are for its own
    curriculum, with its part of the task.
    """
    groups: dict[str | None, list[tuple[Any, FinishedEpisode]]] = {}
    for episode in episodes:
        own = isinstance(episode.task, Mapping) and episode.agent in episode.task
        task = episode.task[episode.agent] if own else episode.task
        groups.setdefault(episode.agent if own else None, []).append((task, episode))
    messages = []
    for agent, members in groups.items():
        message = {"rollout": _rollout(members)}
        messages.append(message if agent is None else {agent: message})
    return messages


def _rollout(members: Sequence[tuple[Any, FinishedEpisode]]) -> dict[str, Any]:
    lengths = [len(episode.rewards) for _, episode in members]
    ends = np.cumsum(lengths) - 1
    terminations, truncations = np.zeros((2, sum(lengths), 1), np.bool_)
    final_values = np.zeros((sum(lengths), 1))
    terminations[ends, 0] = [episode.terminated for _, episode in members]
    truncations[ends, 0] = [not episode.terminated for _, episode in members]
    final_values[ends, 0] = [episode.final_value for _, episode in members]
    return {
        "tasks": [[task] for (task, _), length in zip(members, lengths, strict=True) for _ in range(length)],
        "rewards": np.concatenate([episode.rewards for _, episode in members])[:, None],
        "terminations": terminations,
        "truncations": truncations,
        "values": np.concatenate([episode.values for _, episode in members])[:, None],
        "final_values": final_values,
    }

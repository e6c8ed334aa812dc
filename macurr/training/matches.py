"""Matches between given policies on given levels, many at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from macurr.errors import UsageError
from macurr.training.envs import EnvSource
from macurr.training.layout import Layout
from macurr.training.opponents import PolicyBank
from macurr.training.stepping import Frame, FrameShape
from macurr.training.vector import EnvGroup, VectorEnv
from macurr.training.worker import Job

__all__ = ["Arena", "Matches", "seat_matches"]

_MOST_ENVS = 128
"""Environments of one group: more rows in a batch than this gain nothing."""


@dataclass(frozen=True)
class Matches:
    """Who plays on which level.

    Attributes:
        players: int64 (M, A), the policy of each agent.
        seeds: int64 (M,).
    """

    players: NDArray[np.int64]
    seeds: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.seeds)


def seat_matches(pairs: Sequence[tuple[int, int]], seeds: Sequence[int], agents: int) -> Matches:
    """Every pair on every seed from every seat.

    Args:
        pairs: (a policy, the policy of all other agents).
        seeds: The levels.
        agents: Agents of the environment, A.

    Returns:
        len(pairs) * len(seeds) * A matches, in that order.
    """
    table = np.array(pairs, np.int64).reshape(-1, 2)
    players = np.broadcast_to(table[:, None, None, 1:], (len(table), len(seeds), agents, agents)).copy()
    for seat in range(agents):
        players[:, :, seat, seat] = table[:, None, 0]
    order = np.broadcast_to(np.array(seeds, np.int64)[None, :, None], players.shape[:3])
    return Matches(players.reshape(-1, agents), order.reshape(-1).copy())


class Arena:
    """Plays matches.

    Args:
        source: The environment.
        layout: How it is laid out.
        bank: The policies by id.
        generator: Where chance comes from.
        workers: Processes that step environments; 0 for none, everything in this one.
    """

    def __init__(
        self, source: EnvSource, layout: Layout, bank: PolicyBank, generator: torch.Generator, workers: int
    ) -> None:
        self._source, self._layout, self._bank = source, layout, bank
        self._generator, self._workers = generator, workers

    @torch.no_grad()
    def play(
        self, matches: Matches, on_progress: Callable[[int, int], None] | None = None
    ) -> NDArray[np.float64]:
        """Play every match once.

        Args:
            matches: Who plays on which level.
            on_progress: Is told how many of how many matches are over.

        Returns:
            Undiscounted returns, float64 (M, A).

        Raises:
            UsageError: there is nothing to play.
            MacurrError: an environment failed or a worker died.
        """
        if not len(matches):
            raise UsageError("There are no matches to play. Give at least one pair and one seed.")
        jobs = self._jobs(matches)
        shapes = [FrameShape.of(self._layout, len(job.seats), 1) for job in jobs]
        returns = np.full((len(matches), len(self._layout.agents)), np.nan)
        with VectorEnv(jobs, shapes, local=not self._workers) as vector:
            for group in vector.groups:
                group.reset()
            boards = [_Board(group, matches, returns) for group in vector.groups]
            while np.isnan(returns[:, 0]).any():
                for board in boards:
                    board.group.act(self._act(board))
                    board.note()
                if on_progress is not None:
                    on_progress(int((~np.isnan(returns[:, 0])).sum()), len(matches))
        return returns

    def _jobs(self, matches: Matches) -> list[Job]:
        """The matches dealt out to environments, one each in turn."""
        groups = max(1, min(self._workers, len(matches)))
        envs = min(groups * _MOST_ENVS, len(matches))
        schedules = [
            tuple((m, int(matches.seeds[m])) for m in range(i, len(matches), envs)) for i in range(envs)
        ]
        parts = [schedules[g::groups] for g in range(groups)]
        return [Job(self._source, (0,) * len(part), 1, schedules=tuple(part)) for part in parts]

    def _act(self, board: _Board) -> NDArray[np.int64] | NDArray[np.float32]:
        frame, layout = board.frame, self._layout
        shape = frame.alive.shape
        out = np.zeros(shape, np.int64) if layout.discrete else np.zeros((*shape, layout.actions), np.float32)
        envs, agents = np.nonzero(frame.alive)
        if not len(envs):
            return out
        masks = None
        if layout.masked:
            masks = torch.from_numpy(frame.masks[envs, agents])
        elif not layout.masks.all():
            masks = torch.from_numpy(layout.masks[agents])
        rows = torch.from_numpy(frame.observations[envs, agents])
        out[envs, agents] = self._bank.act(rows, masks, board.players[envs, agents], self._generator).numpy()
        return out


class _Board:
    """The matches of one group."""

    def __init__(self, group: EnvGroup, matches: Matches, returns: NDArray[np.float64]) -> None:
        self.group = group
        self._matches, self._returns = matches, returns
        self._sums = np.zeros((group.shape.envs, group.shape.agents))
        self.frame: Frame = group.frame()[0]
        self._numbers = self.frame.tasks[:, 0].astype(np.int64)

    @property
    def players(self) -> NDArray[np.int64]:
        """The policy of each agent of each environment."""
        return self._matches.players[self._numbers]

    def note(self) -> None:
        """Take in the next frame, and the results of the matches that it ends."""
        self.frame, _ = self.group.frame()
        self._sums += self.frame.rewards
        ended = np.flatnonzero(self.frame.ended)
        # A schedule begins again at its end: a match that is played twice counts once.
        first = ended[np.isnan(self._returns[self._numbers[ended], 0])]
        self._returns[self._numbers[first]] = self._sums[first]
        self._sums[ended] = 0.0
        self._numbers[ended] = self.frame.tasks[ended, 0].astype(np.int64)

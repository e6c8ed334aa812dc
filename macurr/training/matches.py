"""Matches between given policies on given levels, many at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from macurr.errors import ConfigError, UsageError
from macurr.training.envs import EnvSource
from macurr.training.layout import Layout
from macurr.training.opponents import RANDOM, PolicyBank
from macurr.training.stepping import Frame, FrameShape
from macurr.training.vector import EnvGroup, VectorEnv
from macurr.training.worker import Job

__all__ = ["Arena", "Matches", "Sides", "seat_matches", "team_matches"]

Sides = Sequence[Sequence[int]]
"""The numbers of the agents of each side: those who play together, against all others."""

_MOST_ENVS = 128
"""Environments of one group: more rows in a batch than this gain nothing."""

_MOST_STEPS = 100_000
"""Steps after which a match counts as one that does not end: as many as PettingZoo's longest games allow."""


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


def seat_matches(
    pairs: Sequence[tuple[int, int]], seeds: Sequence[int], agents: int, sides: Sides | None = None
) -> Matches:
    """Every pair on every seed from every side.

    Args:
        pairs: (a policy, the policy of all other agents).
        seeds: The levels.
        agents: Agents of the environment, A.
        sides: Who plays together; None for every agent alone.

    Returns:
        len(pairs) * len(seeds) * len(sides) matches, in that order.
    """
    sides = [(agent,) for agent in range(agents)] if sides is None else sides
    table = np.array(pairs, np.int64).reshape(-1, 2)
    players = np.broadcast_to(table[:, None, None, 1:], (len(table), len(seeds), len(sides), agents)).copy()
    for place, side in enumerate(sides):
        players[:, :, place, list(side)] = table[:, None, :1]
    order = np.broadcast_to(np.array(seeds, np.int64)[None, :, None], players.shape[:3])
    return Matches(players.reshape(-1, agents), order.reshape(-1).copy())


def team_matches(policies: Sequence[int], seeds: Sequence[int], agents: int) -> Matches:
    """Every policy on every seed, played by all agents together: len(policies) * len(seeds) matches, in that order."""
    players = np.repeat(np.array(policies, np.int64), len(seeds))[:, None]
    return Matches(np.repeat(players, agents, axis=1), np.tile(np.array(seeds, np.int64), len(policies)))


class Arena:
    """Plays matches.

    Args:
        source: The environment.
        layout: How it is laid out.
        bank: The snapshots by id.
        generator: Where chance comes from.
        workers: Processes that step environments; 0 for none, everything in this one.
        casting: From the id of a snapshot to the number of its policy that plays each agent; None for policy 0.
        state_size: Numbers that a player remembers between steps, at most; None for what the bank says.
    """

    def __init__(
        self,
        source: EnvSource,
        layout: Layout,
        bank: PolicyBank,
        generator: torch.Generator,
        workers: int,
        *,
        casting: Callable[[int], Sequence[int]] | None = None,
        state_size: int | None = None,
    ) -> None:
        self._source, self._layout, self._bank = source, layout, bank
        self._generator, self._workers, self._casting = generator, workers, casting
        self._state_size = bank.state_size if state_size is None else state_size

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
            ConfigError: a match does not end.
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
            cast = self._cast(matches)
            boards = [_Board(group, matches, cast, returns, self._state_size) for group in vector.groups]
            while np.isnan(returns[:, 0]).any():
                for board in boards:
                    board.group.act(self._act(board))
                    board.note()
                    self._check_lengths(board)
                if on_progress is not None:
                    on_progress(int((~np.isnan(returns[:, 0])).sum()), len(matches))
        return returns

    def _check_lengths(self, board: _Board) -> None:
        if board.lengths.max() >= _MOST_STEPS:
            raise ConfigError(
                f"A match of {self._layout.name} is not over after {_MOST_STEPS:,} steps, and may never be. Give the "
                "environment an end by its arguments (env_args), such as max_cycles, or by a wrapper that truncates "
                "its episodes."
            )

    def _cast(self, matches: Matches) -> NDArray[np.int64]:
        """The number of the policy, of its snapshot, that plays each agent, (M, A)."""
        numbers, places = np.unique(matches.players, return_inverse=True)
        agents = matches.players.shape[1]
        table = np.zeros((len(numbers), agents), np.int64)
        if self._casting is not None:
            for place, number in enumerate(numbers.tolist()):
                table[place] = 0 if number == RANDOM else self._casting(number)
        return table[places.reshape(matches.players.shape), np.arange(agents)]

    def _jobs(self, matches: Matches) -> list[Job]:
        """The matches dealt out to environments, one each in turn."""
        groups = max(1, min(self._workers, len(matches)))
        envs = min(groups * _MOST_ENVS, len(matches))
        schedules = [
            tuple((m, int(matches.seeds[m])) for m in range(i, len(matches), envs)) for i in range(envs)
        ]
        parts = [schedules[g::groups] for g in range(groups)]
        return [Job(self._source, ((0,),) * len(part), 1, schedules=tuple(part)) for part in parts]

    def _act(self, board: _Board) -> NDArray[Any]:
        frame, layout = board.frame, self._layout
        out = np.zeros((*frame.alive.shape, *layout.action_shape), layout.action_dtype)
        envs, agents = np.nonzero(frame.alive)
        if not len(envs):
            return out
        masks = None
        if layout.masked:
            masks = torch.from_numpy(frame.masks[envs, agents])
        elif not layout.masks.all():
            masks = torch.from_numpy(layout.masks[agents])
        rows = torch.from_numpy(frame.observations[envs, agents])
        ids, policies = board.players[envs, agents], board.policies[envs, agents]
        states = None if board.states is None else board.states[envs, agents]
        actions, states = self._bank.act(rows, masks, ids, policies, states, self._generator)
        if board.states is not None and states is not None:
            board.states[envs, agents] = states
        out[envs, agents] = actions.numpy()
        return out


class _Board:
    """The matches of one group.

    Args:
        group: The environments.
        matches: All matches.
        cast: The policy that plays each agent of each match, (M, A).
        returns: Where results go, (M, A).
        state_size: Numbers that a player remembers between steps.

    Attributes:
        frame: What the environments gave last.
        lengths: Steps of the matches under way, int64 (E,).
        players: The snapshot that plays each agent of each environment, (E, A).
        policies: The policy of it, (E, A).
        states: What the players remember, float32 (E, A, state_size); None where nobody remembers.
    """

    def __init__(
        self,
        group: EnvGroup,
        matches: Matches,
        cast: NDArray[np.int64],
        returns: NDArray[np.float64],
        state_size: int,
    ) -> None:
        self.group = group
        self._matches, self._cast, self._returns = matches, cast, returns
        shape = (group.shape.envs, group.shape.agents)
        self._sums, self.lengths = np.zeros(shape), np.zeros(group.shape.envs, np.int64)
        self.states: Tensor | None = torch.zeros(*shape, state_size) if state_size else None
        self.frame: Frame = group.frame()[0]
        self._numbers = self.frame.tasks[:, 0].astype(np.int64)
        self.players, self.policies = matches.players[self._numbers], cast[self._numbers]

    def note(self) -> None:
        """Take in the next frame, and the results of the matches that it ends."""
        self.frame, _ = self.group.frame()
        self._sums += self.frame.rewards
        self.lengths += 1
        ended = np.flatnonzero(self.frame.ended)
        self.lengths[ended] = 0
        if not len(ended):
            return
        # A schedule begins again at its end: a match that is played twice counts once.
        first = ended[np.isnan(self._returns[self._numbers[ended], 0])]
        self._returns[self._numbers[first]] = self._sums[first]
        self._sums[ended] = 0.0
        self._numbers[ended] = numbers = self.frame.tasks[ended, 0].astype(np.int64)
        self.players[ended], self.policies[ended] = self._matches.players[numbers], self._cast[numbers]
        if self.states is not None:
            self.states[ended] = 0.0

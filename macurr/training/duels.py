"""Games between players: every pair on every level from every seat, their policies loaded as they are needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations, permutations

import numpy as np
import torch
from numpy.typing import NDArray

from macurr.errors import ConfigError
from macurr.training.checks import whole
from macurr.training.matches import Arena, seat_matches, team_matches
from macurr.training.opponents import RANDOM, PolicyBank
from macurr.training.players import OpenRun, Player, Weights
from macurr.training.policy import PolicySpec
from macurr.training.scoring import by_seat
from macurr.training.stage import Stage
from macurr.training.threads import bounded_threads

__all__ = ["Progress", "all_pairs", "arena_of", "checked_seed", "checked_workers", "play", "play_together"]

Progress = Callable[[int, int], None]

_CAPACITY = 256
"""Policies that are kept loaded."""


def all_pairs(n: int, sides: int) -> list[tuple[int, int]]:
    """Who plays whom: with two sides each pair once, for they are swapped; with more, each against teams of each."""
    return list(combinations(range(n), 2) if sides == 2 else permutations(range(n), 2))


def play(
    players: Sequence[Player],
    pairs: Sequence[tuple[int, int]],
    stage: Stage,
    *,
    workers: int,
    seed: int,
    on_progress: Progress | None = None,
) -> NDArray[np.float64]:
    """Play every pair on every level from every side.

    Args:
        players: The players.
        pairs: (a player's place, the place of the one who plays all other agents).
        stage: The environment and the levels.
        workers: Processes that step environments; 0 for none, everything in this one.
        seed: Seed of the policies' choices.
        on_progress: Is told how many of how many games are over.

    Returns:
        Own return and the others', float64 (pairs, levels, S, 2) with the sides of the stage.

    Raises:
        MacurrError: an environment failed, a worker died, or a player cannot be read.
    """
    # The random policy has a number of its own in a bank.
    numbers = [RANDOM if player.run is None else i for i, player in enumerate(players)]
    agents, sides = len(stage.layout.agents), stage.sides
    matches = seat_matches([(numbers[i], numbers[j]) for i, j in pairs], stage.levels, agents, sides)
    with bounded_threads(1):
        returns = arena_of(players, stage, workers, seed).play(matches, on_progress)
    return by_seat(returns, len(pairs), sides)


def play_together(
    players: Sequence[Player],
    stage: Stage,
    *,
    workers: int,
    seed: int,
    on_progress: Progress | None = None,
) -> NDArray[np.float64]:
    """Play every level with each player as all agents.

    Args:
        players: The players.
        stage: The environment and the levels.
        workers: Processes that step environments; 0 for none, everything in this one.
        seed: Seed of the policies' choices.
        on_progress: Is told how many of how many games are over.

    Returns:
        Returns, float64 (players, levels, A).

    Raises:
        MacurrError: an environment failed, a worker died, or a player cannot be read.
    """
    numbers = [RANDOM if player.run is None else i for i, player in enumerate(players)]
    agents = len(stage.layout.agents)
    with bounded_threads(1):
        returns = arena_of(players, stage, workers, seed).play(
            team_matches(numbers, stage.levels, agents), on_progress
        )
    return returns.reshape(len(players), -1, agents)


def arena_of(players: Sequence[Player], stage: Stage, workers: int, seed: int) -> Arena:
    """Where players meet; in its matches a player's id is its place.

    Args:
        players: The players.
        stage: The environment.
        workers: Processes that step environments; 0 for none, everything in this one.
        seed: Seed of the policies' choices.
    """
    layout = stage.layout

    def weights(number: int) -> Weights:
        return players[number].weights()

    def casting(number: int) -> Sequence[int]:
        return players[number].casting(layout)

    return Arena(
        stage.source,
        layout,
        PolicyBank(PolicySpec.of(layout, ()), weights, capacity=_CAPACITY),
        torch.Generator().manual_seed(seed),
        workers,
        casting=casting,
        state_size=max(player.state_size(layout) for player in players),
    )


def checked_seed(seed: int) -> int:
    """The seed.

    Raises:
        ConfigError: it is none.
    """
    check = whole(0, 2**63 - 1)
    if not check.holds(seed):
        raise ConfigError(f"seed={seed!r} cannot be used: it must be {check.wanted}.")
    return seed


def checked_workers(workers: int | None, runs: Sequence[OpenRun]) -> int:
    """The number of worker processes: as given, or as the runs had.

    Raises:
        ConfigError: it is none.
    """
    if workers is None:
        return max(0 if run.config.transport == "local" else run.config.workers for run in runs)
    check = whole(0, 256)
    if not check.holds(workers):
        raise ConfigError(
            f"workers={workers!r} cannot be used: it must be {check.wanted}; 0 plays in this process."
        )
    return workers

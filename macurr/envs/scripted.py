"""Players that need no training: a yardstick for tests, examples and evaluation."""

from __future__ import annotations

from typing import Any

from macurr.envs._grid import GridGame
from macurr.errors import UsageError


def bfs_policy(env: Any, agent: str) -> int:
    """The action of a scripted player that always follows a shortest path, by breadth-first search in the whole maze.

    In the apple race it goes for the nearest apple; in laser tag for the opponent, and fires once it is in
    line. It knows the maze beyond its view, and nothing of the opponent's plans.

    Args:
        env: A grid game of `macurr.envs`, Parallel or AEC, under any number of PettingZoo's wrappers.
        agent: Whose action, one of `env.agents`.

    Returns:
        An action of `agent`; the same in the same situation.

    Raises:
        UsageError: `env` is no grid game of `macurr.envs`, no episode is going on, or there is no such agent.
    """
    game = getattr(env, "unwrapped", env)
    if not isinstance(game, GridGame):
        raise UsageError(
            f"bfs_policy plays the grid games of macurr.envs, not {env!r}: give it one, wrapped or not"
        )
    return game.scripted_action(agent)

"""From the options of Prioritized Level Replay to its parts."""

from __future__ import annotations

from macurr.curricula.plr.buffer import LevelBuffer
from macurr.curricula.plr.levels import FiniteLevels, Levels, Schedule
from macurr.curricula.plr.mixture import ReplayDistribution
from macurr.curricula.plr.options import Options
from macurr.curricula.plr.strategies import STRATEGIES, Outcomes
from macurr.errors import UsageError
from macurr.spaces import TaskSpace

LARGEST = 10**8
"""The largest number of tasks that are kept one by one."""


def make_levels(space: TaskSpace, options: Options) -> Levels:
    """The levels that a space and the options ask for.

    Raises:
        UsageError: the space has no end, or too many tasks to keep a score of each, and there is no buffer.
    """
    size = space.num_tasks if options.buffer_size is None else options.buffer_size
    if size is None or size > LARGEST:
        raise UsageError(
            f"{space!r} has {'no end' if size is None else f'{size} tasks'}: too many to keep a score of each. Pass "
            "buffer_size=4000 or so to replay the best levels found."
        )
    if options.strategy == "sequential" and options.buffer_size is not None:
        raise UsageError("Strategy 'sequential' goes through a finite space in order: leave buffer_size out.")
    replay = ReplayDistribution(
        size,
        transform=options.score_transform,
        temperature=options.temperature,
        eps=options.eps,
        staleness_coef=options.staleness_coef,
        staleness_transform=options.staleness_transform,
        staleness_temperature=options.staleness_temperature,
    )
    parts = _parts(options)
    if options.buffer_size is None:
        return FiniteLevels(space, replay, *parts)
    return LevelBuffer(space, replay, *parts, options.buffer_priority)


def configure(levels: Levels, options: Options) -> None:
    """Make the levels follow options of which those in `CHANGEABLE` have changed."""
    levels.replay.configure(
        temperature=options.temperature,
        eps=options.eps,
        staleness_coef=options.staleness_coef,
        staleness_temperature=options.staleness_temperature,
    )
    levels.configure(*_parts(options))


def _parts(options: Options) -> tuple[Outcomes, float, Schedule]:
    """What to remember of levels, the weight of a new score, and when to replay."""
    strategy = STRATEGIES[options.strategy]
    # A success rate is an average already; so is a slope over a window.
    alpha = 1.0 if strategy.name in ("learnability", "tscl_window") else options.alpha
    schedule = Schedule(options.replay_schedule, options.replay_prob, options.rho)
    return Outcomes(strategy, options.alpha, options.window), alpha, schedule

"""How often a policy succeeds on tasks: it plays them, on several environments at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from threading import Lock
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self, override

from macurr.errors import TaskError, UsageError
from macurr.evaluator._player import Player, Seat, make_player
from macurr.evaluator.base import Evaluator
from macurr.spaces import TaskSpace

__all__ = ["Seat", "TaskEvaluator", "TaskSuccess"]

Floats = NDArray[np.float64]
Act = Callable[[Any, Sequence[Seat]], Any]
Success = Callable[[float, int, float], float]


def default_success(episode_return: float, length: int, completion: float) -> float:
    """1 for an episode that returned more than 0 or completed its task, else 0."""
    return float(episode_return > 0.0 or completion >= 1.0)


@dataclass(frozen=True, eq=False)
class TaskSuccess:
    """What came of playing n tasks.

    Attributes:
        tasks: The encoded tasks.
        episodes: How many episodes of each were played.
        success: (n,) rates of success from 0 to 1, the mean over the learners.
        by_agent: Each learner's own (n,) rates; NaN where it took part in no episode.
        returns: Each learner's (n,) mean undiscounted returns; NaN likewise.
        lengths: (n,) mean numbers of environment steps.
    """

    tasks: tuple[Any, ...]
    episodes: int
    success: Floats
    by_agent: dict[str, Floats]
    returns: dict[str, Floats]
    lengths: Floats

    def metrics(self, by_agent: bool = False) -> dict[str, Any]:
        """What `update_on_demand` of `LearningProgress`, `Learnability` and the like takes.

        Args:
            by_agent: Whether to give a mapping from agent to rate for each task, as `Learnability` takes it,
                rather than one rate.
        """
        rates: list[Any] = self.success.tolist()
        if by_agent:
            rates = [{a: float(own[i]) for a, own in self.by_agent.items()} for i in range(len(self.tasks))]
        return {"tasks": list(self.tasks), "task_success": rates, "episodes": self.episodes}


class TaskEvaluator(Evaluator):
    """Plays episodes of given tasks on several environments, and says how often the policy succeeds.

    The environments are PettingZoo Parallel or Gymnasium ones that take a task as all of macurr's do: by the keyword
    `new_task` of `reset`, or in `options["task"]`. They are stepped in turn, in the calling thread, and the policy is
    asked about all of them at once. An environment that finishes an episode goes on with the next one at once, so
    with an `act` that treats every row by itself the results do not depend on the number of environments.

    Every episode is reset with a seed of its own; equal seeds, tasks and `act` give equal results. One call follows
    another's random stream, so calls that repeat a question play new episodes.

    Args:
        envs: The environments, each an object of its own and none of them connected to a curriculum. They belong
            to this evaluator, which closes them.
        act: Chooses actions. It gets the observations of everybody who is to act, k rows stacked to an array where
            they stack and else a list of k, and a list of k with the `Seat` of each: which environment and agent it
            belongs to, and whether it is the first of an episode. It returns k actions.
        success: What an agent's episode is worth, from 0 to 1, by its undiscounted return, the number of steps on
            which it acted, and the task completion that it last reported in its infos (0 if it never did). By
            default 1 where the return is positive or the completion 1, else 0.
        learners: Whose success counts; all agents by default.
        task_space: Decodes the tasks for the environments. Without it, they get the tasks as they are.
        max_steps: Episodes that are not over after that many steps end there; None to play every one to its end.
        seed: Seed or generator for the episodes' seeds.

    Raises:
        UsageError: there are no environments, the same one twice, one that takes no tasks or is connected to a
            curriculum, or learners that are no agents.

    Example:
        >>> from macurr.envs import apple_race_v0
        >>> from macurr.wrappers import SeedTaskWrapper
        >>> envs = [SeedTaskWrapper(apple_race_v0.parallel_env()) for _ in range(3)]
        >>> with TaskEvaluator(envs, lambda observations, seats: [0] * len(seats)) as evaluator:
        ...     evaluator.task_success([7, 8])
        array([0., 0.])
    """

    def __init__(
        self,
        envs: Sequence[Any],
        act: Act,
        *,
        success: Success = default_success,
        learners: Sequence[str] | None = None,
        task_space: TaskSpace | None = None,
        max_steps: int | None = None,
        seed: int | np.random.Generator | None = 0,
    ) -> None:
        envs = list(envs)
        if not envs or len({id(env) for env in envs}) < len(envs):
            raise UsageError(
                f"TaskEvaluator needs one or more environments, each an object of its own; got {envs}. Make them by "
                "[make_env() for _ in range(n)]."
            )
        if max_steps is not None and max_steps < 1:
            raise UsageError(f"max_steps must be 1 or more, or None for no limit; got {max_steps!r}.")
        self._players = [make_player(number, env, max_steps) for number, env in enumerate(envs)]
        self._agents = _learners(self._players, learners)
        self._act, self._success, self._space = act, success, task_space
        self._rng = np.random.default_rng(seed)
        self._lock = Lock()

    @override
    def task_success(self, tasks: Sequence[Any], episodes: int = 1) -> Floats:
        """`evaluate(tasks, episodes).success`."""
        return self.evaluate(tasks, episodes).success

    def evaluate(
        self, tasks: Sequence[Any], episodes: int = 1, seed: int | np.random.Generator | None = None
    ) -> TaskSuccess:
        """Play tasks. Calls from several threads wait for each other.

        Args:
            tasks: n encoded tasks.
            episodes: How many episodes of each.
            seed: For the seeds of these episodes, in place of the evaluator's own.

        Returns:
            What came of it.

        Raises:
            TaskError: a task is not in the task space, or an environment fails on it; the message names both, and
                the environment's error is the cause. Or `success` returned something else than 0 to 1.
            UsageError: no episodes are asked for, or `act` returned another number of actions than was asked for.
        """
        if episodes < 1:
            raise UsageError(f"At least one episode of each task must be played; got episodes={episodes!r}.")
        encoded = tuple(tasks if self._space is None else [self._space.check(task) for task in tasks])
        decoded = encoded if self._space is None else tuple(self._space.decode(task) for task in encoded)
        with self._lock:
            rng = self._rng if seed is None else np.random.default_rng(seed)
            seeds = rng.integers(2**31, size=(len(encoded), episodes))
            found = np.full((len(encoded), episodes, len(self._agents), 2), np.nan)
            lengths = np.zeros((len(encoded), episodes))
            self._play(decoded, seeds, found, lengths)
        rates, returns = _mean(found[..., 0], 1), _mean(found[..., 1], 1)
        return TaskSuccess(
            tasks=encoded,
            episodes=episodes,
            success=_mean(found[..., 0], (1, 2)),
            by_agent={agent: rates[:, i] for i, agent in enumerate(self._agents)},
            returns={agent: returns[:, i] for i, agent in enumerate(self._agents)},
            lengths=lengths.mean(axis=1),
        )

    def close(self) -> None:
        """Close the environments."""
        for player in self._players:
            player.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _play(self, tasks: Sequence[Any], seeds: NDArray[np.int64], found: Floats, lengths: Floats) -> None:
        """Play every episode; writes success and return of each learner, and the lengths."""
        jobs = iter(list(product(range(len(tasks)), range(seeds.shape[1]))))
        playing: dict[Player, tuple[int, int]] = {}
        idle = list(self._players)
        while True:
            for player, job in zip(idle, jobs, strict=False):
                player.reset(tasks[job[0]], int(seeds[job]))
                playing[player] = job
            if not playing:
                return
            self._step([player for player in playing if not player.over])
            idle = [player for player in playing if player.over]
            for player in idle:
                job = playing.pop(player)
                lengths[job] = player.length
                for i, agent in enumerate(self._agents):
                    if agent in player.returns:
                        found[job[0], job[1], i] = self._judged(player, agent), player.returns[agent]

    def _step(self, players: Sequence[Player]) -> None:
        if not players:
            return
        turns = [(player, agent) for player in players for agent in player.acting]
        seats = [player.seat(agent) for player, agent in turns]
        answer = self._act(_stacked([player.seen(agent) for player, agent in turns]), seats)
        # A tensor's rows are tensors, which environments take badly; a list may hold anything.
        actions = np.asarray(answer) if hasattr(answer, "__array__") else answer
        if _length(actions) != len(seats):
            raise UsageError(
                f"act must return one action for each of {len(seats)} observations, in order; got {answer!r}."
            )
        chosen: dict[Player, dict[str, Any]] = {player: {} for player in players}
        for (player, agent), action in zip(turns, actions, strict=True):
            chosen[player][agent] = action
        for player, own in chosen.items():
            player.step(own)

    def _judged(self, player: Player, agent: str) -> float:
        told = player.returns[agent], player.acted[agent], player.completion.get(agent, 0.0)
        value = float(self._success(*told))
        if not 0.0 <= value <= 1.0:
            raise TaskError(
                f"success{told} of {agent!r} on task {player.task!r} is {value!r}. It has to be from 0 to 1."
            )
        return value


def _learners(players: Sequence[Player], learners: Sequence[str] | None) -> tuple[str, ...]:
    agents = players[0].agents
    strangers = [player.agents for player in players if set(player.agents) != set(agents)]
    if strangers:
        raise UsageError(f"All environments must have the same agents; got {agents} and {strangers[0]}.")
    if learners is not None and (not learners or set(learners) - set(agents)):
        raise UsageError(f"learners={list(learners)} must be one or more of the agents {list(agents)}.")
    return agents if learners is None else tuple(dict.fromkeys(learners))


def _length(actions: Any) -> int | None:
    try:
        return None if isinstance(actions, Mapping) else len(actions)
    except TypeError:  # one number, or an array without dimensions
        return None


def _stacked(observations: list[Any]) -> Any:
    """One array of observations that are arrays or numbers of one shape, else the list."""
    if not all(isinstance(seen, np.ndarray | np.generic | int | float) for seen in observations):
        return observations
    shapes = {np.shape(seen) for seen in observations}
    return np.stack([np.asarray(seen) for seen in observations]) if len(shapes) == 1 else observations


def _mean(values: Floats, axis: int | tuple[int, ...]) -> Floats:
    """The mean without NaNs; NaN where there is nothing else."""
    present = ~np.isnan(values)
    count = present.sum(axis=axis)
    total = np.where(present, values, 0.0).sum(axis=axis)
    mean: Floats = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return mean

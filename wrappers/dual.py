"""An opponent and a level for each episode, from two curricula."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Unpack, override

from macurr.curriculum import Curriculum, State, check_state
from macurr.errors import StateError, UsageError
from macurr.messages import EnvSpec
from macurr.spaces import TupleTaskSpace
from macurr.spaces.forms import plain
from macurr.wrappers._composite import MOST_TASKS, CompositeCurriculum, check_parts, register_all
from macurr.wrappers._demand import about_tasks, map_tasks, pair
from macurr.wrappers._routed import RoutedCurriculum
from macurr.wrappers.joint import LevelsPerOpponent, MakeLevels, Regret
from macurr.wrappers.multiagent import adapted

__all__ = ["DualCurriculumWrapper"]


class JointOptions(TypedDict, total=False):
    """The options of `macurr.wrappers.joint.LevelsPerOpponent`."""

    uniform_prob: float
    top_k: int
    trials: int
    regret: Regret | None
    seed: int | np.random.Generator | None


class DualCurriculumWrapper(RoutedCurriculum, CompositeCurriculum):
    """Two curricula, one for the level and one for the opponent. A task is the named tuple `(agent, env)`.

    Each curriculum sees its part of the task. Episodes, task progress and aborted episodes go to both; steps go to
    whichever requires them. A part that is a single-agent curriculum is wrapped in
    `MultiagentSharedCurriculumWrapper`, so that it learns from every learner; wrap it yourself for another rule.

    The two draw independently, so they cannot see that a level is worth playing against one opponent and not
    against another. With `joint=True` level scores are kept for each opponent, and opponent and level are drawn
    together, as MAESTRO does (Samvelyan et al., 2023): with probability `1 - uniform_prob` the opponent on whose
    own levels regret is highest, else the one that the agent curriculum draws (any of them alike, with
    `FictitiousSelfPlay`); then a level from that opponent's own curriculum.

    Args:
        env_curriculum: The levels' curriculum. With `joint=True`, a function that makes one for each opponent
            from a generator: `lambda rng: PrioritizedLevelReplay(space, buffer_size=1000, seed=rng)`.
        agent_curriculum: The opponents' curriculum.
        batch_agent_tasks: Keep an opponent for `batch_size` tasks in a row, so that few have to be loaded.
        batch_size: How many tasks that is.
        share_scores: Whether what the learner tells about tasks goes to the agent curriculum as well: for one
            that prioritises opponents by score.
        joint: Draw opponent and level together.
        joint_options: With `joint`, the options of `macurr.wrappers.joint.LevelsPerOpponent`: `uniform_prob`,
            `top_k`, `trials`, `regret`, `seed`.

    Raises:
        UsageError: parts that are no curricula or one and the same, or options out of range.

    Example:
        >>> from macurr import DiscreteTaskSpace
        >>> from macurr.curricula import Constant, DomainRandomization
        >>> levels = DomainRandomization(DiscreteTaskSpace(200), seed=0)
        >>> opponents = Constant(DiscreteTaskSpace(["first", "second"]), 1)
        >>> dual = DualCurriculumWrapper(levels, opponents)
        >>> [task] = dual.sample()
        >>> task.agent, 0 <= task.env < 200, dual.task_space.decode(task).agent
        (1, True, 'second')
    """

    def __init__(
        self,
        env_curriculum: Curriculum | MakeLevels,
        agent_curriculum: Curriculum,
        batch_agent_tasks: bool = False,
        batch_size: int = 32,
        *,
        share_scores: bool = False,
        joint: bool = False,
        **joint_options: Unpack[JointOptions],
    ) -> None:
        if batch_size < 1:
            raise UsageError(f"batch_size must be at least 1; got {batch_size}.")
        check_parts({"agent": agent_curriculum}, "DualCurriculumWrapper")
        self._agent = adapted(agent_curriculum)
        self._joint: LevelsPerOpponent | None = None
        if joint:
            self._joint = LevelsPerOpponent(_factory(env_curriculum), self._agent, **joint_options)
        self._env = self._joint or adapted(_plain_levels(env_curriculum, agent_curriculum, joint_options))
        levels = self._env.task_space if self._joint is None else self._joint.level_space
        super().__init__(
            {"agent": self._agent, "env": self._env},
            TupleTaskSpace([self._agent.task_space, levels], names=["agent", "env"]),
        )
        self._batch_size = batch_size if batch_agent_tasks else 1
        self._share_scores = share_scores
        self._opponent: Any = None
        self._left = 0

    @property
    def agent_curriculum(self) -> Curriculum:
        """The opponents' curriculum, as it is used here."""
        return self._agent

    @property
    def env_curriculum(self) -> Curriculum:
        """The levels' curriculum, as it is used here; with `joint`, a `LevelsPerOpponent`."""
        return self._env

    # Tasks

    @override
    def sample(self, k: int = 1) -> list[Any]:
        """Choose tasks.

        Returns:
            k named tuples `(agent, env)`.
        """
        space: Any = self.task_space
        opponents = self._opponents(k)
        if self._joint is None:
            levels = self._env.sample(k)
        else:
            levels = [self._joint.draw_level(opponent) for opponent in opponents]
        return [space.make(parts) for parts in zip(opponents, levels, strict=True)]

    @override
    def task_info(self, task: Any) -> dict[str, float]:
        """What both say of their parts; where they use the same name, the env curriculum's."""
        return {
            key: value for part, own in self._routes(task, None) for key, value in part.task_info(own).items()
        }

    def _opponents(self, k: int) -> list[Any]:
        if self._batch_size == 1:
            return self._drawn(k)
        opponents: list[Any] = []
        while len(opponents) < k:
            if self._left == 0 or not self._agent.task_space.contains(self._opponent):
                [self._opponent], self._left = self._drawn(1), self._batch_size
            turns = min(self._left, k - len(opponents))
            opponents += [self._opponent] * turns
            self._left -= turns
        return opponents

    def _drawn(self, k: int) -> list[Any]:
        return (
            self._agent.sample(k) if self._joint is None else [self._joint.draw_opponent() for _ in range(k)]
        )

    @override
    def distribution(self) -> NDArray[np.float64] | None:
        """The probability of each pair, the opponent's position first; None where the space is large."""
        n = self.task_space.num_tasks
        opponents = None if n is None or n > MOST_TASKS else self._opponent_distribution()
        if opponents is None or len(opponents) == 0:
            return None
        rows = np.zeros((len(opponents), n // len(opponents)))  # type: ignore[operator]
        for i in np.flatnonzero(opponents):
            levels = self._level_distribution(int(i))
            if levels is None:
                return None
            rows[i] = opponents[i] * levels
        return rows.ravel()

    def _opponent_distribution(self) -> NDArray[np.float64] | None:
        space = self._agent.task_space
        if self._left > 0 and space.contains(self._opponent):
            certain = np.zeros(len(space.tasks))
            certain[space.index(self._opponent)] = 1.0
            return certain
        return self._agent.distribution() if self._joint is None else self._joint.opponent_distribution()

    def _level_distribution(self, opponent: int) -> NDArray[np.float64] | None:
        if self._joint is None:
            return self._env.distribution()
        return self._joint.level_distribution(self._agent.task_space.from_index(opponent))

    # Environments

    @override
    def register_env(self, env_id: int, spec: EnvSpec) -> None:
        register_all([(self._agent, env_id, spec), (self._env, env_id, spec)])
        super().register_env(env_id, spec)

    @override
    def unregister_env(self, env_id: int) -> None:
        super().unregister_env(env_id)
        self._agent.unregister_env(env_id)
        self._env.unregister_env(env_id)

    # Updates

    @override
    def _routes(self, task: Any, env_id: int | None) -> list[tuple[Curriculum, Any]]:
        agent, env = pair(task)
        return [(self._agent, agent), (self._env, env if self._joint is None else task)]

    @override
    def check_episode(self, episode_return: Any, length: int, task: Any) -> None:
        for part, own in self._routes(task, None):
            part.check_episode(episode_return, length, own)

    @override
    def update_on_demand(self, metrics: Mapping[str, Any]) -> None:
        """Pass on what the learner tells.

        - What stands under "agent" or "env" is for that curriculum alone: `{"agent": {"snapshot": 3}}`.
        - The rest is for both, except that what it says about tasks, `{"tasks": [(agent, env), ...], "scores":
          ...}` or a "rollout", is for the env curriculum, with its part of each task; the agent curriculum gets
          it with its own part where `share_scores=True`.
        - "options" holds those of both: `{"options": {"env/temperature": 0.5}}`.

        Raises:
            TaskError: a task is no pair. Nothing is changed.
        """
        with self._with_options(metrics) as told:
            self._pass_on(told)

    def _pass_on(self, metrics: Mapping[str, Any]) -> None:
        rest = {key: value for key, value in metrics.items() if key not in ("agent", "env")}
        messages: list[tuple[Curriculum, Mapping[str, Any]]] = []
        if rest and (self._share_scores or not about_tasks(rest)):
            messages.append((self._agent, map_tasks(rest, lambda task: pair(task)[0])))
        if rest:
            own = map_tasks(rest, lambda task: pair(task)[1]) if self._joint is None else rest
            messages.append((self._env, own))
        messages += [(part, metrics[name]) for name, part in self._parts.items() if name in metrics]
        for part, message in messages:
            part.update_on_demand(message)

    @override
    def normalize(self, reward: float, task: Any) -> float:
        """Scale a reward by the statistics that the env curriculum keeps of the task's level.

        Raises:
            UsageError: it was made without `record_stats=True`.
        """
        part, own = self._routes(task, None)[1]
        return part.normalize(reward, own)

    # State

    @override
    def state_dict(self) -> State:
        opponent = plain(self._opponent) if self._left else None
        return {**super().state_dict(), "batch": {"opponent": opponent, "left": self._left}}

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_state(state, type(self).__name__, {"parts", "batch"})
        opponent, left = self._batch_of(state["batch"])
        super().load_state_dict(state)
        self._opponent, self._left = opponent, left

    def _batch_of(self, batch: Any) -> tuple[Any, int]:
        """The opponent that is being played, and for how many tasks more.

        An opponent that has left the population meanwhile is followed by another at the next draw.
        """
        space = self._agent.task_space
        try:
            opponent, left = batch["opponent"], int(batch["left"])
            if not 0 <= left < self._batch_size:
                raise StateError(f"left={left} does not fit batch_size={self._batch_size}.")
            if left == 0 or space.was_removed(opponent):
                return None, 0
            return space.check(opponent), left
        except (KeyError, TypeError, ValueError) as error:
            raise StateError(f"The state does not say which opponent is being played: {error}") from error


def _factory(env_curriculum: Any) -> MakeLevels:
    if isinstance(env_curriculum, Curriculum) or not callable(env_curriculum):
        raise UsageError(
            f"With joint=True every opponent has its own levels, so env_curriculum is a function that makes a "
            f"curriculum from a generator: lambda rng: {type(env_curriculum).__name__}(..., seed=rng). Got "
            f"{env_curriculum!r}."
        )
    made: MakeLevels = env_curriculum
    return made


def _plain_levels(
    env_curriculum: Any, agent_curriculum: Curriculum, joint_options: Mapping[str, Any]
) -> Curriculum:
    if joint_options:
        raise UsageError(f"{', '.join(joint_options)}: pass joint=True as well, or leave them out.")
    if not isinstance(env_curriculum, Curriculum) and callable(env_curriculum):
        raise UsageError(
            f"env_curriculum is a function that makes curricula; it is wanted with joint=True alone. Got "
            f"{env_curriculum!r}."
        )
    parts = {"env": env_curriculum, "agent": agent_curriculum}
    check_parts(parts, "DualCurriculumWrapper", "Levels and opponents need one each.")
    levels: Curriculum = env_curriculum
    return levels

"""What comes in: steps and episodes from environments, rollouts and scores from the learner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import override

from macurr.curricula.plr.feeding import Feed
from macurr.curricula.plr.levels import Levels
from macurr.curricula.plr.options import Options
from macurr.curricula.plr.rollouts import CRITICS, make_rollout
from macurr.curricula.plr.steps import StepReader
from macurr.curricula.plr.strategies import Strategy
from macurr.curriculum import Curriculum
from macurr.errors import TaskError, UsageError
from macurr.messages import EnvSpec, StepBatch

_HINT = "Wrap it in MultiagentSharedCurriculumWrapper, or another of the wrappers for several agents."


class ScoredLevels(Curriculum):
    """A single-agent curriculum that scores levels by what came of their episodes.

    The attributes are made by the subclass's constructor.

    Attributes:
        options: The options.
        strategy: How episodes are scored.
    """

    single_agent = True
    options: Options
    strategy: Strategy
    _levels: Levels
    _feed: Feed
    _reader: StepReader

    @property
    @override
    def requires_step_updates(self) -> bool:
        """Whether environments have to send their steps: with an evaluator, if the strategy scores steps."""
        return self._reader.wanted

    @property
    @override
    def step_fields(self) -> frozenset[str]:
        if not self.requires_step_updates:
            return frozenset()
        return frozenset({"rewards", "dones", "observations"})

    @override
    def register_env(self, env_id: int, spec: EnvSpec) -> None:
        super().register_env(env_id, spec)
        self._reader.drop(env_id)

    @override
    def unregister_env(self, env_id: int) -> None:
        super().unregister_env(env_id)
        self._reader.drop(env_id)

    @override
    def update_on_step(
        self,
        task: Any,
        obs: Any,
        reward: Any,
        term: Any,
        trunc: Any,
        info: Any,
        progress: Any,
        env_id: int | None = None,
    ) -> None:
        """Learn from one step. An episode's first is not scored: what was seen before it is not known here."""
        self.check_env(env_id)
        self._check_plain(reward)
        if self.requires_step_updates:
            plain = self.task_space.check(task)
            self._reader.read_step(
                plain, obs, reward, term, trunc, progress, -1 if env_id is None else env_id
            )

    @override
    def update_on_step_batch(self, batch: StepBatch) -> None:
        """Learn from consecutive steps of one agent; nothing is asked of each step in turn."""
        self.check_env(batch.env_id)
        self.task_space.check(batch.task)
        if len(batch.agents) != 1:
            raise UsageError(
                f"{type(self).__name__} learns from one agent; got the steps of {batch.agents}. {_HINT}"
            )
        if self.requires_step_updates:
            self._reader.read_batch(batch)

    @override
    def update_on_episode(
        self, episode_return: Any, length: int, task: Any, progress: Any, env_id: int | None = None
    ) -> None:
        self._check_plain(episode_return)
        self.check_env(env_id)
        self.check_episode(episode_return, length, task)
        self._feed.score_outcome(self.task_space.check(task), float(episode_return), float(progress or 0.0))
        self._record_episode(episode_return, length, task)

    @override
    def update_on_abort(self, task: Any, env_id: int | None = None) -> None:
        self._reader.drop(-1 if env_id is None else env_id)

    @override
    def update_on_demand(self, metrics: Mapping[str, Any]) -> None:
        """Learn from the learner: `{"tasks": ..., "scores": ...}`, or `{"rollout": {...}}`.

        Args:
            metrics: Arguments of `update_scores`, or under "rollout" those of `update_rollout`; under "options" those
                of `set_options`. Other keys are for others and left alone.

        Raises:
            TaskError: there are tasks without scores, or scores with a rollout; as the methods named above.
            UsageError: the options cannot be set.
        """
        with self._with_options(metrics) as told:
            self._learn(told)

    def _learn(self, metrics: Mapping[str, Any]) -> None:
        if ("tasks" in metrics) != ("scores" in metrics):
            raise TaskError(f"Pass both 'tasks' and 'scores'; got {sorted(metrics)}.")
        if "rollout" in metrics and "tasks" in metrics:
            raise TaskError("Pass either a 'rollout' or 'scores', one update at a time; got both.")
        if "rollout" in metrics:
            self.update_rollout(**checked_rollout(metrics["rollout"]))
        elif "tasks" in metrics:
            self.update_scores(metrics["tasks"], metrics["scores"], metrics.get("max_scores"))

    def update_scores(self, tasks: Any, scores: ArrayLike, max_scores: ArrayLike | None = None) -> None:
        """Take over ready scores, in order; each counts as one finished episode.

        Scores of tasks that have been removed from the space are left aside.

        Args:
            tasks: Encoded tasks, k of them; or one task, where `scores` is one number.
            scores: The mean of each episode's scores, shape (k,).
            max_scores: The largest of each episode's scores, shape (k,); mixed in by `max_score_coef`.

        Raises:
            TaskError: a task is not in the space, a score is not finite, or the lengths differ. Nothing is
            changed.
        """
        if isinstance(scores, float | int | np.number):
            self.update_scores(
                [tasks], np.reshape(scores, 1), None if max_scores is None else np.reshape(max_scores, 1)
            )
            return
        if isinstance(tasks, str) or not isinstance(tasks, Sequence | np.ndarray):
            raise TaskError(f"tasks must be a sequence, one for each score; got {tasks!r}.")
        means = checked_scores("scores", scores, len(tasks))
        highest = means if max_scores is None else checked_scores("max_scores", max_scores, len(tasks))
        share = self.options.max_score_coef
        mixed = (1.0 - share) * means + share * highest if share > 0.0 else means
        if self.task_space.num_removed:  # an episode may end after its level has left
            kept = np.array([not self.task_space.was_removed(task) for task in tasks], np.bool_)
            tasks, mixed = [task for task, keep in zip(tasks, kept, strict=True) if keep], mixed[kept]
        self._levels.put_many(tasks, mixed)

    def update_rollout(
        self,
        tasks: Sequence[Any],
        rewards: ArrayLike,
        terminations: ArrayLike,
        truncations: ArrayLike | None = None,
        *,
        values: ArrayLike | None = None,
        action_probs: ArrayLike | None = None,
        alternative_values: ArrayLike | None = None,
        value_ensemble: ArrayLike | None = None,
        final_values: ArrayLike | None = None,
        final_alternative_values: ArrayLike | None = None,
        active: ArrayLike | None = None,
        next_values: ArrayLike | None = None,
        next_alternative_values: ArrayLike | None = None,
    ) -> None:
        """Learn from T steps of the learner's N environments or agents, its columns.

        Columns go on from one call to the next: an episode that is open at the end of this rollout is scored
        when it ends in a later one.

        Args:
            tasks: `tasks[t][n]` is the encoded task that step t of column n belongs to.
            rewards: Shape (T, N).
            terminations: Whether the episode terminated with the step, shape (T, N).
            truncations: Whether it was truncated with the step, shape (T, N).
            values: The critic's value before each step, shape (T, N).
            action_probs: The policy's probabilities, shape (T, N, A).
            alternative_values: The second critic's values, shape (T, N).
            value_ensemble: The values of E critics, shape (T, N, E).
            final_values: Value of what follows each step, shape (T, N); read where the episode was truncated.
            final_alternative_values: The same from the second critic.
            active: Which steps are data and not padding, shape (T, N).
            next_values: Value of what follows the rollout, shape (N,). With it, open episodes are scored as
                far as they have come and that counts as a finished episode, as in the reference code after
                each update.
            next_alternative_values: The same from the second critic.

        Raises:
            TaskError: a shape does not fit, a number is not finite, a task is not in the space, or something
                that the strategy needs is missing. Nothing is changed.
        """
        columns = {"values": values, "action_probs": action_probs, "value_ensemble": value_ensemble}
        columns["alternative_values"] = alternative_values
        finals = {"values": final_values, "alternative_values": final_alternative_values}
        rollout = make_rollout(
            self.strategy, tasks, rewards, terminations, truncations, columns, finals, active
        )
        after = {}
        for name, given in zip(CRITICS, (next_values, next_alternative_values), strict=True):
            if given is not None:
                after[name] = checked_scores(f"next_{name}", given, rollout.rewards.shape[1])
        self._feed.read_rollout(rollout, after)

    def _check_plain(self, value: Any) -> None:
        if type(value) is not float and isinstance(value, Mapping):
            raise UsageError(f"{type(self).__name__} learns from one agent's numbers; got {value!r}. {_HINT}")


def checked_rollout(rollout: Any) -> Mapping[str, Any]:
    """The arguments of `update_rollout`, from a mapping.

    Raises:
        TaskError: it is none, or names arguments that do not exist or lacks those that must be there.
    """
    known = list(signature(ScoredLevels.update_rollout).parameters)[1:]
    if not isinstance(rollout, Mapping) or not set(known[:3]) <= set(rollout) <= set(known):
        found = sorted(rollout) if isinstance(rollout, Mapping) else type(rollout).__name__
        raise TaskError(f"A rollout is a mapping with {known[:3]}, and some of {known[3:]}; got {found}.")
    return rollout


def checked_scores(name: str, values: ArrayLike, n: int) -> NDArray[np.float64]:
    """`values` as an array of n finite numbers.

    Raises:
        TaskError: they are not.
    """
    try:
        found = np.array(values, np.float64)
    except (TypeError, ValueError) as error:
        raise TaskError(f"{name} must be {n} numbers; got {values!r}.") from error
    if found.shape != (n,):
        raise TaskError(f"{name} must be {n} numbers, one for each; got shape {found.shape}.")
    if not np.isfinite(found).all():
        raise TaskError(
            f"{name} must be finite; got {found[~np.isfinite(found)][0]} at {int(np.argmin(np.isfinite(found)))}."
        )
    return found

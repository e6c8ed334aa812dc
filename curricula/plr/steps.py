"""From environments' steps to scores, with an evaluator for what the learner's networks say about them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from macurr.curricula.plr.feeding import Feed
from macurr.curricula.plr.strategies import Strategy
from macurr.errors import TaskError, UsageError
from macurr.evaluator import Evaluator
from macurr.messages import StepBatch

_QUESTIONS = {"values": "values", "action_probs": "action_distributions"}


class _Key:
    """Tells the streams of one reader from those of others that share its evaluator, copies included."""


class StepReader:
    """Reads single-agent steps into the open episodes of a feed.

    Args:
        feed: The open episodes.
        strategy: What is needed of each step.
        evaluator: Knows the learner's networks. None where the learner sends scores or rollouts.

    Raises:
        UsageError: the evaluator cannot give what the strategy needs.
    """

    def __init__(self, feed: Feed, strategy: Strategy, evaluator: Evaluator | None) -> None:
        self._feed, self._strategy, self._evaluator = feed, strategy, evaluator
        self._key = _Key()
        self.wanted = evaluator is not None and strategy.score_steps is not None
        if not isinstance(evaluator, Evaluator | None):
            raise UsageError(
                f"evaluator must be a macurr.Evaluator, such as FunctionEvaluator(values=...); got {evaluator!r}."
            )
        if self.wanted and not strategy.needs <= set(_QUESTIONS):
            raise UsageError(
                f"Strategy {strategy.name!r} needs {sorted(strategy.needs)}, which no evaluator gives. Leave the "
                "evaluator out and pass the learner's rollouts to update_rollout."
            )

    def read_batch(self, batch: StepBatch) -> None:
        """Append a batch of one agent's steps, and score the episode if it ends with them.

        Raises:
            TaskError: a reward or an evaluation is not finite.
            UsageError: the batch holds no observations.
        """
        if not batch.active.all():
            batch = batch.agent(batch.agents[0])
        if len(batch) == 0:
            return
        stream, rewards = ("step", batch.env_id), batch.rewards[:, 0]
        _check_finite("rewards", rewards, batch.task)
        terminated = bool(batch.terminations[-1, 0])
        ended = terminated or bool(batch.truncations[-1, 0]) or batch.ends_episode
        bootstraps = ended and not terminated and "values" in self._strategy.needs
        seen = self._observed(batch.observations, batch)
        if bootstraps:
            seen = _with(seen, self._observed(batch.final_observations, batch))
        found = self._evaluated(seen, len(batch) + bootstraps, batch.task, batch.env_id, batch.starts_episode)
        final = float(found["values"][-1]) if bootstraps else 0.0
        if batch.starts_episode:
            self._feed.drop(stream)
        self._feed.extend(stream, batch.task, rewards, {k: rows[: len(batch)] for k, rows in found.items()})
        if ended:
            self._feed.end(stream, final, progress=_last_progress(batch))
            self._forget(batch.env_id)

    def read_step(
        self, task: Any, obs: Any, reward: float, term: bool, trunc: bool, progress: Any, env_id: int
    ) -> None:
        """Append one step. `obs` is what followed it: an episode's first has no value and is not scored."""
        stream = ("step", env_id)
        if obs is None:
            raise UsageError(
                f"The step of task {task!r} holds no observation, which strategy {self._strategy.name!r} needs."
            )
        _check_finite("reward", np.asarray(reward, np.float64), task)
        found = self._evaluated(_one(obs), 1, task, env_id, not self._feed.holds(stream, task))
        episode = self._feed.get(stream, task)
        if episode.evaluated is None:
            episode.episode_return += float(reward)
        else:
            self._feed.extend(stream, task, np.array([reward], np.float32), episode.evaluated)
        episode.evaluated = found
        if term or trunc:
            final = 0.0 if term or "values" not in found else float(found["values"][0])
            self._feed.end(stream, final, progress=float(progress or 0.0))
            self._forget(env_id)

    def drop(self, env_id: int) -> None:
        """Forget an environment's open episode, if there is one."""
        self._feed.drop(("step", env_id))
        self._forget(env_id)

    def _forget(self, env_id: int) -> None:
        if self._evaluator is not None:
            self._evaluator.forget((self._key, env_id))

    def _observed(self, observations: Any, batch: StepBatch) -> Any:
        if batch.agents[0] not in observations:
            raise UsageError(
                f"The steps of environment {batch.env_id} hold no observations, which strategy "
                f"{self._strategy.name!r} needs. Send the curriculum's `step_fields`: observations among them."
            )
        return observations[batch.agents[0]]

    def _evaluated(
        self, observations: Any, n: int, task: Any, env_id: int, starts: bool
    ) -> dict[str, NDArray[Any]]:
        if self._evaluator is None:
            raise UsageError("Steps are scored by an evaluator; this curriculum was made without one.")
        answers = self._evaluator.answer(
            [_QUESTIONS[name] for name in sorted(self._strategy.needs)],
            observations,
            stream=(self._key, env_id),
            starts_episode=starts,
        )
        found = {}
        for name in sorted(self._strategy.needs):
            values = np.array(answers[_QUESTIONS[name]], np.float64)
            if name == "values":
                values = values.reshape(-1)
            if len(values) != n:
                raise TaskError(f"The evaluator gave {name} of shape {values.shape} for {n} observations.")
            _check_finite(name, values, task)
            found[name] = values
        return found


def _one(observation: Any) -> Any:
    """A batch of one observation."""
    if isinstance(observation, np.ndarray | np.generic | int | float):
        return np.asarray(observation)[None]
    return [observation]


def _with(observations: Any, last: Any) -> Any:
    """A batch of observations and one more."""
    if isinstance(observations, np.ndarray):
        return np.concatenate([observations, np.asarray(last, observations.dtype)[None]])
    return [*observations, last]


def _last_progress(batch: StepBatch) -> float:
    if batch.progress is None or not np.isfinite(batch.progress[-1, 0]):
        return 0.0
    return float(batch.progress[-1, 0])


def _check_finite(name: str, values: NDArray[Any], task: Any) -> None:
    if not np.isfinite(values).all():
        raise TaskError(f"The {name} on task {task!r} must be finite; got NaN or infinity among them.")

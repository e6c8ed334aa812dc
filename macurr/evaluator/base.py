"""What a curriculum may ask of a policy."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import override

from macurr.errors import UsageError

__all__ = ["Evaluator", "FunctionEvaluator"]

Floats = NDArray[np.float64]


class Evaluator:
    """Answers a curriculum's questions about a policy.

    Subclasses define what they can answer, `values`, `action_distributions` or `task_success`; everything else
    refuses with a clear error.

    Curricula that read experience call `answer`, which says whose experience it is, and `forget`. A policy without
    memory need not know: by default `answer` asks `values` and `action_distributions`. A policy with memory defines
    both and keeps a state for each stream.
    """

    def values(self, observations: Any) -> Floats:
        """The critic's estimates.

        Args:
            observations: n observations, stacked to (n, ...), or a list of n where they do not stack.

        Returns:
            (n,) estimates of the discounted return.

        Raises:
            UsageError: this evaluator has no critic.
        """
        raise self._cannot("values", "observations")

    def action_distributions(self, observations: Any) -> Floats:
        """The policy's action probabilities.

        Args:
            observations: n observations, stacked to (n, ...), or a list of n where they do not stack.

        Returns:
            (n, actions) probabilities; each row sums to one.

        Raises:
            UsageError: this evaluator has no policy, or one whose actions are continuous.
        """
        raise self._cannot("action_distributions", "observations")

    def task_success(self, tasks: Sequence[Any], episodes: int = 1) -> Floats:
        """How often the policy succeeds on tasks; it plays them to find out, which takes its time.

        Args:
            tasks: n encoded tasks.
            episodes: How many episodes of each.

        Returns:
            (n,) rates of success from 0 to 1.

        Raises:
            UsageError: this evaluator plays no tasks.
        """
        raise self._cannot("task_success", "tasks")

    def answer(
        self, questions: Collection[str], observations: Any, *, stream: Hashable, starts_episode: bool
    ) -> dict[str, Floats]:
        """Answer questions about consecutive observations of one stream.

        A stream is one agent's experience in one environment: its episodes one after the other, each of them cut
        into any number of calls. A policy with memory goes on from where the stream's last call ended.

        Args:
            questions: "values", "action_distributions" or both.
            observations: n observations in the order in which they were made, none of them told before.
            stream: Whose they are.
            starts_episode: Whether the first of them is the first of an episode.

        Returns:
            What `values` and `action_distributions` return, by question.

        Raises:
            UsageError: this evaluator cannot answer one of them.
        """
        asked = {"values": self.values, "action_distributions": self.action_distributions}
        strangers = [question for question in questions if question not in asked]
        if strangers:
            raise self._cannot(strangers[0], "observations")
        return {question: asked[question](observations) for question in questions}

    def forget(self, stream: Hashable) -> None:
        """Let go of what is kept of a stream: its episode is over, or its environment is gone."""

    def _cannot(self, question: str, of: str) -> UsageError:
        return UsageError(
            f"{type(self).__name__} does not answer {question}({of}). Subclass macurr.Evaluator and define it, or pass "
            f"FunctionEvaluator({question}=...)."
        )


class FunctionEvaluator(Evaluator):
    """An evaluator made of plain functions.

    Args:
        values: Maps (n, ...) observations to n estimates of the return.
        action_distributions: Maps (n, ...) observations to (n, actions) probabilities.
        task_success: Maps n encoded tasks and a number of episodes to n rates of success; such as the method of
            that name of a `TaskEvaluator`.

    Example:
        >>> critic = FunctionEvaluator(values=lambda observations: observations.sum(axis=1))
        >>> critic.values(np.ones((2, 3)))
        array([3., 3.])
    """

    def __init__(
        self,
        values: Callable[[Any], ArrayLike] | None = None,
        action_distributions: Callable[[Any], ArrayLike] | None = None,
        task_success: Callable[[Sequence[Any], int], ArrayLike] | None = None,
    ) -> None:
        self._values, self._action_distributions = values, action_distributions
        self._task_success = task_success

    @override
    def values(self, observations: Any) -> Floats:
        """The estimates of the function that was passed in, as (n,).

        Raises:
            UsageError: there is none, or it returned another number of values.
        """
        if self._values is None:
            return super().values(observations)
        found = np.asarray(self._values(observations), np.float64).squeeze()
        return rows("values", found, len(observations), 1)

    @override
    def action_distributions(self, observations: Any) -> Floats:
        """The probabilities of the function that was passed in, as (n, actions).

        Raises:
            UsageError: there is none, or it returned another number of rows.
        """
        if self._action_distributions is None:
            return super().action_distributions(observations)
        found = np.asarray(self._action_distributions(observations), np.float64)
        return rows("action_distributions", found, len(observations), 2)

    @override
    def task_success(self, tasks: Sequence[Any], episodes: int = 1) -> Floats:
        """The rates of the function that was passed in, as (n,).

        Raises:
            UsageError: there is none, it returned another number of rates, or some are not from 0 to 1.
        """
        if self._task_success is None:
            return super().task_success(tasks, episodes)
        rates = rows(
            "task_success", np.asarray(self._task_success(tasks, episodes), np.float64), len(tasks), 1
        )
        if not ((rates >= 0.0) & (rates <= 1.0)).all():
            raise UsageError(f"task_success must return rates from 0 to 1; got {rates}.")
        return rates


def rows(name: str, answer: Floats, n: int, ndim: int) -> Floats:
    """Return an answer if it has one row for each of n questions; one row alone may lack its first dimension.

    Raises:
        UsageError: it does not.
    """
    if answer.ndim == ndim - 1 and n == 1:
        answer = answer[None]
    if answer.ndim != ndim or len(answer) != n:
        raise UsageError(
            f"{name} returned an array of shape {answer.shape} for {n} inputs. Return one row for each."
        )
    return answer

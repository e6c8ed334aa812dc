"""What a curriculum may ask of a policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from macurr.errors import UsageError

__all__ = ["Evaluator", "FunctionEvaluator"]


class Evaluator:
    """Answers a curriculum's questions about a policy, on batches of observations.

    Subclasses define what they can answer; everything else refuses with a clear error.
    """

    def values(self, observations: Any) -> NDArray[np.float64]:
        """The critic's estimates.

        Args:
            observations: n observations, stacked to (n, ...).

        Returns:
            (n,) estimates of the discounted return.

        Raises:
            UsageError: this evaluator has no critic.
        """
        raise self._cannot("values")

    def action_distributions(self, observations: Any) -> NDArray[np.float64]:
        """The policy's action probabilities.

        Args:
            observations: n observations, stacked to (n, ...).

        Returns:
            (n, actions) probabilities; each row sums to one.

        Raises:
            UsageError: this evaluator has no policy.
        """
        raise self._cannot("action_distributions")

    def _cannot(self, question: str) -> UsageError:
        return UsageError(
            f"{type(self).__name__} does not answer {question}(observations). Subclass macurr.Evaluator and define "
            f"it, or pass FunctionEvaluator({question}=...)."
        )


class FunctionEvaluator(Evaluator):
    """An evaluator made of plain functions.

    Args:
        values: Maps (n, ...) observations to n estimates of the return.
        action_distributions: Maps (n, ...) observations to (n, actions) probabilities.
    """

    def __init__(
        self,
        values: Callable[[Any], ArrayLike] | None = None,
        action_distributions: Callable[[Any], ArrayLike] | None = None,
    ) -> None:
        self._values, self._action_distributions = values, action_distributions

    def values(self, observations: Any) -> NDArray[np.float64]:
        """The estimates of the function that was passed in, as (n,).

        Raises:
            UsageError: there is none, or it returned another number of values.
        """
        if self._values is None:
            return super().values(observations)
        return _rows("values", np.asarray(self._values(observations), np.float64).squeeze(), observations, 1)

    def action_distributions(self, observations: Any) -> NDArray[np.float64]:
        """The probabilities of the function that was passed in, as (n, actions).

        Raises:
            UsageError: there is none, or it returned another number of rows.
        """
        if self._action_distributions is None:
            return super().action_distributions(observations)
        rows = np.asarray(self._action_distributions(observations), np.float64)
        return _rows("action_distributions", rows, observations, 2)


def _rows(name: str, answer: NDArray[np.float64], observations: Any, ndim: int) -> NDArray[np.float64]:
    if answer.ndim == ndim - 1 and len(observations) == 1:
        answer = answer[None]
    if answer.ndim != ndim or len(answer) != len(observations):
        raise UsageError(
            f"{name} returned an array of shape {answer.shape} for {len(observations)} observations. Return one row "
            "for each."
        )
    return answer

"""Curricula made of others: a mixture, and one with some of its tasks left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import override

from macurr.curricula._composite import Composite
from macurr.curricula._states import StateReader
from macurr.curriculum import Curriculum, CurriculumWrapper
from macurr.errors import TaskError, UsageError
from macurr.spaces import TaskSpace

__all__ = ["Filtered", "Mixture"]


class Mixture(Composite):
    """Each task is drawn by one of several curricula, chosen with fixed probabilities.

    Args:
        curricula: The curricula.
        weights: Their weights, not all 0; equal ones by default.
        routing: Who learns from an episode: "drawn", the curriculum that drew its task (every one that contains the
            task if that is not known), or "all", every curriculum that contains it. With "all", curricula learn
            from tasks that they did not choose.
        task_space: The tasks of all; by default the space of the first curriculum.
        options: The base class's keywords.

    Raises:
        UsageError: there is no curriculum, or an option is out of its range.
    """

    def __init__(
        self,
        curricula: Sequence[Curriculum],
        weights: ArrayLike | None = None,
        *,
        routing: str = "drawn",
        task_space: TaskSpace | None = None,
        **options: Any,
    ) -> None:
        if not curricula:
            raise UsageError("Mixture is made of curricula; got none.")
        super().__init__(task_space or curricula[0].task_space, curricula, **options)
        if routing not in ("drawn", "all"):
            raise UsageError(f"routing must be 'drawn' or 'all'; got {routing!r}.")
        self.routing = routing
        self.set_weights(np.ones(len(curricula)) if weights is None else weights)

    def set_weights(self, weights: ArrayLike) -> None:
        """Choose with these weights from now on.

        Raises:
            UsageError: there is not one finite weight of at least 0 for each curriculum, or all are 0.
        """
        values = np.array(weights, np.float64)
        fits = values.shape == (len(self.parts),) and np.isfinite(values).all() and (values >= 0).all()
        if not fits or not values.any():
            raise UsageError(
                f"Give {len(self.parts)} finite weights of at least 0, not all 0; got {weights!r}."
            )
        self._weights: NDArray[np.float64] = values / values.sum()

    @property
    def weights(self) -> NDArray[np.float64]:
        """The probability of each curriculum."""
        weights: NDArray[np.float64] = self._weights.copy()
        return weights

    @override
    def _sample(self, k: int) -> list[Any]:
        return [self._draw_from(int(self.rng.choice(len(self.parts), p=self._weights))) for _ in range(k)]

    @override
    def _receivers(self, task: Any, source: int | None) -> Sequence[int]:
        if source is not None and self.routing == "drawn":
            return (source,)
        return [i for i, part in enumerate(self.parts) if part.task_space.contains(task)]

    @override
    def distribution(self) -> NDArray[np.float64] | None:
        mixed: NDArray[np.float64] = np.zeros(self.task_space.num_tasks or 0)
        for part, weight in zip(self.parts, self._weights, strict=True):
            probabilities = part.distribution() if part.task_space == self.task_space else None
            if probabilities is None:
                return None
            mixed += weight * probabilities
        return mixed

    @override
    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "mixture": self._weights.copy()}

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        reader = StateReader(state, type(self).__name__, {"mixture"})
        weights = reader.array("mixture", (len(self.parts),), low=0.0, high=1.0)
        if abs(weights.sum() - 1.0) > 1e-9:
            raise reader.fail("mixture", "probabilities that sum to 1")
        super().load_state_dict(state)
        self._weights = weights


class Filtered(CurriculumWrapper):
    """A curriculum without the tasks that a predicate refuses: it is asked again until a task passes.

    That is the curriculum's own distribution, restricted and normalised, as long as drawing does not change it.

    Args:
        curriculum: The curriculum.
        predicate: Whether a decoded task may be handed out.
        tries: How many refused tasks in a row are an error.

    Raises:
        UsageError: `curriculum` is no curriculum, or `tries` is less than 1.
    """

    def __init__(self, curriculum: Curriculum, predicate: Callable[[Any], bool], tries: int = 10_000) -> None:
        super().__init__(curriculum)
        if tries < 1:
            raise UsageError(f"tries must be 1 or more; got {tries!r}.")
        self.predicate, self.tries = predicate, tries

    @override
    def sample(self, k: int = 1) -> list[Any]:
        return [self._draw() for _ in range(k)]

    def _draw(self) -> Any:
        for _ in range(self.tries):
            task = self.curriculum.sample()[0]
            if self._passes(task):
                return task
        raise TaskError(
            f"{type(self.curriculum).__name__} drew {self.tries} tasks, and the predicate refused all of them. "
            "Loosen the predicate, or choose a smaller task space."
        )

    def _passes(self, task: Any) -> bool:
        return bool(self.predicate(self.task_space.decode(task)))

    @override
    def distribution(self) -> NDArray[np.float64] | None:
        probabilities = self.curriculum.distribution()
        if probabilities is None:
            return None
        kept = np.zeros(len(probabilities))
        for i in np.flatnonzero(probabilities).tolist():
            if self._passes(self.task_space.from_index(i)):
                kept[i] = probabilities[i]
        total = float(kept.sum())
        normalised: NDArray[np.float64] = kept / (total or 1.0)
        return normalised

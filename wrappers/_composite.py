"""Curricula made of others: what they ask for, their numbers and their state, together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from macurr.curriculum import Curriculum, State, check_state
from macurr.errors import StateError, UsageError
from macurr.messages import EnvSpec
from macurr.options import OptionsOfParts
from macurr.spaces import TaskSpace

MOST_TASKS = 1_000_000
"""Larger products of task spaces have no distribution as an array."""


class CompositeCurriculum(OptionsOfParts, Curriculum):
    """A curriculum made of named parts. It draws nothing at random itself.

    Args:
        parts: The curricula by name, each a different object.
        task_space: The tasks.

    Raises:
        UsageError: a part is no curriculum, or the same one as another.
    """

    def __init__(self, parts: Mapping[str, Curriculum], task_space: TaskSpace) -> None:
        super().__init__(task_space)
        self._parts = dict(parts)

    @override
    def __repr__(self) -> str:
        if not hasattr(self, "_parts"):
            return super().__repr__()
        parts = ", ".join(f"{name}={part!r}" for name, part in self._parts.items())
        return f"{type(self).__name__}({parts})"

    @override
    def _option_parts(self) -> Mapping[str, Curriculum]:
        return self._parts

    @property
    @override
    def requires_step_updates(self) -> bool:
        return any(part.requires_step_updates for part in self._parts.values())

    @property
    @override
    def step_fields(self) -> frozenset[str]:
        """The union of what the parts read."""
        return frozenset().union(*(part.step_fields for part in self._parts.values()))

    @override
    def normalize(self, reward: float, task: Any) -> float:
        """Not defined: each part has statistics of its own.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            f"{type(self).__name__} has no statistics of its own. Make its parts ({', '.join(self._parts)}) with "
            "record_stats=True, and call normalize of the one that is meant."
        )

    @override
    def metrics(self) -> dict[str, float]:
        """The parts' metrics, each under its part's name: "agent/entropy"."""
        return {
            f"{name}/{key}": value
            for name, part in self._parts.items()
            for key, value in part.metrics().items()
        }

    @override
    def _scalars(self, log_n_tasks: int) -> dict[str, float]:
        # The parts' most likely tasks say more than the most likely combinations.
        return {
            f"curriculum/{name}/{key.removeprefix('curriculum/')}": value
            for name, part in self._parts.items()
            for key, value in part._scalars(log_n_tasks).items()
        }

    @override
    def state_dict(self) -> State:
        return {
            "type": type(self).__name__,
            "parts": {name: part.state_dict() for name, part in self._parts.items()},
        }

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_state(state, type(self).__name__, {"parts"})
        states = state["parts"]
        if not isinstance(states, Mapping) or set(states) != set(self._parts):
            found = sorted(states) if isinstance(states, Mapping) else states
            raise StateError(
                f"The state has parts {found!r}; this {type(self).__name__} has {sorted(self._parts)}."
            )
        load_all([(part, states[name]) for name, part in self._parts.items()])


def check_parts(parts: Mapping[str, Any], owner: str, cure: str = "") -> None:
    """Refuse parts that are no curricula, or one curriculum in two places.

    Args:
        parts: The curricula by name.
        owner: Whose parts they are.
        cure: What to do where one curriculum is meant for two places.

    Raises:
        UsageError: as said.
    """
    seen: dict[int, str] = {}
    for name, part in parts.items():
        if not isinstance(part, Curriculum):
            raise UsageError(f"{owner} is made of curricula; got {part!r} for {name!r}.")
        if id(part) in seen:
            raise UsageError(
                f"{owner} got the same {type(part).__name__} for {seen[id(part)]!r} and {name!r}. {cure}"
            )
        seen[id(part)] = name


def register_all(wanted: Sequence[tuple[Curriculum, int | None, EnvSpec]]) -> None:
    """Register environments with several curricula: with all of them, or with none where one refuses."""
    done: list[tuple[Curriculum, int]] = []
    try:
        for curriculum, env_id, spec in wanted:
            if env_id is not None:
                curriculum.register_env(env_id, spec)
                done.append((curriculum, env_id))
    except Exception:
        for curriculum, env_id in done:
            curriculum.unregister_env(env_id)
        raise


def load_all(wanted: Sequence[tuple[Curriculum, Mapping[str, Any]]]) -> None:
    """Load states into several curricula: into all of them, or, where one refuses, into none."""
    before: list[tuple[Curriculum, State]] = []
    try:
        for curriculum, state in wanted:
            kept = curriculum.state_dict()
            curriculum.load_state_dict(state)
            before.append((curriculum, kept))
    except Exception:
        for curriculum, kept in before:
            curriculum.load_state_dict(kept)
        raise


def product_distribution(parts: Sequence[Curriculum]) -> NDArray[np.float64] | None:
    """The distribution of independent draws from the parts, in the order of a product space's positions.

    Returns:
        None where a part has no distribution, or where the product has more than `MOST_TASKS` tasks.
    """
    sizes = [part.task_space.num_tasks for part in parts]
    if (
        any(size is None for size in sizes)
        or math.prod(size for size in sizes if size is not None) > MOST_TASKS
    ):
        return None
    product = np.ones(1)
    for part in parts:
        probabilities = part.distribution()
        if probabilities is None:
            return None
        product = np.outer(product, probabilities).ravel()
    return product

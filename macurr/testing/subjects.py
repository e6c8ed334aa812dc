"""A curriculum under test: how it is made, connected, driven and compared."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from macurr.curriculum import Curriculum, CurriculumWrapper
from macurr.errors import StateError
from macurr.messages import EnvSpec, StepBatch
from macurr.testing.episodes import apply_update, random_episode
from macurr.testing.nested import raises, same

TWO_AGENTS = EnvSpec(("agent_0", "agent_1"), ("agent_0", "agent_1"))
"""An environment of two agents, both of them learners."""
ONE_AGENT = EnvSpec(("agent_0",), ("agent_0",), single_agent=True)
"""A single-agent environment."""


class CurriculumSubject:
    """What the checks of `CurriculumTests` work with; its subclasses define `make`."""

    episodes: int = 40
    draws: int = 1000
    same_in_single_steps: bool | None = None
    tolerance: float = 1e-5

    def make(self, seed: int) -> Curriculum:
        """A new curriculum, built the same way on each call but for its seed."""
        raise NotImplementedError(f"{type(self).__name__} has to define make(seed).")

    def spec(self, curriculum: Curriculum) -> EnvSpec:
        """Who plays in the environments; by default two agents, or one for a single-agent curriculum."""
        return ONE_AGENT if curriculum.single_agent else TWO_AGENTS

    def drive(self, curriculum: Curriculum, n: int, rng: np.random.Generator) -> None:
        """Sample n tasks and play an episode of each, in two environments by turns.

        Override it, and call `super()`, to also feed what comes by `update_on_demand`.
        """
        spec = self.spec(curriculum)
        for i in range(n):
            task = curriculum.sample()[0]
            for update in random_episode(task, i % 2, spec, rng, self._fields(curriculum)):
                apply_update(curriculum, update)

    def bad_demands(self, curriculum: Curriculum) -> Iterable[Mapping[str, Any]]:
        """What `update_on_demand` must refuse with TaskError, such as a score that is NaN; none by default."""
        return ()

    # Helpers

    def _fields(self, curriculum: Curriculum) -> frozenset[str]:
        return curriculum.step_fields if curriculum.requires_step_updates else frozenset()

    def _connected(self, curriculum: Curriculum) -> Curriculum:
        for env_id in range(2):
            curriculum.register_env(env_id, self.spec(curriculum))
        return curriculum

    def _driven(self, seed: int) -> Curriculum:
        curriculum = self._connected(self.make(seed))
        self.drive(curriculum, self.episodes, np.random.default_rng(seed))
        return curriculum

    def _agree(self, one: Curriculum, other: Curriculum, promise: str, tolerance: float = 0.0) -> None:
        """Compare two curricula by their next tasks, before and after the same further updates."""
        assert same(one.sample(50), other.sample(50)), f"{promise}: the next 50 tasks are equal."
        for curriculum in (one, other):
            self.drive(curriculum, 10, np.random.default_rng(123))
        p, q = one.distribution(), other.distribution()
        assert same(p, q, tolerance), f"{promise}: the distributions are equal after further updates."
        assert same(one.sample(50), other.sample(50)), f"{promise}: so are 50 tasks after further updates."

    def _refuses(self, curriculum: Curriculum, state: Any, what: str) -> None:
        before = curriculum.state_dict()
        with raises(StateError, f"load_state_dict raises StateError where {what}."):
            curriculum.load_state_dict(state)
        assert same(before, curriculum.state_dict()), f"Nothing is loaded where {what}."

    def _probabilities(self, curriculum: Curriculum) -> np.ndarray[Any, Any]:
        probabilities = curriculum.distribution()
        n = curriculum.task_space.num_tasks
        assert isinstance(probabilities, np.ndarray), "distribution() stays an array."
        assert probabilities.shape == (n,), f"distribution() has shape ({n},); got {probabilities.shape}."
        assert (probabilities >= 0).all(), "Probabilities are not negative."
        total = float(probabilities.sum())
        assert abs(total - 1) < 1e-9, f"The probabilities sum to one; got {total!r}."
        return probabilities

    def _valued(self, curriculum: Curriculum, value: float) -> float | Mapping[str, float]:
        """A return of which one agent's is `value`."""
        spec = self.spec(curriculum)
        return (
            value
            if spec.single_agent
            else {**dict.fromkeys(spec.possible_agents, 0.0), spec.learners[0]: value}
        )

    def _takes_single_steps(self, curriculum: Curriculum) -> bool:
        if self.same_in_single_steps is not None:
            return self.same_in_single_steps
        kind = type(curriculum)
        return not isinstance(curriculum, CurriculumWrapper) and (
            kind.update_on_step is not Curriculum.update_on_step
            and kind.update_on_step_batch is not Curriculum.update_on_step_batch
        )

    def _episode_to(
        self, curriculum: Curriculum, length: int, cuts: tuple[int, ...], one_by_one: bool = False
    ) -> None:
        task, rng = curriculum.sample()[0], np.random.default_rng(length)
        spec, fields = self.spec(curriculum), self._fields(curriculum)
        for update in random_episode(task, 0, spec, rng, fields, cuts, length):
            if one_by_one and isinstance(update, StepBatch):
                for step in update.steps():
                    curriculum.update_on_step(task, *step, env_id=0)
            else:
                apply_update(curriculum, update)


class Writer:
    """Remembers what is logged."""

    def __init__(self) -> None:
        self.scalars: dict[str, float] = {}

    def add_scalar(self, tag: str, scalar_value: float, global_step: int | None = None) -> None:
        """Remember one number."""
        self.scalars[tag] = scalar_value


def fields_of(update: Any) -> list[Any]:
    """The values of a message's attributes, in order."""
    return [getattr(update, name) for name in type(update).__slots__]


def global_state() -> list[Any]:
    """What nobody may touch: the state of the global generators, and NumPy's error settings."""
    generator = np.random.get_state(legacy=False)  # noqa: NPY002  # the subject of the check
    return [generator, random.getstate(), np.geterr()]


def deviation(drawn: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> float:
    """Pearson's chi-square of counts against expected counts, as a standard normal deviate.

    The probabilities may change from draw to draw: the statistic is then only smaller than chi-square. Cells that
    expect fewer than five draws are pooled. Normal approximation of the cube root: Wilson and Hilferty (1931).
    """
    order = np.argsort(expected)
    rare = order[np.cumsum(expected[order]) < 5]
    rest = np.setdiff1d(order, rare)
    counts = np.append(drawn[rest], drawn[rare].sum())
    wanted = np.append(expected[rest], expected[rare].sum())
    kept = wanted > 0
    freedom = int(kept.sum()) - 1
    if freedom < 1:
        return 0.0
    statistic = float(((counts - wanted)[kept] ** 2 / wanted[kept]).sum())
    spread = 2 / (9 * freedom)
    return float((statistic / freedom) ** (1 / 3) - (1 - spread)) / math.sqrt(spread)

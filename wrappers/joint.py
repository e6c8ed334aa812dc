"""Opponent and level drawn together: level scores for each opponent, and the opponent by regret (MAESTRO)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from macurr.curriculum import Curriculum, State, check_state
from macurr.errors import StateError, UsageError
from macurr.messages import EnvSpec
from macurr.seeding import check_generator_state, generator_state, load_generator_state
from macurr.spaces import TaskSpace, TupleTaskSpace
from macurr.wrappers._demand import by_opponent, pair
from macurr.wrappers._regret import HighestScores, Regret, RegretChoice
from macurr.wrappers._routed import RoutedCurriculum
from macurr.wrappers.multiagent import adapted

__all__ = ["HighestScores", "LevelsPerOpponent", "MakeLevels", "Regret"]

MakeLevels = Callable[[np.random.Generator], Curriculum]
"""Makes one opponent's curriculum of levels from the generator that it shall use."""


@dataclass(slots=True)
class _Levels:
    """One opponent's levels.

    Attributes:
        curriculum: As it was made.
        learner: The same, made to learn from several agents.
        envs: The environments registered with it.
    """

    curriculum: Curriculum
    learner: Curriculum
    envs: set[int] = field(default_factory=set)


class LevelsPerOpponent(RoutedCurriculum):
    """A curriculum of levels for each opponent, and the choice of the opponent by regret over its own levels.

    MAESTRO (Samvelyan et al., 2023): with probability `1 - uniform_prob` the opponent with the highest regret is
    played, else one that `opponents` draws; then a level from that opponent's own curriculum. New opponents have
    no regret yet, so they come first: each is drawn `trials` times, taking turns. Of a draw or an update only the
    opponents that it names are touched, so the cost does not grow with opponents times levels.

    The opponents are those in the space of `opponents`. One that is no longer there is forgotten with its levels,
    and what still comes in of its episodes is left aside.

    Args:
        make_levels: Makes an opponent's curriculum of levels from a generator. The first it makes serves only to
            know what they are like.
        opponents: The opponents' curriculum.
        uniform_prob: Probability of leaving the choice to `opponents` (the paper's lambda).
        top_k: The number of highest level scores whose mean is an opponent's regret. The highest one alone, as in
            the paper, seeks noise.
        trials: How often each new opponent is drawn before regret decides.
        regret: Another measure of an opponent's regret; `top_k` is not used then.
        seed: Seed of the choices and of the curricula.

    Raises:
        UsageError: an option is out of range, or a curriculum cannot be measured.
    """

    def __init__(
        self,
        make_levels: MakeLevels,
        opponents: Curriculum,
        *,
        uniform_prob: float = 0.1,
        top_k: int = 8,
        trials: int = 8,
        regret: Regret | None = None,
        seed: int | np.random.Generator | None = None,
    ) -> None:
        if not 0.0 <= uniform_prob <= 1.0 or trials < 0:
            raise UsageError(
                f"uniform_prob is a probability and trials 0 or more; got {uniform_prob} and {trials}."
            )
        self._make, self._opponents = make_levels, opponents
        self._regret = HighestScores(top_k) if regret is None else regret
        rng = np.random.default_rng(seed)
        # Every opponent's generator follows from this number and its slot alone, whenever the two first meet.
        self._entropy = int(rng.integers(2**63))
        self._prototype = self._made()
        self._regret(self._prototype.curriculum)
        self.level_space: TaskSpace = self._prototype.curriculum.task_space
        space = TupleTaskSpace([opponents.task_space, self.level_space], names=["agent", "env"])
        super().__init__(space, seed=rng)
        self._specs: dict[int, EnvSpec] = {}
        self._choice = RegretChoice(opponents.task_space, uniform_prob, trials)
        self._levels: dict[int, _Levels] = {}
        self._touched: set[int] = set()

    # What goes out

    def draw_opponent(self) -> Any:
        """The next opponent, as an encoded task of the opponents' space."""
        self._refresh()
        return self._choice.draw(self.rng, lambda: self._opponents.sample(1)[0])

    def draw_level(self, opponent: Any) -> Any:
        """A level to play against an opponent; any level against one that has left since it was drawn."""
        slot = self._choice.slot(opponent)
        if self._choice.gone(slot):
            return self.level_space.sample(self.rng)
        return self._of(slot).curriculum.sample(1)[0]

    @override
    def sample(self, k: int = 1) -> list[Any]:
        space: Any = self.task_space
        opponents = (self.draw_opponent() for _ in range(k))
        return [space.make((opponent, self.draw_level(opponent))) for opponent in opponents]

    @override
    def task_info(self, task: Any) -> Mapping[str, float]:
        """What the opponent's curriculum says of the level."""
        opponent, level = pair(task)
        slot = self._choice.find(opponent)
        return {} if slot not in self._levels else self._levels[slot].curriculum.task_info(level)

    def opponent_distribution(self) -> NDArray[np.float64] | None:
        """The probability of each opponent at the next draw; None where it is not known."""
        self._refresh()
        return self._choice.distribution(self._opponents.distribution())

    def level_distribution(self, opponent: Any) -> NDArray[np.float64] | None:
        """The probability of each level at the next draw against an opponent; None where it is not known."""
        slot = self._choice.find(opponent)
        return self._levels.get(-1 if slot is None else slot, self._prototype).curriculum.distribution()

    # Environments

    @property
    @override
    def requires_step_updates(self) -> bool:
        return self._prototype.learner.requires_step_updates

    @property
    @override
    def step_fields(self) -> frozenset[str]:
        return self._prototype.learner.step_fields

    @override
    def register_env(self, env_id: int, spec: EnvSpec) -> None:
        """Learn who plays in an environment. An opponent's curriculum knows it once they have met."""
        self._prototype.learner.register_env(env_id, spec)
        super().register_env(env_id, spec)
        self._specs[env_id] = spec

    @override
    def unregister_env(self, env_id: int) -> None:
        super().unregister_env(env_id)
        if self._specs.pop(env_id, None) is not None:
            self._prototype.learner.unregister_env(env_id)
        for levels in self._levels.values():
            if env_id in levels.envs:
                levels.envs.discard(env_id)
                levels.learner.unregister_env(env_id)

    # Updates

    @override
    def check_episode(self, episode_return: Any, length: int, task: Any) -> None:
        _, level = pair(task)
        self._prototype.learner.check_episode(episode_return, length, level)

    @override
    def update_on_abort(self, task: Any, env_id: int | None = None) -> None:
        """Forget the episode. An opponent whose regret is not known yet gets its trial back."""
        super().update_on_abort(task, env_id)
        slot = self._choice.slot(pair(task)[0])
        if slot in self._levels and self._regret(self._levels[slot].curriculum) is None:
            self._choice.try_again(slot)

    @override
    def get_options(self) -> dict[str, Any]:
        """The options of an opponent's curriculum: all have the same."""
        return self._prototype.curriculum.get_options()

    @override
    def tunable_options(self) -> dict[str, tuple[float, float]]:
        return self._prototype.curriculum.tunable_options()

    @override
    def check_options(self, **options: Any) -> None:
        self._prototype.curriculum.check_options(**options)

    @override
    def _apply_options(self, options: Mapping[str, Any]) -> None:
        for levels in (self._prototype, *self._levels.values()):
            levels.curriculum.set_options(**options)

    @override
    def update_on_demand(self, metrics: Mapping[str, Any]) -> None:
        """Pass on what the learner tells of tasks `(agent, env)`, to each opponent its own part.

        `{"tasks": ..., "scores": ...}` is split by task, `{"rollout": {...}}` by step (by its mask `active`); what
        is about no tasks goes to every opponent's curriculum. "options" are set for all, those to come included.

        Raises:
            TaskError: a task is not in the space, or the numbers do not fit. Nothing is changed.
        """
        with self._with_options(metrics) as told:
            self._pass_on(told)

    def _pass_on(self, metrics: Mapping[str, Any]) -> None:
        messages = by_opponent(metrics, self._checked)
        if messages is None:
            self._touched.update(self._levels)
            messages = [(slot, dict(metrics)) for slot in self._levels]
        for slot, message in messages:
            if not self._choice.gone(slot):
                self._tell(slot, message)

    def _tell(self, slot: int, message: Mapping[str, Any]) -> None:
        first = slot not in self._levels
        try:
            self._of(slot).learner.update_on_demand(message)
        except Exception:
            if first:
                del self._levels[slot]
            raise
        self._touched.add(slot)

    @override
    def normalize(self, reward: float, task: Any) -> float:
        opponent, level = pair(task)
        return self._of(self._choice.slot(opponent)).curriculum.normalize(reward, level)

    # Watching and state

    @override
    def metrics(self) -> dict[str, float]:
        """How many opponents there are and wait for a trial, and their regrets."""
        self._refresh()
        return self._choice.metrics()

    @override
    def state_dict(self) -> State:
        return {
            "type": type(self).__name__,
            "rng": generator_state(self.rng),
            "entropy": self._entropy,
            "choice": self._choice.state(),
            "levels": [[slot, levels.curriculum.state_dict()] for slot, levels in self._levels.items()],
            **self._options_state(),
        }

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        keys = {"rng", "entropy", "choice", "levels", *self._options_state()}
        check_state(state, type(self).__name__, keys)
        check_generator_state(self.rng, state["rng"])
        entropy = state["entropy"]
        if not isinstance(entropy, int) or entropy < 0:
            raise StateError(
                f"The number that opponents' generators follow from must be 0 or more; got {entropy!r}."
            )
        choice = self._choice.restored(state["choice"])
        options = self._options_in(state)
        loaded = self._restored(state["levels"], len(choice.tasks))
        self._load_options(options, state)
        load_generator_state(self.rng, state["rng"])
        self._choice, self._levels, self._touched = choice, loaded, set(loaded)
        self._entropy = entropy

    # Inside

    def _restored(self, states: Any, opponents: int) -> dict[int, _Levels]:
        loaded: dict[int, _Levels] = {}
        for saved in states if isinstance(states, list | tuple) else [None]:
            if not isinstance(saved, list | tuple) or len(saved) != 2 or saved[0] not in range(opponents):
                raise StateError(
                    f"The state has no levels for each of {opponents} opponents; it has {saved!r}."
                )
            levels = self._made(saved[0])
            levels.curriculum.load_state_dict(saved[1])
            loaded[int(saved[0])] = levels
        return loaded

    def _refresh(self) -> None:
        """Meet new opponents, forget those that have left, and measure those that have learned."""
        for slot in self._choice.discover():
            self._levels.pop(slot, None)
        for slot in sorted(self._touched):
            if slot in self._levels:
                self._choice.set_regret(slot, self._regret(self._levels[slot].curriculum))
        self._touched.clear()

    def _of(self, slot: int) -> _Levels:
        if slot not in self._levels:
            made = self._made(slot)
            if made.curriculum.task_space != self.level_space:
                raise UsageError(
                    f"Every opponent's curriculum needs the same levels, {self.level_space!r}; the function made one "
                    f"with {made.curriculum.task_space!r}."
                )
            self._levels[slot] = made
        return self._levels[slot]

    @override
    def _routes(self, task: Any, env_id: int | None) -> list[tuple[Curriculum, Any]]:
        opponent, level = pair(task)
        if not self.level_space.was_removed(level):
            self.level_space.check(level)
        slot = self._choice.slot(opponent)
        if self._choice.gone(slot):
            return []
        levels = self._of(slot)
        if env_id is not None and env_id in self._specs and env_id not in levels.envs:
            levels.learner.register_env(env_id, self._specs[env_id])
            levels.envs.add(env_id)
        self._touched.add(slot)
        return [(levels.learner, level)]

    def _checked(self, task: Any) -> tuple[int, Any]:
        """The slot and the level of a task that the learner tells about."""
        opponent, level = pair(task)
        return self._choice.slot(opponent), self.level_space.check(level)

    def _made(self, *slot: int) -> _Levels:
        curriculum = self._make(np.random.default_rng([self._entropy, *slot]))
        if not isinstance(curriculum, Curriculum):
            raise UsageError(
                "With joint=True, env_curriculum is a function that makes an opponent's curriculum of levels; it made "
                f"{curriculum!r}."
            )
        if slot:  # the prototype has none to follow
            curriculum.set_options(**{name: self.get_options()[name] for name in self._options_before})
        return _Levels(curriculum, adapted(curriculum))

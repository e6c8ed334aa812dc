"""Snapshots as RLModules: what every env runner holds to play the opponents."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_RL_MODULE
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from macurr.errors import PoolError
from macurr.integrations.rllib.env import opponents_at_play
from macurr.integrations.rllib.mapping import TaskMapping
from macurr.opponents import AgentPool

__all__ = ["OpponentModules"]

Weights = Mapping[str, NDArray[Any]]


class OpponentModules:
    """Keeps the env runners' modules in step with a pool.

    The modules are on the env runners alone. `Algorithm.add_module` would have learners compute advantages for them,
    and put them into every checkpoint; and `Algorithm.remove_module` breaks off all episodes that are being played,
    whoever plays them.

    Args:
        pool: The snapshots.
        mapping: What their modules are called, and whose likes they are.
    """

    def __init__(self, pool: AgentPool, mapping: TaskMapping) -> None:
        self._pool, self._mapping = pool, mapping
        self._here: frozenset[int] = frozenset()
        self._overdue = False

    @property
    def here(self) -> frozenset[int]:
        """The snapshots that have modules."""
        return self._here

    @property
    def gone(self) -> frozenset[int]:
        """Those of them that are no longer in the pool."""
        return self._here.difference(self._pool.ids)

    def add_snapshot(self, algorithm: Any, steps: float) -> int:
        """Add the trained module to the pool, as it is now; `steps` is kept with it. Returns its id."""
        return self._pool.add(_trained_weights(algorithm, self._mapping.learner), step=int(steps))

    def follow(self, algorithm: Any, still_played: Collection[int]) -> None:
        """Add modules for new snapshots, and remove those whose snapshots have left the pool.

        A module that stands in for one that is not there is named by no task. So what an episode is being played by
        stays on its env runner, and goes with one of the next calls.

        Args:
            algorithm: The algorithm, between two training steps.
            still_played: Snapshots that tasks which are out may name, in the pool or not.
        """
        wanted = {*self._pool.ids, *still_played}
        if wanted == self._here and not self._overdue:
            return
        weights = self._load(wanted - self._here)
        self._here = frozenset((wanted & self._here) | set(weights))
        install = _Install(self._mapping, self._named(weights), self._names())
        kept = [any(group.foreach_env_runner(install)) for group in _groups(algorithm)]
        self._overdue = any(kept)

    def restore(self, group: Any, runners: Iterable[int]) -> None:
        """Give env runners that have been started anew all modules."""
        install = _Install(self._mapping, self._named(self._load(self._here)), self._names())
        kept = group.foreach_env_runner(install, remote_worker_ids=list(runners), local_env_runner=False)
        self._overdue = self._overdue or any(kept)

    def _names(self) -> frozenset[str]:
        return frozenset(self._mapping.module_of(snapshot) for snapshot in self._here)

    def _named(self, weights: Mapping[int, Weights]) -> dict[str, Weights]:
        return {self._mapping.module_of(snapshot): own for snapshot, own in weights.items()}

    def _load(self, snapshots: Iterable[int]) -> dict[int, Weights]:
        """The snapshots' weights, without those that the pool can no longer give."""
        found: dict[int, Weights] = {}
        for snapshot in sorted(snapshots):
            try:
                found[snapshot] = self._pool.get(snapshot)
            except PoolError:
                if snapshot in self._pool:
                    raise
        return found


class _Install:
    """Runs on an env runner: adds modules, and removes the opponents that are not wanted any more.

    It returns whether one of these had to stay, because an episode is being played by it.
    """

    def __init__(self, mapping: TaskMapping, weights: Mapping[str, Weights], wanted: Collection[str]) -> None:
        self._mapping, self._weights, self._wanted = mapping, weights, wanted

    def __call__(self, runner: Any) -> bool:
        modules, learner = runner.module, runner.module[self._mapping.learner].unwrapped()
        unwanted = {self._mapping.module_of(snapshot) for snapshot in self._mapping.snapshots(modules.keys())}
        unwanted.difference_update(self._wanted)
        at_play = opponents_at_play(modules)
        for name in unwanted - at_play:
            modules.remove_module(name)
        device = next((parameter.device for parameter in learner.parameters()), None)
        for name, weights in self._weights.items():
            if name not in modules:
                modules.add_module(name, RLModuleSpec.from_module(learner).build())
            # Arrays from the pool or from Ray are read-only, which torch warns of.
            modules[name].set_state({key: np.array(array) for key, array in weights.items()})
            modules[name].to(device)
        return not unwanted.isdisjoint(at_play)


def _groups(algorithm: Any) -> list[Any]:
    groups = (algorithm.env_runner_group, algorithm.eval_env_runner_group)
    return [group for group in groups if group is not None]


def _trained_weights(algorithm: Any, module: str) -> dict[str, NDArray[Any]]:
    """The weights with which a module acts, as the learner has them now; without its critic's."""
    state = algorithm.learner_group.get_state(
        components=f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}/{module}", inference_only=True
    )
    own = state[COMPONENT_LEARNER][COMPONENT_RL_MODULE][module]
    return {name: np.array(array) for name, array in own.items()}

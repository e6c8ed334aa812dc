"""PPO whose checkpoints hold the curriculum, and a config with everything in place."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Mapping
from typing import Any

from ray.rllib.algorithms.ppo import PPO, PPOConfig
from ray.tune import register_env
from typing_extensions import override

from macurr.errors import UsageError
from macurr.integrations.rllib.callback import CurriculumCallback, SnapshotRule, make_curriculum_callback
from macurr.integrations.rllib.env import Learners, make_rllib_env
from macurr.integrations.rllib.learner import CurriculumPPOLearner
from macurr.integrations.rllib.mapping import TaskMapping
from macurr.opponents import AgentPool
from macurr.transports.base import SyncedCurriculum

__all__ = ["STATE", "CurriculumPPO", "curriculum_ppo"]

STATE = "curriculum"
"""The curriculum's key in the algorithm's state."""


class CurriculumPPO(PPO):  # type: ignore[misc]  # RLlib is not typed
    """RLlib's PPO, whose state holds that of the curriculum: `save_to_path` and `restore_from_path` keep it.

    Snapshots of opponents are in their pool's folder, and stay there: keep it with the checkpoints. Opponents'
    modules are made from the pool as it is when the algorithm is built and restored.
    """

    @override
    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """The algorithm's state, and the curriculum's under "curriculum"."""
        state: dict[str, Any] = super().get_state(components, not_components=not_components, **kwargs)
        if self._check_component(STATE, components, not_components):
            state[STATE] = self._curriculum_callback().get_state()
        return state

    @override
    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a state.

        Raises:
            StateError: it is of another curriculum.
            UsageError: the algorithm has been trained already.
        """
        callback = self._curriculum_callback()
        if STATE in state:
            callback.check_fresh()
        super().set_state({key: value for key, value in state.items() if key != STATE})
        if STATE in state:
            callback.set_state(self, state[STATE])

    @override
    def restore_from_path(self, path: Any, *args: Any, **kwargs: Any) -> None:
        """Go on from a checkpoint: build the algorithm anew, with the pool's folder as it was left, and call this.

        Raises:
            StateError: the checkpoint is of another curriculum.
            UsageError: the algorithm has been trained already.
        """
        if kwargs.get("component") is None:
            self._curriculum_callback().check_fresh()
        super().restore_from_path(path, *args, **kwargs)

    def _curriculum_callback(self) -> CurriculumCallback:
        for callback in self.callbacks:
            if isinstance(callback, CurriculumCallback):
                return callback
        raise UsageError(
            "CurriculumPPO has no CurriculumCallback: pass make_curriculum_callback(...) to config.callbacks, in a "
            "list beside callbacks of your own."
        )


def curriculum_ppo(
    env_fn: Callable[[Any], Any],
    curriculum: SyncedCurriculum,
    *,
    learners: Learners | None = None,
    pool: AgentPool | None = None,
    snapshot_every: SnapshotRule = 10,
    scores: bool = True,
    buffer_size: int = 1,
) -> PPOConfig:
    """A `PPOConfig` with the environment, the callback, the learner and the modules' mapping in place.

    Go on as with any other: `.env_runners(num_env_runners=2)`, `.training(lr=1e-3)`, `.build_algo()`. It sets
    `environment`, `callbacks`, `learners(learner_class=...)` and `multi_agent`. The trained module is "main", and
    snapshot 3 of the pool plays as "opponent_3".

    Args:
        env_fn: As for `make_rllib_env`, like `learners` and `buffer_size`.
        curriculum: As for `make_curriculum_callback`, like the rest.
        learners: The agents that "main" plays.
        pool: The opponents' snapshots.
        snapshot_every: When "main" joins the pool.
        scores: Whether to send what levels are scored by.
        buffer_size: Tasks fetched ahead for each environment.

    Raises:
        UsageError: the curriculum is not synced, or an option is out of range.
    """
    mapping = TaskMapping()
    callback = make_curriculum_callback(
        curriculum, pool=pool, snapshot_every=snapshot_every, scores=scores, mapping=mapping
    )
    name = f"macurr-{uuid.uuid4().hex}"
    creator = make_rllib_env(env_fn, curriculum.components, learners=learners, buffer_size=buffer_size)
    register_env(name, creator)
    return (
        PPOConfig(algo_class=CurriculumPPO)
        .environment(name, disable_env_checking=True)
        .callbacks(callback)
        .learners(learner_class=CurriculumPPOLearner)
        .multi_agent(
            policies={mapping.learner}, policy_mapping_fn=mapping, policies_to_train=[mapping.learner]
        )
    )

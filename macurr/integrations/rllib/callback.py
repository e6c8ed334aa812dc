"""The callback: what of a training step is for the curriculum, and what of the curriculum is for RLlib."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable, Mapping
from typing import Any

from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.utils.metrics import ALL_MODULES, LEARNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME
from typing_extensions import override

from macurr.errors import UsageError
from macurr.integrations.rllib.env import RLlibCurriculumEnv
from macurr.integrations.rllib.episodes import EpisodeAssembler, score_messages
from macurr.integrations.rllib.learner import PARTS
from macurr.integrations.rllib.mapping import TaskMapping, attach, opponent_ids
from macurr.integrations.rllib.modules import OpponentModules
from macurr.opponents import AgentPool
from macurr.transports.base import SyncedCurriculum
from macurr.transports.ray import RayComponents, get_ray_curriculum

__all__ = ["CurriculumCallback", "SnapshotRule", "make_curriculum_callback"]

SnapshotRule = int | Callable[[Mapping[str, Any]], bool]
"""Every how many training iterations the trained module joins the pool; or whether it does, from RLlib's result,
in which the curriculum's metrics stand under "curriculum"."""


class _Settings:
    """What the callback works on, in the process that made it and in others.

    RLlib copies its config, sends it to the env runners with the callbacks in it, and may run the algorithm in an
    actor. A curriculum in this process stays here; one in a Ray actor is found again by its name.

    Args:
        curriculum: The curriculum; None where it did not come along.
        pool: The snapshots, or a pickled pool: not every env runner can open its folder.
        snapshot_every: When the trained module joins the pool.
        scores: Whether to send what levels are scored by.
        mapping: The names of modules.
    """

    def __init__(
        self,
        curriculum: SyncedCurriculum | RayComponents | None,
        pool: AgentPool | bytes | None,
        snapshot_every: SnapshotRule,
        scores: bool,
        mapping: TaskMapping,
    ) -> None:
        self._curriculum, self._pool = curriculum, pool
        self.snapshot_every, self.scores, self.mapping = snapshot_every, scores, mapping

    @property
    def curriculum(self) -> SyncedCurriculum:
        """The curriculum.

        Raises:
            UsageError: it is in another process.
        """
        if isinstance(self._curriculum, RayComponents):
            self._curriculum = get_ray_curriculum(
                self._curriculum.actor_name, namespace=self._curriculum.namespace
            )
        if self._curriculum is None:
            raise UsageError(
                "The curriculum did not come along to this process: it stays where it was made, and so does the "
                "algorithm that tells it of its results. Build the algorithm there, from a config that holds the "
                "curriculum; to go on from a checkpoint, build it anew and call its restore_from_path(...). Or use "
                "make_ray_curriculum(...), which is found from everywhere."
            )
        return self._curriculum

    @property
    def pool(self) -> AgentPool | None:
        """The pool, if there is self-play."""
        if isinstance(self._pool, bytes):
            self._pool = pickle.loads(self._pool)
        return self._pool  # type: ignore[return-value]  # what was pickled is a pool

    def __deepcopy__(self, memo: Any) -> _Settings:
        return self

    def __reduce__(self) -> Any:
        own = self._curriculum
        handle = own.components if isinstance(own, SyncedCurriculum) else own
        if not isinstance(handle, RayComponents):
            return _Settings, (None, None, 1, self.scores, self.mapping)
        pool = pickle.dumps(self._pool) if isinstance(self._pool, AgentPool) else self._pool
        return _Settings, (handle, pool, self.snapshot_every, self.scores, self.mapping)


class CurriculumCallback(RLlibCallback):  # type: ignore[misc]  # RLlib is not typed
    """Connects RLlib's training loop to a curriculum; see `make_curriculum_callback`."""

    def __init__(self, settings: _Settings) -> None:
        self._settings, self._mapping = settings, settings.mapping
        self._episodes = EpisodeAssembler()
        self._modules: OpponentModules | None = None

    @property
    def curriculum(self) -> SyncedCurriculum:
        """The curriculum.

        Raises:
            UsageError: it is in another process.
        """
        return self._settings.curriculum

    # In the env runners

    @override
    def on_episode_created(
        self, *, episode: Any, env: Any, env_index: int, rl_module: Any, **kwargs: Any
    ) -> None:
        """Note which environment the episode is played in: its task says who plays."""
        own = env.envs[env_index].unwrapped
        if isinstance(own, RLlibCurriculumEnv):  # evaluation may have an environment without a curriculum
            attach(episode, own, rl_module)

    @override
    def on_sample_end(self, *, samples: Any, **kwargs: Any) -> None:
        """Leave out what opponents did: nobody learns from it."""
        for episode in samples:
            for agent, own in list(episode.agent_episodes.items()):
                if self._mapping.snapshots([own.module_id]):
                    del episode.agent_episodes[agent]

    # In the driver

    @override
    def on_algorithm_init(self, *, algorithm: Any, **kwargs: Any) -> None:
        """Give every snapshot its module; the untrained policy is the first, where there is none."""
        pool, _ = self._settings.pool, self.curriculum
        if pool is None:
            return
        self._modules = OpponentModules(pool, self._mapping)
        if len(pool) == 0:
            self._modules.add_snapshot(algorithm, 0)
        self._follow_pool(algorithm)

    @override
    def on_env_runners_recreated(
        self, *, env_runner_group: Any, env_runner_indices: list[int], **kwargs: Any
    ) -> None:
        """Give env runners that have been started anew the opponents' modules."""
        if self._modules is not None:
            self._modules.restore(env_runner_group, env_runner_indices)

    @override
    def on_train_result(
        self, *, algorithm: Any, metrics_logger: Any, result: dict[str, Any], **kwargs: Any
    ) -> None:
        """Send the levels' scores, let the pool grow, and log the curriculum's metrics."""
        parts = result.get(LEARNER_RESULTS, {}).get(ALL_MODULES, {}).pop(PARTS, ())
        finished = self._episodes.add(parts)
        if self._settings.scores:
            for message in score_messages(finished):
                self.curriculum.update_on_demand(message)
        result["curriculum"] = self.curriculum.metrics()
        if self._modules is not None:
            if self._is_due(result):
                self._modules.add_snapshot(algorithm, result.get(NUM_ENV_STEPS_SAMPLED_LIFETIME, 0))
                result["curriculum"] = self.curriculum.metrics()
            self._follow_pool(algorithm)
        for name, value in result["curriculum"].items():
            metrics_logger.log_value(("curriculum", name), value, window=1)

    def _is_due(self, result: Mapping[str, Any]) -> bool:
        rule = self._settings.snapshot_every
        return bool(rule(result)) if callable(rule) else result["training_iteration"] % rule == 0

    def _follow_pool(self, algorithm: Any) -> None:
        if self._modules is not None:
            # A state holds everything, so it is asked for only where something might have to be kept.
            gone = self._modules.gone
            self._modules.follow(algorithm, gone & self._still_played() if gone else ())

    def _still_played(self) -> set[int]:
        """The opponents of tasks that are out: drawn, or being played."""
        space = self.curriculum.task_space
        tasks = [space.check(task) for task in self.curriculum.state_dict()["outstanding"]]
        return {snapshot for task in tasks for snapshot in opponent_ids(task)}

    # Checkpoints

    def get_state(self) -> dict[str, Any]:
        """What a checkpoint holds of the curriculum: its state, and the tasks that are out."""
        return dict(self.curriculum.state_dict())

    def check_fresh(self) -> None:
        """Refuse to load a state while environments are connected.

        Raises:
            UsageError: there are some. RLlib's env runners would refuse the restored weights as older than their own.
        """
        envs = self.curriculum.metrics().get("sync/envs", 0.0)
        if envs:
            raise UsageError(
                f"{envs:.0f} environments are connected to the curriculum. Restore a checkpoint into an algorithm that "
                "has just been built, before its first train()."
            )

    def set_state(self, algorithm: Any, state: Mapping[str, Any]) -> None:
        """Go on from `get_state()`. The tasks that were out are played first, against their opponents.

        Raises:
            StateError: the state is not of this curriculum; nothing is changed.
            UsageError: environments are connected.
        """
        self.check_fresh()
        self.curriculum.load_state_dict(state)
        self._episodes = EpisodeAssembler()
        if self._modules is not None:
            self._modules.follow(algorithm, self._still_played())


def make_curriculum_callback(
    curriculum: SyncedCurriculum,
    *,
    pool: AgentPool | None = None,
    snapshot_every: SnapshotRule = 10,
    scores: bool = True,
    mapping: TaskMapping | None = None,
) -> Callable[[], CurriculumCallback]:
    """A callback for `config.callbacks(...)`, which takes a list if there are others.

    - After each training step it tells the curriculum the rewards of the episodes that have ended and what the
      critic said of their steps, by `update_on_demand({"rollout": ...})`: prioritized level replay scores their
      levels by its own strategy, discount and trace decay. Needs `CurriculumPPOLearner`.
    - It keeps a module for each snapshot of `pool`, plays an episode's other seats by the modules that its task
      names (`TaskMapping`), and adds the trained module to the pool from time to time. Where the pool's capacity
      makes a snapshot go, its module goes too, once no task that is out names it. Wins and losses reach the
      curriculum with the episodes' results, by the environments.
    - It logs the curriculum's metrics under "curriculum", in the result of the same iteration.

    It is made for algorithms that sample and learn in turn. Opponents' steps are left out of the train batch, so
    `episode_return_mean` is the learners' alone.

    Args:
        curriculum: What `make_multiprocessing_curriculum` returned in this process, or `make_ray_curriculum`
            anywhere in the cluster.
        pool: The snapshots that the curriculum chooses opponents from; None without self-play.
        snapshot_every: When the trained module joins the pool. An empty pool gets the untrained one first.
        scores: Whether to send what levels are scored by. False for curricula that learn from results alone.
        mapping: The names of modules; the config's `policy_mapping_fn` has to be the same.

    Returns:
        What RLlib calls to make the callback.

    Raises:
        UsageError: no synced curriculum, no pool, or `snapshot_every` is not positive.
    """
    if not isinstance(curriculum, SyncedCurriculum):
        raise UsageError(
            f"The callback needs a synced curriculum, as make_multiprocessing_curriculum(...) returns it; got "
            f"{curriculum!r}."
        )
    if pool is not None and not isinstance(pool, AgentPool):
        raise UsageError(f"pool is the AgentPool of the curriculum's opponents; got {pool!r}.")
    if not callable(snapshot_every) and snapshot_every < 1:
        raise UsageError(
            f"snapshot_every must be at least 1, or a function of the result; got {snapshot_every}."
        )
    settings = _Settings(curriculum, pool, snapshot_every, scores, mapping or TaskMapping())
    return functools.partial(CurriculumCallback, settings)

"""The sync wrapper of environments on a Ray cluster: it finds its curriculum by name."""

from __future__ import annotations

from typing import Any

import gymnasium
from pettingzoo import AECEnv, ParallelEnv

from macurr.errors import UsageError
from macurr.transports.ray import RayComponents
from macurr.wrappers.aec import AECSyncWrapper
from macurr.wrappers.gym import GymnasiumSyncWrapper
from macurr.wrappers.sync import PettingZooSyncWrapper

__all__ = ["RaySyncWrapper"]


def RaySyncWrapper(  # used as the class that it chooses
    env: Any,
    actor_name: str = "curriculum",
    *,
    namespace: str | None = None,
    address: str | None = None,
    **options: Any,
) -> Any:
    """Connects an environment to a curriculum that `make_ray_curriculum` serves under a name.

    A function that returns the sync wrapper of the environment's kind: `PettingZooSyncWrapper` for a Parallel
    environment, `AECSyncWrapper` for a turn-based one, `GymnasiumSyncWrapper` for a single agent. What it returns
    is an instance of that class and can be cloned and pickled as usual.

    Args:
        env: The environment.
        actor_name: The name given to `make_ray_curriculum`.
        namespace: The actor's namespace in Ray; that of the process that steps the environment by default.
        address: The cluster's address, for environments in processes that are not connected to Ray; that of
            this process by default.
        options: Those of the wrapper that is chosen: `batch_size`, `buffer_size` and so on.

    Raises:
        MissingDependencyError: Ray is not installed.
        UsageError: not an environment of these kinds, or options that its wrapper does not take.
    """
    components = RayComponents(actor_name, namespace, address).resolved()
    if isinstance(env, ParallelEnv):
        return PettingZooSyncWrapper(env, components, **options)
    if isinstance(env, AECEnv):
        return AECSyncWrapper(env, components, **options)
    if isinstance(env, gymnasium.Env):
        return GymnasiumSyncWrapper(env, components, **options)
    raise UsageError(
        f"RaySyncWrapper needs a PettingZoo ParallelEnv or AECEnv, or a gymnasium.Env; got {env!r}."
    )

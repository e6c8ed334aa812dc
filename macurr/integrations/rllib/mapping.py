"""From an episode's task to the modules that play it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from macurr.integrations.rllib.env import RLlibCurriculumEnv, env_named
from macurr.wrappers._seats import opponents_of

__all__ = ["TaskMapping", "attach", "opponent_ids"]

_ENV = "macurr_env"


@dataclass(frozen=True)
class TaskMapping:
    """RLlib's `policy_mapping_fn`: learners are played by the trained module, the others by their task's opponents.

    RLlib asks for the module of an agent while it stores what the reset returned, before any info can be read. The
    task is known by then to the environment that was reset, in the same process: the callback has noted which one
    it is when the episode was created.

    Attributes:
        learner: The id of the trained module.
        prefix: What comes before a snapshot's id in the id of its module.
    """

    learner: str = "main"
    prefix: str = "opponent_"

    def __call__(self, agent_id: str, episode: Any, **kwargs: Any) -> str:
        """The id of the module that plays an agent in this episode.

        Raises:
            TaskError: the episode's task does not name its opponents.
        """
        # RLlib also asks for episodes of no environment, and for half-made ones that have their modules already.
        env = env_named(getattr(episode, "custom_data", {}).get(_ENV))
        if env is None or agent_id in env.learners:
            return self.learner
        others = [agent for agent in env.possible_agents if agent not in env.learners]
        module = self._at_hand(opponents_of(env.task, others)[agent_id], env)
        env.opponents.add(module)
        return module

    def module_of(self, snapshot: int) -> str:
        """The id of a snapshot's module."""
        return f"{self.prefix}{snapshot}"

    def snapshots(self, modules: Iterable[str]) -> list[int]:
        """The snapshots among modules, by id."""
        ids = [module.removeprefix(self.prefix) for module in modules if module.startswith(self.prefix)]
        return sorted(int(number) for number in ids if number.isdigit())

    def _at_hand(self, snapshot: int, env: RLlibCurriculumEnv) -> str:
        """The snapshot's module; where the pool has let it go meanwhile, that of the snapshot nearest in age."""
        here = self.snapshots(env.rl_module.keys()) if env.rl_module is not None else [snapshot]
        nearest = min(here, key=lambda other: (abs(other - snapshot), -other), default=None)
        return self.learner if nearest is None else self.module_of(nearest)


def attach(episode: Any, env: RLlibCurriculumEnv, rl_module: Any) -> None:
    """Note which environment an episode is played in, by name: the episode travels to the learner."""
    episode.custom_data[_ENV] = env.name
    env.rl_module = rl_module


def opponent_ids(task: Any) -> list[int]:
    """The snapshots that a task names, whichever agents they play."""
    part = task
    while "agent" in getattr(part, "_fields", ()):
        part = part.agent
    values = list(part.values()) if isinstance(part, Mapping) else part
    return [int(number) for number in np.ravel(values)]

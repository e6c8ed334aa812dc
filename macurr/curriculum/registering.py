"""Which environments a curriculum serves, and whose updates it takes."""

from __future__ import annotations

from macurr.errors import UsageError
from macurr.messages import EnvSpec

__all__ = ["Registering"]


class Registering:
    """The environments that are registered with a curriculum."""

    single_agent: bool = False
    """Whether updates must be one agent's plain values rather than mappings by agent."""

    _env_ids: set[int]
    _any_env: bool

    def register_env(self, env_id: int, spec: EnvSpec) -> None:
        """Learn who plays in an environment. Called once for each environment, before its first task.

        Raises:
            UsageError: a single-agent curriculum meets a multi-agent environment.
        """
        if self.single_agent and not spec.single_agent:
            raise UsageError(
                f"{type(self).__name__} learns from one agent's rewards, but environment {env_id} has agents "
                f"{list(spec.possible_agents)}. Wrap the curriculum in MultiagentSharedCurriculumWrapper (all "
                "agents teach one curriculum), MultiagentIndependentCurriculumWrapper (one for each agent) or "
                "DualCurriculumWrapper (opponent and level)."
            )
        self._env_ids.add(env_id)
        self._any_env = True

    def unregister_env(self, env_id: int) -> None:
        """Forget an environment that has disconnected; its unfinished episode ends without a result."""
        self._env_ids.discard(env_id)

    def check_env(self, env_id: int | None) -> None:
        """Refuse an update from an environment that is not registered.

        A curriculum that is driven by hand, without any environment registered, takes every id.

        Raises:
            UsageError: other environments are registered, and this one is not.
        """
        if self._any_env and env_id is not None and env_id not in self._env_ids:
            raise UsageError(
                f"Environment {env_id} is not registered with {type(self).__name__} (registered: "
                f"{sorted(self._env_ids)}). Call register_env first, or leave env_id out."
            )

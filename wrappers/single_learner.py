"""The view of a single learner: a PettingZoo environment with one agent left, as a Gymnasium environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from pettingzoo import AECEnv, ParallelEnv
from typing_extensions import override

from macurr.errors import UsageError

__all__ = ["SingleLearnerEnv"]


class SingleLearnerEnv(gymnasium.Env[Any, Any]):
    """An environment with one agent left, as a Gymnasium environment.

    The usual way to one is `OpponentWrapper(...).as_gymnasium()`. Results reach the curriculum from the sync wrapper
    inside.

    Args:
        env: A Parallel or AEC environment with one possible agent.

    Raises:
        UsageError: it has several, or is no PettingZoo environment.
    """

    def __init__(self, env: ParallelEnv[str, Any, Any] | AECEnv[str, Any, Any]) -> None:
        if not isinstance(env, ParallelEnv | AECEnv) or len(env.possible_agents) != 1:
            agents = getattr(env, "possible_agents", None)
            raise UsageError(
                f"A Gymnasium environment has one agent; {env!r} has {agents}. Wrap it in OpponentWrapper with a "
                "single learner first."
            )
        self.env = env
        self.agent: str = env.possible_agents[0]
        self.observation_space = env.observation_space(self.agent)
        self.action_space = env.action_space(self.agent)
        self.metadata = dict(env.metadata)
        self.render_mode = getattr(env, "render_mode", None)
        self._observation: Any = None
        self._playing = False

    @override
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode.

        Raises:
            UsageError: the agent had no turn in any of 100 episodes.
        """
        super().reset(seed=seed)
        for _ in range(100):
            found = self._reset(seed, options)
            if found is not None:
                self._observation, self._playing = found[0], True
                return found
            seed = (
                None  # with the same seed, the same opponents might win again before the agent's first turn
            )
        raise UsageError(f"{self.agent!r} had no turn in any of 100 episodes of {self.env!r}.")

    @override
    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take the agent's turn, and the others' until it is its turn again.

        Raises:
            UsageError: no episode is under way.
        """
        if not self._playing:
            raise UsageError("There is no episode under way. Call reset() first.")
        turn = self._parallel_step(action) if isinstance(self.env, ParallelEnv) else self._aec_step(action)
        self._observation, self._playing = turn[0], not (turn[2] or turn[3])
        return turn

    @override
    def render(self) -> Any:
        return self.env.render()

    @override
    def close(self) -> None:
        self.env.close()  # type: ignore[no-untyped-call]

    def _reset(self, seed: int | None, options: dict[str, Any] | None) -> tuple[Any, dict[str, Any]] | None:
        result: Any = self.env.reset(seed=seed, options=options)
        if not self.env.agents:
            return None
        if isinstance(self.env, AECEnv):
            observation, _, _, _, info = self.env.last()
            return observation, _own(info)
        return result[0][self.agent], _own(result[1].get(self.agent, {}))

    def _parallel_step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        agent = self.agent
        parts: Any = self.env.step({agent: action})
        observations, rewards, terminations, truncations, infos = parts
        truncated = bool(truncations.get(agent, False))
        # An agent that is gone without a word: its episode is over all the same.
        terminated = bool(terminations.get(agent, not truncated and agent not in self.env.agents))
        seen = observations.get(agent, self._observation)
        return seen, float(rewards.get(agent, 0.0)), terminated, truncated, _own(infos.get(agent, {}))

    def _aec_step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        env: Any = self.env
        env.step(action)
        if not env.agents:
            return self._observation, 0.0, True, False, {}
        observation, reward, terminated, truncated, info = env.last()
        if terminated or truncated:
            info = dict(info)  # the environment may empty its own
            env.step(None)  # the empty step of the dead, after which the others finish the episode
        return observation, float(reward), bool(terminated), bool(truncated), _own(info)


def _own(info: Mapping[str, Any]) -> dict[str, Any]:
    """An info that shares no task with other steps' infos: Gymnasium's users may change what they get."""
    return {key: value.copy() if isinstance(value, np.ndarray) else value for key, value in info.items()}

"""A curriculum that remembers what reaches it and an environment of known episodes: the two ends of a transport."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from pettingzoo import ParallelEnv
from typing_extensions import override

from macurr.curriculum import Curriculum, State
from macurr.messages import EnvSpec, EpisodeAborted, EpisodeResult, StepBatch, TaskProgress
from macurr.spaces import DiscreteTaskSpace, TaskSpace
from macurr.transports.base import SyncedCurriculum
from macurr.wrappers import PettingZooSyncWrapper

__all__ = ["ProbeEnv", "TraceCurriculum", "play"]


class TraceCurriculum(Curriculum):
    """Hands out a finite space's tasks in order, over and over, others at random, and remembers every call.

    Args:
        task_space: The tasks.
        fields: The step fields to ask for; none: it asks for no steps.
        single_agent: Whether it accepts only single-agent environments.
        fail_on: The kind of call that raises ValueError: "register", "sample", "steps", "episode", "progress",
            "abort" or "demand". `update_on_demand({"fail_on": ...})` changes it later.
    """

    def __init__(
        self,
        task_space: TaskSpace | None = None,
        fields: frozenset[str] = frozenset(),
        single_agent: bool = False,
        fail_on: str = "",
    ) -> None:
        super().__init__(DiscreteTaskSpace(1_000_000) if task_space is None else task_space, seed=0)
        self.fields, self.single_agent, self.fail_on = fields, single_agent, fail_on
        self.drawn = 0
        self.calls: list[tuple[str, Any]] = []

    @property
    @override
    def requires_step_updates(self) -> bool:
        return bool(self.fields)

    @property
    @override
    def step_fields(self) -> frozenset[str]:
        return self.fields

    @override
    def register_env(self, env_id: int, spec: EnvSpec) -> None:
        super().register_env(env_id, spec)
        self._note("register", (env_id, spec))

    @override
    def unregister_env(self, env_id: int) -> None:
        super().unregister_env(env_id)
        self._note("unregister", env_id)

    @override
    def _sample(self, k: int) -> list[Any]:
        space, n = self.task_space, self.task_space.num_tasks
        if n is None:
            tasks = [space.sample(self.rng) for _ in range(k)]
        else:
            tasks = [space.from_index((self.drawn + i) % n) for i in range(k)]
        for task in tasks:
            self._note("sample", task)
        self.drawn += k
        return tasks

    @override
    def update_on_step_batch(self, batch: StepBatch) -> None:
        self._note("steps", batch)

    @override
    def update_on_episode(
        self, episode_return: Any, length: int, task: Any, progress: Any, env_id: int | None = None
    ) -> None:
        super().update_on_episode(episode_return, length, task, progress, env_id)
        self._note("episode", EpisodeResult(task, _known(env_id), episode_return, length, progress))

    @override
    def update_task_progress(self, task: Any, progress: Any, env_id: int | None = None) -> None:
        self._note("progress", TaskProgress(task, _known(env_id), progress))

    @override
    def update_on_abort(self, task: Any, env_id: int | None = None) -> None:
        self._note("abort", EpisodeAborted(task, _known(env_id)))

    @override
    def update_on_demand(self, metrics: Mapping[str, Any]) -> None:
        self._note("demand", dict(metrics))
        self.fail_on = metrics.get("fail_on", self.fail_on)

    @override
    def state_dict(self) -> State:
        calls = np.frombuffer(pickle.dumps(self.calls), np.uint8).copy()
        return {**super().state_dict(), "drawn": self.drawn, "calls": calls}

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.drawn = state["drawn"]
        self.calls = pickle.loads(state["calls"].tobytes())

    def _note(self, kind: str, what: Any) -> None:
        self.calls.append((kind, what))
        if kind == self.fail_on:
            raise ValueError(f"boom in {kind}")

    @staticmethod
    def calls_of(synced: SyncedCurriculum) -> list[tuple[str, Any]]:
        """The calls that have reached a served `TraceCurriculum`, wherever it lives, in order."""
        calls: list[tuple[str, Any]] = pickle.loads(synced.state_dict()["curriculum"]["calls"].tobytes())
        return calls

    @staticmethod
    def heard(synced: SyncedCurriculum, *kinds: str) -> list[Any]:
        """What the calls of some kinds were about."""
        return [what for kind, what in TraceCurriculum.calls_of(synced) if kind in kinds]


class ProbeEnv(ParallelEnv[str, Any, Any]):
    """Two agents, `length` steps, rewards of 1 and -0.5 at each; everybody sees the task and the step.

    Args:
        length: Steps until both are truncated.
        info: What to put into each info of the first agent, under the key "extra".
    """

    metadata = {"name": "probe_v0", "render_modes": []}  # noqa: RUF012  # as PettingZoo declares it
    render_mode = None

    def __init__(self, length: int = 3, info: Any = None) -> None:
        self.possible_agents = ["left", "right"]
        self.agents: list[str] = []
        self.length, self.info = length, info
        self.task: Any = -1
        self._step = 0
        seen = gymnasium.spaces.Box(-1, np.inf, (2,), np.float32)
        self.observation_spaces = dict.fromkeys(self.possible_agents, seen)
        self.action_spaces = {agent: gymnasium.spaces.Discrete(2) for agent in self.possible_agents}

    @override
    def observation_space(self, agent: str) -> gymnasium.Space[Any]:
        return self.observation_spaces[agent]

    @override
    def action_space(self, agent: str) -> gymnasium.Space[Any]:
        return self.action_spaces[agent]

    @override
    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        self.task = (options or {}).get("task", -1)
        self.agents, self._step = self.possible_agents[:], 0
        return self._seen(), self._infos()

    @override
    def step(self, actions: dict[str, Any]) -> tuple[Any, Any, Any, Any, Any]:
        self._step += 1
        over = self._step >= self.length
        seen, infos, playing = self._seen(), self._infos(), self.agents
        self.agents = [] if over else playing
        return (
            seen,
            {"left": 1.0, "right": -0.5},
            dict.fromkeys(playing, False),
            dict.fromkeys(playing, over),
            infos,
        )

    def _seen(self) -> dict[str, Any]:
        number = self.task if isinstance(self.task, int) else -1
        return {agent: np.array([number, self._step], np.float32) for agent in self.possible_agents}

    def _infos(self) -> dict[str, Any]:
        return {"left": {} if self.info is None else {"extra": self.info}, "right": {}}


def play(components: Any, episodes: int, length: int = 3, **options: Any) -> list[tuple[int, Any]]:
    """Play episodes of a `ProbeEnv` under a curriculum, in any process.

    Returns:
        The environment's id and the encoded task of each episode.
    """
    env = PettingZooSyncWrapper(ProbeEnv(length), components, **options)
    played: list[tuple[int, Any]] = []
    for _ in range(episodes):
        env.reset()
        played.append((-1 if env.env_id is None else env.env_id, env.task))
        while env.agents:
            env.step(dict.fromkeys(env.agents, 0))
    env.close()
    return played


def _known(env_id: int | None) -> int:
    return -1 if env_id is None else env_id

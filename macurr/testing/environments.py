"""The task interface of environments, as a check to call."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import numpy as np
from gymnasium.utils.env_checker import data_equivalence
from pettingzoo import ParallelEnv

from macurr.errors import UsageError
from macurr.messages import EpisodeResult
from macurr.spaces import TaskSpace
from macurr.testing.nested import same
from macurr.testing.probes import TraceCurriculum
from macurr.transports.local import make_local_curriculum
from macurr.wrappers import PettingZooSyncWrapper

__all__ = ["task_env_api_test"]


def task_env_api_test(
    env: ParallelEnv[str, Any, Any],
    task_space: TaskSpace | None = None,
    episodes: int = 3,
    max_steps: int = 200,
    seed: int = 0,
) -> None:
    """Check an environment's task interface, as `pettingzoo.test.parallel_api_test` checks its Parallel API.

    A task comes by `reset(new_task=task)` where `reset` has that keyword, or as `options["task"]`. The environment
    may have `task`, `task_space`, `change_task(task)` and `infos[agent]["task_completion"]`.

    Args:
        env: The environment, below its sync wrapper.
        task_space: The tasks to try; by default `env.task_space`.
        episodes: How many tasks to try.
        max_steps: Where an episode is cut.
        seed: Decides the tasks and the actions.

    Raises:
        AssertionError: a promise is broken; the message says which.
    """
    assert isinstance(env, ParallelEnv), (
        f"The task interface is for PettingZoo Parallel environments; got {env!r}."
    )
    space = getattr(env, "task_space", None) if task_space is None else task_space
    assert isinstance(space, TaskSpace), (
        f"Tasks to try are needed: pass task_space, or give the environment one; got {space!r}."
    )
    rng = np.random.default_rng(seed)
    tasks = [space.decode(space.sample(rng)) for _ in range(episodes)]
    for task in tasks:
        _check_reset(env, task, seed)
        _check_episode(env, rng, max_steps)
    observations, _ = env.reset(seed=seed)
    assert set(env.agents) <= set(observations), "Without a task, reset works as in any environment."
    _check_change(env, tasks[-1])
    _check_synced(env, space, rng, max_steps)


def _reset(env: Any, task: Any, seed: int | None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
    if "new_task" in inspect.signature(env.reset).parameters:
        result: tuple[Any, Any] = env.reset(seed=seed, options=options, new_task=task)
    else:
        result = env.reset(seed=seed, options={**(options or {}), "task": task})
    assert isinstance(result, tuple), "reset returns a pair of observations and infos."
    assert len(result) == 2, "reset returns a pair of observations and infos."
    return result


def _check_reset(env: Any, task: Any, seed: int) -> None:
    options: dict[str, Any] = {"something_else": 1}
    kept = copy.deepcopy(task)
    first, _ = _reset(env, task, seed, options)
    assert options == {"something_else": 1}, "reset does not change the options it is given."
    assert data_equivalence(task, kept), "reset does not change the task it is given."
    assert env.agents, "After a reset with a task, agents are alive."
    assert set(env.agents) <= set(first), "After a reset with a task, every agent sees something."
    if getattr(env, "task", None) is not None:
        assert data_equivalence(env.task, task), (
            f"env.task is the task of the episode, {task!r}; got {env.task!r}."
        )
    again, _ = _reset(env, task, seed)
    assert data_equivalence(first, again, exact=True), (
        f"The same task and the same seed begin the same episode; task {task!r} and seed {seed} do not."
    )


def _check_episode(env: Any, rng: np.random.Generator, max_steps: int) -> None:
    for i, agent in enumerate(env.possible_agents):
        env.action_space(agent).seed(int(rng.integers(2**31)) + i)
    for _ in range(max_steps):
        if not env.agents:
            break
        _, _, _, _, infos = env.step({agent: env.action_space(agent).sample() for agent in env.agents})
        for agent, info in infos.items():
            completion = info.get("task_completion", 0.0)
            assert isinstance(completion, float | int | np.number), (
                f"task_completion is a number; {agent} has {completion!r}."
            )
            assert 0 <= completion <= 1, f"task_completion is between 0 and 1; {agent} has {completion!r}."


def _check_change(env: Any, task: Any) -> None:
    """Where an environment can change its task in mid-episode, it can also be reset afterwards."""
    change = getattr(env, "change_task", None)
    if change is None:
        return
    try:
        change(task)
    except UsageError:  # a task wrapper whose tasks come by reset alone says so
        return
    env.reset(seed=0)
    assert env.agents, "After change_task, a reset brings agents to life."


def _check_synced(env: Any, space: TaskSpace, rng: np.random.Generator, max_steps: int) -> None:
    """Under a sync wrapper, an episode's result arrives with its task."""
    with make_local_curriculum(TraceCurriculum(space)) as synced:
        wrapped = PettingZooSyncWrapper(env, synced.components)
        _, infos = wrapped.reset()
        assert "task" in infos[wrapped.agents[0]], "The sync wrapper names the task in the agents' infos."
        task = wrapped.task
        _check_episode(wrapped, rng, max_steps)
        over = not wrapped.agents
        results: list[EpisodeResult] = TraceCurriculum.heard(synced, "episode")
    assert not over or same([result.task for result in results], [task]), (
        "The result of a finished episode reaches the curriculum with its task."
    )

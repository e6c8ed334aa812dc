"""Environments that are already batched: one call for each vector step, arrays in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from macurr.errors import TaskError, UsageError
from macurr.messages import EnvSpec, EpisodeAborted, EpisodeResult, StepBatch
from macurr.transports.base import Link
from macurr.wrappers._client import TaskStock, handle

__all__ = ["VectorSync"]


class VectorSync:
    """Connects a native vector of environments (EnvPool, a JAX or C++ simulator) to a curriculum.

    There is no environment to wrap: the training loop hands over the arrays of each vector step, and gets the
    tasks of the episodes that begin. Each of the E environments has its own id; they share one connection.

    Args:
        components: `curriculum.components` of a synced curriculum.
        num_envs: E, the number of environments in the vector.
        possible_agents: The A agents of each environment, in the order of the arrays' columns.
        learners: The agents whose experience trains the live policy; all of them by default.
        batch_size: Vector steps kept before they are sent.
        buffer_size: Tasks fetched ahead for each environment (see `PettingZooSyncWrapper`).

    Attributes:
        tasks: The decoded task of each environment's current episode; empty before `reset`.
        encoded_tasks: The same, encoded.

    Raises:
        UsageError: no handle, sizes out of range, or unknown learners.
    """

    def __init__(
        self,
        components: Any,
        num_envs: int,
        possible_agents: Sequence[str],
        learners: Sequence[str] | None = None,
        batch_size: int = 128,
        buffer_size: int = 1,
    ) -> None:
        if num_envs < 1 or batch_size < 1 or buffer_size < 0:
            raise UsageError(
                f"num_envs and batch_size must be at least 1 and buffer_size at least 0; got {num_envs}, "
                f"{batch_size} and {buffer_size}."
            )
        agents = tuple(possible_agents)
        self._spec = EnvSpec(agents, agents if learners is None else tuple(learners))
        self._components = handle(components)
        self._buffer_size = buffer_size
        self._links: Sequence[Link] = ()
        self._stocks: list[TaskStock] = []
        self.tasks: list[Any] = []
        self.encoded_tasks: list[Any] = []
        shape = (num_envs, len(agents))
        self._rewards = np.zeros((batch_size, *shape), np.float32)
        self._flags = np.zeros((3, batch_size, *shape), np.bool_)  # terminations, truncations, active
        self._returns = np.zeros(shape)
        self._done = np.zeros(shape, np.bool_)
        self._lengths = np.zeros(num_envs, np.int64)
        self._begins = np.zeros(num_envs, np.int64)  # row of the first step that has not been sent
        self._row = 0

    @property
    def num_envs(self) -> int:
        """E, the number of environments."""
        return len(self._lengths)

    def reset(self) -> list[Any]:
        """Begin an episode in every environment; what was under way is aborted.

        Returns:
            The E decoded tasks.

        Raises:
            UsageError: the curriculum reads observations or infos, which are not to be had this way.
        """
        if not self._links:
            self._connect()
        played = np.flatnonzero(self._lengths).tolist()
        for env in played:
            self._send_steps(env, ends=False)
            self._links[env].send(EpisodeAborted(self.encoded_tasks[env], self._links[env].env_id))
        for env in range(self.num_envs) if not self.tasks else played:
            self._begin(env)
        self._row = 0
        self._begins[:] = 0
        return list(self.tasks)

    def update_batch(
        self,
        rewards: ArrayLike,
        terminations: ArrayLike,
        truncations: ArrayLike,
        active: ArrayLike | None = None,
    ) -> NDArray[np.intp]:
        """Take in one step of the whole vector.

        Args:
            rewards: (E, A).
            terminations: bool (E, A).
            truncations: bool (E, A).
            active: bool (E, A), who acted; by default everybody who was not done before.

        Returns:
            The environments whose episode has just ended, that is, all of whose agents are done. Their `tasks`
            are the next ones already.

        Raises:
            UsageError: `reset` has not been called.
            TaskError: an array has another shape, or a reward is not finite; nothing is recorded.
        """
        if not self.tasks:
            raise UsageError("update_batch needs tasks to be about. Call reset() first.")
        shape = self._returns.shape
        paid = _checked("rewards", rewards, shape)
        terminated = _checked("terminations", terminations, shape).astype(np.bool_)
        truncated = _checked("truncations", truncations, shape).astype(np.bool_)
        acting = ~self._done if active is None else _checked("active", active, shape).astype(np.bool_)
        self._record(np.where(acting, paid, 0.0), terminated & acting, truncated & acting, acting)
        ended = np.flatnonzero(self._done.all(axis=1))
        for env in ended.tolist():
            self._end(env)
        if self._row == len(self._rewards):
            self._wrap()
        return ended

    def close(self) -> None:
        """Disconnect. May be called twice."""
        for link in self._links:
            link.close()
        self._links = ()
        self.tasks, self.encoded_tasks = [], []

    def _connect(self) -> None:
        links = self._components.connect_many(self._spec, self.num_envs)
        unavailable = sorted(links[0].step_fields - {"rewards", "dones"})
        if unavailable:
            for link in links:
                link.close()
            raise UsageError(
                f"The curriculum reads {unavailable} of each step; a VectorSync sends rewards and dones only. Use "
                "PettingZooSyncWrapper, or let the learner push ready scores by update_on_demand."
            )
        self._links = links
        self._stocks = [TaskStock(link, self._buffer_size) for link in links]
        self.tasks, self.encoded_tasks = [], []
        self._lengths[:] = 0

    def _begin(self, env: int) -> None:
        assignment = self._stocks[env].next()
        if len(self.tasks) < self.num_envs:
            self.tasks.append(assignment.decoded)
            self.encoded_tasks.append(assignment.encoded)
        else:
            self.tasks[env], self.encoded_tasks[env] = assignment.decoded, assignment.encoded
        self._returns[env] = 0.0
        self._done[env] = False
        self._lengths[env] = 0

    def _record(
        self,
        rewards: NDArray[Any],
        terminations: NDArray[Any],
        truncations: NDArray[Any],
        acting: NDArray[Any],
    ) -> None:
        self._rewards[self._row] = rewards
        self._flags[:, self._row] = terminations, truncations, acting
        self._row += 1
        self._returns += rewards
        self._lengths += 1
        self._done |= terminations | truncations

    def _end(self, env: int) -> None:
        agents, link = self._spec.possible_agents, self._links[env]
        returns = dict(zip(agents, self._returns[env].tolist(), strict=True))
        length, none = int(self._lengths[env]), dict.fromkeys(agents, 0.0)
        result = EpisodeResult(self.encoded_tasks[env], link.env_id, returns, length, none)
        steps = self._cut(env, ends=True)
        self._stocks[env].send_last([result] if steps is None else [steps, result])
        self._begin(env)
        self._begins[env] = self._row

    def _wrap(self) -> None:
        """Send what is left of every episode, and start again at the first row."""
        for env in range(self.num_envs):
            self._send_steps(env, ends=False)
        self._row = 0
        self._begins[:] = 0

    def _send_steps(self, env: int, *, ends: bool) -> None:
        batch = self._cut(env, ends=ends)
        if batch is not None:
            self._links[env].send(batch)

    def _cut(self, env: int, *, ends: bool) -> StepBatch | None:
        """An environment's steps that have not been sent; None where there are none, or nobody reads them."""
        begin, link = int(self._begins[env]), self._links[env]
        steps = self._row - begin
        if steps == 0 or not link.step_fields:
            return None
        rows = slice(begin, self._row)
        terminations, truncations, active = (flags[rows, env].copy() for flags in self._flags)
        return StepBatch(
            task=self.encoded_tasks[env],
            env_id=link.env_id,
            agents=self._spec.possible_agents,
            rewards=self._rewards[rows, env].copy(),
            terminations=terminations,
            truncations=truncations,
            active=active,
            observations={},
            final_observations={},
            infos=(),
            progress=None,
            starts_episode=bool(self._lengths[env] == steps),
            ends_episode=ends,
        )


def _checked(name: str, array: ArrayLike, shape: tuple[int, ...]) -> NDArray[Any]:
    checked = np.asarray(array)
    if checked.shape != shape:
        raise TaskError(f"{name} has shape {checked.shape}; wanted is (environments, agents) = {shape}.")
    if not np.isfinite(checked).all():
        raise TaskError(f"{name} holds values that are not finite. Check the environment.")
    return checked

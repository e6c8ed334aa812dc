"""Collecting rollouts with central, batched inference.

Groups of environments take turns: while one steps, the learner thinks for another.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from macurr.errors import UsageError
from macurr.training.layout import Layout
from macurr.training.opponents import PolicyBank
from macurr.training.policy import Policy, log_prob, sample
from macurr.training.rollout import Episode, Rollout
from macurr.training.stepping import Frame
from macurr.training.vector import EnvGroup

__all__ = ["Collector"]


class _Column:
    """What the learner remembers of one group between steps.

    Args:
        group: The environments.
        start: The group's first column in the rollout.
        seats: The number of each environment's learner.
    """

    def __init__(self, group: EnvGroup, start: int, seats: NDArray[np.int64]) -> None:
        envs = group.shape.envs
        self.group = group
        self.columns = slice(start, start + envs)
        self.seats = seats
        self.rows = np.arange(envs)
        self.returns = np.zeros((envs, group.shape.agents))
        self.lengths = np.zeros(envs, np.int64)
        self.tasks = np.zeros((envs, group.shape.task))
        self.frame: Frame | None = None


class Collector:
    """Plays the policy against the opponents that the curriculum chose.

    Args:
        groups: The environments.
        seats: The number of each environment's learner, over all groups.
        layout: How they are laid out.
        policy: The live policy.
        bank: The opponents.
        generator: Where chance comes from.
        opponent: The number of the opponent in a task.
        level: The number of the level in a task.
    """

    def __init__(
        self,
        groups: Sequence[EnvGroup],
        seats: Sequence[int],
        layout: Layout,
        policy: Policy,
        bank: PolicyBank,
        generator: torch.Generator,
        *,
        opponent: int = 0,
        level: int = 1,
    ) -> None:
        self._layout, self._policy, self._bank, self._generator = layout, policy, bank, generator
        self._opponent, self._level = opponent, level
        self._masked = layout.masked or not layout.masks.all()
        self._columns: list[_Column] = []
        start = 0
        for group in groups:
            chosen = np.array(seats[start : start + group.shape.envs], np.int64)
            self._columns.append(_Column(group, start, chosen))
            start += group.shape.envs
        self._envs = start

    def reset(self) -> None:
        """Begin an episode everywhere."""
        for column in self._columns:
            column.group.reset()
        for column in self._columns:
            column.frame, _ = column.group.frame()
            column.tasks[:] = column.frame.tasks

    @torch.no_grad()
    def collect(self, steps: int, gamma: float) -> Rollout:
        """Play.

        Args:
            steps: Steps of every environment.
            gamma: Discount, for the value of what truncated episodes saw last.

        Raises:
            MacurrError: an environment or the curriculum failed, or a worker died.
        """
        rollout = self._empty(steps)
        finals: list[tuple[int, NDArray[np.int64], NDArray[np.float32]]] = []
        for t in range(steps + 1):
            for column in self._columns:
                if t > 0:
                    frame, last = column.group.frame()
                    self._note(rollout, column, frame, t - 1)
                    if len(last.envs):
                        finals.append((t - 1, last.envs + column.columns.start, np.array(last.observations)))
                    column.frame = frame
                if t < steps:
                    column.group.act(self._act(rollout, column, t))
                else:
                    seen = torch.from_numpy(self._seen(column, column.seats))
                    rollout.last_values[column.columns] = self._policy.value(seen).numpy()
        self._bootstrap(rollout, finals, gamma)
        rollout.episodes.sort(key=lambda episode: (episode.step, episode.env))
        return rollout

    def _empty(self, steps: int) -> Rollout:
        shape = (steps, self._envs)
        wide = (*shape, self._layout.actions)
        discrete = self._layout.discrete
        return Rollout(
            observations=np.zeros((*shape, self._layout.features), np.float32),
            masks=np.zeros(wide, np.bool_) if self._masked else None,
            actions=np.zeros(shape, np.int64) if discrete else np.zeros(wide, np.float32),
            log_probs=np.zeros(shape, np.float32),
            values=np.zeros(shape, np.float32),
            rewards=np.zeros(shape, np.float32),
            dones=np.zeros(shape, np.bool_),
            valid=np.zeros(shape, np.bool_),
            last_values=np.zeros(self._envs, np.float32),
        )

    # Acting

    def _act(self, rollout: Rollout, column: _Column, t: int) -> NDArray[np.int64] | NDArray[np.float32]:
        frame = _present(column)
        policy, columns = self._policy, column.columns
        seen = rollout.observations[t, columns] = self._seen(column, column.seats)
        masks = self._masks(frame, column.rows, column.seats)
        params, values = policy(torch.from_numpy(seen))
        actions = sample(policy.spec, params, masks, self._generator)
        if rollout.masks is not None and masks is not None:
            rollout.masks[t, columns] = masks.numpy()
        rollout.actions[t, columns] = actions.numpy()
        rollout.log_probs[t, columns] = log_prob(policy.spec, params, actions, masks).numpy()
        rollout.values[t, columns] = values.numpy()
        rollout.valid[t, columns] = frame.alive[column.rows, column.seats]
        everyone = self._act_others(column, frame)
        everyone[column.rows, column.seats] = actions.numpy()
        return everyone

    def _act_others(self, column: _Column, frame: Frame) -> NDArray[np.int64] | NDArray[np.float32]:
        shape = frame.alive.shape
        discrete = self._layout.discrete
        out = np.zeros(shape, np.int64) if discrete else np.zeros((*shape, self._layout.actions), np.float32)
        others = frame.alive.copy()
        others[column.rows, column.seats] = False
        envs, agents = np.nonzero(others)
        if len(envs):
            ids = column.tasks[envs, self._opponent].astype(np.int64)
            rows = torch.from_numpy(frame.observations[envs, agents])
            masks = self._masks(frame, envs, agents)
            out[envs, agents] = self._bank.act(rows, masks, ids, self._generator).numpy()
        return out

    def _seen(self, column: _Column, agents: NDArray[np.int64]) -> NDArray[np.float32]:
        return _present(column).observations[column.rows, agents]

    def _masks(self, frame: Frame, envs: NDArray[np.int64], agents: NDArray[np.int64]) -> Tensor | None:
        if not self._masked:
            return None
        return torch.from_numpy(
            frame.masks[envs, agents] if self._layout.masked else self._layout.masks[agents]
        )

    # What came of it

    def _note(self, rollout: Rollout, column: _Column, frame: Frame, t: int) -> None:
        rows, seats = column.rows, column.seats
        rollout.rewards[t, column.columns] = frame.rewards[rows, seats]
        rollout.dones[t, column.columns] = (
            frame.terminated[rows, seats] | frame.truncated[rows, seats] | frame.ended
        )
        column.returns += frame.rewards
        column.lengths += 1
        if frame.ended.any():
            ended = np.flatnonzero(frame.ended)
            rollout.episodes.extend(self._episode(column, int(i), t) for i in ended)
            column.returns[ended] = 0.0
            column.lengths[ended] = 0
            column.tasks[ended] = frame.tasks[ended]

    def _episode(self, column: _Column, i: int, t: int) -> Episode:
        returns, seat = column.returns[i], int(column.seats[i])
        others = np.delete(returns, seat)
        return Episode(
            env=column.columns.start + i,
            step=t,
            opponent=int(column.tasks[i, self._opponent]),
            level=int(column.tasks[i, self._level]),
            learner_return=float(returns[seat]),
            others_return=float(others.mean()) if len(others) else 0.0,
            length=int(column.lengths[i]),
        )

    def _bootstrap(
        self,
        rollout: Rollout,
        finals: Sequence[tuple[int, NDArray[np.int64], NDArray[np.float32]]],
        gamma: float,
    ) -> None:
        if not finals:
            return
        values = self._policy.value(torch.from_numpy(np.concatenate([seen for _, _, seen in finals]))).numpy()
        start = 0
        for t, envs, _ in finals:
            rollout.rewards[t, envs] += gamma * values[start : start + len(envs)]
            start += len(envs)


def _present(column: _Column) -> Frame:
    if column.frame is None:
        raise UsageError("A rollout was asked for before the environments were reset. Call reset() first.")
    return column.frame

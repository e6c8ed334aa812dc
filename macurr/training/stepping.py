"""Many environments stepped together, into packed arrays. Imported by workers: no torch."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from macurr.errors import ConfigError, MacurrError
from macurr.training.layout import Layout

__all__ = ["EnvBatch", "Finals", "Frame", "FrameShape"]


@dataclass(frozen=True)
class FrameShape:
    """The sizes of a frame.

    Attributes:
        envs: Environments, E.
        agents: Agents of each, A.
        features: Length of an observation row, F.
        actions: Length of an action mask, N; 0 where observations bring none.
        task: Numbers of a task, K.
    """

    envs: int
    agents: int
    features: int
    actions: int
    task: int

    @classmethod
    def of(cls, layout: Layout, envs: int, task: int) -> FrameShape:
        """The sizes of a frame of that many environments, with tasks of that many numbers."""
        masks = layout.actions if layout.masked else 0
        return cls(envs, len(layout.agents), layout.features, masks, task)

    def parts(self) -> dict[str, tuple[tuple[int, ...], type]]:
        """Shape and dtype of each array of a frame, widest dtype first, so that all are aligned."""
        e, a = self.envs, self.agents
        return {
            "tasks": ((e, self.task), np.float64),
            "observations": ((e, a, self.features), np.float32),
            "rewards": ((e, a), np.float32),
            "masks": ((e, a, self.actions), np.bool_),
            "alive": ((e, a), np.bool_),
            "terminated": ((e, a), np.bool_),
            "truncated": ((e, a), np.bool_),
            "ended": ((e,), np.bool_),
        }


class Frame:
    """What one step of E environments gave, as arrays that share one buffer.

    Attributes:
        tasks: float64 (E, K), the task of the episode that `observations` belong to.
        observations: float32 (E, A, F), what the agents act on next: where an episode has just ended, the first of
            the next one.
        rewards: float32 (E, A), of the step before.
        masks: bool (E, A, N), the actions that the observations allow.
        alive: bool (E, A), who acts next.
        terminated: bool (E, A), whose episode ended by the rules with the step before.
        truncated: bool (E, A), whose episode was cut off with the step before.
        ended: bool (E,), in which environments a new episode has begun.
        size: Bytes of all.
        buffer: The bytes, when the frame owns them.
    """

    tasks: NDArray[np.float64]
    observations: NDArray[np.float32]
    rewards: NDArray[np.float32]
    masks: NDArray[np.bool_]
    alive: NDArray[np.bool_]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    ended: NDArray[np.bool_]

    def __init__(self, shape: FrameShape, buffer: bytearray | None = None, start: int = 0) -> None:
        parts = shape.parts()
        sizes = [int(np.prod(dims)) * np.dtype(kind).itemsize for dims, kind in parts.values()]
        self.size = sum(sizes)
        self.buffer = bytearray(self.size) if buffer is None else buffer
        for (name, (dims, kind)), size in zip(parts.items(), sizes, strict=True):
            flat: NDArray[Any] = np.frombuffer(self.buffer, kind, int(np.prod(dims)), start)
            setattr(self, name, flat.reshape(dims))
            start += size


@dataclass(frozen=True)
class Finals:
    """What learners saw last where their episode was truncated: the value of it belongs to their return.

    Attributes:
        envs: int64 (n,), the environments.
        observations: float32 (n, F).
    """

    envs: NDArray[np.int64]
    observations: NDArray[np.float32]


class EnvBatch:
    """E environments of one kind, each reset by itself when its episode is over.

    Args:
        envs: The environments, with the same agents.
        seats: The number of each environment's learner.
        layout: How they are laid out.
        task_width: Numbers of a task.
    """

    def __init__(
        self,
        envs: Sequence[ParallelEnv[str, Any, Any]],
        seats: Sequence[int],
        layout: Layout,
        task_width: int,
    ) -> None:
        self._envs = list(envs)
        self._seats = list(seats)
        self._layout = layout
        self._index = {agent: k for k, agent in enumerate(layout.agents)}
        self.shape = FrameShape.of(layout, len(self._envs), task_width)
        self.frame = Frame(self.shape)
        self.frame.observations[:] = layout.indicator()
        self.frame.masks[:] = layout.masks[:, : self.shape.actions]
        self.discrete = layout.discrete
        self.coordinates = () if layout.discrete else (layout.actions,)
        self._finals: list[tuple[int, NDArray[np.float32]]] = []
        self._task_texts: list[Any] = [None] * len(self._envs)

    def reset(self) -> None:
        """Begin an episode everywhere."""
        for i in range(len(self._envs)):
            self._reset(i)

    def step(self, actions: NDArray[Any]) -> Finals:
        """Step every environment.

        Args:
            actions: int64 (E, A), or float32 (E, A, N) for continuous actions; rows of agents that do not act are
                ignored.

        Returns:
            Last observations of truncated learners. Everything else is in `frame`.

        Raises:
            ConfigError: an environment failed; its name, task and traceback are in the message.
            MacurrError: the curriculum failed, or is gone.
        """
        self._finals.clear()
        frame = self.frame
        frame.rewards[:] = 0.0
        frame.terminated[:] = False
        frame.truncated[:] = False
        frame.ended[:] = False
        rows = actions.tolist() if self._layout.discrete else actions
        for i, env in enumerate(self._envs):
            self._step(i, env, rows[i])
        kept = self._finals
        observations = np.array([seen for _, seen in kept], np.float32).reshape(
            len(kept), self.shape.features
        )
        return Finals(np.array([i for i, _ in kept], np.int64), observations)

    def close(self) -> None:
        """Close every environment, also when one fails at it."""
        for env in self._envs:
            with suppress(Exception):  # a window that cannot be closed must not keep the others open
                env.close()  # type: ignore[no-untyped-call]  # PettingZoo

    def _step(self, i: int, env: ParallelEnv[str, Any, Any], row: Any) -> None:
        frame, index, layout = self.frame, self._index, self._layout
        with self._explained(i):
            acts = {agent: layout.decode(index[agent], row[index[agent]]) for agent in env.agents}
            observations, rewards, terminations, truncations, _ = env.step(acts)
        for agent, reward in rewards.items():
            k = index[agent]
            frame.rewards[i, k] = reward
            if terminations.get(agent):
                frame.terminated[i, k] = True
            elif truncations.get(agent):
                frame.truncated[i, k] = True
        done = all(terminations.get(agent) or truncations.get(agent) for agent in env.agents)
        seat = self._seats[i]
        if frame.truncated[i, seat]:
            self._keep_final(i, seat, observations)
        if done:
            self._reset(i)
            frame.ended[i] = True
        else:
            finished = {agent for agent in rewards if terminations.get(agent) or truncations.get(agent)}
            self._write(i, {a: seen for a, seen in observations.items() if a not in finished})

    def _keep_final(self, i: int, seat: int, observations: dict[str, Any]) -> None:
        agent = self._layout.agents[seat]
        if agent in observations:
            self._layout.encode(seat, observations[agent], self.frame.observations[i, seat], None)
            self._finals.append((i, self.frame.observations[i, seat].copy()))

    def _reset(self, i: int) -> None:
        with self._explained(i):
            observations, infos = self._envs[i].reset()
            if not observations:
                raise ConfigError("reset() returned no agents; an episode needs at least one")
            agent = next(iter(observations))
            task = np.ravel(infos[agent]["task"])
        self.frame.tasks[i] = task
        self._task_texts[i] = task.tolist()
        self._write(i, observations)

    def _write(self, i: int, observations: dict[str, Any]) -> None:
        frame, layout = self.frame, self._layout
        frame.alive[i] = False
        for agent, seen in observations.items():
            k = self._index[agent]
            frame.alive[i, k] = True
            layout.encode(k, seen, frame.observations[i, k], frame.masks[i, k] if layout.masked else None)

    @contextmanager
    def _explained(self, i: int) -> Iterator[None]:
        """Tell which environment failed, on which task and where."""
        try:
            yield
        except MacurrError:
            raise
        except Exception as error:  # whatever an environment raises
            raise ConfigError(
                f"The environment {self._layout.name} failed on task {self._task_texts[i]} with "
                f"{type(error).__name__}: {error}. Mend the environment; this is where it happened:\n"
                f"{traceback.format_exc()}"
            ) from error

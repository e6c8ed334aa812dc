"""Many environments stepped together, into packed arrays. Imported by workers: no torch."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from macurr.curriculum import check_state
from macurr.errors import ConfigError, MacurrError, StateError
from macurr.training.frames import Finals, Frame, FrameShape
from macurr.training.layout import Layout
from macurr.training.members import Final, Member, ParallelMember, Place
from macurr.training.pickling import dumps, loads
from macurr.training.turns import TurnMember

__all__ = ["EnvBatch", "Finals", "Frame", "FrameShape"]


class EnvBatch:
    """E environments of one kind, each reset by itself when its episode is over.

    Args:
        envs: The environments, Parallel or AEC, with the same agents; wrapped so that they know their tasks.
        seats: The numbers of each environment's learners.
        layout: How they are laid out.
        task_width: Numbers of a task.
    """

    def __init__(
        self, envs: Sequence[Any], seats: Sequence[Sequence[int]], layout: Layout, task_width: int
    ) -> None:
        self.layout = layout
        self.shape = FrameShape.of(layout, len(envs), task_width)
        self.frame = Frame(self.shape)
        self.frame.observations[:] = layout.indicator()
        self.frame.masks[:] = layout.masks[:, : self.shape.actions]
        kind: Any = TurnMember if layout.turns else ParallelMember
        self._members: list[Member] = [
            kind(env, Place(self.frame, i, learners, layout), layout)
            for i, (env, learners) in enumerate(zip(envs, seats, strict=True))
        ]
        self._task_texts: list[Any] = [None] * len(envs)
        self._at, self._begins = -1, False

    @property
    def doing(self) -> tuple[int, str]:
        """The number of the environment that is being stepped or reset, and what it is at; for who watches."""
        at = max(self._at, 0)
        if self._begins:
            return at, "has been at the beginning of an episode"
        return at, f"has been at a step of task {self._task_texts[at]}"

    def reset(self) -> None:
        """Begin an episode everywhere."""
        for i, member in enumerate(self._members):
            self._reset(i, member)
        self._clear()

    def step(self, actions: NDArray[Any], held: NDArray[np.bool_] | None = None) -> Finals:
        """Step the environments.

        Args:
            actions: `layout.action_dtype` (E, A, *layout.action_shape); rows of agents that do not act are ignored.
            held: bool (E,), the environments that do not step: nothing is paid there and all stays as it is. None: all
                step.

        Returns:
            Last observations of truncated learners. Everything else is in `frame`.

        Raises:
            ConfigError: an environment failed; its name, task and traceback are in the message.
            MacurrError: the curriculum failed, or is gone.
        """
        self._clear()
        rows: Any = actions.tolist() if self.layout.discrete else actions
        resting = frozenset() if held is None else frozenset(np.flatnonzero(held).tolist())
        kept: list[tuple[int, Final]] = []
        for i, member in enumerate(self._members):
            if i in resting:
                continue
            self._at = i
            finals: list[Final] = []
            try:
                over = member.step(rows[i], finals)
            except MacurrError:
                raise
            except (Exception, SystemExit) as error:  # whatever an environment raises
                raise self._explained(f"on task {self._task_texts[i]}", error) from error
            if finals:
                kept.extend((i, final) for final in finals)
            if over:
                self._reset(i, member)
                self.frame.ended[i] = True
        return self._finals(kept)

    def state_dict(self) -> dict[str, Any] | None:
        """The environments in mid-episode, with what their wrappers have recorded and not sent.

        What an environment keeps outside of itself, such as a global random generator, is not in it.

        Returns:
            "pickled", the environments as bytes, uint8 (n,); "frame", the frame's bytes, uint8 (size,); and "shape",
            its sizes. None where an environment cannot be pickled.

        Raises:
            UsageError: the curriculum is not served in this process.
        """
        inside = {"members": [member.saved() for member in self._members], "tasks": list(self._task_texts)}
        try:
            pickled = dumps(inside)
        except Exception:  # whatever objects raise that do not want to be pickled
            return None
        return {
            "type": "EnvBatch",
            "pickled": np.frombuffer(pickled, np.uint8).copy(),
            "frame": np.frombuffer(self.frame.buffer, np.uint8).copy(),
            "shape": self._sizes(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()` as if nothing had happened, before the first reset.

        The curriculum must have loaded the state that was taken at the same time. Only for states of one's own: what is
        unpickled can run anything.

        Raises:
            StateError: the state is not one of such environments, or the curriculum does not have their tasks.
            UsageError: an episode has begun here already.
        """
        check_state(state, "EnvBatch", {"pickled", "frame", "shape"})
        if list(state["shape"]) != self._sizes() or len(state["frame"]) != self.frame.size:
            raise StateError(
                f"The state is of environments of the sizes {state['shape']}; these have {self._sizes()} "
                "(environments, agents, features, actions, numbers of a task). Resume with the settings of the run."
            )
        try:
            inside = loads(np.ascontiguousarray(state["pickled"], np.uint8).data)
        except Exception as error:  # whatever objects raise that are of another version
            raise StateError(
                f"The environments in mid-episode cannot be read again: {type(error).__name__}: {error}. Resume with "
                "the versions of the packages that they were saved with, or let them begin new episodes."
            ) from error
        for member, saved in zip(self._members, inside["members"], strict=True):
            member.restore(saved)
        self._task_texts = inside["tasks"]
        self.frame.buffer[:] = np.ascontiguousarray(state["frame"], np.uint8).tobytes()

    def close(self) -> None:
        """Close every environment, also when one fails at it."""
        for member in self._members:
            with suppress(Exception):  # a window that cannot be closed must not keep the others open
                member.env.close()

    def _sizes(self) -> list[int]:
        shape = self.shape
        return [shape.envs, shape.agents, shape.features, shape.actions, shape.task]

    def _clear(self) -> None:
        frame = self.frame
        frame.rewards[:] = 0.0
        frame.terminated[:] = False
        frame.truncated[:] = False
        frame.ended[:] = False

    def _finals(self, kept: list[tuple[int, Final]]) -> Finals:
        if not kept:
            return Finals.none(self.shape)
        return Finals(
            np.array([i for i, _ in kept], np.int64),
            np.array([agent for _, (agent, _) in kept], np.int64),
            np.stack([row for _, (_, row) in kept]),
        )

    def _reset(self, i: int, member: Member) -> None:
        self._at, self._begins = i, True
        try:
            task = member.reset()
        except MacurrError:
            raise
        except (Exception, SystemExit) as error:  # whatever an environment raises
            task = getattr(member.env, "task", None)
            what = "" if task is None else f" of task {np.ravel(task).tolist()}"
            raise self._explained(f"at the beginning of an episode{what}", error) from error
        self._begins = False
        self.frame.tasks[i] = task
        self._task_texts[i] = task.tolist()

    def _explained(self, when: str, error: BaseException) -> ConfigError:
        """Which environment failed, when and where."""
        return ConfigError(
            f"The environment {self.layout.name} failed {when} with {type(error).__name__}: {error}. Mend the "
            "environment; this is where it happened:\n"
            f"{''.join(traceback.format_exception(error))}"
        )

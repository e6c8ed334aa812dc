"""What the collector remembers of one group of environments between steps, and the rollout it writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from macurr.errors import StateError, UsageError
from macurr.training.kinds import Cuts, Kinds
from macurr.training.mapping import PolicyMapping
from macurr.training.rollout import NOBODY, Episode, Rollout
from macurr.training.stepping import Finals, Frame
from macurr.training.vector import EnvGroup

__all__ = ["Streams"]


class Streams:
    """One group: who plays, what they remember, the episodes under way and the rollout being written.

    Args:
        group: The environments.
        number: The number of the group.
        first: The number of its first environment in the run.
        seats: For each environment the numbers of the agents that learn.
        kinds: What is the same for all groups.
        mapping: Who plays whom.

    Attributes:
        env_of: int64 (S,), each stream's environment.
        agent_of: int64 (S,), each stream's agent.
        flat: int64 (S,), the streams' places among the agents of all environments, E * A.
        others: int64 (n,), the places of those that do not learn.
    """

    def __init__(
        self,
        group: EnvGroup,
        number: int,
        first: int,
        seats: Sequence[Sequence[int]],
        kinds: Kinds,
        mapping: PolicyMapping,
    ) -> None:
        envs, agents = group.shape.envs, group.shape.agents
        self.group, self.number, self.first = group, number, first
        self._kinds, self._mapping = kinds, mapping
        self._masked = kinds.layout.masked or not kinds.layout.masks.all()
        self.env_of = np.array([i for i, row in enumerate(seats) for _ in row], np.int64)
        self.agent_of = np.array([k for row in seats for k in row], np.int64)
        self.learns = np.zeros((envs, agents), np.bool_)
        self.learns[self.env_of, self.agent_of] = True
        self.flat = self.env_of * agents + self.agent_of
        self.others = np.flatnonzero(~self.learns)
        self._stream = np.full((envs, agents), -1, np.int64)
        self._stream[self.env_of, self.agent_of] = np.arange(len(self.env_of))
        self.tasks = np.zeros((envs, group.shape.task))
        self.policies = np.zeros((envs, agents), np.int16)
        self._returns, self._lengths = np.zeros((envs, agents)), np.zeros(envs, np.int64)
        self._episode = np.zeros(envs, np.int64)
        self._starting = np.ones(envs, np.bool_)
        self.last_seen = np.zeros(len(self.env_of), np.float32)
        self.memory = np.zeros((len(self.env_of), kinds.memory), np.float32)
        self.others_memory = np.zeros((envs, agents, kinds.others_memory), np.float32)
        self.frame: Frame | None = None
        self.step = -kinds.warm_up
        self.held: NDArray[np.bool_] | None = None
        self._starts_at = np.arange(first, first + envs) * kinds.warm_up // max(kinds.envs, 1)
        self.rollout: Rollout | None = None
        self.cuts: list[Cuts] = []
        self.waits, self.anew = False, False
        self.quota = 0

    @property
    def warming(self) -> bool:
        """Whether some environments have not started yet; nothing is written down until all have."""
        return self.step < 0

    @property
    def full(self) -> bool:
        """Whether the rollout is complete but for the value of what follows."""
        return self.step >= self._kinds.steps

    @property
    def playing(self) -> Frame:
        """The frame that the agents act on.

        Raises:
            UsageError: the environments have not been reset.
        """
        if self.frame is None:
            raise UsageError("A step was asked for before the environments were reset. Call reset() first.")
        return self.frame

    # The beginning

    def begin(self, frame: Frame) -> None:
        """Take in the first frame of new episodes everywhere; a rollout under way is given up."""
        self.frame, self.anew = frame, False
        self.rollout, self.cuts, self.held = None, [], None
        self.step = min(self.step, 0)
        self._renew(np.arange(len(self._lengths)))

    def next_rollout(self) -> None:
        """Begin a rollout with the present frame."""
        self.rollout, self.cuts, self.step = self._empty(), [], 0

    def hold(self) -> NDArray[np.bool_] | None:
        """The environments that do not step yet, bool (E,); None once all do."""
        self.held = self._starts_at > self.step + self._kinds.warm_up if self.warming else None
        return self.held

    def _empty(self) -> Rollout:
        layout, steps, streams = self._kinds.layout, self._kinds.steps, len(self.env_of)
        shape = (steps, streams)
        return Rollout(
            observations=np.zeros((*shape, layout.features), layout.dtype),
            masks=np.zeros((*shape, layout.actions), np.bool_) if self._masked else None,
            actions=np.zeros((*shape, *layout.action_shape), layout.action_dtype),
            log_probs=np.zeros(shape, np.float32),
            values=np.zeros(shape, np.float32),
            rewards=np.zeros(shape, np.float32),
            dones=np.zeros(shape, np.bool_),
            valid=np.zeros(shape, np.bool_),
            starts=np.zeros(shape, np.bool_),
            policies=np.zeros(shape, np.int16),
            versions=np.zeros(shape, np.int64),
            env_of=self.env_of + self.first,
            agent_of=self.agent_of,
            last_values=np.zeros(streams, np.float32),
            state0=self.memory.copy() if self._kinds.memory else None,
            central=np.zeros((steps, *self.everything().shape), layout.dtype)
            if self._kinds.central
            else None,
            central_of=self.env_of,
            number=self.number,
        )

    # What is seen

    def seen(self) -> NDArray[Any]:
        """What the streams see, (S, F)."""
        return self.playing.observations.reshape(-1, self.group.shape.features).take(self.flat, 0)

    def alive(self) -> NDArray[np.bool_]:
        """Which streams act, bool (S,)."""
        return self.playing.alive.take(self.flat)

    def played(self) -> NDArray[np.int16]:
        """Who plays the streams, (S,)."""
        return self.policies.take(self.flat)

    def others_acting(self) -> NDArray[np.int64]:
        """The places of those who act and do not learn, int64 (n,)."""
        acting = self.playing.alive.take(self.others)
        return self.others if np.count_nonzero(acting) == len(acting) else self.others[acting]

    def everything(self) -> NDArray[Any]:
        """What the agents of each environment see together, (E, A * F)."""
        rows = self.playing.observations
        return rows.reshape(len(rows), -1)

    def masks(self, places: NDArray[np.int64]) -> NDArray[np.bool_] | None:
        """What the agents at some places may do, bool (n, N); None where everything is allowed always."""
        layout = self._kinds.layout
        if layout.masked:
            return self.playing.masks.reshape(-1, layout.actions).take(places, 0)
        return layout.masks.take(places % len(layout.masks), 0) if self._masked else None

    # What came of a step

    def note(self, frame: Frame, finals: Finals) -> list[Episode]:
        """Take in the frame after a step.

        Returns:
            The episodes that ended with it.
        """
        if len(finals.envs) and self.rollout is not None:
            self._cut(finals)
        rollout, t = self.rollout, self.step
        if rollout is not None:
            rollout.rewards[t] = frame.rewards.take(self.flat)
            rollout.dones[t] = (frame.terminated | frame.truncated).take(self.flat)
        self._returns += frame.rewards
        self._lengths += 1 if self.held is None else ~self.held
        self._starting &= False if self.held is None else self.held
        if self.held is not None:
            # Who is held sees its first observation again: as if for the first time.
            self.memory[self.held.take(self.env_of)] = 0.0
            self.others_memory[self.held] = 0.0
        self.frame = frame
        (ended,) = frame.ended.nonzero()
        episodes = [self._finished(i, frame) for i in ended.tolist()]
        if episodes:
            self._renew(ended)
            if rollout is not None:
                rollout.dones[t] |= frame.ended.take(self.env_of)
                rollout.episodes.extend(episodes)
        self.step += 1
        return episodes

    def _finished(self, i: int, frame: Frame) -> Episode:
        returns, learns = self._returns[i], self.learns[i]
        said = frame.objectives[i, learns]
        others = returns[~learns]
        opponent = self._kinds.opponent
        return Episode(
            env=self.first + i,
            step=self.step,
            opponent=NOBODY if opponent is None else int(self.tasks[i, opponent]),
            level=int(self.tasks[i, self._kinds.level]),
            learner_return=float(returns[learns].mean()),
            others_return=float(others.mean()) if len(others) else 0.0,
            length=int(self._lengths[i]),
            policies=tuple(self.policies[i, learns].tolist()),
            returns=tuple(returns[learns].tolist()),
            contested=bool(len(others)),
            objectives=() if np.isnan(said).all() else tuple(said.tolist()),
        )

    def _renew(self, envs: NDArray[np.int64]) -> None:
        """Begin episodes: their tasks are those of the frame."""
        self.tasks[envs] = self.playing.tasks[envs]
        self._returns[envs] = 0.0
        self._lengths[envs] = 0
        self._starting[envs] = True
        begun = np.zeros(len(self._lengths), np.bool_)
        begun[envs] = True
        streams = begun.take(self.env_of)
        self.last_seen[streams] = 0.0
        self.memory[streams] = 0.0
        self.others_memory[envs] = 0.0
        for i in envs.tolist():
            self.policies[i] = self._mapping.draw(self.first + i, int(self._episode[i]))
        self._episode[envs] += 1

    def _cut(self, finals: Finals) -> None:
        streams = self._stream[finals.envs, finals.agents]
        kept = streams >= 0
        streams, envs = streams[kept], finals.envs[kept]
        central = None
        if self.rollout is not None and self.rollout.central is not None:
            # Who is not among them saw nothing later than the step before.
            rows = self.rollout.central[self.step].copy()
            wide = rows.reshape(len(rows), self.group.shape.agents, -1)
            wide[finals.envs, finals.agents] = finals.observations
            central = rows[envs]
        self.cuts.append(
            Cuts(
                step=self.step,
                streams=streams,
                policies=self.policies[envs, self.agent_of[streams]],
                observations=np.array(finals.observations[kept]),
                state=self.memory[streams] if self._kinds.memory else None,
                central=central,
            )
        )

    def starting(self) -> NDArray[np.bool_]:
        """Whose environment's episode begins with the present frame, bool (S,)."""
        return self._starting.take(self.env_of)

    # State

    _KEPT = (
        "tasks",
        "policies",
        "_returns",
        "_lengths",
        "_episode",
        "_starting",
        "last_seen",
        "memory",
        "others_memory",
    )

    def state_dict(self) -> dict[str, Any]:
        """Everything between two rollouts, the present frame included."""
        frame = self.playing
        return {
            **{name.lstrip("_"): getattr(self, name).copy() for name in self._KEPT},
            "step": min(self.step, 0),
            "frame": {name: np.array(getattr(frame, name)) for name in self.group.shape.parts()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()`.

        Raises:
            StateError: it is of another group; nothing is changed.
        """
        frame = Frame(self.group.shape)
        arrays = {name: np.asarray(state[name.lstrip("_")]) for name in self._KEPT}
        shown = {name: np.asarray(state["frame"][name]) for name in self.group.shape.parts()}
        for name, array in arrays.items():
            _check(name, array, getattr(self, name))
        for name, array in shown.items():
            _check(name, array, getattr(frame, name))
        for name, array in arrays.items():
            getattr(self, name)[...] = array
        for name, array in shown.items():
            getattr(frame, name)[...] = array
        self.frame, self.rollout, self.step = frame, None, int(state["step"])


def _check(name: str, given: NDArray[Any], own: NDArray[Any]) -> None:
    if given.shape != own.shape:
        raise StateError(
            f"The state of a group of environments has {name} of shape {given.shape}; {own.shape} is wanted. Resume "
            "with the settings of the run."
        )

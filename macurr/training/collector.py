"""Collecting rollouts with central, batched inference: while a group steps, actions are found for another."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch

from macurr.errors import StateError, TransportError, UsageError, WorkerLost
from macurr.training.acting import Actors, Crew
from macurr.training.clock import Clock
from macurr.training.kinds import Kinds
from macurr.training.mapping import PolicyMapping
from macurr.training.rollout import Episode, Rollout
from macurr.training.streams import Streams
from macurr.training.vector import EnvGroup, Environments

__all__ = ["Collector", "Published", "replaced", "worn_out"]

_logger = logging.getLogger("macurr")

_FOREVER = 1 << 62


class Published(Protocol):
    """Where the collector gets the policies that it acts by."""

    def acting(self) -> AbstractContextManager[Crew]:
        """The live policies and their versions, which nobody changes within the `with` block."""


class Collector:
    """Plays the live policies, against each other and against the opponents that the curriculum chose.

    Args:
        vector: The environments.
        seats: For each environment the numbers of the agents that learn.
        kinds: What is the same for all groups.
        actors: Chooses actions.
        published: Where the live policies come from.
        mapping: Which policy plays whom.
        restarts: How many crashed workers may be replaced.

    Attributes:
        clock: Seconds of "env_wait" (waiting for environments) and "inference".
        strays: Episodes that ended outside of rollouts: before all environments had started, or in rollouts that were
            given up. Whoever reads them empties the list.
        restarted: How many workers were replaced.
        lost_steps: Environment steps of rollouts that were given up with their worker.
        paused: While True nobody acts.
    """

    def __init__(
        self,
        vector: Environments,
        seats: Sequence[Sequence[int]],
        kinds: Kinds,
        actors: Actors,
        published: Published,
        mapping: PolicyMapping,
        restarts: int = 0,
    ) -> None:
        self._vector, self._kinds, self._actors, self._published = vector, kinds, actors, published
        self._mapping, self._restarts = mapping, restarts
        self._streams: list[Streams] = []
        start = 0
        for number, group in enumerate(vector.groups):
            end = start + group.shape.envs
            self._streams.append(Streams(group, number, start, seats[start:end], kinds, mapping))
            start = end
        self._of = {id(streams.group): streams for streams in self._streams}
        self.clock = Clock()
        self.strays: list[Episode] = []
        self.restarted, self.lost_steps = 0, 0
        self._steps = 0
        self.paused = False

    @property
    def generator(self) -> torch.Generator:
        """Where the chance of actions comes from."""
        return self._actors.generator

    def reset(self) -> None:
        """Begin an episode everywhere.

        Raises:
            MacurrError: an environment or the curriculum failed, or a worker died.
        """
        self.begin()
        for streams in self._streams:
            frame, _ = streams.group.frame()
            streams.begin(frame)
            streams.waits = False

    def begin(self) -> None:
        """Begin an episode everywhere, as `reset`, but let `pump` wait for it."""
        for streams in self._streams:
            streams.group.reset()
            streams.anew = streams.waits = True

    @property
    def begun(self) -> bool:
        """Whether all groups have the first frame of their episodes."""
        return not any(streams.anew for streams in self._streams)

    def collect(self, rounds: int = 1) -> list[Rollout]:
        """Let every group play exactly so many rollouts, then stop.

        Environments that have not started are started first.

        Returns:
            The rollouts, round by round, in the order of the groups.

        Raises:
            MacurrError: an environment or the curriculum failed, or too many workers died.
        """
        for streams in self._streams:
            streams.quota = rounds
        found: list[list[Rollout]] = [[] for _ in self._streams]
        self._set_off()
        while any(streams.quota for streams in self._streams):
            for rollout in self._serve():
                found[rollout.number].append(rollout)
        return [rollouts[i] for i in range(rounds) for rollouts in found]

    def pump(self) -> list[Rollout]:
        """Serve the groups whose frames have arrived; waits for one where there is none yet.

        Returns:
            The rollouts that are complete with that; none while `paused` and nobody is under way.

        Raises:
            MacurrError: as `collect`.
        """
        for streams in self._streams:
            streams.quota = _FOREVER
        if not self.paused:
            self._set_off()
        return self._serve()

    @property
    def idle(self) -> bool:
        """Whether no group is in the middle of a rollout."""
        return not any(streams.waits or streams.rollout is not None for streams in self._streams)

    @property
    def busy(self) -> bool:
        """Whether a frame is under way."""
        return any(streams.waits for streams in self._streams)

    @property
    def unfinished(self) -> int:
        """Environment steps of rollouts that are under way."""
        return sum(each.step * each.group.shape.envs for each in self._streams if each.rollout is not None)

    def wake(self) -> None:
        """Let who is in `pump` return soon: here, it waits for a frame at most."""

    # One turn

    def _set_off(self) -> None:
        for streams in self._streams:
            if not streams.waits:
                self._go(streams)

    def _serve(self) -> list[Rollout]:
        due = [streams.group for streams in self._streams if streams.waits]
        if not due:
            return []
        begun = time.perf_counter()
        ready = self._vector.wait(due)
        self.clock.add("env_wait", begun)
        finished = []
        for group in ready:
            streams = self._of[id(group)]
            if not streams.waits:  # its worker was replaced a moment ago
                continue
            rollout = self._take(streams)
            if rollout is not None:
                finished.append(rollout)
            if not streams.waits and not self.paused:
                self._go(streams)
        return finished

    def _take(self, streams: Streams) -> Rollout | None:
        """Take in a group's frame; the rollout, if it is complete with that."""
        begun = time.perf_counter()
        try:
            frame, finals = streams.group.frame()
        except WorkerLost as error:
            self._replace(streams.group, error)
            return None
        finally:
            self.clock.add("env_wait", begun)
        streams.waits = False
        if streams.anew:
            streams.begin(frame)
            return None
        episodes = streams.note(frame, finals)
        self._steps += streams.group.shape.envs
        if streams.rollout is None:
            self.strays.extend(episodes)
        if streams.rollout is None or not streams.full:
            return None
        begun = time.perf_counter()
        with self._published.acting() as crew:
            rollout = self._actors.finish(streams, crew)
        self.clock.add("inference", begun)
        streams.quota -= 1
        return rollout

    def _go(self, streams: Streams) -> None:
        """Let a group act, unless it has played all that it is to play."""
        if not streams.quota:
            return
        if streams.rollout is None and not streams.warming:
            streams.next_rollout()
        begun = time.perf_counter()
        with self._published.acting() as crew:
            actions = self._actors.act(streams, crew)
        begun = self.clock.add("inference", begun)
        held = streams.hold()
        try:
            streams.group.act(actions, held)
            streams.waits = True
        except WorkerLost as error:
            self._replace(streams.group, error)
        finally:
            self.clock.add("env_wait", begun)

    def _replace(self, group: EnvGroup, error: WorkerLost) -> None:
        """Start a worker in place of one that died; what its groups were writing is given up."""
        if self.restarted >= self._restarts:
            raise worn_out(error, self.restarted, self._restarts) from error
        self.restarted += 1
        _logger.warning("%s", replaced(error, self.restarted, self._restarts))
        for other in self._vector.restart(group):
            streams = self._of[id(other)]
            if streams.rollout is not None:
                self.lost_steps += streams.step * other.shape.envs
                self.strays.extend(streams.rollout.episodes)
            streams.rollout, streams.anew, streams.waits = None, True, True

    # State

    def take_steps(self) -> int:
        """Environment steps since they were last taken."""
        taken, self._steps = self._steps, 0
        return taken

    def state_dict(self, *, whole: bool) -> dict[str, Any]:
        """Chance, and where it is asked for what groups remember and the environments themselves.

        Args:
            whole: Whether to hold the environments in mid-episode, which must be in this process and between two
                rollouts. Where they cannot be had, their episodes begin anew with the state.

        Raises:
            UsageError: they are in the middle of a rollout.
        """
        if whole and not self.idle:
            raise UsageError("The state of environments can be had between two rollouts only.")
        asked = [getattr(group, "state_dict", None) if whole else None for group in self._vector.groups]
        states = [None if ask is None else ask() for ask in asked]
        whole = all(state is not None for state in states)
        return {
            "generator": self.generator.get_state().numpy().copy(),
            "mapping": self._mapping.state_dict(),
            "groups": [streams.state_dict() for streams in self._streams] if whole else None,
            "envs": states if whole else None,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> bool:
        """Go on from `state_dict()`.

        Returns:
            Whether the environments go on too; otherwise `reset` or `begin` has to follow.

        Raises:
            StateError: it is of other environments.
        """
        self._mapping.load_state_dict(state["mapping"])
        self.generator.set_state(torch.from_numpy(state["generator"].copy()))
        groups, envs = state["groups"], state["envs"]
        loads = [getattr(group, "load_state_dict", None) for group in self._vector.groups]
        if envs is None or any(load is None for load in loads):
            return False
        if len(groups) != len(self._streams) or len(envs) != len(loads):
            text = f"The state is of {len(groups)} groups of environments; there are {len(self._streams)}."
            raise StateError(text)
        for load, one in zip(loads, envs, strict=True):
            load(one)  # type: ignore[misc]  # none is None here
        for streams, one in zip(self._streams, groups, strict=True):
            streams.load_state_dict(one)
        return True


def replaced(error: WorkerLost, number: int, restarts: int) -> str:
    """What is told where a worker is replaced.

    Args:
        error: What became of it.
        number: How many have been replaced with that.
        restarts: How many may be.
    """
    happened = str(error).partition(". ")[0].rstrip(".")
    return f"{happened}. It is replaced: number {number} of the {restarts} that worker_restarts allows."


def worn_out(error: WorkerLost, restarted: int, restarts: int) -> TransportError:
    """What ends a run whose workers have died more often than they may.

    Args:
        error: The latest death.
        restarted: How many were replaced before.
        restarts: How many may be.
    """
    return TransportError(
        f"{error} {restarted} workers of this run were replaced before, which is all that "
        f"worker_restarts={restarts} allows. Find out why they die; go on with --resume."
    )

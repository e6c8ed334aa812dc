"""Curricula that learn from streams: what arrives for all agents is passed on stream by stream."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from typing_extensions import override

from macurr.curriculum import Curriculum
from macurr.errors import TaskError, UsageError
from macurr.messages import EnvSpec, Step, StepBatch
from macurr.wrappers._composite import register_all
from macurr.wrappers._streams import Stream


@dataclass(frozen=True, slots=True)
class Lane:
    """A stream and the curriculum that learns from it."""

    stream: Stream
    curriculum: Curriculum


@dataclass(frozen=True, slots=True)
class Players:
    """An environment's agents, and the lanes of those that learn."""

    agents: tuple[str, ...]
    single_agent: bool
    lanes: tuple[Lane, ...]

    def by_agent(self, value: Any) -> Mapping[str, Any]:
        """A value by agent, where single-agent environments send a plain one.

        Raises:
            TaskError: it is no mapping by agent, or mentions agents that the environment does not have.
        """
        values = self.mapping(value)
        strangers = [agent for agent in values if agent not in self.agents]
        if strangers:
            raise TaskError(
                f"The update mentions {strangers}, and the environment's agents are {list(self.agents)}. Register "
                "the environment with all agents that may ever act (EnvSpec.possible_agents)."
            )
        return values

    def mapping(self, value: Any) -> Mapping[str, Any]:
        """The same for what PettingZoo lets environments give further keys, such as infos."""
        if value is None:
            return {}
        if self.single_agent:
            return {self.agents[0]: value}
        if type(value) is not dict and not isinstance(value, Mapping):
            raise TaskError(
                f"Updates from an environment with agents {list(self.agents)} are mappings by agent; got {value!r}."
            )
        return value


class StreamedCurriculum(Curriculum):
    """Splits updates by stream. Subclasses say which streams an environment has and who learns from them.

    What a curriculum gets are the plain values of single-agent environments. Only learners teach: agents that an
    environment registers as frozen contribute nothing.

    Attributes:
        possible_agents: Every agent that may ever act, in order; None until the first environment is known.
    """

    possible_agents: tuple[str, ...] | None = None
    _players: dict[int | None, Players]

    @abstractmethod
    def _lanes(self, env_id: int | None, spec: EnvSpec) -> Sequence[Lane]:
        """The lanes of an environment."""

    @abstractmethod
    def _part(self, task: Any, stream: Stream) -> Any:
        """The task as the stream's curriculum knows it."""

    @override
    def register_env(self, env_id: int, spec: EnvSpec) -> None:
        """Learn who plays in an environment, and register each stream as an environment of its own.

        Raises:
            UsageError: the environment has agents that are not among `possible_agents`, or none that teaches.
        """
        lanes = tuple(self._lanes(env_id, spec))
        register_all([(lane.curriculum, lane.stream.id, lane.stream.spec) for lane in lanes])
        Curriculum.register_env(self, env_id, spec)
        self._players[env_id] = Players(spec.possible_agents, spec.single_agent, lanes)
        if self.possible_agents is None:
            self.possible_agents = spec.possible_agents

    @override
    def unregister_env(self, env_id: int) -> None:
        Curriculum.unregister_env(self, env_id)
        players = self._players.pop(env_id, None)
        for lane in () if players is None else players.lanes:
            if lane.stream.id is not None:
                lane.curriculum.unregister_env(lane.stream.id)

    @override
    def update_on_step(
        self,
        task: Any,
        obs: Any,
        reward: Any,
        term: Any,
        trunc: Any,
        info: Any,
        progress: Any,
        env_id: int | None = None,
    ) -> None:
        """Pass one step on, to each stream that acted."""
        players = self._known(env_id)
        step = Step(
            players.mapping(obs),
            players.by_agent(reward),
            players.mapping(term),
            players.mapping(trunc),
            players.mapping(info),
            players.by_agent(progress),
        )
        for lane, part in self._assigned(players, task):
            if lane.stream.plays(step.reward) and lane.curriculum.requires_step_updates:
                own = lane.stream.step(step)
                lane.curriculum.update_on_step(part, *own, env_id=lane.stream.id)

    @override
    def update_on_step_batch(self, batch: StepBatch) -> None:
        """Pass each stream's steps on, as a batch of its own."""
        players = self._known(batch.env_id)
        for lane in players.lanes:
            lane.stream.check_columns(batch)
        for lane, part in self._assigned(players, batch.task):
            piece = lane.stream.cut(batch) if lane.curriculum.requires_step_updates else None
            if piece is not None:
                lane.curriculum.update_on_step_batch(replace(piece, task=part))

    @override
    def update_on_episode(
        self, episode_return: Any, length: int, task: Any, progress: Any, env_id: int | None = None
    ) -> None:
        """Pass an episode's result on: to each stream its own return, and the environment's length.

        Agents that are not mentioned in `episode_return` did not play, and nobody learns from them.
        """
        players = self._known(env_id)
        returns, completion = players.by_agent(episode_return), players.by_agent(progress)
        self.check_episode(returns, length, task)
        for lane, part in self._assigned(players, task):
            lane.stream.forget()
            if lane.stream.plays(returns):
                lane.curriculum.update_on_episode(
                    lane.stream.value(returns),
                    length,
                    part,
                    lane.stream.value(completion),
                    env_id=lane.stream.id,
                )

    @override
    def update_on_abort(self, task: Any, env_id: int | None = None) -> None:
        """Tell every stream that its episode was given up; where nobody knows who plays, there is none."""
        players = self._players.get(env_id)
        for lane, part in () if players is None else self._assigned(players, task):
            lane.stream.forget()
            lane.curriculum.update_on_abort(part, lane.stream.id)

    @override
    def update_task_progress(self, task: Any, progress: Any, env_id: int | None = None) -> None:
        """Pass each stream's task completion on."""
        players = self._known(env_id)
        completion = players.by_agent(progress)
        for lane, part in self._assigned(players, task):
            if lane.stream.plays(completion):
                lane.curriculum.update_task_progress(part, lane.stream.value(completion), lane.stream.id)

    def _assigned(self, players: Players, task: Any) -> list[tuple[Lane, Any]]:
        # All parts are found before the first curriculum learns anything: a bad task changes nothing.
        return [(lane, self._part(task, lane.stream)) for lane in players.lanes]

    def _known(self, env_id: int | None) -> Players:
        """Who plays in an environment; driven by hand, without any registered, all agents play and learn."""
        players = self._players.get(env_id)
        if players is None:
            self.check_env(env_id)
            if self.possible_agents is None:
                raise UsageError(
                    f"{type(self).__name__} does not know who plays in environment {env_id}. Call register_env first, "
                    "or pass possible_agents to the constructor."
                )
            spec = EnvSpec(self.possible_agents, self.possible_agents)
            players = Players(spec.possible_agents, False, tuple(self._lanes(env_id, spec)))
            self._players[env_id] = players
        return players

"""The environment's side of a curriculum: tasks in, updates out, whatever kind of environment it is."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np

from macurr.curriculum import Curriculum
from macurr.errors import UsageError
from macurr.host import Assignment
from macurr.messages import EnvSpec, EpisodeAborted, EpisodeResult, TaskProgress, Update
from macurr.transports.base import Components, Link, ResumableLink, SyncedCurriculum
from macurr.wrappers._recorder import Recorder


class TaskStock:
    """An environment's tasks: `buffer_size` of them are always asked for ahead.

    Args:
        link: The environment's connection.
        buffer_size: How many; with 0, each task is drawn when it is needed.
    """

    def __init__(self, link: Link, buffer_size: int) -> None:
        self._link, self._buffer_size = link, buffer_size
        self._ahead = 0
        self._asked = False

    def next(self) -> Assignment:
        """The next task; waits for it if it has not arrived."""
        link = self._link
        if self._ahead:
            begun = time.perf_counter()
            assignment = link.task()
            self._ahead -= 1
            link.started(time.perf_counter() - begun)
        else:
            if not self._asked:  # a reset that timed out has asked already
                link.request(1, start=True)
                self._asked = True
            assignment = link.task()
            self._asked = False
        missing = self._buffer_size - self._ahead
        if missing > 0:
            link.request(missing, start=False)
            self._ahead += missing
        return assignment

    def state_dict(self) -> dict[str, Any]:
        """What has been asked for, and what the connection knows of it."""
        return {"ahead": self._ahead, "asked": self._asked, "link": _resumable(self._link).state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()`."""
        _resumable(self._link).load_state_dict(state["link"])
        self._ahead, self._asked = state["ahead"], state["asked"]

    def send_last(self, updates: Sequence[Update]) -> None:
        """Send an episode's last updates, and ask in the same message for what the next reset leaves missing."""
        want = self._buffer_size + 1 - self._ahead if self._buffer_size else 0
        self._link.send_all(updates, want)
        self._ahead += want


class TaskClient:
    """Fetches one environment's tasks and sends its updates.

    It connects at the first reset. A copy of it, made by pickling, deep copy or fork, connects anew and so
    becomes an environment of its own.

    Args:
        components: The curriculum's handle.
        spec: Who plays.
        batch_size: Steps in a batch.
        buffer_size: Tasks fetched ahead.
        remove_keys: Keys of infos that are never sent.

    Raises:
        UsageError: no handle, or sizes out of range.
    """

    def __init__(
        self, components: Any, spec: EnvSpec, *, batch_size: int, buffer_size: int, remove_keys: Iterable[str]
    ) -> None:
        self._components = handle(components)
        if not all(isinstance(size, Integral) for size in (batch_size, buffer_size)):
            raise UsageError(
                f"batch_size and buffer_size are whole numbers; got {batch_size!r} and {buffer_size!r}."
            )
        if batch_size < 1 or buffer_size < 0:
            raise UsageError(
                f"batch_size must be at least 1 and buffer_size at least 0; got {batch_size} and {buffer_size}."
            )
        self.spec = spec
        self._batch_size, self._buffer_size = batch_size, buffer_size
        self._remove_keys = frozenset(remove_keys)
        self._disconnected()

    def _disconnected(self) -> None:
        self._link: Link | None = None
        self._pid = os.getpid()
        self._recorder: Recorder | None = None
        self._assignment: Assignment | None = None
        self.progress: dict[str, float] = {}
        self.__dict__.pop("record", None)

    def __getstate__(self) -> dict[str, Any]:
        fresh = ("_link", "_recorder", "_assignment", "progress", "_stock", "_pid", "record")
        return {key: value for key, value in self.__dict__.items() if key not in fresh}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._disconnected()

    @property
    def env_id(self) -> int | None:
        """The environment's id; None before it has connected."""
        return None if self._link is None else self._link.env_id

    @property
    def task(self) -> Any:
        """The encoded task of the current episode; None before the first reset."""
        return None if self._assignment is None else self._assignment.encoded

    @property
    def playing(self) -> bool:
        """Whether an episode is under way."""
        return self._assignment is not None and self._recorder is not None and self._pid == os.getpid()

    def reset(self) -> Assignment:
        """The task of the episode that begins.

        An episode that was under way is aborted: its steps are sent, and its task goes back. A reset before the
        first step changes nothing: the same task is played.
        """
        if self._pid != os.getpid() and self._link is not None:
            self._link.close()
            self._disconnected()
        if self._assignment is not None:
            if self._recorder is None or self._recorder.steps == 0:
                return self._assignment
            self.send_steps(ends=False)
            self._send(EpisodeAborted(self._assignment.encoded, self._connected().env_id))
        self._assignment = None  # a failed fetch must not leave the old task in place
        self._connected()
        self._assignment = self._stock.next()
        return self._assignment

    def begin(self, observations: Mapping[str, Any]) -> None:
        """Start recording, from what the agents see at the start of the episode."""
        recorder = self._recording()
        self.progress.update(dict.fromkeys(self.spec.possible_agents, 0.0))
        recorder.begin(self.task, observations)

    def _recording(self) -> Recorder:
        if self._recorder is None:
            link = self._connected()
            self._recorder = Recorder(
                link.env_id, self.spec, link.step_fields, self._batch_size, self._remove_keys, self.progress
            )
            self.record = self._recorder.add  # type: ignore[method-assign]  # one call less per step
        return self._recorder

    def record(
        self,
        observations: Mapping[str, Any],
        rewards: Mapping[str, float],
        terminations: Mapping[str, bool],
        truncations: Mapping[str, bool],
        infos: Mapping[str, Any],
    ) -> bool:
        """Record one step; whether it is time to send.

        Raises:
            UsageError: no episode has begun.
        """
        raise UsageError("The environment was stepped before its first reset. Call reset() first.")

    @property
    def observing(self) -> bool:
        """Whether the curriculum reads observations."""
        return self._link is not None and "observations" in self._link.step_fields

    def see(self, observations: Mapping[str, Any]) -> None:
        """Note what agents see before they act, where that is not known from their last step."""
        if self._recorder is not None:
            self._recorder.see(observations)

    def add_returns(self, rewards: Mapping[str, float]) -> None:
        """Add to the returns what was paid outside of any step."""
        if self._recorder is not None:
            for agent, reward in rewards.items():
                self._recorder.returns[agent] += reward

    def note_progress(self, infos: Mapping[str, Any]) -> bool:
        """Take the agents' `task_completion` from their infos; whether it has changed."""
        changed = False
        for agent, before in self.progress.items():
            now = infos[agent].get("task_completion") if agent in infos else None
            if now is not None and now != before:
                self.progress[agent], changed = float(now), True
        return changed

    def send_progress(self, *, ends: bool) -> None:
        """Send the agents' task completion, after the steps that led to it; `ends`: as for `send_steps`."""
        self.send_steps(ends=ends)
        self._send(TaskProgress(self.task, self._connected().env_id, self._plain(self.progress)))

    @property
    def completed(self) -> bool:
        """Whether every agent has completed the task."""
        return bool(self.progress) and min(self.progress.values()) >= 1.0

    def end(self) -> None:
        """Send the last steps and the episode's result."""
        if self._assignment is None or self._recorder is None:
            return
        self._check_process()
        recorder = self._recorder
        steps = recorder.flush(ends=True)
        result = EpisodeResult(
            self._assignment.encoded,
            self._connected().env_id,
            self._plain({agent: recorder.returns[agent] for agent in self.spec.possible_agents}),
            recorder.length,
            self._plain(self.progress),
        )
        self._assignment = None
        self._stock.send_last([result] if steps is None else [steps, result])

    def state_dict(self) -> dict[str, Any] | None:
        """The episode in progress and the tasks ahead, as objects that can be pickled; None before the first reset.

        Raises:
            UsageError: the curriculum is not served in this process.
        """
        if self._link is None:
            return None
        return {
            "stock": self._stock.state_dict(),
            "assignment": self._assignment,
            "progress": dict(self.progress),
            "recorder": None if self._recorder is None else self._recorder.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any] | None) -> None:
        """Connect, and go on with the episode of `state_dict()` as if nothing had happened.

        The curriculum must have loaded the state that was taken at the same time: it has the tasks that were out.

        Raises:
            UsageError: it is connected already, or the curriculum is not served in this process.
            StateError: the curriculum does not have these tasks to hand out.
        """
        if self._link is not None:
            raise UsageError(
                "An episode can only be taken up before the first reset. Make a new environment."
            )
        if state is None:
            return
        self._connected()
        self._stock.load_state_dict(state["stock"])
        self._assignment = state["assignment"]
        if state["recorder"] is not None:
            self._recording().load_state_dict(state["recorder"])
        self.progress.update(state["progress"])

    def close(self) -> None:
        """Abort what is under way and disconnect. May be called twice."""
        if self._link is not None:
            self._link.close()
        self._disconnected()

    def _connected(self) -> Link:
        if self._link is None:
            self._link = self._components.connect(self.spec)
            self._stock = TaskStock(self._link, self._buffer_size)
        return self._link

    def send_steps(self, *, ends: bool) -> None:
        """Send what has been recorded since the last time.

        Args:
            ends: Whether the episode is over. The batch says so, and nobody can say it later.
        """
        batch = None if self._recorder is None else self._recorder.flush(ends=ends)
        # Some wrappers take one empty step more than the episode has, which belongs to no task.
        if batch is not None and self._assignment is not None:
            self._send(batch)

    def _send(self, update: Update) -> None:
        self._check_process()
        self._connected().send(update)

    def _check_process(self) -> None:
        if self._pid != os.getpid():
            raise UsageError(
                "This environment was forked in mid-episode, and its episode belongs to the process that it was "
                "forked from. Call reset() first."
            )

    def _plain(self, by_agent: Mapping[str, float]) -> Any:
        """What curricula read: a mapping by agent, or the only agent's value."""
        return by_agent[self.spec.possible_agents[0]] if self.spec.single_agent else dict(by_agent)


def _resumable(link: Link) -> ResumableLink:
    if not isinstance(link, ResumableLink):
        raise UsageError(
            "Episodes in progress can be saved and taken up with a local curriculum only (make_local_curriculum)."
        )
    return link


def handle(components: Any) -> Components:
    """What connects to a curriculum, from whatever the user has passed.

    Raises:
        UsageError: it is no handle and does not hold one.
    """
    if isinstance(components, SyncedCurriculum):
        return components.components
    if isinstance(components, Curriculum):
        raise UsageError(
            f"A sync wrapper needs a handle, not the {type(components).__name__} itself, of which every worker "
            "would get a copy. Use make_local_curriculum(...) or make_multiprocessing_curriculum(...) and pass its "
            "components."
        )
    if not isinstance(components, Components):
        raise UsageError(f"A sync wrapper needs the components of a synced curriculum; got {components!r}.")
    return components


def takes_new_task(env: Any) -> bool:
    """Whether an environment's `reset` takes its task by the keyword `new_task`."""
    return "new_task" in inspect.signature(env.reset).parameters


def reset_arguments(
    assignment: Assignment, options: dict[str, Any] | None, *, by_keyword: bool
) -> dict[str, Any]:
    """The keywords that bring a task to `reset`: `new_task`, or `options["task"]`; what goes with it, `task_info`."""
    if assignment.info:
        options = {**(options or {}), "task_info": assignment.info}
    if by_keyword:
        return {"options": options, "new_task": assignment.decoded}
    return {"options": {**(options or {}), "task": assignment.decoded}}


def task_info(task: Any, agents: Iterable[str]) -> dict[str, Any]:
    """What `infos[agent]["task"]` holds: the encoded task as numbers; the agent's own where each has one."""
    agents = list(agents)
    if isinstance(task, Mapping) and task and all(agent in agents for agent in task):
        return {agent: _numbers(task[agent]) for agent in agents if agent in task}
    numbers = _numbers(task)
    return dict.fromkeys(agents, numbers)


def _numbers(task: Any) -> Any:
    """An encoded task as an int, a float or a flat array: frameworks refuse other things in infos."""
    if isinstance(task, int | float | np.number | np.ndarray):
        return task
    parts = task.values() if isinstance(task, Mapping) else task
    return np.concatenate([np.ravel(_numbers(part)) for part in parts])

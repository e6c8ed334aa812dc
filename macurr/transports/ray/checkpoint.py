"""What the actor writes down so that it can go on after it was killed."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from macurr.errors import StateError, TaskError
from macurr.host import CurriculumHost, EnvRecord, Welcome
from macurr.messages import EnvSpec
from macurr.spaces import TaskSpace
from macurr.transports.ray.messages import Answers, Reply
from macurr.transports.ray.workers import Worker, Workers

__all__ = ["TYPE", "host_state", "restore", "snapshot"]

TYPE = "CurriculumActor"


def snapshot(host: CurriculumHost, workers: Workers) -> dict[str, Any]:
    """The host with its environments, and the workers, as a state.

    Raises:
        CurriculumError: the curriculum has failed.
    """
    space: TaskSpace = host.get("task_space")
    away = {env_id: record for w in workers.by_name.values() for env_id, record in w.away.items()}
    records = {**host.envs, **away}
    return {
        "type": TYPE,
        "host": host.state_dict(tasks_of_envs=False),
        "envs": {str(env_id): _plain_record(record, space) for env_id, record in records.items()},
        "workers": {name: _plain_worker(worker, space) for name, worker in workers.by_name.items()},
        "former": {name: sorted(former) for name, former in workers.former.items()},
    }


def host_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """The host's state in a snapshot, for another run: what environments had out is handed out again first.

    Raises:
        StateError: the state is not an actor's.
    """
    _check(state)
    records = state["envs"].values()
    out = [task for record in records for task in [*record["begun"], *record["stock"]]]
    return {**state["host"], "outstanding": [*state["host"]["outstanding"], *out]}


def restore(host: CurriculumHost, workers: Workers, state: Mapping[str, Any]) -> None:
    """Go on from `snapshot(...)`. Every environment is connected again under its id.

    Raises:
        StateError: the state is not an actor's, or not of this curriculum.
    """
    _check(state)
    host.load_state_dict(state["host"])
    try:
        space: TaskSpace = host.get("task_space")
        for env_id, record in state["envs"].items():
            host.reconnect(int(env_id), _record(record, space))
        for name, worker in state["workers"].items():
            workers.by_name[name] = _worker(worker, space)
        workers.former.update({name: set(former) for name, former in state["former"].items()})
    except (AttributeError, KeyError, TaskError, TypeError, ValueError) as error:
        raise StateError(f"The checkpoint's environments and workers are damaged: {error}") from error


def _check(state: Mapping[str, Any]) -> None:
    wanted = {"host", "envs", "workers", "former", "run", "life", "reserved_ids", "lost"}
    if state.get("type") != TYPE or not wanted <= set(state):
        raise StateError(
            f"A checkpoint of the Ray transport is a {TYPE}'s state; got {state.get('type')!r} with {sorted(state)}."
        )


def _plain_record(record: EnvRecord, space: TaskSpace) -> dict[str, Any]:
    spec = record.spec
    return {
        "agents": list(spec.possible_agents),
        "learners": list(spec.learners),
        "single_agent": spec.single_agent,
        "begun": [space.plain(task) for task in record.begun],
        "stock": [space.plain(task) for task, _ in record.stock],
        "versions": [version for _, version in record.stock],
    }


def _record(plain: Mapping[str, Any], space: TaskSpace) -> EnvRecord:
    spec = EnvSpec(tuple(plain["agents"]), tuple(plain["learners"]), plain["single_agent"])
    stock = zip((_task(task, space) for task in plain["stock"]), plain["versions"], strict=True)
    return EnvRecord(spec, deque(_task(task, space) for task in plain["begun"]), deque(stock))


def _task(task: Any, space: TaskSpace) -> Any:
    return task if space.was_removed(task) else space.check(task)


def _decoded(task: Any, space: TaskSpace) -> Any:
    return task if space.was_removed(task) else space.decode(task)


def _plain_worker(worker: Worker, space: TaskSpace) -> dict[str, Any]:
    answers = Answers() if worker.reply is None else worker.reply.answers
    return {
        "incarnation": worker.incarnation,
        "seq": worker.seq,
        "updates": worker.updates,
        "env_ids": sorted(worker.env_ids | set(worker.away)),
        "tasks": [[env_id, space.plain(task), dict(info)] for env_id, task, _, info in answers.tasks],
        "welcomes": [
            [token, [[env_id, sorted(fields)] for env_id, fields in given]]
            for token, given in answers.welcomes
        ],
    }


def _worker(plain: Mapping[str, Any], space: TaskSpace) -> Worker:
    tasks = [(env_id, _task(task, space), info) for env_id, task, info in plain["tasks"]]
    answers = Answers(
        tuple((env_id, task, _decoded(task, space), info) for env_id, task, info in tasks),
        tuple(
            (token, tuple(Welcome(env_id, frozenset(fields)) for env_id, fields in given))
            for token, given in plain["welcomes"]
        ),
    )
    seq = plain["seq"]
    return Worker(
        plain["incarnation"],
        seq,
        Reply(seq, seq, answers),
        env_ids=set(plain["env_ids"]),
        updates=plain["updates"],
        durable=seq,
    )

"""The agents of this process: one for each curriculum, which all its environments share."""

from __future__ import annotations

import atexit
import threading
from functools import cache
from typing import Any

from macurr.transports.ray.agent import Agent
from macurr.transports.ray.engine import ActorPort

__all__ = ["agent_of", "agents"]

LAST_SECONDS = 5.0
"""Seconds that the last letter may take when the process ends."""

_agents: dict[tuple[str, str | None, str | None], Agent] = {}
_lock = threading.Lock()


def agent_of(ray: Any, name: str, namespace: str | None, worker: str | None = None) -> Agent:
    """This process's agent for a curriculum, with a visit begun: call its `leave`.

    Args:
        ray: The package, connected.
        name: The actor's name.
        namespace: Its namespace.
        worker: Which of the agents; None for the one that all environments share.

    Raises:
        CurriculumLost: there is no such curriculum.
    """
    with _lock:
        _end_at_exit()
        key = (name, namespace, worker)
        agent = _agents.get(key)
        while agent is None or not agent.visit():
            if agent is not None:
                agent.join(agent.settings.timeout)
            agent = _agents[key] = Agent(ActorPort(ray, name, namespace), worker)
        return agent


def agents(name: str, namespace: str | None) -> list[Agent]:
    """This process's agents for a curriculum."""
    return [agent for key, agent in list(_agents.items()) if key[:2] == (name, namespace)]


@cache
def _end_at_exit() -> None:
    """At exit, deliver what was written. Registered late, so that it comes before Ray's own ending."""
    atexit.register(_finish_all)


def _finish_all() -> None:
    for agent in list(_agents.values()):
        agent.finish(LAST_SECONDS)

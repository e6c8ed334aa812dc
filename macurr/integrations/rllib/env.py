"""A PettingZoo environment and its curriculum as an RLlib environment."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

from ray.rllib.env.multi_agent_env import MultiAgentEnv
from typing_extensions import override

from macurr.errors import UsageError
from macurr.spaces.forms import plain
from macurr.wrappers import PettingZooSyncWrapper
from macurr.wrappers._seats import sync_client

__all__ = [
    "TAG",
    "EpisodeTag",
    "Learners",
    "RLlibCurriculumEnv",
    "env_named",
    "make_rllib_env",
    "opponents_at_play",
]

TAG = "macurr"
"""The key of infos under which an agent's `EpisodeTag` stands."""

Learners = Sequence[str] | Callable[[Any], Sequence[str]]
"""The learners of every environment, or a function of RLlib's `EnvContext` that says them for one."""

Flags = dict[str, bool]
Step = tuple[dict[str, Any], dict[str, float], Flags, Flags, dict[str, Any]]

_here: WeakValueDictionary[str, RLlibCurriculumEnv] = WeakValueDictionary()
_made: Counter[str] = Counter()


class EpisodeTag(NamedTuple):
    """Which episode of which environment a step belongs to; it travels to the learner in the agent's infos.

    Attributes:
        env_id: The environment's id, which the curriculum gave it. It is never used twice.
        number: The episode's number in this environment.
        task: The encoded task, in lists, dicts, numbers and arrays.
        ended: Whether the agent's part in the episode ended with this step.
    """

    env_id: int
    number: int
    task: Any
    ended: bool


class RLlibCurriculumEnv(MultiAgentEnv):  # type: ignore[misc]  # RLlib is not typed
    """A PettingZoo Parallel environment under a sync wrapper, as RLlib wants it.

    Where RLlib's own `ParallelPettingZooEnv` does otherwise, this is what happens:

    - An episode is closed when nobody is left, also where one agent terminates and another is truncated.
    - Who is truncated at the end of an episode is not marked as terminated. RLlib takes an episode in which every
      agent is flagged for a terminated one, and would not bootstrap the value of what follows; so the end is told
      by `truncateds["__all__"]` alone, beside the agents that have terminated.
    - Nothing is reset before RLlib asks for it: no task is wasted.
    - Agents that are finished are silent, and infos are there for those who observe.

    `infos[agent]["macurr"]` is the step's `EpisodeTag`.

    Args:
        env: The environment, with a sync wrapper among its wrappers.

    Attributes:
        name: A name for this object; `env_named` finds it in this process.
        learners: The agents that the trained module plays.
        task: The encoded task of the episode that was begun last.
        rl_module: The modules of the env runner that it lives in, once they are known.
        opponents: The modules that play the other seats in the episode that was begun last.

    Raises:
        UsageError: there is no sync wrapper.
    """

    def __init__(self, env: Any) -> None:
        client = sync_client(env)
        if client is None:
            raise UsageError(
                f"{env!r} is connected to no curriculum. Wrap it in a PettingZooSyncWrapper, or use make_rllib_env."
            )
        self.possible_agents = list(env.possible_agents)
        self.agents = list(env.possible_agents)
        super().__init__()
        self.env, self._client = env, client
        self.learners = client.spec.learners
        self.render_mode = getattr(env, "render_mode", None)
        self.metadata = dict(getattr(env, "metadata", {}))
        self.observation_spaces = {agent: env.observation_space(agent) for agent in self.possible_agents}
        self.action_spaces = {agent: env.action_space(agent) for agent in self.possible_agents}
        self.rl_module: Any = None
        self.task: Any = None
        self.opponents: set[str] = set()
        self._number = -1
        self._silent: set[str] = set()
        self.name = uuid.uuid4().hex
        _here[self.name] = self

    @override
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin the next task's episode.

        Raises:
            TaskTimeoutError: no task came in time.
            CurriculumError: the curriculum has failed.
            CurriculumLost: the curriculum is gone.
        """
        observations, infos = self.env.reset(seed=seed, options=options)
        self.task = self._client.task
        self._number += 1
        self._silent.clear()
        self.opponents.clear()
        self.agents = list(self.env.agents)
        env_id = -1 if self._client.env_id is None else self._client.env_id
        self._tag = EpisodeTag(env_id, self._number, plain(self.task), ended=False)
        return observations, self._tagged(infos, observations, ())

    @override
    def step(self, action_dict: Mapping[str, Any]) -> Step:
        """Take one step.

        Returns:
            Observations, rewards, terminations, truncations and infos of the agents that were still playing.
        """
        observations, rewards, terminations, truncations, infos = self.env.step(dict(action_dict))
        seen = {agent: value for agent, value in observations.items() if agent not in self._silent}
        terminated = [agent for agent in seen if terminations.get(agent)]
        truncated = [agent for agent in seen if truncations.get(agent) and not terminations.get(agent)]
        self._silent.update(terminated, truncated)
        self.agents = [agent for agent in self.env.agents if agent not in self._silent]
        return (
            seen,
            {agent: float(rewards[agent]) for agent in seen},
            *_flags(terminated, truncated, over=not self.agents),
            self._tagged(infos, seen, {*terminated, *truncated}),
        )

    def _tagged(
        self, infos: Mapping[str, Any], agents: Iterable[str], ended: Iterable[str]
    ) -> dict[str, dict[str, Any]]:
        last = self._tag._replace(ended=True)
        return {
            agent: {**infos.get(agent, {}), TAG: last if agent in ended else self._tag} for agent in agents
        }

    @override
    def render(self) -> Any:
        """A picture, as the environment draws it."""
        return self.env.render()

    @override
    def close(self) -> None:
        """Close the environment: an unfinished episode is aborted."""
        self.opponents.clear()
        self.env.close()


def _flags(terminated: Sequence[str], truncated: Sequence[str], *, over: bool) -> tuple[Flags, Flags]:
    terminations: Flags = {**dict.fromkeys(terminated, True), "__all__": over and not truncated}
    if over:
        return terminations, {"__all__": bool(truncated)}
    return terminations, {**dict.fromkeys(truncated, True), "__all__": False}


def env_named(name: str | None) -> RLlibCurriculumEnv | None:
    """The environment of this name in this process, if there is one."""
    return None if name is None else _here.get(name)


def opponents_at_play(rl_module: Any) -> set[str]:
    """Those of an env runner's modules by which its environments' episodes are being played, beside the learner's."""
    here = [env.opponents for env in list(_here.values()) if env.rl_module is rl_module]
    return set().union(*here)


class _EnvCreator:
    """Makes environments in RLlib's env runners; see `make_rllib_env`."""

    def __init__(
        self,
        env_fn: Callable[[Any], Any],
        components: Any,
        learners: Learners | None,
        options: dict[str, Any],
    ) -> None:
        self._env_fn, self._components = env_fn, components
        self._learners, self._options = learners, options
        self._key = uuid.uuid4().hex

    def __call__(self, context: Any) -> RLlibCurriculumEnv:
        # RLlib's runners for several agents do not count the environments of their vector.
        own = context.copy_with_overrides(vector_index=_made[self._key])
        _made[self._key] += 1
        learners = self._learners(own) if callable(self._learners) else self._learners
        env = PettingZooSyncWrapper(self._env_fn(own), self._components, learners=learners, **self._options)
        return RLlibCurriculumEnv(env)


def make_rllib_env(
    env_fn: Callable[[Any], Any],
    components: Any,
    *,
    learners: Learners | None = None,
    batch_size: int = 128,
    buffer_size: int = 1,
    remove_keys: Iterable[str] = (),
) -> Callable[[Any], RLlibCurriculumEnv]:
    """An env creator, to be registered with RLlib by `ray.tune.register_env(name, creator)`.

    Every environment that it makes is one of its own to the curriculum, also in an env runner that has been
    started anew. Set `disable_env_checking=True` in the config's `environment(...)`: RLlib's check plays one step,
    and that task would be drawn for nothing, before the first opponent is in its pool.

    Args:
        env_fn: Makes the environment with its task wrapper, a PettingZoo ParallelEnv, from RLlib's `EnvContext`
            (the env config, with `worker_index` and `vector_index`, which here counts the environments made in
            the process).
        components: `curriculum.components` of a synced curriculum.
        learners: The agents that the trained module plays; all of them by default. A function of the
            `EnvContext` gives each environment its own: `lambda context: [SEATS[context.vector_index % 2]]`.
        batch_size: As for `PettingZooSyncWrapper`, like the rest.
        buffer_size: Tasks fetched ahead.
        remove_keys: Keys of infos that are never sent.

    Returns:
        A function from an `EnvContext` to the environment.
    """
    options = {"batch_size": batch_size, "buffer_size": buffer_size, "remove_keys": tuple(remove_keys)}
    return _EnvCreator(env_fn, components, learners, options)

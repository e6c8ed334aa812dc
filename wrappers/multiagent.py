"""Single-agent curricula on multi-agent environments: one for all agents, or one for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from macurr.curriculum import Curriculum, CurriculumWrapper
from macurr.errors import TaskError, UsageError
from macurr.messages import EnvSpec
from macurr.spaces import DictTaskSpace
from macurr.wrappers._composite import CompositeCurriculum, check_parts, product_distribution
from macurr.wrappers._streamed import Lane, StreamedCurriculum
from macurr.wrappers._streams import AgentStream, GroupStream, Reduction, Stream, check_rule

__all__ = ["MultiagentIndependentCurriculumWrapper", "MultiagentSharedCurriculumWrapper"]

Groups = Mapping[str, Sequence[str]]


class MultiagentSharedCurriculumWrapper(StreamedCurriculum, CurriculumWrapper):
    """One single-agent curriculum that learns from every agent.

    Each learner is a data stream of its own: to the curriculum it is a single-agent environment with the id
    `env_id * len(possible_agents) + agent_index`, its own return and its own steps. An agent that dies ends its
    stream's episode there; the rows after its death are no data. Frozen co-players, which are not among the
    environment's learners, contribute nothing. All agents play the task that the curriculum chose.

    A level thus gets as many results per episode as there are learners. A curriculum that only keeps the latest
    one, as Prioritized Level Replay does with `alpha=1`, keeps that of the last learner; use a smaller `alpha`,
    push scores that are reduced over the agents by `update_on_demand`, or learn from a joint stream:

    With `joint_policy=True` there is one stream for each environment, whose id is that of the environment, for one
    policy that acts for all learners. With `groups` there is one for each group, with the id
    `env_id * len(groups) + group_index`. A joint stream's observation is the mapping by agent of those that
    acted. Its rewards, returns and task completions are reduced by one rule over its learners, where one that
    does not act earns 0; so by "mean" and "sum" the steps' rewards add up to the episode's return. Its episode
    ends when its last learner is done: truncated if one of those that end with that step is truncated, else
    terminated.

    Args:
        curriculum: The curriculum.
        possible_agents: Every agent that may ever act, in order. By default those of the first environment.
        joint_policy: One stream for each environment.
        reduce: How the numbers of a joint stream's learners become one: "mean", "sum", "min", "max", or a
            function of an array of shape (learners,).
        groups: Agents by name of the group that they act as, such as a team. Agents in no group teach nothing.

    Raises:
        UsageError: no curriculum, groups that overlap or are empty, both `joint_policy` and `groups`, or an
            unknown rule.

    Example:
        >>> from macurr import DiscreteTaskSpace, EnvSpec
        >>> from macurr.curricula import DomainRandomization
        >>> levels = DomainRandomization(DiscreteTaskSpace(5), record_stats=True)
        >>> shared = MultiagentSharedCurriculumWrapper(levels)
        >>> shared.register_env(0, EnvSpec(("a", "b"), learners=("a", "b")))
        >>> shared.update_on_episode({"a": 1.0, "b": 3.0}, 10, 2, {}, env_id=0)
        >>> levels.stats.task(2).mean
        2.0
    """

    def __init__(
        self,
        curriculum: Curriculum,
        possible_agents: Sequence[str] | None = None,
        joint_policy: bool = False,
        *,
        reduce: str | Reduction = "mean",
        groups: Groups | None = None,
    ) -> None:
        super().__init__(curriculum)
        if joint_policy and groups is not None:
            raise UsageError("Pass joint_policy=True (one stream for all agents) or groups, not both.")
        if groups is not None:
            check_groups(groups)
        self.single_agent = False
        self.possible_agents = None if possible_agents is None else tuple(possible_agents)
        self.joint_policy = joint_policy
        self._groups = None if groups is None else {name: tuple(agents) for name, agents in groups.items()}
        check_rule(reduce)
        self._rule = reduce
        self._players = {}

    @override
    def check_episode(self, episode_return: Any, length: int, task: Any) -> None:
        self.curriculum.check_episode(episode_return, length, task)

    @override
    def _lanes(self, env_id: int | None, spec: EnvSpec) -> list[Lane]:
        groups = {"joint": spec.possible_agents} if self.joint_policy else self._groups
        if groups is None:
            agents = self.possible_agents or spec.possible_agents
            _check_known(spec, agents, "Pass possible_agents with all agents of all environments, in order.")
            return [
                Lane(AgentStream(_id(env_id, len(agents), agents.index(agent)), agent), self.curriculum)
                for agent in spec.learners
            ]
        lanes = [
            Lane(GroupStream(_id(env_id, len(groups), index), name, learners, self._rule), self.curriculum)
            for index, (name, members) in enumerate(groups.items())
            if (learners := [agent for agent in members if agent in spec.learners])
        ]
        if not lanes:
            raise UsageError(f"None of the learners {list(spec.learners)} is in one of the groups {groups}.")
        return lanes

    @override
    def _part(self, task: Any, stream: Stream) -> Any:
        return task


class MultiagentIndependentCurriculumWrapper(StreamedCurriculum, CompositeCurriculum):
    """A curriculum for each agent. A task is a mapping from agent to that agent's task.

    Each curriculum sees its agent alone, as a single-agent environment with plain values and its part of the task;
    the environment's id is its own. Frozen co-players get tasks too, but nobody learns from them.

    With `groups` there is one curriculum for each group, which draws a task of its own for each of the group's
    agents and learns from them all; to it, an agent is an environment with the id
    `env_id * len(group) + index_in_group`.

    Args:
        curricula: The curricula by agent, or by group; or a function that is called with each agent's (group's)
            name and returns its curriculum.
        possible_agents: Every agent that may ever act, in order. By default those that have a curriculum.
        groups: Agents by group.

    Raises:
        UsageError: an agent without curriculum or in two groups, a curriculum without agent, the same curriculum
            twice, or a function without the agents to call it for.

    Example:
        >>> from macurr import DiscreteTaskSpace
        >>> from macurr.curricula import DomainRandomization
        >>> make = lambda agent: DomainRandomization(DiscreteTaskSpace(10), seed=0)
        >>> independent = MultiagentIndependentCurriculumWrapper(make, ["fox", "hare"])
        >>> sorted(independent.sample()[0])
        ['fox', 'hare']
    """

    def __init__(
        self,
        curricula: Mapping[str, Curriculum] | Callable[[str], Curriculum],
        possible_agents: Sequence[str] | None = None,
        *,
        groups: Groups | None = None,
    ) -> None:
        if groups is None:
            groups = {agent: (agent,) for agent in _agents_of(curricula, possible_agents)}
        check_groups(groups)
        self._members = {name: tuple(agents) for name, agents in groups.items()}
        self._group = {agent: name for name, agents in self._members.items() for agent in agents}
        agents = tuple(self._group) if possible_agents is None else tuple(possible_agents)
        if set(agents) != set(self._group):
            raise UsageError(
                f"The groups {groups} must hold each of the agents {list(agents)} once, and no others."
            )
        self._group = {agent: self._group[agent] for agent in agents}  # tasks are in the agents' order
        self.curricula = _made(curricula, tuple(self._members))
        spaces = {agent: self.curricula[self._group[agent]].task_space for agent in agents}
        super().__init__(self.curricula, DictTaskSpace(spaces))
        self.possible_agents = agents
        self._players = {}

    @override
    def sample(self, k: int = 1) -> list[dict[str, Any]]:
        """Choose tasks: for each agent one from its curriculum.

        Returns:
            k mappings from agent to its encoded task.
        """
        drawn = {
            name: iter(self.curricula[name].sample(k * len(agents))) for name, agents in self._members.items()
        }
        return [{agent: next(drawn[name]) for agent, name in self._group.items()} for _ in range(k)]

    @override
    def task_info(self, task: Any) -> dict[str, float]:
        """What the curricula say of their parts, under the agent's name: "agent_0/train_on_task"."""
        return {
            f"{agent}/{key}": value
            for agent, name in self._group.items()
            for key, value in self.curricula[name].task_info(self._task_of(agent, task)).items()
        }

    @override
    def distribution(self) -> NDArray[np.float64] | None:
        """The product of the agents' distributions; None where a curriculum draws for several agents in turn."""
        if any(len(agents) > 1 for agents in self._members.values()):
            return None
        return product_distribution([self.curricula[name] for name in self._group.values()])

    @override
    def update_on_demand(self, metrics: Mapping[str, Any]) -> None:
        """Pass on what the learner tells.

        - What stands under the name of an agent or of a group is for its curriculum alone:
          `{"agent_0": {"tasks": [3], "scores": [0.5]}}`.
        - Everything else is for every agent's curriculum. Where it holds "tasks", k mappings from agent to task,
          each gets its own part of them, and of the other values, where they are mappings by agent, its own:
          `{"tasks": [{"a": 3, "b": 1}], "scores": {"a": [0.5], "b": [0.1]}}`.
        - "options" holds those of all: `{"options": {"agent_0/temperature": 0.5}}`.

        Raises:
            TaskError: a task lacks an agent. Nothing is changed.
        """
        with self._with_options(metrics) as told:
            self._pass_on(told)

    def _pass_on(self, metrics: Mapping[str, Any]) -> None:
        named = {name: metrics[name] for name in (*self._group, *self._members) if name in metrics}
        common = {key: value for key, value in metrics.items() if key not in named}
        messages = [(self._group[agent], self._own(common, agent)) for agent in self._group if common]
        messages += [(self._group.get(name, name), own) for name, own in named.items()]
        for name, message in messages:
            self.curricula[name].update_on_demand(message)

    def _own(self, metrics: Mapping[str, Any], agent: str) -> dict[str, Any]:
        own = {
            key: value[agent] if isinstance(value, Mapping) and agent in value else value
            for key, value in metrics.items()
        }
        if "tasks" in metrics and not isinstance(metrics["tasks"], Mapping):
            own["tasks"] = [self._task_of(agent, task) for task in metrics["tasks"]]
        return own

    @override
    def _lanes(self, env_id: int | None, spec: EnvSpec) -> list[Lane]:
        _check_known(spec, tuple(self._group), "Pass a curriculum for each of them.")
        lanes = []
        for agent in spec.learners:
            members = self._members[self._group[agent]]
            stream = AgentStream(_id(env_id, len(members), members.index(agent)), agent)
            lanes.append(Lane(stream, self.curricula[self._group[agent]]))
        return lanes

    @override
    def _part(self, task: Any, stream: Stream) -> Any:
        return self._task_of(stream.name, task)

    def _task_of(self, agent: str, task: Any) -> Any:
        if not isinstance(task, Mapping) or agent not in task:
            raise TaskError(
                f"A task is a mapping from each of {list(self._group)} to that agent's task; got {task!r}."
            )
        return task[agent]


def adapted(curriculum: Curriculum) -> Curriculum:
    """The curriculum, wrapped to learn from every learner where it learns from one agent's plain values."""
    return MultiagentSharedCurriculumWrapper(curriculum) if curriculum.single_agent else curriculum


def check_groups(groups: Groups) -> None:
    """Refuse groups that are empty or overlap.

    Raises:
        UsageError: they do.
    """
    agents = [agent for members in groups.values() for agent in members]
    empty = [name for name, members in groups.items() if len(members) == 0]
    if not groups or empty or len(set(agents)) != len(agents):
        raise UsageError(
            f"Every group needs agents, and every agent belongs to one group; got {dict(groups)}."
        )


def _agents_of(curricula: Any, possible_agents: Sequence[str] | None) -> Sequence[str]:
    if possible_agents is not None:
        return possible_agents
    if not isinstance(curricula, Mapping):
        raise UsageError(
            "A function that makes a curriculum for each agent needs to know them: pass possible_agents. Got "
            f"{curricula!r} alone."
        )
    return list(curricula)


def _check_known(spec: EnvSpec, agents: Sequence[str], cure: str) -> None:
    strangers = [agent for agent in spec.possible_agents if agent not in agents]
    if strangers:
        raise UsageError(
            f"The environment has agents {strangers}, which are not among {list(agents)}. {cure}"
        )


def _id(env_id: int | None, streams: int, index: int) -> int | None:
    return None if env_id is None else env_id * streams + index


def _made(
    curricula: Mapping[str, Curriculum] | Callable[[str], Curriculum], names: Sequence[str]
) -> dict[str, Curriculum]:
    owner = "MultiagentIndependentCurriculumWrapper"
    if not isinstance(curricula, Mapping):
        made = {name: curricula(name) for name in names}
    elif set(curricula) != set(names):
        raise UsageError(
            f"{owner} needs one curriculum for each of {list(names)}; got some for {list(curricula)}."
        )
    else:
        made = {name: curricula[name] for name in names}
    check_parts(made, owner, "Give each its own, or let agents share one by groups={...}.")
    return made

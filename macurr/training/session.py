"""Curriculum and environments of a run, open for the time of its training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from macurr.errors import ConfigError
from macurr.opponents import AgentPool
from macurr.training.collector_process import CollectorProcess
from macurr.training.config import TrainConfig
from macurr.training.devices import resolve_device
from macurr.training.engines import serving, stepping
from macurr.training.envs import EnvSource
from macurr.training.frames import FrameShape
from macurr.training.kinds import Kinds
from macurr.training.layout import Layout
from macurr.training.learner import Learner
from macurr.training.loops import Collecting
from macurr.training.mapping import PolicyMapping, learning_seats, role_of
from macurr.training.orders import CollectorJob
from macurr.training.policy import PolicySpec
from macurr.training.tasks import Places, build_curriculum
from macurr.training.tuned import prefixes_of
from macurr.training.worker import Job

__all__ = ["Session", "make_players", "playing", "probe", "seats_of"]


@dataclass(frozen=True)
class Session:
    """What is open while a run trains.

    Attributes:
        synced: The curriculum, synced with the environments.
        collector: Collects; its environments have begun.
    """

    synced: Any
    collector: Collecting


def seats_of(config: TrainConfig, layout: Layout) -> tuple[tuple[int, ...], ...]:
    """The numbers of the agents that learn in each environment.

    Raises:
        ConfigError: with these sides nobody is left to play against the learners.
    """
    everyone = config.opponents == "none"
    policies = config.policies
    run = policies.num_policies if policies.mapping == "env" else 1
    seats = learning_seats(layout.agents, config.num_envs, policies.sides, everyone, run)
    if not everyone and len(layout.agents) > 1 and any(len(own) == len(layout.agents) for own in seats):
        raise ConfigError(
            f"sides={policies.sides!r} makes one side of all agents of {layout.name} "
            f"({', '.join(layout.agents)}), and "
            f"opponents={config.opponents!r} finds nobody to play. Use opponents='none', or sides='agent'."
        )
    return seats


def make_players(config: TrainConfig, layout: Layout) -> tuple[Learner, PolicyMapping, torch.Generator]:
    """The policies of a run, who plays whom, and where the chance of actions comes from.

    Training and acting have generators of their own: they may go on at the same time.

    Raises:
        ConfigError: there is no such device or mapping, or a policy that nobody would play.
    """
    seeds = np.random.SeedSequence(config.seed).generate_state(3)
    training, acting = (torch.Generator().manual_seed(int(seed)) for seed in seeds[:2])
    spec, device = PolicySpec.of(layout, config.model), resolve_device(config.device)
    learner = Learner(spec, config, training, device, copies=config.asynchronous)
    policies = config.policies
    _check_roles(config, layout)
    mapping = PolicyMapping(
        policies.mapping,
        policies.num_policies,
        layout.agents,
        np.random.default_rng(int(seeds[2])),
        policies.mapping_episodes,
    )
    return learner, mapping, acting


def _check_roles(config: TrainConfig, layout: Layout) -> None:
    count, roles = config.policies.num_policies, list(dict.fromkeys(map(role_of, layout.agents)))
    if config.policies.mapping == "role" and count > len(roles):
        raise ConfigError(
            f"mapping='role' gives every role a policy of its own, and {layout.name} has {len(roles)} of them "
            f"({', '.join(roles)}): {count - len(roles)} of num_policies={count} would never play. Lower num_policies, "
            "or use mapping 'random', 'env' or a function of your own."
        )


@contextmanager
def playing(
    config: TrainConfig,
    source: EnvSource,
    layout: Layout,
    learner: Learner,
    mapping: PolicyMapping,
    pool: AgentPool,
    generator: torch.Generator,
    state: Mapping[str, Any] | None,
) -> Iterator[Session]:
    """The synced curriculum, and a collector whose environments have begun their first episodes or go on.

    Args:
        config: The run's settings.
        source: The environment.
        layout: How it is laid out.
        learner: Where the live policies come from.
        mapping: Which of them plays whom.
        pool: The opponents.
        generator: Where the chance of actions comes from.
        state: "curriculum" and "collector" of a checkpoint to go on from; None to begin.

    Raises:
        StateError: the state is of another run.
        MacurrError: an environment failed or a worker died.
    """
    with serving(config, build_curriculum(config, pool), pool.path.parent) as synced:
        if state is not None:
            synced.load_state_dict(state["curriculum"])
        seats, places = seats_of(config, layout), Places.of(config)
        job = CollectorJob(
            seats=seats,
            kinds=_kinds(config, layout, learner.spec, places),
            spec=learner.spec,
            device=learner.policies[0].device,
            pool=pool,
            mapping=mapping,
            restarts=config.worker_restarts,
            threads=config.threads,
        )
        jobs = _jobs(config, source, seats, places.width, synced.components)
        shapes = [FrameShape.of(layout, len(each.seats), places.width) for each in jobs]
        before = None if state is None else state["collector"]
        if _apart(config):
            chance = generator.get_state().numpy()
            timeout = config.worker_timeout
            with CollectorProcess(
                jobs, shapes, config.num_splits, job, learner, chance, before, timeout=timeout
            ) as process:
                yield Session(synced, process)
            return
        with stepping(config, jobs, shapes) as vector:
            collector = job.build(vector, learner, generator)
            if before is None or not collector.load_state_dict(before):
                collector.reset()
            yield Session(synced, collector)


def _apart(config: TrainConfig) -> bool:
    """Whether the collector has a process of its own, so that it and training do not wait for one interpreter.

    What the user's script itself defines is to be had in this process alone.
    """
    in_processes = config.transport == "process" and config.engine == "processes"
    return config.asynchronous and in_processes and not config.policies.mapping.startswith("__main__:")


def _kinds(config: TrainConfig, layout: Layout, spec: PolicySpec, places: Places) -> Kinds:
    return Kinds(
        layout=layout,
        steps=config.ppo.rollout,
        memory=spec.state_size,
        others_memory=spec.actor_state_size,
        central=spec.central > 0,
        opponent=places.opponent,
        level=places.level,
        warm_up=config.decorrelate,
        envs=config.num_envs,
    )


def _jobs(
    config: TrainConfig,
    source: EnvSource,
    seats: Sequence[tuple[int, ...]],
    width: int,
    components: Any,
) -> list[Job]:
    each = config.envs_per_worker // config.num_splits
    prefixes = prefixes_of(config.argument_groups) if config.pbt.pbt_env_args else []
    groups = [range(start, start + each) for start in range(0, config.num_envs, each)]
    return [
        Job(
            source,
            tuple(seats[env] for env in group),
            width,
            components,
            tuned=tuple(prefixes[env % len(prefixes)] for env in group) if prefixes else None,
        )
        for group in groups
    ]


def probe(source: EnvSource) -> Layout:
    """The layout of an environment, which is made for it once.

    Raises:
        ConfigError: the environment cannot be used.
    """
    env = source.make()
    try:
        return Layout(env, source.path)
    finally:
        env.close()  # type: ignore[no-untyped-call]  # PettingZoo

"""Env-side cost of the sync wrapper: CPU per environment step, bare against wrapped.

The environment does nothing, so what is left is the link: local and process transport, with episode results only,
with steps (rewards and dones), and with observations of ten floats. The curriculum lives in this process, the
environment in a child; what is timed is the child's CPU. Medians over interleaved repetitions. Last, the same on
mpe2's simple_spread_v3, whose episodes have 25 steps.

    python benchmarks/sync_overhead.py [--smoke]
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np
from mpe2 import simple_spread_v3
from pettingzoo import ParallelEnv

import macurr
from macurr.curricula import DomainRandomization
from macurr.wrappers import PettingZooSyncWrapper

MODES = {
    "episodes": frozenset[str](),
    "steps": frozenset({"rewards", "dones"}),
    "steps+obs": frozenset({"rewards", "dones", "observations"}),
}
SPREAD = "simple_spread_v3"
TARGETS = {
    ("episodes", "2"): "<= 1 us",
    ("steps", "2"): "<= 3 us",
    ("steps+obs", "2"): "<= 6 us",
    ("episodes", SPREAD): "<= 1.01x",
    ("steps", SPREAD): "<= 1.02x",
    ("steps+obs", SPREAD): "<= 1.04x",
}


class NoOpEnv(ParallelEnv[str, Any, Any]):
    """Does as little as a Parallel environment can: fresh dicts, constant values, 200 steps an episode."""

    metadata = {"name": "no_op_v0"}  # noqa: RUF012  # PettingZoo's own form

    def __init__(self, agents: int) -> None:
        self.possible_agents = [f"agent_{i}" for i in range(agents)]
        self._observation = np.zeros(10, dtype=np.float32)
        self._box = gymnasium.spaces.Box(-1, 1, (10,))
        self._actions = gymnasium.spaces.Discrete(2)

    def observation_space(self, agent: str) -> gymnasium.Space[Any]:
        return self._box

    def action_space(self, agent: str) -> gymnasium.Space[Any]:
        return self._actions

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.agents = self.possible_agents[:]
        self._t = 0
        return dict.fromkeys(self.agents, self._observation), {agent: {} for agent in self.agents}

    def step(self, actions: dict[str, Any]) -> Any:
        agents = self.agents
        self._t += 1
        over = self._t >= 200
        if over:
            self.agents = []
        return (
            dict.fromkeys(agents, self._observation),
            dict.fromkeys(agents, 1.0),
            dict.fromkeys(agents, False),
            dict.fromkeys(agents, over),
            {agent: {} for agent in agents},
        )


class Reader(DomainRandomization):
    """Uniform tasks, and whichever step fields it is told to ask for."""

    def __init__(self, fields: frozenset[str]) -> None:
        super().__init__(macurr.DiscreteTaskSpace(1000), seed=0)
        self._fields = fields

    @property
    def requires_step_updates(self) -> bool:
        return bool(self._fields)

    @property
    def step_fields(self) -> frozenset[str]:
        return self._fields

    def update_on_step_batch(self, batch: macurr.StepBatch) -> None:
        """Read nothing: the curriculum's own cost is not the link's."""


def run(env: ParallelEnv[str, Any, Any], steps: int) -> float:
    """CPU microseconds per step of this thread."""
    actions = dict.fromkeys(env.possible_agents, 0)
    env.reset()
    begun = time.thread_time()
    for _ in range(steps):
        env.step(actions)
        if not env.agents:
            env.reset()
    return (time.thread_time() - begun) / steps * 1e6


def make_env(kind: str) -> ParallelEnv[str, Any, Any]:
    """An environment by name: "2" and "8" do nothing, with so many agents."""
    return NoOpEnv(int(kind)) if kind.isdigit() else simple_spread_v3.parallel_env()


def run_all(envs: Mapping[tuple[str, str], Any], steps: int) -> dict[tuple[str, str], float]:
    """CPU microseconds per step of each environment."""
    # simple_spread_v3 is some 200 times slower than nothing.
    return {key: run(env, steps if key[1].isdigit() else steps // 10) for key, env in envs.items()}


def wrapped(kinds: list[str], components: Mapping[tuple[str, str], Any]) -> dict[tuple[str, str], Any]:
    """Bare environments and wrapped ones, by mode and kind."""
    envs: dict[tuple[str, str], Any] = {("bare", kind): make_env(kind) for kind in kinds}
    envs |= {key: PettingZooSyncWrapper(make_env(key[1]), handle) for key, handle in components.items()}
    return envs


def child(pipe: Any, components: dict[tuple[str, str], Any], kinds: list[str], steps: int) -> None:
    envs = wrapped(kinds, components)
    while pipe.recv():
        pipe.send(run_all(envs, steps))
    for env in envs.values():
        env.close()


def measure_process(kinds: list[str], steps: int, repeats: int) -> dict[tuple[str, str], list[float]]:
    synced = {
        (mode, kind): macurr.make_multiprocessing_curriculum(Reader(fields))
        for mode, fields in MODES.items()
        for kind in kinds
    }
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    handles = {key: curriculum.components for key, curriculum in synced.items()}
    process = context.Process(target=child, args=(theirs, handles, kinds, steps))
    process.start()
    results = collect(repeats, lambda: (ours.send(True), ours.recv())[1])
    ours.send(False)
    process.join()
    for curriculum in synced.values():
        curriculum.close()
    return results


def measure_local(kinds: list[str], steps: int, repeats: int) -> dict[tuple[str, str], list[float]]:
    synced = {
        (mode, kind): macurr.make_local_curriculum(Reader(fields))
        for mode, fields in MODES.items()
        for kind in kinds
    }
    envs = wrapped(kinds, {key: curriculum.components for key, curriculum in synced.items()})
    return collect(repeats, lambda: run_all(envs, steps))


def collect(
    repeats: int, once: Callable[[], dict[tuple[str, str], float]]
) -> dict[tuple[str, str], list[float]]:
    once()  # warm up: connections, caches
    results: dict[tuple[str, str], list[float]] = {}
    for _ in range(repeats):
        for key, value in once().items():
            results.setdefault(key, []).append(value)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="a second's worth, to see that it runs")
    smoke = parser.parse_args().smoke
    kinds, steps, repeats = (["2", SPREAD], 400, 2) if smoke else (["2", "8", SPREAD], 20_000, 9)
    print("transport  agents            mode        CPU us/step   added us   x bare   target")
    for name, measure in (("local", measure_local), ("process", measure_process)):
        results = measure(kinds, steps, repeats)
        for kind in kinds:
            bare = statistics.median(results["bare", kind])
            print(f"{name:9}  {kind:16}  {'bare':10}  {bare:11.2f}")
            for mode in MODES:
                pairs = zip(results[mode, kind], results["bare", kind], strict=True)
                added = statistics.median(cost - alone for cost, alone in pairs)
                target = TARGETS.get((mode, kind), "") if name == "process" else ""
                print(
                    f"{name:9}  {kind:16}  {mode:10}  {bare + added:11.2f}  {added:9.2f}  {1 + added / bare:6.3f}x"
                    f"   {target}".rstrip()
                )


if __name__ == "__main__":
    main()

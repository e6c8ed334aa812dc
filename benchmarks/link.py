"""The link between environments and curriculum: throughput, reset waits, and what a training loop loses.

throughput  step updates per second applied from one worker (2 agents, rewards and dones), against a
            multiprocessing.Queue that carries one dict per step, in the same run
resets      how long a reset waits for its task: 16 environments in 2 processes, episodes of 4 ms
end to end  environments of 200 us per step feed PLR with their steps (the shared wrapper adapts it to
            both agents), against the same environments with no curriculum; and how long after an episode's
            end its update is applied

python benchmarks/link.py [--smoke]
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from pettingzoo import ParallelEnv

import macurr
from macurr.curricula import DomainRandomization, PrioritizedLevelReplay
from macurr.wrappers import MultiagentSharedCurriculumWrapper, PettingZooSyncWrapper

CONTEXT = multiprocessing.get_context("spawn")
AGENTS = ["agent_0", "agent_1"]
SPACE, ACTIONS = gymnasium.spaces.Box(-1, 1, (1,)), gymnasium.spaces.Discrete(2)


class TimedEnv(ParallelEnv[str, Any, Any]):
    """Two agents, episodes of a fixed length, and a fixed amount of CPU burnt at each step."""

    metadata = {"name": "timed_v0"}  # noqa: RUF012  # PettingZoo's own form

    def __init__(self, episode: int, step_seconds: float) -> None:
        self.possible_agents = AGENTS
        self._episode, self._seconds = episode, step_seconds
        self._seen = np.zeros(1, np.float32)

    def observation_space(self, agent: str) -> gymnasium.Space[Any]:
        return SPACE

    def action_space(self, agent: str) -> gymnasium.Space[Any]:
        return ACTIONS

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.agents, self._t = AGENTS[:], 0
        return dict.fromkeys(AGENTS, self._seen), {agent: {} for agent in AGENTS}

    def step(self, actions: dict[str, Any]) -> Any:
        if self._seconds:
            until = time.thread_time() + self._seconds
            while time.thread_time() < until:
                pass
        self._t += 1
        over = self._t >= self._episode
        if over:
            self.agents = []
        flags = dict.fromkeys(AGENTS, False)
        seen, rewards = dict.fromkeys(AGENTS, self._seen), {"agent_0": 1.0, "agent_1": -0.5}
        return seen, rewards, flags, dict.fromkeys(AGENTS, over), {agent: {} for agent in AGENTS}


class ReplayEnv(TimedEnv):
    """Hands out the same results again and again: what is left is what is done with them."""

    def __init__(self, episode: int) -> None:
        super().__init__(episode, 0.0)
        self.reset()
        self._steps = [TimedEnv.step(self, {}) for _ in range(episode)]

    def step(self, actions: dict[str, Any]) -> Any:
        result = self._steps[self._t]
        self._t += 1
        if self._t == self._episode:
            self.agents = []
        return result


class StepReader(DomainRandomization):
    """Uniform tasks; reads rewards and dones and counts them."""

    def __init__(self) -> None:
        super().__init__(macurr.DiscreteTaskSpace(1000), seed=0)

    @property
    def requires_step_updates(self) -> bool:
        return True

    def update_on_step_batch(self, batch: macurr.StepBatch) -> None:
        """Read nothing: the curriculum's own cost is not the link's."""


def play(components: Any, envs: int, episode: int, step_seconds: float, seconds: float, pipe: Any) -> None:
    """Step environments in turn; tell how many steps were made in how long."""
    made: list[Any] = [
        TimedEnv(episode, step_seconds) if step_seconds else ReplayEnv(episode) for _ in range(envs)
    ]
    if components is not None:
        made = [PettingZooSyncWrapper(env, components) for env in made]
    actions = dict.fromkeys(AGENTS, 0)
    for env in made:
        env.reset()
    pipe.send("ready")
    pipe.recv()
    steps, begun = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - begun) < seconds:
        for env in made:
            env.step(actions)
            if not env.agents:
                env.reset()
        steps += envs
    pipe.send((steps, elapsed))
    pipe.recv()
    for env in made:
        env.close()


def run_workers(workers: int, *args: Any) -> float:
    """Environment steps per second of all workers together."""
    pipes, processes = [], []
    for _ in range(workers):
        ours, theirs = CONTEXT.Pipe()
        process = CONTEXT.Process(target=play, args=(*args, theirs))
        process.start()
        pipes.append(ours)
        processes.append(process)
    answers = []
    for message in ("go", "done"):
        answers = [pipe.recv() for pipe in pipes]
        for pipe in pipes:
            pipe.send(message)
    for process in processes:
        process.join()
    return sum(steps / elapsed for steps, elapsed in answers)


def queue_worker(updates: Any, steps: int) -> None:
    env = ReplayEnv(100)
    env.reset()
    actions = dict.fromkeys(AGENTS, 0)
    for _ in range(steps):
        if not env.agents:
            env.reset()
        _, rewards, terminations, truncations, infos = env.step(actions)
        updates.put({"task": 3, "metrics": (rewards, terminations, truncations, infos), "env_id": 0})


def queue_rate(steps: int) -> float:
    """Updates per second through a multiprocessing.Queue of dicts and applied, from first to last."""
    updates, reader = CONTEXT.Queue(), StepReader()
    process = CONTEXT.Process(target=queue_worker, args=(updates, steps))
    process.start()
    updates.get()
    begun = time.perf_counter()
    for _ in range(steps - 1):
        update = updates.get()
        reader.update_on_step(update["task"], None, *update["metrics"], None, env_id=update["env_id"])
    rate = (steps - 1) / (time.perf_counter() - begun)
    process.join()
    return rate


def link_rate(seconds: float) -> float:
    """Step updates per second sent by one worker and applied."""
    with macurr.make_multiprocessing_curriculum(StepReader()) as curriculum:
        run_workers(1, curriculum.components, 1, 100, 0.0, 0.2)
        before, begun = curriculum.metrics()["sync/steps_applied"], time.perf_counter()
        rate = run_workers(1, curriculum.components, 1, 100, 0.0, seconds)
    applied = curriculum.metrics()["sync/steps_applied"] - before
    # The last updates are applied by close(): what was sent was applied, and not later than that.
    return min(rate, applied / seconds) if time.perf_counter() > begun else rate


def throughput(smoke: bool) -> None:
    repeats, seconds, steps = (1, 0.3, 2000) if smoke else (5, 1.5, 60_000)
    ours, theirs = [], []
    for _ in range(repeats):
        ours.append(link_rate(seconds))
        theirs.append(queue_rate(steps))
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    print(f"throughput: {statistics.median(ours):,.0f} step updates/s applied from one worker; ", end="")
    print(
        f"queue of dicts {statistics.median(theirs):,.0f}/s; ratio {ratio:.1f}x (target >= 150,000/s and 5x)"
    )


class WaitRecorder(DomainRandomization):
    """Uniform tasks; the link's own counters say how long resets waited."""

    def __init__(self) -> None:
        super().__init__(macurr.DiscreteTaskSpace(1000), seed=0)


def wait_worker(components: Any, seconds: float, results: Any) -> None:
    envs = [PettingZooSyncWrapper(TimedEnv(20, 0.0), components) for _ in range(8)]
    bare = [TimedEnv(20, 0.0) for _ in range(8)]
    actions = dict.fromkeys(AGENTS, 0)
    own: list[float] = []
    for env in envs:
        env.reset()
    for env in bare:
        env.reset()
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds:
        time.sleep(0.004)  # 20 steps of 0.2 ms that need no CPU here: the wait is the link's alone
        for env, alone in zip(envs, bare, strict=True):
            while env.agents:
                env.step(actions)
            start = time.perf_counter()
            alone.reset()
            middle = time.perf_counter()
            env.reset()
            own.append((time.perf_counter() - middle) - (middle - start))
    results.put(own)
    for env in envs:
        env.close()


def resets(smoke: bool) -> None:
    seconds = 0.5 if smoke else 5.0
    results = CONTEXT.Queue()
    with macurr.make_multiprocessing_curriculum(WaitRecorder()) as curriculum:
        processes = [
            CONTEXT.Process(target=wait_worker, args=(curriculum.components, seconds, results))
            for _ in range(2)
        ]
        for process in processes:
            process.start()
        waits = np.concatenate([results.get() for _ in processes]) * 1e6
        for process in processes:
            process.join()
    median, tail = np.percentile(waits, [50, 99])
    print(
        f"resets: {len(waits)} of 16 environments, buffer_size=1: whole extra reset time median {median:.0f} us, "
        f"p99 {tail:.0f} us (targets 100 and 2000)"
    )


def plr() -> macurr.Curriculum:
    """PLR that scores every step of both agents, with a critic that costs nothing."""
    critic = macurr.FunctionEvaluator(values=lambda observations: np.zeros(len(observations)))
    levels = PrioritizedLevelReplay(macurr.DiscreteTaskSpace(200), rho=0.0, evaluator=critic, seed=0)
    return MultiagentSharedCurriculumWrapper(levels, AGENTS)


def end_to_end(smoke: bool, make: Callable[[], macurr.Curriculum]) -> None:
    seconds, repeats = (0.5, 1) if smoke else (4.0, 3)
    for workers in (2,) if smoke else (2, 8):
        with_, without = [], []
        for _ in range(repeats):
            without.append(run_workers(workers, None, 1, 100, 2e-4, seconds))
            with macurr.make_multiprocessing_curriculum(make()) as curriculum:
                with_.append(run_workers(workers, curriculum.components, 1, 100, 2e-4, seconds))
        kept = statistics.median(a / b for a, b in zip(with_, without, strict=True))
        print(
            f"end to end: {workers} processes keep {kept:.3f} of {statistics.median(without):,.0f} steps/s",
            end="",
        )
        print(" (target >= 0.95)")


class Stamps(DomainRandomization):
    """Notes when each episode's update is applied; environments note its end in the reward."""

    def __init__(self) -> None:
        super().__init__(macurr.DiscreteTaskSpace(10), seed=0)
        self.applied: list[float] = []

    @property
    def requires_step_updates(self) -> bool:
        return True

    def update_on_step_batch(self, batch: macurr.StepBatch) -> None:
        """Rewards and dones arrive; nothing is made of them."""

    def update_on_episode(self, *args: Any, **kwargs: Any) -> None:
        self.applied.append(time.monotonic())


def ends_worker(components: Any, episodes: int, results: Any) -> None:
    env = PettingZooSyncWrapper(TimedEnv(20_000, 0.0), components)
    actions = dict.fromkeys(AGENTS, 0)
    for _ in range(episodes):
        env.reset()
        while env.agents:
            env.step(actions)
        results.put(time.monotonic())
    env.close()


def latency(smoke: bool) -> None:
    episodes = 2 if smoke else 20
    reader, results = Stamps(), CONTEXT.Queue()
    with macurr.make_multiprocessing_curriculum(reader) as curriculum:
        process = CONTEXT.Process(target=ends_worker, args=(curriculum.components, episodes, results))
        process.start()
        ends = [results.get(timeout=60) for _ in range(episodes)]
        process.join()
    late = [(applied - end) * 1e3 for applied, end in zip(reader.applied, ends, strict=True)]
    print(
        f"latency: episodes of 20,000 steps are applied {statistics.median(late):.2f} ms after their end ",
        end="",
    )
    print(f"(worst {max(late):.2f} ms; target 50 ms)")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="a few seconds' worth, to see that it runs")
    smoke = parser.parse_args().smoke
    throughput(smoke)
    resets(smoke)
    latency(smoke)
    end_to_end(smoke, plr)


if __name__ == "__main__":
    main()

"""One curriculum for a cluster: what the Ray transport costs an environment, and where its one actor is full.

env side    CPU per environment step above a link that throws everything away, of the thread that steps the
            environment and of the whole process with Ray's threads: at exchanges of 1024 steps (2 agents, rewards
            and dones), from an environment that works between two steps, from one that waits (for its policy, say),
            and at full speed. Beside it, the same with Ray's calls only, and what a bare call of Ray's costs that
            carries as many bytes at the same pace. Medians of runs that take turns
exchanges   1 to 64 simulated env processes (in 2 real ones, each process with a message of its own under way)
            write as fast as they are answered; the seconds per exchange are fitted by s + L / n: s is what the
            cluster's bottleneck takes for each, L what the rest of a round trip takes
actor       CPU of the actor for an exchange of S steps, fitted by a + b * S: with a core of its own it is full at
            1 / (a + b * S) exchanges per second
saturation  from that fit, environment steps per second of the whole cluster that one actor can follow

    python benchmarks/ray_scaling.py [--smoke] [--only env|rates]
"""

from __future__ import annotations

import argparse
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import ray
from pettingzoo import ParallelEnv

import macurr
from macurr.curricula import DomainRandomization
from macurr.transports import RayComponents
from macurr.wrappers import PettingZooSyncWrapper

AGENTS = ["agent_0", "agent_1"]
SPEC = macurr.EnvSpec(tuple(AGENTS), tuple(AGENTS))
STEPS = 1024
"""Steps in an exchange, where nothing else is said."""


class StepReader(DomainRandomization):
    """Uniform tasks; has steps sent, or episodes only, and makes nothing of them."""

    def __init__(self, steps: bool) -> None:
        super().__init__(macurr.DiscreteTaskSpace(1000), seed=0)
        self._steps = steps

    @property
    def requires_step_updates(self) -> bool:
        return self._steps

    def update_on_step_batch(self, batch: macurr.StepBatch) -> None:
        """Read nothing: the curriculum's own cost is not the link's."""


class ReplayEnv(ParallelEnv[str, Any, Any]):
    """Hands out the same results again and again: what is left is what is done with them."""

    metadata = {"name": "replay_v0"}  # noqa: RUF012  # PettingZoo's own form

    def __init__(self, episode: int) -> None:
        self.possible_agents = AGENTS
        self._episode, self._t = episode, 0
        seen = dict.fromkeys(AGENTS, np.zeros(1, np.float32))
        flags, infos = dict.fromkeys(AGENTS, False), {agent: {} for agent in AGENTS}  # type: ignore[var-annotated]
        self._start = seen, infos
        self._step = seen, {"agent_0": 1.0, "agent_1": -0.5}, flags, flags, infos
        self._last = (*self._step[:3], dict.fromkeys(AGENTS, True), infos)

    def observation_space(self, agent: str) -> gymnasium.Space[Any]:
        return gymnasium.spaces.Box(-1, 1, (1,))

    def action_space(self, agent: str) -> gymnasium.Space[Any]:
        return gymnasium.spaces.Discrete(2)

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.agents, self._t = AGENTS[:], 0
        return self._start

    def step(self, actions: dict[str, Any]) -> Any:
        self._t += 1
        if self._t < self._episode:
            return self._step
        self.agents = []
        return self._last


class Task(NamedTuple):
    """A task as links hand it out."""

    encoded: int
    decoded: int
    info: dict[str, float]


class NowhereLink:
    """A link that throws everything away."""

    env_id = 0
    step_fields = frozenset({"rewards", "dones"})

    def connect(self, spec: macurr.EnvSpec) -> NowhereLink:
        return self

    def connect_many(self, spec: macurr.EnvSpec, count: int) -> Sequence[NowhereLink]:
        return [self] * count

    def send(self, update: Any) -> None: ...

    def send_all(self, updates: Sequence[Any], want: int) -> None: ...

    def request(self, k: int, *, start: bool) -> None: ...

    def started(self, wait: float) -> None: ...

    def task(self) -> Any:
        """Always the same."""
        return Task(0, 0, {})

    def close(self) -> None: ...


class Receiver:
    """An actor that takes bytes."""

    def take(self, data: bytes) -> bytes:
        """Answer with a few."""
        return data[:100]


class BareCalls(NowhereLink):
    """For each update, a thread calls an actor with as many bytes and waits for its answer: no more than Ray itself."""

    def __init__(self, receiver: Sequence[Any]) -> None:
        self._receiver = receiver  # in a list: Ray looks into no argument's attributes for handles

    def connect(self, spec: macurr.EnvSpec) -> BareCalls:
        update = batch_of(STEPS, 0)
        arrays = (update.rewards, update.terminations, update.truncations, update.active)
        self._data = bytes(sum(array.nbytes for array in arrays if array is not None))
        self._turn, self._closing = threading.Event(), False
        self._thread = threading.Thread(target=self._call)
        self._thread.start()
        return self

    def _call(self) -> None:
        while self._turn.wait() and not self._closing:
            self._turn.clear()
            ray.get(self._receiver[0].take.remote(self._data))

    def send(self, update: Any) -> None:
        self._turn.set()

    def send_all(self, updates: Sequence[Any], want: int) -> None:
        self._turn.set()

    def close(self) -> None:
        self._closing = True
        self._turn.set()
        self._thread.join()


class Cost(NamedTuple):
    """CPU seconds for each step."""

    thread: float
    process: float


class EnvProcess:
    """An env process: steps an environment, or plays several that write without stepping anything."""

    def cpu_per_step(self, components: Any, exchanges: int, seconds: float, works: bool) -> Cost:
        """CPU time for each step; an exchange's worth of steps every `seconds`.

        Args:
            components: What the environment is connected to.
            exchanges: How many.
            seconds: How long each takes; 0 for no longer than it takes.
            works: Whether the environment's thread works in the meantime, or sleeps. That work is not counted.
        """
        env = PettingZooSyncWrapper(ReplayEnv(10 * STEPS), components, batch_size=STEPS)
        actions, worked = dict.fromkeys(AGENTS, 0), 0.0
        env.reset()
        begun, process, thread = time.perf_counter(), time.process_time(), time.thread_time()
        for step in range(exchanges * STEPS):
            env.step(actions)
            due = begun + seconds * (step + 1) / STEPS
            if works:
                worked += work_until(due)
            elif seconds and (step + 1) % STEPS == 0:
                time.sleep(max(0.0, due - time.perf_counter()))
            if not env.agents:
                env.reset()
        steps = exchanges * STEPS
        cost = Cost(time.thread_time() - thread - worked, time.process_time() - process - worked)
        env.close()
        return Cost(cost.thread / steps, cost.process / steps)

    def write(self, actor_name: str, writers: int, steps: int, seconds: float) -> int:
        """Exchanges that several simulated processes make, each as fast as it is answered."""
        counts = [0] * writers
        ready, threads = threading.Barrier(writers), []
        for i in range(writers):
            arguments = (actor_name, i, steps, seconds, ready, counts)
            threads.append(threading.Thread(target=self._write, args=arguments))
            threads[-1].start()
        for thread in threads:
            thread.join()
        return sum(counts)

    def _write(
        self, actor_name: str, i: int, steps: int, seconds: float, ready: threading.Barrier, counts: list[int]
    ) -> None:
        link = RayComponents(actor_name, worker=f"simulated {i}").connect(SPEC)
        batch = batch_of(steps, link.env_id)
        ready.wait()
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            if steps:
                link.send(batch)
            link.send(macurr.EpisodeAborted(0, link.env_id))
            link.request(1, start=True)  # is answered after the updates: one exchange for each turn
            link.task()
            counts[i] += 1
        link.close()


def work_until(due: float) -> float:
    """Be busy; the CPU seconds that took."""
    begun = time.thread_time()
    while time.perf_counter() < due:
        pass
    return time.thread_time() - begun


def batch_of(steps: int, env_id: int) -> macurr.StepBatch:
    """Rewards and dones of two agents."""
    flags = np.zeros((steps, 2), np.bool_)
    return macurr.StepBatch(
        task=0,
        env_id=env_id,
        agents=SPEC.possible_agents,
        rewards=np.ones((steps, 2), np.float32),
        terminations=flags,
        truncations=flags,
        active=~flags,
        observations={},
        final_observations={},
        infos=(),
        progress=None,
        starts_episode=True,
        ends_episode=False,
    )


def processes(count: int) -> list[Any]:
    """Processes of Ray's that step environments."""
    return [ray.remote(num_cpus=0)(EnvProcess).remote() for _ in range(count)]


def env_side(smoke: bool) -> None:
    """What the link costs an environment, beside what recording costs anyway."""
    exchanges, repeats = (4, 1) if smoke else (40, 5)
    (process,) = processes(1)
    receiver = ray.remote(num_cpus=0, enable_task_events=False)(Receiver).remote()
    reader = StepReader(steps=True)
    with (
        macurr.make_ray_curriculum(reader, "env-side") as curriculum,
        macurr.make_ray_curriculum(reader, "env-side-by-calls", direct=False) as by_calls,
    ):
        links = {
            "nothing": NowhereLink(),
            "link": curriculum.components,
            "by Ray's calls only": by_calls.components,
            "a bare call of Ray's": BareCalls([receiver]),
        }
        for what, seconds, works, times in (
            ("of 1024 steps, env at work", 0.06, True, 1),
            ("of 1024 steps, env waits", 0.06, False, 1),
            ("at full speed", 0.0, False, 10),
        ):
            costs = defaultdict(list)
            for _ in range(repeats):
                for name in links if seconds else ("nothing", "link", "by Ray's calls only"):
                    run = process.cpu_per_step.remote(links[name], exchanges * times, seconds, works)
                    costs[name].append(ray.get(run))
            tell_costs(what, {name: np.array(runs) * 1e6 for name, runs in costs.items()})
    for actor in (process, receiver):
        ray.kill(actor)


def tell_costs(what: str, costs: dict[str, Any]) -> None:
    """Print what each link costs above none, in microseconds; medians over the runs."""
    base = costs.pop("nothing")
    over = {name: np.median(runs - base, axis=0) for name, runs in costs.items()}
    thread, process = over.pop("link")
    beside = ", ".join(f"{name} {cost[1]:.2f} us ({process / cost[1]:.2f}x)" for name, cost in over.items())
    print(
        f"env side: exchanges {what}: {thread:.2f} us per step in the environment's thread, {process:.2f} us in the "
        f"whole process (target <= 1 us), beside {np.median(base[:, 0]):.2f} us for recording. Process with {beside}"
    )


def rates(smoke: bool) -> None:
    """Exchanges per second of 1 to 64 simulated processes, and what the actor's CPU says."""
    counts = (1, 4) if smoke else (1, 2, 4, 8, 16, 32, 64)
    seconds = 0.5 if smoke else 4.0
    workers = processes(2)
    taken = []
    for n in counts:
        rate, cpu = rate_of(workers, n, STEPS, seconds)
        taken.append(1.0 / rate)
        print(
            f"exchanges: {n:2d} processes: {rate:6.0f}/s of {STEPS} steps, {rate * taken[0]:5.2f}x that of one; "
            f"actor {cpu * 1e6:4.0f} us of CPU each"
        )
    slope, full = np.polyfit(1.0 / np.array(counts), taken, 1)
    misses = np.abs((full + slope / np.array(counts)) / np.array(taken) - 1.0)
    print(
        f"exchanges: fit {full * 1e6:.0f} us + {slope * 1e6:.0f} us / processes (off by {misses.max():.0%} at most)"
    )
    sizes = (0, 4096) if smoke else (0, 256, 1024, 2048, 4096)
    used = np.array([rate_of(workers, 8, size, seconds)[1] for size in sizes])
    per_step, per_exchange = np.polyfit(sizes, used, 1)
    print(f"actor: fit {per_exchange * 1e6:.0f} us + {per_step * 1e9:.0f} ns x steps of CPU per exchange")
    saturation(per_exchange, per_step)
    for worker in workers:
        ray.kill(worker)


def rate_of(workers: Sequence[Any], n: int, steps: int, seconds: float) -> tuple[float, float]:
    """Exchanges per second of n simulated processes, and the actor's CPU seconds for each."""
    name = f"exchanges-{n}-{steps}"
    with macurr.make_ray_curriculum(StepReader(steps=steps > 0), name) as curriculum:
        shares = [n // len(workers) + (i < n % len(workers)) for i in range(len(workers))]
        before = curriculum.health()["cpu_seconds"]
        done = [
            worker.write.remote(name, share, steps, seconds)
            for worker, share in zip(workers, shares, strict=True)
            if share
        ]
        made = sum(ray.get(done))
        used = curriculum.health()["cpu_seconds"] - before
    return made / seconds, used / made


def saturation(per_exchange: float, per_step: float) -> None:
    """What one actor with a core of its own can follow."""
    for what, steps in (("exchanges of 1024 steps", 1024), ("full exchanges", 4096)):
        exchanges = 1.0 / (per_exchange + per_step * steps)
        print(
            f"saturation: {what}: {exchanges:,.0f} exchanges/s, {exchanges * steps:,.0f} environment steps/s"
        )
    exchanges = 1.0 / per_exchange
    print(
        f"saturation: episodes only: {exchanges:,.0f} exchanges/s, which is {exchanges / 20:,.0f} env processes that "
        "write every 50 ms, however many steps they make"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="a few seconds' worth, to see that it runs")
    parser.add_argument("--only", choices=("env", "rates"), help="one of the two parts")
    arguments = parser.parse_args()
    ray.init("local", num_cpus=2, log_to_driver=False, include_dashboard=False)
    try:
        if arguments.only != "rates":
            env_side(arguments.smoke)
        if arguments.only != "env":
            rates(arguments.smoke)
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main()

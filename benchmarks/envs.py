"""The bundled environments: env steps per second of one process with random actions, resets included.

    python benchmarks/envs.py [--smoke]

Actions are drawn beforehand, so that their cost is not counted. The best of three rounds is what the code can do; the
worst says how busy the machine was.
"""

from __future__ import annotations

import argparse
import time
from types import ModuleType

import numpy as np

from macurr.envs import apple_race_v0, laser_tag_v0

GOALS = {apple_race_v0: 30_000, laser_tag_v0: 15_000}


def step_rate(module: ModuleType, steps: int, seed: int) -> tuple[float, float]:
    """Env steps per second, and cycles per episode."""
    env = module.parallel_env()
    moves = np.random.default_rng(seed).integers(5, size=(steps, 2)).tolist()
    episodes = 1
    start = time.perf_counter()
    env.reset(seed=seed)
    for first, second in moves:
        env.step({"player_0": first, "player_1": second})
        if not env.agents:
            env.reset()
            episodes += 1
    return steps / (time.perf_counter() - start), steps / episodes


def reset_seconds(module: ModuleType, resets: int) -> float:
    """Seconds per reset with a seed."""
    env = module.parallel_env()
    start = time.perf_counter()
    for seed in range(resets):
        env.reset(seed=seed)
    return (time.perf_counter() - start) / resets


def render_seconds(module: ModuleType, frames: int) -> float:
    """Seconds per picture, shapes already drawn once."""
    env = module.parallel_env(render_mode="rgb_array")
    env.reset(seed=0)
    env.render()
    start = time.perf_counter()
    for _ in range(frames):
        env.render()
    return (time.perf_counter() - start) / frames


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="a fraction of a second, for the tests")
    steps = 2_000 if parser.parse_args().smoke else 100_000
    print(
        f"{'environment':<16}{'steps/s':>10}{'worst':>10}{'goal':>9}{'cycles':>9}{'reset':>10}{'render':>10}"
    )
    for module, goal in GOALS.items():
        rounds = [step_rate(module, steps, seed) for seed in range(3)]
        rates = [rate for rate, _ in rounds]
        cycles = sum(length for _, length in rounds) / len(rounds)
        reset, render = reset_seconds(module, steps // 50), render_seconds(module, steps // 1000)
        print(
            f"{module.__name__.rpartition('.')[2]:<16}{max(rates):>10,.0f}{min(rates):>10,.0f}{goal:>9,}"
            f"{cycles:>9.1f}{reset * 1e6:>7.0f} µs{render * 1e3:>7.1f} ms"
        )


if __name__ == "__main__":
    main()

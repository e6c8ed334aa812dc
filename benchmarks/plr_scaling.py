"""What PrioritizedLevelReplay costs as the number of tasks grows.

Prints microseconds per drawn task and per score update, and bytes per task, from a thousand to a million tasks, and
how that compares in the same run with what recomputes everything: `numpy.random.Generator.choice` with
probabilities for a draw, `argsort` for the ranks after an update.

    python benchmarks/plr_scaling.py
    python benchmarks/plr_scaling.py --sizes 1000 100000 --repeats 5
"""

from __future__ import annotations

import argparse
import gc
import time
import tracemalloc
from collections.abc import Callable

import numpy as np

from macurr import DiscreteTaskSpace
from macurr.curricula import PrioritizedLevelReplay

OPTIONS = {
    "rank, temperature 0.1": {"score_transform": "rank", "temperature": 0.1},
    "rank, temperature 1": {"score_transform": "rank", "temperature": 1.0},
    "power, temperature 1": {"score_transform": "power", "temperature": 1.0},
    "softmax, temperature 0.1": {"score_transform": "softmax", "temperature": 0.1},
    "rank, staleness temperature 0.1": {"staleness_temperature": 0.1},
}


def median_us(action: Callable[[int], object], calls: int, repeats: int) -> float:
    """The median over `repeats` of the mean time of one of `calls` calls, in microseconds."""
    means = []
    for repeat in range(repeats):
        start = time.perf_counter()
        for call in range(calls):
            action(repeat * calls + call)
        means.append((time.perf_counter() - start) / calls * 1e6)
    return float(np.median(means))


def filled(n: int, options: dict[str, object]) -> PrioritizedLevelReplay:
    """A curriculum whose n levels have all been scored, and drawn often enough for their ages to differ."""
    curriculum = PrioritizedLevelReplay(DiscreteTaskSpace(n), rho=0.0, seed=0, **options)
    curriculum.update_scores(np.arange(n), np.random.default_rng(0).random(n))
    curriculum.sample(2000)
    return curriculum


def bytes_per_task(n: int, options: dict[str, object]) -> float:
    """Memory that the curriculum keeps for each task once all have been scored, drawn and scored again."""
    gc.collect()
    tracemalloc.start()
    curriculum = filled(n, options)
    for task in np.random.default_rng(1).integers(n, size=2000).tolist():
        curriculum.update_scores([task], [0.5])
    gc.collect()
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del curriculum
    return kept / n


def recomputed(n: int, repeats: int) -> tuple[float, float]:
    """Microseconds of a draw with `choice(p=...)` and of an update that sorts all scores."""
    rng = np.random.default_rng(0)
    scores, probabilities = rng.random(n), rng.dirichlet(np.ones(n))
    calls = max(1, 20_000 // n)
    draw = median_us(lambda _: rng.choice(n, p=probabilities), calls, repeats)

    def update(call: int) -> None:
        scores[call % n] = 0.5
        np.argsort(-scores, kind="stable")

    return draw, median_us(update, calls, repeats)


def measure(n: int, options: dict[str, object], calls: int, repeats: int) -> tuple[float, float]:
    """Microseconds of a draw and of a score update."""
    curriculum = filled(n, options)
    rng = np.random.default_rng(2)
    tasks, scores = rng.integers(n, size=calls * repeats).tolist(), rng.random(calls * repeats).tolist()
    draw = median_us(lambda _: curriculum.sample(), calls, repeats)
    update = median_us(lambda i: curriculum.update_scores([tasks[i]], [scores[i]]), calls, repeats)
    return draw, update


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[10**3, 10**4, 10**5, 10**6], help="numbers of tasks"
    )
    parser.add_argument("--calls", type=int, default=2000, help="calls per measurement")
    parser.add_argument("--repeats", type=int, default=5, help="measurements, of which the median is printed")
    parser.add_argument("--smoke", action="store_true", help="a few seconds: see that it runs")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.sizes, arguments.calls, arguments.repeats = [1000, 3000], 50, 1

    print(
        f"{'options':32} {'tasks':>8} {'draw us':>8} {'update us':>9} {'x choice':>9} {'x argsort':>9} {'B/task':>7}"
    )
    baselines = {n: recomputed(n, arguments.repeats) for n in arguments.sizes}
    for name, options in OPTIONS.items():
        costs = {}
        for n in arguments.sizes:
            draw, update = costs[n] = measure(n, options, arguments.calls, arguments.repeats)
            choice, argsort = baselines[n]
            print(
                f"{name:32} {n:8d} {draw:8.1f} {update:9.1f} {choice / draw:9.1f} {argsort / update:9.1f} "
                f"{bytes_per_task(n, options):7.1f}"
            )
        smallest, largest = min(costs), max(costs)
        growth = [late / early for early, late in zip(costs[smallest], costs[largest], strict=True)]
        print(f"{'':32} {smallest} -> {largest} tasks: draw x{growth[0]:.1f}, update x{growth[1]:.1f}\n")


if __name__ == "__main__":
    main()

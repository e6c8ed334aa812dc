"""What the curricula over finite task spaces cost as the number of tasks grows.

Prints microseconds per drawn task and per update, and bytes per task, from a hundred to a million tasks, and how that
compares in the same run with what recomputes everything: `numpy.random.Generator.choice` with probabilities for a
draw, `argsort` for an update. `plr_scaling.py` looks at more of level replay's options.

    python benchmarks/curricula_scaling.py
    python benchmarks/curricula_scaling.py --sizes 1000 100000 --repeats 3
"""

from __future__ import annotations

import argparse
import gc
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np

from macurr import Curriculum, DiscreteTaskSpace
from macurr.curricula import Learnability, LearningProgress, PrioritizedLevelReplay

Make = Callable[[DiscreteTaskSpace], Curriculum]
Update = Callable[[Any, int, float], None]


def score(curriculum: PrioritizedLevelReplay, task: int, value: float) -> None:
    """One score of a level."""
    curriculum.update_scores([task], [value])


def episode(curriculum: Curriculum, task: int, value: float) -> None:
    """One episode, solved or not."""
    curriculum.update_on_episode(float(value > 0.5), 10, task, 0.0)


SUBJECTS: dict[str, tuple[Make, Update]] = {
    "PLR rank, with staleness": (lambda s: PrioritizedLevelReplay(s, rho=0.0, seed=0), score),
    "PLR power, with staleness": (
        lambda s: PrioritizedLevelReplay(s, rho=0.0, score_transform="power", temperature=1.0, seed=0),
        score,
    ),
    "learning progress": (lambda s: LearningProgress(s, seed=0), episode),
    "learnability, top 100": (lambda s: Learnability(s, sampling="top_k", k=100, seed=0), episode),
    "learnability, proportional": (lambda s: Learnability(s, sampling="proportional", seed=0), episode),
}


def filled(n: int, make: Make) -> Curriculum:
    """A curriculum that has heard of every one of its n tasks."""
    curriculum, rng = make(DiscreteTaskSpace(n)), np.random.default_rng(0)
    if isinstance(curriculum, PrioritizedLevelReplay):
        curriculum.update_scores(np.arange(n), rng.random(n))
    else:
        curriculum.update_on_demand({"task_success": rng.integers(0, 11, n) / 10})
    curriculum.sample(2000)
    return curriculum


def median_us(action: Callable[[int], object], calls: int, repeats: int) -> float:
    """The median over `repeats` of the mean time of one of `calls` calls, in microseconds."""
    means = []
    for repeat in range(repeats):
        begun = time.perf_counter()
        for call in range(calls):
            action(repeat * calls + call)
        means.append((time.perf_counter() - begun) / calls * 1e6)
    return float(np.median(means))


def costs(n: int, make: Make, update: Update, calls: int, repeats: int) -> tuple[float, float]:
    """Microseconds of a draw and of an update."""
    curriculum, rng = filled(n, make), np.random.default_rng(1)
    tasks, values = rng.integers(n, size=calls * repeats).tolist(), rng.random(calls * repeats).tolist()
    draw = median_us(lambda _: curriculum.sample(), calls, repeats)
    return draw, median_us(lambda i: update(curriculum, tasks[i], values[i]), calls, repeats)


def bytes_per_task(n: int, make: Make, update: Update) -> float:
    """Memory that the curriculum keeps for each task."""
    gc.collect()
    tracemalloc.start()
    curriculum = filled(n, make)
    for task in np.random.default_rng(2).integers(n, size=2000).tolist():
        update(curriculum, task, 0.7)
    gc.collect()
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return kept / n


def recomputed(n: int, repeats: int) -> tuple[float, float]:
    """Microseconds of a draw with `choice(p=...)` and of an update that sorts all scores."""
    rng = np.random.default_rng(0)
    values, probabilities = rng.random(n), rng.dirichlet(np.ones(n))
    calls = max(1, 20_000 // n)
    draw = median_us(lambda _: rng.choice(n, p=probabilities), calls, repeats)
    return draw, median_us(lambda _: np.argsort(-values, kind="stable"), calls, repeats)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    sizes = [10**2, 10**3, 10**4, 10**5, 10**6]
    parser.add_argument("--sizes", type=int, nargs="+", default=sizes, help="numbers of tasks")
    parser.add_argument("--calls", type=int, default=2000, help="calls per measurement")
    parser.add_argument("--repeats", type=int, default=5, help="measurements, of which the median is printed")
    parser.add_argument("--smoke", action="store_true", help="a few seconds: see that it runs")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.sizes, arguments.calls, arguments.repeats = [100, 3000], 50, 1
    print(f"{'curriculum':28} {'tasks':>8} {'draw us':>8} {'update us':>9}  x choice x argsort  B/task")
    baselines = {n: recomputed(n, arguments.repeats) for n in arguments.sizes}
    for name, (make, update) in SUBJECTS.items():
        found = {}
        for n in arguments.sizes:
            draw, change = found[n] = costs(n, make, update, arguments.calls, arguments.repeats)
            choice, argsort = baselines[n]
            size = bytes_per_task(n, make, update)
            print(
                f"{name:28} {n:8d} {draw:8.1f} {change:9.1f} {choice / draw:9.1f} {argsort / change:9.1f} "
                f"{size:7.1f}"
            )
        first, last = found[arguments.sizes[min(1, len(arguments.sizes) - 1)]], found[arguments.sizes[-1]]
        growth = ", ".join(f"x{late / early:.1f}" for early, late in zip(first, last, strict=True))
        print(f"{'':28} from the second size to the last: draw and update {growth}\n")


if __name__ == "__main__":
    main()

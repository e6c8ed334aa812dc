"""How soon a learner masters a chain of dependent levels under each curriculum, in episodes and in steps.

Level n of the chain asks for n + 1 skills in a row, skill s being the one right action of six in state s; a wrong
action ends the episode with return 0, the last right one with return 1. States are shared by the levels, so level
n + 1 is hopeless before level n is good. The learner is tabular REINFORCE with a value for every level and state,
so true success is a product of probabilities: nothing about it is estimated.

For each curriculum and seed: episodes and steps until mean true success over the levels reaches 0.9, evaluations
included. "oracle" draws in proportion to the true p(1 - p), which nobody knows: it shows the head-room.

    python benchmarks/curricula_chain.py [--seeds 8] [--workers 2] [--only NAME ...] [--out FOLDER] [--smoke]
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt

from macurr import BoxTaskSpace, Curriculum, DiscreteTaskSpace
from macurr.curricula import (
    ACCEL,
    RIAC,
    AbsoluteLearningProgressGMM,
    AutomaticDomainRandomization,
    BatchedDomainRandomization,
    CovarGMM,
    DomainRandomization,
    ExpandingBox,
    Learnability,
    LearningProgress,
    Manual,
    PrioritizedLevelReplay,
    RobustPLR,
    SelfPaced,
    Sequential,
)

ACTIONS = 6
GOAL = 0.9
EVERY = 250  # episodes between looks at the true success


class Learner:
    """Tabular REINFORCE on the chain, in plain Python: six numbers are too few for NumPy."""

    def __init__(self, levels: int, seed: int, rate: float = 0.5, value_rate: float = 0.1) -> None:
        self.levels, self.rate, self.value_rate = levels, rate, value_rate
        self._random = random.Random(seed)
        self._right = [self._random.randrange(ACTIONS) for _ in range(levels)]
        self._logits = [[0.0] * ACTIONS for _ in range(levels)]
        self._policy = [[1 / ACTIONS] * ACTIONS for _ in range(levels)]
        self._values = [[0.0] * (n + 1) for n in range(levels)]

    def success(self) -> np.ndarray:
        """The true success on every level."""
        return np.cumprod([self._policy[s][self._right[s]] for s in range(self.levels)])

    def play(self, level: int, learn: bool = True) -> tuple[float, list[float]]:
        """One episode: its return, and return - value at each of its steps."""
        actions: list[int] = []
        for state in range(level + 1):
            (action,) = self._random.choices(range(ACTIONS), self._policy[state])
            actions.append(action)
            if action != self._right[state]:
                break
        won = float(len(actions) == level + 1 and actions[-1] == self._right[level])
        values = self._values[level]
        advantages = [won - values[state] for state in range(len(actions))]
        if learn:
            for state, (action, advantage) in enumerate(zip(actions, advantages, strict=True)):
                values[state] += self.value_rate * advantage
                self._reinforce(state, action, advantage)
        return won, advantages

    def _reinforce(self, state: int, action: int, advantage: float) -> None:
        logits, policy = self._logits[state], self._policy[state]
        for other in range(ACTIONS):
            logits[other] += self.rate * advantage * ((other == action) - policy[other])
        highest = max(logits)
        weights = [math.exp(logit - highest) for logit in logits]
        total = sum(weights)
        self._policy[state] = [weight / total for weight in weights]


@dataclass
class Run:
    """What one run has cost so far, and how success grew with it."""

    episodes: int = 0
    steps: int = 0
    curve: list[tuple[int, int, float]] = field(default_factory=list)
    reached: bool = False


class Method:
    """A curriculum on the chain, and how it is fed."""

    def __init__(self, curriculum: Curriculum, levels: int) -> None:
        self.curriculum, self.levels = curriculum, levels
        self.box = isinstance(curriculum.task_space, BoxTaskSpace)
        self.best = [0.0] * levels

    def before(self, learner: Learner, run: Run) -> None:
        """Whatever is done before an episode."""

    def episode(self, learner: Learner, run: Run) -> None:
        task = self.curriculum.sample()[0]
        level = min(self.levels - 1, int(float(task[0]) * self.levels)) if self.box else int(task)
        # Robust PLR and ACCEL play new levels to score them, and learn nothing from them.
        learn = bool(self.curriculum.task_info(task).get("train_on_task", 1))
        won, advantages = learner.play(level, learn=learn)
        run.episodes += 1
        run.steps += len(advantages)
        self.best[level] = max(self.best[level], won)
        self.feed(task, won, advantages, level)

    def feed(self, task: object, won: float, advantages: list[float], level: int) -> None:
        self.curriculum.update_on_episode(won, len(advantages), task, won)


class Oracle(Method):
    """Manual weights from the truth, every 25 episodes."""

    def before(self, learner: Learner, run: Run) -> None:
        if run.episodes % 25 == 0:
            p = learner.success()
            self.curriculum.update_on_demand({"tasks": range(self.levels), "weights": p * (1 - p) + 1e-12})


class Rollouts(Method):
    """Learnability as in its paper: every 10 episodes per level, 5 of each without learning. They count."""

    def before(self, learner: Learner, run: Run) -> None:
        if run.episodes % (15 * self.levels) == 0:
            rates = []
            for level in range(self.levels):
                played = [learner.play(level, learn=False) for _ in range(5)]
                rates.append(sum(won for won, _ in played) / 5)
                run.episodes += 5
                run.steps += sum(len(steps) for _, steps in played)
            self.curriculum.update_on_demand({"task_success": rates, "episodes": 5})


class ValueL1(Method):
    """PLR, scored by the learner's mean absolute advantage."""

    def feed(self, task: object, won: float, advantages: list[float], level: int) -> None:
        self.score(level, sum(map(abs, advantages)) / len(advantages))

    def score(self, level: int, score: float) -> None:
        self.curriculum.update_on_demand({"tasks": [level], "scores": [score]})


class PositiveValueLoss(ValueL1):
    """PLR, scored by the mean positive advantage."""

    def feed(self, task: object, won: float, advantages: list[float], level: int) -> None:
        self.score(level, sum(max(0.0, a) for a in advantages) / len(advantages))


class MaxMC(ValueL1):
    """PLR, scored by the mean of best return ever less value."""

    def feed(self, task: object, won: float, advantages: list[float], level: int) -> None:
        # return - value is known: best - value = best - return + (return - value)
        self.score(level, self.best[level] - won + sum(advantages) / len(advantages))


def stages(levels: int) -> tuple[list[list[int]], list[str]]:
    """A hand-made curriculum: ten blocks of levels, each until it is nearly mastered, then all of them."""
    size = max(1, levels // 10)
    blocks = [list(range(first, min(first + size, levels))) for first in range(0, levels, size)]
    return [*blocks, list(range(levels))], ["episode_return>=0.9 & episodes>=50"] * len(blocks)


def plr(levels: int, seed: int, kind: type[Method] = ValueL1, **options: object) -> Method:
    settings = {"rho": 0.0, "staleness_coef": 0.1, **options}
    return kind(PrioritizedLevelReplay(DiscreteTaskSpace(levels), seed=seed, **settings), levels)  # type: ignore[arg-type]


def robust(levels: int, seed: int) -> Method:
    return ValueL1(RobustPLR(DiscreteTaskSpace(levels), rho=0.0, temperature=1.0, seed=seed), levels)


def accel(levels: int, seed: int) -> Method:
    """Edits go to a neighbouring level."""

    def mutate(level: int, rng: np.random.Generator) -> int:
        return int(np.clip(level + rng.choice([-1, 1]), 0, levels - 1))

    space = DiscreteTaskSpace(levels)
    curriculum = ACCEL(
        space, mutate, buffer_size=levels, num_edits=1, edit_prob=0.5, temperature=1.0, seed=seed
    )
    return ValueL1(curriculum, levels)


def over(
    curriculum: Callable[..., Curriculum], box: bool = False, kind: type[Method] = Method, **options: object
) -> Callable[[int, int], Method]:
    """A method that makes a curriculum over the levels, or over the box from 0 to 1 that they divide."""

    def make(levels: int, seed: int) -> Method:
        space = BoxTaskSpace([0.0], [1.0]) if box else DiscreteTaskSpace(levels)
        return kind(curriculum(space, seed=seed, **options), levels)

    return make


METHODS: dict[str, Callable[[int, int], Method]] = {
    "uniform": over(DomainRandomization),
    "oracle p(1-p)": lambda n, seed: Oracle(Manual(DiscreteTaskSpace(n), range(n), seed=seed), n),
    "batched uniform": over(BatchedDomainRandomization, batch_size=100),
    "stages by hand": lambda n, seed: Method(
        Sequential(DiscreteTaskSpace(n), *stages(n), window=50, seed=seed), n
    ),
    "LP": over(LearningProgress),
    "LP, explore .1": over(LearningProgress, exploration=0.1),
    "LP, 10 episodes per update": over(LearningProgress, episodes_per_update=10),
    "LP, no exploration": over(LearningProgress, exploration=0.0),
    "learnability top 10": over(Learnability, k=10),
    "learnability top 10, explore .1": over(Learnability, k=10, exploration=0.1),
    "learnability proportional": over(Learnability, sampling="proportional"),
    "learnability prop., explore .1": over(Learnability, sampling="proportional", exploration=0.1),
    "SFL rollouts, top 10": over(Learnability, kind=Rollouts, k=10, online=False),
    "PLR value_l1, beta 1": lambda n, seed: plr(n, seed, temperature=1.0),
    "PLR value_l1, beta .3": lambda n, seed: plr(n, seed, temperature=0.3),
    "PLR value_l1, beta .1": lambda n, seed: plr(n, seed, temperature=0.1),
    "PLR value_l1, beta 1, alpha .2": lambda n, seed: plr(n, seed, temperature=1.0, alpha=0.2),
    "PLR positive loss, beta 1": lambda n, seed: plr(n, seed, PositiveValueLoss, temperature=1.0),
    "PLR MaxMC, beta 1": lambda n, seed: plr(n, seed, MaxMC, temperature=1.0),
    "robust PLR value_l1, beta 1": robust,
    "ACCEL value_l1, beta 1": accel,
    "ALP-GMM": over(AbsoluteLearningProgressGMM, box=True),
    "Covar-GMM": over(CovarGMM, box=True),
    "RIAC": over(RIAC, box=True),
    "ADR": over(AutomaticDomainRandomization, box=True, start=[0.0], step=0.05),
    "self-paced": over(SelfPaced, box=True, start=[0.0], performance=0.5),
    "expanding box, 30k episodes": over(
        ExpandingBox, box=True, start=([0.0], [0.0]), total=30_000, by="episodes"
    ),
}


def run(name: str, seed: int, levels: int, most: int) -> Run:
    """One run, to the goal or to `most` episodes."""
    learner, method, result = Learner(levels, seed), METHODS[name](levels, seed), Run()
    looked = -EVERY
    while result.episodes < most and not result.reached:
        if result.episodes - looked >= EVERY:
            looked = result.episodes
            success = float(learner.success().mean())
            result.curve.append((result.episodes, result.steps, success))
            result.reached = success >= GOAL
        method.before(learner, result)
        method.episode(learner, result)
    return result


def interval(values: Sequence[float], rng: np.random.Generator) -> tuple[float, float, float]:
    """The median, and a 95 % bootstrap interval of it."""
    data = np.array(values, float)
    medians = np.median(rng.choice(data, (2000, len(data))), axis=1)
    return float(np.median(data)), *map(float, np.quantile(medians, [0.025, 0.975]))


def cost(item: tuple[str, list[Run]]) -> tuple[float, float]:
    """What tables are sorted by: runs that did not get there, then median steps."""
    return float(np.mean([not r.reached for r in item[1]])), float(np.median([r.steps for r in item[1]]))


def table(results: dict[str, list[Run]]) -> str:
    rng = np.random.default_rng(0)
    lines = [
        "| curriculum | reached | episodes to 0.9 | env steps to 0.9 | final success |",
        "|---|---|---|---|---|",
    ]
    for name, runs in sorted(results.items(), key=cost):
        reached = sum(r.reached for r in runs)
        mark = "" if reached == len(runs) else ">= "
        cells = []
        for numbers in ([r.episodes for r in runs], [r.steps for r in runs]):
            middle, low, high = interval(numbers, rng)
            cells.append(f"{mark}{middle:,.0f} [{low:,.0f}, {high:,.0f}]")
        final = np.median([r.curve[-1][2] for r in runs])
        lines.append(f"| {name} | {reached}/{len(runs)} | {cells[0]} | {cells[1]} | {final:.2f} |")
    return "\n".join(lines)


def plot(results: dict[str, list[Run]], path: Path) -> None:
    """Median success and its quartiles over the seeds, against episodes and against steps."""
    figure, axes = plt.subplots(1, 2, figsize=(13, 6), sharey=True)
    colours = plt.get_cmap("tab20")(np.linspace(0, 1, 20))
    for i, (name, runs) in enumerate(results.items()):
        style = {"color": colours[i % 20], "linestyle": ("-", "--")[i // 20]}
        for axis, column in zip(axes, (0, 1), strict=True):
            end = max(r.curve[-1][column] for r in runs)
            grid = np.linspace(0, end, 200)
            curves = [np.interp(grid, [c[column] for c in r.curve], [c[2] for c in r.curve]) for r in runs]
            axis.plot(grid, np.median(curves, axis=0), label=name, **style)
            axis.fill_between(
                grid, *np.quantile(curves, [0.25, 0.75], axis=0), alpha=0.1, color=style["color"]
            )
    for axis, label in zip(axes, ("episodes", "environment steps"), strict=True):
        axis.axhline(GOAL, color="black", linewidth=0.5)
        axis.set_xlabel(label)
        axis.set_xscale("symlog", linthresh=10_000 if label == "episodes" else 50_000)
    axes[0].set_ylabel("mean true success over the levels")
    axes[1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--levels", type=int, default=60)
    parser.add_argument("--most", type=int, default=100_000, help="episodes after which a run is given up")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=list(METHODS), help="names of curricula")
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--smoke", action="store_true", help="a short chain and few episodes")
    args = parser.parse_args()
    if args.smoke:
        args.seeds, args.levels, args.most = 1, 10, 600
    jobs = [(name, seed, args.levels, args.most) for name in args.only for seed in range(args.seeds)]
    if args.workers > 1:
        with ProcessPoolExecutor(args.workers) as pool:
            runs = list(pool.map(run, *zip(*jobs, strict=True)))
    else:
        runs = [run(*job) for job in jobs]
    results: dict[str, list[Run]] = {name: [] for name in args.only}
    for (name, *_), result in zip(jobs, runs, strict=True):
        results[name].append(result)
    print(
        f"{args.levels} levels, {ACTIONS} actions, {args.seeds} seeds; medians with 95 % bootstrap intervals\n"
    )
    print(table(results))
    path = args.out / "curricula_chain.png"
    plot(results, path)
    print(f"\nplot: {path}")


if __name__ == "__main__":
    main()

"""Does a curriculum of levels and opponents help? Level replay, past selves and joint sampling against plain self-play.

Every method trains the reference trainer's policy for the same number of environment steps and is then judged on
held-out levels, from both seats, by opponents that none of them has met: the scripted player, and a panel of policies
of a method that is not compared (uniform levels, uniform past selves, other seeds, twice the steps). What is measured
and how it is judged was fixed before: docs/studies/plr_selfplay.md.

A run is one line of results.jsonl in the output folder. Finished runs are skipped, so a study that was interrupted
goes on where it was.

    python benchmarks/study_plr_selfplay.py [--out FOLDER] [--env NAME ...] [--seeds 5] [--steps 200000] [--workers 2]
                                            [--report] [--smoke]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from pettingzoo.utils.wrappers.base_parallel import BaseParallelWrapper
from scipy import stats

mpl.use("Agg")
from matplotlib import pyplot as plt

from macurr.envs import apple_race_v0, bfs_policy, laser_tag_v0
from macurr.opponents import AgentPool
from macurr.training import CurriculumConfig, EvaluationConfig, ModelConfig, TrainConfig, train

LEVELS = 2000
HELD_OUT = 1_000_000  # the first seed of the held-out levels
PANEL_SEEDS = (1000, 1001, 1002)
WORST = 0.1  # the share of levels in CVaR
BASE = "DR, self"
SCRIPTED = "scripted"


class DegenerateRace(BaseParallelWrapper):
    """The apple race with 17 of 20 levels spoiled: neither player can reach an apple, so that all rewards are 0."""

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        if seed is None or seed % 20 >= 17:
            return self.env.reset(seed=seed, options=options)
        walls = {"reachable": False, "density": 0.6, "apples": 3, "size": (11, 13)}
        while True:
            first = self.env.reset(seed=seed, options=walls)
            # It stays where there is no way to an apple.
            if not any(bfs_policy(self.env, agent) for agent in self.env.agents):
                return first
            seed += LEVELS


def degenerate_race() -> DegenerateRace:
    """The environment as the trainer imports it."""
    return DegenerateRace(apple_race_v0.parallel_env())


@dataclass(frozen=True)
class Game:
    """What is trained on, and what is judged on."""

    path: str
    make: Any
    title: str


GAMES = {
    "race": Game("macurr.envs.apple_race_v0", apple_race_v0.parallel_env, "apple race"),
    "degenerate": Game(
        f"{Path(__file__).stem}:degenerate_race",
        apple_race_v0.parallel_env,
        "apple race, 85 % spoiled levels",
    ),
    "tag": Game("macurr.envs.laser_tag_v0", laser_tag_v0.parallel_env, "laser tag"),
}
METHODS = {
    BASE: ("dr", "self", "value_l1"),
    "PLR value_l1, self": ("plr", "self", "value_l1"),
    "PLR positive loss, self": ("plr", "self", "positive_value_loss"),
    "PLR MaxMC, self": ("plr", "self", "max_mc"),
    "PLR learnability, self": ("plr", "self", "learnability"),
    "DR, PFSP": ("dr", "pfsp", "value_l1"),
    "joint value_l1": ("joint", "fsp", "value_l1"),
    "joint learnability": ("joint", "fsp", "learnability"),
}


@dataclass(frozen=True)
class Scale:
    """How large the study is."""

    steps: int = 200_000
    levels: int = 200  # held-out
    envs: int = 64
    hidden: tuple[int, ...] = (128, 128)


# Training


def trained(
    game: Game, method: tuple[str, str, str], seed: int, steps: int, scale: Scale
) -> tuple[Any, dict]:
    """The final policy of a run, and what the run says of itself."""
    curriculum, opponents, score = method
    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig(
            env=game.path,
            curriculum=curriculum,
            opponents=opponents,
            seed=seed,
            steps=steps,
            transport="local",
            workers=1,
            envs_per_worker=scale.envs,
            out=f"{folder}/run",
            model=ModelConfig(hidden=scale.hidden),
            tasks=CurriculumConfig(levels=LEVELS, score=score),
            evaluation=EvaluationConfig(seeds=1, matrix_seeds=1, report=False),
        )
        result = train(config)
        pool = AgentPool(result.run.snapshots, create=False)
        # A snapshot holds all policies of a run; here there is one.
        policy = {name.removeprefix("policy_0."): np.array(a) for name, a in pool.get(pool.latest).items()}
        seen = result.status
    return policy, {"steps": seen.steps, "seconds": round(seen.seconds, 1), "levels_seen": seen.levels_seen}


# Judging


class Actor:
    """A trained policy: its actor alone, in NumPy."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        depth = sum(name.startswith("actor.") and name.endswith("weight") for name in arrays)
        self._layers = [
            (arrays[f"actor.{2 * i}.weight"], arrays[f"actor.{2 * i}.bias"]) for i in range(depth)
        ]

    def __call__(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        for weight, bias in self._layers[:-1]:
            rows = np.tanh(rows @ weight.T + bias)
        weight, bias = self._layers[-1]
        logits = rows @ weight.T + bias
        return (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)


def judged(game: Game, policy: Actor, panel: Sequence[Actor], levels: int, seed: int) -> np.ndarray:
    """Points of the policy, 1 for a win and 1/2 for a draw: (opponents, levels, 2 seats); the scripted one first."""
    rng = np.random.default_rng(seed)
    matches = np.array(list(np.ndindex(1 + len(panel), levels, 2)))
    points = np.zeros(len(matches))
    for start in range(0, len(matches), 256):
        part = slice(start, start + 256)
        points[part] = _played(game, policy, panel, matches[part], rng)
    return points.reshape(1 + len(panel), levels, 2)


def _played(
    game: Game, policy: Actor, panel: Sequence[Actor], matches: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    envs = [game.make() for _ in matches]
    seen = [
        env.reset(seed=HELD_OUT + int(level))[0] for env, (_, level, _) in zip(envs, matches, strict=True)
    ]
    agents = envs[0].possible_agents
    margins = np.zeros(len(matches))
    live = np.arange(len(matches))
    while len(live):
        acts = np.zeros((len(matches), 2), np.int64)
        for player, rows, seats in _turns(matches, live):
            if player == 0:
                acts[rows, seats] = [bfs_policy(envs[i], agents[k]) for i, k in zip(rows, seats, strict=True)]
            else:
                actor = policy if player < 0 else panel[player - 1]
                views = [
                    np.append(seen[i][agents[k]], np.eye(2)[k]) for i, k in zip(rows, seats, strict=True)
                ]
                acts[rows, seats] = actor(np.array(views, np.float32), rng)
        for i in live:
            own = matches[i, 2]
            seen[i], rewards, *_ = envs[i].step(dict(zip(agents, acts[i].tolist(), strict=True)))
            margins[i] += rewards[agents[own]] - rewards[agents[1 - own]]
        live = np.array([i for i in live if envs[i].agents], np.int64)
    return (np.sign(margins) + 1) / 2


def _turns(matches: np.ndarray, live: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Who acts in which games from which seats: -1 the policy, 0 the scripted player, then the panel."""
    yield -1, live, matches[live, 2]
    for player in np.unique(matches[live, 0]).tolist():
        rows = live[matches[live, 0] == player]
        yield player, rows, 1 - matches[rows, 2]


# Runs


def panel_member(out: Path, name: str, seed: int, scale: Scale) -> str:
    """Train one policy of the panel."""
    path = _panel_file(out, name, seed)
    if not path.exists():
        policy, _ = trained(GAMES[name], ("dr", "fsp", "value_l1"), seed, 2 * scale.steps, scale)
        part = path.with_suffix(".part.npz")
        np.savez(part, **policy)
        part.rename(path)
    return path.name


def one_run(out: Path, name: str, method: str, seed: int, scale: Scale) -> dict[str, Any]:
    """Train and judge one policy: a line of results.jsonl."""
    game = GAMES[name]
    policy, about = trained(game, METHODS[method], seed, scale.steps, scale)
    panel = [Actor(dict(np.load(_panel_file(out, name, other)))) for other in PANEL_SEEDS]
    begun = time.perf_counter()
    points = judged(game, Actor(policy), panel, scale.levels, seed)
    return {
        "env": name,
        "method": method,
        "seed": seed,
        **about,
        "judging_seconds": round(time.perf_counter() - begun, 1),
        "draws": round(float((points == 0.5).mean()), 4),
        # Half points by opponent, and by level over all opponents and both seats: whole numbers.
        "half_points": (2 * points).sum(axis=(1, 2)).astype(int).tolist(),
        "half_points_by_level": (2 * points).sum(axis=(0, 2)).astype(int).tolist(),
        "games_of_level": points.shape[0] * points.shape[2],
    }


def _panel_file(out: Path, name: str, seed: int) -> Path:
    return out / f"panel-{name}-{seed}.npz"


def run_all(out: Path, names: Sequence[str], seeds: Sequence[int], scale: Scale, workers: int) -> None:
    """Everything that is not done yet, first seed first, so that an unfinished study is a balanced one."""
    out.mkdir(parents=True, exist_ok=True)
    file = out / "results.jsonl"
    done = {(line["env"], line["method"], line["seed"]) for line in read(file)}
    todo = [
        (name, method, seed)
        for seed in seeds
        for method in METHODS
        for name in names
        if (name, method, seed) not in done
    ]
    if not todo:
        return
    # Spawned, so that a run finds nothing of another in its process.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as executor:
        members = [executor.submit(panel_member, out, n, s, scale) for s in PANEL_SEEDS for n in names]
        for member in as_completed(members):
            print(f"panel: {member.result()}", flush=True)
        runs = [executor.submit(one_run, out, *each, scale) for each in todo]
        for count, run in enumerate(as_completed(runs), 1):
            line = run.result()
            with file.open("a") as text:
                text.write(json.dumps(line) + "\n")
            print(
                f"{count}/{len(todo)} {line['env']}, {line['method']}, seed {line['seed']}: "
                f"{_score(line):.3f} in {line['seconds']} s",
                flush=True,
            )


def read(file: Path) -> list[dict[str, Any]]:
    """The runs of a results file."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


# Figures of a run


def _score(line: dict[str, Any]) -> float:
    """Mean score over opponents, levels and seats."""
    return sum(line["half_points_by_level"]) / (
        2 * len(line["half_points_by_level"]) * line["games_of_level"]
    )


def _scripted(line: dict[str, Any]) -> float:
    return line["half_points"][0] / (4 * len(line["half_points_by_level"]))


def _panel(line: dict[str, Any]) -> float:
    rest = line["half_points"][1:]
    return sum(rest) / (4 * len(line["half_points_by_level"]) * len(rest))


def _cvar(line: dict[str, Any]) -> float:
    """Mean score on the worst levels."""
    levels = np.sort(line["half_points_by_level"]) / (2 * line["games_of_level"])
    return float(levels[: max(1, round(WORST * len(levels)))].mean())


MEASURES = {"score": _score, SCRIPTED: _scripted, "panel": _panel, "CVaR 10 %": _cvar}


# Report


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean over seeds and half of its 95 % t interval."""
    n = len(values)
    if n < 2:
        return float(np.mean(values)), float("nan")
    return float(np.mean(values)), float(stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n))


def difference(values: Sequence[float], base: Sequence[float]) -> tuple[float, float, float]:
    """Difference of means, half of its 95 % Welch interval, and Welch's p."""
    gap = float(np.mean(values) - np.mean(base))
    if min(len(values), len(base)) < 2 or np.var(values) + np.var(base) == 0.0:
        return gap, float("nan"), float("nan")
    test = stats.ttest_ind(values, base, equal_var=False)
    low, high = test.confidence_interval(0.95)
    return gap, float(high - low) / 2, float(test.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values; NaN stays NaN."""
    adjusted = [float("nan")] * len(p_values)
    known = [i for i in np.argsort(p_values) if not np.isnan(p_values[i])]
    highest = 0.0
    for rank, i in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def table(lines: Sequence[dict[str, Any]], name: str) -> str:
    """The results of one environment as two Markdown tables: means, and differences to plain self-play."""
    values = _values(lines, name)
    methods = [method for method in METHODS if method in values]
    means = [f"| method | runs | {' | '.join(MEASURES)} |", "|---" * (len(MEASURES) + 2) + "|"]
    for method in methods:
        cells = [_pm(*mean_interval(values[method][measure])) for measure in MEASURES]
        means.append(f"| {method} | {len(values[method]['score'])} | {' | '.join(cells)} |")
    others = [method for method in methods if method != BASE] if BASE in values else []
    gaps = {m: {k: difference(values[m][k], values[BASE][k]) for k in MEASURES} for m in others}
    adjusted = holm([gaps[m]["score"][2] for m in others])
    titles = " | ".join(f"{measure} - {BASE}" for measure in MEASURES)
    rows = [f"| method | {titles} | p of the score (Holm) |", "|---" * (len(MEASURES) + 2) + "|"]
    for method, p in zip(others, adjusted, strict=True):
        cells = [_pm(gap, half, "+") for gap, half, _ in gaps[method].values()]
        rows.append(f"| {method} | {' | '.join(cells)} | {p:.2g} |")
    return "\n".join([*means, "", *rows])


def _values(lines: Sequence[dict[str, Any]], name: str) -> dict[str, dict[str, list[float]]]:
    found: dict[str, dict[str, list[float]]] = {}
    for line in lines:
        if line["env"] == name:
            of_method = found.setdefault(line["method"], {measure: [] for measure in MEASURES})
            for measure, figure in MEASURES.items():
                of_method[measure].append(figure(line))
    return found


def _pm(middle: float, half: float, sign: str = "") -> str:
    return f"{middle:{sign}.3f} ± {half:.3f}"


def plot(lines: Sequence[dict[str, Any]], names: Sequence[str], file: Path) -> None:
    """Every run as a dot, means with 95 % intervals; the band is that of DR with plain self-play."""
    shown = {"score": "score", "CVaR 10 %": "score on the worst 10 % of levels"}
    size = (4.6 * len(names) + 1.6, 6.4)
    figure, axes = plt.subplots(len(shown), len(names), figsize=size, squeeze=False, sharey=True)
    for column, name in enumerate(names):
        values = _values(lines, name)
        for row, (measure, label) in enumerate(shown.items()):
            ax = axes[row, column]
            _dots(ax, values, measure)
            ax.set_xlabel(label)
            if row == 0:
                ax.set_title(GAMES[name].title)
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    plt.close(figure)


def _dots(ax: Any, values: dict[str, dict[str, list[float]]], measure: str) -> None:
    methods = list(METHODS)
    for place, method in enumerate(methods):
        if method not in values:
            continue
        own = values[method][measure]
        middle, half = mean_interval(own)
        if method == BASE and np.isfinite(half):
            ax.axvspan(middle - half, middle + half, color="0.9", zorder=0)
        color = (
            "C0"
            if method == BASE
            else "C3"
            if method.startswith("joint")
            else "C1"
            if "PFSP" in method
            else "C2"
        )
        ax.scatter(own, [place + 0.22] * len(own), s=12, color=color, alpha=0.5, linewidths=0)
        ax.errorbar(middle, place, xerr=half if np.isfinite(half) else None, fmt="o", color=color, capsize=3)
    ax.set_yticks(range(len(methods)), methods)
    ax.set_ylim(len(methods) - 0.4, -0.6)
    ax.locator_params(axis="x", nbins=5)
    ax.grid(axis="x", color="0.9")
    ax.spines[["top", "right"]].set_visible(False)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/study_plr_selfplay"))
    parser.add_argument("--env", nargs="+", choices=GAMES, default=list(GAMES))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=Scale.steps)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--report", action="store_true", help="tables and plot of what there is, without running"
    )
    parser.add_argument(
        "--smoke", action="store_true", help="a tiny study in a folder of its own, to see it work"
    )
    args = parser.parse_args(argv)
    out, names, seeds = args.out, args.env, range(args.first_seed, args.first_seed + args.seeds)
    scale, workers = Scale(steps=args.steps), args.workers
    if args.smoke:
        out, names, seeds, scale = Path(tempfile.mkdtemp()), ["tag"], range(1), Scale(256, 3, 4, (8,))
        workers = 1  # to start another costs more than all runs
    try:
        if not args.report:
            run_all(out, names, seeds, scale, workers)
        lines = read(out / "results.jsonl")
        for name in names:
            print(f"\n{GAMES[name].title}\n\n{table(lines, name)}")
        plot(lines, names, out / "plr_selfplay.png")
    finally:
        if args.smoke:
            shutil.rmtree(out)


if __name__ == "__main__":
    main()

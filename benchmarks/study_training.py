"""Does the reference trainer learn? Curves with intervals over seeds for five games.

    python benchmarks/study_training.py [--out FOLDER] [--games NAME ...] [--seeds 5] [--workers 2] [--report] [--smoke]

Each run is judged by the snapshots that it left behind, on levels that it was not trained on: against the policy that
chooses uniformly, or, where all agents learn together, by what they get. In simple_tag touches are counted, against
opponents that stay the same. In rock, paper, scissors what counts is how much can be won against the average of all
snapshots: fictitious play promises that this goes to zero, not that the last policy is any good.

A run is one line of results.jsonl in the output folder. Finished runs are skipped, so a study that was interrupted goes
on where it was.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from scipy import stats

mpl.use("Agg")
from matplotlib import pyplot as plt
from mpe2 import simple_tag_v3

from macurr.opponents import AgentPool
from macurr.training import TrainConfig, compare, load_policy, train

Point = dict[str, float]
Act = Callable[[dict[str, Any]], dict[str, Any]]
"""From the observations of some agents to their actions."""
BEATS = np.array([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]])
"""What rock, paper and scissors (rows) win against each (columns)."""
PREY, TOUCH = "agent_0", 10.0
"""simple_tag's prey, and what each adversary is paid for each touch."""


@dataclass(frozen=True)
class Game:
    """What is trained, and how its snapshots are judged.

    Attributes:
        title: What to call it.
        settings: Those of the run.
        judge: From a run's directory and the number of levels to a point for each snapshot.
        axes: Names of what is judged, and of their axes.
        steps: Environment steps of a run.
        panels: Which of what is judged is plotted, panel by panel; empty: all of it in one.
    """

    title: str
    settings: dict[str, Any]
    judge: Callable[[Path, int], list[Point]]
    axes: dict[str, str]
    steps: int
    panels: tuple[tuple[str, ...], ...] = ()


# Judging


def snapshots(run: Path) -> list[tuple[int, int]]:
    """(id, steps) of a run's snapshots, oldest first."""
    pool = AgentPool(run / "snapshots", create=False)
    return [(i, int(pool.metadata(i)["steps"])) for i in pool.ids]


def against_random(run: Path, levels: int) -> list[Point]:
    """Score and return by seat of each snapshot against the policy that chooses uniformly."""
    points = []
    for i, steps in snapshots(run):
        result = compare(f"{run}:{i}", ["random"], levels=levels, workers=0, out=run / "judged.json")
        row = result.row("random")
        seats = {f"return {seat}": value for seat, value in zip(result.agents, row.returns, strict=True)}
        points.append({"steps": steps, "score": row.score, **seats})
    return points


def tag(run: Path, levels: int) -> list[Point]:
    """Touches and the prey's return, of each snapshot as either side, against opponents that stay the same."""
    taken = snapshots(run)
    last = load_policy(f"{run}:{taken[-1][0]}").act
    points = []
    for i, steps in taken:
        act, chance = load_policy(f"{run}:{i}").act, np.random.default_rng(0)
        meetings: dict[str, tuple[Act, Act]] = {
            "of random prey": (act, partial(uniformly, rng=chance)),
            "of the final prey": (act, last),
            "by the final adversaries": (last, act),
            "by pursuers": (pursue, act),
            "by random adversaries": (partial(uniformly, rng=chance), act),
        }
        point: Point = {"steps": steps}
        for name, (adversaries, prey) in meetings.items():
            touches, paid = play_tag(adversaries, prey, levels)
            point |= {f"touches {name}": touches, f"return {name}": paid}
        points.append(point)
    return points


def play_tag(adversaries: Act, prey: Act, levels: int) -> tuple[float, float]:
    """Touches of an episode and the prey's return, means over so many levels beyond those that are trained on."""
    env = simple_tag_v3.parallel_env()
    first = TrainConfig().tasks.levels
    touches = paid = 0.0
    for level in range(first, first + levels):
        seen, _ = env.reset(seed=level)
        while env.agents:
            hunters = {agent: row for agent, row in seen.items() if agent != PREY}
            seen, rewards, *_ = env.step({**adversaries(hunters), **prey({PREY: seen[PREY]})})
            touches += rewards["adversary_0"] / TOUCH
            paid += rewards[PREY]
    return touches / levels, paid / levels


def uniformly(seen: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """Any of the five moves."""
    return {agent: int(rng.integers(5)) for agent in seen}


def pursue(seen: dict[str, Any]) -> dict[str, Any]:
    """Run straight at the prey: along the axis on which it is further away."""
    actions = {}
    for agent, row in seen.items():
        x, y = row[12:14]
        actions[agent] = (1 + int(x > 0)) if abs(x) > abs(y) else (3 + int(y > 0))
    return actions


def together(run: Path, levels: int) -> list[Point]:
    """Return of each snapshot as all agents, and that of the policy that chooses uniformly."""
    points = []
    for i, steps in snapshots(run):
        result = compare(f"{run}:{i}", ["random"], levels=levels, workers=0, out=run / "judged.json")
        mine, random = result.teams
        points.append({"steps": steps, "return": mine.mean_return, "random": random.mean_return})
    return points


def rock_paper_scissors(run: Path, levels: int) -> list[Point]:
    """What a best response wins against each snapshot, and against the average of all up to it."""
    nobody_has_moved = 3
    played, points = [], []
    for i, steps in snapshots(run):
        policy = load_policy(f"{run}:{i}")
        played.append(
            np.mean([policy.probabilities(agent, nobody_has_moved) for agent in policy.agents], axis=0)
        )
        points.append(
            {
                "steps": steps,
                "exploitability": float((BEATS @ played[-1]).max()),
                "exploitability of the average": float((BEATS @ np.mean(played, axis=0)).max()),
            }
        )
    return points


GAMES = {
    "race": Game(
        "apple race (default settings)",
        {"env": "macurr.envs.apple_race_v0"},
        against_random,
        {"score": "score against random"},
        300_000,
    ),
    "tag": Game(
        "simple_tag, 3 against 1, a policy for each role",
        {
            "env": "mpe2.simple_tag_v3",
            "curriculum": "dr",
            "sides": "role",
            "mapping": "role",
            "num_policies": 2,
            "envs_per_worker": 128,
            "rollout": 25,
            "normalize_observations": True,
            "normalize_returns": True,
            "gamma": 0.95,
            "epochs": 10,
        },
        tag,
        {
            "touches of random prey": "adversaries: touches of random prey",
            "touches of the final prey": "adversaries: touches of the final prey",
            "touches by pursuers": "prey: touches by scripted pursuers",
            "touches by the final adversaries": "prey: touches by the final adversaries",
            "return by pursuers": "the prey's return\nagainst scripted pursuers",
            "return by the final adversaries": "the prey's return\nagainst the final adversaries",
            "return by random adversaries": "the prey's return\nagainst random adversaries",
        },
        300_000,
        (
            ("touches of random prey", "touches of the final prey"),
            ("touches by pursuers", "touches by the final adversaries"),
        ),
    ),
    "spread": Game(
        "simple_spread, centralised critic",
        {
            "env": "mpe2.simple_spread_v3",
            "curriculum": "dr",
            "opponents": "none",
            "centralised_critic": True,
            "envs_per_worker": 32,
            "rollout": 25,
            "normalize_observations": True,
            "normalize_returns": True,
            "gamma": 0.95,
            "epochs": 8,
        },
        together,
        {"return": "return of an agent", "random": "random policy"},
        200_000,
    ),
    "rps": Game(
        "rock, paper, scissors: fictitious play",
        {
            "env": "pettingzoo.classic.rps_v2",
            "env_args": {"max_cycles": 1},
            "curriculum": "dr",
            "opponents": "fsp",
            "envs_per_worker": 64,
            "rollout": 8,
            "hidden": (16,),
            "capacity": 200,
            "snapshot_every": 1,
            "entropy": 0.2,
            "learning_rate": 1e-2,
            "gamma": 1.0,
            "anneal": False,
        },
        rock_paper_scissors,
        {
            "exploitability": "exploitability of the last policy",
            "exploitability of the average": "exploitability of the average so far",
        },
        100_000,
    ),
    "connect_four": Game(
        "connect four, turn-based",
        {
            "env": "pettingzoo.classic.connect_four_v3",
            "curriculum": "dr",
            "envs_per_worker": 64,
            "gamma": 0.99,
        },
        against_random,
        {"score": "score against random"},
        300_000,
    ),
}


# Running


def one_run(name: str, seed: int, steps: int, levels: int) -> dict[str, Any]:
    """Train and judge."""
    game = GAMES[name]
    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig.of(
            **{"seeds": 1, "matrix_seeds": 1, "report": False, "tensorboard": False, **game.settings},
            seed=seed,
            steps=steps,
            transport="local",
            workers=1,
            out=f"{folder}/run",
        )
        result = train(config)
        return {
            "game": name,
            "seed": seed,
            "steps": result.status.steps,
            "seconds": round(result.status.seconds, 1),
            "points": game.judge(result.run.path, levels),
        }


def run_all(out: Path, games: Sequence[str], seeds: int, scale: float, levels: int, workers: int) -> None:
    """All runs that are not in the results yet."""
    file = out / "results.jsonl"
    done = {(line["game"], line["seed"]) for line in read(file)}
    wanted = [(name, seed) for seed in range(seeds) for name in games if (name, seed) not in done]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        runs = [
            pool.submit(one_run, name, seed, max(1, int(GAMES[name].steps * scale)), levels)
            for name, seed in wanted
        ]
        for run in as_completed(runs):
            line = run.result()
            with file.open("a") as results:
                results.write(json.dumps(line) + "\n")
            print(
                f"{line['game']}, seed {line['seed']}: {line['steps']:,} steps, {line['seconds']} s",
                flush=True,
            )


def read(file: Path) -> list[dict[str, Any]]:
    """The lines of the results."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


# Reporting


def curves(lines: Sequence[dict[str, Any]], measure: str, points: int = 24) -> tuple[Any, Any, Any]:
    """Steps, and mean and half of the 95 % interval over seeds (Student's t), at steps that all seeds reach."""
    last = min(line["points"][-1]["steps"] for line in lines)
    at = np.linspace(0, last, points)
    values = np.array(
        [
            np.interp(at, [p["steps"] for p in line["points"]], [p[measure] for p in line["points"]])
            for line in lines
        ]
    )
    n = len(values)
    half = stats.t.ppf(0.975, n - 1) * values.std(axis=0, ddof=1) / np.sqrt(n) if n > 1 else np.zeros(points)
    return at, values.mean(axis=0), half


def table(lines: Sequence[dict[str, Any]]) -> str:
    """Where each game began and ended, mean and half of the 95 % interval over seeds."""
    rows = ["| game | steps | seeds | measure | untrained | final |", "|---|---|---|---|---|---|"]
    for name, game in GAMES.items():
        mine = [line for line in lines if line["game"] == name]
        for measure, title in game.axes.items() if mine else ():
            at, mean, half = curves(mine, measure)
            first, final = (f"{mean[i]:.2f} ± {half[i]:.2f}" for i in (0, -1))
            label = title.replace("\n", " ")
            rows.append(f"| {game.title} | {int(at[-1]):,} | {len(mine)} | {label} | {first} | {final} |")
    return "\n".join(rows)


def plot(lines: Sequence[dict[str, Any]], file: Path, columns: int = 3) -> None:
    """One panel for each game, or several."""
    panels = [
        (game, [line for line in lines if line["game"] == name], measures)
        for name, game in GAMES.items()
        for measures in game.panels or (tuple(game.axes),)
    ]
    panels = [panel for panel in panels if panel[1]]
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(4.1 * columns, 3.4 * rows + 0.2), squeeze=False)
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    for ax, (game, mine, measures) in zip(axes.flat, panels, strict=False):
        draw(ax, mine, {measure: game.axes[measure] for measure in measures})
        ax.set_title(game.title, fontsize=9)
    counts = sorted({len(mine) for _, mine, _ in panels})
    over = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    figure.suptitle(f"Mean and 95 % interval over {over} seeds", fontsize=9)
    figure.tight_layout()
    figure.savefig(file, dpi=110)


def draw(ax: Any, lines: Sequence[dict[str, Any]], measures: dict[str, str]) -> None:
    """The curves of one panel."""
    for measure, title in measures.items():
        at, mean, half = curves(lines, measure)
        style = {"color": "0.5", "linestyle": "--"} if measure == "random" else {}
        (drawn,) = ax.plot(at, mean, label=title, **style)
        ax.fill_between(at, mean - half, mean + half, alpha=0.2, color=drawn.get_color(), linewidth=0)
    ax.set_xlabel("environment steps")
    ax.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:.0f}k" if x else "0")
    ax.legend(fontsize=7, frameon=False)
    ax.spines[["top", "right"]].set_visible(False)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("study_training"))
    parser.add_argument("--games", nargs="+", choices=GAMES, default=list(GAMES))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--levels", type=int, default=50, help="held-out levels on which a snapshot is judged"
    )
    parser.add_argument("--workers", type=int, default=2, help="runs at a time")
    parser.add_argument("--report", action="store_true", help="only read the results and report")
    parser.add_argument("--smoke", action="store_true", help="a few updates of one game, for the tests")
    options = parser.parse_args(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.smoke:
        run_all(options.out, ["rps"], 2, 0.01, 2, 1)
    elif not options.report:
        run_all(options.out, options.games, options.seeds, 1.0, options.levels, options.workers)
    lines = read(options.out / "results.jsonl")
    print(table(lines))
    plot(lines, options.out / "training.png")
    print(f"Picture: {options.out / 'training.png'}")


if __name__ == "__main__":
    main()

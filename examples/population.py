"""Population-based training: four policies of one run, and what became of them.

The policies race each other's past selves on replayed levels. Every so often the worst goes on with a copy of the best,
and all but the best try other settings: a learning rate or an entropy bonus a little higher or lower. The first keeps
the settings that the run was given. The history says who copied whom, and which settings have spread. Needs torch.

    python population.py [--smoke] [--steps N] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from macurr.training import (
    CurriculumConfig,
    EvaluationConfig,
    PBTConfig,
    PoliciesConfig,
    PPOConfig,
    TrainConfig,
    read_history,
    train,
)

POLICIES = 4


def settings(steps: int, out: str, smoke: bool) -> TrainConfig:
    """A run of eight rounds."""
    return TrainConfig(
        env="macurr.envs.apple_race_v0",
        steps=steps,
        workers=2,
        envs_per_worker=8 if smoke else 32,
        policies=PoliciesConfig(num_policies=POLICIES, mapping="random"),
        pbt=PBTConfig(
            pbt=True,
            pbt_period=steps // 8,
            pbt_start=steps // 8,
            pbt_objective="win_rate",
            pbt_mutation_rate=0.5,
        ),
        ppo=PPOConfig(rollout=16 if smoke else 64, anneal=False),
        tasks=CurriculumConfig(levels=200),
        evaluation=EvaluationConfig(seeds=2 if smoke else 50, matrix_seeds=1, report=False),
        out=out,
    )


def show(history: Path) -> None:
    """Print a line for each policy and round, best first."""
    print(f"{'steps':>8} {'policy':>6} {'win rate':>8} {'copies':>6} {'learning rate':>13} {'entropy':>8}")
    for row in read_history(history):
        copied = "" if row["copied_from"] is None else row["copied_from"]
        tuned = row["settings"]
        print(
            f"{row['steps']:8} {row['member']:6} {row['objective']:8.2f} {copied!s:>6} "
            f"{tuned['learning_rate']:13.2e} {tuned['entropy']:8.4f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Population-based training on the apple race.")
    parser.add_argument("--smoke", action="store_true", help="a few seconds' worth, to see that it runs")
    parser.add_argument("--steps", type=int, default=1_000_000, help="environment steps")
    parser.add_argument("--out", help="the run's directory; a temporary one by default")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(args.out or folder) / "run"
        result = train(settings(8_192 if args.smoke else args.steps, str(out), args.smoke))
        show(out / "population.jsonl")
        print(result.table())


if __name__ == "__main__":
    main()

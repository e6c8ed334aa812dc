"""Competitive self-play on replayed levels under RLlib's multi-agent PPO (new API stack).

Two players race for apples in mazes, on two env runners. For each episode macurr chooses a level (prioritized level
replay, a seed) and an opponent (prioritized fictitious self-play, a snapshot of an earlier policy). The trained module
is "main"; snapshot 3 is the module "opponent_3" and plays the other seat wherever the task says so. What RLlib needs
for that is marked by (1) to (4); the rest is an ordinary PPOConfig. Needs the extra `rllib`.

    python rllib_selfplay.py [--smoke] [--iterations N] [--runners N] [--folder FOLDER]
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the env runners need the cores

import numpy as np
import ray
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

from macurr import DiscreteTaskSpace, make_multiprocessing_curriculum
from macurr.curricula import PrioritizedFictitiousSelfPlay, PrioritizedLevelReplay
from macurr.envs import apple_race_v0
from macurr.integrations.rllib import curriculum_ppo
from macurr.opponents import AgentPool
from macurr.wrappers import DualCurriculumWrapper, SeedTaskWrapper

SEATS = ("player_0", "player_1")


def make_env(context: Any) -> SeedTaskWrapper:
    """(1) An environment with its task wrapper. The sync wrapper is put on it in the env runner."""
    return SeedTaskWrapper(apple_race_v0.parallel_env())


def learners(context: Any) -> list[str]:
    """(2) Who is played by "main": the first player in every other environment, the second in the rest."""
    return [SEATS[context.vector_index % 2]]


def wins_against_random(algorithm: Any, games: int, first_level: int) -> tuple[float, float]:
    """Shares of won and lost games on levels that were never trained on, both seats."""
    module, env = algorithm.get_module("main"), apple_race_v0.parallel_env()
    rng, outcomes = np.random.default_rng(0), []
    for game in range(games):
        own, other = SEATS if game % 2 == 0 else SEATS[::-1]
        observations, _ = env.reset(seed=first_level + game // 2)
        score = 0.0
        while env.agents:
            with torch.no_grad():
                said = module.forward_exploration({Columns.OBS: torch.as_tensor(observations[own][None])})
            logits = said[Columns.ACTION_DIST_INPUTS][0].double().numpy()
            odds = np.exp(logits - logits.max())
            action = int(rng.choice(len(odds), p=odds / odds.sum()))
            observations, rewards, *_ = env.step({own: action, other: int(rng.integers(5))})
            score += rewards[own]
        outcomes.append(score)
    return float(np.mean(np.array(outcomes) > 0)), float(np.mean(np.array(outcomes) < 0))


def report(result: dict[str, Any], pool: AgentPool) -> None:
    told, sampled = result["curriculum"], result.get("env_runners", {})
    modules = sorted(sampled.get("num_module_steps_sampled", {}))
    print(
        f"step {result['num_env_steps_sampled_lifetime']:7.0f}  episodes {told['sync/episodes']:6.0f}  "
        f"levels seen {told['env/seen_fraction']:4.0%}, replayed {told['env/replay_share']:4.0%}  "
        f"pool {pool.ids[0]}-{pool.ids[-1]}, wins against it {told['agent/win_rate_mean']:4.0%}  "
        f"played by: {', '.join(module.removeprefix('opponent_') for module in modules)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="a few seconds' worth, to see that it runs")
    parser.add_argument("--iterations", type=int, default=150, help="training iterations")
    parser.add_argument("--runners", type=int, default=2, help="env runners, each a process")
    parser.add_argument("--levels", type=int, default=200, help="number of training levels")
    parser.add_argument("--folder", help="for snapshots and checkpoint; by default a temporary one")
    args = parser.parse_args()
    batch, every, games = (960, 2, 20) if args.smoke else (4096, 10, 200)
    args.iterations = 6 if args.smoke else args.iterations

    # At this level RLlib keeps its warnings of its own deprecations to itself.
    ray.init("local", num_cpus=args.runners, log_to_driver=False, logging_level=logging.ERROR)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(args.folder or temporary).absolute()
        pool = AgentPool(folder / "pool", capacity=20, keep="spread")
        levels = PrioritizedLevelReplay(DiscreteTaskSpace(args.levels), rho=0.0, temperature=1.0, seed=0)
        rivals = PrioritizedFictitiousSelfPlay(pool, exploration=0.1, seed=1)
        # (3) The curriculum lives here, in the driver; the env runners of this machine connect to it.
        with make_multiprocessing_curriculum(DualCurriculumWrapper(levels, rivals)) as curriculum:
            config = (
                # (4) Environment, callback, learner and mapping of modules, in an ordinary config.
                curriculum_ppo(make_env, curriculum, learners=learners, pool=pool, snapshot_every=every)
                .env_runners(num_env_runners=args.runners, num_envs_per_env_runner=8)
                .rl_module(model_config=DefaultModelConfig(fcnet_hiddens=[64, 64]))
                .training(
                    lr=1e-3,
                    gamma=0.99,
                    lambda_=0.95,
                    entropy_coeff=0.01,
                    train_batch_size_per_learner=batch,
                    minibatch_size=batch // 4,
                    num_epochs=4,
                )
                .debugging(seed=0)
            )
            algorithm = config.build_algo()
            for number in range(1, args.iterations + 1):
                result = algorithm.train()
                if number % max(1, args.iterations // 15) == 0:
                    report(result, pool)
            algorithm.save_to_path(folder / "checkpoint")  # the curriculum is in it
            won, lost = wins_against_random(algorithm, games, first_level=args.levels)
            print(f"against random moves on {games // 2} unseen levels: won {won:.0%}, lost {lost:.0%}")
            first = [rivals.payoffs.win_rate("learner", snapshot) for snapshot in pool.ids[:3]]
            print(f"latest win rates against snapshots {pool.ids[:3]}:", *(f"{rate:.0%}" for rate in first))
            algorithm.stop()
    ray.shutdown()


if __name__ == "__main__":
    main()

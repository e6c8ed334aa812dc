"""A SuperSuit-vectorised PettingZoo environment with replayed levels, and PPO in one file.

simple_spread runs in worker processes. The sync wrapper sits right on the environment, under every SuperSuit wrapper:
there each clone connects to the curriculum by itself and fetches a level at every reset, also at those that vector
environments make on their own. The learner sends scores, keyed by `infos[i]["task"]`. Needs torch, supersuit and mpe2.

    python supersuit_vector.py [--smoke] [--steps N] [--cpus N]
"""

from __future__ import annotations

import argparse
import os
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # the workers need the cores

import numpy as np
import torch
from mpe2 import simple_spread_v3
from supersuit import concat_vec_envs_v1, pettingzoo_env_to_vec_env_v1
from torch import nn
from torch.distributions import Categorical

from macurr import DiscreteTaskSpace, make_multiprocessing_curriculum
from macurr.curricula import PrioritizedLevelReplay
from macurr.wrappers import MultiagentSharedCurriculumWrapper, PettingZooSyncWrapper, SeedTaskWrapper

GAMMA, LAMBDA, CLIP, EPOCHS, MINIBATCHES, ENTROPY = 0.95, 0.95, 0.2, 4, 4, 0.01
NAMES = ("observations", "tasks", "actions", "values", "rewards", "dones", "after")


def mlp(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(inputs, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, outputs)
    )


def by_column(infos: list, vector: Any) -> list[dict]:
    """What `reset` tells of each column: with processes, SuperSuit returns a list of (column, info) for each."""
    if not isinstance(infos[0], list):
        return infos
    starts = vector.idx_starts[: len(infos)]
    told = {start + i: info for start, part in zip(starts, infos, strict=True) for i, info in part}
    return [told[column] for column in sorted(told)]


class Scores:
    """Mean |advantage| of each column's episode, under the level that the episode was about."""

    def __init__(self, columns: int) -> None:
        self.open: list[list[float]] = [[] for _ in range(columns)]

    def finished(self, tasks: np.ndarray, dones: np.ndarray, advantages: np.ndarray) -> dict[str, list]:
        found, scores = [], []
        for t, column in np.ndindex(dones.shape):
            self.open[column].append(abs(float(advantages[t, column])))
            if dones[t, column]:
                found.append(int(tasks[t, column]))
                scores.append(float(np.mean(self.open[column])))
                self.open[column].clear()
        return {"tasks": found, "scores": scores}


def update(actor: nn.Module, critic: nn.Module, optimizer: torch.optim.Optimizer, data: dict) -> None:
    """PPO with clipped ratios."""
    observations, actions, advantages, returns = (
        torch.as_tensor(data[name]).flatten(0, 1)
        for name in ("observations", "actions", "advantages", "returns")
    )
    advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    with torch.no_grad():
        before = Categorical(logits=actor(observations)).log_prob(actions)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(actions)).chunk(MINIBATCHES):
            chosen = Categorical(logits=actor(observations[rows]))
            ratio = (chosen.log_prob(actions[rows]) - before[rows]).exp()
            gain = torch.min(ratio * advantages[rows], ratio.clamp(1 - CLIP, 1 + CLIP) * advantages[rows])
            error = critic(observations[rows]).squeeze(-1) - returns[rows]
            loss = -gain.mean() + 0.5 * error.square().mean() - ENTROPY * chosen.entropy().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


class Collector:
    """Steps the vector, and knows which level each column is playing."""

    def __init__(self, vector: Any, actor: nn.Module, critic: nn.Module) -> None:
        self.vector, self.actor, self.critic = vector, actor, critic
        self.seen, infos = vector.reset()
        self.task = np.array([info["task"] for info in by_column(infos, vector)])
        self.returns, self.finished = np.zeros(vector.num_envs), list[float]()

    def values(self, observations: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return self.critic(torch.as_tensor(observations)).squeeze(-1).numpy()

    def collect(self, length: int) -> dict[str, np.ndarray]:
        """Arrays of shape (length, columns, ...), advantages (GAE) and returns among them."""
        steps: dict[str, list[np.ndarray]] = {name: [] for name in NAMES}
        for _ in range(length):
            with torch.no_grad():
                actions = Categorical(logits=self.actor(torch.as_tensor(self.seen))).sample().numpy()
            now = (self.seen, self.task, actions, self.values(self.seen))
            self.seen, rewards, terminations, truncations, infos = self.vector.step(actions)
            dones = np.asarray(terminations | truncations, bool)
            # On the step that ends an episode, the vector has reset itself already: this observation and this info
            # are the *next* episode's. The level of what just ended was noted before the step.
            self.task = np.array([info["task"] for info in infos])
            after = self.values(self.seen)
            for column in np.flatnonzero(
                dones
            ):  # nothing follows an end; what follows a cut is still worth something
                last = infos[column]["terminal_observation"][None]
                after[column] = 0.0 if terminations[column] else self.values(last)[0]
            for name, array in zip(NAMES, (*now, rewards, dones, after), strict=True):
                steps[name].append(array)
            self.returns += rewards
            self.finished += self.returns[dones].tolist()
            self.returns[dones] = 0.0
        data = {name: np.stack(arrays) for name, arrays in steps.items()}
        errors = data["rewards"] + GAMMA * data["after"] - data["values"]
        advantages, trace = np.zeros_like(errors), np.zeros_like(errors[0])
        for t in reversed(range(length)):
            advantages[t] = trace = errors[t] + GAMMA * LAMBDA * ~data["dones"][t] * trace
        return {**data, "advantages": advantages, "returns": advantages + data["values"]}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="a few seconds' worth, to see that it runs")
    parser.add_argument("--steps", type=int, default=300_000, help="agent steps")
    parser.add_argument("--cpus", type=int, default=2, help="worker processes; 0: none")
    parser.add_argument("--envs", type=int, default=8)
    parser.add_argument("--levels", type=int, default=100)
    args = parser.parse_args()
    length = 30 if args.smoke else 100
    torch.set_num_threads(1)
    torch.manual_seed(0)

    # Each of the three agents scores the level, so a single score counts with a weight of 0.2.
    levels = PrioritizedLevelReplay(
        DiscreteTaskSpace(args.levels), rho=0.0, temperature=1.0, alpha=0.2, seed=0
    )
    # Serving starts once the workers are there: forking beside a running thread is not safe.
    curriculum = make_multiprocessing_curriculum(MultiagentSharedCurriculumWrapper(levels), start=False)
    env = SeedTaskWrapper(simple_spread_v3.parallel_env(max_cycles=25))
    env = PettingZooSyncWrapper(env, curriculum.components)
    vector = concat_vec_envs_v1(pettingzoo_env_to_vec_env_v1(env), args.envs, num_cpus=args.cpus)
    curriculum.start()

    features, actions = vector.observation_space.shape[0], int(vector.action_space.n)
    actor, critic = mlp(features, actions), mlp(features, 1)
    optimizer = torch.optim.Adam([*actor.parameters(), *critic.parameters()], lr=1e-3, eps=1e-5)
    collector, scores = Collector(vector, actor, critic), Scores(vector.num_envs)
    updates = 4 if args.smoke else args.steps // (length * vector.num_envs)
    for number in range(1, updates + 1):
        data = collector.collect(length)
        curriculum.update_on_demand(scores.finished(data["tasks"], data["dones"], data["advantages"]))
        update(actor, critic, optimizer, data)
        if number % max(1, updates // 10) == 0:
            told = curriculum.metrics()
            print(
                f"agent step {number * length * vector.num_envs:7}  "
                f"mean return {np.mean(collector.finished[-200:]):7.2f}  "
                f"{told['sync/episodes']:5.0f} episodes of {told['sync/envs']:.0f} environments  "
                f"levels seen {told['seen_fraction']:4.0%}, replayed {told['replay_share']:4.0%}"
            )
    vector.close()  # before the curriculum: environments send until they are closed
    curriculum.close()


if __name__ == "__main__":
    main()

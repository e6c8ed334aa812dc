"""Competitive self-play on replayed levels, in a training loop of one's own.

Two players race for apples in mazes. For each episode macurr chooses a level (prioritized level replay, a seed) and
an opponent (prioritized fictitious self-play, a snapshot of an earlier policy). The loop below is ordinary PPO in one
file; what it does for the curriculum is marked by (1) to (4). Needs torch.

    python selfplay_plr.py [--smoke] [--steps N] [--pool FOLDER]
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical

from macurr import DiscreteTaskSpace, make_local_curriculum
from macurr.curricula import PrioritizedFictitiousSelfPlay, PrioritizedLevelReplay
from macurr.envs import apple_race_v0
from macurr.opponents import AgentPool
from macurr.wrappers import DualCurriculumWrapper, PettingZooSyncWrapper, SeedTaskWrapper

SEATS = ("player_0", "player_1")
GAMMA, LAMBDA, CLIP, EPOCHS, MINIBATCHES, ENTROPY = 0.99, 0.95, 0.2, 4, 4, 0.01


class Policy(nn.Module):
    """An actor and a critic."""

    def __init__(self, features: int, actions: int) -> None:
        super().__init__()
        self.actor = nn.Sequential(nn.Linear(features, 64), nn.Tanh(), nn.Linear(64, actions))
        self.critic = nn.Sequential(nn.Linear(features, 64), nn.Tanh(), nn.Linear(64, 1))

    def snapshot(self) -> dict[str, np.ndarray]:
        """The parameters as arrays, as the pool keeps them."""
        return {name: tensor.detach().numpy() for name, tensor in self.state_dict().items()}

    @torch.no_grad()
    def act(self, observations: np.ndarray) -> np.ndarray:
        """One action for each row."""
        return Categorical(logits=self.actor(torch.as_tensor(observations))).sample().numpy()


class Opponents:
    """Plays whichever snapshot each row is up against."""

    def __init__(self, pool: AgentPool, like: Policy) -> None:
        self.pool, self.loaded = pool, dict[int, Policy]()
        self.shape = like.actor[0].in_features, like.actor[-1].out_features

    def act(self, ids: np.ndarray, observations: np.ndarray) -> np.ndarray:
        actions = np.zeros(len(ids), np.int64)
        for snapshot in np.unique(ids):
            rows = ids == snapshot
            actions[rows] = self.policy(int(snapshot)).act(observations[rows])
        return actions

    def policy(self, snapshot: int) -> Policy:
        if snapshot not in self.loaded:
            policy = Policy(*self.shape)
            parameters = self.pool.get(snapshot)
            policy.load_state_dict({name: torch.tensor(array) for name, array in parameters.items()})
            self.loaded[snapshot] = policy
        return self.loaded[snapshot]


class Seat:
    """One environment in which the learner has one seat and an opponent the other."""

    def __init__(self, env: PettingZooSyncWrapper, learner: str) -> None:
        self.env, self.learner = env, learner
        (self.other,) = set(SEATS) - {learner}
        self.reset()

    def reset(self) -> None:
        self.observations, infos = self.env.reset()
        # (2) Which opponent and which level this episode is about.
        self.opponent, self.level = infos[self.learner]["task"]

    def step(self, action: int, reply: int) -> tuple[float, bool]:
        self.observations, rewards, *_ = self.env.step({self.learner: action, self.other: reply})
        reward, done = rewards[self.learner], not self.env.agents
        if done:  # the wrapper has reported the result already
            self.reset()
        return reward, done


@dataclass
class Rollout:
    """T steps of E environments, the learner's side of them."""

    observations: np.ndarray  # (T, E, features)
    actions: np.ndarray  # (T, E), as the rest
    rewards: np.ndarray
    dones: np.ndarray
    tasks: np.ndarray  # (T, E, 2): opponent and level
    advantages: np.ndarray
    returns: np.ndarray


def collect(policy: Policy, opponents: Opponents, seats: list[Seat], steps: int) -> Rollout:
    """Play, then estimate advantages (GAE). An apple race tells its players the time, so its end is an end."""
    features, n = policy.actor[0].in_features, len(seats)
    seen = np.zeros((steps + 1, n, features), np.float32)
    actions, rewards = np.zeros((steps, n), np.int64), np.zeros((steps, n), np.float32)
    dones, tasks = np.zeros((steps, n), bool), np.zeros((steps, n, 2), np.int64)
    for t in range(steps):
        seen[t] = [seat.observations[seat.learner] for seat in seats]
        tasks[t] = [(seat.opponent, seat.level) for seat in seats]
        actions[t] = policy.act(seen[t])
        replies = opponents.act(tasks[t, :, 0], np.stack([seat.observations[seat.other] for seat in seats]))
        for e, seat in enumerate(seats):
            rewards[t, e], dones[t, e] = seat.step(int(actions[t, e]), int(replies[e]))
    seen[steps] = [seat.observations[seat.learner] for seat in seats]
    with torch.no_grad():
        values = policy.critic(torch.as_tensor(seen)).squeeze(-1).numpy()
    advantages, trace = np.zeros((steps, n), np.float32), np.zeros(n, np.float32)
    for t in reversed(range(steps)):
        alive = 1.0 - dones[t]
        trace = rewards[t] + GAMMA * values[t + 1] * alive - values[t] + GAMMA * LAMBDA * alive * trace
        advantages[t] = trace
    return Rollout(seen[:-1], actions, rewards, dones, tasks, advantages, advantages + values[:-1])


def update(policy: Policy, optimizer: torch.optim.Optimizer, data: Rollout) -> None:
    """PPO with clipped ratios."""
    observations = torch.as_tensor(data.observations).flatten(0, 1)
    actions, advantages, returns = (
        torch.as_tensor(array).flatten() for array in (data.actions, data.advantages, data.returns)
    )
    advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    with torch.no_grad():
        before = Categorical(logits=policy.actor(observations)).log_prob(actions)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(actions)).chunk(MINIBATCHES):
            chosen = Categorical(logits=policy.actor(observations[rows]))
            ratio = (chosen.log_prob(actions[rows]) - before[rows]).exp()
            gain = torch.min(ratio * advantages[rows], ratio.clamp(1 - CLIP, 1 + CLIP) * advantages[rows])
            error = policy.critic(observations[rows]).squeeze(-1) - returns[rows]
            loss = -gain.mean() + 0.5 * error.square().mean() - ENTROPY * chosen.entropy().mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(policy.parameters(), 0.5)
            optimizer.step()


class Scores:
    """Mean |advantage| of each finished episode: what the level still has to teach."""

    def __init__(self, n: int) -> None:
        self.open: list[list[float]] = [[] for _ in range(n)]

    def finished(self, data: Rollout) -> dict[str, list[object]]:
        tasks, scores = [], []
        for t, dones in enumerate(data.dones):
            for e, done in enumerate(dones):
                self.open[e].append(abs(float(data.advantages[t, e])))
                if done:
                    tasks.append(tuple(data.tasks[t, e].tolist()))
                    scores.append(float(np.mean(self.open[e])))
                    self.open[e].clear()
        return {"tasks": tasks, "scores": scores}


def wins_against_random(policy: Policy, games: int, first_level: int) -> tuple[float, float]:
    """Shares of won and lost games on levels that were never trained on, both seats."""
    env, rng, outcomes = apple_race_v0.parallel_env(), np.random.default_rng(0), []
    for game in range(games):
        own, other = SEATS if game % 2 == 0 else SEATS[::-1]
        observations, _ = env.reset(seed=first_level + game // 2)
        score = 0.0
        while env.agents:
            action = int(policy.act(observations[own][None])[0])
            observations, rewards, *_ = env.step({own: action, other: int(rng.integers(5))})
            score += rewards[own]
        outcomes.append(score)
    return float(np.mean(np.array(outcomes) > 0)), float(np.mean(np.array(outcomes) < 0))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="a few seconds' worth, to see that it runs")
    parser.add_argument("--steps", type=int, default=600_000, help="learner steps")
    parser.add_argument("--levels", type=int, default=200, help="number of training levels")
    parser.add_argument(
        "--envs", type=int, default=32, help="number of environments, half of them for each seat"
    )
    parser.add_argument("--pool", help="folder for the snapshots; by default a temporary one")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    length, games = (32, 20) if args.smoke else (128, 200)
    args.steps = 6 * length * args.envs if args.smoke else args.steps
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)

    env = apple_race_v0.parallel_env()
    policy = Policy(env.observation_space(SEATS[0]).shape[0], int(env.action_space(SEATS[0]).n))
    optimizer = torch.optim.Adam(policy.parameters(), lr=1e-3, eps=1e-5)
    with tempfile.TemporaryDirectory() as folder:
        pool = AgentPool(args.pool or folder)
        pool.add(policy.snapshot(), step=0)
        # (1) One curriculum for levels, one for opponents, together; and its handle in every environment.
        levels = PrioritizedLevelReplay(
            DiscreteTaskSpace(args.levels), rho=0.0, temperature=1.0, seed=args.seed
        )
        rivals = PrioritizedFictitiousSelfPlay(pool, exploration=0.1, seed=args.seed + 1)
        curriculum = make_local_curriculum(DualCurriculumWrapper(levels, rivals))
        seats = [
            Seat(
                PettingZooSyncWrapper(
                    SeedTaskWrapper(apple_race_v0.parallel_env()),
                    curriculum.components,
                    learners=[SEATS[e % 2]],
                ),
                SEATS[e % 2],
            )
            for e in range(args.envs)
        ]
        opponents, scores = Opponents(pool, policy), Scores(args.envs)
        updates = args.steps // (length * args.envs)
        for number in range(1, updates + 1):
            data = collect(policy, opponents, seats, length)
            curriculum.update_on_demand(scores.finished(data))  # (3) scores that only the learner knows
            update(policy, optimizer, data)
            if number % max(1, updates // 12) == 0:
                told = curriculum.metrics()
                print(
                    f"step {number * length * args.envs:7}  episodes {told['sync/episodes']:6.0f}  "
                    f"levels seen {told['env/seen_fraction']:4.0%}, replayed {told['env/replay_share']:4.0%}  "
                    f"pool {len(pool):2}  wins against it {told['agent/win_rate_mean']:4.0%}"
                )
                pool.add(policy.snapshot(), step=number)  # (4) a new opponent, from the next reset on
        won, lost = wins_against_random(policy, games, first_level=args.levels)
        print(f"against random moves on {games // 2} unseen levels: won {won:.0%}, lost {lost:.0%}")
        first = [rivals.payoffs.win_rate("learner", snapshot) for snapshot in pool.ids[:3]]
        print("latest win rates against the first three snapshots:", *(f"{rate:.0%}" for rate in first))
        for seat in seats:
            seat.env.close()
        curriculum.close()


if __name__ == "__main__":
    main()

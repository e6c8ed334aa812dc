"""A single-agent curriculum on a multi-agent environment: Prioritized Level Replay on simple_spread.

Three agents have to cover three landmarks; a level is a reset seed. MultiagentSharedCurriculumWrapper makes every agent
a stream of experience for one curriculum. The environment sends its steps by itself, and the curriculum scores them
with the learner's critic, which it was given once: the learning loop does not know that there is a curriculum. Needs
mpe2; the policy is linear, in NumPy.

    python single_agent_curriculum.py [--smoke] [--episodes N]
"""

from __future__ import annotations

import argparse

import numpy as np
from mpe2 import simple_spread_v3

from macurr import Evaluator, make_local_curriculum
from macurr.curricula import PrioritizedLevelReplay
from macurr.wrappers import MultiagentSharedCurriculumWrapper, PettingZooSyncWrapper, SeedTaskWrapper

GAMMA = 0.95


class Learner:
    """A softmax policy and a critic, both linear in the observation, shared by all agents."""

    def __init__(self, features: int, actions: int, rng: np.random.Generator) -> None:
        self.policy = np.zeros((features + 1, actions))
        self.critic = np.zeros(features + 1)
        self.rng = rng

    def features(self, observations: np.ndarray) -> np.ndarray:
        """Observations, shape (n, features), with a constant."""
        return np.concatenate([observations, np.ones((len(observations), 1))], axis=1)

    def act(self, observations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """An action for each row, and all probabilities."""
        logits = self.features(observations) @ self.policy
        chances = np.exp(logits - logits.max(axis=1, keepdims=True))
        chances /= chances.sum(axis=1, keepdims=True)
        return (self.rng.random((len(chances), 1)) > chances.cumsum(axis=1)).sum(axis=1), chances

    def values(self, observations: np.ndarray) -> np.ndarray:
        return self.features(observations) @ self.critic

    def learn(self, seen: np.ndarray, actions: np.ndarray, chances: np.ndarray, rewards: np.ndarray) -> None:
        """Actor-critic from one episode of T steps and A agents: arrays of shape (T, A, ...)."""
        returns, total = np.zeros_like(rewards), np.zeros(rewards.shape[1])
        for t in reversed(range(len(rewards))):
            returns[t] = total = rewards[t] + GAMMA * total
        rows = self.features(seen.reshape(-1, seen.shape[-1]))
        errors = returns.ravel() - rows @ self.critic
        self.critic += 0.1 * rows.T @ errors / len(rows)
        wanted = np.eye(chances.shape[-1])[actions.ravel()] - chances.reshape(-1, chances.shape[-1])
        self.policy += 0.3 * rows.T @ (wanted * (errors / (errors.std() + 1e-6))[:, None]) / len(rows)


class Critic(Evaluator):
    """What the curriculum may ask of the learner: its values, as they are at that moment."""

    def __init__(self, learner: Learner) -> None:
        self.learner = learner

    def values(self, observations: np.ndarray) -> np.ndarray:
        return self.learner.values(np.asarray(observations, dtype=float))


def play(env: PettingZooSyncWrapper, learner: Learner) -> tuple[float, int]:
    """One episode, then a step of learning. Nothing here is about the curriculum.

    Returns:
        The mean return of an agent, and the level, which is there for those who want to know it.
    """
    observations, infos = env.reset()
    level = infos[env.agents[0]]["task"]
    steps = []
    while env.agents:
        seen = np.array([observations[agent] for agent in env.agents], dtype=float)
        actions, chances = learner.act(seen)
        observations, rewards, *_ = env.step(dict(zip(env.agents, actions.tolist(), strict=True)))
        steps.append((seen, actions, chances, np.array(list(rewards.values()))))
    seen, actions, chances, rewards = (np.array(column) for column in zip(*steps, strict=True))
    learner.learn(seen, actions, chances, rewards)
    return float(rewards.sum(axis=0).mean()), level


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="a few seconds' worth, to see that it runs")
    parser.add_argument("--episodes", type=int, default=3000)
    parser.add_argument("--levels", type=int, default=40, help="number of seeds")
    args = parser.parse_args()
    episodes = 60 if args.smoke else args.episodes

    env = SeedTaskWrapper(simple_spread_v3.parallel_env(max_cycles=25), args.levels)
    agents = env.possible_agents
    learner = Learner(
        env.observation_space(agents[0]).shape[0],
        int(env.action_space(agents[0]).n),
        np.random.default_rng(0),
    )
    levels = PrioritizedLevelReplay(
        env.task_space,
        strategy="value_l1",
        rho=0.0,  # replay from the start
        temperature=1.0,  # and not the first few levels alone
        alpha=0.3,  # three agents score each episode: a moving average of all of them
        gamma=GAMMA,
        evaluator=Critic(learner),
        seed=0,
    )
    with make_local_curriculum(MultiagentSharedCurriculumWrapper(levels, agents)) as curriculum:
        env = PettingZooSyncWrapper(env, curriculum.components)
        returns, played = [], np.zeros(args.levels, int)
        for episode in range(episodes):
            episode_return, level = play(env, learner)
            returns.append(episode_return)
            played[level] += 1
            if (episode + 1) % (episodes // 6) == 0:
                told = curriculum.metrics()
                print(
                    f"episode {episode + 1:5}  mean return of an agent {np.mean(returns[-episodes // 6 :]):7.2f}  "
                    f"levels seen {told['seen_fraction']:4.0%}, replayed {told['replay_share']:4.0%}, "
                    f"mean score {told['score_mean']:.3f}"
                )
        env.close()
        likely = curriculum.distribution()
    print("played most:", ", ".join(f"level {i} ({played[i]} times)" for i in np.argsort(-played)[:5]))
    print("most likely next:", ", ".join(f"level {i} ({likely[i]:.0%})" for i in np.argsort(-likely)[:5]))


if __name__ == "__main__":
    main()

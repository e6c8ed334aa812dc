"""A curriculum of one's own in twenty lines, and its tests for nothing.

`Frontier` draws tasks by p * (1 - p), where p is how often the task has been won: tasks that are sometimes won and
sometimes lost, rather than those that always or never are. It says what it draws (`distribution`), learns from results
(`update_on_episode`) and can be saved (`state_dict`). macurr.testing.CurriculumTests checks what every curriculum
promises; under pytest the subclass below is found by itself: `pytest custom_curriculum.py`.

    python custom_curriculum.py [--smoke]
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import numpy as np

from macurr import Curriculum, DiscreteTaskSpace, StateError, make_local_curriculum
from macurr.envs import apple_race_v0
from macurr.testing import CurriculumTests
from macurr.wrappers import PettingZooSyncWrapper, ReinitTaskWrapper

SIZES = [5, 7, 9, 11, 13]


class Frontier(Curriculum):
    """Tasks that the learners sometimes win."""

    def __init__(self, task_space: DiscreteTaskSpace, rate: float = 0.1, **options: Any) -> None:
        super().__init__(task_space, **options)
        self.rate = rate
        self.won = np.full(task_space.num_tasks, 0.5)

    def distribution(self) -> np.ndarray:
        weights = self.won * (1 - self.won) + 0.01
        return weights / weights.sum()

    def _sample(self, k: int) -> list[Any]:
        return self.rng.choice(len(self.won), size=k, p=self.distribution()).tolist()

    def update_on_episode(
        self, episode_return: Any, length: int, task: Any, progress: Any, env_id: int | None = None
    ) -> None:
        super().update_on_episode(
            episode_return, length, task, progress, env_id
        )  # checks, and keeps statistics
        won = max(episode_return.values()) > 0  # returns come by agent
        self.won[task] += self.rate * (won - self.won[task])

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "won": self.won.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        won = state.get("won") if isinstance(state, Mapping) else None
        if np.shape(won) != self.won.shape or not all(0 <= share <= 1 for share in won):
            raise StateError(f"'won' must be {len(self.won)} shares from 0 to 1; got {won!r}.")
        super().load_state_dict(state)  # which refuses what belongs to another kind of curriculum
        self.won = np.array(won)


class TestFrontier(CurriculumTests):
    """What every curriculum promises."""

    def make(self, seed: int) -> Frontier:
        return Frontier(DiscreteTaskSpace(5), seed=seed)


def check() -> None:
    """Run the tests without pytest."""
    tests = [name for name in dir(TestFrontier) if name.startswith("test_")]
    for name in tests:
        getattr(TestFrontier(), name)()
        print("passed:", name.removeprefix("test_").replace("_", " "))


def train(episodes: int) -> None:
    """Two players that move at random: in which sizes of maze does anybody get more apples than the other?"""
    space = DiscreteTaskSpace(SIZES)
    curriculum = Frontier(space, seed=0)
    with make_local_curriculum(curriculum) as synced:
        env = ReinitTaskWrapper(
            lambda size: apple_race_v0.parallel_env(size=size, apples=1), space, first_task=5
        )
        env = PettingZooSyncWrapper(env, synced.components)
        for _ in range(episodes):
            env.reset()
            while env.agents:
                env.step({agent: env.action_space(agent).sample() for agent in env.agents})
        env.close()
    for size, won, chance in zip(SIZES, curriculum.won, curriculum.distribution(), strict=True):
        print(f"size {size:2}: decided {won:4.0%} of the time, drawn with probability {chance:4.0%}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="a few seconds' worth, to see that it runs")
    args = parser.parse_args()
    check()
    train(episodes=100 if args.smoke else 3000)


if __name__ == "__main__":
    main()

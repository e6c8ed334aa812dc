"""Self-play in a turn-based game: tic-tac-toe against past selves, through AECSyncWrapper.

The task of a game is its opponent: a snapshot from the pool, chosen by how hard it is to beat. The learner has one
seat and the snapshot the other; the wrapper reports each result by itself, and knows whose reward is whose even
though the loser is paid on the winner's turn. The policy is a table of what a position is worth after one's own move.
Needs the packages of pettingzoo[classic].

    python turn_based.py [--smoke] [--games N]
"""

from __future__ import annotations

import argparse
import tempfile

import numpy as np
from pettingzoo.classic.tictactoe import tictactoe

from macurr import make_local_curriculum
from macurr.curricula import PrioritizedFictitiousSelfPlay
from macurr.opponents import AgentPool
from macurr.wrappers import AECSyncWrapper

SEATS = ("player_1", "player_2")
POWERS = 3 ** np.arange(9)
RATE, EXPLORE = 0.1, 0.1


def positions(observation: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The legal moves, and the number of the position after each: own squares count 1, the opponent's 2."""
    own, other = observation["observation"][..., 0].ravel(), observation["observation"][..., 1].ravel()
    moves = np.flatnonzero(observation["action_mask"])
    return moves, (own + 2 * other) @ POWERS + POWERS[moves]


def choose(
    table: np.ndarray, observation: dict[str, np.ndarray], rng: np.random.Generator, explore: float
) -> tuple[int, int]:
    """A move and the number of the position after it: the best, ties broken evenly, or sometimes any."""
    moves, after = positions(observation)
    values = table[after] if rng.random() >= explore else np.zeros(len(moves))
    best = rng.choice(np.flatnonzero(values == values.max()))
    return int(moves[best]), int(after[best])


def play(
    env: AECSyncWrapper,
    learner: str,
    table: np.ndarray,
    pool: AgentPool,
    rng: np.random.Generator,
    explore: float = EXPLORE,
) -> tuple[list[int], float]:
    """One game; returns the positions that the learner left behind, and its result."""
    env.reset()
    opponent = pool.get(env.infos[learner]["task"])["values"]
    visited = []
    for agent in env.agent_iter():
        observation, _, terminated, truncated, _ = env.last()
        if terminated or truncated:
            break  # the game is over for both; nothing is lost by leaving here
        if agent == learner:
            action, after = choose(table, observation, rng, explore)
            visited.append(after)
        else:
            action, _ = choose(opponent, observation, rng, 0.0)
        env.step(action)
    return visited, env.rewards[learner]


def learn(table: np.ndarray, visited: list[int], result: float) -> None:
    """Temporal differences, from the end backwards."""
    target = result
    for position in reversed(visited):
        table[position] += RATE * (target - table[position])
        target = table[position]


def evaluate(table: np.ndarray, games: int) -> str:
    """Results against random moves, both seats."""
    env, rng = tictactoe.env(), np.random.default_rng(1)
    idle, results = np.zeros_like(table), []
    for game in range(games):
        own = SEATS[game % 2]
        env.reset()
        for agent in env.agent_iter():
            observation, _, terminated, truncated, _ = env.last()
            if terminated or truncated:
                break
            env.step(choose(table if agent == own else idle, observation, rng, 0.0)[0])
        results.append(env.rewards[own])
    won, lost = np.mean(np.array(results) > 0), np.mean(np.array(results) < 0)
    return f"won {won:.0%}, lost {lost:.0%}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="a few seconds' worth, to see that it runs")
    parser.add_argument("--games", type=int, default=30_000)
    args = parser.parse_args()
    games, snapshots, judged = (400, 4, 100) if args.smoke else (args.games, 20, 500)
    rng = np.random.default_rng(0)
    table = np.zeros(3**9, np.float32)
    with tempfile.TemporaryDirectory() as folder:
        pool = AgentPool(folder)
        pool.add({"values": table}, games=0)  # knows nothing: all moves alike
        opponents = PrioritizedFictitiousSelfPlay(pool, weighting="hard", exploration=0.05, seed=0)
        with make_local_curriculum(opponents) as curriculum:
            # One environment for each seat: the curriculum has to know which agents are learners.
            envs = {
                seat: AECSyncWrapper(tictactoe.env(), curriculum.components, learners=[seat])
                for seat in SEATS
            }
            print(f"before: {evaluate(table, judged)} against random moves")
            for game in range(1, games + 1):
                seat = SEATS[game % 2]
                visited, result = play(envs[seat], seat, table, pool, rng)
                learn(table, visited, result)
                if game % (games // snapshots) == 0:
                    told = curriculum.metrics()
                    print(
                        f"game {game:6}  pool {len(pool):2}  wins (draws half) against it: mean "
                        f"{told['win_rate_mean']:.2f}, hardest {told['win_rate_min']:.2f}  "
                        f"against random moves: {evaluate(table, judged)}"
                    )
                    pool.add({"values": table}, games=game)
            for env in envs.values():
                env.close()
        likely = dict(zip(pool.ids, opponents.distribution(), strict=True))
        print("hardest to beat:", sorted(likely, key=likely.__getitem__)[-3:], "of snapshots", pool.ids)


if __name__ == "__main__":
    main()

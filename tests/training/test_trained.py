"""Policies of runs in the user's own hands."""

import numpy as np
import pytest
import torch

from macurr.envs import apple_race_v0
from macurr.errors import ConfigError
from macurr.training import TrainConfig, load_policy, train
from macurr.training.distributions import Discrete, Gaussian, MultiDiscrete
from tests.support.tournaments import AUCTION, planted


def test_modes_by_hand():
    assert Discrete(3).mode(torch.tensor([[0.0, 2.0, 1.0]]), None).tolist() == [1]
    assert Discrete(3).mode(
        torch.tensor([[0.0, 2.0, 1.0]]), torch.tensor([[True, False, True]])
    ).tolist() == [2]
    parts = MultiDiscrete([2, 3])
    assert parts.mode(torch.tensor([[1.0, 0.0, 0.0, 5.0, 2.0]]), None).tolist() == [[0, 1]]
    allowed = torch.tensor([[False, True, True, False, True]])
    assert parts.mode(torch.tensor([[1.0, 0.0, 0.0, 5.0, 2.0]]), allowed).tolist() == [[1, 2]]
    assert Gaussian(2).mode(torch.tensor([[0.5, -1.0, 0.0, 3.0]]), None).tolist() == [[0.5, -1.0]]


def test_each_agent_is_played_by_its_policy_and_snapshots_by_their_names(tmp_path):
    run = planted(
        tmp_path / "r",
        AUCTION,
        3,
        3,
        [0, 2],
        env_args={"agents": 2},
        past=[[1, 1]],
        num_policies=2,
        mapping="tests.support.tournaments:by_parity",
    )
    seen = {agent: np.zeros(1, np.float32) for agent in ("bidder_0", "bidder_1")}
    assert load_policy(run).act(seen) == {"bidder_0": 0, "bidder_1": 2}
    assert load_policy(f"{run}:0").act(seen) == {"bidder_0": 1, "bidder_1": 1}
    assert load_policy(f"{run}@100").act({"bidder_1": seen["bidder_1"]}) == {"bidder_1": 2}
    chances = load_policy(run).probabilities("bidder_1", seen["bidder_1"])
    assert chances.tolist() == pytest.approx([0, 0, 1])
    with pytest.raises(ConfigError, match="none of the agents"):
        load_policy(run).act({"stranger": seen["bidder_0"]})


@pytest.fixture(scope="module")
def remembering(tmp_path_factory):
    config = TrainConfig.of(
        steps=256,
        workers=1,
        transport="local",
        envs_per_worker=4,
        rollout=16,
        hidden=(8,),
        recurrent="gru",
        recurrent_size=4,
        normalize_observations=True,
        seeds=1,
        matrix_seeds=1,
        report=False,
        out=str(tmp_path_factory.mktemp("runs") / "gru"),
    )
    return train(config).run.path


def test_a_policy_plays_whole_episodes_with_a_memory_that_can_be_wiped(remembering):
    env = apple_race_v0.parallel_env()
    policy = load_policy(remembering, seed=3)
    lengths, before = [], []
    for _ in range(2):
        observations, _ = env.reset(seed=5)
        policy.reset()
        before.append(policy.probabilities("player_0", observations["player_0"]))
        assert np.array_equal(before[-1], policy.probabilities("player_0", observations["player_0"]))
        steps = 0
        while env.agents:
            observations, *_ = env.step(policy.act(observations))
            steps += 1
        lengths.append(steps)
    assert min(lengths) > 1
    assert np.array_equal(*before), "reset() forgets the first episode"
    assert before[0].sum() == pytest.approx(1.0)
    observations, _ = env.reset(seed=5)
    assert not np.array_equal(before[0], policy.probabilities("player_0", observations["player_0"]))


def test_choices_are_by_the_seed_or_greedy(remembering):
    observations, _ = apple_race_v0.parallel_env().reset(seed=1)
    drawn = [
        [load_policy(remembering, seed=s).act(observations)["player_0"] for s in range(8)] for _ in range(2)
    ]
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) > 1
    policy = load_policy(remembering)
    likeliest = int(policy.probabilities("player_0", observations["player_0"]).argmax())
    assert policy.act(observations, greedy=True)["player_0"] == likeliest


def test_illegal_moves_are_never_chosen(tmp_path):
    run = planted(tmp_path / "ttt", "pettingzoo.classic.tictactoe_v3", 20, 9, 4)
    policy = load_policy(run)
    board = {
        "observation": np.zeros((3, 3, 2), np.int8),
        "action_mask": np.array([1, 1, 0, 0, 0, 0, 0, 0, 1]),
    }
    assert {policy.act({"player_1": board})["player_1"] for _ in range(40)} <= {0, 1, 8}
    assert policy.probabilities("player_1", board)[4] == 0.0

import numpy as np
import pytest
from pettingzoo.utils import BaseParallelWrapper

from macurr.envs import apple_race_v0, bfs_policy, laser_tag_v0
from macurr.errors import UsageError
from tests.envs.support import apple_race, laser_tag, step


def test_it_takes_the_shortest_way_round_a_wall():
    env = apple_race("""
        0#*..
        .#.#.
        .#.#.
        ...#.
        ####1
    """)
    taken = []
    while env.agents:
        taken.append(bfs_policy(env, "player_0"))
        step(env, taken[-1], 0)
    assert taken == [3, 3, 3, 2, 2, 1, 1, 1]


def test_it_goes_for_the_nearest_by_steps_not_by_air():
    env = apple_race("""
        *..0#*
        ###.#.
        ###.#.
        ###...
        ######
        #####1
    """)
    assert bfs_policy(env, "player_0") == 4
    assert env.reset()[0]["player_0"][147:150] == pytest.approx([1, 0, 2 / 24])  # what the compass says


def test_it_stays_where_nothing_can_be_reached():
    env = apple_race("0#* ##. ..1")
    assert bfs_policy(env, "player_0") == 0
    tag = laser_tag("0#. ##. ..1", (0, 0))
    assert bfs_policy(tag, "player_0") == 0


def test_it_turns_the_shorter_way_goes_and_fires():
    env = laser_tag(
        """
        0..
        ##.
        ..1
    """,
        (3, 3),
    )
    taken = []
    while env.agents:
        taken.append(bfs_policy(env, "player_0"))
        last = step(env, taken[-1], 0)
    assert taken == [2, 2, 3, 3, 2, 4]
    assert last == (1.0, True, False)
    assert bfs_policy(laser_tag("..1 ... 0..", (1, 0)), "player_0") == 1


@pytest.mark.parametrize(("game", "margin"), [(apple_race_v0, 0.95), (laser_tag_v0, 0.75)])
@pytest.mark.parametrize("seat", [0, 1])
def test_it_beats_random_play_from_both_seats(game, margin, seat):
    env, rng = game.parallel_env(), np.random.default_rng(0)
    wins = []
    for seed in range(40):
        env.reset(seed=seed)
        total, agent = 0.0, env.possible_agents[seat]
        while env.agents:
            actions = {each: int(rng.integers(5)) for each in env.agents}
            actions[agent] = bfs_policy(env, agent)
            total += env.step(actions)[1][agent]
        wins.append(total > 0)
    assert np.mean(wins) >= margin


def test_it_sees_through_wrappers_and_the_aec_side():
    plain = apple_race_v0.parallel_env()
    plain.reset(seed=3)
    expected = bfs_policy(plain, "player_1")
    wrapped = BaseParallelWrapper(apple_race_v0.parallel_env())
    wrapped.reset(seed=3)
    aec = apple_race_v0.env()
    aec.reset(seed=3)
    assert bfs_policy(wrapped, "player_1") == bfs_policy(aec, "player_1") == expected


def test_refusals():
    with pytest.raises(UsageError, match="grid games"):
        bfs_policy(object(), "player_0")
    env = apple_race_v0.parallel_env(max_cycles=1)
    with pytest.raises(UsageError, match="reset"):
        bfs_policy(env, "player_0")
    env.reset(seed=0)
    with pytest.raises(UsageError, match="no agent 'player_2'"):
        bfs_policy(env, "player_2")

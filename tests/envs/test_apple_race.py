import numpy as np
import pytest

from macurr.envs import apple_race_v0
from macurr.envs._maze import distances
from tests.envs.support import AGENTS, apple_race, episode, score, step

STAY, UP, RIGHT, DOWN, LEFT = range(5)


def _at(env):
    return tuple(divmod(place, env.current_level.width) for place in env._players)


def test_moves_and_walls():
    env = apple_race("""
        0.#
        ...
        *.1
    """)
    assert _at(env) == ((1, 1), (3, 3))
    for first, second, expected in [
        (UP, DOWN, ((1, 1), (3, 3))),  # the border
        (RIGHT, UP, ((1, 2), (2, 3))),
        (RIGHT, UP, ((1, 2), (2, 3))),  # the wall
        (DOWN, LEFT, ((2, 2), (2, 2))),  # a shared cell
        (LEFT, STAY, ((2, 1), (2, 2))),
        (RIGHT, LEFT, ((2, 2), (2, 1))),  # through each other
    ]:
        assert step(env, first, second) == (0.0, False, False)
        assert _at(env) == expected


def test_an_apple_pays_one_and_costs_one_and_the_last_ends_the_game():
    env = apple_race("""
        0*.
        ...
        .*1
    """)
    assert step(env, RIGHT, STAY) == (1.0, False, False)
    assert step(env, LEFT, STAY) == (0.0, False, False)
    assert step(env, RIGHT, LEFT) == (-1.0, True, False)
    assert env.agents == []


@pytest.mark.parametrize(
    ("picture", "moves", "left"),
    [
        ("0*1 ... ...", (RIGHT, LEFT), 0),  # the same apple, the last
        ("0.. **. 1..", (DOWN, UP), 1),  # the same apple
        ("0*. ... .*1", (RIGHT, LEFT), 0),  # an apple each
    ],
)
def test_players_who_reach_apples_in_the_same_cycle_gain_nothing(picture, moves, left):
    env = apple_race(picture)
    assert step(env, *moves) == (0.0, left == 0, False)
    assert env.state()[1].sum() == left


def test_truncation_is_after_max_cycles_and_never_with_termination():
    env = apple_race("0.. ... *.1", max_cycles=2)
    assert step(env, STAY, STAY) == (0.0, False, False)
    assert step(env, STAY, STAY) == (0.0, False, True)
    assert env.agents == []
    env.reset()
    step(env, DOWN, STAY)
    assert step(env, DOWN, STAY) == (1.0, True, False)


def test_observation_by_hand():
    env = apple_race(
        """
        0.#
        *..
        .1*
    """,
        view=3,
        max_cycles=10,
    )
    first = env.reset()[0]["player_0"]
    walls, apples, other = first[:27].reshape(3, 3, 3)
    assert walls.tolist() == [[1, 1, 1], [1, 0, 0], [1, 0, 0]]
    assert apples.tolist() == [[0, 0, 0], [0, 0, 0], [0, 1, 0]]
    assert other.tolist() == [[0, 0, 0]] * 3  # two rows down: out of sight
    # One step down to the apple, of at most 24; one right and two down to the opponent; all time left; no lead.
    assert first[27:] == pytest.approx([0, 1, 1 / 24, 1 / 3, 2 / 3, 3 / 24, 1, 0])
    observations, *_ = env.step({"player_0": DOWN, "player_1": STAY})
    walls, apples, other = observations["player_0"][:27].reshape(3, 3, 3)
    assert walls.tolist() == [[1, 0, 0], [1, 0, 0], [1, 0, 0]]
    assert apples.sum() == 0
    assert other.tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 1]]
    assert observations["player_0"][27:] == pytest.approx([2 / 3, 1 / 3, 3 / 24, 0.5, 0.5, 2 / 24, 0.9, 0.5])
    assert observations["player_1"][27:] == pytest.approx([1, 0, 1 / 24, -0.5, -0.5, 2 / 24, 0.9, -0.5])


def _expected_observation(env, seat, sight):
    """What a player should see, cell by cell, from the global state."""
    side = env._parameters.view
    walls, apples, *players = env.state()[:4]
    size = env.current_level.size
    (row,), (column,) = np.nonzero(players[seat])
    (other_row,), (other_column,) = np.nonzero(players[1 - seat])
    planes = np.zeros((3, side, side))
    for i, j in np.ndindex(side, side):
        down, right = i - side // 2, j - side // 2
        y, x = row + down, column + right
        if max(abs(down), abs(right)) > sight // 2:
            continue
        inside = 0 <= y < size and 0 <= x < size
        planes[0, i, j] = walls[y, x] if inside else 1
        planes[1, i, j] = apples[y, x] if inside else 0
        planes[2, i, j] = (y, x) == (other_row, other_column)

    def compass(y, x):
        distance = abs(y - row) + abs(x - column)
        return [(x - column) / max(distance, 1), (y - row) / max(distance, 1), distance / 24]

    left = np.argwhere(apples).tolist()
    nearest = (
        min(left, key=lambda cell: (abs(cell[0] - row) + abs(cell[1] - column), *cell)) if left else None
    )
    return np.concatenate(
        [planes.ravel(), compass(*nearest) if left else [0] * 3, compass(other_row, other_column)]
    )


@pytest.mark.parametrize(("options", "sight"), [(None, 7), ({"view": 3}, 3), ({"size": 5, "view": 5}, 5)])
def test_observations_follow_from_the_state(options, sight):
    env = apple_race_v0.parallel_env()
    rng = np.random.default_rng(0)
    for seed in range(6):
        observations, _ = env.reset(seed=seed, options=options)
        lead, n_apples = 0.0, len(env.current_level.apples)
        for cycle in range(60):
            for seat, agent in enumerate(AGENTS):
                expected = _expected_observation(env, seat, sight)
                np.testing.assert_allclose(observations[agent][:-2], expected, atol=1e-6)
                assert observations[agent][-2] == pytest.approx(1 - cycle / 60)
                assert observations[agent][-1] == pytest.approx((lead if seat == 0 else -lead) / n_apples)
            if not env.agents:
                break
            first, second = rng.integers(5, size=2).tolist()
            observations, rewards, *_ = env.step({"player_0": first, "player_1": second})
            lead += rewards["player_0"]


def test_the_seed_decides_the_level_within_its_ranges():
    env = apple_race_v0.parallel_env()
    levels = [env.level(seed) for seed in range(400)]
    assert {level.size for level in levels} == set(range(5, 14))
    assert {len(level.apples) for level in levels} == set(range(3, 10))
    densities = [level.density for level in levels]
    assert min(densities) < 0.03
    assert 0.39 < max(densities) <= 0.42 + 0.5 / 25
    assert len({level.cells for level in levels}) > 380
    assert levels[:20] == [apple_race_v0.parallel_env().level(seed) for seed in range(20)]
    env.reset(seed=11)
    assert env.current_level == levels[11]


def test_levels_are_sound():
    env = apple_race_v0.parallel_env()
    for seed in range(200):
        level = env.level(seed)
        things = [*level.starts, *level.apples]
        assert len(set(things)) == len(things)
        assert not any(level.walls[cell] for cell in things)
        away = distances(level.cells, level.width, [level.index(level.starts[0])])
        assert all(away[level.index(cell)] >= 0 for cell in things)
        assert sum(distance >= 0 for distance in away) == (~level.walls).sum()


def test_apples_may_be_out_of_reach_when_asked_for():
    env = apple_race_v0.parallel_env(density=0.5, size=9)
    cut_off = 0
    for seed in range(50):
        level = env.level(seed, {"reachable": False})
        away = distances(level.cells, level.width, map(level.index, level.starts))
        cut_off += any(away[level.index(cell)] < 0 for cell in level.apples)
    assert cut_off > 25


def test_fixing_one_parameter_of_a_seed_keeps_its_others():
    env = apple_race_v0.parallel_env()
    for seed in range(30):
        level, open_level = env.level(seed), env.level(seed, {"density": 0})
        assert open_level.density == 0
        assert (open_level.size, len(open_level.apples)) == (level.size, len(level.apples))
        assert env.level(seed, {"apples": 4}).starts == level.starts
        assert env.level(seed, {"apples": 4}).cells == level.cells
        resized = env.level(seed, {"size": 9})
        assert abs(resized.density - level.density) <= 0.5 / 81 + 0.5 / level.size**2


def test_exchanged_seats_are_the_same_game_with_exchanged_names():
    one, other = apple_race_v0.parallel_env(), apple_race_v0.parallel_env(swap_seats=True)
    rng = np.random.default_rng(0)
    for seed in range(20):
        seen, mirrored = one.reset(seed=seed)[0], other.reset(seed=seed)[0]
        while True:
            np.testing.assert_array_equal(seen["player_0"], mirrored["player_1"])
            np.testing.assert_array_equal(seen["player_1"], mirrored["player_0"])
            if not one.agents:
                break
            first, second = rng.integers(5, size=2).tolist()
            seen, rewards, ends, *_ = one.step({"player_0": first, "player_1": second})
            mirrored, swapped, other_ends, *_ = other.step({"player_0": second, "player_1": first})
            assert rewards == {"player_0": swapped["player_1"], "player_1": swapped["player_0"]}
            assert ends == other_ends
        assert other.agents == []


def test_no_seat_is_better_in_random_play():
    env = apple_race_v0.parallel_env()
    rng = np.random.default_rng(1)
    scores = np.array([score(env, seed, rng) for seed in range(600)])
    assert scores.std() > 1.0
    assert abs(scores.mean()) < 3.0 * scores.std() / np.sqrt(len(scores))


def test_narrow_view_hides_what_lies_beyond_for_one_episode_only():
    env = apple_race_v0.parallel_env()
    wide = env.reset(seed=5)[0]["player_0"]
    narrow = env.reset(seed=5, options={"view": 3})[0]["player_0"]
    assert (
        narrow[:147].reshape(3, 7, 7)[:, 2:5, 2:5].tolist()
        == wide[:147].reshape(3, 7, 7)[:, 2:5, 2:5].tolist()
    )
    assert narrow[:147].reshape(3, 7, 7).sum() == narrow[:147].reshape(3, 7, 7)[:, 2:5, 2:5].sum()
    np.testing.assert_array_equal(env.reset(seed=5)[0]["player_0"], wide)


def test_state_by_hand():
    env = apple_race("0.# *.. ..1", max_cycles=4, size=(5, 6))
    step(env, RIGHT, LEFT)
    walls, apples, first, second, time = env.state()
    assert walls.shape == (6, 6)
    assert walls[:3, :3].tolist() == [[0, 0, 1], [0, 0, 0], [0, 0, 0]]
    assert walls.sum() == 36 - 8
    assert np.argwhere(apples).tolist() == [[1, 0]]
    assert np.argwhere(first).tolist() == [[0, 1]]
    assert np.argwhere(second).tolist() == [[2, 1]]
    assert (time == 0.75).all()


def test_levels_of_one_seed_differ_in_nothing_but_what_options_say():
    env = apple_race_v0.parallel_env()
    plain = episode(env, 3)
    np.testing.assert_equal(episode(env, 3, {"density": (0.0, 0.42), "unknown to us": object()}), plain)

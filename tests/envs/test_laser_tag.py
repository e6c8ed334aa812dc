import numpy as np
import pytest

from macurr.envs import laser_tag_v0
from macurr.envs._maze import distances
from tests.envs.support import AGENTS, laser_tag, score, step

STAY, LEFT_TURN, RIGHT_TURN, FORWARD, FIRE = range(5)
UP, RIGHT, DOWN, LEFT = range(4)
ON = (0.0, False, False)


def _at(env):
    return tuple(divmod(place, env.current_level.width) for place in env._players)


def test_turns():
    env = laser_tag("0.. ... ..1", (UP, DOWN))
    for _ in range(3):
        step(env, LEFT_TURN, RIGHT_TURN)
    assert env._facings == (RIGHT, RIGHT)
    step(env, LEFT_TURN, RIGHT_TURN)
    assert env._facings == (UP, DOWN)


@pytest.mark.parametrize(
    ("picture", "facings", "actions", "expected"),
    [
        ("0.. ... ..1", (RIGHT, UP), (FORWARD, FORWARD), ((1, 2), (2, 3))),
        ("0#. ... ..1", (RIGHT, RIGHT), (FORWARD, FORWARD), ((1, 1), (3, 3))),  # wall and border
        ("0.1 ... ...", (RIGHT, LEFT), (FORWARD, FORWARD), ((1, 1), (1, 3))),  # the same cell
        ("01. ... ...", (RIGHT, LEFT), (FORWARD, FORWARD), ((1, 1), (1, 2))),  # each the other's
        ("01. ... ...", (RIGHT, RIGHT), (FORWARD, FORWARD), ((1, 2), (1, 3))),  # a cell being left
        ("01# ... ...", (RIGHT, RIGHT), (FORWARD, FORWARD), ((1, 1), (1, 2))),  # a cell not left after all
        ("01. ... ...", (RIGHT, RIGHT), (FORWARD, STAY), ((1, 1), (1, 2))),
        ("01. ... ...", (RIGHT, LEFT), (STAY, FORWARD), ((1, 1), (1, 2))),
    ],
)
def test_steps(picture, facings, actions, expected):
    env = laser_tag(picture, facings)
    assert step(env, *actions) == ON
    assert _at(env) == expected


@pytest.mark.parametrize(
    ("picture", "facings", "actions", "outcome"),
    [
        ("0.1 ... ...", (RIGHT, UP), (FIRE, STAY), (1.0, True, False)),
        ("0.1 ... ...", (UP, LEFT), (STAY, FIRE), (-1.0, True, False)),
        ("0.1 ... ...", (RIGHT, LEFT), (FIRE, FIRE), (0.0, True, False)),  # both: a draw
        ("0#1 ... ...", (RIGHT, LEFT), (FIRE, FIRE), ON),  # the wall between
        ("0.1 ... ...", (LEFT, UP), (FIRE, FIRE), ON),  # looking elsewhere
        ("0.1 ... ...", (RIGHT, DOWN), (FIRE, FORWARD), ON),  # stepped out of the beam
        ("0.. ..1 ...", (RIGHT, UP), (FIRE, FORWARD), (1.0, True, False)),  # stepped into it
        ("0.1 ... ...", (RIGHT, LEFT), (FIRE, RIGHT_TURN), (1.0, True, False)),
        ("0.. ... 1..", (DOWN, UP), (FIRE, STAY), (1.0, True, False)),
        ("1.. ... 0..", (UP, UP), (FIRE, STAY), (1.0, True, False)),
        ("1.0 ... ...", (LEFT, UP), (FIRE, STAY), (1.0, True, False)),
    ],
)
def test_beams(picture, facings, actions, outcome):
    env = laser_tag(picture, facings)
    assert step(env, *actions) == outcome
    assert (env.agents == []) is outcome[1]


def test_no_tag_is_a_draw_after_max_cycles():
    env = laser_tag("0.. ... ..1", (UP, UP), max_cycles=2)
    assert step(env, STAY, STAY) == ON
    assert step(env, STAY, STAY) == (0.0, False, True)


def test_observation_by_hand():
    env = laser_tag(
        """
        ....
        ..#1
        0...
        ....
    """,
        (RIGHT, UP),
        view=3,
        max_cycles=10,
        compass=True,
        size=7,
    )
    observations, _ = env.reset()
    walls, other = observations["player_0"][:18].reshape(2, 3, 3)
    # Looking right from the lower left: ahead is right on the map, to its right is down.
    assert walls.tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert other.sum() == 0
    assert observations["player_0"][18:23].tolist() == [0, 0, 0, 0, 1]
    # Three ahead and one to the left: (-1, -3) / 4, four of twelve steps.
    assert observations["player_0"][23:] == pytest.approx([-0.25, -0.75, 4 / 12])
    env.step({"player_0": FORWARD, "player_1": STAY})
    observations, *_ = env.step({"player_0": FORWARD, "player_1": LEFT_TURN})
    walls, other = observations["player_0"][:18].reshape(2, 3, 3)
    assert walls.tolist() == [[1, 1, 1], [0, 0, 0], [1, 0, 0]]
    assert other.tolist() == [[0, 0, 0], [1, 0, 0], [0, 0, 0]]
    # It looks left on the map: the opposite way.
    assert observations["player_0"][18:23] == pytest.approx([0, 0, 1, 0, 0.8])
    assert observations["player_0"][23:] == pytest.approx([-0.5, -0.5, 2 / 12])
    # The other looks left from the right border: the player is one to its left and one ahead.
    walls, other = observations["player_1"][:18].reshape(2, 3, 3)
    assert walls.tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert other.tolist() == [[0, 0, 0], [1, 0, 0], [0, 0, 0]]
    assert observations["player_1"][18:23] == pytest.approx([0, 0, 1, 0, 0.8])


AHEAD = {UP: (-1, 0), RIGHT: (0, 1), DOWN: (1, 0), LEFT: (0, -1)}


def _expected_observation(env, seat, sight):
    """What a player should see, cell by cell, from the global state."""
    state = env.state()
    side, size = env._parameters.view, env.current_level.size
    players = state[1:9].reshape(2, 4, *state.shape[1:])
    ((facing, row, column),) = np.argwhere(players[seat]).tolist()
    ((other_facing, *other),) = np.argwhere(players[1 - seat]).tolist()
    ahead, aside = AHEAD[facing], AHEAD[(facing + 1) % 4]
    planes = np.zeros((2, side, side))
    for forward in range(sight):
        for right in range(-(sight // 2), sight // 2 + 1):
            y, x = row + forward * ahead[0] + right * aside[0], column + forward * ahead[1] + right * aside[1]
            inside = 0 <= y < size and 0 <= x < size
            at = side - 1 - forward, side // 2 + right
            planes[0][at] = state[0, y, x] if inside else 1
            planes[1][at] = [y, x] == other
    looks = np.zeros(4)
    looks[(other_facing - facing) % 4] = planes[1].sum()
    return np.concatenate([planes.ravel(), looks])


@pytest.mark.parametrize(("options", "sight"), [(None, 7), ({"view": 5}, 5), ({"view": 3, "size": 6}, 3)])
def test_observations_follow_from_the_state(options, sight):
    env = laser_tag_v0.parallel_env()
    rng = np.random.default_rng(0)
    for seed in range(6):
        observations, _ = env.reset(seed=seed, options=options)
        cycle = 0
        while True:
            for seat, agent in enumerate(AGENTS):
                np.testing.assert_array_equal(
                    observations[agent][:-1], _expected_observation(env, seat, sight)
                )
                assert observations[agent][-1] == pytest.approx(1 - cycle / 100)
            if not env.agents:
                break
            first, second = rng.integers(4, size=2).tolist()  # nobody fires: the episode is long
            observations, *_ = env.step({"player_0": first, "player_1": second})
            cycle += 1


def test_levels_are_sound_and_no_player_starts_in_the_line_of_the_other():
    env = laser_tag_v0.parallel_env(density=(0.0, 0.6))
    facings = []
    for seed in range(300):
        level = env.level(seed)
        one, other = level.starts
        assert not level.walls[one]
        assert not level.walls[other]
        away = distances(level.cells, level.width, [level.index(one)])
        assert away[level.index(other)] > 1
        assert sum(distance >= 0 for distance in away) == (~level.walls).sum()
        for axis in (0, 1):
            if one[axis] == other[axis]:
                low, high = sorted([one[1 - axis], other[1 - axis]])
                line = level.walls[one[0], low:high] if axis == 0 else level.walls[low:high, one[1]]
                assert line.any()
        facings += level.facings
    assert np.bincount(facings).min() > 100


def test_neither_seat_starts_in_the_middle_more_often():
    # Who is drawn second is drawn from the cells that the first does not see; that must not show in the seats.
    env = laser_tag_v0.parallel_env(size=7, density=0)
    off_middle = []
    for seed in range(1500):
        starts = env.level(seed).starts
        off_middle.append([abs(row - 3) + abs(column - 3) for row, column in starts])
    difference = np.subtract(*np.array(off_middle, float).T)
    assert abs(difference.mean()) < 3.0 * difference.std() / np.sqrt(len(difference))


def test_exchanged_seats_are_the_same_game_with_exchanged_names():
    one, other = laser_tag_v0.parallel_env(compass=True), laser_tag_v0.parallel_env(compass=True)
    rng = np.random.default_rng(0)
    for seed in range(20):
        seen, mirrored = one.reset(seed=seed)[0], other.reset(seed=seed, options={"swap_seats": True})[0]
        while True:
            np.testing.assert_array_equal(seen["player_0"], mirrored["player_1"])
            np.testing.assert_array_equal(seen["player_1"], mirrored["player_0"])
            if not one.agents:
                break
            first, second = rng.integers(5, size=2).tolist()
            seen, rewards, *_ = one.step({"player_0": first, "player_1": second})
            mirrored, swapped, *_ = other.step({"player_0": second, "player_1": first})
            assert rewards == {"player_0": swapped["player_1"], "player_1": swapped["player_0"]}
        assert other.agents == []


def test_no_seat_is_better_in_random_play():
    env = laser_tag_v0.parallel_env()
    rng = np.random.default_rng(1)
    scores = np.array([score(env, seed, rng) for seed in range(600)])
    assert (scores != 0).mean() > 0.2
    assert abs(scores.mean()) < 3.0 * scores.std() / np.sqrt(len(scores))


def test_state_by_hand():
    env = laser_tag("0.. .#. ..1", (RIGHT, UP), max_cycles=4, size=5)
    step(env, FORWARD, STAY)
    state = env.state()
    assert state.shape == (10, 5, 5)
    assert state[0].sum() == 25 - 8
    assert np.argwhere(state[1:5]).tolist() == [[RIGHT, 0, 1]]
    assert np.argwhere(state[5:9]).tolist() == [[UP, 2, 2]]
    assert (state[9] == 0.75).all()

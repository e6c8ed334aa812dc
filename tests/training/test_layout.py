import numpy as np
import pytest
from gymnasium import spaces
from pettingzoo.classic import connect_four_v3

from macurr.errors import ConfigError
from macurr.training.layout import Layout
from tests.support.training import Duel, Many, Masked, Reacher, Wordy


def encoded(layout, agent, observation):
    rows = layout.indicator()
    mask = layout.masks.copy()
    layout.encode(agent, observation, rows[agent], mask[agent])
    return rows[agent].tolist(), mask[agent].tolist()


def test_padded_and_indicated():
    layout = Layout(Duel(), "duel")
    assert (layout.features, layout.actions, layout.discrete, layout.masked) == (6, 3, True, False)
    assert layout.masks.tolist() == [[True, True, True], [True, True, False]]
    assert encoded(layout, 0, np.array([0.25, -1], np.float32))[0] == [0.25, -1, 0, 0, 1, 0]
    assert encoded(layout, 1, 2)[0] == [0, 0, 1, 0, 0, 1]


def test_a_row_that_is_written_again_keeps_nothing_old():
    layout = Layout(Duel(), "duel")
    row = layout.indicator()[1]
    layout.encode(1, 3, row, None)
    layout.encode(1, 0, row, None)
    assert row.tolist() == [1, 0, 0, 0, 0, 1]


def test_action_masks_are_taken_out_of_observations():
    layout = Layout(Masked(), "masked")
    assert (layout.features, layout.masked) == (5, True)
    seen = {"observation": np.array([1, 0, 1]), "action_mask": np.array([0, 1])}
    assert encoded(layout, 0, seen) == ([1, 0, 1, 1, 0], [False, True])


@pytest.mark.parametrize(
    ("space", "seen", "flat"),
    [
        (spaces.MultiDiscrete([2, 3]), np.array([1, 2]), [0, 1, 0, 0, 1]),
        (spaces.Box(0, 255, (1, 2), np.uint8), np.array([[255, 51]], np.uint8), [1.0, 0.2]),
        (spaces.Discrete(2, start=5), 6, [0, 1]),
        (
            spaces.Tuple([spaces.Discrete(2), spaces.Box(-9, 9, (1,))]),
            (1, np.array([4.0], np.float32)),
            [0, 1, 4],
        ),
        (
            spaces.Dict({"b": spaces.MultiBinary(2), "a": spaces.Discrete(2)}),
            {"a": 0, "b": np.array([1, 0])},
            [1, 0, 1, 0],
        ),
    ],
)
def test_spaces(space, seen, flat):
    env = Duel()
    env._observations = dict.fromkeys(env.possible_agents, space)
    assert encoded(Layout(env, "x"), 0, seen)[0] == pytest.approx([*flat, 1, 0])


def test_actions_come_back_as_members_of_their_spaces():
    env = Reacher()
    layout = Layout(env, "reacher")
    assert (layout.discrete, layout.actions, layout.masks.tolist()) == (
        False,
        2,
        [[True, False], [True, True]],
    )
    left = layout.decode(0, np.array([7.0, 9.0], np.float32))
    right = layout.decode(1, np.array([-7.0, 1.5], np.float32))
    assert left.tolist() == [0.5]
    assert right.tolist() == [[-2.0, 1.5]]
    assert env.action_space("left").contains(left)
    assert env.action_space("right").contains(right)
    env._actions["left"] = spaces.Discrete(2, start=-1)
    env._actions["right"] = spaces.Discrete(2)
    assert Layout(env, "x").decode(0, 1) == 0


@pytest.mark.parametrize("env", [Many(), Wordy()])
def test_what_cannot_be_laid_out_is_refused(env):
    with pytest.raises(ConfigError, match=r"Agent 'left' of the lab has the (action|observation) space"):
        Layout(env, "the lab")


def test_kinds_of_actions_do_not_mix():
    env = Duel()
    env._actions["right"] = spaces.Box(0, 1, (1,), np.float32)
    with pytest.raises(ConfigError, match="'right'"):
        Layout(env, "x")


def duel_with(**replaced):
    """A duel with other spaces for "left" and "right", by `observations` or `actions`."""
    env = Duel()
    for name, pair in replaced.items():
        setattr(env, f"_{name}", dict(zip(env.possible_agents, pair, strict=True)))
    return env


def test_actions_of_several_parts_are_padded_part_by_part():
    spaces_of = (spaces.MultiDiscrete([3, 2], start=[1, 5]), spaces.MultiDiscrete([2, 2, 4]))
    layout = Layout(duel_with(actions=spaces_of), "x")
    assert (layout.kind, layout.discrete, layout.nvec, layout.actions) == (
        "multidiscrete",
        False,
        (3, 2, 4),
        9,
    )
    assert (layout.action_shape, layout.action_dtype) == ((3,), np.int64)
    # Left has no third part: choice 0 is left of it. Right has two of the first part's three choices.
    assert layout.masks.astype(int).tolist() == [[1, 1, 1, 1, 1, 1, 0, 0, 0], [1, 1, 0, 1, 1, 1, 1, 1, 1]]
    left = layout.decode(0, np.array([2, 0, 0]))
    assert left.tolist() == [3, 5]
    assert spaces_of[0].contains(left)
    assert spaces_of[1].contains(layout.decode(1, np.array([1, 1, 3])))


def test_one_number_bits_and_several_parts_mix():
    env = duel_with(actions=(spaces.Discrete(3, start=7), spaces.MultiBinary((2, 2))))
    layout = Layout(env, "x")
    assert (layout.kind, layout.nvec) == ("multidiscrete", (3, 2, 2, 2))
    assert layout.decode(0, np.array([2, 0, 0, 0])) == 9
    bits = layout.decode(1, np.array([1, 0, 1, 1]))
    assert bits.tolist() == [[1, 0], [1, 1]]
    assert env.action_space("right").contains(bits)
    grid = Layout(duel_with(actions=[spaces.MultiDiscrete([[2, 3], [4, 5]])] * 2), "x")
    assert grid.nvec == (2, 3, 4, 5)
    assert grid.decode(0, np.array([1, 2, 3, 4])).tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("given", [np.array([1, 0, 0, 1]), (np.array([1, 0]), np.array([0, 1]))])
def test_masks_of_several_parts_fill_the_agent_s_own_places(given):
    masked = spaces.Dict({"observation": spaces.Discrete(2), "action_mask": spaces.MultiBinary(4)})
    acts = (spaces.MultiDiscrete([2, 2]), spaces.MultiDiscrete([3, 2, 2]))
    layout = Layout(duel_with(observations=(masked, spaces.Discrete(2)), actions=acts), "x")
    _, mask = encoded(layout, 0, {"observation": 1, "action_mask": given})
    assert [int(allowed) for allowed in mask] == [1, 0, 0, 0, 1, 1, 0]


def test_masks_do_not_stand_in_the_way_of_several_observations():
    masked = spaces.Dict(
        {"a": spaces.Discrete(2), "b": spaces.Discrete(2), "action_mask": spaces.MultiBinary(3)}
    )
    layout = Layout(duel_with(observations=(masked, masked)), "x")
    assert encoded(layout, 0, {"a": 1, "b": 0, "action_mask": np.array([0, 0, 1])}) == (
        [0, 1, 1, 0, 1, 0],
        [False, False, True],
    )


def pixels(*shape):
    return spaces.Box(0, 255, shape, np.uint8)


@pytest.mark.parametrize(
    ("shape", "image"),
    [
        ((6, 8), (6, 8, 1)),
        ((6, 8, 3), (6, 8, 3)),
        ((3, 6, 8), (6, 8, 3)),
        ((5, 5, 7), (5, 5, 7)),
        ((84, 84, 4), (84, 84, 4)),
        ((4, 84, 84), (84, 84, 4)),
    ],
)
def test_images_are_rows_of_bytes_with_the_channels_last(shape, image):
    layout = Layout(duel_with(observations=[pixels(*shape)] * 2), "x")
    assert (layout.image, layout.dtype) == (image, np.uint8)
    assert (layout.seen, layout.features) == (np.prod(image), np.prod(image) + 2)
    seen = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    row = layout.indicator()[1]
    assert row.dtype == np.uint8
    layout.encode(1, seen, row, None)
    assert row[-2:].tolist() == [0, 1]
    drawn = row[:-2].reshape(image)
    for at in [(0, 0, 0), (4, 3, 0), (2, 4, image[2] - 1)]:
        y, x, channel = at
        assert drawn[at] == seen[(y, x, channel)[: len(shape)] if image[:2] == shape[:2] else (channel, y, x)]


@pytest.mark.parametrize(
    "pair",
    [
        (pixels(6, 8, 3), pixels(6, 8, 1)),
        (pixels(6, 8, 3), spaces.Discrete(3)),
        (pixels(4, 8, 3),) * 2,
        (pixels(2, 6, 8, 3),) * 2,
        (spaces.Box(0, 3, (6, 8), np.uint8),) * 2,
        (spaces.Box(0, 255, (6, 8), np.float32),) * 2,
    ],
    ids=["two shapes", "not all", "too small", "four dimensions", "no colours", "not bytes"],
)
def test_what_is_no_image_for_everybody_is_numbers(pair):
    layout = Layout(duel_with(observations=pair), "x")
    assert (layout.image, layout.dtype) == (None, np.float32)


def test_masked_images():
    seen = spaces.Dict({"observation": pixels(5, 5, 3), "action_mask": spaces.MultiBinary(3)})
    layout = Layout(duel_with(observations=(seen, seen)), "x")
    assert (layout.image, layout.masked) == ((5, 5, 3), True)
    row, mask = encoded(layout, 0, {"observation": np.full((5, 5, 3), 9, np.uint8), "action_mask": [1, 0, 1]})
    assert row == [9] * 75 + [1, 0]
    assert mask == [True, False, True]


def test_turn_based_environments_are_laid_out_too():
    layout = Layout(connect_four_v3.env(), "connect four")
    assert (layout.turns, layout.masked, layout.agents) == (True, True, ("player_0", "player_1"))
    assert (layout.features, layout.actions) == (6 * 7 * 2 + 2, 7)
    assert Layout(Duel(), "duel").turns is False

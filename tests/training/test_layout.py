import numpy as np
import pytest
from gymnasium import spaces

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

"""Who learns together, and which policy plays whom."""

import numpy as np
import pytest

from macurr.errors import ConfigError, StateError
from macurr.training.mapping import PolicyMapping, learning_seats, roles_of, sides_of

TAG = ["adversary_0", "adversary_1", "adversary_2", "agent_0"]


def mapping(name, policies=2, agents=("a", "b"), seed=0, episodes=10):
    return PolicyMapping(name, policies, agents, np.random.default_rng(seed), episodes)


def teams(agent, env, episode, rng):
    """Left by policy 0; right by 1 and 2 in turn."""
    return 0 if agent == "a" else 1 + (env + episode) % 2


def chance(agent, env, episode, rng):
    return int(rng.integers(3))


def wrong(agent, env, episode, rng):
    return 3


def half(agent, env, episode, rng):
    return 0.5


def broken(agent, env, episode, rng):
    raise KeyError("no such agent")


def test_roles_are_what_precedes_the_last_number():
    assert roles_of(TAG) == (0, 0, 0, 1)
    assert roles_of(["right", "left_1_2", "left_1_3", "left_2_2", "_4", "right"]) == (0, 1, 1, 2, 3, 0)
    assert sides_of(TAG, "role") == ((0, 1, 2), (3,))
    assert sides_of(TAG, "agent") == ((0,), (1,), (2,), (3,))


def test_sides_take_turns_over_the_environments():
    assert learning_seats(TAG, 3, "role", everyone=False) == ((0, 1, 2), (3,), (0, 1, 2))
    assert learning_seats(["a", "b"], 3, "agent", everyone=False) == ((0,), (1,), (0,))
    assert learning_seats(TAG, 2, "role", everyone=True) == ((0, 1, 2, 3),) * 2


@pytest.mark.parametrize("policies", [2, 3, 4])
@pytest.mark.parametrize(("agents", "sides"), [(["a", "b"], "agent"), (TAG, "agent"), (TAG, "role")])
def test_policies_that_alternate_over_the_environments_learn_every_side_alike(policies, agents, sides):
    made = mapping("env", policies, agents)
    envs = policies * len(sides_of(agents, sides))
    seats = learning_seats(agents, envs, sides, everyone=False, run=policies)
    learnt = [(int(made.draw(env, 0)[0]), seats[env]) for env in range(envs)]
    assert len(set(learnt)) == envs, "every policy learns every side, and as often"


@pytest.mark.parametrize(
    ("name", "policies", "wanted"),
    [("shared", 1, [0, 0, 0, 0]), ("env", 3, [2, 2, 2, 2]), ("role", 2, [0, 0, 0, 1]), ("role", 1, [0] * 4)],
)
def test_fixed_mappings(name, policies, wanted):
    made = mapping(name, policies, TAG)
    assert made.fixed
    for episode in range(3):
        drawn = made.draw(5, episode)
        assert drawn.tolist() == wanted
        assert drawn.dtype == np.int16


def test_random_policies_are_drawn_anew_every_so_many_episodes_of_an_environment():
    made = mapping("random", 1000, ["a", "b", "c"], episodes=4)
    assert not made.fixed
    rows = [made.draw(env, episode).tolist() for episode in range(12) for env in (0, 7)]
    first, second = rows[::2], rows[1::2]
    for own in (first, second):
        assert own[0] == own[1] == own[2] == own[3] != own[4] == own[7] != own[8]
        assert len(set(own[0])) > 1, "each agent has a draw of its own"
    assert first[0] != second[0]


def test_random_policies_are_uniform():
    made = mapping("random", 4, ["a"], episodes=1)
    drawn = np.bincount([made.draw(0, i)[0] for i in range(4000)], minlength=4)
    assert abs(drawn - 1000).max() < 5 * np.sqrt(4000 * 3 / 16)


def test_a_function_of_the_user():
    made = mapping(f"{__name__}:teams", 3)
    assert not made.fixed
    assert [made.draw(env, episode).tolist() for env, episode in ((0, 0), (0, 1), (1, 1))] == [
        [0, 1],
        [0, 2],
        [0, 1],
    ]
    assert [made.for_evaluation(agent) for agent in ("a", "b")] == [0, 1]


def test_what_evaluation_maps_needs_no_chance():
    assert [mapping("role", 2, TAG).for_evaluation(agent) for agent in TAG] == [0, 0, 0, 1]
    assert mapping("random", 5).for_evaluation("b") == 0
    assert mapping("env", 5).for_evaluation("b") == 0
    drawing = mapping(f"{__name__}:chance", 3)
    before = drawing.state_dict()
    assert drawing.for_evaluation("b") == drawing.for_evaluation("b")
    assert drawing.state_dict()["rng"] == before["rng"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("wrong", "gave 3 for agent 'a' of environment 4 in episode 2.*from 0 to 2"),
        ("half", r"gave 0\.5"),
        ("broken", "failed for agent 'a'.*KeyError"),
    ],
)
def test_what_a_function_gives_is_checked(name, words):
    with pytest.raises(ConfigError, match=words):
        mapping(f"{__name__}:{name}", 3).draw(4, 2)


@pytest.mark.parametrize(
    "path", ["nowhere", "nowhere.at.all:f", f"{__name__}:missing", f"{__name__}:TAG", ":"]
)
def test_what_is_no_function_is_refused(path):
    with pytest.raises(ConfigError, match="mapping="):
        mapping(path)


@pytest.mark.parametrize("name", ["random", f"{__name__}:chance"])
def test_a_mapping_goes_on_from_its_state(name):
    made, again = mapping(name, 3, seed=1, episodes=3), mapping(name, 3, seed=2, episodes=3)
    for env in range(4):
        made.draw(env, 0)
    again.load_state_dict(made.state_dict())
    for episode in range(1, 8):
        for env in range(4):
            assert made.draw(env, episode).tolist() == again.draw(env, episode).tolist()


def test_a_state_of_other_agents_changes_nothing():
    made, other = mapping("random", 3), mapping("random", 3, ["a", "b", "c"])
    other.draw(0, 0)
    before = made.state_dict()
    with pytest.raises(StateError, match="2 agents"):
        made.load_state_dict(other.state_dict())
    assert made.state_dict()["rng"] == before["rng"]

"""What every bundled environment promises, whatever the game."""

import copy
import itertools
import pickle
import warnings
import zlib

import cloudpickle
import numpy as np
import pettingzoo
import pytest
from supersuit import concat_vec_envs_v1, pettingzoo_env_to_vec_env_v1

from macurr.envs import apple_race_v0, laser_tag_v0
from macurr.envs._registration import register_envs
from macurr.errors import ConfigError, TaskError, UsageError
from tests.envs.support import AGENTS, apple_race, episode, laser_tag, step
from tests.support.scripts import assert_succeeded, run_python

with warnings.catch_warnings():
    # PettingZoo's tests import one of its games by a path that it has deprecated.
    warnings.simplefilter("ignore", DeprecationWarning)
    from pettingzoo.test import (
        api_test,
        max_cycles_test,
        parallel_api_test,
        parallel_seed_test,
        render_test,
        seed_test,
    )
    from pettingzoo.test.state_test import state_test

GAMES = {"apple_race": apple_race_v0, "laser_tag": laser_tag_v0}


@pytest.fixture(params=GAMES)
def name(request):
    return request.param


@pytest.fixture
def game(name):
    return GAMES[name]


# --- PettingZoo's own tests --------------------------------------------------------------------------------


def test_parallel_api(game):
    parallel_api_test(game.parallel_env(), num_cycles=300)


def test_aec_api(game):
    api_test(game.env(), num_cycles=300)
    api_test(game.raw_env(), num_cycles=50)


def test_seeds(game):
    parallel_seed_test(game.parallel_env, num_cycles=50)
    seed_test(game.env, num_cycles=100)


def test_max_cycles(game, monkeypatch):
    class Unarmed:
        """The game as PettingZoo's test wants it: random play must not end it early."""

        @staticmethod
        def parallel_env(max_cycles):
            return game.parallel_env(max_cycles=max_cycles, **far)

        @staticmethod
        def env(max_cycles):
            return game.env(max_cycles=max_cycles, **far)

    far = {"apples": 9} if game is apple_race_v0 else {"size": 13, "density": 0.42}
    monkeypatch.setattr(laser_tag_v0.parallel_env, "_reaches", lambda *_: False)
    max_cycles_test(Unarmed)


def test_rendering_by_pettingzoo(game):
    # Its first call asks every environment for a window, only to read the metadata.
    render_test(
        lambda render_mode: game.env(render_mode="rgb_array" if render_mode == "human" else render_mode)
    )


def test_state_by_pettingzoo(game):
    state_test(game.env(), game.parallel_env(), num_cycles=60)


# --- determinism and ownership -----------------------------------------------------------------------------


def test_whole_episodes_are_the_same_in_fresh_and_used_objects(game):
    used = game.parallel_env()
    for seed in (3, 0, 2**40, 3):
        for seen in (episode(used, seed), episode(used, seed)):
            np.testing.assert_equal(seen, episode(game.parallel_env(), seed))
        used.reset()
        used.step(dict.fromkeys(AGENTS, 1))  # left in the middle


@pytest.mark.parametrize(("module", "expected"), [(apple_race_v0, 3763615711), (laser_tag_v0, 427762860)])
def test_levels_of_a_version_never_change(module, expected):
    # Results are reported by seed. Whoever has to change this number has to make it v1.
    env = module.parallel_env()
    levels = [env.level(seed) for seed in range(20)]
    text = repr([(level, level.walls.astype(int).tolist()) for level in levels])
    assert zlib.crc32(text.encode()) == expected


def test_rendering_changes_nothing(game):
    plain, drawn = game.parallel_env(), game.parallel_env(render_mode="rgb_array")
    np.testing.assert_equal(episode(plain, 1), episode(drawn, 1))


def test_levels_without_seed_follow_from_the_last_seed(game):
    def later(env):
        env.reset(seed=4)
        return [env.reset() and env.current_level for _ in range(4)]

    one = game.parallel_env()
    levels = later(one)
    assert levels == later(one) == later(game.parallel_env())
    assert len({level.seed for level in levels}) == 4
    assert levels[0] == one.level(levels[0].seed)


def test_unseeded_environments_and_their_clones_differ(game):
    env = game.parallel_env()
    env.reset()
    clones = [
        env,
        pickle.loads(pickle.dumps(env)),
        cloudpickle.loads(cloudpickle.dumps(env)),
        game.parallel_env(),
    ]
    assert len({clone.reset() and clone.current_level.seed for clone in clones}) == len(clones)


def test_copies_are_built_alike(game):
    env = game.parallel_env(size=(6, 7), max_cycles=9, render_mode="rgb_array")
    for clone in (pickle.loads(pickle.dumps(env)), copy.deepcopy(env)):
        assert clone.render_mode == "rgb_array"
        np.testing.assert_equal(episode(clone, 2), episode(env, 2))


def test_what_is_returned_stays_as_it_was(game):
    env = game.parallel_env()
    observations, _infos = env.reset(seed=0)
    results = [observations, env.state()]
    frozen = copy.deepcopy(results)
    while env.agents:
        seen, rewards, *_ = env.step({agent: int(env.action_space(agent).sample()) for agent in AGENTS})
        results += [seen, rewards, env.state()]
        frozen += copy.deepcopy([seen, rewards, env.state()])
    np.testing.assert_equal(results, frozen)
    # And writing into it does not reach the environment.
    expected = episode(env, 1)
    env.reset(seed=1)
    for observation in env.reset(seed=1)[0].values():
        observation[:] = 7.0
    np.testing.assert_equal(episode(env, 1), expected)


def test_both_agents_have_arrays_of_their_own(game):
    observations, infos = game.parallel_env().reset(seed=0)
    assert not np.shares_memory(*observations.values())
    assert infos["player_0"] is not infos["player_1"]


def test_spaces_hold_everything_seen(game):
    for arguments in (
        {},
        {"view": 3, "size": 5},
        {"view": 15, "size": (5, 20), "density": 0.6, "max_cycles": 5},
    ):
        if game is apple_race_v0 and arguments.get("density"):
            arguments["apples"] = 3
        env = game.parallel_env(**arguments)
        for seed in range(3):
            reset, *rest = episode(env, seed)
            for observations in [reset[0], *(result[0] for result in rest[1::2])]:
                for agent in AGENTS:
                    space = env.observation_space(agent)
                    assert space.contains(observations[agent])
                    assert space is env.observation_space(agent)
                    assert env.action_space(agent) is env.action_space(agent)
            assert all(env.state_space.contains(state) for state in rest[::2])


def test_compass_of_laser_tag_is_in_its_space():
    env = laser_tag_v0.parallel_env(compass=True)
    for seed in range(10):
        for observation in env.reset(seed=seed)[0].values():
            assert env.observation_space("player_0").contains(observation)
            assert abs(observation[-3:-1]).sum() == pytest.approx(1.0)


# --- pictures ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [5, 13, 99])
def test_pictures_have_one_shape_and_show_the_players(game, size):
    env = game.parallel_env(render_mode="rgb_array", size=(5, 99))
    env.reset(seed=2, options={"size": size})
    env.step(dict.fromkeys(AGENTS, 3))
    picture = env.render()
    assert picture.shape == (512, 480, 3)
    assert picture.dtype == np.uint8
    if size < 99:
        colours = {tuple(colour) for colour in picture.reshape(-1, 3).tolist()}
        assert {(38, 108, 214), (236, 136, 24)} <= colours
        assert ((214, 48, 56) in colours) is (game is apple_race_v0)


def test_pictures_follow_the_game_and_repeat_themselves(game):
    env = game.parallel_env(render_mode="rgb_array", max_cycles=30)
    env.reset(seed=2)
    pictures = [env.render()]
    np.testing.assert_array_equal(env.render(), pictures[0])
    while env.agents:
        env.step(dict.fromkeys(AGENTS, 2))
        pictures.append(env.render())
    assert all((one != other).any() for one, other in itertools.pairwise(pictures))


def test_picture_of_a_shared_cell_shows_a_half_of_each_player():
    env = apple_race("0.. .*. 1..", render_mode="rgb_array")
    step(env, 3, 0)
    step(env, 0, 1)
    tile = 480 // env.current_level.width
    cell = env.render()[2 * tile : 3 * tile, tile : 2 * tile]
    blue, orange = ((cell == colour).all(axis=-1).sum(axis=0) for colour in ((38, 108, 214), (236, 136, 24)))
    assert blue[: tile // 2].sum() > 0 == blue[tile // 2 :].sum()
    assert orange[tile // 2 :].sum() > 0 == orange[: tile // 2].sum()


@pytest.mark.parametrize(("apples", "dots"), [(1, 1), (9, 9), (40, 40), (400, 0)])
def test_strip_has_a_dot_for_every_apple_and_player(apples, dots):
    env = apple_race_v0.parallel_env(size=40, density=0, apples=apples, render_mode="rgb_array")
    env.reset(seed=0)
    middle = env.render()[512 - 32 + 9 :].max(axis=0).astype(int)  # brightest pixel of each column
    edges = np.flatnonzero(np.diff((middle[:, 0] > 50).astype(int)) == 1)
    assert len(edges) == 2 * dots


def test_picture_of_a_beam_reaches_from_player_to_player():
    env = laser_tag("0..1 .... .... ....", (1, 0), render_mode="rgb_array")
    before = env.render()
    step(env, 4, 0)
    tile = 480 // env.current_level.width
    changed = (env.render() != before).any(axis=(0, 2)) & (np.arange(480) < 4 * tile)
    assert changed[2 * tile : 4 * tile].all()


def test_render_without_a_mode_warns_and_draws_nothing(game):
    env = game.parallel_env()
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="render_mode='rgb_array'"):
        assert env.render() is None


# --- refusals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "actions",
    [{}, {"player_0": 0}, {"player_0": 0, "player_1": 5}, {"player_0": -1, "player_1": 0}]
    + [{"player_0": wrong, "player_1": 0} for wrong in (None, 1.0, "1", [1], np.array([1]))],
    ids=str,
)
def test_wrong_actions_are_refused_and_change_nothing(game, actions):
    env, other = game.parallel_env(), game.parallel_env()
    for each in (env, other):
        each.reset(seed=0)
    with pytest.raises(UsageError, match=r"from 0 to 4 for each of 'player_0' and 'player_1'"):
        env.step(actions)
    np.testing.assert_array_equal(env.state(), other.state())
    moves = dict.fromkeys(AGENTS, 3)
    np.testing.assert_equal(env.step(moves), other.step(moves))


def test_integers_of_any_kind_are_actions(game):
    env, other = game.parallel_env(), game.parallel_env()
    env.reset(seed=0)
    other.reset(seed=0)
    numpy_step = env.step({"player_0": np.int64(3), "player_1": np.array(2, np.uint8)})
    np.testing.assert_equal(numpy_step, other.step({"player_0": 3, "player_1": 2}))


def test_steps_without_an_episode(game):
    env = game.parallel_env(max_cycles=1)
    assert env.agents == []
    for _ in range(2):
        with pytest.raises(UsageError, match=r"call reset\(\)"):
            env.step(dict.fromkeys(AGENTS, 0))
        assert env.step({}) == ({}, {}, {}, {}, {})
        env.reset(seed=0)
        env.step(dict.fromkeys(AGENTS, 0))
    fresh = game.parallel_env(render_mode="rgb_array")
    for call in (fresh.state, fresh.render, lambda: fresh.current_level):
        with pytest.raises(UsageError, match="before the first episode"):
            call()


@pytest.mark.parametrize("seed", [-1, 1.5, "1", [1]])
def test_wrong_seeds_are_refused_and_the_episode_goes_on(game, seed):
    env = game.parallel_env()
    env.reset(seed=3)
    for call in (env.reset, env.level):
        with pytest.raises(TaskError, match=r"a seed is a whole number from 0"):
            call(seed)
    assert env.current_level.seed == 3
    assert env.agents == AGENTS


WRONG = [
    ({"size": 4}, "size"),
    ({"size": (9, 5)}, "size"),
    ({"size": 7.5}, "whole"),
    ({"size": 100}, "size"),
    ({"density": 0.7}, "density"),
    ({"density": -0.1}, "density"),
    ({"density": float("nan")}, "density"),
    ({"density": "0.2"}, "density"),
    ({"density": (0.1, 0.2, 0.3)}, "density"),
    ({"density": None}, "density"),
    ({"view": 4}, "odd"),
    ({"view": 17}, "view"),
    ({"view": (3, 5)}, "view"),
    ({"max_cycles": 0}, "max_cycles"),
    ({"swap_seats": 2}, "swap_seats"),
]
WRONG_APPLES = [
    ({"apples": 0}, "apples"),
    ({"apples": 14}, "has room for 13"),
    ({"reachable": "no"}, "reachable"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG, ids=str)
def test_wrong_parameters_are_refused(game, wrong, message):
    with pytest.raises(ConfigError, match=message):
        game.parallel_env(**wrong)
    _refuses_option(game, wrong, message)


@pytest.mark.parametrize(("wrong", "message"), WRONG_APPLES, ids=str)
def test_wrong_parameters_of_the_apple_race_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        apple_race_v0.parallel_env(**wrong)
    _refuses_option(apple_race_v0, wrong, message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 14}, "give the larger ones to the constructor"),
        ({"view": 9}, "give the larger ones to the constructor"),
        ({"densty": 0.1}, "did you mean 'density'"),
        ({"sizes": 7}, "did you mean 'size'"),
        ({"render_mode": "rgb_array"}, "give it to the constructor"),
        ([("size", 7)], "must be a mapping"),
    ],
    ids=str,
)
def test_wrong_options_are_refused(game, options, message):
    _refuses_option(game, options, message)


def _refuses_option(game, options, message):
    env = game.parallel_env()
    env.reset(seed=3)
    state = env.state()
    for call in (env.reset, env.level):
        with pytest.raises(TaskError, match=message):
            call(4, options)
    np.testing.assert_array_equal(env.state(), state)
    assert env.current_level.seed == 3


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"size": np.int64(7)}, {"size": 7}),
        ({"size": np.array([6.0, 8.0], np.float32)}, {"size": (6, 8)}),
        ({"density": np.array(0.25)}, {"density": 0.25}),
        ({"density": np.float32(0.6)}, {"density": 0.6}),
        ({"density": [0.1, 0.2]}, {"density": (0.1, 0.2)}),
        ({"swap_seats": np.int64(1)}, {"swap_seats": True}),
        ({"task": 3, 5: None, "curriculum": "x"}, {}),
    ],
    ids=str,
)
def test_options_are_taken_as_task_spaces_hand_them_out(game, options, expected):
    env = game.parallel_env(**({"apples": 3} if game is apple_race_v0 else {}))
    assert env.level(5, options) == env.level(5, expected)
    np.testing.assert_equal(episode(env, 5, options), episode(env, 5, expected))


def test_options_hold_for_one_episode(game):
    env = game.parallel_env()
    plain = episode(env, 5)
    env.reset(seed=5, options={"size": 5, "density": 0.1, "view": 3, "max_cycles": 2})
    assert env.current_level.size == 5
    env.step(dict.fromkeys(AGENTS, 0))
    assert env.step(dict.fromkeys(AGENTS, 0))[3] == dict.fromkeys(AGENTS, True)
    np.testing.assert_equal(episode(env, 5), plain)


def test_unknown_render_mode_is_refused(game):
    with pytest.raises(ConfigError, match="'human' is not offered: use one of"):
        game.parallel_env(render_mode="human")


def test_max_cycles_can_be_set_and_is_checked(game):
    env = game.parallel_env()
    env.max_cycles = 1
    env.reset(seed=0)
    assert env.step(dict.fromkeys(AGENTS, 0))[3] == dict.fromkeys(AGENTS, True)
    with pytest.raises(ConfigError, match="max_cycles"):
        env.max_cycles = 0
    assert env.max_cycles == 1


# --- PettingZoo's registry and other people's wrappers -----------------------------------------------------


def test_registry_makes_both_kinds(name, game):
    env = pettingzoo.make("parallel", f"macurr/{name}_v0", max_cycles=7)
    assert isinstance(env, game.parallel_env)
    assert env.max_cycles == 7
    assert isinstance(pettingzoo.make("aec", f"macurr/{name}-v0").unwrapped, game.parallel_env)


def test_registering_again_is_silent():
    register_envs()
    register_envs()


def test_registration_is_skipped_without_a_registry(monkeypatch):
    monkeypatch.delattr(pettingzoo, "register", raising=False)
    monkeypatch.delattr(pettingzoo, "parallel_registry", raising=False)
    register_envs()


def test_import_alone_registers_and_stays_light(tmp_path):
    code = (
        "import sys, warnings; warnings.simplefilter('error'); import macurr.envs, pettingzoo;"
        "env = pettingzoo.make('parallel', 'macurr/apple_race-v0'); env.reset(seed=0);"
        "sys.exit(bool({'pygame', 'torch', 'scipy', 'matplotlib'} & set(sys.modules)))"
    )
    assert_succeeded(run_python(["-c", code], cwd=tmp_path))


@pytest.mark.parametrize("num_cpus", [0, 2])
def test_supersuit_vectorises_it(game, num_cpus):
    single = pettingzoo_env_to_vec_env_v1(game.parallel_env(max_cycles=3))
    env = concat_vec_envs_v1(single, 2, num_cpus=num_cpus, base_class="gymnasium")
    try:
        observations, _ = env.reset(seed=0)
        assert observations.shape == (4, *game.parallel_env().observation_space("player_0").shape)
        ends = [env.step(np.zeros(4, np.int64))[3].tolist() for _ in range(3)]
        assert ends == [[0] * 4, [0] * 4, [1] * 4]
    finally:
        env.close()

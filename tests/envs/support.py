"""Hand-made levels and random play for the tests of the bundled environments."""

import itertools

import numpy as np

from macurr.envs import apple_race_v0, laser_tag_v0

AGENTS = ["player_0", "player_1"]


def _read(picture):
    """Size, flat map and cells of the signs of a picture: '#' a wall, '0' and '1' the players, '*' an apple."""
    rows = picture.split()
    size = len(rows)
    cells = [
        [1] * (size + 2),
        *([1, *(int(sign == "#") for sign in row), 1] for row in rows),
        [1] * (size + 2),
    ]
    signs = {"0": [], "1": [], "*": []}
    for row, line in enumerate(rows):
        for column, sign in enumerate(line):
            signs.get(sign, []).append((row, column))
    return size, bytes(itertools.chain.from_iterable(cells)), signs


def apple_race(picture, **arguments):
    """An apple race that plays the level of the picture at every reset, already reset; players apart by default."""
    size, cells, signs = _read(picture)
    starts = (signs["0"][0], signs["1"][0])
    level = apple_race_v0.AppleLevel(0, size, cells, starts, tuple(signs["*"]))
    return _playing(apple_race_v0.parallel_env(**arguments), level)


def laser_tag(picture, facings, **arguments):
    """A laser tag that plays the level of the picture at every reset, already reset."""
    size, cells, signs = _read(picture)
    level = laser_tag_v0.TagLevel(0, size, cells, (signs["0"][0], signs["1"][0]), facings)
    return _playing(laser_tag_v0.parallel_env(**arguments), level)


def _playing(env, level):
    env._draw = lambda seed, parameters: level
    env.reset()
    return env


def step(env, first, second):
    """One step of both players: the reward of the first, whether the game is over, whether it is late."""
    _, rewards, terminations, truncations, _ = env.step({"player_0": first, "player_1": second})
    assert rewards["player_0"] + rewards["player_1"] == 0.0
    assert terminations["player_0"] is terminations["player_1"]
    assert truncations["player_0"] is truncations["player_1"]
    return rewards["player_0"], terminations["player_0"], truncations["player_0"]


def episode(env, seed, options=None, action_seed=0):
    """A whole episode of random play: everything that was returned, in order, and the states."""
    rng = np.random.default_rng([action_seed, seed])
    seen = [env.reset(seed=seed, options=options), env.state()]
    while env.agents:
        seen += [env.step({agent: int(rng.integers(5)) for agent in AGENTS}), env.state()]
    return seen


def score(env, seed, rng, options=None):
    """What the first player gains in an episode of random play."""
    env.reset(seed=seed, options=options)
    total = 0.0
    while env.agents:
        first, second = rng.integers(5, size=2).tolist()
        total += env.step({"player_0": first, "player_1": second})[1]["player_0"]
    return total

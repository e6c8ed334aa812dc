"""Films: what is on them, and what is said where there are none."""

import base64
import io
import os
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from macurr.training.duels import arena_of
from macurr.training.envs import EnvSource
from macurr.training.matches import Matches
from macurr.training.players import RANDOM_PLAYER
from macurr.training.reporting.films import Reel, filming, with_pictures
from macurr.training.reporting.levels import _developed, _Show
from macurr.training.reporting.pictures import Film
from macurr.training.session import probe
from macurr.training.stage import Stage
from tests.support.drawn import grey


class Clock:
    """Draws the time."""

    metadata: ClassVar = {"render_fps": 5}

    def __init__(self):
        self.t = 0

    def render(self):
        return np.full((2, 2, 3), self.t, np.uint8)


def filmed(length):
    env, reel = Clock(), Reel()
    reel.begin(7, env)
    for step in range(1, length + 1):
        env.t = step
        reel.step(env, last=step == length)
    return reel


@pytest.mark.parametrize("length", [1, 63, 64, 65, 127, 128, 129, 200, 255])
def test_a_reel_shows_first_and_last_and_spreads_the_rest_evenly(length):
    reel = filmed(length)
    times = [int(frame[0, 0, 0]) for frame in reel.chosen()]
    assert (times[0], times[-1], reel.steps, reel.seed, reel.fps) == (0, length, length, 7, 5.0)
    assert 2 <= len(times) <= 65
    assert set(np.diff(times[:-1])) <= {reel.stride}
    assert 0 < times[-1] - times[-2] <= reel.stride
    assert reel.stride == 1 or length > 63, "a short episode is shown step by step"


def test_the_next_episode_is_not_filmed():
    reel, env = filmed(3), Clock()
    env.t = 99
    reel.begin(8, env)
    reel.step(env, last=False)
    assert [int(frame[0, 0, 0]) for frame in reel.chosen()] == [0, 1, 2, 3]
    assert reel.seed == 7


def play(path, levels, args=None):
    """One match of two random players on each level, on film."""
    source = with_pictures(EnvSource(path, args or {}))
    assert isinstance(source, EnvSource), source
    with filming(source) as (camera, reels):
        layout = probe(camera)
        stage = Stage(camera, layout, tuple(levels), False, ((0,), (1,)))
        players = np.full((len(levels), 2), -1)
        returns = arena_of([RANDOM_PLAYER], stage, 0, 0).play(Matches(players, np.array(levels)))
    return returns, {reel.seed: reel for reel in reels if reel.seed is not None}


@pytest.mark.parametrize(("name", "steps"), [("Drawn", 5), ("DrawnTurns", 6)])
def test_an_arena_plays_before_the_camera(name, steps):
    returns, reels = play(f"tests.support.drawn:{name}", [4, 9])
    assert sorted(reels) == [4, 9]
    assert np.isfinite(returns).all()
    for reel in reels.values():
        assert [int(frame[0, 0, 0]) for frame in reel.chosen()] == [grey(step) for step in range(steps + 1)]
        assert (reel.steps, reel.stride, reel.failure) == (steps, 1, "")


@pytest.mark.parametrize(("name", "args"), [("Drawn", {"length": 10**9}), ("DrawnTurns", {"turns": 10**9})])
def test_an_episode_without_end_is_cut_off(name, args, monkeypatch):
    monkeypatch.setattr("macurr.training.reporting.films._MOST_STEPS", 20)
    _, reels = play(f"tests.support.drawn:{name}", [3], args)
    assert 20 <= reels[3].steps <= 22
    assert reels[3].chosen()[-1][0, 0, 0] == grey(reels[3].steps)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("tests.support.training:Duel", "offers no rgb_array"),
        ("tests.support.drawn:Undrawn", "cannot be made with render_mode"),
    ],
)
def test_an_environment_without_pictures_is_told(path, why):
    assert why in with_pictures(EnvSource(path))


@pytest.mark.parametrize(("name", "why"), [("Torn", "OSError: no paint"), ("Flat", "no RGB picture")])
def test_drawing_may_fail_and_the_match_goes_on(name, why):
    returns, reels = play(f"tests.support.drawn:{name}", [2])
    assert np.isfinite(returns).all()
    assert why in reels[2].failure
    assert reels[2].frames == []


def test_the_settings_of_pygame_are_put_back(monkeypatch):
    monkeypatch.delenv("SDL_VIDEODRIVER", raising=False)
    monkeypatch.setenv("SDL_AUDIODRIVER", "mine")
    with filming(EnvSource("tests.support.drawn:Drawn")):
        assert (os.environ["SDL_VIDEODRIVER"], os.environ["SDL_AUDIODRIVER"]) == ("dummy", "mine")
    assert "SDL_VIDEODRIVER" not in os.environ
    assert os.environ["SDL_AUDIODRIVER"] == "mine"


def decoded(uri, kind):
    head, _, content = uri.partition(",")
    assert head == f"data:image/{kind};base64"
    return Image.open(io.BytesIO(base64.b64decode(content, validate=True)))


def test_a_film_is_a_gif_at_twice_the_speed():
    frames = [np.full((30, 60, 3), (40 * i, 0, 0), np.uint8) for i in range(5)]
    film = Film.of(frames, fps=10.0, steps=8, stride=2)
    moving = decoded(film.moving, "gif")
    assert (film.width, film.height, film.steps, film.stride) == (360, 180, 8, 2)
    assert (moving.n_frames, moving.size, moving.info["loop"]) == (5, (360, 180), 0)
    durations = []
    for i in range(5):
        moving.seek(i)
        durations.append(moving.info["duration"])
        assert abs(moving.convert("RGB").getpixel((5, 5))[0] - 40 * i) <= 2
    assert durations == [50, 50, 50, 50, 1000]
    assert decoded(film.still, "png").convert("RGB").getpixel((0, 0)) == (0, 0, 0)


def test_large_pictures_shrink_and_rare_colours_stay():
    frame = np.full((1000, 500, 3), 240, np.uint8)
    frame[500:560, 200:260] = (236, 136, 24)
    later = frame.copy()
    later[0:60, 0:60] = (38, 108, 214)
    film = Film.of([frame, later], fps=8.0, steps=1, stride=1)
    assert (film.width, film.height) == (200, 400)
    for picture in (decoded(film.still, "png"), decoded(film.moving, "gif")):
        found = picture.convert("RGB").getpixel((92, 212))
        assert np.abs(np.array(found) - (236, 136, 24)).max() <= 8


def test_one_picture_does_not_move():
    film = Film.of([np.zeros((5, 5, 3), np.uint8)], fps=8.0, steps=0, stride=1)
    assert film.moving == ""
    assert decoded(film.still, "png").size == (400, 400)


def test_a_film_that_cannot_be_packed_shrinks():
    noise = np.random.default_rng(0).integers(0, 256, (5, 400, 400, 3), np.uint8)
    film = Film.of(list(noise), fps=8.0, steps=9, stride=1)
    assert len(film.moving) < 1_000_000
    assert 90 <= film.width < 400
    assert decoded(film.moving, "gif").size == (film.width, film.height)


@pytest.mark.parametrize(("firsts", "shown"), [((7, 7), 40), ((7, 8), 7)])
def test_levels_that_begin_alike_are_shown_at_their_end(firsts, shown):
    reels = []
    for seed, first in enumerate(firsts):
        reel = Reel()
        reel.seed = seed
        reel.frames = [np.full((8, 8, 3), grey, np.uint8) for grey in (first, 40)]
        reels.append(reel)
    films = _developed(_Show(), reels).films
    assert [film.at_end for film in films.values()] == [shown == 40] * 2
    assert decoded(films[0].still, "png").convert("RGB").getpixel((0, 0))[0] == shown

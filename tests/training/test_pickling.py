"""Objects as bytes that keep all they hold, also where their own way of pickling forgets or refuses."""

import pickle
import sys
from types import SimpleNamespace

import numpy as np
import pygame
import pygame.freetype
import pytest
from gymnasium.utils import EzPickle

from macurr.envs import apple_race_v0
from macurr.training.pickling import dumps, loads


class Counter(EzPickle):
    """Made with a start; counts."""

    def __init__(self, start):
        EzPickle.__init__(self, start)
        self.count = start


class Choosy(Counter):
    """Says itself what it keeps."""

    def __getstate__(self):
        return {"kept": self.count}

    def __setstate__(self, state):
        self.count = state["kept"] * 100


def test_what_would_forget_remembers():
    counter = Counter(3)
    counter.count, counter.itself = 9, counter
    assert pickle.loads(pickle.dumps(counter)).count == 3
    again = loads(dumps([counter, counter]))
    assert again[0].count == 9
    assert again[0] is again[1] is again[0].itself
    assert again[0]._ezpickle_args == (3,)


def test_what_says_itself_what_it_keeps_is_believed():
    assert loads(dumps(Choosy(2))).count == 200


def test_what_would_forget_its_contacts_is_refused(monkeypatch):
    class Space:
        """As pymunk's: willing to be pickled."""

    class World(Space):
        """One of somebody's own."""

    assert type(loads(dumps(World()))).__name__ == "World"
    monkeypatch.setitem(sys.modules, "pymunk", SimpleNamespace(Space=Space))
    for thing in (Space(), {"inside": [World()]}):
        with pytest.raises(pickle.PicklingError, match="pymunk cannot be pickled with all"):
            dumps(thing)


def test_a_game_goes_on():
    env = apple_race_v0.parallel_env()
    env.reset(seed=4)
    rng = np.random.default_rng(0)
    moves = [
        dict(zip(env.possible_agents, pair, strict=True)) for pair in rng.integers(0, 5, (30, 2)).tolist()
    ]
    for move in moves[:10]:
        env.step(move)
    other = loads(dumps(env))
    for move in moves[10:]:
        here, there = env.step(move), other.step(move)
        assert here[1:] == there[1:]
        for agent in env.agents:
            assert np.array_equal(here[0][agent], there[0][agent])


def painted(*args, **options):
    surface = pygame.Surface((7, 5), *args, **options)
    surface.fill((20, 40, 60))
    pygame.draw.line(surface, (200, 100, 50), (0, 0), (6, 4))
    return surface


def keyed():
    surface = painted()
    surface.set_colorkey((20, 40, 60))
    return surface


def faint():
    surface = painted()
    surface.set_alpha(90)
    return surface


def indexed():
    surface = pygame.Surface((7, 5), depth=8)
    surface.set_palette([(i, 255 - i, i // 2) for i in range(256)])
    surface.fill((9, 246, 4))
    surface.set_at((2, 3), (100, 155, 50))
    return surface


@pytest.mark.parametrize(
    "make",
    [painted, lambda: painted(pygame.SRCALPHA), keyed, faint, indexed],
    ids=["plain", "clear", "key", "faint", "8"],
)
def test_surfaces_are_what_they_were(make):
    surface = make()
    again = loads(dumps(surface))
    assert again.get_buffer().raw == surface.get_buffer().raw
    for look in ("size", "flags", "bitsize", "masks", "colorkey", "alpha"):
        assert getattr(again, f"get_{look}")() == getattr(surface, f"get_{look}")(), look
    onto, other = painted(), painted()
    onto.blit(surface, (1, 1))
    other.blit(again, (1, 1))
    assert onto.get_buffer().raw == other.get_buffer().raw


def test_fonts_write_what_they_wrote():
    pygame.freetype.init()
    font = pygame.freetype.Font(None, 17)
    again = loads(dumps(font))
    here, there = font.render("curriculum", (1, 2, 3))[0], again.render("curriculum", (1, 2, 3))[0]
    assert here.get_buffer().raw == there.get_buffer().raw


@pytest.mark.parametrize("part", [lambda screen: screen, lambda screen: painted().subsurface((1, 1, 3, 3))])
def test_windows_and_parts_of_others_are_refused(part):
    pygame.display.init()
    screen = pygame.display.set_mode((8, 8))
    try:
        with pytest.raises(pickle.PicklingError, match="window"):
            dumps(part(screen))
    finally:
        pygame.display.quit()

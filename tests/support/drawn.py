"""Environments that draw themselves, well and badly."""

from typing import ClassVar

import gymnasium
import numpy as np

from tests.support.training import Duel
from tests.support.turns import Toll


def grey(step):
    """The grey of a step: far from those of the steps before and after it."""
    return 37 * step % 256


class Drawn(Duel):
    """The duel; a picture of it is as grey as `grey` says, and 10 rows by 20 columns large."""

    metadata: ClassVar = {"name": "drawn_v0", "render_modes": ["human", "rgb_array"], "render_fps": 10}

    def __init__(self, length=5, render_mode=None):
        super().__init__(length)
        self.render_mode = render_mode

    def render(self):
        return np.full((10, 20, 3), grey(self.t), np.uint8)


class Torn(Drawn):
    """Fails at drawing."""

    def render(self):
        raise OSError("no paint")


class Flat(Drawn):
    """Draws no picture but a plan."""

    def render(self):
        return np.zeros((4, 4))


class Undrawn(Drawn):
    """Says that it draws, but has no keyword for it."""

    def __init__(self, length=5):
        super().__init__(length)


class DrawnTurns(Toll):
    """Two agents act three times each, in turn; a picture is as grey as `grey` says."""

    metadata: ClassVar = {"name": "drawn_turns_v0", "render_modes": ["rgb_array"], "is_parallelizable": False}

    def __init__(self, render_mode=None, turns=3):
        super().__init__({"first": turns, "second": turns})
        self.render_mode = render_mode

    def observation_space(self, agent):
        return gymnasium.spaces.Box(-1, 1e6, (1,))

    def render(self):
        return np.full((10, 10, 3), grey(self.clock), np.uint8)

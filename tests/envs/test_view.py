import itertools

import numpy as np
import pytest

from macurr.envs._view import Window, compass, compass_place, turned, turned_offset, turned_place


def test_turned_planes_and_places_belong_together():
    planes = np.arange(2 * 25, dtype=np.float32).reshape(2, 5, 5)
    for facing, view in enumerate(turned(planes)):
        for row, column in itertools.product(range(5), repeat=2):
            at = turned_place(facing, row, column, 4)
            assert (view[:, at[0], at[1]] == planes[:, row, column]).all()


@pytest.mark.parametrize("facing", range(4))
def test_turned_offsets_are_differences_of_turned_places(facing):
    here = turned_place(facing, 2, 3, 6)
    for down, right in itertools.product((-2, 0, 1), repeat=2):
        there = turned_place(facing, 2 + down, 3 + right, 6)
        assert turned_offset(facing, down, right) == (there[0] - here[0], there[1] - here[1])


@pytest.mark.parametrize("facing", range(4))
def test_one_step_ahead_is_up(facing):
    ahead = [(-1, 0), (0, 1), (1, 0), (0, -1)][facing]
    assert turned_offset(facing, *ahead) == (-1, 0)


@pytest.mark.parametrize(
    ("side", "forward", "sight"), [(7, False, 7), (7, True, 7), (7, True, 3), (5, False, 3)]
)
@pytest.mark.parametrize("facing", range(4))
def test_bounds_are_those_of_the_cells_in_sight(side, forward, sight, facing):
    window = Window(side, forward=forward, sight=sight)
    offsets = itertools.product(range(-8, 9), repeat=2)
    seen = {offset: window.place(*turned_offset(facing, *offset)) for offset in offsets}
    top, left, bottom, right = window.bounds(facing)
    inside = set(itertools.product(range(top, bottom), range(left, right)))
    assert {offset for offset, place in seen.items() if place >= 0} == inside
    assert len(inside) == sight**2 == len({place for place in seen.values() if place >= 0})
    block = np.zeros((1, side, side), bool)
    block[window.block] = True
    assert set(np.flatnonzero(block)) == {place for place in seen.values() if place >= 0}


def test_compass_points_at_every_offset():
    table = compass(5)
    for down, right in itertools.product(range(-4, 5), repeat=2):
        distance = abs(down) + abs(right)
        row = table[compass_place(5, down, right)]
        assert row == pytest.approx([right / max(distance, 1), down / max(distance, 1), distance / 8])
    with pytest.raises(ValueError, match="read-only"):
        table[0] = 0.0

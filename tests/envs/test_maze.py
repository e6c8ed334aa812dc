import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from macurr.envs._maze import _ARCS, distances, grow_maze, steps


def _parts(members, touches):
    """The connected parts of a set of cells."""
    rest, parts = set(members), []
    while rest:
        frontier = [rest.pop()]
        parts.append(set(frontier))
        while frontier:
            cell = frontier.pop()
            near = {other for other in rest if touches(cell, other)}
            rest -= near
            parts[-1] |= near
            frontier += near
    return parts


def _by_side(one, other):
    return abs(one[0] - other[0]) + abs(one[1] - other[1]) == 1


def _by_corner(one, other):
    return max(abs(one[0] - other[0]), abs(one[1] - other[1])) == 1


RING = [(-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1)]


def test_arcs_are_one_wall_of_each_group_of_touching_walls_around_a_cell():
    for touching, arcs in enumerate(_ARCS):
        groups = _parts([cell for place, cell in enumerate(RING) if touching >> place & 1], _by_corner)
        chosen = [[RING[place] in group for place in arcs].count(True) for group in groups]
        assert chosen == [1] * len(arcs)


def _free(cells, size):
    width = size + 2
    return {divmod(place, width) for place, wall in enumerate(cells) if not wall}


@given(seed=st.integers(0, 2**32), size=st.integers(2, 14), data=st.data())
def test_free_cells_are_connected_and_walls_as_many_as_asked(seed, size, data):
    n_walls = data.draw(st.integers(0, size * size - 1))
    cells = grow_maze(np.random.default_rng(seed), size, n_walls)
    free = _free(cells, size)
    assert len(free) == size * size - n_walls
    assert all(1 <= row <= size and 1 <= column <= size for row, column in free)
    assert len(_parts(free, _by_side)) == 1


def test_unconnected_mazes_have_as_many_walls_and_fall_apart():
    parts = []
    for seed in range(20):
        cells = grow_maze(np.random.default_rng(seed), 9, 34, connected=False)
        free = _free(cells, 9)
        assert len(free) == 81 - 34
        parts.append(len(_parts(free, _by_side)))
    assert max(parts) > 1


def test_same_generator_same_maze_and_another_one_another():
    mazes = [grow_maze(np.random.default_rng(seed), 9, 20) for seed in (1, 1, 2)]
    assert mazes[0] == mazes[1] != mazes[2]


def test_mazes_spread_their_walls_evenly():
    # Walls per cell over many mazes: no corner of the map is preferred by more than its neighbourhood explains.
    size, n = 7, 400
    counts = np.zeros((size, size))
    for seed in range(n):
        bordered = np.frombuffer(grow_maze(np.random.default_rng(seed), size, 14), np.uint8)
        counts += bordered.reshape(size + 2, size + 2)[1:-1, 1:-1]
    mirrored = [np.flip(counts, 0), np.flip(counts, 1), counts.T]
    sigma = np.sqrt(2 * n * (14 / 49) * (35 / 49))
    assert all(np.abs(counts - other).max() < 4.5 * sigma for other in mirrored)


@pytest.mark.parametrize("seed", range(5))
def test_distances_against_relaxation(seed):
    rng = np.random.default_rng(seed)
    size, width = 6, 8
    cells = grow_maze(rng, size, 18, connected=seed % 2 == 0)
    free = [place for place, wall in enumerate(cells) if not wall]
    sources = rng.choice(free, 2, replace=False).tolist()
    expected = {place: 0 if place in sources else np.inf for place in free}
    for _ in free:
        for place in free:
            near = [expected[place + step] for step in steps(width) if place + step in expected]
            expected[place] = min([expected[place], *(one + 1 for one in near)])
    found = distances(cells, width, sources)
    assert found == [
        int(expected[p]) if expected.get(p, np.inf) < np.inf else -1 for p in range(width * width)
    ]

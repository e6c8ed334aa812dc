"""Random generators as plain state."""

import numpy as np
import pytest

from macurr.errors import StateError
from macurr.seeding import check_generator_state, generator_state, load_generator_state
from macurr.testing.nested import leaves, not_plain, replaced, same, through_files

KINDS = [np.random.PCG64, np.random.PCG64DXSM, np.random.MT19937, np.random.Philox, np.random.SFC64]


def generator(kind, seed=0):
    rng = np.random.Generator(kind(seed))
    rng.random(3)
    rng.integers(5, dtype=np.uint32)  # leaves half of a 64-bit number for the next draw
    return rng


@pytest.mark.parametrize("kind", KINDS)
def test_a_generator_goes_on_from_its_state(kind):
    rng, other = generator(kind), generator(kind, 1)
    state = generator_state(rng)
    assert not list(not_plain(state))
    load_generator_state(other, through_files(state))
    assert rng.integers(5, dtype=np.uint32) == other.integers(5, dtype=np.uint32)
    assert np.array_equal(rng.random(100), other.random(100))
    assert not same(state, generator_state(rng))


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_state_changes_nothing(kind):
    rng = generator(kind)
    before, state = generator_state(rng), generator_state(generator(kind, 1))
    for path, value in leaves(state):
        for damage in ("damaged", None, -1, 2**200, [1, 2]):
            taken = damage == -1 and path[-1] in {"has_uint32", "uinteger", "pos", "buffer_pos"}
            taken |= damage == [1, 2] and path[-1] == "key" and kind is np.random.Philox
            if not taken and not same(value, damage):  # NumPy takes some things as they are
                damaged = replaced(state, path, damage)
                with pytest.raises(StateError, match=kind.__name__):
                    load_generator_state(rng, damaged)
                assert same(generator_state(rng), before)


def test_a_state_of_another_kind_is_refused():
    state = generator_state(generator(np.random.Philox))
    for wrong in (state, {}, None, 3, "state", []):
        with pytest.raises(StateError, match="no state of a PCG64"):
            check_generator_state(np.random.default_rng(), wrong)


def test_checking_does_not_load():
    rng = generator(np.random.PCG64)
    before = generator_state(rng)
    check_generator_state(rng, generator_state(generator(np.random.PCG64, 1)))
    assert same(generator_state(rng), before)

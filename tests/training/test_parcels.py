"""Messages with arrays: what comes out is what went in, and nothing is copied on the way."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from macurr.training.parcels import packed, unpacked

DTYPES = st.sampled_from([np.bool_, np.uint8, np.int16, np.int64, np.float32, np.float64])


def sent(thing):
    return bytearray(b"".join(bytes(part) for part in packed(thing)))


@given(
    st.lists(DTYPES.flatmap(lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_side=0, max_side=5)))),
    st.text(),
)
def test_arrays_come_as_they_went(given_, text):
    got, words = unpacked(sent((given_, text)))
    assert words == text
    assert len(got) == len(given_)
    for one, other in zip(given_, got, strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert one.tobytes() == other.tobytes()
        assert other.flags.aligned
        assert other.flags.writeable


def test_arrays_are_not_copied():
    given_ = {"a": np.arange(7, dtype=np.uint8), "b": np.arange(5.0)}
    parts = [np.frombuffer(part, np.uint8) for part in packed(given_) if len(part)]
    for array in given_.values():
        assert any(np.shares_memory(array, part) for part in parts)
    content = sent(given_)
    whole = np.frombuffer(content, np.uint8)
    got = unpacked(content)
    for name, array in got.items():
        assert np.shares_memory(array, whole)
        assert np.array_equal(array, given_[name])
    assert {array.__array_interface__["data"][0] % 16 for array in got.values()} == {0}


def test_what_lies_in_another_order_comes_too():
    array = np.arange(12.0).reshape(3, 4)
    for each in (array.T, array[::2], array[:, 1:3]):
        assert np.array_equal(unpacked(sent(each)), each)


def test_what_cannot_be_pickled_is_not_sent():
    with pytest.raises((TypeError, AttributeError)):
        packed(lambda: 0)

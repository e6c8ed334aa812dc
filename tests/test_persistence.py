import json
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from macurr.errors import StateError
from macurr.persistence import load_state, save_state, write_atomically

leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | npst.arrays(
        st.sampled_from([np.float32, np.int64, np.bool_]), npst.array_shapes(min_side=0, max_dims=3)
    )
)
nests = st.recursive(
    leaves,
    lambda part: (
        st.lists(part, max_size=3)
        | st.lists(part, max_size=3).map(tuple)
        | st.dictionaries(
            st.text() | st.sampled_from(["__array__", "__tuple__", "__dict__"]), part, max_size=3
        )
    ),
    max_leaves=8,
)


def same(a, b):
    if isinstance(a, np.ndarray):
        return (
            isinstance(b, np.ndarray)
            and a.dtype == b.dtype
            and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
        )
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@given(state=st.dictionaries(st.text(), nests, max_size=3))
def test_what_is_saved_comes_back_equal_in_value_and_type(tmp_path_factory, state):
    path = tmp_path_factory.mktemp("state") / "x.state"
    save_state(path, state)
    assert same(load_state(path), state)


def test_generators_survive(tmp_path):
    rng = np.random.default_rng(3)
    save_state(tmp_path / "rng", {"rng": rng.bit_generator.state, "big": 2**200, "nan": float("nan")})
    loaded = load_state(tmp_path / "rng")
    other = np.random.default_rng()
    other.bit_generator.state = loaded["rng"]
    assert other.integers(1 << 60, size=5).tolist() == rng.integers(1 << 60, size=5).tolist()
    assert loaded["big"] == 2**200
    assert np.isnan(loaded["nan"])


@pytest.mark.parametrize(
    "state",
    [{"a": object()}, {"a": {1: 2}}, {"a": np.array([object()])}, {"a": {1, 2}}, {"a": b"bytes"}],
)
def test_what_a_state_cannot_hold_is_refused_and_the_old_file_stays(tmp_path, state):
    path = tmp_path / "x"
    save_state(path, {"kept": 1})
    with pytest.raises(StateError, match="a"):
        save_state(path, state)
    assert load_state(path) == {"kept": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["x"]


def test_damage_is_noticed_wherever_it_is(tmp_path):
    path = tmp_path / "x"
    save_state(path, {"numbers": np.arange(50), "text": "hello"})
    whole = path.read_bytes()
    for cut in range(0, len(whole), 37):
        path.write_bytes(whole[:cut])
        with pytest.raises(StateError, match="cannot be read as a state"):
            load_state(path)
    start = whole.index(np.arange(50).tobytes())
    path.write_bytes(whole[:start] + b"\xff" + whole[start + 1 :])
    with pytest.raises(StateError, match="cannot be read as a state"):
        load_state(path)


def test_another_format_is_refused(tmp_path):
    path = tmp_path / "x"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tree.json", json.dumps({"format": "macurr-state-99", "state": {}}))
    with pytest.raises(StateError, match="macurr-state-1"):
        load_state(path)


def test_pickles_are_never_read(tmp_path):
    path = tmp_path / "x"
    save_state(path, {"a": np.arange(3)})
    with zipfile.ZipFile(path) as archive:
        tree = archive.read("tree.json")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tree.json", tree)
        with archive.open("arrays/0.npy", "w") as member:
            np.lib.format.write_array(member, np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises(StateError):
        load_state(path)


def test_a_failed_write_leaves_the_old_file_and_no_scratch(tmp_path, monkeypatch):
    path = tmp_path / "x"
    write_atomically(path, b"old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["x"]

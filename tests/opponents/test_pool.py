"""The pool as its users see it: what goes in comes out, for as long as it should."""

import pickle
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from macurr.errors import PoolError, UsageError
from macurr.opponents import AgentPool, OpponentTaskSpace, pool_folder
from macurr.opponents.retention import choose_victims


def weights(value, size=4):
    return {"w": np.full(size, float(value)), "b": np.array(value, dtype=np.int32)}


@pytest.fixture
def pool(tmp_path):
    return AgentPool(tmp_path / "pool")


def test_snapshots_come_back_as_they_went_in(pool):
    parameters = {
        "float": np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32),
        "transposed": np.arange(6.0).reshape(2, 3).T,
        "scalar": np.array(2.5),
        "empty": np.zeros((0, 3)),
        "flags": np.array([True, False]),
        "big endian": np.arange(3, dtype=">i4"),
    }
    snapshot = pool.add(parameters, step=10, score=np.float64(0.5), parent=None)
    for found in (pool.get(snapshot), AgentPool(pool.path).get(snapshot)):
        assert found.keys() == parameters.keys()
        for name, wanted in parameters.items():
            assert found[name].shape == wanted.shape
            assert found[name].dtype == wanted.dtype.newbyteorder("=")
            np.testing.assert_array_equal(found[name], wanted)
    assert pool.metadata(snapshot) == {"step": 10, "score": 0.5, "parent": None}


def test_numpy_ids_are_ids(pool):
    pool.add(weights(5), step=1)
    assert np.int64(0) in pool
    assert pool.get(np.int64(0))["b"] == 5
    assert pool.metadata(np.int64(0)) == {"step": 1}
    pool.remove(np.int64(0))
    assert pool.ids == []


def test_ids_grow(pool):
    assert [pool.add(weights(i)) for i in range(3)] == [0, 1, 2]
    assert pool.ids == [0, 1, 2] == list(pool)
    assert (pool.latest, len(pool)) == (2, 3)
    assert 1 in pool
    assert 3 not in pool
    assert "1" not in pool


def test_ids_are_never_used_twice(pool):
    for i in range(3):
        pool.add(weights(i))
    pool.remove(2)
    assert pool.latest == 1
    assert pool.add(weights(3)) == 3
    assert AgentPool(pool.path).add(weights(4)) == 4
    for snapshot in pool.ids:
        pool.remove(snapshot)
    assert pool.ids == []
    assert AgentPool(pool.path).add(weights(5)) == 5


def test_users_cannot_change_what_others_get(pool):
    original = weights(1)
    snapshot = pool.add(original, history=[1, 2])
    original["w"][:] = 9
    found = pool.get(snapshot)
    with pytest.raises(ValueError, match="read-only"):
        found["w"][:] = 9
    with pytest.raises(ValueError, match="WRITEABLE"):
        found["w"].flags.writeable = True
    del found["w"]
    pool.metadata(snapshot)["history"].append(3)
    np.testing.assert_array_equal(pool.get(snapshot)["w"], np.ones(4))
    assert pool.metadata(snapshot) == {"history": [1, 2]}


def test_a_bounded_number_stays_loaded(tmp_path, monkeypatch):
    pool = AgentPool(tmp_path, cache_size=2)
    for i in range(4):
        pool.add(weights(i))
    read = []
    from macurr.opponents import pool as module

    original = module.read_parameters
    monkeypatch.setattr(module, "read_parameters", lambda file: read.append(int(file.stem)) or original(file))
    for snapshot in (0, 1, 0, 2, 0, 1, 1):
        assert pool.get(snapshot)["b"] == snapshot
    assert read == [0, 1, 2, 1]  # the least recently used goes first
    assert len(pool._loaded) == 2


def test_nothing_stays_loaded_where_nothing_should(tmp_path):
    pool = AgentPool(tmp_path, cache_size=0)
    pool.add(weights(0))
    assert pool.get(0)["b"] == 0
    assert len(pool._loaded) == 0


def test_looking_reads_the_folder_only_after_changes(pool, monkeypatch):
    import os

    for i in range(3):
        pool.add(weights(i))
    # Past the clock's grain the time stamp alone must do.
    past = os.stat(pool.path).st_mtime_ns - 10**10
    os.utime(pool.path, ns=(past, past))
    assert pool.ids == [0, 1, 2]
    monkeypatch.setattr(os, "scandir", lambda *_: pytest.fail("the folder was read again"))
    for _ in range(3):
        assert pool.ids == [0, 1, 2]
        assert pool.latest == 2
        assert 7 not in pool
    monkeypatch.undo()
    AgentPool(pool.path).add(weights(3))
    assert pool.ids == [0, 1, 2, 3]  # of the same process: at once


def test_others_snapshots_are_seen_at_once(tmp_path):
    writer, reader = AgentPool(tmp_path), AgentPool(tmp_path)
    for i in range(50):
        snapshot = writer.add(weights(i))
        assert reader.latest == snapshot
        assert reader.get(snapshot)["b"] == i
        if i % 3 == 2:
            writer.remove(snapshot)
            assert snapshot not in reader


def test_what_others_do_is_seen_soon_and_at_once_by_who_asks_for_it(pool, monkeypatch):
    import os
    import shutil

    now = [1000.0]
    monkeypatch.setattr(pool_folder.time, "monotonic", lambda: now[0])
    pool.add(weights(0))
    assert pool.ids == [0]
    shutil.copy(pool.file(0), pool.file(7))  # as another process would
    now[0] += 0.04
    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", None)  # no look at the folder
        assert (pool.ids, pool.latest, len(pool), 0 in pool) == ([0], 0, 1, True)
    now[0] += 0.02
    assert pool.ids == [0, 7]
    shutil.copy(pool.file(0), pool.file(9))
    assert pool.ids == [0, 7]
    assert 8 not in pool  # it looks
    assert pool.ids == [0, 7, 9]
    shutil.copy(pool.file(0), pool.file(11))
    assert OpponentTaskSpace(pool).check(11) == 11
    shutil.copy(pool.file(0), pool.file(12))
    assert pool.add(weights(1)) == 13
    assert pool.ids == [0, 7, 9, 11, 12, 13]


def test_tags(pool):
    pool.add(weights(0), tags=["main", "frozen"])
    pool.add(weights(1), tags="main")
    pool.add(weights(2), step=5)
    assert pool.tagged("main") == [0, 1]
    assert pool.tagged("main", "frozen") == [0]
    assert pool.tagged() == [0, 1, 2]
    assert pool.tagged("other") == []
    assert pool.metadata(0) == {"tags": ["main", "frozen"]}
    assert pool.metadata(2) == {"step": 5}


def test_a_pickled_pool_is_its_path_and_options(tmp_path):
    pool = AgentPool(tmp_path, capacity=3, keep="strongest", strength="elo", cache_size=5)
    pool.add(weights(0, size=100_000), elo=1.0)
    pool.get(0)
    sent = pickle.dumps(pool)
    assert len(sent) < 2000
    copy = pickle.loads(sent)
    assert copy.get(0)["b"] == 0
    assert (copy.path, copy.capacity, copy.keep, copy.strength, copy.cache_size) == (
        pool.path,
        3,
        "strongest",
        "elo",
        5,
    )
    assert copy.add(weights(1), elo=0.0) == 1
    assert pool.ids == [0, 1]


def test_an_empty_pool_is_a_pool(pool):
    assert pool
    assert pool.ids == []
    with pytest.raises(PoolError, match=r"is empty\. Add a snapshot first"):
        _ = pool.latest


def test_threads_share_a_pool(tmp_path):
    pool = AgentPool(tmp_path, cache_size=3)
    given, failures = [], []

    def work(worker):
        try:
            for i in range(15):
                snapshot = pool.add(weights(100 * worker + i), worker=worker)
                given.append((snapshot, 100 * worker + i))
                assert snapshot in pool
                for other in pool.ids[-5:]:
                    assert pool.metadata(other)["worker"] == pool.get(other)["b"] // 100
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sorted(snapshot for snapshot, _ in given) == pool.ids == list(range(60))
    assert all(pool.get(snapshot)["b"] == value for snapshot, value in given)


# --- capacity ------------------------------------------------------------------------------------------------


def test_newest(tmp_path):
    pool = AgentPool(tmp_path, capacity=3)
    for i in range(6):
        pool.add(weights(i))
        assert len(pool) <= 3
    assert pool.ids == [3, 4, 5]


def test_spread_keeps_all_ages(tmp_path):
    pool = AgentPool(tmp_path, capacity=5, keep="spread")
    for i in range(40):
        pool.add(weights(i))
        assert len(pool) == min(i + 1, 5)
        assert pool.ids[0] == 0
        assert pool.latest == i
    gaps = np.diff(pool.ids)
    assert gaps.max() <= 3 * np.median(gaps)


@given(st.integers(2, 12), st.integers(1, 120))
def test_spread_never_leaves_a_hole_much_larger_than_the_others(capacity, count):
    ids: list[int] = []
    for new in range(count):
        for victim in choose_victims(ids, len(ids) + 1 - capacity, "spread"):
            ids.remove(victim)
        ids.append(new)
    assert len(ids) == min(count, capacity)
    if count > capacity > 2:
        # At best every gap is (count - 1) / (capacity - 1); thinning out without looking ahead costs a factor.
        assert np.diff(ids).max() <= 4 * max(1.0, (count - 1) / (capacity - 1))


def test_strongest_by_metadata_and_by_function(tmp_path):
    by_key = AgentPool(tmp_path / "key", capacity=3, keep="strongest", strength="elo")
    by_function = AgentPool(
        tmp_path / "f", capacity=3, keep="strongest", strength=lambda _, data: -data["elo"]
    )
    for elo in (5, 9, 1, 7, 3, 2):
        by_key.add(weights(elo), elo=elo)
        by_function.add(weights(elo), elo=elo)
    assert [by_key.metadata(i)["elo"] for i in by_key] == [9, 7, 2]  # the newest stays, come what may
    assert [by_function.metadata(i)["elo"] for i in by_function] == [1, 3, 2]


def test_of_equally_strong_ones_the_oldest_goes(tmp_path):
    pool = AgentPool(tmp_path, capacity=2, keep="strongest", strength="elo")
    for _ in range(4):
        pool.add(weights(0), elo=1)
    assert pool.ids == [2, 3]


@pytest.mark.parametrize("elo", [float("nan"), "high", None, True])
def test_a_strength_must_be_a_number_before_anything_is_written(tmp_path, elo):
    pool = AgentPool(tmp_path, capacity=1, keep="strongest", strength="elo")
    pool.add(weights(0), elo=1)
    with pytest.raises(PoolError):
        pool.add(weights(1), elo=elo)
    with pytest.raises(PoolError, match="strength None"):
        pool.add(weights(1))
    assert pool.ids == [0]


def test_a_strength_function_that_fails_leaves_the_pool_as_it_was(tmp_path):
    pool = AgentPool(tmp_path, capacity=1, keep="strongest", strength=lambda *_: float("nan"))
    pool.add(weights(0))
    with pytest.raises(PoolError, match="Snapshot 0 has strength nan"):
        pool.add(weights(1))
    assert pool.ids == [0]


def test_who_was_just_let_go_can_still_be_got(tmp_path):
    pool = AgentPool(tmp_path, capacity=2)
    for i in range(40):
        pool.add(weights(i), step=i)
    assert pool.ids == [38, 39]
    reader = AgentPool(tmp_path)
    assert 37 not in reader
    for gone in (37, 6):
        assert reader.get(gone)["b"] == gone
        assert reader.metadata(gone) == {"step": gone}
    with pytest.raises(PoolError, match="Snapshot 5 is not in the pool"):
        reader.get(5)
    assert len(list((tmp_path / "retired").iterdir())) == 32


@given(
    st.lists(st.integers(0, 99), unique=True, min_size=1).map(sorted),
    st.integers(-2, 50),
    st.sampled_from(["newest", "spread", "strongest"]),
)
@settings(max_examples=60)
def test_as_many_go_as_have_to(ids, excess, keep):
    victims = choose_victims(ids, excess, keep, lambda snapshot: snapshot % 7)
    assert len(victims) == len(set(victims)) == min(max(excess, 0), len(ids))
    assert set(victims) <= set(ids)


# --- other pools ---------------------------------------------------------------------------------------------


def test_export_keeps_ids(pool, tmp_path):
    for i in range(4):
        pool.add(weights(i), step=i)
    pool.remove(1)
    other = pool.export(tmp_path / "copy", ids=[3, 0])
    assert other.ids == [0, 3]
    assert other.get(3)["b"] == 3
    assert other.metadata(3) == {"step": 3}
    assert other.add(weights(9)) == 4
    assert pool.ids == [0, 2, 3]
    for target in (tmp_path / "copy", pool.path):
        with pytest.raises(PoolError, match="is in use"):
            pool.export(target)
    with pytest.raises(PoolError, match="Snapshot 1 is not in the pool"):
        pool.export(tmp_path / "never", ids=[0, 1])
    assert not (tmp_path / "never").exists()


def test_import_gives_new_ids(pool, tmp_path):
    other = AgentPool(tmp_path / "other")
    for i in range(3):
        other.add(weights(10 + i), tags=["a", "b"], step=i)
    pool.add(weights(0))
    assert pool.import_from(other.path) == {0: 1, 1: 2, 2: 3}
    assert pool.import_from(other, ids=[2]) == {2: 4}
    assert [int(pool.get(i)["b"]) for i in pool] == [0, 10, 11, 12, 12]
    assert pool.metadata(4) == {"step": 2, "tags": ["a", "b"]}


def test_import_checks_everything_first(tmp_path):
    pool, other = AgentPool(tmp_path / "pool", like=weights(0)), AgentPool(tmp_path / "other")
    other.add(weights(1))
    other.add(weights(2, size=5))
    with pytest.raises(
        PoolError, match=r"Snapshot 1 is of another architecture: 'w' is \(\(5,\), 'float64'\)"
    ):
        pool.import_from(other)
    with pytest.raises(PoolError, match="Snapshot 7 is not in the pool"):
        pool.import_from(other, ids=[0, 7])
    with pytest.raises(PoolError, match="no pool"):
        pool.import_from(tmp_path / "nowhere")
    assert pool.ids == []
    assert not (tmp_path / "nowhere").exists()


def test_like_refuses_other_architectures(tmp_path):
    AgentPool(tmp_path).add(weights(0, size=7))
    pool = AgentPool(tmp_path, like=weights(0))
    for other in (
        weights(0, size=5),
        {"w": np.zeros(4)},
        {**weights(0), "c": np.zeros(1)},
        {**weights(0), "b": np.zeros(())},
    ):
        with pytest.raises(PoolError, match="The new snapshot is of another architecture"):
            pool.add(other)
    with pytest.raises(PoolError, match="Snapshot 0 is of another architecture"):
        pool.get(0)
    assert pool.ids == [0]
    assert pool.get(pool.add(weights(1)))["b"] == 1


# --- what is refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        None,
        [np.zeros(3)],
        {"w": np.array(["a"])},
        {"w": np.array([object()])},
        {"w": np.zeros(2, dtype=complex)},
        {"w": [[1.0], [1.0, 2.0]]},
        {1: np.zeros(3)},
        {"": np.zeros(3)},
        {"__metadata__": np.zeros(3)},
    ],
)
def test_what_are_no_parameters_is_refused(pool, parameters):
    with pytest.raises(PoolError):
        pool.add(parameters)
    assert pool.ids == []


@pytest.mark.parametrize("value", [float("nan"), object(), {1, 2}, b"bytes"])
def test_metadata_are_plain(pool, value):
    with pytest.raises(PoolError, match="not plain JSON"):
        pool.add(weights(0), note=value)
    assert pool.ids == []


@pytest.mark.parametrize("snapshot", [0, 99, -1, "0", None, 1.5])
def test_what_is_not_there_is_named(pool, snapshot):
    pool.add(weights(0))
    pool.remove(0)
    pool.add(weights(1))
    pool.add(weights(2))
    for question in (pool.get, pool.metadata, pool.remove):
        with pytest.raises(PoolError, match=r"not in the pool .* 2 snapshots, ids 1 to 2"):
            question(snapshot)
    assert pool.ids == [1, 2]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"capacity": 0}, "capacity"),
        ({"keep": "oldest"}, "keep must be"),
        ({"keep": "strongest"}, "go together"),
        ({"strength": "elo"}, "go together"),
        ({"cache_size": -1}, "cache_size"),
    ],
)
def test_options_out_of_range_are_refused(tmp_path, options, said):
    with pytest.raises(UsageError, match=said):
        AgentPool(tmp_path / "pool", **options)
    assert not (tmp_path / "pool").exists()

"""The pool under real faults: killed writers, damaged files, full disks, processes at once."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from macurr.errors import PoolError
from macurr.opponents import AgentPool

ADD_FOREVER = """
import sys
import numpy as np
from macurr.opponents import AgentPool
pool = AgentPool(sys.argv[1])
while True:
    value = np.random.default_rng().integers(1 << 30)
    snapshot = pool.add({"w": np.full(200_000, float(value))}, value=int(value))
    print(snapshot, value, flush=True)
"""


def start(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def weights(value, size=8):
    return {"w": np.full(size, float(value))}


def test_writers_killed_in_the_middle_lose_nothing(tmp_path):
    promised = {}
    for round_ in range(6):
        writer = start(ADD_FOREVER, tmp_path)
        lines = [writer.stdout.readline() for _ in range(2)]  # it is at work
        time.sleep(0.003 * round_)  # at another point of its work each time
        writer.send_signal(signal.SIGKILL)
        rest, complaints = writer.communicate()
        assert complaints == ""
        for line in [*lines, *rest.splitlines()]:
            if len(parts := line.split()) == 2:
                snapshot = int(parts[0])
                assert snapshot not in promised, "an id was given out twice"
                promised[snapshot] = int(parts[1])
        pool = AgentPool(tmp_path)
        assert promised.keys() <= set(pool.ids)
        assert not list((tmp_path / "making").iterdir()), "what the dead left unfinished was not cleaned up"
        for snapshot in pool.ids:  # also those that were in place before the writer could say so
            value = pool.metadata(snapshot)["value"]
            assert promised.get(snapshot, value) == value
            np.testing.assert_array_equal(pool.get(snapshot)["w"], np.full(200_000, float(value)))
        promised[pool.add(weights(-1, size=200_000), value=-1)] = -1


def add_some(path, worker, count, barrier, results):
    pool = AgentPool(path)
    barrier.wait()
    results.put([(pool.add(weights(worker * 1000 + i)), worker * 1000 + i) for i in range(count)])


def test_processes_adding_at_once_get_different_ids(tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(3), context.Queue()
    reader = AgentPool(tmp_path)
    workers = [context.Process(target=add_some, args=(tmp_path, i, 40, barrier, results)) for i in range(3)]
    for worker in workers:
        worker.start()
    given = [pair for _ in workers for pair in results.get(timeout=60)]
    for worker in workers:
        worker.join()
    assert sorted(snapshot for snapshot, _ in given) == list(range(120)) == reader.ids
    for snapshot, value in given:
        assert reader.get(snapshot)["w"][0] == value


@pytest.mark.parametrize("size", [0, 4, 100, -10])
def test_a_truncated_snapshot_is_named_and_the_others_are_not_affected(tmp_path, size):
    pool = AgentPool(tmp_path)
    for i in range(3):
        pool.add(weights(i, size=1000), step=i)
    content = pool.file(1).read_bytes()
    pool.file(1).write_bytes(content[:size])
    for question in (pool.get, AgentPool(tmp_path).metadata):
        with pytest.raises(PoolError, match=r"000000000001\.safetensors cannot be read.*remove the snapshot"):
            question(1)
    with pytest.raises(PoolError, match="cannot be read"):
        pool.export(tmp_path / "copy")
    with pytest.raises(PoolError, match="cannot be read"):
        AgentPool(tmp_path / "other").import_from(pool)
    assert AgentPool(tmp_path / "other").ids == []
    assert pool.get(0)["w"][0] == 0
    assert pool.metadata(2) == {"step": 2}
    pool.remove(1)
    assert pool.ids == [0, 2]
    assert pool.add(weights(3)) == 3


def test_a_file_that_is_no_snapshot_is_named(tmp_path):
    pool = AgentPool(tmp_path)
    pool.add(weights(0))
    pool.file(0).write_bytes(os.urandom(500))
    with pytest.raises(PoolError, match="cannot be read"):
        pool.get(0)
    pool.file(5).mkdir()
    with pytest.raises(PoolError, match="cannot be read"):
        pool.get(5)


def test_foreign_files_are_ignored(tmp_path):
    pool = AgentPool(tmp_path)
    pool.add(weights(0))
    for name in ("notes.txt", "best.safetensors", ".hidden", "7.txt"):
        (tmp_path / name).write_text("x")
    assert AgentPool(tmp_path).ids == pool.ids == [0]


def test_what_the_living_are_writing_is_left_alone(tmp_path):
    AgentPool(tmp_path)
    from macurr.opponents.snapshot_files import temporary_name

    mine = tmp_path / "making" / temporary_name("000000000000")
    foreign = tmp_path / "making" / "000000000001~another-host~1~5.tmp"
    old = tmp_path / "making" / "000000000002~another-host~1~6.tmp"
    for file in (mine, foreign, old):
        file.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    assert AgentPool(tmp_path).ids == []
    assert mine.exists()
    assert foreign.exists()
    assert not old.exists()


FILL_THE_DISK = """
import resource, signal, sys
import numpy as np
from macurr.errors import PoolError
from macurr.opponents import AgentPool
pool = AgentPool(sys.argv[1])
pool.add({"w": np.zeros(10)})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    pool.add({"w": np.zeros(100_000)})
except PoolError as error:
    print(error)
assert not list((pool.path / "making").iterdir())
assert pool.ids == [0]
print(pool.add({"w": np.ones(10)}))
"""


def test_a_full_disk_is_named_and_leaves_the_pool_intact(tmp_path):
    writer = start(FILL_THE_DISK, tmp_path)
    said, complaints = writer.communicate(timeout=60)
    assert writer.returncode == 0, complaints
    message, following = said.splitlines()
    assert "Could not write" in message
    assert "Free some space" in message
    assert following == "2"  # the id of the failed snapshot is not used again
    assert AgentPool(tmp_path).ids == [0, 2]


def test_paths_that_cannot_be_a_pool_are_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "pool"):
        with pytest.raises(PoolError, match=r"cannot be opened.*Check the path"):
            AgentPool(path)
    with pytest.raises(PoolError, match="There is no pool"):
        AgentPool(tmp_path / "nowhere", create=False)


@pytest.mark.parametrize(
    "content", ['{"format": "macurr agent pool", "version": 99}', "{}", "[]", "not json"]
)
def test_pools_of_another_version_are_refused(tmp_path, content):
    AgentPool(tmp_path).add(weights(0))
    (tmp_path / "pool.json").write_text(content)
    with pytest.raises(PoolError, match="reads pools of version 1"):
        AgentPool(tmp_path)


def test_a_pool_whose_folder_vanished_says_so(tmp_path):
    import shutil

    pool = AgentPool(tmp_path / "pool")
    pool.add(weights(0))
    shutil.rmtree(tmp_path / "pool")
    for question in (lambda: pool.ids, lambda: pool.add(weights(1)), lambda: pool.get(0)):
        with pytest.raises(PoolError, match="Check the path"):
            question()
    assert "unreadable" in repr(pool)


def test_a_copied_pool_without_its_empty_folders_works(tmp_path):
    pool = AgentPool(tmp_path)
    pool.add(weights(0))
    pool.add(weights(1))
    for folder in ("ids", "making"):
        for file in (tmp_path / folder).iterdir():
            file.unlink()
        (tmp_path / folder).rmdir()
    copy = AgentPool(tmp_path)
    assert copy.ids == [0, 1]
    assert copy.add(weights(2)) == 2

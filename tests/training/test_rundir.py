"""The directory of a run: whose it is, what survives a crash or a full disk, and what is refused."""

import errno
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from macurr.errors import ConfigError, TransportError
from macurr.persistence import load_state
from macurr.training import Listener, TrainConfig, evaluate, resume, tournament, train, write_report
from macurr.training.lock import LOCK_FILES
from macurr.training.rundir import RunDir
from macurr.training.tables import append_row, cut_rows, read_csv
from tests.support.scripts import ROOT

TINY = {
    "env": "pettingzoo.classic.rps_v2",
    "transport": "local",
    "workers": 1,
    "envs_per_worker": 4,
    "rollout": 30,
    "minibatches": 2,
    "epochs": 1,
    "hidden": (8,),
    "levels": 20,
    "snapshot_every": 2,
    "seeds": 2,
    "matrix_seeds": 1,
    "report": False,
    "checkpoint_minutes": 0,
    "steps": 1200,
}


def config(path, **changes):
    return TrainConfig.of(**{**TINY, "out": str(path), **changes})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that nothing interrupts."""
    return train(config(tmp_path_factory.mktemp("whole") / "run")).run


class Stopping(Listener):
    def __init__(self, after, act=None):
        self.after, self.act = after, act

    def updated(self, status):
        if status.update == self.after:
            if self.act is None:
                raise KeyboardInterrupt
            self.act()


# --- one process at a time ---------------------------------------------------------------------------------

_SLOW = """
import sys, time
from macurr.training import Listener, TrainConfig, train
from tests.training.test_rundir import TINY

class Slow(Listener):
    def updated(self, status):
        time.sleep(0.2)

train(TrainConfig.of(**{**TINY, "out": sys.argv[1]}), Slow())
"""


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


@pytest.fixture
def working(tmp_path):
    """A run that another process is at work on, and that process."""
    path = tmp_path / "run"
    code = [sys.executable, "-c", _SLOW, str(path)]
    process = subprocess.Popen(code, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        wait_for(lambda: len(read_csv(path / "metrics.csv").get("update", ())) >= 3)
        yield path, process
    finally:
        process.kill()
        process.wait()


def test_a_run_belongs_to_the_process_that_works_on_it_until_it_ends_in_any_way(working, whole):
    path, process = working
    # The lock is that process's, and both ways in name it.
    owner = f"being worked on by process {process.pid} on .*, since "
    with pytest.raises(ConfigError, match=owner):
        resume(str(path))
    with pytest.raises(ConfigError, match=owner):
        train(config(path))
    assert process.poll() is None
    # It can be read meanwhile.
    assert tournament([f"{path}:0"], include_random=True, levels=1, out=path.parent / "cup").players
    with pytest.raises(ConfigError, match="not been finished"):
        evaluate(path)
    assert write_report(path, films=False).exists()
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    # Nobody holds it now, and nothing has to be removed by hand.
    run = resume(str(path)).run
    assert run.metrics.read_bytes() == whole.metrics.read_bytes()
    assert run.policy.read_bytes() == whole.policy.read_bytes()


def test_a_run_belongs_to_one_sitting_of_a_process_too(tmp_path):
    refused = []

    def intrude():
        for attempt in (lambda: resume(str(tmp_path / "run")), lambda: train(config(tmp_path / "run"))):
            with pytest.raises(ConfigError, match=f"by process {os.getpid()} on ") as error:
                attempt()
            refused.append(error)

    train(config(tmp_path / "run", steps=360), Stopping(2, intrude))
    assert len(refused) == 2
    assert resume(str(tmp_path / "run"), steps=480).status.update == 4, "given back at the end"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ConfigError("broken"), ZeroDivisionError])
def test_the_lock_is_given_back_after_a_failure(tmp_path, error):
    def fail():
        raise error

    with pytest.raises(error if isinstance(error, type) else type(error)):
        train(config(tmp_path / "run", steps=360), Stopping(1, fail))
    assert not (tmp_path / "run" / ".owner").exists()
    assert resume(str(tmp_path / "run")).status.update == 3


def test_another_thread_may_give_the_lock_back(tmp_path):
    run = RunDir.create(config(tmp_path / "run"))
    again = RunDir(run.path)
    with pytest.raises(ConfigError, match="worked on"), again.locked():
        pass
    thread = threading.Thread(target=run.release)
    thread.start()
    thread.join()
    with again.locked():
        pass
    run.release()


def test_a_directory_that_holds_nothing_but_a_lock_is_empty(tmp_path):
    first = RunDir.create(config(tmp_path / "run"))
    with pytest.raises(ConfigError, match="worked on by process"):
        RunDir.create(config(tmp_path / "run"))
    first.config.unlink()
    first.release()
    assert {path.name for path in first.path.iterdir()} <= LOCK_FILES
    RunDir.create(config(tmp_path / "run")).discard()
    assert list((tmp_path / "run").iterdir()) == [], "it was there before, and stays"


def test_a_directory_of_others_is_left_as_it_was(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds files already"):
        RunDir.create(config(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_the_lock_is_there_whoever_holds_it(tmp_path):
    run = RunDir.create(config(tmp_path / "run"))
    (run.path / ".owner").unlink()
    with pytest.raises(ConfigError, match="worked on by another process"):
        RunDir.create(config(tmp_path / "run"))
    run.release()


def test_a_file_system_without_locks_is_refused(tmp_path, monkeypatch):
    def acquire(self, **how):
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr("macurr.training.lock.FileLock.acquire", acquire)
    with pytest.raises(ConfigError, match="file system has no locks"):
        train(config(tmp_path / "run"))
    assert list(tmp_path.iterdir()) == []


# --- a full disk -------------------------------------------------------------------------------------------


@contextmanager
def no_file_beyond(size):
    """Files of this process do not grow beyond some bytes: the system refuses as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def limited(path, after, size):
    """A listener that lets the disk be full after an update; `size` says how large files may be."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size(RunDir(path)), before[1]))

    try:
        yield Stopping(after, fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _events(run):
    return max(file.stat().st_size for file in run.tensorboard.iterdir())


SIZES = {
    "in the middle of a row of metrics.csv": (lambda run: run.metrics.stat().st_size + 40, "metrics.csv"),
    "in the middle of a row of timing.csv": (lambda run: run.timing.stat().st_size + 40, "timing.csv"),
    "in the middle of an event of TensorBoard": (lambda run: _events(run) + 40, "tensorboard"),
    "in the middle of a checkpoint": (lambda run: run.checkpoint.stat().st_size - 40, "checkpoint.state"),
    "everywhere": (lambda run: 0, "metrics.csv"),
}


@pytest.mark.parametrize("where", SIZES)
def test_a_full_disk_is_one_error_and_what_was_saved_goes_on(where, tmp_path, whole):
    size, name = SIZES[where]
    # timing.csv is shorter than metrics.csv: it is made the longer one, by columns that it once had.
    wide = {"update": 0} | {f"column {i}": 0.0 for i in range(400)} if name == "timing.csv" else {}
    path = tmp_path / "run"
    with limited(path, 4, size) as full:
        if wide:
            full.began = lambda run, config: append_row(run.timing, wide)
        with pytest.raises(ConfigError) as error:
            train(config(path), full)
    assert "cannot be written: File too large" in str(error.value)
    assert f"macurr train --resume {path}" in str(error.value)
    run = RunDir.open(path)[0]
    assert load_state(run.checkpoint)["counters"]["update"] in (3, 4)
    if name == "metrics.csv" and where != "everywhere":
        assert not run.metrics.read_bytes().endswith(b"\n"), "half a row is there"
    assert len(read_csv(run.metrics)["update"]) >= 4, "and is not read"
    run = resume(str(path)).run
    assert run.metrics.read_bytes() == whole.metrics.read_bytes()
    assert run.policy.read_bytes() == whole.policy.read_bytes()
    assert not list(run.path.glob("*.tmp")) + list(run.path.glob(".*.tmp"))


def test_a_disk_that_was_full_before_anything_was_saved(tmp_path):
    path = tmp_path / "run"
    with limited(path, 0, lambda run: 2000) as full:
        full.began = lambda run, config: full.act()
        with pytest.raises(ConfigError, match=r"too large.*had saved nothing yet, and .*resume"):
            train(config(path), full)
    run, whole = resume(str(path)).run, train(config(tmp_path / "whole")).run
    assert run.metrics.read_bytes() == whole.metrics.read_bytes()
    assert run.policy.read_bytes() == whole.policy.read_bytes()


def test_a_checkpoint_that_went_missing(tmp_path):
    run = train(config(tmp_path / "run")).run
    run.checkpoint.unlink()
    before = run.metrics.read_bytes()
    with pytest.raises(ConfigError, match=r"checkpoint\.state is missing"):
        resume(str(run.path))
    assert run.metrics.read_bytes() == before


def test_a_run_that_cannot_be_begun_for_lack_of_room_leaves_nothing(tmp_path):
    with no_file_beyond(0), pytest.raises(ConfigError, match="cannot be written to: File too large"):
        train(config(tmp_path / "run"))
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_that_finds_no_room_leaves_the_one_before(tmp_path):
    run = RunDir.create(config(tmp_path / "run"))
    run.save({"number": 1})
    scratch = run.path / f".checkpoint.state.{os.getpid()}.tmp"
    scratch.symlink_to("/dev/full")
    with pytest.raises(
        ConfigError, match=r"checkpoint.state cannot be written: No space left on device.*--resume"
    ):
        run.save({"number": 2})
    assert run.load() == {"number": 1}
    run.release()


def test_only_what_disks_say_is_told_as_that(tmp_path):
    run = RunDir(tmp_path)
    with pytest.raises(ConnectionRefusedError), run.guarded():
        raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")
    with pytest.raises(TransportError), run.guarded():
        raise TransportError("ours")
    with pytest.raises(ConfigError, match=r"there.csv cannot be written: full"), run.guarded():
        raise OSError(errno.ENOSPC, "full", str(tmp_path / "there.csv"))


# --- what a crash leaves -----------------------------------------------------------------------------------


def test_runs_that_begin_at_once_without_a_name_have_directories_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("macurr.training.rundir.time.strftime", lambda *_: "20260101-000000")
    together, found = threading.Barrier(8), []

    def begin():
        together.wait()
        found.append(RunDir.create(TrainConfig()))

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for run in found:
        run.release()
    names = sorted(run.path.name.removeprefix("apple_race_v0-20260101-000000") for run in found)
    assert names == ["", *(f"-{number}" for number in range(2, 9))]


def test_files_that_a_crash_left_unfinished_go_when_the_run_goes_on(tmp_path):
    path = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(config(path), Stopping(2))
    for name in (".checkpoint.state.99999.tmp", ".metrics.csv.99999.tmp", ".evaluation.json.99999.tmp"):
        (path / name).write_text("half")
    resume(str(path))
    assert [file.name for file in path.glob(".*.tmp")] == [".evaluation.json.99999.tmp"], (
        "which an evaluation elsewhere may be writing"
    )


ROWS = [{"update": i, "win": i / 3, "loss": float("nan")} for i in range(1, 13)]


def table(folder, rows=ROWS):
    file = folder / "table.csv"
    file.unlink(missing_ok=True)
    for row in rows:
        append_row(file, row)
    return file


def test_a_table_grows_by_rows(tmp_path):
    file = table(tmp_path, ROWS[:2])
    assert file.read_text() == "update,win,loss\n1,0.3333333333333333,nan\n2,0.6666666666666666,nan\n"
    assert read_csv(file)["win"] == [1 / 3, 2 / 3]
    assert read_csv(tmp_path / "missing.csv") == {}


def test_a_column_may_come_later_and_may_be_missing(tmp_path):
    file = table(tmp_path, [{"update": 1, "a": 2}, {"update": 2, "b": 3}, {"b": 5, "update": 3, "a": 4}])
    assert file.read_text() == "update,a,b\n1,2,\n2,,3\n3,4,5\n"
    columns = read_csv(file)
    assert str(columns["a"]) == "[2.0, nan, 4.0]"
    assert str(columns["b"]) == "[nan, 3.0, 5.0]"


@given(st.data())
def test_a_table_is_as_long_as_its_last_whole_row(tmp_path_factory, data):
    file = table(tmp_path_factory.mktemp("tables"))
    text = file.read_text()
    length = data.draw(st.integers(0, len(text)))
    last = data.draw(st.integers(0, 13))
    file.write_text(text[:length])
    rows = max(text[:length].count("\n") - 1, 0)
    assert len(read_csv(file).get("update", [])) == rows
    cut_rows(file, last)
    kept = min(rows, last)
    if "\n" not in text[:length]:
        assert not file.exists(), "not even a header"
    else:
        assert file.read_text() == "".join(text.splitlines(keepends=True)[: 1 + kept])
    for row in ROWS[kept:]:
        append_row(file, row)
    assert file.read_text() == text, "and goes on as if nothing had happened"


# --- what is no run of ours --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        ("config.yaml", "macurr_run: 3\n", "run format 3; this macurr reads format 2"),
        (
            "config.json",
            '{"macurr_run": 1, "env": "x"}',
            r"config.json is of run format 1; this macurr reads format 2",
        ),
        ("config.json", '{"name": "something else"}', "is not the directory of a macurr run"),
        ("config.json", "{", "is not the directory of a macurr run"),
        ("config.yaml", "env: x\n", "is not the configuration of a macurr run. Name a run's directory"),
        ("config.yaml", "macurr_run: 2\nenv: 3\n", "env=3 cannot be used"),
        ("config.yaml", b"\xff\xfe\xff", "is not the directory of a macurr run"),
    ],
)
def test_other_directories_are_refused(tmp_path, name, content, wanted):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    for attempt in (lambda: RunDir.open(tmp_path), lambda: resume(str(tmp_path)), lambda: evaluate(tmp_path)):
        with pytest.raises(ConfigError, match=wanted):
            attempt()
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"gamma": 0.5}, "gamma cannot be changed.*What can be changed: steps, minutes"),
        ({"workrs": 2, "hidden": (3,)}, "hidden, workrs cannot be changed"),
        ({"steps": 0}, "steps=0 cannot be used"),
        ({"device": "abacus"}, "device='abacus' cannot be used"),
    ],
)
def test_a_run_goes_on_as_the_same_run(whole, changes, wanted):
    before = whole.config.read_bytes()
    with pytest.raises(ConfigError, match=wanted):
        resume(str(whole.path), **changes)
    assert whole.config.read_bytes() == before


def test_a_new_bound_replaces_both(tmp_path):
    train(config(tmp_path / "run", steps=240))
    resume(str(tmp_path / "run"), minutes=1e-9)
    assert (RunDir.open(tmp_path / "run")[1].steps, RunDir.open(tmp_path / "run")[1].minutes) == (None, 1e-9)

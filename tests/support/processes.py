"""Child processes for tests: what they raise or return, and how they are made."""

import contextlib
import multiprocessing
import os
import pathlib
import time

import pytest

METHODS = [
    pytest.param(method, marks=pytest.mark.filterwarnings("ignore:This process.*fork:DeprecationWarning"))
    for method in multiprocessing.get_all_start_methods()
]
"""Every way to start a process on this system. Python 3.12 and later warn of forks next to threads."""


def FORK(test):
    """For tests that are about forks."""
    test = pytest.mark.filterwarnings("ignore:This process.*fork:DeprecationWarning")(test)
    return pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")(test)


def _report(pipe, function, args):
    try:
        pipe.send(("returned", function(*args)))
    except Exception as error:
        pipe.send((type(error).__name__, str(error)))
    pipe.close()


@contextlib.contextmanager
def child(function, *args, method="fork"):
    """A running child process, and the pipe on which it reports what its function returns or raises."""
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_report, args=(theirs, function, args))
    process.start()
    theirs.close()
    try:
        yield process, ours
    finally:
        if process.is_alive() and process.exitcode is None:
            process.join(20)
        if process.is_alive():
            process.kill()
            process.join()
        ours.close()


def in_child(function, *args, method="fork"):
    """What a function returns or raises in a child process, as ("returned", value) or (error's name, message)."""
    with child(function, *args, method=method) as (_, pipe):
        assert pipe.poll(30), "the child process says nothing"
        return pipe.recv()


def children_of(pid):
    """The processes that a process has started, from /proc."""
    tasks = pathlib.Path(f"/proc/{pid}/task")
    try:
        names = os.listdir(tasks)
    except OSError:  # it is gone
        return []
    return [int(child) for name in names for child in _words(tasks / name / "children")]


def descendants_of(pid):
    """The processes that a process has started, and those that these have."""
    found = children_of(pid)
    return found + [each for child in found for each in descendants_of(child)]


def alive(pid):
    """Whether a process runs: not gone, and no zombie."""
    state = _words(pathlib.Path(f"/proc/{pid}/stat"))
    return bool(state) and state[2] not in {"Z", "X"}


def wait_for(what, seconds=10.0):
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.005)


def _words(file):
    try:
        return file.read_text().split()
    except OSError:
        return []

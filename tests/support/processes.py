"""Child processes for tests: what they raise or return, and how they are made."""

import contextlib
import multiprocessing
import os

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

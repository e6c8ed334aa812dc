"""Settings and checks of the whole test run."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from pathlib import Path

# Before NumPy or torch is imported, and inherited by every process that a test starts: two test workers on two
# cores have no room for a thread pool each. No window and no greeting from pygame.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ["MPLBACKEND"] = "Agg"
os.environ["PYGAME_HIDE_SUPPORT_PROMPT"] = "1"
os.environ["SDL_VIDEODRIVER"] = "dummy"

# Bytecode is kept even where the environment says otherwise: the tests start hundreds of processes, and what one has
# compiled no other needs to compile again.
sys.dont_write_bytecode = False

# Some tests interrupt programs. A shell that starts the tests in the background has SIGINT ignored, which every process
# would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import hypothesis
import numpy as np
import pytest

# The same examples on every run, and no deadline: a busy machine is not a failure.
hypothesis.settings.register_profile("macurr", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("macurr")

_GRACE = 30.0  # seconds for what a test has closed to end


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Keep the groups of pytest-xdist: tests of one group belong to one worker.

    Up to 3.8 it tells its scheduler of them by the end of `_nodeid`, which pytest 9.2 and later read no more.
    """
    for item in items:
        told = getattr(item, "_nodeid", item.nodeid)
        if told != item.nodeid:
            item._id = type(item._id).parse(told)


def _extra_threads(before):
    return [t for t in threading.enumerate() if t not in before and t.is_alive() and not t.daemon]


def _extra_children(before):
    return [child for child in multiprocessing.active_children() if child.pid not in before]


@pytest.fixture(autouse=True)
def _nothing_left_behind():
    """A test leaves no process and no thread running, and no global setting changed."""
    threads = set(threading.enumerate())
    children = {child.pid for child in multiprocessing.active_children()}
    settings = np.geterr(), signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    yield
    deadline = time.monotonic() + _GRACE
    while (_extra_threads(threads) or _extra_children(children)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _extra_threads(threads), "a thread of this test still runs"
    assert not _extra_children(children), "a process of this test still runs"
    assert settings == (np.geterr(), signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))


@pytest.fixture(scope="module")
def ray_on_two_cpus():
    """Ray on this machine, for the tests of one module, which belong into the xdist group "ray"."""
    import ray

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))  # Ray's workers import the tests
        ray.init("local", num_cpus=2, log_to_driver=False, include_dashboard=False, configure_logging=False)
    yield ray
    ray.shutdown()

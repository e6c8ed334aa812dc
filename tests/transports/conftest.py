"""What the tests of transports share."""

import os

import pytest

from tests.support.scripts import ROOT


@pytest.fixture(scope="session")
def cluster():
    """Ray on two processors of this machine, for all tests of one worker."""
    import ray

    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(ROOT)  # Ray's workers import the tests
    ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False, configure_logging=False)
    yield ray
    ray.shutdown()

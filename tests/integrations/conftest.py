"""What the tests of integrations share."""

import os

import pytest

from tests.support.scripts import ROOT


@pytest.fixture(scope="module")
def cluster():
    """Ray on two processors of this machine; that of other tests where it runs already."""
    import ray

    if ray.is_initialized():
        yield ray
        return
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(ROOT)  # Ray's workers import the tests
    ray.init("local", num_cpus=2, log_to_driver=False, include_dashboard=False, configure_logging=False)
    yield ray
    ray.shutdown()
    os.environ.pop("PYTHONPATH")
    if before is not None:
        os.environ["PYTHONPATH"] = before

"""The Ray transport on one machine: every promise of the links, and no call of Ray in a step or a reset."""

import itertools

import pytest
import ray

from macurr import make_ray_curriculum
from macurr.testing import TransportTests

pytestmark = [
    pytest.mark.xdist_group("ray"),
    pytest.mark.timeout(120),
    pytest.mark.usefixtures("ray_on_two_cpus"),
]
NAMES = map("curriculum-{}".format, itertools.count())


class TestRay(TransportTests):
    def make(self, curriculum, **options):
        return make_ray_curriculum(curriculum, next(NAMES), timeout=30, **options)

    def run_apart(self, function, arguments):
        task = ray.remote(function).options(num_cpus=0.5)
        return ray.get([task.remote(*each) for each in arguments])

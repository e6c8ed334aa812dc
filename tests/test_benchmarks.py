"""Every benchmark runs to its end and prints figures; what they are depends on the machine."""

import re

import pytest

from tests.support.scripts import ROOT, assert_succeeded, run_python

# Each cluster of Ray takes both processors, so those who start one run one after the other.
BENCHMARKS = [
    pytest.param(path, marks=[pytest.mark.xdist_group("ray")] if path.name.startswith("ray") else [])
    for path in sorted((ROOT / "benchmarks").glob("*.py"))
]


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda path: path.name)
def test_benchmark_runs(benchmark, tmp_path):
    result = run_python([benchmark, "--smoke"], cwd=tmp_path, timeout=100)
    assert_succeeded(result)
    assert re.search(r"\d", result.stdout), "a benchmark prints figures"

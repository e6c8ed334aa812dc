"""Every benchmark runs to its end and prints figures; what they are depends on the machine."""

import re

import pytest

from tests.support.scripts import ROOT, assert_succeeded, run_python

BENCHMARKS = sorted((ROOT / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda path: path.name)
def test_benchmark_runs(benchmark, tmp_path):
    result = run_python([benchmark, "--smoke"], cwd=tmp_path, timeout=60)
    assert_succeeded(result)
    assert re.search(r"\d", result.stdout), "a benchmark prints figures"

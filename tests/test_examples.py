"""Every example runs to its end, in a directory that is not the repository's."""

import pytest

from tests.support.scripts import ROOT, assert_succeeded, run_python

# Each cluster of Ray takes both processors, so those who start one run one after the other.
EXAMPLES = [
    pytest.param(path, marks=[pytest.mark.xdist_group("ray")] if path.name.startswith("rllib") else [])
    for path in sorted((ROOT / "examples").glob("*.py"))
]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_example_runs(example, tmp_path):
    result = run_python([example, "--smoke"], cwd=tmp_path, timeout=160)
    assert_succeeded(result)
    assert result.stdout.strip(), "an example shows its reader something"

"""Run Python in a fresh process, as a user would, and see that nothing of it stays behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run_python(
    arguments: Sequence[str | Path], cwd: Path, timeout: float = 60.0, path: Path | None = ROOT
) -> subprocess.CompletedProcess[str]:
    """Run the interpreter of this test run.

    Args:
        arguments: What follows `python` on the command line.
        cwd: The directory to run in.
        timeout: Seconds after which the process and all its children are killed and TimeoutExpired is raised.
        path: The first place to import from; the checkout, unless the test is about another one.

    Returns:
        The finished process, its output as text.
    """
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUTF8": "1"}
    if path is not None:
        env["PYTHONPATH"] = str(path)
    command = [sys.executable, *map(str, arguments)]
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    # A session of its own: killing the script alone would leave its workers running.
    with subprocess.Popen(
        command, cwd=cwd, env=env, text=True, encoding="utf-8", start_new_session=True, **streams
    ) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def assert_succeeded(result: subprocess.CompletedProcess[str]) -> None:
    """Fail with the output of the process unless it ended well."""
    assert result.returncode == 0, f"{result.args}\n{result.stdout[-3000:]}\n{result.stderr[-6000:]}"

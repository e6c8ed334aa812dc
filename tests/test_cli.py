"""The command: its errors, its help, Ctrl-C, and one run from a shell."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from macurr.cli import main
from macurr.training import TrainConfig
from macurr.training.rundir import RunDir

TINY = [
    *(
        "--transport",
        "local",
        "--workers",
        "1",
        "--envs-per-worker",
        "4",
        "--rollout",
        "30",
        "--minibatches",
        "2",
    ),
    *("--hidden", "8", "--levels", "20", "--seeds", "2", "--matrix-seeds", "2", "--no-report"),
]
HERE = "tests.support.training:"


def call(*args):
    """The exit code, also where argparse ends the program."""
    try:
        return main([str(arg) for arg in args])
    except SystemExit as end:
        return end.code


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


BAD = {
    "no such module": (["--env", "no_such_package.env"], "no module 'no_such_package'"),
    "no such part": (["--env", "macurr.envs.no_such_v0"], "no module 'macurr.envs.no_such_v0'"),
    "no such callable": (["--env", HERE + "Missing"], "no Missing()"),
    "a module without an environment": (["--env", "json"], "no parallel_env()"),
    "an empty path": (["--env", ""], "env=''"),
    "a path that is none": (["--env", "..x"], "cannot be imported"),
    "single-agent": (["--env", HERE + "single_agent"], "single-agent Gymnasium environment"),
    "no environment": (["--env", HERE + "number"], "a builtins.int, not a PettingZoo ParallelEnv"),
    "nobody plays": (["--env", HERE + "Nobody"], "without agents"),
    "action space": (["--env", HERE + "Many"], "MultiDiscrete"),
    "observation space": (["--env", HERE + "Wordy"], "no fixed flat size"),
    "argument that it does not take": (["--env-arg", "colour=3"], "colour=3"),
    "argument out of range": (["--env-arg", "size=1"], "size"),
    "no key": (["--env-arg", "size"], "key=value"),
    "steps": (["--steps", "0"], "steps=0"),
    "steps in letters": (["--steps", "many"], "'many'"),
    "broken steps": (["--steps", "1.5"], "'1.5'"),
    "endless steps": (["--steps", "inf"], "'inf'"),
    "minutes": (["--minutes", "-1"], "minutes=-1"),
    "no minutes": (["--minutes", "nan"], "minutes=nan"),
    "both": (["--steps", "0", "--minutes", "0"], "steps=0"),
    "workers": (["--workers", "0"], "workers=0"),
    "local workers": (["--transport", "local"], "workers=2"),
    "curriculum": (["--curriculum", "magic"], "'plr', 'dr'"),
    "score": (["--score", "luck"], "value_l1"),
    "batch": (["--envs-per-worker", "1", "--rollout", "1"], "minibatches"),
    "option": (["--colour"], "--colour"),
    "resume what is not there": (["--resume", "nowhere"], "nowhere is not the directory of a macurr run"),
    "resume with other settings": (["--resume", "nowhere", "--env", "x"], "--env cannot be given"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_message_and_leaves_nothing(name, elsewhere, capsys):
    args, wanted = BAD[name]
    assert call("train", *args) == 2
    out, error = capsys.readouterr()
    assert wanted in error
    assert error.count("error:") == 1
    assert "Traceback" not in error
    assert out == ""
    assert list(elsewhere.iterdir()) == []


def test_a_directory_that_cannot_be_written(elsewhere, capsys):
    (elsewhere / "file").write_text("x")
    assert call("train", *TINY, "--out", elsewhere / "file" / "run") == 2
    assert "cannot be made" in capsys.readouterr().err
    assert call("train", *TINY, "--out", "/proc/macurr-run") == 2
    assert "cannot be made" in capsys.readouterr().err
    assert call("train", *TINY, "--out", elsewhere) == 2
    assert "holds files already" in capsys.readouterr().err
    assert [path.name for path in elsewhere.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ('{"macurr_run": 99}', "run format 99"),
        ("{}", "not the configuration of a macurr run"),
        ("{", "not YAML"),
        (TrainConfig().to_yaml(), "no checkpoint"),
    ],
)
def test_a_directory_that_is_no_run_of_ours(content, wanted, elsewhere, capsys):
    (elsewhere / "run").mkdir()
    (elsewhere / "run" / "config.yaml").write_text(content)
    assert call("train", "--resume", "run") == 2
    assert wanted in capsys.readouterr().err
    assert [path.name for path in (elsewhere / "run").iterdir()] == ["config.yaml"]


def test_a_damaged_checkpoint(elsewhere, capsys):
    assert call("train", *TINY, "--steps", "120", "--out", "run") == 0
    checkpoint = elsewhere / "run" / "checkpoint.state"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    capsys.readouterr()
    assert call("train", "--resume", "run", "--steps", "240") == 2
    assert "cannot be resumed" in capsys.readouterr().err


@pytest.mark.parametrize("package", ["torch", "rich", "matplotlib", "tensorboard"])
def test_a_missing_extra_is_named(package, elsewhere):
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from macurr.cli import main\n"
        "sys.exit(main(['train', '--steps', '100']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert "pip install 'macurr[train]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(elsewhere.iterdir()) == []


def test_help_names_every_setting_and_needs_no_extra(capsys):
    code = (
        "import sys\nfrom macurr.cli import main\n"
        "try:\n    main(['train', '--help'])\n"
        "finally:\n    assert not {'torch', 'rich', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0
    for flag in (
        "--env",
        "--curriculum",
        "--opponents",
        "--seed",
        "--steps",
        "--minutes",
        "--workers",
        "--out",
        "--resume",
    ):
        assert f"  {flag} " in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 110


def test_a_run_from_a_shell(elsewhere, capsys):
    assert call("train", *TINY, "--steps", "2.4e2", "--env-arg", "size=5", "--env-arg", "apples=(3,4)") == 0
    out = capsys.readouterr().out
    (run,) = (elsewhere / "runs").iterdir()
    assert re.fullmatch(r"apple_race_v0-\d{8}-\d{6}", run.name)
    assert f"Run: runs/{run.name}" in out
    assert re.search(r"train +100% +240 steps", out)
    assert re.search(r"^random .*%", out, re.MULTILINE)
    assert "\x1b" not in out, "no terminal, no colours"
    config = RunDir.open(run)[1]
    assert config.env_args == {"size": 5, "apples": (3, 4)}
    assert (config.steps, config.model.hidden, config.tasks.levels) == (240, (8,), 20)
    assert call("evaluate", run) == 0
    assert re.search(r"^random .*%", capsys.readouterr().out, re.MULTILINE)
    assert call("report", run) == 0
    assert (run / "report.png").stat().st_size > 10_000


def test_ctrl_c_saves_and_resume_goes_on(elsewhere):
    command = [sys.executable, "-m", "macurr.cli", "train"]
    sizes = ["--workers", "2", "--envs-per-worker", "4", "--rollout", "30", *TINY[8:]]
    started = subprocess.Popen(
        [*command, *sizes, "--steps", "1e9", "--out", "run"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        rows = elsewhere / "run" / "metrics.csv"
        deadline = time.monotonic() + 60
        while not (rows.exists() and rows.read_text().count("\n") > 3) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(started.pid, signal.SIGINT)  # a terminal sends it to every process of the group
        out, error = started.communicate(timeout=60)
    finally:
        started.kill()
    assert started.returncode == 130, error
    assert error == ""
    assert "go on with: macurr train --resume run" in out
    updates = rows.read_text().count("\n") - 1
    done = subprocess.run(
        [*command, "--resume", "run", "--steps", str(240 * (updates + 2))],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    numbers = [line.split(",")[0] for line in rows.read_text().splitlines()[1:]]
    assert numbers == [str(i) for i in range(1, updates + 3)]

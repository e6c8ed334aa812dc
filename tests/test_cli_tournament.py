"""`macurr tournament` and `macurr evaluate` from a shell: what they print and write, and what they refuse."""

import hashlib
import json
import re
import shutil
import subprocess
import sys

import pytest

from macurr.cli import main
from macurr.cli.options import levels
from tests.support.tournaments import AUCTION, planted

DUEL = "tests.support.training:Duel"


def call(*args):
    """The exit code, also where argparse ends the program."""
    try:
        return main([str(arg) for arg in args])
    except SystemExit as end:
        return end.code


def contents(folder):
    """What is in a folder, to the last bit."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in folder.rglob("*")
    }


def bidder(folder, bid, **options):
    return planted(folder, AUCTION, 3, 3, bid, env_args={"agents": 2}, **options)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Runs, good and bad. Tests work in copies."""
    folder = tmp_path_factory.mktemp("made")
    bidder(folder / "low", 0, past=[1, 1])
    bidder(folder / "high", 2, hidden=(3, 2))
    planted(folder / "rps", "pettingzoo.classic.rps_v2", 6, 3, 0)
    bidder(folder / "dropped", 1, past=[0, 0, 0])
    (folder / "dropped" / "snapshots" / "000000000001.safetensors").unlink()
    for name in ("short-snapshot", "short-policy", "unfinished", "no-pool", "foreign", "old", "torn"):
        shutil.copytree(folder / "low", folder / name)
    for file in ("short-snapshot/snapshots/000000000001.safetensors", "short-policy/policy.safetensors"):
        (folder / file).write_bytes((folder / file).read_bytes()[:100])
    (folder / "unfinished" / "policy.safetensors").unlink()
    shutil.rmtree(folder / "no-pool" / "snapshots")
    shutil.rmtree(folder / "foreign" / "snapshots")
    shutil.copytree(folder / "high" / "snapshots", folder / "foreign" / "snapshots")
    (folder / "old" / "config.yaml").write_text('{"macurr_run": 99}')
    (folder / "torn" / "config.yaml").write_text("{")
    return folder


@pytest.fixture
def here(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path / "here")
    (tmp_path / "here" / "full").mkdir()
    (tmp_path / "here" / "full" / "file").write_text("mine")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


BAD_TOURNAMENTS = {
    "no run": ([], "required: RUN"),
    "nothing there": (["low", "nowhere"], "nowhere is not the directory of a macurr run"),
    "nothing named so": (["low", "low:x"], "low:x is not the directory of a macurr run"),
    "one player": (["low"], "low is the only player"),
    "the same player twice": (["low", "./low"], "low is the only player"),
    "a snapshot that was dropped": (["dropped", "dropped:1"], "does not hold snapshot 1: it was dropped"),
    "a snapshot that never was": (["low", "low:17"], "these are left: 0, 1, 2"),
    "a truncated snapshot": (["low", "short-snapshot:1"], "cut short or damaged"),
    "a truncated snapshot among all": (
        ["low", "short-snapshot", "--snapshots", "all"],
        "cut short or damaged",
    ),
    "a truncated final policy": (["low", "short-policy"], "short-policy/policy.safetensors cannot be read"),
    "a pool of another architecture": (["low", "foreign:0"], "foreign:0 is of another architecture"),
    "an unfinished run": (["low", "unfinished"], "unfinished:2"),
    "a run without a pool": (["low", "no-pool"], "no pool"),
    "a run of another version": (["low", "old"], "run format 99"),
    "torn settings": (["low", "torn"], "not YAML"),
    "different environments": (["low", "rps"], "different environments: low plays"),
    "an environment of another shape": (["low", "high", "--env", DUEL], "has another shape"),
    "no such environment": (["low", "high", "--env", "no_such_package"], "no module 'no_such_package'"),
    "arguments of another shape": (["low", "high", "--env-arg", "agents=3"], "has another shape"),
    "no argument": (["low", "high", "--env-arg", "agents"], "key=value"),
    "no snapshots": (["low", "high", "--snapshots", "0"], "snapshots=0"),
    "few snapshots": (["low", "high", "--snapshots", "few"], "'few'"),
    "no levels": (["low", "high", "--levels", "0"], "levels=0"),
    "too many levels": (["low", "high", "--levels", "1e12"], "1,000,000"),
    "levels in letters": (["low", "high", "--levels", "all"], "'all'"),
    "no range": (["low", "high", "--seeds", "9-3"], "'9-3'"),
    "an endless range": (["low", "high", "--seeds", "0-1e12"], "'0-1e12'"),
    "a level twice": (["low", "high", "--seeds", "3,4,3"], "different seeds"),
    "workers": (["low", "high", "--workers", "-1"], "workers=-1"),
    "seed": (["low", "high", "--seed", "-1"], "seed=-1"),
    "a directory in use": (["low", "high", "--out", "full"], "holds files already"),
    "a directory in a file": (["low", "high", "--out", "full/file/out"], "cannot be made"),
}

BAD_EVALUATIONS = {
    "no run": ([], "required: RUN"),
    "nothing there": (["nowhere"], "nowhere is not the directory of a macurr run"),
    "again, with a truncated snapshot": (["short-snapshot"], "cut short or damaged"),
    "again, with a truncated policy": (["short-policy"], "short-policy/policy.safetensors cannot be read"),
    "again, with a pool of another architecture": (["foreign"], "foreign:0 is of another architecture"),
    "again, without an end": (["unfinished"], "has not been finished"),
    "no run of ours": (["full"], "full is not the directory of a macurr run"),
    "a snapshot that was dropped": (["dropped", "--snapshot", "1"], "it was dropped"),
    "a snapshot named so": (["dropped:1"], "it was dropped"),
    "two snapshots": (["low:1", "--snapshot", "0"], "Two snapshots of low are named, 1 and 0"),
    "a truncated snapshot": (["short-snapshot:1", "--against", "random"], "cut short or damaged"),
    "a truncated opponent": (["low", "--against", "short-policy"], "short-policy/policy.safetensors"),
    "a truncated final policy": (["short-policy", "--seeds", "2"], "cut short or damaged"),
    "a pool of another architecture": (["foreign", "--against", "pool"], "another architecture"),
    "an unfinished run": (["unfinished", "--seeds", "2"], "has not been finished"),
    "an opponent that is not there": (["low", "--against", "nowhere"], "nowhere is not the directory"),
    "another environment": (["low", "--against", "rps"], "different environments"),
    "another shape": (["low", "--env", DUEL], "has another shape"),
    "against itself": (["low", "--against", "low"], "nobody for low to play against"),
    "levels": (["low", "--seeds", "0"], "levels=0"),
    "seed": (["low", "--seed", "-3"], "seed=-3"),
    "a file that cannot be written": (
        ["low", "--seeds", "1", "--out", "nowhere/x.json"],
        "cannot be written",
    ),
    "a directory": (["low", "--seeds", "1", "--out", "full"], "cannot be written"),
}

BAD = {
    f"{command}: {name}": ([command, *args], wanted)
    for command, cases in (("tournament", BAD_TOURNAMENTS), ("evaluate", BAD_EVALUATIONS))
    for name, (args, wanted) in cases.items()
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_message_and_damages_nothing(name, here, capsys):
    args, wanted = BAD[name]
    before = contents(here)
    assert call(*args) == 2
    out, error = capsys.readouterr()
    assert wanted in error
    assert error.count("error:") == 1
    assert len(error.splitlines()) == 1
    assert "Traceback" not in error
    assert out == ""
    assert contents(here) == before


@pytest.mark.parametrize("command", ["tournament", "evaluate"])
def test_an_environment_that_fails_leaves_nothing(command, here, capsys):
    shutil.rmtree(here / "rps")
    planted(here / "rps", "tests.support.training:Failing", 6, 3, 0)
    planted(here / "rps2", "tests.support.training:Failing", 6, 3, 1)
    before = contents(here)
    args = ["tournament", "rps", "rps2"] if command == "tournament" else ["evaluate", "rps", "--seeds", "2"]
    assert call(*args) == 2
    error = capsys.readouterr().err
    assert "the lever broke" in error
    assert contents(here) == before


def test_a_tournament_from_a_shell(here, capsys):
    before = contents(here)
    assert call("tournament", "low", "high", "low:0", "--levels", "3", "--include-random") == 0
    out = capsys.readouterr().out
    assert re.search(r"evaluate +100% +36 of 36 games", out)
    assert re.search(r"^high +0 +\d", out, re.MULTILINE)
    assert re.search(r"^low +200 +\d", out, re.MULTILINE)
    assert "\x1b" not in out, "no terminal, no colours"
    assert max(map(len, out.splitlines())) <= 110
    (written,) = (here / "tournaments").iterdir()
    assert re.fullmatch(r"low-\d{8}-\d{6}", written.name)
    assert f"Results: tournaments/{written.name}/tournament.json" in out
    data = json.loads((written / "tournament.json").read_text())
    assert data["players"][0]["name"] == "high"
    assert {name: content for name, content in contents(here).items() if "tournaments" not in name} == before


def test_tournaments_of_one_second_have_directories_of_their_own(here):
    for _ in range(2):
        assert call("tournament", "low", "high", "--levels", "1") == 0
    assert len(list((here / "tournaments").iterdir())) == 2


def test_options_reach_the_games(here, capsys):
    out = ["--out", "out"]
    options = [
        "--snapshots",
        "2",
        "--seeds",
        "40-41",
        "--workers",
        "1",
        "--seed",
        "7",
        "--env-arg",
        "agents=2",
    ]
    assert call("tournament", "low", "high:0", *options, *out) == 0
    data = json.loads((here / "out" / "tournament.json").read_text())
    assert (data["levels"], data["seed"], data["env_args"]) == ([40, 41], 7, {"agents": 2})
    assert {player["name"] for player in data["players"]} == {"low", "low:0", "high:0"}


def test_an_evaluation_from_a_shell(here, capsys):
    before = contents(here)
    args = ["--against", "high", "--against", "pool", "--levels", "5", "--workers", "1"]
    assert call("evaluate", "low", *args) == 0
    out = capsys.readouterr().out
    assert re.search(r"^high +0 +10 +0\.0% +0\.0% +100\.0%", out, re.MULTILINE)
    assert re.search(r"^low:1 +100 +10 +0\.0% +0\.0% +100\.0%", out, re.MULTILINE)
    assert "Results: low/comparison.json" in out
    assert set(contents(here)) - set(before) == {"low/comparison.json"}
    assert call("evaluate", "low", *args, "--out", "mine.json") == 0
    assert (here / "mine.json").read_bytes() == (here / "low" / "comparison.json").read_bytes()
    assert "Results: mine.json" in capsys.readouterr().out


def test_levels_as_they_are_written():
    assert levels("200") == levels("2e2") == 200
    assert levels("7-9") == (7, 8, 9)
    assert levels("7-7") == levels("7,") == (7,)
    assert levels("9,3,5") == (9, 3, 5)


@pytest.mark.parametrize("command", ["tournament", "evaluate"])
def test_help_needs_no_extra(command):
    code = (
        "import sys\nfrom macurr.cli import main\n"
        f"try:\n    main(['{command}', '--help'])\n"
        "finally:\n    assert not {'torch', 'rich', 'matplotlib', 'openskill'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 110


@pytest.mark.parametrize("package", ["torch", "rich", "matplotlib"])
def test_a_missing_extra_is_named(package, here):
    before = contents(here)
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from macurr.cli import main\n"
        "sys.exit(main(['tournament', 'low', 'high']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert "pip install 'macurr[train]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert contents(here) == before

"""The command: its errors, its help, Ctrl-C, and one run from a shell."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

import macurr.training
from macurr.cli import main
from macurr.cli.ending import Terminated, terminable
from macurr.cli.settings import flag
from macurr.errors import ConfigError
from macurr.persistence import load_state
from macurr.training import TrainConfig
from macurr.training.config import settings_of
from macurr.training.rundir import RunDir
from tests.support.processes import descendants_of
from tests.support.scripts import ROOT

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
    "no such part of an installed package": (["--env", "mpe2.no_such_v0"], "no module 'mpe2.no_such_v0'"),
    "no such callable": (["--env", HERE + "Missing"], "no Missing()"),
    "a module without an environment": (["--env", "json"], "no parallel_env()"),
    "an empty path": (["--env", ""], "env=''"),
    "a path that is none": (["--env", "..x"], "cannot be imported"),
    "single-agent": (["--env", HERE + "single_agent"], "single-agent Gymnasium environment"),
    "no environment": (["--env", HERE + "number"], "a builtins.int, not a PettingZoo ParallelEnv"),
    "nobody knows who plays": (
        ["--env", "pettingzoo.test.example_envs.generated_agents_parallel_v0"],
        "without possible_agents",
    ),
    "nobody plays": (["--env", HERE + "Nobody"], "without agents"),
    "agents by number": (["--env", HERE + "Numbered"], "calls an agent 0, a int"),
    "a constructor that ends the program": (["--env", HERE + "gone"], "gone() failed: SystemExit: bye"),
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
    "option": (["--colour"], "macurr train: error: there is no option --colour. See macurr train --help"),
    "misspelt option": (
        ["--seed", "1", "--centralized-critic"],
        "no option --centralized-critic (did you mean --centralised-critic?). See macurr train",
    ),
    "misspelt option with a value": (["--ouput=x"], "no option --ouput (did you mean --out?)"),
    "something else": (["apples"], "nothing takes the argument 'apples'"),
    "resume what is not there": (["--resume", "nowhere"], "nowhere is not the directory of a macurr run"),
    "resume with other settings": (["--resume", "nowhere", "--env", "x"], "--env cannot be given"),
    "resume with a file": (["--resume", "nowhere", "--config", "x"], "--config cannot be given"),
    "resume with an environment's keyword": (
        ["--resume", "nowhere", "--env-arg", "a=1"],
        "--env-arg cannot be",
    ),
    "resume serially": (["--resume", "nowhere", "--serial"], "--serial cannot be given"),
    "serial and workers": (["--serial", "--workers", "3"], "--workers 3 says otherwise"),
    "serial and processes": (["--serial", "--transport", "process"], "--transport process says otherwise"),
    "a file that is not there": (["--config", "no.yaml"], "--config no.yaml cannot be read: No such file"),
    "no sizes": (["--hidden", "8,x"], "'x' is no whole number"),
    "policies that nobody plays": (["--num-policies", "2"], "mapping='shared'"),
    "population of one": (["--pbt"], "num_policies=1 is one"),
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


BROKEN = {
    "syntax": ("def f(:\n", r"SyntaxError: invalid syntax \(broken.py, line 1\)\. Mend its module"),
    "division": (
        "\n1 / 0\n",
        r"ZeroDivisionError: division by zero \(.*broken\.py, line 2\)\. Mend its module",
    ),
    "exit": ("import sys\nsys.exit(3)\n", r"SystemExit: 3 \(.*broken\.py, line 2\)\. Mend its module"),
}


@pytest.mark.parametrize("option", ["--env", "--mapping"])
@pytest.mark.parametrize("what", BROKEN)
def test_a_module_that_cannot_be_imported_is_one_message(elsewhere, capsys, what, option):
    text, wanted = BROKEN[what]
    (elsewhere / "broken.py").write_text(text)
    more = ["--num-policies", "2"] if option == "--mapping" else []
    assert call("train", option, "broken:part", *more, "--out", "run") == 2
    error = capsys.readouterr().err
    assert re.search(wanted, error), error
    assert "Traceback" not in error
    assert not (elsewhere / "run").exists()


def test_a_module_that_needs_one_whose_name_is_a_part_of_its_own(elsewhere, capsys, monkeypatch):
    (elsewhere / "needing.py").write_text("import need\n")
    monkeypatch.syspath_prepend(elsewhere)
    assert call("train", "--env", "needing") == 2
    assert "needs the module 'need', which is not installed" in capsys.readouterr().err


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


@pytest.mark.parametrize("package", ["torch", "rich", "matplotlib", "tensorboard", "yaml", "filelock"])
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
        "finally:\n    assert not {'torch', 'rich', 'matplotlib', 'yaml', 'filelock'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0
    for item in settings_of(TrainConfig):
        assert re.search(rf"^  {flag(item.name)}[ ,]", done.stdout, re.MULTILINE), item.name
    for name in ("--config", "--resume", "--serial"):
        assert f"  {name} " in done.stdout
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
    assert call("report", run, "--no-films", "--out", "mine.html") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "Report: mine.html"
    assert (elsewhere / "mine.html").stat().st_size > 10_000


def test_a_terminal_gets_a_table_that_fits(elsewhere, capsys, monkeypatch):
    assert call("train", *TINY, "--steps", "240", "--env-arg", "size=5", "--out", "run") == 0
    wide = capsys.readouterr().out
    for name, value in (("TERM", "xterm"), ("FORCE_COLOR", "1"), ("COLUMNS", "60")):
        monkeypatch.setenv(name, value)
    assert call("evaluate", "run") == 0
    narrow = capsys.readouterr().out.partition("opponent")
    table = (narrow[1] + narrow[2]).splitlines()
    assert max(map(len, table)) <= 60 < max(map(len, wide.splitlines()))
    assert re.search(r"^random .*%", "\n".join(table), re.MULTILINE)
    assert "A wider terminal shows more" in narrow[2]


def test_a_run_from_the_settings_of_another_is_the_same_run(elsewhere, capsys):
    assert (
        call("train", *TINY, "--steps", "2.4e2", "--seed", "5", "--env-arg", "size=(5,7)", "--out", "one")
        == 0
    )
    assert call("train", "--config", "one/config.yaml", "--out", "two") == 0
    one, two = (elsewhere / name for name in ("one", "two"))
    assert (one / "metrics.csv").read_bytes() == (two / "metrics.csv").read_bytes()
    assert (one / "policy.safetensors").read_bytes() == (two / "policy.safetensors").read_bytes()
    text = (two / "config.yaml").read_text().replace("out: two", "out: one")
    assert text == (one / "config.yaml").read_text()
    assert "size: !tuple [5, 7]" in text
    capsys.readouterr()
    assert call("train", "--config", "one/config.yaml") == 2
    assert "one holds files already" in capsys.readouterr().err


def test_modules_of_the_directory_are_found_as_the_documentation_has_it(elsewhere, capsys):
    page = (ROOT / "docs" / "training.md").read_text()
    (code,) = re.findall(
        r"^```python\n(import numpy as np\n\n\ndef by_seat.*?)^```", page, re.MULTILINE | re.DOTALL
    )
    (elsewhere / "my_module.py").write_text(f"{code}\n\nfrom tests.support.training import Duel\n")
    # As an installed script has it: without the directory, which `python -m` would bring.
    script = (
        f"import sys; sys.path[:] = [{str(ROOT)!r}, *(path for path in sys.path if path)]; "
        "from macurr.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    args = [
        "train",
        *TINY[4:],
        "--env",
        "my_module:Duel",
        "--num-policies",
        "2",
        "--mapping",
        "my_module:by_seat",
    ]
    done = subprocess.run(
        [sys.executable, "-c", script, *args, "--workers", "1", "--steps", "240", "--out", "run"],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert (elsewhere / "run" / "evaluation.json").exists()


def test_settings_in_the_documentation_can_be_used():
    page = (ROOT / "docs" / "training.md").read_text()
    (text,) = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    config = TrainConfig.from_yaml(text)
    assert (config.steps, config.ppo.learning_rate, config.model.hidden) == (2_000_000, 3e-4, (256, 256))
    resumed = page[page.index("What may change") : page.index("## Where a run is written")]
    named = {word.replace("-", "_") for word in re.findall(r"`--([\w-]+)`", resumed)}
    assert named == {item.name for item in settings_of(TrainConfig) if item.changeable}


@pytest.fixture
def asked(monkeypatch):
    """What `macurr train` would train with."""
    seen = []

    def train(config, display):
        seen.append(config)
        raise ConfigError("enough")

    monkeypatch.setattr("macurr.training.runner.train", train)
    return seen


def test_workers_are_timed_by_an_option(elsewhere, asked):
    call("train", "--worker-timeout", "2.5")
    assert asked.pop() == TrainConfig.of(worker_timeout=2.5)
    call("train", "--worker-timeout", "none")
    assert asked.pop() == TrainConfig()


def test_options_override_a_file(elsewhere, asked):
    (elsewhere / "my.yaml").write_text(
        "env: some.env\nenv_args: {size: 3, walls: 4}\nworkers: 5\nppo: {gamma: 0.5, target_kl: 0.1, clip: 0.3}\n"
    )
    call("train", "--config", "my.yaml", "--gamma", "0.6", "--target-kl", "none", "--env-arg", "size=9")
    expected = {
        "env": "some.env",
        "env_args": {"size": 9, "walls": 4},
        "workers": 5,
        "gamma": 0.6,
        "clip": 0.3,
    }
    assert asked.pop() == TrainConfig.of(**expected)
    call("train", "--config", "my.yaml", "--env", "other.env", "--env-arg", "a=1", "--serial")
    assert (asked[-1].env, asked[-1].env_args) == ("other.env", {"a": 1})
    assert (asked[-1].transport, asked[-1].workers) == ("local", 1)
    call("train", "--config", "my.yaml", "--env", "other.env")
    assert asked[-1].env_args == {}, "another environment has other keywords"
    call("train", "--config", "my.yaml", "--env", "some.env")
    assert asked[-1].env_args == {"size": 3, "walls": 4}


def test_every_setting_has_an_option(elsewhere, asked):
    settings = {
        "env": "a.b",
        "env_args": {"k": 2, "l": "v"},
        "curriculum": "dr",
        "opponents": "none",
        "seed": 3,
        "steps": 10,
        "minutes": 0.5,
        "workers": 3,
        "envs_per_worker": 8,
        "splits": 4,
        "engine": "ray",
        "ray_address": "auto",
        "async_rl": False,
        "num_batches_to_accumulate": 3,
        "max_policy_lag": 5,
        "decorrelate": 0,
        "worker_restarts": 0,
        "device": "cpu",
        "threads": 2,
        "out": "x",
        "checkpoint_minutes": 0.25,
        "tensorboard": False,
        "wandb": "project",
        "learning_rate": 0.5,
        "anneal": False,
        "gamma": 0.5,
        "gae_lambda": 0.25,
        "clip": 0.5,
        "value_clip": 0.5,
        "entropy": 0.5,
        "value": 0.25,
        "max_grad_norm": 1.5,
        "epochs": 2,
        "minibatches": 3,
        "batch_size": 16,
        "rollout": 8,
        "target_kl": 0.5,
        "hidden": (3, 4),
        "recurrent": "gru",
        "recurrent_size": 7,
        "centralised_critic": True,
        "normalize_observations": True,
        "normalize_returns": True,
        "num_policies": 2,
        "mapping": "env",
        "mapping_episodes": 3,
        "sides": "role",
        "pbt": True,
        "pbt_period": 7,
        "pbt_start": 8,
        "pbt_replace_fraction": 0.5,
        "pbt_mutation_rate": 0.5,
        "pbt_replace_gap": 0.5,
        "pbt_replace_gap_absolute": 0.5,
        "pbt_perturb_min": 1.25,
        "pbt_perturb_max": 2.5,
        "pbt_reset_rate": 0.5,
        "pbt_gamma": True,
        "pbt_objective": "win_rate",
        "pbt_env_args": ("k",),
        "population": "there",
        "levels": 5,
        "score": "max_mc",
        "temperature": 0.5,
        "staleness_coef": 0.5,
        "replay_prob": 0.25,
        "snapshot_every": 2,
        "capacity": 3,
        "seeds": 4,
        "matrix_seeds": 5,
        "report": False,
    }
    items = {item.name: item for item in settings_of(TrainConfig)}
    assert set(items) - set(settings) == {"transport", "worker_timeout"}, "which do not go with the others"
    arguments = []
    for name, value in settings.items():
        assert value != items[name].default
        if isinstance(value, bool):
            arguments.append(flag(name) if value else flag(name).replace("--", "--no-", 1))
        elif name == "env_args":
            arguments += [flag(name), "k=2", flag(name), "l=v"]
        else:
            arguments += [flag(name), ",".join(map(str, value)) if isinstance(value, tuple) else value]
    call("train", *arguments)
    assert asked == [TrainConfig.of(**settings)]


def test_sigterm_ends_a_command_as_ctrl_c_does_and_is_given_back():
    before = signal.getsignal(signal.SIGTERM)

    def work():
        with terminable():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)

    with pytest.raises(Terminated):
        work()
    assert signal.getsignal(signal.SIGTERM) is before


LOST = """
import os, signal, sys
from macurr.cli.ending import Terminated, terminable

class Finalised:
    def __del__(self):
        os.kill(os.getpid(), getattr(signal, sys.argv[1]))
        for _ in range(1000):  # the handler runs in here, and nobody above is told of what it raises
            pass

with terminable() as wish:
    wish.heed()
    thing = Finalised()
    del thing
    print("went on", flush=True)
    try:
        wish.heed()
    except KeyboardInterrupt as ended:
        print(type(ended).__name__)
"""


@pytest.mark.parametrize(("sent", "raised"), [("SIGINT", "KeyboardInterrupt"), ("SIGTERM", "Terminated")])
def test_a_signal_that_a_finaliser_swallowed_is_heeded_later(sent, raised):
    result = subprocess.run(
        [sys.executable, "-c", LOST, sent], capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.returncode, result.stdout) == (0, f"went on\n{raised}\n")
    assert "Exception ignored" in result.stderr, "which is why it has to be remembered"


def test_training_ends_between_two_updates_where_a_signal_was_swallowed(monkeypatch, capsys):
    seen = []

    def train(config, listener):
        listener.began(None, config)
        wish = listener._wish
        with contextlib.suppress(KeyboardInterrupt):
            wish.interrupt(signal.SIGINT, None)
        listener.updated("first")
        pytest.fail("nobody heard")

    class Display:
        run = None

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def began(self, run, config):
            seen.append("began")

        def updated(self, status):
            seen.append(status)

    monkeypatch.setattr(macurr.training, "train", train)
    monkeypatch.setattr(macurr.training, "make_display", Display)
    assert (call("train"), seen) == (130, ["began", "first"])
    assert "interrupted" in capsys.readouterr().err


def test_sigterm_is_left_alone_in_other_threads_and_where_it_is_ignored():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def elsewhere():
        with terminable():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [before]
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with terminable():
            os.kill(os.getpid(), signal.SIGTERM)
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_second_sigterm_ends_at_once_unless_it_is_the_same_wish():
    script = (
        "import sys, time\n"
        "from macurr.cli import ending\n"
        "ending._SAME = float(sys.argv[1])\n"
        "with ending.terminable():\n"
        "    try:\n"
        "        print('ready', flush=True)\n"
        "        time.sleep(30)\n"
        "    except ending.Terminated:\n"
        "        print('saving', flush=True)\n"
        "        sys.stdin.readline()\n"
        "        print('saved', flush=True)\n"
    )
    for same, code, rest in (("60", 0, "saved\n"), ("0", -signal.SIGTERM, "")):
        with subprocess.Popen(
            [sys.executable, "-c", script, same], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            for line in ("ready\n", "saving\n"):
                assert process.stdout.readline() == line
                process.send_signal(signal.SIGTERM)
            if code == 0:
                time.sleep(0.2)
            else:
                process.wait(20)
            out, _ = process.communicate("\n" if code == 0 else None, timeout=20)
            assert (process.returncode, out) == (code, rest)


def test_what_may_change_when_a_run_goes_on(elsewhere, capsys):
    assert call("train", *TINY, "--steps", "240", "--out", "run") == 0
    before = (elsewhere / "run" / "metrics.csv").read_bytes()
    assert call("train", "--resume", "run", "--steps", "480", "--no-tensorboard", "--seeds", "3") == 0
    assert "Curves" in capsys.readouterr().out, "those of the first sitting"
    config = RunDir.open("run")[1]
    assert (config.steps, config.tensorboard, config.evaluation.seeds) == (480, False, 3)
    assert (elsewhere / "run" / "metrics.csv").read_bytes().startswith(before)
    assert len(list((elsewhere / "run" / "tensorboard").iterdir())) == 1


def tell_group(process, number):
    os.killpg(process.pid, number)  # a terminal sends it to every process of the group


def tell_everybody(process, number):
    """As batch systems do, and `timeout`, which tells the process twice."""
    family = descendants_of(process.pid)
    assert len(family) == 3, "a collector and two workers"
    for pid in [process.pid, *family, process.pid]:
        os.kill(pid, number)


def ended(folder, number, whom):
    """A run without an end after a signal: its exit code, what it said, and its table."""
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
        rows = folder / "run" / "metrics.csv"
        deadline = time.monotonic() + 60
        while not (rows.exists() and rows.read_text().count("\n") > 3) and time.monotonic() < deadline:
            time.sleep(0.05)
        whom(started, number)
        out, error = started.communicate(timeout=60)
    finally:
        started.kill()
    return started.returncode, out, error, rows


def test_sigterm_to_everybody_saves_and_says_so(elsewhere):
    code, out, error, rows = ended(elsewhere, signal.SIGTERM, tell_everybody)
    assert (code, error) == (143, "")
    assert "Terminated. Everything is saved; go on with: macurr train --resume run" in out
    saved = load_state(elsewhere / "run" / "checkpoint.state")["counters"]["update"]
    assert saved == rows.read_text().count("\n") - 1 >= 3, "not a single update is lost"


def test_ctrl_c_saves_and_resume_goes_on(elsewhere):
    code, out, error, rows = ended(elsewhere, signal.SIGINT, tell_group)
    assert (code, error) == (130, "")
    assert "Interrupted. Everything is saved; go on with: macurr train --resume run" in out
    command = [sys.executable, "-m", "macurr.cli", "train"]
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
    assert len(numbers) >= updates + 2, "what is under training at the end is counted too"
    assert numbers == [str(i) for i in range(1, len(numbers) + 1)]

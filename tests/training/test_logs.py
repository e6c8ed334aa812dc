"""Curves for TensorBoard, read back as TensorBoard reads them, and for Weights & Biases."""

import sys
import types

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from macurr.errors import ConfigError, MissingDependencyError
from macurr.training import TrainConfig, resume, train
from macurr.training.logs import check_logs, open_logs
from macurr.training.rundir import RunDir, read_csv

TINY = {
    "transport": "local",
    "workers": 1,
    "envs_per_worker": 4,
    "rollout": 30,
    "minibatches": 2,
    "hidden": (8,),
    "levels": 20,
    "seeds": 2,
    "matrix_seeds": 1,
    "report": False,
}
ROW = {
    "update": 3,
    "steps": 120,
    "win": 0.5,
    "lag_mean": 2.0,
    "curriculum_entropy": 1.5,
    "value_loss_p1": 0.25,
}
TIMING = {"update": 3, "seconds": 4.0}


class Curriculum:
    """Writes one number, as a synced curriculum does."""

    def log_metrics(self, writer, step=None, log_n_tasks=0):
        writer.add_scalar("curriculum/entropy", 1.25, step)


def made(tmp_path, **settings):
    config = TrainConfig.of(**TINY, out=str(tmp_path / "run"), **settings)
    return config, RunDir.create(config)


def read(folder):
    """Every curve of a folder as TensorBoard shows it: [(step, value), ...] by tag."""
    curves = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    curves.Reload()
    return {tag: [(e.step, e.value) for e in curves.Scalars(tag)] for tag in curves.Tags()["scalars"]}


# --- TensorBoard -------------------------------------------------------------------------------------------


def test_tensorboard_shows_what_was_written_in_groups(tmp_path):
    config, run = made(tmp_path)
    with open_logs(config, run, 0) as logs:
        logs.write(ROW, TIMING, Curriculum(), 120)
        logs.write({**ROW, "win": 0.75}, TIMING, Curriculum(), 240)
        assert read(run.tensorboard)["play/win"] == [(120, 0.5), (240, 0.75)], "while the run goes on"
    assert read(run.tensorboard) == {
        "play/win": [(120, 0.5), (240, 0.75)],
        "lag/lag_mean": [(120, 2.0), (240, 2.0)],
        "levels/curriculum_entropy": [(120, 1.5), (240, 1.5)],
        "learner/value_loss_p1": [(120, 0.25), (240, 0.25)],
        "time/seconds": [(120, 4.0), (240, 4.0)],
        "curriculum/entropy": [(120, 1.25), (240, 1.25)],
    }


def test_what_a_crash_made_obsolete_is_hidden(tmp_path):
    config, run = made(tmp_path)
    for start, win in ((0, 0.25), (240, 0.75)):
        with open_logs(config, run, start) as logs:
            for step in (start + 120, start + 240, start + 360):
                logs.write({"win": win}, {}, Curriculum(), step)
    expected = [(120, 0.25), (240, 0.25), (360, 0.75), (480, 0.75), (600, 0.75)]
    assert read(run.tensorboard)["play/win"] == expected, "of the first sitting, what its checkpoint knows"


def test_a_run_writes_all_its_columns(tmp_path):
    run = train(TrainConfig.of(**TINY, steps=360, out=str(tmp_path / "run"))).run
    curves, rows = read(run.tensorboard), read_csv(run.metrics)
    assert curves["play/learner_return"] == [
        (step, pytest.approx(value))
        for step, value in zip(rows["steps"], rows["learner_return"], strict=True)
    ]
    names = {tag.partition("/")[2] for tag in curves if not tag.startswith(("time/", "curriculum/"))}
    assert names == set(rows) - {"update", "steps"}
    assert any(tag.startswith("curriculum/") for tag in curves)


def hyperparameters(folder):
    """What TensorBoard's table of hyper-parameters reads: the run's name and its settings."""
    curves = EventAccumulator(str(folder))
    curves.Reload()
    content = curves.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    start = HParamsPluginData.FromString(content).session_start_info
    kinds = {name: value.WhichOneof("kind") for name, value in start.hparams.items()}
    return start.group_name, {name: getattr(start.hparams[name], kind) for name, kind in kinds.items()}


def test_tensorboard_compares_runs_by_their_settings(tmp_path):
    config, run = made(tmp_path, learning_rate=0.25, env_args={"size": 5})
    with open_logs(config, run, 0) as logs:
        logs.write(ROW, TIMING, Curriculum(), 120)
    name, settings = hyperparameters(run.tensorboard)
    assert name == "run"
    assert set(settings) == set(config.settings())
    assert (settings["learning_rate"], settings["anneal"], settings["batch_size"]) == (0.25, True, "None")
    assert (settings["hidden"], settings["env_args"]) == ("(8,)", "{'size': 5}")
    changed = TrainConfig.of(**{**config.settings(), "steps": 960})
    with open_logs(changed, run, 120) as logs:
        logs.write(ROW, TIMING, Curriculum(), 240)
    assert [step for step, _ in read(run.tensorboard)["play/win"]] == [120, 240]


def test_no_tensorboard(tmp_path):
    config, run = made(tmp_path, tensorboard=False)
    with open_logs(config, run, 0) as logs:
        logs.write(ROW, TIMING, None, 120)
    assert not run.tensorboard.exists()


def test_a_full_disk_is_one_error(tmp_path):
    config, run = made(tmp_path)
    with open_logs(config, run, 0) as logs:
        (log,) = logs._logs
        log._file.close()
        log._records._writer = log._file = open("/dev/full", "wb")  # noqa: SIM115
        with pytest.raises(ConfigError, match="tensorboard cannot be written: No space left"):
            logs.write(ROW, TIMING, Curriculum(), 120)
        with pytest.raises(OSError, match="No space"):
            log._file.close()


def test_a_folder_that_cannot_be_made_is_one_error(tmp_path):
    config, run = made(tmp_path)
    run.tensorboard.write_text("a file")
    with pytest.raises(ConfigError, match="tensorboard cannot be written"):
        open_logs(config, run, 0)


# --- Weights & Biases --------------------------------------------------------------------------------------


class Recorded:
    """A stand-in for the run that wandb.init gives, with the calls that the real one was tried with."""

    def __init__(self, settings):
        self.settings, self.rows, self.defined, self.ended = settings, [], [], None

    def define_metric(self, name, step_metric=None):
        self.defined.append((name, step_metric))

    def log(self, data):
        self.rows.append(data)

    def finish(self, exit_code=None):
        self.ended = exit_code


@pytest.fixture
def wandb(monkeypatch):
    """A stand-in for wandb that keeps its runs."""
    module = types.ModuleType("wandb")
    module.Error = type("Error", (Exception,), {})
    module.runs = []

    def init(**settings):
        module.runs.append(Recorded(settings))
        return module.runs[-1]

    module.init = init
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_wandb_gets_the_same_numbers(tmp_path, wandb):
    config, run = made(tmp_path, wandb="project")
    with open_logs(config, run, 0) as logs:
        logs.write(ROW, TIMING, Curriculum(), 120)
    (seen,) = wandb.runs
    assert seen.rows == [
        {
            "steps": 120,
            "play/win": 0.5,
            "lag/lag_mean": 2.0,
            "levels/curriculum_entropy": 1.5,
            "learner/value_loss_p1": 0.25,
            "time/seconds": 4.0,
            "curriculum/entropy": 1.25,
        }
    ]
    assert (seen.settings["project"], seen.settings["name"]) == ("project", "run")
    assert seen.settings["config"] == config.settings()
    assert seen.defined == [("steps", None), ("*", "steps")]
    assert seen.ended == 0
    assert read(run.tensorboard)["play/win"] == [(120, 0.5)], "both at once"


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt, 0), (ConfigError, 1)])
def test_wandb_is_told_how_a_run_ended(tmp_path, wandb, error, code):
    config, run = made(tmp_path, wandb="project")
    with pytest.raises(error), open_logs(config, run, 0):
        raise error
    assert wandb.runs[0].ended == code


def test_a_resumed_run_goes_on_with_its_curves(tmp_path, wandb):
    out = str(tmp_path / "run")
    train(TrainConfig.of(**TINY, steps=120, out=out, wandb="project", tensorboard=False))
    resume(out, steps=240)
    resume(out, steps=360, wandb=None)
    first, second = wandb.runs
    assert first.settings["id"] == second.settings["id"]
    assert first.settings["resume"] == second.settings["resume"] == "allow"
    assert [row["steps"] for row in [*first.rows, *second.rows]] == [120, 240]
    other = TrainConfig.of(**TINY, steps=120, out=str(tmp_path / "other"), wandb="project", tensorboard=False)
    train(other)
    assert wandb.runs[2].settings["id"] != first.settings["id"]


def test_wandb_that_lets_nobody_in_leaves_nothing_behind(tmp_path, wandb):
    def init(**settings):
        (tmp_path / "run" / "wandb").mkdir()
        raise wandb.Error("no key")

    wandb.init = init
    with pytest.raises(ConfigError, match=r"wandb='project' cannot be used: no key.*WANDB_MODE=offline"):
        train(TrainConfig.of(**TINY, steps=120, out=str(tmp_path / "run"), wandb="project"))
    assert list(tmp_path.iterdir()) == []


def test_without_wandb_the_extra_is_named_before_anything_starts(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    check_logs(TrainConfig())
    with pytest.raises(MissingDependencyError, match=r"macurr\[wandb\]"):
        train(TrainConfig.of(**TINY, steps=120, out=str(tmp_path / "run"), wandb="project"))
    assert list(tmp_path.iterdir()) == []

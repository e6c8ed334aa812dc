"""Population-based training for real: the policies of a run, resumed runs, and runs that share a directory."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from macurr.errors import ConfigError
from macurr.opponents import AgentPool
from macurr.testing.nested import same
from macurr.training import (
    CurriculumConfig,
    EvaluationConfig,
    Listener,
    ModelConfig,
    PBTConfig,
    PoliciesConfig,
    PPOConfig,
    TrainConfig,
    resume,
)
from macurr.training.population_history import read_history
from macurr.training.runner import train
from macurr.training.tables import read_csv
from macurr.training.trainer import Trainer
from tests.support.scripts import ROOT

LAG = 1000


def config(out, **changes):
    given = TrainConfig(
        env="tests.support.training:Duel",
        opponents="fsp",
        steps=3840,
        transport="local",
        workers=1,
        envs_per_worker=12,
        max_policy_lag=LAG,
        checkpoint_minutes=0.0,
        tensorboard=False,
        policies=PoliciesConfig(num_policies=3, mapping="random", mapping_episodes=2),
        pbt=PBTConfig(pbt=True, pbt_period=900, pbt_start=0, pbt_mutation_rate=0.5, pbt_replace_gap=0.0),
        ppo=PPOConfig(rollout=20, epochs=1, minibatches=2),
        model=ModelConfig(hidden=(8,), normalize_observations=True, normalize_returns=True),
        tasks=CurriculumConfig(levels=20, snapshot_every=4, capacity=3),
        evaluation=EvaluationConfig(seeds=1, matrix_seeds=1, report=False),
        out=str(out),
    )
    return dataclasses.replace(given, **changes)


class Watcher(Listener):
    """Looks at the learner after every update."""

    def __init__(self, stop_at=None):
        self.trainer, self.stop_at, self.seen = None, stop_at, {}

    def updated(self, status):
        learner = self.trainer.learner
        states = [ppo.state_dict() for ppo in learner.ppos]
        self.seen[status.update] = (list(learner.versions), states)
        if status.update == self.stop_at:
            raise KeyboardInterrupt


def run(settings, stop_at=None):
    watcher = Watcher(stop_at)
    watcher.trainer = Trainer.start(settings)
    try:
        watcher.trainer.run(watcher)
    finally:
        watcher.trainer.directory.release()
    return watcher


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run, and what was seen of it."""
    out = tmp_path_factory.mktemp("whole") / "run"
    return out, run(config(out))


def rounds_of(out):
    return [row for row in read_history(out / "population.jsonl") if row["scope"] == "policies"]


def test_weights_are_copied_and_versions_jump(whole):
    out, watcher = whole
    rows = rounds_of(out)
    assert [row["steps"] for row in rows[::3]] == [960, 1920, 2880, 3840]
    copies = [row for row in rows if row["copied_from"] is not None]
    assert copies
    for row in copies:
        versions, states = watcher.seen[row["update"]]
        before, _ = watcher.seen[row["update"] - 1]
        member, source = states[row["member"]], states[row["copied_from"]]
        for part in ("policy", "moments"):  # weights and normalisers, and Adam's moments
            assert same(member[part], source[part])
        steps = versions[row["member"]] - before[row["member"]]
        trained = member["sgd_steps"] - watcher.seen[row["update"] - 1][1][row["member"]]["sgd_steps"]
        assert steps == trained + LAG + 1
    jumps = {row["update"] for row in copies}
    for update in set(watcher.seen) - jumps - {1}:
        for policy, version in enumerate(watcher.seen[update][0]):
            assert version - watcher.seen[update - 1][0][policy] <= 2


def test_snapshots_name_the_best_policy(whole):
    out, _ = whole
    pool = AgentPool(out / "snapshots")
    known = {pool.metadata(snapshot)["update"]: pool.metadata(snapshot).get("best") for snapshot in pool.ids}
    leaders = {row["update"]: row["member"] for row in rounds_of(out) if row["rank"] == 0}
    assert known.pop(0) is None  # nobody has played yet
    assert len(known) == 2
    assert known == {update: leaders[update] for update in known}


def test_settings_change_as_the_history_says(whole):
    out, watcher = whole
    rows = rounds_of(out)
    changed = 0
    for row in rows:
        settings = watcher.seen[row["update"]][1][row["member"]]["settings"]
        assert {name: settings[name] for name in row["settings"]} == row["settings"]
        changed += settings["learning_rate"] != 1e-3
        assert settings["gamma"] == 0.97
    assert changed
    assert all(row["settings"]["learning_rate"] == 1e-3 for row in rows if row["member"] == 0)


def test_what_the_replaced_policy_played_is_not_trained_on(whole):
    out, _ = whole
    table = read_csv(out / "metrics.csv")
    assert len(table["update"]) == 16
    # Every rollout is collected after the update before, and so after its copies: nothing of the old policy is left.
    assert max(table["lag_max"]) <= LAG
    assert table["valid_fraction"] == table["same_policy_fraction"]


@pytest.mark.parametrize("stop_at", [3, 8])
def test_an_interrupted_run_goes_on_alike(whole, tmp_path, stop_at):
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run(config(out), stop_at)
    interrupted = len(rounds_of(out))
    resume(str(out))
    assert interrupted < len(rounds_of(out))
    for name in ("population.jsonl", "metrics.csv"):
        assert (out / name).read_text() == (whole[0] / name).read_text()


def test_what_the_checkpoint_does_not_know_is_done_again(whole, tmp_path):
    # The history of a run that was killed after a round, and before the checkpoint that would have known of it.
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run(config(out), 6)
    with (out / "population.jsonl").open("a") as file:
        file.write(json.dumps({"scope": "policies", "steps": 1920}) + '\n{"scope": "poli')
    resume(str(out))
    assert (out / "population.jsonl").read_text() == (whole[0] / "population.jsonl").read_text()


@pytest.mark.timeout(120)
def test_policies_are_replaced_while_workers_go_on(tmp_path):
    out = tmp_path / "run"
    settings = config(
        out,
        transport="process",
        async_rl=True,
        workers=2,
        steps=6000,
        opponents="none",
        policies=PoliciesConfig(num_policies=2, mapping="random", mapping_episodes=1),
        pbt=PBTConfig(
            pbt=True,
            pbt_period=800,
            pbt_start=0,
            pbt_objective="win_rate",
            pbt_replace_gap=0.0,
            pbt_mutation_rate=1.0,
        ),
    )
    watcher = run(settings)
    rows = rounds_of(out)
    copies = [row for row in rows if row["copied_from"] is not None]
    assert copies
    assert max(watcher.seen[max(watcher.seen)][0]) > LAG
    # What was under way as a policy was replaced is of the old one: it comes in, and is left out of the training.
    table = read_csv(out / "metrics.csv")
    pairs = zip(table["valid_fraction"], table["same_policy_fraction"], strict=True)
    whole = [valid == own for valid, own in pairs]
    assert not all(whole)
    assert any(whole)
    assert max(table["lag_max"]) < LAG, "a version jumps with a copy, and nothing lags by that"


# --- runs --------------------------------------------------------------------------------------------------


def rank_by_environment(statistics):
    """The objective that the test gives the process; a run's own results are left to chance."""
    return float(os.environ["MACURR_TEST_OBJECTIVE"])


SCRIPT = """
import dataclasses, sys
from macurr.training import resume, train
from tests.training.test_population_runs import shared_config

if sys.argv[1] == "resume":
    resume(sys.argv[2], steps=int(sys.argv[3]))
else:
    train(shared_config(sys.argv[2], sys.argv[3], int(sys.argv[4])))
"""


def shared_config(out, population, steps):
    return config(
        out,
        steps=steps,
        seed=len(out),
        policies=PoliciesConfig(),
        pbt=PBTConfig(
            pbt=True,
            pbt_period=480,
            pbt_start=0,
            pbt_mutation_rate=1.0,
            pbt_reset_rate=0.0,
            pbt_objective="tests.training.test_population_runs:rank_by_environment",
            population=population,
        ),
    )


class Process:
    """A run in a process of its own."""

    def __init__(self, objective, *arguments):
        env = {**os.environ, "PYTHONPATH": str(ROOT), "MACURR_TEST_OBJECTIVE": str(objective)}
        self.popen = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, *map(str, arguments)],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def succeed(self):
        out, _ = self.popen.communicate(timeout=100)
        assert self.popen.returncode == 0, out[-3000:]

    def kill(self):
        if self.popen.poll() is None:
            os.killpg(self.popen.pid, signal.SIGKILL)
            self.popen.communicate()


@pytest.fixture
def start():
    started = []

    def begin(objective, *arguments):
        started.append(Process(objective, *arguments))
        return started[-1]

    yield begin
    for process in started:
        process.kill()


def until(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.timeout(200)
def test_two_runs_share_a_directory(tmp_path, start):
    population = tmp_path / "population"
    best = start(2.0, "train", tmp_path / "best", population, 1440)
    histories = {name: population / "members" / name / "history.jsonl" for name in ("best", "worst")}
    worst = start(1.0, "train", tmp_path / "worst", population, 1_000_000)
    until(lambda: any(row["copied_from"] == "best" for row in read_history(histories["worst"])))
    worst.kill()  # at whatever it is
    best.succeed()
    kept = len(read_history(histories["worst"]))
    checkpointed = read_history(tmp_path / "worst" / "population.jsonl")
    assert {row["copied_from"] for row in checkpointed} <= {"best", None}
    member = json.loads((population / "members" / "worst" / "member.json").read_text())
    resumed = start(1.0, "resume", tmp_path / "worst", member["steps"] + 1440)
    resumed.succeed()
    rows = read_history(histories["worst"])
    assert len(rows) > kept - 1
    assert rows == read_history(tmp_path / "worst" / "population.jsonl")
    assert [row["steps"] for row in rows] == sorted({row["steps"] for row in rows})
    assert {(row["rank"], row["of"]) for row in rows} == {(1, 2)}
    # The curriculum's options were tuned with the learner's, and the resumed run goes on with them.
    tuned = rows[-1]["settings"]
    assert {
        "curriculum/env/temperature",
        "curriculum/env/staleness_coef",
        "curriculum/env/replay_prob",
    } <= set(tuned)
    assert tuned["curriculum/env/temperature"] != 1.0
    assert tuned["learning_rate"] != 1e-3


def test_the_name_of_a_member_is_taken_but_once(tmp_path):
    population = str(tmp_path / "population")
    Trainer.start(shared_config(str(tmp_path / "a" / "run"), population, 100)).directory.release()
    with pytest.raises(ConfigError, match="of another run"):
        train(shared_config(str(tmp_path / "b" / "run"), population, 100))
    assert not (tmp_path / "b" / "run").exists()  # a run that cannot begin leaves nothing behind

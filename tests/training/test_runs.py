"""Whole runs, tiny: what they leave behind, that they repeat, and that they go on."""

import dataclasses

import numpy as np
import pytest

from macurr.errors import ConfigError
from macurr.opponents import AgentPool
from macurr.persistence import load_state
from macurr.training import (
    CurriculumConfig,
    EvaluationConfig,
    Listener,
    ModelConfig,
    PPOConfig,
    TrainConfig,
    evaluate,
    resume,
    train,
)
from macurr.training.rundir import read_csv

TINY = TrainConfig(
    transport="local",
    workers=1,
    envs_per_worker=4,
    model=ModelConfig(hidden=(8,)),
    ppo=PPOConfig(rollout=30, epochs=2, minibatches=2),
    tasks=CurriculumConfig(levels=20, snapshot_every=2),
    evaluation=EvaluationConfig(seeds=3, matrix_seeds=2, report=False),
)
RPS = "pettingzoo.classic.rps_v2"  # 15 steps an episode: two to a rollout


def config(tmp_path, name="run", **changes):
    return dataclasses.replace(TINY, out=str(tmp_path / name), **changes)


class Stopping(Listener):
    """Interrupts after some updates, as Ctrl-C would."""

    def __init__(self, after):
        self.after = after

    def updated(self, status):
        if status.update == self.after:
            raise KeyboardInterrupt


def test_a_run_over_worker_processes_leaves_everything_behind(tmp_path):
    told = []

    class Told(Listener):
        def updated(self, status):
            told.append(status)

    settings = config(
        tmp_path,
        transport="process",
        workers=2,
        steps=1000,
        evaluation=EvaluationConfig(seeds=3, matrix_seeds=2),
    )
    result = train(settings, Told())
    run = result.run
    assert TrainConfig.from_yaml(run.config.read_text()) == settings
    rows = read_csv(run.metrics)
    assert rows["steps"] == [240.0 * i for i in range(1, 6)]
    assert np.isfinite(np.array(list(rows.values()))).all()
    assert len(read_csv(run.timing)["seconds"]) == 5
    assert (result.status.steps, result.status.update, result.status.done) == (1200, 5, 1.0)
    assert [status.update for status in told] == [1, 2, 3, 4, 5]
    pool = AgentPool(run.snapshots, create=False)
    assert [pool.metadata(i)["update"] for i in pool.ids] == [0, 2, 4, 5]
    final = load_state(run.checkpoint)["learner"]["ppos"][0]["policy"]
    newest = pool.get(pool.latest)
    assert set(newest) == {f"policy_0.{name}" for name in final}
    assert all(np.array_equal(array, newest[f"policy_0.{name}"]) for name, array in final.items())
    assert run.picture.read_bytes().startswith(b"\x89PNG")
    assert list(run.tensorboard.glob("events*"))
    assert [row.opponent for row in result.evaluation.rows] == [
        "random",
        "snapshot 0",
        "snapshot 1",
        "snapshot 2",
    ]
    assert [row.games for row in result.evaluation.rows] == [6] * 4
    for row in result.evaluation.rows:
        assert row.win + row.draw + row.loss == pytest.approx(1)
        assert row.low <= row.score <= row.high
    matrix = np.array(result.evaluation.matrix, dtype=float)
    assert np.isnan(np.diag(matrix)).all()
    assert np.nansum(matrix + matrix.T) == pytest.approx(12)
    assert "held-out levels 20 to 22" in result.table()
    assert evaluate(run.path) == result.evaluation, "evaluating again gives the same"


@pytest.mark.parametrize("opponents", ["pfsp", "fsp", "self"])
@pytest.mark.parametrize("curriculum", ["plr", "dr", "joint"])
def test_the_same_seed_gives_the_same_run(tmp_path, curriculum, opponents):
    runs = [
        train(config(tmp_path, name, curriculum=curriculum, opponents=opponents, steps=600)).run
        for name in ("one", "two")
    ]
    one, two = (run.metrics.read_bytes() for run in runs)
    assert one == two
    assert one.count(b"\n") == 6
    assert runs[0].evaluation.read_bytes() == runs[1].evaluation.read_bytes()
    assert runs[0].policy.read_bytes() == runs[1].policy.read_bytes()


def test_another_seed_gives_another_run(tmp_path):
    runs = [train(config(tmp_path, str(seed), seed=seed, steps=240)).run for seed in (0, 1)]
    assert runs[0].metrics.read_bytes() != runs[1].metrics.read_bytes()


@pytest.mark.parametrize(
    ("curriculum", "score"),
    [("plr", "value_l1"), ("dr", "value_l1"), ("joint", "max_mc"), ("joint", "learnability")],
)
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, curriculum, score):
    # Few enough snapshots are kept that opponents leave on the way.
    tasks = CurriculumConfig(levels=20, snapshot_every=2, capacity=2, score=score)
    whole = train(config(tmp_path, "whole", env=RPS, curriculum=curriculum, tasks=tasks, steps=960)).run
    parted = config(tmp_path, "parted", env=RPS, curriculum=curriculum, tasks=tasks, steps=960)
    with pytest.raises(KeyboardInterrupt):
        train(parted, Stopping(3))
    with pytest.raises(KeyboardInterrupt):
        resume(parted.out, Stopping(6))
    run = resume(parted.out).run
    assert run.metrics.read_bytes() == whole.metrics.read_bytes()
    assert run.policy.read_bytes() == whole.policy.read_bytes()
    assert run.evaluation.read_bytes() == whole.evaluation.read_bytes()


def test_a_run_that_was_killed_goes_on_from_its_last_checkpoint(tmp_path):
    settings = config(tmp_path, env=RPS, steps=960)
    whole = train(config(tmp_path, "whole", env=RPS, steps=960)).run

    class Killed(Listener):
        def updated(self, status):
            if status.update == 5:
                # What kill -9 would leave: the checkpoint of update 4, rows of update 5, a later snapshot.
                run = trainer_run(settings.out)
                kept.append(run.checkpoint.read_bytes())
                AgentPool(run.snapshots).add({"stray": np.zeros(2)}, update=5, steps=0)
                raise KeyboardInterrupt

    kept = []
    with pytest.raises(KeyboardInterrupt):
        train(settings, Killed())
    run = trainer_run(settings.out)
    run.checkpoint.write_bytes(kept[0])
    assert load_state(run.checkpoint)["counters"]["update"] == 4
    run = resume(settings.out).run
    assert run.metrics.read_bytes() == whole.metrics.read_bytes()
    assert run.policy.read_bytes() == whole.policy.read_bytes()


def trainer_run(path):
    from macurr.training.rundir import RunDir

    return RunDir.open(path)[0]


def test_a_finished_run_can_be_made_longer(tmp_path):
    run = train(config(tmp_path, steps=240)).run
    longer = resume(str(run.path), steps=480)
    assert longer.status.update == 4
    assert longer.run.path == run.path
    assert TrainConfig.from_yaml(run.config.read_text()).steps == 480


def test_minutes_end_a_run_too(tmp_path):
    assert train(config(tmp_path, minutes=1e-9)).status.update == 1


@pytest.mark.parametrize(
    ("name", "args"), [("Masked", {}), ("Reacher", {}), ("Ragged", {}), ("Duel", {"length": 3})]
)
def test_other_kinds_of_environments(tmp_path, name, args):
    result = train(config(tmp_path, env=f"tests.support.training:{name}", env_args=args, steps=240))
    assert result.status.update == 2


def test_a_run_that_cannot_begin_leaves_nothing_behind(tmp_path):
    for settings in (
        config(tmp_path, env="tests.support.training:Failing", ppo=PPOConfig(rollout=3)),
        config(tmp_path, env="tests.support.training:Nobody"),
        config(tmp_path, tasks=CurriculumConfig(score="policy_entropy")),
    ):
        with pytest.raises(ConfigError):
            train(settings)
        assert list(tmp_path.iterdir()) == []
    (tmp_path / "run").mkdir()
    with pytest.raises(ConfigError):
        train(config(tmp_path, env="tests.support.training:Failing"))
    assert list(tmp_path.iterdir()) == [tmp_path / "run"]


def test_a_failure_on_the_way_keeps_what_was_reached(tmp_path):
    class Sabotage(Listener):
        def updated(self, status):
            if status.update == 3:
                raise ConfigError("the environment broke")

    settings = config(tmp_path, steps=960)
    with pytest.raises(ConfigError, match="broke"):
        train(settings, Sabotage())
    assert load_state(trainer_run(settings.out).checkpoint)["counters"]["update"] == 3
    assert resume(settings.out).status.update == 8


def test_an_evaluation_needs_a_finished_run(tmp_path):
    settings = config(tmp_path, steps=960)
    with pytest.raises(KeyboardInterrupt):
        train(settings, Stopping(1))
    with pytest.raises(ConfigError, match="not been finished"):
        evaluate(settings.out)


def test_the_smallest_run_can_be_drawn(tmp_path):
    smallest = EvaluationConfig(seeds=1, matrix_seeds=1)
    run = train(config(tmp_path, env=RPS, steps=1, evaluation=smallest)).run
    assert run.picture.stat().st_size > 10_000

"""Two tiny runs of one environment and one of another, made once for all tests of tournaments."""

import pytest

from macurr.training import CurriculumConfig, EvaluationConfig, ModelConfig, PPOConfig, TrainConfig, train


def _train(folder, name, env, hidden, seed, steps=360):
    config = TrainConfig(
        env=env,
        seed=seed,
        steps=steps,
        transport="local",
        workers=1,
        envs_per_worker=4,
        model=ModelConfig(hidden=hidden),
        ppo=PPOConfig(rollout=30, epochs=2, minibatches=2),
        tasks=CurriculumConfig(levels=20, snapshot_every=1, capacity=3),
        evaluation=EvaluationConfig(seeds=2, matrix_seeds=1, report=False),
        out=str(folder / name),
    )
    train(config)


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """Directories "a" and "b" (other layers, later snapshots) of one game, "c" of another. Not to be written to.

    Each took its snapshots 0, 1, 2 and 3 after 0, 120, 240 and 360 steps, and keeps the last three.
    """
    folder = tmp_path_factory.mktemp("runs")
    _train(folder, "a", "tests.support.training:Duel", (8,), 0)
    _train(folder, "b", "tests.support.training:Duel", (6, 5, 4), 1)
    _train(folder, "c", "tests.support.training:Reacher", (8,), 2)
    return folder

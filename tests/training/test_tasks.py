"""The curriculum of a run, and what the trainer tells it."""

import numpy as np
import pytest

from macurr.messages import EnvSpec
from macurr.opponents import AgentPool
from macurr.training import CurriculumConfig, TrainConfig
from macurr.training.rollout import Episode
from macurr.training.tasks import build_curriculum, score_message

OLD, NEW = 0, 1


@pytest.fixture
def pool(tmp_path):
    made = AgentPool(tmp_path / "pool")
    for _ in (OLD, NEW):
        made.add({"weight": np.zeros(1)})
    return made


def config(curriculum, score="value_l1", **tasks):
    settings = {"levels": 10, "staleness_coef": 0.0, "replay_prob": 1.0, **tasks}
    return TrainConfig(
        curriculum=curriculum, opponents="fsp", tasks=CurriculumConfig(score=score, **settings)
    )


def scored(opponent, level, score):
    return Episode(0, 0, opponent, level, learner_return=1.0, others_return=0.0, length=1), score


def test_uniform_levels_are_told_nothing():
    assert score_message(config("dr"), [scored(OLD, 3, 1.0)]) is None
    assert score_message(config("joint"), []) is None


def test_joint_scores_decide_the_opponent_and_its_own_level(pool):
    settings = config("joint", temperature=0.01)
    curriculum = build_curriculum(settings, pool)
    curriculum.sample(64)  # the trials of the two opponents are over
    told = score_message(settings, [scored(OLD, 3, 0.9), scored(OLD, 4, 0.1), scored(NEW, 7, 0.2)])
    curriculum.update_on_demand(told)
    drawn = [tuple(task) for task in curriculum.sample(400)]
    assert set(drawn) == {(OLD, 3), (NEW, 7)}, "each opponent's best level, never the other's"
    # Nine tenths by regret, and half of the uniform tenth: 0.95 of 400, give or take five deviations.
    assert drawn.count((OLD, 3)) == pytest.approx(380, abs=22)


def test_level_replay_shares_scores_among_opponents(pool):
    settings = config("plr", temperature=0.01)
    curriculum = build_curriculum(settings, pool)
    curriculum.update_on_demand(score_message(settings, [scored(OLD, 3, 0.9), scored(NEW, 7, 0.2)]))
    assert {tuple(task) for task in curriculum.sample(100)} == {(OLD, 3), (NEW, 3)}


@pytest.mark.parametrize("curriculum", ["plr", "joint"])
def test_learnability_comes_from_the_trainer_alone(pool, curriculum):
    built = build_curriculum(config(curriculum, "learnability"), pool)
    built.register_env(0, EnvSpec(("a", "b"), ("a",)))
    [task] = built.sample()
    built.update_on_episode({"a": 1.0, "b": -1.0}, 5, task, {"a": 0.0, "b": 0.0}, env_id=0)
    uniform = np.full(20, 1 / 20)
    if curriculum == "joint":  # the next opponent is known; its levels are not
        uniform = np.repeat(built.distribution().reshape(2, 10).sum(axis=1) / 10, 10)
    assert built.distribution() == pytest.approx(uniform), "an episode's end alone scores no level"

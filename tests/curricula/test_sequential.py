"""Stages, and who learns from what after they have changed."""

import pytest

from macurr import BoxTaskSpace, DiscreteTaskSpace, TaskError, UsageError
from macurr.curricula import Constant, FixedSequence, LearningProgress, Schedule, Sequential
from macurr.testing import CurriculumTests


class TestStages(CurriculumTests):
    def make(self, seed):
        space = DiscreteTaskSpace(5)
        return Sequential(
            space, [0, [1, 2], space], ["episodes>=5", "steps>=60 | progress>2"], seed=seed, window=3
        )


class TestSingleAgentStages(CurriculumTests):
    def make(self, seed):
        space = DiscreteTaskSpace(5)
        return Sequential(space, [space, LearningProgress(space, seed=seed)], ["tasks>=10"], seed=seed)


class TestSchedule(CurriculumTests):
    def make(self, seed):
        space = BoxTaskSpace([0, 0], [1, 1])
        return Schedule(space, [BoxTaskSpace([0, 0], [0.1, 0.1]), space], [30], by="episodes", seed=seed)


def play(curriculum, n=1, episode_return=0.0, length=1, env_id=None):
    tasks = curriculum.sample(n)
    for task in tasks:
        curriculum.update_on_episode(episode_return, length, task, 0.0, env_id)
    return tasks


def test_the_window_mean_and_the_count_decide():
    curriculum = Sequential(DiscreteTaskSpace(2), [0, 1], ["episode_return>=0.9&episodes>=3"], window=2)
    assert play(curriculum, 2, 1.0) == [0, 0]  # a mean of 1, but only 2 episodes
    assert curriculum.stage == 0
    play(curriculum, 1, 0.0)
    assert curriculum.stage == 0  # 3 episodes, but the last two have a mean of .5
    play(curriculum, 1, 1.0)
    play(curriculum, 1, 1.0)
    assert curriculum.stage == 1
    assert curriculum.sample() == [1]


def test_returns_by_agent_enter_as_their_mean():
    curriculum = Sequential(DiscreteTaskSpace(2), [0, 1], ["episode_return>=0.5 & progress>=0.5"])
    curriculum.update_on_episode({"a": 1.0, "b": 0.0}, 1, 0, {"a": 0.0, "b": 1.0})
    assert curriculum.stage == 1


def test_numbers_start_anew_in_each_stage_and_totals_go_on():
    curriculum = Sequential(DiscreteTaskSpace(3), [0, 1, 2], ["steps>=10", "total_steps>=25"])
    play(curriculum, 1, length=10)
    assert (curriculum.stage, curriculum.stage_metrics["steps"]) == (1, 0)
    play(curriculum, 1, length=10)
    assert curriculum.stage == 1
    play(curriculum, 1, length=5)
    assert curriculum.stage == 2
    assert play(curriculum, 1) == [2]


def test_a_function_is_a_condition():
    curriculum = Sequential(DiscreteTaskSpace(2), [0, 1], [lambda numbers: numbers["tasks"] == 2])
    assert curriculum.sample(4) == [0, 0, 1, 1]


def test_aborted_tasks_do_not_count_and_go_back_to_a_fixed_sequence():
    space = DiscreteTaskSpace(4)
    curriculum = Sequential(space, [FixedSequence(space, [2, 1]), 3], ["tasks>=2"])
    assert curriculum.sample() == [2]
    curriculum.update_on_abort(2, env_id=0)
    assert curriculum.stage_metrics["tasks"] == 0
    assert curriculum.sample(2) == [2, 1]
    assert curriculum.sample() == [3]


def test_late_results_reach_the_stage_that_drew_the_task_and_count_in_no_other():
    space = DiscreteTaskSpace(2)
    first, second = (Sequential(space, [space, 0], ["episodes>=99"], seed=seed) for seed in (0, 1))
    curriculum = Sequential(space, [first, second], ["tasks>=2"])
    tasks = curriculum.sample(2)
    assert curriculum.sample()
    assert curriculum.stage == 1
    for env_id, task in enumerate(tasks):
        curriculum.update_on_episode(1.0, 7, task, 0.0, env_id=env_id)
    assert (first.stage_metrics["episodes"], second.stage_metrics["episodes"]) == (2, 0)
    assert (curriculum.stage_metrics["episodes"], curriculum.stage_metrics["steps"]) == (0, 0)
    assert (curriculum.stage_metrics["total_episodes"], curriculum.stage_metrics["total_steps"]) == (2, 14)


def test_a_schedule_switches_on_time():
    curriculum = Schedule(DiscreteTaskSpace(3), [0, 1, 2], [5, 8])
    stages = []
    for _ in range(10):
        stages += play(curriculum, 1, length=1)
    assert stages == [0] * 5 + [1] * 3 + [2] * 2


def test_what_cannot_work_is_refused():
    space = DiscreteTaskSpace(3)
    with pytest.raises(UsageError, match="1 conditions"):
        Sequential(space, [0, 1], [])
    with pytest.raises(UsageError, match="position 0"):
        Sequential(space, [0, 1], ["winrate>0"])
    with pytest.raises(UsageError, match="twice"):
        Sequential(space, [(one := Constant(space, 0)), one], ["steps>1"])
    with pytest.raises(TaskError):
        Sequential(space, [0, 7], ["steps>1"])
    with pytest.raises(UsageError, match="ascend"):
        Schedule(space, [0, 1, 2], [5, 5])
    with pytest.raises(UsageError, match="by must"):
        Schedule(space, [0, 1], [5], by="hours")


def test_a_stage_outside_the_space_is_an_error_at_its_first_task():
    curriculum = Sequential(DiscreteTaskSpace(2), [Constant(DiscreteTaskSpace(9), 8), 0], ["steps>1"])
    with pytest.raises(TaskError):
        curriculum.sample()


def test_a_stage_whose_state_is_refused_leaves_the_others_as_they_were():
    space = DiscreteTaskSpace(3)
    made = [
        Sequential(space, [LearningProgress(space), LearningProgress(space)], ["steps>5"]) for _ in range(2)
    ]
    play(made[0], 3, 1.0)
    state, before = made[0].state_dict(), made[1].parts[0].state_dict()
    state["parts"][1] = {**state["parts"][1], "fast": "damaged"}
    with pytest.raises(ValueError, match="damaged"):
        made[1].load_state_dict(state)
    after = made[1].parts[0].state_dict()
    assert (after["seen"] == before["seen"]).all()
    assert made[1].stage_metrics["total_episodes"] == 0

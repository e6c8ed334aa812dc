"""PrioritizedLevelReplay as a whole, against a naive one that recomputes everything with whole arrays."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from macurr import (
    BoxTaskSpace,
    DictTaskSpace,
    DiscreteTaskSpace,
    EnvSpec,
    MultiDiscreteTaskSpace,
    TupleTaskSpace,
)
from macurr.curricula.plr import STRATEGIES, PrioritizedLevelReplay
from macurr.curricula.plr.transforms import SCORE_TRANSFORMS, mix, transform
from macurr.errors import StateError, TaskError, UsageError

ALONE = EnvSpec(("agent_0",), ("agent_0",), single_agent=True)


def plr(n=5, **options):
    space = options.pop("space", None) or DiscreteTaskSpace(n)
    return PrioritizedLevelReplay(space, **{"seed": 0, "rho": 0.0, **options})


class Naive:
    """The formulas, recomputed from scratch at every step."""

    def __init__(self, n, alpha, **options):
        self.scores, self.ages, self.seen = np.zeros(n), np.zeros(n), np.zeros(n, bool)
        self.alpha, self.options = alpha, options

    def update(self, task, score):
        self.scores[task] = (1 - self.alpha) * self.scores[task] + self.alpha * score
        self.seen[task] = True

    def drawn(self, task):
        self.ages += 1
        self.ages[task] = 0

    def distribution(self):
        options, n, seen = self.options, len(self.scores), self.seen
        found, share = np.zeros(n), seen.mean()
        if seen.any() and share >= options["rho"]:
            if options["replay_schedule"] == "fixed":
                share = 1.0 if seen.all() else options["replay_prob"]
            scored = transform(
                self.scores[seen],
                options["score_transform"],
                temperature=options["temperature"],
                eps=0.05,
                offset=0.0 if options["staleness_coef"] else 1e-3,
            )
            stale = transform(self.ages[seen], "power", temperature=options["staleness_temperature"])
            found[seen] = share * mix(scored, stale, options["staleness_coef"])
        else:
            share = 0.0
        if not seen.all():
            found[~seen] = (1 - share) / (~seen).sum()
        return found


options_of_replay = st.fixed_dictionaries(
    {
        "score_transform": st.sampled_from(SCORE_TRANSFORMS),
        "temperature": st.sampled_from([0.1, 1.0]),
        "staleness_coef": st.sampled_from([0.0, 0.1, 1.0]),
        "staleness_temperature": st.sampled_from([0.3, 1.0, 2.0]),
        "replay_schedule": st.sampled_from(["fixed", "proportionate"]),
        "replay_prob": st.sampled_from([0.0, 0.3, 1.0]),
        "rho": st.sampled_from([0.0, 0.5, 1.0]),
    }
)
events = st.lists(st.none() | st.tuples(st.integers(0, 4), st.floats(-1, 1)), max_size=30)


@settings(max_examples=200)
@given(options_of_replay, st.sampled_from([1.0, 0.5]), events)
def test_distribution_is_the_naive_one_after_any_history(options, alpha, history):
    fast, naive = plr(alpha=alpha, **options), Naive(5, alpha, **options)
    for event in history:
        if event is None:
            (task,) = fast.sample()
            assert naive.distribution()[task] > 0
            naive.drawn(task)
        else:
            fast.update_scores([event[0]], [event[1]])
            naive.update(*event)
        np.testing.assert_allclose(fast.distribution(), naive.distribution(), atol=1e-9)


@pytest.mark.parametrize("seen", [1, 3, 5])
@pytest.mark.parametrize("schedule", ["fixed", "proportionate"])
def test_tasks_come_as_often_as_the_distribution_says(schedule, seen):
    curriculum = plr(replay_schedule=schedule, temperature=1.0, staleness_coef=0.3)
    curriculum.update_scores(range(seen), np.linspace(0.1, 0.9, seen))
    curriculum.sample(7)
    state, expected = curriculum.state_dict(), curriculum.distribution()
    rng = np.random.default_rng(1)
    counts = np.zeros(5)
    for _ in range(3000):
        state["rng"] = np.random.PCG64(int(rng.integers(2**32))).state
        curriculum.load_state_dict(state)
        counts[curriculum.sample()[0]] += 1
    likely = expected > 0
    assert counts[~likely].sum() == 0
    chi_square = ((counts - 3000 * expected)[likely] ** 2 / (3000 * expected[likely])).sum()
    assert chi_square < 18.5  # 4 degrees of freedom, p = 0.001


class TestSchedules:
    def test_nothing_is_replayed_before_rho_levels_are_seen(self):
        curriculum = plr(4, rho=0.75)
        curriculum.update_scores([0, 1], [1.0, 2.0])
        assert curriculum.distribution().tolist() == [0, 0, 0.5, 0.5]
        curriculum.update_scores([3], [0.0])
        assert curriculum.metrics()["replay_probability"] == 0.75
        assert set(curriculum.sample(60)) > {2, 1}

    def test_the_default_visits_every_level_first(self):
        curriculum = PrioritizedLevelReplay(DiscreteTaskSpace(20), seed=1)
        for expected_new in range(20):
            (task,) = curriculum.sample()
            assert np.isnan(curriculum.scores[task]), expected_new
            curriculum.update_scores([task], [0.5])
        assert curriculum.metrics()["replay_share"] == 0
        curriculum.sample(5)
        assert curriculum.metrics()["replay_share"] == 0.2

    def test_fixed_replays_always_once_all_is_seen(self):
        curriculum = plr(2, replay_schedule="fixed", replay_prob=0.0)
        curriculum.update_scores([0], [1.0])
        assert curriculum.sample(20) == [1] * 20
        curriculum.update_scores([1], [0.0])
        assert curriculum.metrics()["replay_probability"] == 1.0
        assert 0 in curriculum.sample(20)

    def test_before_anything_is_seen_every_task_is_new(self):
        for schedule in ("fixed", "proportionate"):
            curriculum = plr(3, replay_schedule=schedule, replay_prob=1.0)
            assert set(curriculum.sample(50)) == {0, 1, 2}
            np.testing.assert_allclose(curriculum.distribution(), 1 / 3)

    def test_random_draws_alike_and_sequential_in_order(self):
        curriculum = plr(4, strategy="random")
        curriculum.update_scores([2], [9.0])
        assert curriculum.distribution().tolist() == [0.25] * 4
        assert set(curriculum.sample(60)) == {0, 1, 2, 3}
        curriculum = plr(3, strategy="sequential")
        assert curriculum.sample(5) == [0, 1, 2, 0, 1]
        assert curriculum.distribution().tolist() == [0, 0, 1]

    def test_a_random_start_is_uniform(self):
        curriculum = plr(3, random_start_tasks=4)
        curriculum.update_scores([0, 1, 2], [5.0, 0.0, 0.0])
        np.testing.assert_allclose(curriculum.distribution(), 1 / 3)
        curriculum.sample(4)
        assert curriculum.distribution().argmax() == 0


class TestScores:
    def test_alpha_averages_from_zero(self):
        curriculum = plr(alpha=0.5)
        curriculum.update_scores([1, 1, 2], [1.0, 2.0, -1.0])
        np.testing.assert_array_equal(curriculum.scores, [np.nan, 1.25, -0.5, np.nan, np.nan])

    def test_max_scores_are_mixed_in(self):
        curriculum = plr(max_score_coef=0.25)
        curriculum.update_scores([0, 1], [1.0, 2.0], max_scores=[5.0, 2.0])
        assert curriculum.scores[:2].tolist() == [2.0, 2.0]
        curriculum.update_scores([0], [7.0])
        assert curriculum.scores[0] == 7.0

    def test_one_task_and_one_number_will_do(self):
        curriculum = plr()
        curriculum.update_scores(3, 0.5, 0.7)
        assert curriculum.scores[3] == 0.5

    def test_many_at_once_are_the_same_as_one_by_one(self):
        rng = np.random.default_rng(0)
        tasks, scores = rng.permutation(3000)[:2000], rng.random(2000)
        one, many = plr(3000, alpha=0.5), plr(3000, alpha=0.5)
        for curriculum in (one, many):
            curriculum.update_scores([5, 6], [1.0, 2.0])
        many.update_scores(tasks, scores)
        for task, score in zip(tasks.tolist(), scores, strict=True):
            one.update_scores([task], [score])
        np.testing.assert_allclose(one.scores, many.scores, atol=1e-15)
        np.testing.assert_allclose(one.distribution(), many.distribution(), atol=1e-12)

    def test_many_with_one_task_twice_are_taken_in_order(self):
        curriculum = plr(2000, alpha=0.5)
        curriculum.update_scores([*range(2000), 7], [1.0] * 2001)
        assert curriculum.scores[7] == 0.75

    def test_on_demand(self):
        curriculum = plr()
        curriculum.update_on_demand({"tasks": [0], "scores": [0.5], "max_scores": [0.6], "loss": 3.0})
        curriculum.update_on_demand({"loss": 3.0})
        assert curriculum.scores[0] == 0.5
        for lonely in ("tasks", "scores"):
            with pytest.raises(TaskError, match="both 'tasks' and 'scores'"):
                curriculum.update_on_demand({lonely: [1]})

    @pytest.mark.parametrize(
        ("tasks", "scores", "message"),
        [
            ([0, 1], [0.5, np.nan], "finite"),
            ([0, 1], [0.5, np.inf], "finite"),
            ([0, 9], [0.5, 0.5], "not in DiscreteTaskSpace"),
            ([0, "x"], [0.5, 0.5], "not in DiscreteTaskSpace"),
            ([0, 1.5], [0.5, 0.5], "not in DiscreteTaskSpace"),
            ([0, 1], [0.5], "2 numbers"),
            ([0, 1], ["a", "b"], "2 numbers"),
            ([0, 1], [[0.5], [0.5]], "2 numbers"),
            ([0, 1], [[0.5], 0.5], "2 numbers"),
            (0, [0.5], "tasks must be a sequence"),
            ("01", [0.5, 0.5], "tasks must be a sequence"),
        ],
    )
    def test_bad_scores_change_nothing(self, tasks, scores, message):
        curriculum = plr()
        curriculum.update_scores([2], [0.1])
        before = pickle.dumps(curriculum.state_dict())
        with pytest.raises(TaskError, match=message):
            curriculum.update_scores(tasks, scores)
        with pytest.raises(TaskError):
            curriculum.update_scores([0, 1], [0.5, 0.5], max_scores=[0.5, np.nan])
        assert pickle.dumps(curriculum.state_dict()) == before


class TestOutcomes:
    def test_learnability_scores_episode_results(self):
        curriculum = plr(strategy="learnability", alpha=1.0)
        for episode_return in (1.0, -1.0, 0.0, 0.0):
            curriculum.update_on_episode(episode_return, 10, 2, 0.0, env_id=0)
        curriculum.update_on_episode(-3.0, 10, 1, 1.0)
        assert curriculum.scores[2] == 0.25 * 0.75
        assert curriculum.scores[1] == 0.0

    def test_success_is_what_the_user_says(self):
        curriculum = plr(
            strategy="learnability", success=lambda episode_return, progress: episode_return / 10
        )
        curriculum.update_on_episode(5.0, 10, 2, 0.0)
        assert curriculum.scores[2] == 0.25
        with pytest.raises(TaskError, match="from 0 to 1; got 2"):
            curriculum.update_on_episode(20.0, 10, 2, 0.0)
        assert curriculum.scores[2] == 0.25

    def test_tscl_window_and_uniform(self):
        curriculum = plr(strategy="tscl_window", tscl_window_size=2)
        for episode_return in (9.0, 1.0, 4.0):
            curriculum.update_on_episode(episode_return, 10, 0, 0.0)
        assert curriculum.scores[0] == 3.0
        curriculum = plr(strategy="uniform")
        curriculum.update_on_episode(9.0, 10, 0, 0.0)
        assert curriculum.scores[0] == 1.0

    def test_value_strategies_leave_episode_results_alone(self):
        curriculum = plr(record_stats=True)
        curriculum.update_on_episode(9.0, 10, 0, 0.0)
        assert np.isnan(curriculum.scores).all()
        assert curriculum.stats.task(0).mean == 9.0

    @pytest.mark.parametrize(
        ("call", "error"),
        [
            (lambda c: c.update_on_episode(np.nan, 3, 0, 0.0), TaskError),
            (lambda c: c.update_on_episode(1.0, -3, 0, 0.0), TaskError),
            (lambda c: c.update_on_episode(1.0, 3, 77, 0.0), TaskError),
            (lambda c: c.update_on_episode({"a": 1.0}, 3, 0, 0.0), UsageError),
        ],
    )
    def test_bad_results_change_nothing(self, call, error):
        curriculum = plr(strategy="learnability", record_stats=True)
        curriculum.register_env(7, ALONE)
        before = pickle.dumps(curriculum.state_dict())
        with pytest.raises(error):
            call(curriculum)
        assert pickle.dumps(curriculum.state_dict()) == before

    def test_a_multi_agent_environment_is_refused(self):
        with pytest.raises(UsageError, match="MultiagentSharedCurriculumWrapper"):
            plr().register_env(0, EnvSpec(("a", "b"), ("a",)))


class TestSpaces:
    @pytest.mark.parametrize(
        ("space", "task"),
        [
            (MultiDiscreteTaskSpace([2, 3]), (1, 2)),
            (TupleTaskSpace([DiscreteTaskSpace(2), DiscreteTaskSpace(3)]), (1, 0)),
            (DictTaskSpace({"x": DiscreteTaskSpace(2), "y": DiscreteTaskSpace(2)}), {"x": 1, "y": 0}),
            (DiscreteTaskSpace(["easy", "hard"]), 1),
        ],
    )
    def test_finite_spaces_are_replayed_by_position(self, space, task):
        curriculum = plr(space=space, staleness_coef=0.0, replay_schedule="fixed", replay_prob=1.0)
        curriculum.update_scores([task], [0.5])
        assert curriculum.sample(2) == [task, task]
        assert curriculum.distribution()[space.index(task)] == 1.0

    def test_spaces_without_end_need_a_buffer(self):
        with pytest.raises(UsageError, match=r"has no end.*buffer_size"):
            plr(space=BoxTaskSpace(0.0, 1.0))
        with pytest.raises(UsageError, match=rf"{2**40} tasks.*buffer_size"):
            plr(2**40)
        with pytest.raises(UsageError, match="leave buffer_size out"):
            plr(5, strategy="sequential", buffer_size=2)

    def test_tasks_added_while_running_are_new_levels(self):
        space = DiscreteTaskSpace(2)
        curriculum = plr(space=space, strategy="max_mc")
        curriculum.update_scores([0, 1], [0.5, 0.1])
        before = curriculum.distribution()
        space.add_task()
        share = curriculum.metrics()["replay_probability"]
        assert share == pytest.approx(2 / 3)
        np.testing.assert_allclose(curriculum.distribution(), [*(share * before), 1 - share])
        assert 2 in curriculum.sample(30)
        curriculum.update_scores([2], [0.9])
        assert curriculum.scores.tolist() == [0.5, 0.1, 0.9]

    def test_a_product_space_that_grows_is_refused(self):
        first = DiscreteTaskSpace(2)
        curriculum = plr(space=TupleTaskSpace([DiscreteTaskSpace(2), first]))
        first.add_task()
        with pytest.raises(UsageError, match="from 4 to 6 tasks"):
            curriculum.sample()


class TestState:
    def mature(self, **options):
        curriculum = plr(20, **options)
        rng = np.random.default_rng(3)
        for _ in range(40):
            (task,) = curriculum.sample()
            curriculum.update_scores([task], [rng.random()])
        return curriculum

    @pytest.mark.parametrize("copied", [lambda state: state, lambda state: pickle.loads(pickle.dumps(state))])
    @pytest.mark.parametrize("score_transform", SCORE_TRANSFORMS)
    def test_goes_on_as_if_nothing_had_happened(self, score_transform, copied):
        options = {"score_transform": score_transform, "record_stats": True}
        first = self.mature(**options)
        first.update_on_episode(1.0, 2, 3, 0.0)
        second = plr(20, **{**options, "seed": 9})
        second.load_state_dict(copied(first.state_dict()))
        for _ in range(3):
            assert first.sample(50) == second.sample(50)
            for curriculum in (first, second):
                curriculum.update_scores([1, 2], [0.3, 0.9])
        assert first.metrics() == second.metrics()
        assert second.stats.task(3).mean == 1.0

    def test_a_state_is_independent_of_its_curriculum(self):
        curriculum = self.mature()
        state = curriculum.state_dict()
        before = pickle.dumps(state)
        curriculum.sample(20)
        curriculum.update_scores([1], [5.0])
        assert pickle.dumps(state) == before

    def test_survives_read_only_arrays(self):
        state = self.mature().state_dict()
        for name in ("scores", "times", "items"):
            state["levels"]["replay"][name].setflags(write=False)
        curriculum = plr(20)
        curriculum.load_state_dict(state)
        curriculum.update_scores([1], [5.0])
        curriculum.sample(5)

    @pytest.mark.parametrize(
        "damage",
        [
            lambda s: s.pop("levels"),
            lambda s: s.pop("rng"),
            lambda s: s.update(type="Constant"),
            lambda s: s["levels"].pop("rows"),
            lambda s: s["levels"].update(rows=np.zeros((20, 3))),
            lambda s: s["levels"]["replay"].update(clock=0),
            lambda s: s.update(episodes=[["step", 0, {}]]),
            lambda s: s["rng"].pop("state"),
        ],
    )
    def test_a_damaged_state_is_refused_and_changes_nothing(self, damage):
        state = self.mature().state_dict()
        damage(state)
        curriculum = self.mature(seed=4)
        before = pickle.dumps(curriculum.state_dict())
        with pytest.raises(StateError):
            curriculum.load_state_dict(state)
        assert pickle.dumps(curriculum.state_dict()) == before

    def test_a_state_of_other_levels_is_refused(self):
        with pytest.raises(StateError, match="20"):
            plr(10).load_state_dict(self.mature().state_dict())

    def test_a_pickled_curriculum_goes_on(self):
        first = self.mature()
        second = pickle.loads(pickle.dumps(first))
        assert first.sample(50) == second.sample(50)


class TestMetrics:
    def test_are_floats_from_the_start(self):
        for curriculum in (plr(), plr(space=BoxTaskSpace(0.0, 1.0), buffer_size=3)):
            metrics = curriculum.metrics()
            assert all(isinstance(value, float) and np.isfinite(value) for value in metrics.values())

    def test_say_what_they_say(self):
        curriculum = plr(4, temperature=1.0, staleness_coef=0.0)
        curriculum.update_scores([0, 1], [0.2, 0.6])
        curriculum.sample(3)
        metrics = curriculum.metrics()
        assert metrics["seen_fraction"] == metrics["replay_probability"] == 0.5
        assert metrics["score_mean"] == pytest.approx(0.4)
        assert metrics["score_max"] == 0.6
        assert metrics["replay_entropy"] == pytest.approx(-(2 / 3 * np.log(2 / 3) + 1 / 3 * np.log(1 / 3)))
        assert metrics["staleness_max"] <= 3


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("strategy", "value_l2"),
        ("score_transform", "best"),
        ("staleness_transform", "match"),
        ("replay_schedule", "sometimes"),
        ("buffer_priority", "age"),
        ("temperature", 0.0),
        ("staleness_temperature", np.inf),
        ("staleness_coef", 1.1),
        ("replay_prob", -0.1),
        ("rho", np.nan),
        ("alpha", 0.0),
        ("tscl_window_size", 1),
        ("buffer_size", 0),
        ("evaluator", "critic"),
        ("temperature", "cold"),
        ("alpha", None),
        ("buffer_size", 4.0),
    ],
)
def test_bad_options_are_named(option, value):
    with pytest.raises(UsageError, match=option):
        plr(**{option: value})


def test_every_strategy_can_be_made_and_sampled():
    for strategy in STRATEGIES:
        assert set(plr(3, strategy=strategy).sample(9)) <= {0, 1, 2}

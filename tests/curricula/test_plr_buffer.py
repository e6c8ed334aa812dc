"""The bounded buffer over spaces without end, and the curricula that train on replayed levels only."""

import pickle

import numpy as np
import pytest

from macurr import BoxTaskSpace, DictTaskSpace, DiscreteTaskSpace, EnvSpec, TupleTaskSpace
from macurr.curricula.plr import ACCEL, PrioritizedLevelReplay, RobustPLR
from macurr.errors import StateError, TaskError, UsageError


def plr(size=3, space=None, kind=PrioritizedLevelReplay, **options):
    space = BoxTaskSpace([0.0, 0.0], [1.0, 1.0]) if space is None else space
    return kind(space, **{"buffer_size": size, "seed": 0, "rho": 0.0, **options})


def level(x):
    return np.array([x, x], np.float32)


def kept(curriculum):
    """The buffer's levels by their scores."""
    buffer = curriculum._levels
    scores = curriculum.scores
    return {
        round(float(np.asarray(buffer.task(slot)).flat[0]), 3): scores[slot]
        for slot in np.flatnonzero(~np.isnan(scores))
    }


class TestReplacement:
    def test_a_level_enters_with_its_first_score(self):
        curriculum = plr()
        (task,) = curriculum.sample()
        assert curriculum.metrics()["seen_fraction"] == 0
        curriculum.update_scores([task], [0.5])
        assert curriculum.metrics()["seen_fraction"] == 1 / 3
        assert list(kept(curriculum).values()) == [0.5]

    def test_the_lowest_score_makes_room_for_one_that_is_not_lower(self):
        curriculum = plr(buffer_priority="score")
        curriculum.update_scores([level(0.1), level(0.2), level(0.3)], [3.0, 1.0, 2.0])
        curriculum.update_scores([level(0.4)], [0.9])
        assert kept(curriculum) == {0.1: 3.0, 0.2: 1.0, 0.3: 2.0}
        curriculum.update_scores([level(0.5)], [1.0])
        assert kept(curriculum) == {0.1: 3.0, 0.5: 1.0, 0.3: 2.0}

    def test_by_support_the_least_likely_level_is_the_one_compared(self):
        curriculum = plr(staleness_coef=0.9, temperature=1.0)
        curriculum.update_scores([level(0.1), level(0.2), level(0.3)], [3.0, 1.0, 2.0])
        # The level with the worst score has not been drawn for long and is the most likely of all.
        for time in range(5):
            curriculum._levels.replay.visit([2, 0][time % 2])
        assert curriculum._levels.replay.probabilities().argmax() == 1
        curriculum.update_scores([level(0.4)], [1.5])
        assert kept(curriculum) == {0.1: 3.0, 0.2: 1.0, 0.3: 2.0}
        curriculum.update_scores([level(0.5)], [2.0])
        assert kept(curriculum) == {0.1: 3.0, 0.2: 1.0, 0.5: 2.0}

    def test_a_late_score_never_reaches_the_new_owner_of_a_place(self):
        curriculum = plr(2, buffer_priority="score")
        curriculum.update_scores([level(0.1), level(0.2)], [1.0, 2.0])
        curriculum.update_scores([level(0.3)], [1.5])
        curriculum.update_scores([level(0.1)], [0.1])
        assert kept(curriculum) == {0.3: 1.5, 0.2: 2.0}
        curriculum.update_scores([level(0.1)], [9.0])
        assert kept(curriculum) == {0.1: 9.0, 0.2: 2.0}

    def test_a_level_takes_one_place_however_often_it_comes(self):
        curriculum = plr(alpha=0.5)
        curriculum.update_scores([level(0.1), level(0.2), level(0.1)], [1.0, 1.0, 1.0])
        assert kept(curriculum) == {0.1: 0.75, 0.2: 0.5}

    def test_what_a_strategy_remembers_goes_with_its_level(self):
        curriculum = plr(1, strategy="max_mc", buffer_priority="score")

        def play(task, episode_return, value):
            curriculum.update_rollout([[task]], [[episode_return]], [[True]], values=[[value]])

        play(level(0.1), 5.0, 3.0)
        play(level(0.1), 1.0, 3.0)
        assert kept(curriculum) == {0.1: 2.0}
        play(level(0.2), 1.0, -1.0)
        assert kept(curriculum) == {0.2: 2.0}
        play(level(0.2), 0.0, 0.0)
        assert kept(curriculum) == {0.2: 1.0}

    def test_staleness_counts_from_the_draw(self):
        curriculum = plr()
        tasks = curriculum.sample(4)
        curriculum.update_scores([tasks[1], level(0.5)], [0.5, 0.5])
        buffer = curriculum._levels
        assert [buffer.replay.ages[buffer.slot(task)] for task in (tasks[1], level(0.5))] == [2, 0]

    def test_levels_that_never_score_are_forgotten(self):
        curriculum = plr(2)
        first = curriculum.sample(3000)[0]
        assert len(curriculum._levels._waiting) == 1024
        curriculum.update_scores([first], [1.0])
        assert curriculum._levels.replay.ages[curriculum._levels.slot(first)] == 0


class TestSchedules:
    def test_fixed_waits_until_the_buffer_is_filled_so_far(self):
        curriculum = plr(4, replay_schedule="fixed", replay_prob=0.8, rho=0.5)
        curriculum.update_scores([level(0.1)], [1.0])
        assert curriculum.metrics()["replay_probability"] == 0.0
        curriculum.update_scores([level(0.2)], [1.0])
        assert curriculum.metrics()["replay_probability"] == 0.8

    def test_proportionate_grows_up_to_replay_prob(self):
        curriculum = plr(4, replay_prob=0.4)
        shares = []
        for x in (0.1, 0.2, 0.3):
            curriculum.update_scores([level(x)], [1.0])
            shares.append(curriculum.metrics()["replay_probability"])
        assert shares == [0.25, 0.4, 0.4]

    def test_an_empty_buffer_is_never_replayed(self):
        for schedule in ("fixed", "proportionate"):
            curriculum = plr(replay_schedule=schedule, replay_prob=1.0)
            assert len(curriculum.sample(20)) == 20
            assert curriculum.metrics()["replay_share"] == 0.0


class TestSpaces:
    def test_a_finite_space_has_a_distribution(self):
        curriculum = plr(2, DiscreteTaskSpace(5), replay_prob=1.0, temperature=1.0, staleness_coef=0.0)
        assert curriculum.distribution().tolist() == [0.2] * 5
        curriculum.update_scores([3], [1.0])
        np.testing.assert_allclose(curriculum.distribution(), [0.1, 0.1, 0.1, 0.6, 0.1])
        assert plr(2, DiscreteTaskSpace(2**40)).distribution() is None
        assert plr(2).distribution() is None

    @pytest.mark.parametrize(
        "space",
        [
            DictTaskSpace({"x": BoxTaskSpace(0.0, 1.0), "n": DiscreteTaskSpace(3)}),
            TupleTaskSpace([BoxTaskSpace([0.0], [1.0]), DiscreteTaskSpace(3)]),
            DiscreteTaskSpace(2**31),
            BoxTaskSpace([0.0, 0.0], [1.0, 1.0]),
        ],
        ids=repr,
    )
    def test_any_task_is_kept_and_saved(self, space):
        first, second = plr(5, space), plr(5, space, seed=7)
        rng = np.random.default_rng(0)
        for _ in range(12):
            (task,) = first.sample()
            first.update_scores([task], [rng.random()])
        second.load_state_dict(pickle.loads(pickle.dumps(first.state_dict())))
        for _ in range(3):
            one, two = first.sample(20), second.sample(20)
            assert repr(one) == repr(two)
            assert all(space.contains(task) for task in one)
            for curriculum in (first, second):
                curriculum.update_scores(one[:3], [0.5, 0.6, 0.99])
        np.testing.assert_array_equal(first.scores, second.scores)

    @pytest.mark.parametrize(
        "damage",
        [
            lambda levels: levels.pop("tasks"),
            lambda levels: levels["tasks"].__setitem__(0, None),
            lambda levels: levels["tasks"].__setitem__(0, [5.0, 5.0]),
            lambda levels: levels["tasks"].__setitem__(0, levels["tasks"][1]),
            lambda levels: levels.update(waiting=[1]),
            lambda levels: levels.pop("replayed"),
            lambda levels: levels.update(replayed=np.zeros(2, bool)),
        ],
    )
    def test_a_damaged_state_is_refused_and_changes_nothing(self, damage):
        curriculum = plr()
        curriculum.update_scores([level(0.1), level(0.2)], [1.0, 2.0])
        state = curriculum.state_dict()
        damage(state["levels"])
        before = pickle.dumps(curriculum.state_dict())
        with pytest.raises(StateError):
            curriculum.load_state_dict(state)
        assert pickle.dumps(curriculum.state_dict()) == before


class TestRobust:
    @pytest.mark.parametrize("size", [None, 8])
    def test_only_replayed_levels_are_trained_on(self, size):
        curriculum = RobustPLR(DiscreteTaskSpace(10), seed=3, rho=0.0, buffer_size=size, replay_prob=0.5)
        trained = []
        for _ in range(60):
            share = curriculum.metrics()["replay_share"]
            (task,) = curriculum.sample()
            replayed = len(trained) > 0 and curriculum.metrics()["replay_share"] > share
            assert curriculum.trains_on([task]).tolist() == [replayed]
            curriculum.update_scores([task], [0.5])
            assert curriculum.trains_on([task]).tolist() == [replayed], (
                "a score does not change what was drawn"
            )
            trained.append(replayed)
        assert 10 < sum(trained) < 60

    def test_the_state_remembers(self):
        first = RobustPLR(DiscreteTaskSpace(4), seed=0, rho=0.0)
        first.update_scores(range(4), [0.1] * 4)
        (task,) = first.sample()
        second = RobustPLR(DiscreteTaskSpace(4), seed=0, rho=0.0)
        second.load_state_dict(first.state_dict())
        assert second.trains_on(range(4)).tolist() == [task == other for other in range(4)]
        with pytest.raises(TaskError):
            second.trains_on([9])


def neighbour(task, rng):
    return int(np.clip(task + rng.choice([-1, 1]), 0, 999))


class TestAccel:
    def make(self, mutate=neighbour, **options):
        return ACCEL(DiscreteTaskSpace(1000), mutate, **{"buffer_size": 4, "seed": 1, "rho": 0.0, **options})

    def test_an_edited_level_follows_every_replay_and_is_not_trained_on(self):
        curriculum = self.make(
            lambda task, rng: task + 1, num_edits=2, replay_prob=1.0, replay_schedule="fixed"
        )
        curriculum.update_scores([500], [1.0])
        for _ in range(5):
            parent, child = curriculum.sample(2)
            assert parent == 500
            assert child == 502
            assert curriculum.trains_on([parent, child]).tolist() == [True, False]

    def test_edits_that_score_enter_the_buffer(self):
        curriculum = self.make(num_edits=1)
        curriculum.update_scores([500], [1.0])
        for _ in range(200):
            (task,) = curriculum.sample()
            curriculum.update_scores([task], [-abs(task - 510.0)])
        assert max(curriculum.scores) > -5

    def test_without_edits_it_is_robust_plr(self):
        curriculum = self.make(edit_prob=0.0, replay_prob=1.0, replay_schedule="fixed")
        curriculum.update_scores([500], [1.0])
        assert curriculum.sample(9) == [500] * 9

    def test_a_waiting_edit_is_certain_and_saved(self):
        first, second = self.make(), self.make(seed=8)
        first.update_scores([500], [1.0])
        while not first._edited:
            first.sample()
        assert first.distribution().max() == 1.0
        second.load_state_dict(first.state_dict())
        assert first.distribution().argmax() == second.distribution().argmax()
        assert first.sample(50) == second.sample(50)
        with pytest.raises(StateError, match="edited levels"):
            second.load_state_dict({**first.state_dict(), "edited": [5000]})

    def test_a_mutation_out_of_the_space_is_refused(self):
        curriculum = self.make(lambda task, rng: task + 10**6, replay_prob=1.0, replay_schedule="fixed")
        curriculum.update_scores([500], [1.0])
        with pytest.raises(TaskError, match="mutate made 1000500 of 500"):
            curriculum.sample()

    @pytest.mark.parametrize("option", [{"edit_prob": 1.5}, {"num_edits": 0}])
    def test_bad_options(self, option):
        with pytest.raises(UsageError, match="edit_prob must be from 0 to 1"):
            self.make(**option)


def test_environments_come_and_go():
    curriculum = plr(strategy="learnability")
    alone = EnvSpec(("agent_0",), ("agent_0",), single_agent=True)
    curriculum.register_env(0, alone)
    curriculum.update_on_episode(1.0, 3, level(0.5), 0.0, env_id=0)
    curriculum.unregister_env(0)
    curriculum.register_env(1, alone)
    curriculum.update_on_episode(0.0, 3, level(0.5), 0.0, env_id=1)
    assert kept(curriculum) == {0.5: 0.25}

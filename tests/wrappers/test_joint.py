"""Opponent and level together: who is drawn, and what is touched, by hand."""

import numpy as np
import pytest

from macurr import BoxTaskSpace, DiscreteTaskSpace, EnvSpec, StateError, TaskError, UsageError
from macurr.curricula import DomainRandomization, FictitiousSelfPlay, PrioritizedLevelReplay
from macurr.evaluator import FunctionEvaluator
from macurr.opponents import AgentPool
from macurr.testing import TraceCurriculum
from macurr.wrappers import DualCurriculumWrapper as Dual
from macurr.wrappers.joint import HighestScores
from tests.support.batches import make_batch

SPEC = EnvSpec(("a", "b"), ("a",))


def levels(rng, n=6, **options):
    settings = {"rho": 0.0, "temperature": 1.0, "staleness_coef": 0.0, **options}
    return PrioritizedLevelReplay(DiscreteTaskSpace(n), seed=rng, **settings)


def joint(n=3, make=levels, seed=0, **options):
    opponents = DomainRandomization(DiscreteTaskSpace(n), seed=seed)
    return Dual(make, opponents, joint=True, **{"trials": 0, "seed": seed, **options})


def drawn(dual, k):
    return [task.agent for task in dual.sample(k)]


def score(dual, *rows):
    dual.update_on_demand({"tasks": [row[:2] for row in rows], "scores": [row[2] for row in rows]})


# The choice of the opponent


def test_the_opponent_with_the_highest_regret_is_played():
    dual = joint(uniform_prob=0.0)
    score(dual, (0, 1, 0.2), (2, 1, 0.7), (1, 3, 0.4))
    assert drawn(dual, 20) == [2] * 20
    score(dual, (2, 1, 0.1))
    assert drawn(dual, 20) == [1] * 20
    score(dual, (0, 5, 0.5))
    assert drawn(dual, 20) == [1] * 20, "0.4 is more than the mean of 0.2 and 0.5"
    score(dual, (0, 5, 0.7))
    assert drawn(dual, 20) == [0] * 20


@pytest.mark.parametrize(("top_k", "best"), [(1, 0), (2, 1), (3, 2)])
def test_regret_is_the_mean_of_the_highest_scores(top_k, best):
    dual = joint(uniform_prob=0.0, top_k=top_k)
    for opponent, scores in enumerate([(0.9, 0.0, 0.0), (0.8, 0.7, 0.0), (0.6, 0.6, 0.6)]):
        score(dual, *((opponent, level, value) for level, value in enumerate(scores)))
    assert drawn(dual, 5) == [best] * 5
    highest = [np.mean(sorted(s)[-top_k:]) for s in ((0.9, 0, 0), (0.8, 0.7, 0), (0.6, 0.6, 0.6))]
    metrics = dual.metrics()
    assert metrics["env/regret_max"] == pytest.approx(max(highest))
    assert metrics["env/regret_mean"] == pytest.approx(np.mean(highest))


def test_the_rest_is_left_to_the_agent_curriculum():
    """p = lambda / N + (1 - lambda) [argmax], with 20,000 draws: within 4 standard deviations."""
    dual = joint(n=4, uniform_prob=0.2)
    score(dual, (2, 0, 1.0))
    expected = np.array([0.05, 0.05, 0.85, 0.05])
    assert dual.env_curriculum.opponent_distribution() == pytest.approx(expected)
    counts = np.bincount(drawn(dual, 20_000), minlength=4)
    assert (np.abs(counts - 20_000 * expected) < 4 * np.sqrt(20_000 * expected * (1 - expected))).all()


def test_with_no_regret_known_the_agent_curriculum_decides():
    dual = joint(n=3, uniform_prob=0.0)
    assert dual.distribution() == pytest.approx(np.full(18, 1 / 18))
    assert set(drawn(dual, 60)) == {0, 1, 2}


def test_new_opponents_take_turns_first():
    dual = joint(n=3, uniform_prob=0.0, trials=2)
    assert dual.metrics()["env/opponents_on_trial"] == 3
    assert drawn(dual, 4) == [0, 1, 2, 0]
    score(dual, (0, 0, 0.5))
    dual.agent_curriculum.task_space.add_task()
    assert drawn(dual, 4) == [1, 2, 3, 3]
    assert drawn(dual, 9) == [0] * 9
    score(dual, (3, 0, 0.6))
    assert drawn(dual, 9) == [3] * 9


def test_during_trials_the_distribution_is_certain():
    dual = joint(n=2, trials=1)
    score(dual, (0, 3, 0.5))
    assert dual.distribution().reshape(2, 6)[1].tolist() == [0.0] * 6
    assert dual.distribution()[:6] == pytest.approx(dual.env_curriculum.level_distribution(0))
    dual.sample()
    assert dual.distribution()[6:] == pytest.approx(np.full(6, 1 / 6)), "1 has no levels of its own yet"


def test_an_aborted_trial_is_given_back():
    dual = joint(n=2, uniform_prob=0.0, trials=1)
    dual.register_env(0, SPEC)
    tasks = dual.sample(2)
    dual.update_on_abort(tasks[0], env_id=0)
    assert drawn(dual, 1) == [0]
    score(dual, (0, 0, 0.5))
    dual.update_on_abort(tasks[0], env_id=0)
    assert dual.metrics()["env/opponents_on_trial"] == 0


def test_an_aborted_trial_is_one_trial():
    dual = joint(n=2, uniform_prob=0.0, trials=2)
    dual.register_env(0, SPEC)
    tasks = dual.sample(2)
    dual.update_on_abort(tasks[0], env_id=0)
    score(dual, (1, 0, 0.5))
    # Two of the first (one is given back) and one of the second, then regret decides.
    assert sorted(drawn(dual, 3)) == [0, 0, 1]
    assert drawn(dual, 5) == [1] * 5


def test_an_opponent_may_stay_for_several_tasks():
    dual = joint(n=2, uniform_prob=0.0, trials=1, batch_agent_tasks=True, batch_size=3)
    assert drawn(dual, 4) == [0, 0, 0, 1]
    expected = np.concatenate([np.zeros(6), np.full(6, 1 / 6)])
    assert dual.distribution()[:6].tolist() == [0.0] * 6
    assert dual.distribution().sum() == pytest.approx(expected.sum())


# The levels


def test_levels_are_replayed_by_their_scores_against_that_opponent():
    dual = joint(uniform_prob=0.0)
    for opponent, favourite in ((0, 1), (2, 4)):
        score(dual, *((opponent, level, 1.0 if level == favourite else 0.0) for level in range(6)))
    score(dual, (2, 4, 2.0))
    by_rank = np.array([1 / 2, 1 / 3, 1 / 4, 1 / 5, 1, 1 / 6])
    own = dual.env_curriculum.level_distribution(2)
    assert own == pytest.approx(by_rank / by_rank.sum())
    assert dual.distribution().reshape(3, 6)[2] == pytest.approx(own)
    assert np.argmax(dual.env_curriculum.level_distribution(0)) == 1
    assert dual.env_curriculum.level_distribution(1) == pytest.approx(np.full(6, 1 / 6))


def test_a_score_touches_its_opponent_alone():
    made = []

    def make(rng):
        made.append(TraceCurriculum(DiscreteTaskSpace(9), single_agent=True))
        return made[-1]

    dual = joint(n=1000, make=make, regret=lambda curriculum: None)
    prototype = made[0]
    dual.register_env(0, SPEC)
    dual.update_on_episode({"a": 1.0, "b": 0.0}, 2, (7, 3), {}, env_id=0)
    score(dual, (7, 5, 0.5), (900, 6, 0.25))
    assert len(made) == 3, "one for each of two opponents of a thousand, and the prototype"
    spec = EnvSpec(("a",), ("a",), single_agent=True)
    assert prototype.calls == [("register", (0, spec))]
    assert [kind for kind, _ in made[1].calls] == ["register", "episode", "demand"]
    assert (made[1].calls[0][1], made[1].calls[1][1].task) == ((0, spec), 3)
    demands = [
        (d["tasks"], d["scores"].tolist()) for inner in made[1:] for k, d in inner.calls if k == "demand"
    ]
    assert demands == [([5], [0.5]), ([6], [0.25])]
    dual.unregister_env(0)
    assert [inner.calls[-1][0] for inner in made] == ["unregister", "unregister", "demand"]


def test_only_touched_opponents_are_measured():
    measured = []

    def regret(curriculum):
        measured.append(curriculum)
        return HighestScores(1)(curriculum)

    dual = joint(n=3, uniform_prob=0.0, regret=regret)
    score(dual, (0, 1, 0.1), (1, 1, 0.2), (2, 1, 0.3))
    dual.sample()
    measured.clear()
    dual.sample(5)
    assert measured == []
    score(dual, (1, 1, 0.9))
    assert drawn(dual, 3) == [1] * 3
    assert len(measured) == 1


def test_episodes_and_steps_score_levels_against_their_opponent():
    """PLR with an evaluator: value 0 everywhere, so a step's score is its lambda-return."""

    def make(rng):
        evaluator = FunctionEvaluator(values=lambda seen: np.zeros(len(seen)))
        return levels(rng, evaluator=evaluator, gamma=1.0, gae_lambda=1.0, strategy="value_l1")

    dual = joint(n=2, make=make, uniform_prob=0.0)
    assert dual.step_fields == {"rewards", "dones", "observations"}
    dual.register_env(0, SPEC)
    seen = {agent: np.zeros((2, 1)) for agent in "ab"}
    for opponent, level, reward in ((0, 2, 1.0), (1, 2, 3.0)):
        batch = make_batch(
            "ab",
            [[0, 9], [reward, 9]],
            done=[(1, "a"), (1, "b")],
            observations=seen,
            final_observations={agent: np.zeros(1) for agent in "ab"},
            task=(opponent, level),
        )
        dual.update_on_step_batch(batch)
    learners = [dual.env_curriculum._levels[slot].curriculum for slot in (0, 1)]
    assert [learner.scores[2] for learner in learners] == [1.0, 3.0]
    assert drawn(dual, 4) == [1] * 4


def test_scores_beside_other_numbers():
    made = []

    def make(rng):
        made.append(TraceCurriculum(DiscreteTaskSpace(9)))
        return made[-1]

    dual = joint(make=make, regret=lambda curriculum: None)
    dual.update_on_demand(
        {
            "tasks": [(0, 1), (1, 2), (0, 3)],
            "scores": (1, 2, 3),
            "max_scores": np.arange(3),
            "names": "abc",
            "lr": 0.5,
        }
    )
    dual.update_on_demand({"tasks": (1, 8), "scores": 5.0})
    dual.update_on_demand({"loss": 1.0})
    first, second = ([what for kind, what in inner.calls if kind == "demand"] for inner in made[1:])
    as_lists = [
        {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in d.items()} for d in first + second
    ]
    assert as_lists == [
        {"tasks": [1, 3], "scores": [1, 3], "max_scores": [0, 2], "names": "abc", "lr": 0.5},
        {"loss": 1.0},
        {"tasks": [2], "scores": [2], "max_scores": [1], "names": "abc", "lr": 0.5},
        {"tasks": [8], "scores": [5]},
        {"loss": 1.0},
    ]


def test_a_rollout_is_split_by_opponent():
    """Two columns; the first changes its opponent in mid-rollout. The scores are those of separate rollouts."""

    def make(rng):
        return levels(rng, strategy="value_l1", gamma=1.0, gae_lambda=1.0)

    dual = joint(n=2, make=make, uniform_prob=0.0)
    tasks = [[(0, 2), (1, 4)], [(1, 3), (1, 4)], [(1, 3), None]]
    rewards = np.array([[1.0, 0.0], [0.0, 5.0], [2.0, 0.0]])
    done = np.array([[1, 0], [0, 1], [1, 0]], bool)
    active = np.array([[1, 1], [1, 1], [1, 0]], bool)
    rollout = {
        "tasks": tasks,
        "rewards": rewards,
        "terminations": done,
        "values": np.zeros((3, 2)),
        "active": active,
    }
    dual.update_on_demand({"rollout": rollout})
    first, second = (dual.env_curriculum._levels[slot].curriculum.scores for slot in (0, 1))
    assert np.flatnonzero(~np.isnan(first)).tolist() == [2]
    assert np.flatnonzero(~np.isnan(second)).tolist() == [3, 4]
    assert (first[2], second[3], second[4]) == (1.0, 2.0, 5.0)


@pytest.mark.parametrize(
    "metrics",
    [
        {"tasks": [(0, 1), (3, 1)], "scores": [0.5, 0.5]},
        {"tasks": [(0, 1), (0, 6)], "scores": [0.5, 0.5]},
        {"tasks": [(0, 1), (1, 1)], "scores": [0.5]},
        {"tasks": [(0, 1), (1, 1)], "scores": [0.5, float("nan")]},
        {"tasks": [0, 1], "scores": [0.5, 0.5]},
        {"tasks": [(1, 1)]},
        {"rollout": {"tasks": [[(0, 1)], [(0, 1), (0, 1)]]}},
        {"rollout": {"tasks": [[(0, 1)]], "active": [[True, True]]}},
    ],
)
def test_a_wrong_demand_changes_nothing(metrics):
    dual = joint(n=3)
    dual.sample()
    before = repr(dual.state_dict())
    with pytest.raises(TaskError):
        dual.update_on_demand(metrics)
    assert repr(dual.state_dict()) == before


def test_normalize_is_by_opponent_and_level():
    dual = joint(make=lambda rng: levels(rng, record_stats=True))
    dual.register_env(0, SPEC)
    for total in (1.0, 5.0):
        dual.update_on_episode({"a": total, "b": 0.0}, 1, (0, 2), {}, env_id=0)
    assert dual.normalize(3.0, (0, 2)) == 1.5
    assert dual.normalize(3.0, (1, 2)) == 3.0


def test_an_opponents_levels_say_what_goes_with_them():
    class Telling(TraceCurriculum):
        def task_info(self, task):
            return {"train": float(task)}

    dual = joint(make=lambda rng: Telling(DiscreteTaskSpace(9)), regret=lambda curriculum: None, trials=1)
    assert dual.task_info((0, 3)) == {}
    assert dual.sample()[0].agent == 0
    assert dual.task_info((0, 3)) == {"train": 3.0}


def test_levels_of_a_continuous_space(tmp_path):
    """The README's line: PLR buffers for each snapshot of a pool."""
    pool = AgentPool(tmp_path / "pool")
    for i in range(3):
        pool.add({"w": np.full(1, float(i))})
    dual = Dual(
        lambda rng: PrioritizedLevelReplay(BoxTaskSpace(0, 1), buffer_size=4, rho=0.0, seed=rng),
        FictitiousSelfPlay(pool, seed=0),
        joint=True,
        trials=1,
        seed=0,
    )
    dual.register_env(0, SPEC)
    tasks = dual.sample(3)
    assert [task.agent for task in tasks] == [0, 1, 2]
    dual.update_on_episode({"a": 1.0, "b": 0.0}, 3, tasks[1], {}, env_id=0)
    dual.update_on_demand({"tasks": tasks, "scores": [0.1, 0.9, 0.2]})
    assert dual.env_curriculum.opponent_distribution() == pytest.approx([0.1 / 3, 0.9 + 0.1 / 3, 0.1 / 3])
    assert dual.distribution() is None


# A population that changes


def test_who_leaves_the_pool_is_forgotten_and_late_results_are_left_aside(tmp_path):
    pool = AgentPool(tmp_path / "pool", capacity=2)
    pool.add({"w": np.zeros(1)})
    pool.add({"w": np.ones(1)})
    dual = Dual(levels, FictitiousSelfPlay(pool, seed=0), joint=True, trials=1, uniform_prob=0.0, seed=0)
    dual.register_env(0, SPEC)
    late = dual.sample(2)[0]
    score(dual, (0, 1, 0.9), (1, 1, 0.1))
    assert drawn(dual, 2) == [0, 0]
    pool.add({"w": np.ones(1)})
    assert drawn(dual, 3) == [2, 1, 1]
    assert sorted(dual.env_curriculum._levels) == [1, 2]
    dual.update_on_episode({"a": 1.0, "b": 0.0}, 3, late, {}, env_id=0)
    dual.update_on_abort(late, env_id=0)
    score(dual, (0, 1, 5.0))
    assert sorted(dual.env_curriculum._levels) == [1, 2]
    assert drawn(dual, 3) == [1] * 3
    assert dual.metrics()["env/opponents"] == 2


def test_who_leaves_while_it_stays_is_played_to_the_end_of_its_batch(tmp_path):
    pool = AgentPool(tmp_path / "pool", capacity=1)
    pool.add({"w": np.zeros(1)})
    batches = {"batch_agent_tasks": True, "batch_size": 3}
    dual = Dual(levels, FictitiousSelfPlay(pool, seed=0), joint=True, trials=1, seed=0, **batches)
    assert drawn(dual, 1) == [0]
    pool.add({"w": np.ones(1)})
    dual.metrics()
    assert drawn(dual, 4) == [0, 0, 1, 1]
    assert sorted(dual.env_curriculum._levels) == [1]


def test_an_opponent_that_is_removed_from_a_space_is_forgotten():
    dual = joint(n=3, uniform_prob=0.0, trials=1)
    dual.sample()
    score(dual, (2, 0, 0.9), (0, 0, 0.5))
    dual.agent_curriculum.task_space.remove_task(2)
    assert drawn(dual, 4) == [1, 0, 0, 0]
    inner = dual.env_curriculum
    inner.update_on_episode({"a": 1.0, "b": 0.0}, 1, (2, 0), {}, env_id=0)
    inner.update_task_progress((2, 0), {"a": 1.0}, env_id=0)
    inner.update_on_step((2, 0), {}, {"a": 1.0}, {}, {}, {}, {}, env_id=0)
    inner.update_on_step_batch(make_batch("ab", [[1, 1]], task=(2, 0)))
    assert sorted(inner._levels) == [0, 1]
    for stranger in ((3, 0), (0, 6)):
        with pytest.raises(TaskError):
            inner.update_on_step_batch(make_batch("ab", [[1, 1]], task=stranger))


def test_many_opponents():
    dual = joint(n=300, uniform_prob=0.0, trials=1)
    assert drawn(dual, 300) == list(range(300))
    score(dual, *((opponent, 0, opponent * 7 % 300) for opponent in range(300)))
    assert drawn(dual, 2) == [257] * 2, "257 * 7 = 299 (mod 300)"


# State


def test_state_round_trip_goes_on_the_same():
    def driven(seed):
        dual = joint(n=3, trials=2, seed=seed, batch_agent_tasks=True, batch_size=2)
        for i in range(9):
            task = dual.sample()[0]
            score(dual, (*task, (i * 7 % 5) / 5))
        return dual

    original, restored = driven(1), driven(2)
    restored.load_state_dict(original.state_dict())
    for i in range(12):
        ours, theirs = original.sample(), restored.sample()
        assert ours == theirs
        for dual in (original, restored):
            score(dual, (*ours[0], (i * 3 % 7) / 7))
            dual.agent_curriculum.task_space.add_task() if i == 5 else None
    assert original.metrics() == restored.metrics()


def test_every_opponents_draws_are_its_own_and_follow_from_the_seed():
    space = BoxTaskSpace(0, 1, (2,))

    def make(rng):
        return DomainRandomization(space, seed=rng)

    def tasks(seed):
        return [
            task.env.tolist()
            for task in joint(n=4, make=make, seed=seed, trials=1, regret=lambda c: 0.0).sample(4)
        ]

    assert tasks(3) == tasks(3)
    assert tasks(3) != tasks(4)
    assert len({tuple(level) for level in tasks(3)}) == 4


def test_a_damaged_state_changes_nothing():
    dual = joint(n=3, trials=1)
    task = dual.sample()[0]
    score(dual, (*task, 0.5))
    inner = dual.env_curriculum
    state, before = inner.state_dict(), repr(inner.state_dict())
    choice = state["choice"]
    for damage in (
        {"levels": 3},
        {"levels": [[7, state["levels"][0][1]]]},
        {"levels": [[0, {}]]},
        {"levels": [0]},
        {"entropy": -1},
        {"choice": {**choice, "tasks": [0, 1, 9]}},
        {"choice": {**choice, "queue": [5]}},
        {"choice": {**choice, "left": [1]}},
        {"choice": {**choice, "gone": ["x"]}},
        {"rng": {}},
    ):
        with pytest.raises(StateError):
            inner.load_state_dict({**state, **damage})
        assert repr(inner.state_dict()) == before


# Wrong arguments


def test_wrong_arguments_are_refused():
    opponents = DomainRandomization(DiscreteTaskSpace(3))
    rng = np.random.default_rng(0)
    for make, options, message in (
        (levels(rng), {}, "lambda rng: PrioritizedLevelReplay"),
        (3, {}, "makes a curriculum from a generator"),
        (lambda rng: 3, {}, "it made 3"),
        (lambda rng: DomainRandomization(DiscreteTaskSpace(2)), {}, "no level scores"),
        (levels, {"uniform_prob": 1.5}, "probability"),
        (levels, {"trials": -1}, "0 or more"),
        (levels, {"top_k": 0}, "top_k"),
    ):
        with pytest.raises(UsageError, match=message):
            Dual(make, opponents, joint=True, **options)


def test_opponents_with_other_levels_are_refused():
    sizes = iter([3, 4])
    dual = joint(make=lambda rng: levels(rng, next(sizes)))
    with pytest.raises(UsageError, match="the same levels"):
        dual.sample()


def test_a_curriculum_may_know_its_highest_scores_itself():
    class Knows(TraceCurriculum):
        def top_scores(self, k):
            return [3.0, 2.0, 1.0][:k]

    assert HighestScores(2)(Knows()) == 2.5

"""Curricula over opponents: whom they choose, and what they learn from an episode's returns."""

import time

import numpy as np
import pytest

from macurr.curricula import (
    DeltaUniformSelfPlay,
    FictitiousSelfPlay,
    PolicySpaceResponseOracles,
    PrioritizedFictitiousSelfPlay,
    QualitySelfPlay,
    SelfPlay,
)
from macurr.errors import PoolError, SolverError, StateError, TaskError, UsageError
from macurr.messages import EnvSpec
from macurr.opponents import AgentPool
from macurr.testing import CurriculumTests

DUEL = EnvSpec(("a", "b"), ("a",))
SWAPPED = EnvSpec(("a", "b"), ("b",))
TEAMS = EnvSpec(("red_0", "red_1", "blue_0", "blue_1"), ("red_0", "red_1"))
ALONE = EnvSpec(("agent_0",), ("agent_0",), single_agent=True)
TOGETHER = EnvSpec(("a", "b"), ("a", "b"))
FAMILY = [
    SelfPlay,
    FictitiousSelfPlay,
    DeltaUniformSelfPlay,
    PrioritizedFictitiousSelfPlay,
    QualitySelfPlay,
    PolicySpaceResponseOracles,
]


def filled(path, n):
    pool = AgentPool(path)
    for _ in range(n):
        pool.add({"w": np.zeros(2)})
    return pool


@pytest.fixture
def pool(tmp_path):
    return filled(tmp_path / "pool", 4)


def play(curriculum, opponent, outcome, times=1):
    for _ in range(times):
        curriculum.update_on_episode({"a": outcome, "b": -outcome}, 5, opponent, {}, env_id=0)


def duelling(curriculum):
    curriculum.register_env(0, DUEL)
    return curriculum


# --- conformance ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared_path(tmp_path_factory):
    return filled(tmp_path_factory.mktemp("pool"), 4).path


class FamilyTests(CurriculumTests):
    """What all of them promise; none of these tests changes the pool."""

    draws = 300

    @pytest.fixture(autouse=True)
    def _path(self, shared_path):
        self.path = shared_path

    def build(self, kind, seed, **options):
        return kind(AgentPool(self.path), seed=seed, **options)

    def spec(self, curriculum):
        return EnvSpec(("agent_0", "agent_1"), ("agent_0",))

    def bad_demands(self, curriculum):
        for row in (
            ("learner", 0, float("nan")),
            ("learner", 99, 1),
            (0, 0, 1),
            ("other", 0, 1),
            ("learner", 0),
            7,
        ):
            yield {"results": [("learner", 1, 1), row]}


class TestSelfPlay(FamilyTests):
    def make(self, seed):
        return self.build(SelfPlay, seed)


class TestFictitious(FamilyTests):
    def make(self, seed):
        return self.build(FictitiousSelfPlay, seed, record_stats=True, random_start_tasks=5)


class TestDeltaUniform(FamilyTests):
    def make(self, seed):
        return self.build(DeltaUniformSelfPlay, seed)


class TestPrioritized(FamilyTests):
    def make(self, seed):
        return self.build(PrioritizedFictitiousSelfPlay, seed, window=5)


class TestPrioritizedByVariance(FamilyTests):
    def make(self, seed):
        return self.build(PrioritizedFictitiousSelfPlay, seed, weighting="variance", exploration=0.1)


class TestQuality(FamilyTests):
    def make(self, seed):
        return self.build(QualitySelfPlay, seed, learning_rate=0.5)


class TestOracles(FamilyTests):
    def make(self, seed):
        return self.build(PolicySpaceResponseOracles, seed, exploration=0.2)

    def drive(self, curriculum, n, rng):
        super().drive(curriculum, n, rng)
        results = [(i, (i + 1) % 4, int(rng.integers(-1, 2))) for i in range(4)]
        curriculum.update_on_demand({"results": results, "somebody else's": 3})


# --- whom they choose ----------------------------------------------------------------------------------------


def test_self_play_meets_the_newest_as_the_pool_grows(pool):
    curriculum = SelfPlay(pool, seed=0)
    np.testing.assert_array_equal(curriculum.distribution(), [0, 0, 0, 1])
    assert curriculum.sample(3) == [3, 3, 3]
    AgentPool(pool.path).add({"w": np.zeros(2)})
    time.sleep(0.005)  # a look at the folder holds for a millisecond
    assert curriculum.sample(2) == [4, 4]
    pool.remove(4)
    assert curriculum.sample() == [3]


def test_fictitious_self_play_is_uniform(pool):
    curriculum = FictitiousSelfPlay(pool, seed=0)
    pool.remove(1)
    np.testing.assert_allclose(curriculum.distribution(), [1 / 3] * 3)
    assert list(curriculum.task_space.tasks) == [0, 2, 3]
    counts = np.bincount(curriculum.sample(3000), minlength=4)
    assert counts[1] == 0
    assert abs(counts[[0, 2, 3]] - 1000).max() < 120


@pytest.mark.parametrize(
    ("delta", "wanted"),
    [(0.0, [0.25] * 4), (0.1, [0, 1 / 3, 1 / 3, 1 / 3]), (0.5, [0, 0, 0.5, 0.5]), (1.0, [0, 0, 0, 1])],
)
def test_delta_uniform_takes_the_newest_part(pool, delta, wanted):
    # Of snapshots 0 to 3, those from 3 * delta on.
    np.testing.assert_allclose(DeltaUniformSelfPlay(pool, delta=delta).distribution(), wanted)


@pytest.mark.parametrize(
    ("weighting", "wanted"),
    [
        # Win rates 1, 0, 1/2 (a win and a loss, undecayed) and 1/2 (never met)
        ("hard", np.array([0, 1, 0.25, 0.25]) / 1.5),
        ("linear", np.array([0, 1, 0.5, 0.5]) / 2),
        ("variance", np.array([0, 0, 0.5, 0.5])),
        ("easy", np.array([1, 0, 0.25, 0.25]) / 1.5),
        (lambda x: 1 + 0 * x, np.full(4, 0.25)),
    ],
)
def test_prioritized_weights_follow_the_results(pool, weighting, wanted):
    curriculum = duelling(PrioritizedFictitiousSelfPlay(pool, weighting=weighting, decay=1.0))
    np.testing.assert_allclose(curriculum.win_rates([0, 1, 2, 3]), [0.5] * 4)
    play(curriculum, 0, +1, times=3)
    play(curriculum, 1, -1, times=3)
    play(curriculum, 2, +1)
    play(curriculum, 2, -1)
    np.testing.assert_allclose(curriculum.distribution(), wanted)


class _ByArrays(PrioritizedFictitiousSelfPlay):
    """A subclass draws by its probabilities, which might be its own."""


@pytest.mark.parametrize("snapshots", [1, 3, 20, 70])
@pytest.mark.parametrize("weighting", ["hard", "variance", "linear_capped"])
def test_prioritized_draws_are_those_of_the_probabilities(tmp_path, snapshots, weighting):
    pool = filled(tmp_path / "pool", snapshots)
    plain, arrays = (
        duelling(kind(pool, weighting=weighting, exploration=0.1, seed=5))
        for kind in (PrioritizedFictitiousSelfPlay, _ByArrays)
    )
    outcomes = np.random.default_rng(0).integers(-1, 2, 200).tolist()
    for turn, outcome in enumerate(outcomes):
        drawn = plain.sample(1 + turn % 3)
        assert drawn == arrays.sample(1 + turn % 3)
        for curriculum in (plain, arrays):
            play(curriculum, drawn[0], float(outcome))
    assert plain.state_dict()["rng"] == arrays.state_dict()["rng"]
    assert plain.rng.random() == arrays.rng.random()


def test_exploration_keeps_the_beaten_in_play(pool):
    curriculum = duelling(PrioritizedFictitiousSelfPlay(pool, exploration=0.4))
    play(curriculum, 0, +1)
    np.testing.assert_allclose(curriculum.distribution(), [0.1, 0.3, 0.3, 0.3])


def test_a_new_snapshot_counts_as_even(pool):
    curriculum = duelling(PrioritizedFictitiousSelfPlay(pool, decay=1.0))
    for opponent in range(4):
        play(curriculum, opponent, +1)
    np.testing.assert_allclose(curriculum.distribution(), [0.25] * 4)  # all weights vanish
    pool.add({"w": np.zeros(2)})
    np.testing.assert_allclose(curriculum.distribution(), [0, 0, 0, 0, 1])


# --- quality scores ------------------------------------------------------------------------------------------


def test_quality_scores_by_hand(pool):
    curriculum = duelling(QualitySelfPlay(pool, learning_rate=0.3))
    np.testing.assert_allclose(curriculum.distribution(), [0.2 / 3, 0.2 / 3, 0.2 / 3, 0.8])
    play(curriculum, 1, -1)
    play(curriculum, 1, 0)
    play(curriculum, 3, +1)  # the newest is no past opponent
    np.testing.assert_array_equal(curriculum.qualities([0, 1, 2, 3]), [0, 0, 0, 0])
    play(curriculum, 1, +1)  # p = 1/3: 0.3 / (3 / 3)
    np.testing.assert_allclose(curriculum.qualities([0, 1, 2, 3]), [0, -0.3, 0, 0])
    play(curriculum, 1, +1)
    p = np.exp(-0.3) / (2 + np.exp(-0.3))
    np.testing.assert_allclose(curriculum.qualities([1]), [-0.3 - 0.3 / (3 * p)])
    weights = np.exp(curriculum.qualities([0, 1, 2]))
    np.testing.assert_allclose(curriculum.distribution(), [*(0.2 * weights / weights.sum()), 0.8])


def test_a_new_snapshot_has_the_highest_quality(pool):
    curriculum = duelling(QualitySelfPlay(pool, learning_rate=1.0))
    for opponent in (0, 1, 2):
        play(curriculum, opponent, +1, times=opponent + 1)
    before = curriculum.qualities([0, 1, 2])
    assert before.max() < 0 == curriculum.qualities([3])
    pool.remove(3)
    pool.add({"w": np.zeros(2)})
    assert curriculum.qualities(pool.ids)[-1] == before.max()


def test_a_lucky_win_does_not_throw_a_quality_away(tmp_path):
    curriculum = duelling(QualitySelfPlay(filled(tmp_path, 3), learning_rate=0.01, floor=1e-3))
    curriculum.load_state_dict(
        {**curriculum.state_dict(), "ids": np.arange(3), "qualities": np.array([-100.0, 0, 0])}
    )
    play(curriculum, 0, +1)
    # p is e^-100; the step is that of p = 0.001: 0.01 / (2 * 0.001)
    np.testing.assert_allclose(curriculum.qualities([0]), [-105.0])


def test_one_snapshot_is_all_there_is(tmp_path):
    for kind in FAMILY:
        curriculum = kind(filled(tmp_path / kind.__name__, 1), seed=0)
        assert curriculum.sample(5) == [0] * 5
        np.testing.assert_array_equal(curriculum.distribution(), [1.0])


# --- policy-space response oracles ---------------------------------------------------------------------------

RPS_RESULTS = [(1, 0, 1), (2, 1, 1), (0, 2, 1)]  # paper beats rock beats scissors beats paper


@pytest.mark.parametrize(
    "solver",
    ["nash", "nash_averaging", "projected_replicator_dynamics", "regret_matching", "alpha_rank", "uniform"],
)
def test_every_meta_solver_mixes_rock_paper_and_scissors(tmp_path, solver):
    curriculum = PolicySpaceResponseOracles(filled(tmp_path, 3), meta_solver=solver)
    curriculum.update_on_demand({"results": RPS_RESULTS})
    np.testing.assert_allclose(curriculum.distribution(), [1 / 3] * 3, atol=1e-6)


def test_oracles_mix_what_the_results_say(pool):
    curriculum = PolicySpaceResponseOracles(pool)
    curriculum.update_on_demand({"results": [*RPS_RESULTS, (0, 3, 1), (1, 3, 1), (2, 3, 1)]})
    np.testing.assert_allclose(curriculum.distribution(), [1 / 3, 1 / 3, 1 / 3, 0], atol=1e-9)
    curriculum.update_on_demand({"results": [(3, opponent, 1) for opponent in (0, 1, 2) for _ in range(5)]})
    np.testing.assert_allclose(curriculum.distribution(), [0, 0, 0, 1], atol=1e-9)


def test_a_new_snapshot_inherits_the_learners_results(tmp_path):
    pool = filled(tmp_path, 2)
    curriculum = duelling(PolicySpaceResponseOracles(pool, decay=1.0))
    assert curriculum.sample()  # the first two are known from now on, and have nothing to inherit
    play(curriculum, 0, +1, times=3)
    play(curriculum, 1, -1, times=3)
    np.testing.assert_array_equal(curriculum.matrix([0, 1]), np.zeros((2, 2)))
    pool.add({"w": np.zeros(2)})
    play(curriculum, 2, -1)  # the learner's first game against it is not inherited by it
    np.testing.assert_array_equal(curriculum.matrix([0, 1, 2]), [[0, 0, -0.5], [0, 0, 0.5], [0.5, -0.5, 0]])
    # The second beats the third beats the first; the first two are even: 1 plays the best reply to everything.
    np.testing.assert_allclose(curriculum.distribution(), [0, 1, 0], atol=1e-9)


def test_what_is_inherited_is_as_of_the_snapshot(tmp_path):
    pool = filled(tmp_path, 1)
    curriculum = duelling(PolicySpaceResponseOracles(pool, decay=1.0, window=10))
    curriculum.sample()
    play(curriculum, 0, -1)
    pool.add({"w": np.zeros(2)})
    play(curriculum, 0, +1, times=5)
    assert curriculum.payoffs.counts(1, 0) == (0, 0, 1)
    assert curriculum.payoffs.counts("learner", 0) == (5, 0, 1)


def test_exact_payoffs_take_the_place_of_results(tmp_path):
    truth = np.array([[0.0, -1, 2, 5], [1, 0, -1, 5], [-2, 1, 0, 5], [-5, -5, -5, 0]])
    asked = []

    def exact(ids):
        asked.append(list(ids))
        return truth[np.ix_(ids, ids)]

    pool = filled(tmp_path, 3)
    curriculum = duelling(PolicySpaceResponseOracles(pool, payoff_matrix=exact))
    np.testing.assert_allclose(curriculum.distribution(), [0.25, 0.5, 0.25], atol=1e-9)
    curriculum.sample(10)
    play(curriculum, 0, +1)
    curriculum.sample(10)
    pool.add({"w": np.zeros(2)})
    np.testing.assert_allclose(curriculum.distribution(), [0.25, 0.5, 0.25, 0], atol=1e-9)
    assert asked == [[0, 1, 2], [0, 1, 2, 3]]  # solved once for each pool, not for each episode
    curriculum.update_on_demand({})
    curriculum.sample()
    assert len(asked) == 3


@pytest.mark.parametrize("answer", [[1.0], [0.5] * 4, [1.0, -1, 1, 0], [float("nan")] * 4])
def test_what_a_meta_solver_returns_is_checked(pool, answer):
    curriculum = PolicySpaceResponseOracles(pool, meta_solver=lambda matrix: answer)
    with pytest.raises(SolverError, match="one probability for each"):
        curriculum.sample()


def test_a_payoff_matrix_with_nan_is_refused(pool):
    curriculum = PolicySpaceResponseOracles(pool, payoff_matrix=lambda ids: np.full((4, 4), np.nan))
    with pytest.raises(SolverError, match="nan"):
        curriculum.sample()


# --- what episodes mean --------------------------------------------------------------------------------------


def record(curriculum, spec, returns, env_id=0, opponent=0):
    curriculum.register_env(env_id, spec)
    curriculum.update_on_episode(returns, 5, opponent, {}, env_id=env_id)
    return tuple(curriculum.payoffs.counts("learner", opponent))


@pytest.mark.parametrize(
    ("spec", "returns", "counts"),
    [
        (DUEL, {"a": 2.0, "b": 1.0}, (1, 0, 0)),
        (SWAPPED, {"a": 2.0, "b": 1.0}, (0, 0, 1)),
        (DUEL, {"a": 1.5, "b": 1.5}, (0, 1, 0)),
        (TEAMS, {"red_0": 3.0, "red_1": 0.0, "blue_0": 1.0, "blue_1": 1.0}, (1, 0, 0)),
        (TEAMS, {"red_0": 0.0, "blue_0": -1.0, "blue_1": 1.0}, (0, 1, 0)),
        (DUEL, {"a": -1.0}, (0, 0, 1)),  # the other never acted: nothing gained, nothing lost
        (ALONE, 0.5, (1, 0, 0)),
        (ALONE, -0.5, (0, 0, 1)),
        (TOGETHER, {"a": 1.0, "b": -1.0}, (0, 0, 0)),
    ],
)
def test_the_learners_mean_return_decides(pool, spec, returns, counts):
    assert record(SelfPlay(pool), spec, returns) == counts


def test_environments_that_are_not_known_decide_nothing(pool):
    curriculum = SelfPlay(pool)
    curriculum.update_on_episode({"a": 1.0, "b": -1.0}, 5, 0, {}, env_id=4)
    curriculum.update_on_episode({"a": 1.0, "b": -1.0}, 5, 0, {})
    curriculum.register_env(4, DUEL)
    curriculum.unregister_env(4)
    with pytest.raises(UsageError, match="not registered"):
        curriculum.update_on_episode({"a": 1.0, "b": -1.0}, 5, 0, {}, env_id=4)
    assert curriculum.payoffs.keys == []


def test_users_set_the_outcome(pool):
    seen = []

    def outcome(returns, learners):
        seen.append((dict(returns), learners))
        return None if returns["a"] > 10 else -returns["a"]

    curriculum = SelfPlay(pool, outcome=outcome)
    assert record(curriculum, DUEL, {"a": 2.0, "b": 1.0}) == (0, 0, 1)
    assert record(curriculum, DUEL, {"a": 20.0, "b": 1.0}) == (0, 0, 1)
    assert seen[0] == ({"a": 2.0, "b": 1.0}, ("a",))
    strange = SelfPlay(pool, outcome=lambda returns, learners: float("nan"), record_stats=True)
    with pytest.raises(TaskError, match="outcome function"):
        record(strange, DUEL, {"a": 2.0, "b": 1.0})
    assert strange.payoffs.keys == []
    assert strange.stats.overall.count == 0


def test_results_against_a_snapshot_that_has_left_are_let_go(pool):
    curriculum = duelling(PrioritizedFictitiousSelfPlay(pool, record_stats=True))
    pool.remove(2)
    play(curriculum, 2, +1)
    assert curriculum.payoffs.keys == []
    assert curriculum.stats.overall.count == 1
    curriculum.update_on_abort(2, env_id=0)
    with pytest.raises(TaskError):
        play(curriculum, 99, +1)


def test_statistics_are_kept_by_id_not_by_position(pool):
    curriculum = duelling(SelfPlay(pool, record_stats=True))
    play(curriculum, 1, +1)
    pool.remove(0)
    assert curriculum.stats.task(1).count == 1
    assert curriculum.stats.task(2).count == 0


def test_results_of_the_departed_do_not_pile_up(tmp_path):
    pool = AgentPool(tmp_path, capacity=3)
    curriculum = duelling(SelfPlay(pool))
    for _ in range(100):
        snapshot = pool.add({"w": np.zeros(2)})
        play(curriculum, snapshot, +1)
    assert len(curriculum.payoffs.keys) <= 2 * 3 + 17
    np.testing.assert_array_equal(curriculum.win_rates(pool.ids), [1, 1, 1])


def test_results_by_demand_are_all_checked_first(pool):
    curriculum = SelfPlay(pool)
    with pytest.raises(TaskError, match="is no result"):
        curriculum.update_on_demand({"results": [("learner", 0, 1), ("learner", 1, float("nan"))]})
    assert curriculum.payoffs.keys == []
    curriculum.update_on_demand({"results": [("learner", 0, 1), (1, "learner", 1), (np.int64(0), 1, 0)]})
    np.testing.assert_array_equal(curriculum.win_rates([0, 1]), [1, 0])
    assert curriculum.payoffs.counts(0, 1) == (0, 1, 0)


@pytest.mark.parametrize("results", [None, 3, "abc", {"learner": 1}])
def test_results_are_rows(pool, results):
    with pytest.raises(TaskError, match="rows of"):
        SelfPlay(pool).update_on_demand({"results": results})


def test_metrics(pool):
    curriculum = duelling(FictitiousSelfPlay(pool, decay=1.0))
    play(curriculum, 0, +1)
    play(curriculum, 3, -1)
    assert curriculum.metrics() == pytest.approx(
        {
            "entropy": np.log(4),
            "pool_size": 4,
            "opponents_met": 2,
            "win_rate_mean": 0.5,
            "win_rate_min": 0.0,
            "win_rate_latest": 0.0,
        }
    )


# --- state ---------------------------------------------------------------------------------------------------


def test_a_state_holds_no_weights(tmp_path):
    pool = AgentPool(tmp_path)
    pool.add({"w": np.zeros(100_000)})
    for kind in FAMILY:
        state = duelling(kind(pool)).state_dict()
        arrays = [
            value for value in [*state.values(), *state["payoffs"].values()] if isinstance(value, np.ndarray)
        ]
        assert sum(array.nbytes for array in arrays) < 1000


@pytest.mark.parametrize("key", ["somebody", ["red", 3]])
def test_payoffs_of_strangers_are_refused(pool, key):
    curriculum = duelling(SelfPlay(pool))
    play(curriculum, 0, +1)
    state = curriculum.state_dict()
    state["payoffs"]["keys"] = ["learner", key]
    with pytest.raises(StateError, match="neither the learner nor snapshots"):
        curriculum.load_state_dict(state)


# --- what is refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FAMILY)
def test_an_empty_pool_names_the_cure(tmp_path, kind):
    curriculum = kind(AgentPool(tmp_path), seed=0, random_start_tasks=3)
    with pytest.raises(UsageError, match=r"is empty\. Add a snapshot before .* pool\.add"):
        curriculum.sample()
    assert curriculum.distribution().shape == (0,)
    assert curriculum.metrics()["pool_size"] == 0
    curriculum.pool.add({"w": np.zeros(2)})
    assert curriculum.sample(2) == [0, 0]


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        (DeltaUniformSelfPlay, {"delta": 1.5}, "delta"),
        (PrioritizedFictitiousSelfPlay, {"weighting": "hardest"}, "linear_capped"),
        (PrioritizedFictitiousSelfPlay, {"power": -1}, "power"),
        (PrioritizedFictitiousSelfPlay, {"exploration": 2}, "exploration"),
        (PrioritizedFictitiousSelfPlay, {"decay": 0}, "decay"),
        (QualitySelfPlay, {"latest_prob": -0.1}, "latest_prob"),
        (QualitySelfPlay, {"learning_rate": -1}, "learning_rate"),
        (QualitySelfPlay, {"floor": 0}, "floor"),
        (PolicySpaceResponseOracles, {"meta_solver": "simplex"}, "alpha_rank"),
        (PolicySpaceResponseOracles, {"exploration": float("nan")}, "exploration"),
    ],
)
def test_options_out_of_range_are_refused(pool, kind, options, said):
    with pytest.raises(UsageError, match=said):
        kind(pool, **options)


def test_what_is_no_pool_is_refused(tmp_path):
    with pytest.raises(UsageError, match="needs an AgentPool"):
        SelfPlay(str(tmp_path))


def test_a_pool_that_vanished_is_named(tmp_path):
    import shutil

    curriculum = SelfPlay(filled(tmp_path / "pool", 2))
    shutil.rmtree(tmp_path / "pool")
    with pytest.raises(PoolError, match="cannot be read"):
        curriculum.sample()

"""Options of level replay that change while it runs: afterwards it is what it would have been, built so."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from macurr import BoxTaskSpace, DiscreteTaskSpace, EnvSpec, UsageError, make_local_curriculum
from macurr.curricula import DomainRandomization, PrioritizedFictitiousSelfPlay, SelfPlay
from macurr.curricula.plr import ACCEL, PrioritizedLevelReplay
from macurr.curricula.plr.transforms import SCORE_TRANSFORMS, STALENESS_TRANSFORMS, transform
from macurr.errors import StateError
from macurr.opponents import AgentPool
from macurr.testing.nested import same
from macurr.wrappers import DualCurriculumWrapper, MultiagentIndependentCurriculumWrapper

N = 9


def plr(**options):
    return PrioritizedLevelReplay(DiscreteTaskSpace(N), **{"rho": 0.0, "seed": 0, **options})


def scored(curriculum, rng, n=25):
    for _ in range(n):
        task = curriculum.sample()[0]
        curriculum.update_scores([task], [float(rng.uniform(0.05, 0.95))])
    return curriculum


CHANGES = {
    "temperature": 0.4,
    "staleness_coef": 0.35,
    "staleness_temperature": 2.0,
    "replay_prob": 0.8,
    "eps": 0.3,
    "max_score_coef": 0.5,
    "rho": 0.1,
}


@pytest.mark.parametrize("staleness", STALENESS_TRANSFORMS)
@pytest.mark.parametrize("score", SCORE_TRANSFORMS)
def test_changed_replay_is_the_replay_built_so(score, staleness):
    kinds = {"score_transform": score, "staleness_transform": staleness, "replay_schedule": "fixed"}
    changed = scored(plr(**kinds), np.random.default_rng(1))
    changed.set_options(**CHANGES)
    built = scored(plr(**kinds), np.random.default_rng(1))
    state = built.state_dict()
    fresh = PrioritizedLevelReplay(DiscreteTaskSpace(N), seed=5, **{"rho": 0.0, **kinds, **CHANGES})
    # What was learned before the change is loaded into one that never knew other options. The scale is that of the
    # changed one: it is no option, and follows from the order of events.
    state["levels"]["replay"]["score_scale"] = changed.state_dict()["levels"]["replay"]["score_scale"]
    state["levels"]["replay"]["staleness_scale"] = changed.state_dict()["levels"]["replay"]["staleness_scale"]
    fresh.load_state_dict(state)
    assert changed.distribution().tolist() == fresh.distribution().tolist()
    assert changed.sample(40) == fresh.sample(40)
    for one in (changed, fresh):
        scored(one, np.random.default_rng(2))
    assert changed.distribution().tolist() == fresh.distribution().tolist()


@pytest.mark.parametrize("name", ["rank", "power", "softmax", "match", "match_rank"])
@given(temperature=st.floats(0.05, 10.0), coefficient=st.floats(0.0, 1.0))
@settings(max_examples=20, deadline=None)
def test_changed_distribution_follows_the_formula(name, temperature, coefficient):
    curriculum = plr(score_transform=name, replay_schedule="fixed", temperature=1.7, staleness_coef=0.0)
    scores = np.random.default_rng(3).uniform(0.05, 0.95, N)
    curriculum.update_scores(range(N), scores)
    curriculum.sample(7)
    curriculum.set_options(temperature=temperature, staleness_coef=coefficient)
    ages = curriculum._levels.replay.ages
    offset = 0.0 if coefficient > 0.0 else 1e-3
    wanted = (1 - coefficient) * transform(scores, name, temperature=temperature, offset=offset)
    wanted += coefficient * transform(ages, "power", temperature=1.0)
    np.testing.assert_allclose(curriculum.distribution(), wanted, rtol=1e-9, atol=1e-12)


def test_rank_weights_by_hand_before_and_after():
    curriculum = plr(temperature=1.0, staleness_coef=0.0)
    curriculum.update_scores(range(N), np.arange(N))
    assert curriculum.distribution()[-2] / curriculum.distribution()[-1] == pytest.approx(1 / 2)
    curriculum.set_options(temperature=0.5)
    assert curriculum.distribution()[-2] / curriculum.distribution()[-1] == pytest.approx(1 / 4)
    assert curriculum.distribution()[-3] / curriculum.distribution()[-1] == pytest.approx(1 / 9)


def test_draws_meet_the_changed_distribution():
    curriculum = scored(plr(temperature=5.0, replay_schedule="fixed"), np.random.default_rng(4), 60)
    curriculum.set_options(temperature=0.3, staleness_coef=0.0, replay_prob=0.9)
    wanted = curriculum.distribution()
    drawn = np.bincount(curriculum.sample(20_000), minlength=N) / 20_000
    assert np.abs(drawn - wanted).max() < 5 * np.sqrt(0.25 / 20_000)


def test_weight_of_new_scores_and_of_their_maximum():
    curriculum = plr(alpha=1.0)
    curriculum.update_scores([0], [0.8])
    curriculum.set_options(alpha=0.25, max_score_coef=0.5)
    curriculum.update_scores([0], [0.2], [0.6])
    assert curriculum.scores[0] == pytest.approx(0.75 * 0.8 + 0.25 * (0.5 * 0.2 + 0.5 * 0.6))


def test_share_of_replays():
    curriculum = plr(replay_schedule="fixed", replay_prob=0.25)
    curriculum.update_scores([0], [0.5])
    assert curriculum.metrics()["replay_probability"] == 0.25
    curriculum.set_options(replay_prob=0.75)
    assert curriculum.metrics()["replay_probability"] == 0.75
    curriculum.set_options(rho=0.5)
    assert curriculum.metrics()["replay_probability"] == 0.0


def test_buffer_keeps_its_levels():
    curriculum = PrioritizedLevelReplay(BoxTaskSpace([0, 0], [1, 1]), buffer_size=4, rho=0.0, seed=0)
    scored(curriculum, np.random.default_rng(5))
    tasks = [curriculum._levels.task(slot).tolist() for slot in range(4)]
    scores = curriculum.scores.tolist()
    curriculum.set_options(temperature=3.0, replay_prob=0.9)
    assert [curriculum._levels.task(slot).tolist() for slot in range(4)] == tasks
    assert curriculum.scores.tolist() == scores
    assert curriculum.metrics()["replay_probability"] == 0.9
    assert curriculum.tunable_options()["replay_prob"] == (0.05, 0.95)


def test_only_what_has_an_effect_is_tuned():
    assert set(plr().tunable_options()) == {"temperature", "staleness_coef"}
    assert set(plr(replay_schedule="fixed").tunable_options()) == {
        "temperature",
        "staleness_coef",
        "replay_prob",
    }
    assert plr(strategy="random").tunable_options() == {}
    assert DomainRandomization(DiscreteTaskSpace(3)).tunable_options() == {}


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": 0.0},
        {"temperature": float("nan")},
        {"staleness_coef": 1.5},
        {"alpha": 0.0},
        {"replay_prob": "often"},
        {"strategy": "max_mc"},
        {"buffer_size": 3},
    ],
)
def test_wrong_values_change_nothing(wrong):
    curriculum = scored(plr(), np.random.default_rng(6))
    before = curriculum.state_dict()
    with pytest.raises(UsageError, match=next(iter(wrong))):
        curriculum.set_options(eps=0.5, **wrong)
    with pytest.raises(UsageError, match=next(iter(wrong))):
        curriculum.update_on_demand({"options": wrong, "tasks": [0], "scores": [1.0]})
    assert same(before, curriculum.state_dict())


def test_refused_scores_keep_the_options():
    curriculum = plr()
    with pytest.raises(ValueError, match="finite"):
        curriculum.update_on_demand({"options": {"eps": 0.5}, "tasks": [0], "scores": [float("nan")]})
    assert curriculum.get_options()["eps"] == 0.05
    curriculum.update_on_demand({"options": {"eps": 0.5}, "tasks": [0], "scores": [0.25]})
    assert curriculum.get_options()["eps"] == 0.5
    assert curriculum.scores[0] == 0.25


def test_changed_back_is_a_change_that_a_state_keeps():
    curriculum = plr(temperature=0.1)
    curriculum.set_options(temperature=np.float64(0.5))
    curriculum.set_options(temperature=0.1)
    state = curriculum.state_dict()
    assert state["options"] == {"temperature": 0.1}
    other = plr(temperature=0.7)
    other.load_state_dict(state)
    assert other.get_options()["temperature"] == 0.1
    # What was never changed in the middle of a run stays as the constructor says: it may be changed on purpose.
    untouched = plr(temperature=0.7)
    untouched.load_state_dict(plr(temperature=0.1).state_dict())
    assert untouched.get_options()["temperature"] == 0.7


@pytest.mark.parametrize("options", [3, {"temperature": -1.0}, {"strategy": "max_mc"}, {"temperature": None}])
def test_damaged_options_are_refused(options):
    curriculum = plr()
    before = curriculum.state_dict()
    with pytest.raises(StateError, match="options"):
        curriculum.load_state_dict({**before, "options": options})
    assert same(before, curriculum.state_dict())


class TestParts:
    def test_dual_names_its_parts(self, tmp_path):
        pool = AgentPool(tmp_path / "pool")
        pool.add({"w": np.zeros(1)})
        levels = plr(temperature=1.0)
        dual = DualCurriculumWrapper(levels, PrioritizedFictitiousSelfPlay(pool, exploration=0.1, seed=0))
        assert dual.get_options()["env/temperature"] == 1.0
        assert dual.get_options()["agent/exploration"] == 0.1
        assert set(dual.tunable_options()) == {"env/temperature", "env/staleness_coef"}
        with make_local_curriculum(dual) as synced:
            synced.set_options(**{"env/temperature": 0.5, "agent/exploration": 0.2})
            synced.update_on_demand({"options": {"env/eps": 0.2}})
            synced.update_on_demand({"env": {"options": {"alpha": 0.5}}})
            assert levels.options.temperature == 0.5
            assert (levels.options.eps, levels.options.alpha) == (0.2, 0.5)
            assert dual.agent_curriculum.exploration == 0.2

    def test_all_parts_change_or_none(self, tmp_path):
        pool = AgentPool(tmp_path / "pool")
        pool.add({"w": np.zeros(1)})
        dual = DualCurriculumWrapper(plr(), PrioritizedFictitiousSelfPlay(pool, exploration=0.1))
        before = dual.state_dict()
        for wrong in ({"agent/exploration": 2.0}, {"agent/power": 0.0}, {"nobody/x": 1.0}):
            with pytest.raises(UsageError):
                dual.set_options(**{"env/temperature": 0.5, **wrong})
            assert same(before, dual.state_dict())
        with pytest.raises(UsageError, match="no options"):
            DualCurriculumWrapper(plr(), SelfPlay(pool)).set_options(**{"agent/power": 1.0})

    def test_every_agent_has_its_own(self):
        both = MultiagentIndependentCurriculumWrapper({"a": plr(), "b": plr()})
        both.update_on_demand({"options": {"a/temperature": 0.5}, "b": {"options": {"temperature": 0.25}}})
        found = both.get_options()
        assert (found["a/temperature"], found["b/temperature"]) == (0.5, 0.25)
        both.register_env(0, EnvSpec(("a", "b"), ("a", "b")))

    def test_opponents_to_come_follow_too(self):
        opponents = DomainRandomization(DiscreteTaskSpace(3), seed=0)
        made = []

        def levels(rng):
            made.append(plr(seed=rng, replay_schedule="fixed"))
            return made[-1]

        dual = DualCurriculumWrapper(levels, opponents, joint=True, trials=1, uniform_prob=1.0, seed=0)
        dual.sample(1)
        met = len(made)
        dual.set_options(**{"env/temperature": 0.5})
        dual.sample(20)
        assert len(made) > met
        assert {one.options.temperature for one in made} == {0.5}
        state = dual.state_dict()
        again = DualCurriculumWrapper(levels, DomainRandomization(DiscreteTaskSpace(3)), joint=True, trials=1)
        again.load_state_dict(state)
        assert again.get_options()["env/temperature"] == 0.5
        assert {levels.curriculum.options.temperature for levels in again._env._levels.values()} == {0.5}


def test_edited_levels_go_on():
    def moved(task, rng):
        return int((task + rng.integers(1, 3)) % 30)

    curriculum = ACCEL(DiscreteTaskSpace(30), moved, buffer_size=5, num_edits=1, rho=0.0, seed=0)
    scored(curriculum, np.random.default_rng(7))
    curriculum.set_options(temperature=0.5)
    scored(curriculum, np.random.default_rng(8))
    assert curriculum.metrics()["seen_fraction"] == 1.0


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_loaded_into_a_used_one_the_ages_are_drawn_alike(temperature):
    # Candidates by age are kept by a bound that the past has left behind: it belongs to the state.
    original = scored(plr(staleness_temperature=temperature, staleness_coef=0.9), np.random.default_rng(9))
    used = scored(plr(staleness_temperature=temperature, staleness_coef=0.9), np.random.default_rng(10), 99)
    used.load_state_dict(original.state_dict())
    assert used.sample(200) == original.sample(200)

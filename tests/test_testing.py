"""The shipped checks find what they are there to find."""

import random

import numpy as np
import pytest
from mpe2 import simple_tag_v3

from macurr import (
    BacklogError,
    Curriculum,
    DiscreteTaskSpace,
    StateError,
    TaskError,
    UsageError,
    make_local_curriculum,
)
from macurr.curricula import Constant, DomainRandomization
from macurr.curriculum import check_state
from macurr.envs import apple_race_v0
from macurr.testing import CurriculumTests, LevelReport, ProbeEnv, TransportTests, check_level_determinism
from macurr.testing.nested import leaves, not_plain, raises, replaced, same, through_files
from macurr.testing.subjects import deviation
from macurr.transports.local import LocalLink
from tests.support.envs import RandomWalkEnv


def checks(suite):
    return [name for name in dir(suite) if name.startswith("test_")]


def failing(instance):
    """The checks that do not pass, with what they say."""
    found = {}
    for name in checks(instance):
        try:
            getattr(instance, name)()
        except AssertionError as error:
            found[name] = str(error)
        except Exception as error:  # a broken subject may break a check before it gets to its point
            found[name] = repr(error)
    return found


# --- curricula ---------------------------------------------------------------------------------------------


class Weighted(Curriculum):
    """A correct curriculum with everything that is checked: it draws tasks by the rewards paid in their steps."""

    requires_step_updates = True

    def __init__(self, seed):
        super().__init__(DiscreteTaskSpace(5), seed=seed)
        self.sums = np.ones(5)

    def distribution(self):
        return self.sums / self.sums.sum()

    def _sample(self, k):
        return self.rng.choice(5, size=k, p=self.distribution()).tolist()

    def update_on_step(self, task, obs, reward, term, trunc, info, progress, env_id=None):
        self.sums[self.task_space.check(task)] += sum(reward.values())

    def update_on_step_batch(self, batch):
        self.sums[self.task_space.check(batch.task)] += float(batch.rewards.sum())

    def update_on_demand(self, metrics):
        if not np.isfinite(metrics["bonus"]):
            raise TaskError("A bonus must be finite.")
        self.sums[0] += metrics["bonus"]

    def state_dict(self):
        return {**super().state_dict(), "sums": self.sums.copy()}

    def load_state_dict(self, state):
        check_state(state, type(self).__name__, {"sums"})
        sums = state["sums"]
        if not isinstance(sums, np.ndarray) or sums.shape != (5,):
            raise StateError("The sums are an array of five numbers.")
        super().load_state_dict(state)
        self.sums = sums.copy()


class WeightedTests(CurriculumTests):
    kind: type[Curriculum] = Weighted

    def make(self, seed):
        return self.kind(seed)

    def drive(self, curriculum, n, rng):
        super().drive(curriculum, n, rng)
        curriculum.update_on_demand({"bonus": 1.0})

    def bad_demands(self, curriculum):
        return [{"bonus": float("nan")}]


class Outside(Weighted):
    def _sample(self, k):
        return (self.rng.choice(5, size=k) + 1).tolist()


class Few(Weighted):
    def sample(self, k=1):
        return super().sample(max(k - 1, 1))


class TooMuch(Weighted):
    def distribution(self):
        return super().distribution() * 1.001

    def _sample(self, k):
        return self.rng.choice(5, size=k, p=super().distribution()).tolist()


class Tuples(Weighted):
    def sample(self, k=1):
        return tuple(super().sample(k))


class OwnSeed(Weighted):
    def __init__(self, seed):
        super().__init__(None)


class NotWhatItSays(Weighted):
    def distribution(self):
        return np.full(5, 0.2)

    def _sample(self, k):
        return self.rng.choice(5, size=k, p=[0.3, 0.1, 0.2, 0.2, 0.2]).tolist()


class Impossible(Weighted):
    def distribution(self):
        return np.array([0.0, 0.25, 0.25, 0.25, 0.25])

    def _sample(self, k):
        return self.rng.integers(5, size=k).tolist()


class Forgets(Weighted):
    def state_dict(self):
        return {**super().state_dict(), "sums": np.ones(5)}


class ForgetsTheGenerator(Weighted):
    def load_state_dict(self, state):
        before = self.rng.bit_generator.state
        super().load_state_dict(state)
        self.rng.bit_generator.state = before


class Shares(Weighted):
    def state_dict(self):
        return {**super().state_dict(), "sums": self.sums}


class Keeps(Weighted):
    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.sums = state["sums"]


class Objects(Weighted):
    def state_dict(self):
        return {**super().state_dict(), "space": (1, 2)}


class Believes(Weighted):
    def load_state_dict(self, state):
        if isinstance(state, dict) and state.get("type") == "SomethingElse":
            state = {**state, "type": "Believes"}
        super().load_state_dict(state)


class LoadsHalf(Weighted):
    def load_state_dict(self, state):
        self.sums = np.array(state["sums"]) if isinstance(state, dict) and "sums" in state else self.sums
        super().load_state_dict(state)


class Unpicklable(Weighted):
    def __init__(self, seed):
        super().__init__(seed)
        self.secret = lambda: None


class Credulous(Weighted):
    def check_episode(self, episode_return, length, task):
        pass


class CountsFirst(Weighted):
    def update_on_episode(self, *args, **kwargs):
        self.sums[1] += 1
        super().update_on_episode(*args, **kwargs)


class TakesAnyBonus(Weighted):
    def update_on_demand(self, metrics):
        self.sums[0] += np.nan_to_num(metrics["bonus"], nan=0.5)


class CountsBatches(Weighted):
    def update_on_step_batch(self, batch):
        super().update_on_step_batch(batch)
        self.sums[batch.task] += 1


class Writes(Weighted):
    def update_on_episode(self, episode_return, length, task, progress, env_id=None):
        super().update_on_episode(episode_return, length, task, progress, env_id)
        episode_return.clear()


class WritesArrays(Weighted):
    def update_on_step_batch(self, batch):
        batch.rewards *= 0.5
        super().update_on_step_batch(batch)


class StrangeMetrics(Weighted):
    def metrics(self):
        return {"mean": float("nan")}


class IntegerMetrics(Weighted):
    def metrics(self):
        return {"count": 3}


class Global(Weighted):
    def _sample(self, k):
        random.random()
        return super()._sample(k)


class GlobalNumPy(Weighted):
    def _sample(self, k):
        np.random.random()  # noqa: NPY002
        return super()._sample(k)


class Stranger(Weighted):
    def check_env(self, env_id):
        pass


@pytest.mark.parametrize(
    ("kind", "check", "says"),
    [
        (Outside, "samples_lie_in_the_space", "Samples lie in"),
        (Few, "samples_lie_in_the_space", "returns 2 tasks; got 1"),
        (Tuples, "samples_lie_in_the_space", "returns a list; got tuple"),
        (OwnSeed, "same_seed_gives_same_tasks", "The same seed"),
        (TooMuch, "distribution_is_what_is_sampled", "sum to one"),
        (NotWhatItSays, "distribution_is_what_is_sampled", "meets distribution"),
        (Impossible, "distribution_is_what_is_sampled", "probability 0 is not drawn"),
        (Forgets, "resumes_where_it_was_saved", "next 50 tasks are equal"),
        (ForgetsTheGenerator, "resumes_where_it_was_saved", "next 50 tasks are equal"),
        (Shares, "state_is_independent_of_the_curriculum", "keeps its values"),
        (Keeps, "state_is_independent_of_the_curriculum", "keeps its values"),
        (Objects, "state_is_plain_and_survives_files", "a tuple at ['space']"),
        (Believes, "wrong_state_is_refused", "nothing was raised"),
        (LoadsHalf, "damaged_state_is_refused", "is damaged"),
        (Unpicklable, "survives_pickle", "pickle"),
        (Credulous, "unknown_tasks_and_impossible_results_are_refused", "nothing was raised"),
        (CountsFirst, "unknown_tasks_and_impossible_results_are_refused", "leaves no trace"),
        (TakesAnyBonus, "unknown_tasks_and_impossible_results_are_refused", "update_on_demand"),
        (CountsBatches, "a_batch_may_be_cut_anywhere", "Batches may be cut anywhere"),
        (CountsBatches, "a_batch_equals_its_steps", "A batch equals its steps"),
        (Writes, "does_not_change_what_it_is_given", "does not change the messages"),
        (WritesArrays, "does_not_change_what_it_is_given", "read-only"),
        (StrangeMetrics, "metrics_are_finite_floats", "('mean', nan)"),
        (IntegerMetrics, "metrics_are_finite_floats", "('count', 3)"),
        (Global, "leaves_global_state_alone", "random, np.random"),
        (GlobalNumPy, "leaves_global_state_alone", "random, np.random"),
        (Stranger, "foreign_environments_are_refused", "foreign environment"),
    ],
)
def test_a_broken_curriculum_is_found_out(kind, check, says):
    class Suite(WeightedTests):
        pass

    Suite.kind = kind
    problems = failing(Suite())
    assert says in problems[f"test_{check}"]


def test_a_sound_curriculum_passes():
    assert failing(WeightedTests()) == {}
    assert len(checks(WeightedTests)) >= 18


def test_make_has_to_be_defined():
    with pytest.raises(NotImplementedError, match=r"define make\(seed\)"):
        CurriculumTests().test_same_seed_gives_same_tasks()
    with pytest.raises(NotImplementedError, match=r"define make\(curriculum"):
        TransportTests().test_a_closed_curriculum_says_so()
    with pytest.raises(NotImplementedError, match="define run_apart"):
        TransportTests().run_apart(print, [])


@pytest.mark.parametrize("n", [2, 5, 40])
def test_frequencies_are_judged_as_they_should_be(n):
    rng = np.random.default_rng(n)
    expected = rng.dirichlet(np.ones(n)) * 1000
    honest = [deviation(rng.multinomial(1000, expected / 1000), expected) for _ in range(400)]
    assert abs(np.mean(honest)) < 0.2
    assert 0.8 < np.std(honest) < 1.2
    shifted = np.roll(expected, 1)
    assert deviation(rng.multinomial(1000, shifted / 1000), expected) > 4
    assert deviation(np.array([7.0]), np.array([7.0])) == 0


# --- transports --------------------------------------------------------------------------------------------


class LocalTests(TransportTests):
    deterministic, serializes, apart = True, False, False

    def make(self, curriculum, **options):
        return make_local_curriculum(curriculum, **options)


@pytest.mark.parametrize(
    ("method", "replacement", "check"),
    [
        ("send", lambda self, update: None, "messages_arrive_intact_and_in_order"),
        ("send", lambda self, update: None, "close_applies_everything_that_was_sent"),
        ("close", lambda self: None, "closing_an_env_gives_its_tasks_back"),
        (
            "request",
            lambda self, k, *, start: LocalLink.ask(self, k + 1, start),
            "tasks_are_fetched_as_far_ahead_as_asked",
        ),
        ("send", lambda self, update: 1 / 0, "a_failing_curriculum_is_reported_to_everybody"),
    ],
)
def test_a_broken_transport_is_found_out(monkeypatch, method, replacement, check):
    whole = LocalLink.request
    monkeypatch.setattr(LocalLink, "ask", lambda self, k, start: whole(self, k, start=start), raising=False)
    assert failing(LocalTests()) == {}
    monkeypatch.setattr(LocalLink, method, replacement)
    monkeypatch.setattr("macurr.testing.links.SECONDS", 0.05)
    with pytest.raises((AssertionError, ZeroDivisionError)):
        getattr(LocalTests(), f"test_{check}")()


# --- levels ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        RandomWalkEnv,
        ProbeEnv,
        apple_race_v0.parallel_env,
        lambda: simple_tag_v3.parallel_env(max_cycles=30),
    ],
)
def test_seeds_that_are_levels(make):
    report = check_level_determinism(make, seeds=[3, 1, 3])
    assert report
    assert report.fresh
    assert report.reused
    assert report.steps > 0
    assert str(report) == f"The same seed is the same level: 3 seeds, {report.steps} steps."


@pytest.mark.parametrize(
    ("leaks", "fresh", "says"),
    [
        (
            "generator",
            True,
            "seed 0 in an environment that has played before: observations of a differ at step 1",
        ),
        (
            "count",
            True,
            "seed 0 in an environment that has played before: observations of a differ at the reset",
        ),
        ("class", False, "seed 0 in a fresh environment: observations of a differ at the reset"),
    ],
)
def test_seeds_that_are_no_levels(leaks, fresh, says):
    report = check_level_determinism(lambda: RandomWalkEnv(leaks), seeds=range(2))
    assert not report
    assert report.fresh is fresh
    assert not report.reused
    assert str(report).startswith(f"The same seed is not the same level: {says}")
    assert {difference.seed for difference in report.differences} == {0, 1}


@pytest.mark.parametrize("fault", ["rewards", "terminations", "agents", "length"])
def test_every_field_is_compared(fault):
    class Odd(RandomWalkEnv):
        """Differs from its second episode on, from the third step."""

        def step(self, actions):
            if fault == "length" and self.mine > 1:
                self.length = 3
            seen, rewards, terminations, truncations, infos = super().step(actions)
            if self.mine > 1 and self.t == 3:
                if fault == "rewards":
                    rewards["b"] += 1e-9
                if fault == "terminations":
                    terminations["c"] = True
                if fault == "agents":
                    self.agents = ["a", "b"]
            return seen, rewards, terminations, truncations, infos

    report = check_level_determinism(Odd, seeds=[5])
    (difference,) = report.differences
    assert difference.reused
    assert difference.step == 3
    expected = {"rewards": "b", "terminations": "c", "agents": None, "length": "a"}
    assert difference.agent == expected[fault]
    assert difference.field == ("terminations" if fault == "length" else fault)


@pytest.mark.timeout(60)
def test_knights_archers_zombies_keeps_state_between_episodes():
    from pettingzoo.butterfly import knights_archers_zombies_v11

    report = check_level_determinism(
        lambda: knights_archers_zombies_v11.parallel_env(max_cycles=250), seeds=[0]
    )
    assert report.fresh
    assert not report.reused


def test_levels_want_a_parallel_env_and_seeds():
    with pytest.raises(UsageError, match="at least one seed"):
        check_level_determinism(ProbeEnv, seeds=[])
    with pytest.raises(UsageError, match="PettingZoo ParallelEnv"):
        check_level_determinism(lambda: "an env")
    assert LevelReport((1,), 5, ())


def test_masked_actions_are_chosen_by_their_mask():
    class Masked(ProbeEnv):
        def _seen(self):
            mask = np.array([0, 1], np.int8)
            return {
                agent: {"observation": np.zeros(1), "action_mask": mask} for agent in self.possible_agents
            }

        def step(self, actions):
            assert set(actions.values()) == {1}
            return super().step(actions)

    assert check_level_determinism(lambda: Masked(length=30))


# --- nests -------------------------------------------------------------------------------------------------


def test_nests_are_compared_by_value():
    nest = {"a": [1, 2.5, None, "x", True], "b": {"c": np.array([1.0, np.nan])}, "d": float("nan")}
    assert same(nest, through_files(nest))
    for path, _ in leaves(nest):
        assert not same(nest, replaced(nest, path, "else"))
    assert not same({"a": 1}, {"a": True})
    assert not same([1], [1, 2])
    assert not same({"a": 1}, {"b": 1})
    assert not same(np.zeros(2, np.float32), np.zeros(2))
    assert same((1, 2), [1, 2])
    assert same(1.0, 1.0 + 1e-7, 1e-6)
    assert not same(1.0, 1.0 + 1e-7)


def test_what_is_not_plain_is_named():
    found = list(
        not_plain({"a": (1,), 3: 4, "b": [np.int64(1)], "c": np.array([None]), "d": {1}, "e": np.float32(1)})
    )
    assert found == [
        "a tuple at ['a']",
        "the key 3 at []",
        "a int64 at ['b', 0]",
        "an array of objects at ['c']",
        "a set at ['d']",
        "a float32 at ['e']",
    ]


def test_a_promise_of_an_error_is_kept_or_not():
    with raises(BacklogError, "It fails.", "slow") as caught:
        raise BacklogError("too slow")
    assert str(caught[0]) == "too slow"

    def nothing():
        with raises(BacklogError, "It fails."):
            pass

    def another():
        with raises(BacklogError, "It fails."):
            raise KeyError("x")

    def silent():
        with raises(BacklogError, "It fails.", "slow"):
            raise BacklogError("too fast")

    for function, says in (
        (nothing, "nothing was raised"),
        (another, "KeyError"),
        (silent, "should mention 'slow'"),
    ):
        with pytest.raises(AssertionError, match=says):
            function()


def test_the_probes_are_curricula_and_environments():
    assert failing(_Suite(lambda seed: Constant(DiscreteTaskSpace(3), 1, seed=seed))) == {}
    assert failing(_Suite(lambda seed: DomainRandomization(DiscreteTaskSpace(3), seed=seed))) == {}


class _Suite(CurriculumTests):
    def __init__(self, make):
        self.make = make

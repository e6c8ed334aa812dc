"""Rounds carried out: weights, moments and statistics are copied, settings and the curriculum's options set."""

import dataclasses
import threading

import numpy as np
import pytest
import torch

from macurr import DiscreteTaskSpace, make_local_curriculum
from macurr.curricula import DomainRandomization, PrioritizedLevelReplay
from macurr.errors import ConfigError, StateError
from macurr.testing.nested import not_plain, same
from macurr.training.batches import Samples
from macurr.training.config import ModelConfig, PBTConfig, PoliciesConfig, PPOConfig, TrainConfig
from macurr.training.objectives import LEAST_EPISODES
from macurr.training.policy import Policy, PolicySpec
from macurr.training.population_history import read_history
from macurr.training.population_hook import PopulationHook, make_population
from macurr.training.ppo import PPO
from macurr.wrappers import DualCurriculumWrapper

FEATURES, ACTIONS = 4, 3


class Learner:
    """What a population asks of the trainer's learner, and no more."""

    def __init__(self, policies, ppo, seed=0, normalize=True):
        spec = PolicySpec(
            FEATURES,
            ACTIONS,
            "discrete",
            (8,),
            agents=2,
            normalize_observations=normalize,
            normalize_returns=normalize,
        )
        self.ppos = []
        for number in range(policies):
            generator = torch.Generator().manual_seed(seed + number)
            self.ppos.append(PPO(Policy(spec, generator), ppo, generator))
        self.jumps = [0] * policies
        self.lock = threading.RLock()

    def replaced(self, policy):
        self.jumps[policy] += 1

    def train(self, updates=3):
        for number, ppo in enumerate(self.ppos):
            for _ in range(updates + number):
                ppo.update(_samples(number))


def _samples(seed, n=32):
    rng = torch.Generator().manual_seed(seed)
    return Samples(
        torch.randn(n, FEATURES, generator=rng) * (seed + 1),
        None,
        torch.randint(ACTIONS, (n,), generator=rng),
        torch.full((n,), -1.1),
        torch.zeros(n),
        torch.randn(n, generator=rng) + seed,
    )


def config(tmp_path, policies=3, **options):
    pbt = {"pbt": True, "pbt_period": 100, "pbt_start": 0, "pbt_mutation_rate": 0.0, **options}
    return TrainConfig(
        env="tests.support.training:Duel",
        policies=PoliciesConfig(num_policies=policies, mapping="random" if policies > 1 else "shared"),
        ppo=PPOConfig(value_clip=0.5),
        model=ModelConfig(hidden=(8,)),
        pbt=PBTConfig(**pbt),
        out=str(tmp_path / "run"),
    )


def curriculum(temperature=1.0):
    space = DiscreteTaskSpace(5)
    return make_local_curriculum(
        DualCurriculumWrapper(
            PrioritizedLevelReplay(space, temperature=temperature, seed=0),
            DomainRandomization(DiscreteTaskSpace(2), seed=1),
        )
    )


def play(hook, returns):
    for policy, value in enumerate(returns):
        for _ in range(LEAST_EPISODES):
            hook.recent.add(
                policy, learner_return=value, outcome=np.sign(value), length=5, level=0, opponent=0
            )


def directory(tmp_path, name="run"):
    run = tmp_path / name
    run.mkdir(exist_ok=True)
    return run


def state_of(ppo):
    """Weights, statistics and moments."""
    state = ppo.state_dict()
    return {name: state[name] for name in ("policy", "moments")}


class TestPolicies:
    def make(self, tmp_path, name="run", **options):
        settings = config(tmp_path, **options)
        learner = Learner(settings.policies.num_policies, settings.ppo)
        learner.train()
        synced = curriculum()
        return PopulationHook(settings, directory(tmp_path, name), learner), learner, synced

    def test_the_worst_goes_on_with_the_best(self, tmp_path):
        hook, learner, synced = self.make(tmp_path)
        before = [state_of(ppo) for ppo in learner.ppos]
        steps = [ppo.sgd_steps for ppo in learner.ppos]
        learner.ppos[1].settings.learning_rate = 5e-3
        hook.within.adopt([hook._settings_of(ppo) for ppo in learner.ppos])
        play(hook, [-1.0, 3.0, -8.0])
        assert not same(before[2], before[1])
        notes = hook.after_update(learner, synced, (), 100, 7)
        # Weights, normalisers and Adam's moments are those of the best; the count of steps is one's own.
        assert same(state_of(learner.ppos[2]), before[1])
        assert [same(state_of(learner.ppos[k]), before[k]) for k in (0, 1)] == [True, True]
        assert [ppo.sgd_steps for ppo in learner.ppos] == steps
        assert learner.jumps == [0, 0, 1]
        assert learner.ppos[2].settings.learning_rate == 5e-3
        assert len(notes) == 1
        assert "policy 2 (place 3, objective -8)" in notes[0]
        assert "weights of 1, learning_rate 0.001 -> 0.005" in notes[0]
        # The copy is no view: the two go their own ways.
        learner.train()
        assert not same(state_of(learner.ppos[2]), state_of(learner.ppos[1]))

    def test_the_copy_trains_as_the_original_would(self, tmp_path):
        hook, learner, synced = self.make(tmp_path)
        play(hook, [-1.0, 3.0, -8.0])
        hook.after_update(learner, synced, (), 100, 1)
        for policy in (1, 2):
            learner.ppos[policy]._generator.manual_seed(5)
            learner.ppos[policy].update(_samples(9))
        assert same(state_of(learner.ppos[1]), state_of(learner.ppos[2]))

    def test_only_tuned_settings_change(self, tmp_path):
        hook, learner, synced = self.make(tmp_path, pbt_mutation_rate=1.0, pbt_gamma=True)
        play(hook, [3.0, 1.0, 1.1])
        hook.after_update(learner, synced, (), 100, 1)
        given = PPOConfig(value_clip=0.5)
        tuned = {"learning_rate", "entropy", "value", "max_grad_norm", "clip", "value_clip", "gamma"}
        for policy, ppo in enumerate(learner.ppos):
            for name, value in vars(ppo.settings).items():
                same_as_given = value == getattr(given, name)
                assert same_as_given == (policy == 0 or name not in tuned), (policy, name)

    def test_gamma_and_what_is_off_are_left_alone(self, tmp_path):
        settings = config(tmp_path, pbt_mutation_rate=1.0)
        learner = Learner(3, PPOConfig(value_clip=None))
        hook = PopulationHook(settings, directory(tmp_path), learner)
        play(hook, [3.0, 1.0, 1.1])
        hook.after_update(learner, curriculum(), (), 100, 1)
        assert {ppo.settings.gamma for ppo in learner.ppos} == {0.97}
        assert {ppo.settings.value_clip for ppo in learner.ppos} == {None}
        assert len({ppo.settings.clip for ppo in learner.ppos}) == 3

    def test_a_round_waits_for_enough_episodes(self, tmp_path):
        hook, learner, synced = self.make(tmp_path)
        assert hook.after_update(learner, synced, (), 100, 1) == []
        play(hook, [-1.0, 3.0])
        assert hook.after_update(learner, synced, (), 150, 2) == []
        play(hook, [-1.0, 3.0, -8.0])
        assert len(hook.after_update(learner, synced, (), 170, 3)) == 1
        # The replaced one has no record yet, and the round that is due waits for it.
        play(hook, [-1.0, 3.0])
        assert hook.after_update(learner, synced, (), 270, 4) == []
        play(hook, [-1.0, 3.0, -9.0])
        assert len(hook.after_update(learner, synced, (), 280, 5)) == 1

    def test_history_has_a_line_for_each_policy_and_round(self, tmp_path):
        hook, learner, synced = self.make(tmp_path)
        for update in (1, 2):
            play(hook, [-1.0, 3.0, -8.0])
            hook.after_update(learner, synced, (), 100 * update, update)
        rows = read_history(tmp_path / "run" / "population.jsonl")
        assert len(rows) == 6
        assert [(row["member"], row["rank"], row["copied_from"]) for row in rows[:3]] == [
            (1, 0, None),
            (0, 1, None),
            (2, 2, 1),
        ]
        assert {(row["scope"], row["of"], row["steps"], row["update"]) for row in rows[3:]} == {
            ("policies", 3, 200, 2)
        }
        assert rows[0]["settings"] == {
            "learning_rate": 1e-3,
            "entropy": 0.01,
            "value": 0.5,
            "max_grad_norm": 0.5,
            "clip": 0.2,
            "value_clip": 0.5,
        }

    def test_a_resumed_run_goes_on_alike(self, tmp_path):
        def go_on(hook, learner, synced, rounds):
            for update in rounds:
                play(hook, np.random.default_rng(update).normal(size=3).tolist())
                hook.after_update(learner, synced, (), 100 * update, update)

        hook, learner, synced = self.make(tmp_path, pbt_mutation_rate=0.5)
        go_on(hook, learner, synced, range(1, 4))
        state, saved = hook.state_dict(), [ppo.state_dict() for ppo in learner.ppos]
        assert not list(not_plain(state))
        go_on(hook, learner, synced, range(4, 8))
        history = read_history(tmp_path / "run" / "population.jsonl")
        again, fresh, _ = self.make(tmp_path, pbt_mutation_rate=0.5)
        for ppo, own in zip(fresh.ppos, saved, strict=True):
            ppo.load_state_dict(own)
        again.load_state_dict(state)
        assert len(read_history(tmp_path / "run" / "population.jsonl")) == 9
        go_on(again, fresh, synced, range(4, 8))
        assert read_history(tmp_path / "run" / "population.jsonl") == history
        assert same([ppo.state_dict() for ppo in fresh.ppos], [ppo.state_dict() for ppo in learner.ppos])
        assert same(again.state_dict(), hook.state_dict())

    def test_wrong_states_change_nothing(self, tmp_path):
        hook, *_ = self.make(tmp_path)
        play(hook, [1.0, 2.0, 3.0])
        before = hook.state_dict()
        for wrong in (
            {},
            {**before, "policies": None},
            {**before, "runs": {}},
            {**before, "policies": {**before["policies"], "last": "x"}},
            {**before, "recent": {"episodes": []}},
        ):
            with pytest.raises(StateError):
                hook.load_state_dict(wrong)
            assert same(hook.state_dict(), before)

    def test_the_best_is_known_once_somebody_has_played(self, tmp_path):
        hook, learner, synced = self.make(tmp_path)
        assert hook.best() is None
        play(hook, [-1.0])
        assert hook.best() == 0
        play(hook, [-1.0, 3.0, 3.0])
        assert hook.best() == 1
        hook.after_update(learner, synced, (), 100, 1)
        assert hook.best() == 1

    def test_win_rate_ranks_where_it_is_asked_for(self, tmp_path):
        hook, learner, synced = self.make(tmp_path, pbt_objective="win_rate")
        play(hook, [-1.0, 3.0, 8.0])
        hook.after_update(learner, synced, (), 100, 1)
        objectives = [row["objective"] for row in read_history(tmp_path / "run" / "population.jsonl")]
        assert objectives == [1.0, 1.0, 0.0]

    def test_unknown_objectives_are_refused_at_once(self, tmp_path):
        with pytest.raises(ConfigError, match="pbt_objective"):
            self.make(tmp_path, pbt_objective="tests.support:missing")


class TestRuns:
    def make(self, tmp_path, name, policies=1, temperature=1.0, mapping=None, seed=0, **options):
        settings = config(tmp_path, policies, population=str(tmp_path / "population"), **options)
        learner = Learner(policies, settings.ppo, seed=seed)
        learner.train()
        synced = curriculum(temperature)
        return PopulationHook(settings, directory(tmp_path, name), learner), learner, synced

    def test_a_run_takes_over_another_with_its_settings(self, tmp_path):
        a, a_learner, a_synced = self.make(tmp_path, "a", temperature=0.5, seed=10)
        b, b_learner, b_synced = self.make(tmp_path, "b")
        a_learner.ppos[0].settings.learning_rate = 4e-3
        for hook, value in ((a, 5.0), (b, -5.0)):
            play(hook, [value])
        assert a.after_update(a_learner, a_synced, (), 100, 1) == []
        [note] = b.after_update(b_learner, b_synced, (), 100, 1)
        assert "the run b (place 2, objective -5): goes on with the weights of a" in note
        assert "curriculum/env/temperature 1 -> 0.5" in note
        assert same(state_of(b_learner.ppos[0]), state_of(a_learner.ppos[0]))
        assert b_learner.jumps == [1]
        assert b_learner.ppos[0].settings.learning_rate == 4e-3
        assert b_synced.get_options()["env/temperature"] == 0.5
        rows = read_history(tmp_path / "b" / "population.jsonl")
        assert rows == read_history(tmp_path / "population" / "members" / "b" / "history.jsonl")
        assert [(row["scope"], row["member"], row["copied_from"]) for row in rows] == [("runs", "b", "a")]

    def test_the_curriculum_is_tuned(self, tmp_path):
        a, a_learner, a_synced = self.make(tmp_path, "a")
        b, b_learner, b_synced = self.make(tmp_path, "b", pbt_mutation_rate=1.0, pbt_reset_rate=0.0)
        play(a, [5.0])
        play(b, [4.9])
        a.after_update(a_learner, a_synced, (), 100, 1)
        b.after_update(b_learner, b_synced, (), 100, 1)
        options = b_synced.get_options()
        assert options["env/temperature"] != 1.0
        assert options["env/staleness_coef"] != 0.1
        assert options["env/alpha"] == 1.0
        assert b_learner.ppos[0].settings.entropy != 0.01
        assert b_learner.jumps == [0]

    def test_policies_and_runs_at_once(self, tmp_path):
        a, a_learner, a_synced = self.make(tmp_path, "a", policies=2, temperature=0.5, seed=10)
        b, b_learner, b_synced = self.make(tmp_path, "b", policies=2)
        a_learner.ppos[1].settings.clip = 0.3
        a.within.adopt([a._settings_of(ppo) for ppo in a_learner.ppos])
        for hook, value in ((a, 5.0), (b, -5.0)):
            play(hook, [value, value])
            hook.after_update(*((a_learner, a_synced) if hook is a else (b_learner, b_synced)), (), 100, 1)
        # Runs exchange whole teams; the learner's settings belong to the policies.
        for policy in range(2):
            assert same(state_of(b_learner.ppos[policy]), state_of(a_learner.ppos[policy]))
        assert [ppo.settings.clip for ppo in b_learner.ppos] == [0.2, 0.3]
        assert [own["clip"] for own in b.within.settings] == [0.2, 0.3]
        assert b_synced.get_options()["env/temperature"] == 0.5
        rows = read_history(tmp_path / "b" / "population.jsonl")
        assert [row["scope"] for row in rows] == ["policies", "policies", "runs"]
        assert set(rows[-1]["settings"]) == {"curriculum/env/temperature", "curriculum/env/staleness_coef"}

    def test_a_resumed_run_goes_on(self, tmp_path):
        a, a_learner, a_synced = self.make(tmp_path, "a")
        b, b_learner, b_synced = self.make(tmp_path, "b")
        play(a, [5.0])
        play(b, [-5.0])
        a.after_update(a_learner, a_synced, (), 100, 1)
        b.after_update(b_learner, b_synced, (), 100, 1)
        state = b.state_dict()
        assert not list(not_plain(state))
        play(b, [-5.0])
        b.after_update(b_learner, b_synced, (), 200, 2)
        again, learner, synced = self.make(tmp_path, "b")
        again.load_state_dict(state)
        assert same(again.state_dict(), state)
        assert len(read_history(tmp_path / "population" / "members" / "b" / "history.jsonl")) == 1
        assert again.after_update(learner, synced, (), 150, 2) == []
        play(again, [-5.0])
        assert len(again.after_update(learner, synced, (), 200, 2)) == 1

    def test_defaults_are_those_of_the_start(self, tmp_path):
        rules = {"pbt_mutation_rate": 1.0, "pbt_reset_rate": 1.0}
        a, a_learner, a_synced = self.make(tmp_path, "a")
        b, b_learner, b_synced = self.make(tmp_path, "b", **rules)
        b.after_update(b_learner, b_synced, (), 10, 1)
        state = b.state_dict()
        b_synced.set_options(**{"env/temperature": 7.0})
        again, learner, _ = self.make(tmp_path, "b", **rules)
        again.load_state_dict(state)
        play(a, [5.0])
        play(again, [4.9])
        learner.ppos[0].settings.clip = 0.6
        a.after_update(a_learner, a_synced, (), 100, 1)
        again.after_update(learner, b_synced, (), 100, 2)
        assert b_synced.get_options()["env/temperature"] == 1.0
        assert learner.ppos[0].settings.clip == 0.2

    def test_win_rates_that_say_nothing_are_refused(self, tmp_path):
        settings = config(tmp_path, 1, population=str(tmp_path / "population"), pbt_objective="win_rate")
        alone = dataclasses.replace(settings, opponents="none")
        with pytest.raises(ConfigError, match="nobody to win against"):
            PopulationHook(alone, directory(tmp_path, "c"), Learner(1, settings.ppo))

    def test_other_environments_are_refused(self, tmp_path):
        a, a_learner, a_synced = self.make(tmp_path, "a")
        play(a, [1.0])
        a.after_update(a_learner, a_synced, (), 100, 1)
        settings = config(tmp_path, 1, population=str(tmp_path / "population"))
        other = dataclasses.replace(settings, env_args={"length": 9})
        with pytest.raises(ConfigError, match="length=9"):
            PopulationHook(other, directory(tmp_path, "c"), Learner(1, settings.ppo))


def test_no_population_unless_asked_for(tmp_path):
    settings = TrainConfig(env="tests.support.training:Duel", out=str(tmp_path / "run"))
    assert make_population(settings, tmp_path, Learner(1, settings.ppo)) is None

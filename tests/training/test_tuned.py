"""Arguments of the environment that a population tunes, and what environments say of how well agents did."""

import dataclasses
import math

import numpy as np
import pytest

from macurr import ConfigError, DiscreteTaskSpace, make_local_curriculum
from macurr.curricula import DomainRandomization, PrioritizedLevelReplay
from macurr.errors import StateError, UsageError
from macurr.testing.nested import not_plain, same
from macurr.training import resume
from macurr.training.config import PBTConfig, PoliciesConfig, TrainConfig
from macurr.training.envs import EnvSource
from macurr.training.population_history import read_history
from macurr.training.population_hook import PopulationHook
from macurr.training.tuned import TunedArguments, argument_range
from macurr.training.worker import Job, build
from macurr.wrappers import MultiagentSharedCurriculumWrapper
from tests.training.test_population_hook import Learner
from tests.training.test_population_hook import play as play_episodes
from tests.training.test_population_runs import config, run

SCORED = "tests.support.training:Scored"
RECKONED = "tests.support.turns:Reckoned"
ARGUMENTS = {"bonus": 0.5, "weight": 3}


def tuned(groups=1, **arguments):
    levels = PrioritizedLevelReplay(DiscreteTaskSpace(5), temperature=1.0, seed=0)
    return TunedArguments(MultiagentSharedCurriculumWrapper(levels), arguments or ARGUMENTS, groups)


# --- the curriculum's side -----------------------------------------------------------------------------------


def test_arguments_are_options_of_the_curriculum():
    curriculum = tuned()
    assert curriculum.get_options()["env_args/bonus"] == 0.5
    assert curriculum.get_options()["temperature"] == 1.0
    assert curriculum.tunable_options()["env_args/weight"] == pytest.approx((0.03, 300.0))
    curriculum.set_options(**{"env_args/bonus": 0.7, "temperature": 0.5})
    curriculum.update_on_demand({"options": {"env_args/weight": 4.0, "staleness_coef": 0.2}})
    assert curriculum.task_info(3) == {"env_args/bonus": 0.7, "env_args/weight": 4.0}
    assert curriculum.curriculum.get_options()["temperature"] == 0.5
    assert curriculum.curriculum.get_options()["staleness_coef"] == 0.2


def test_each_group_of_environments_has_its_own():
    curriculum = tuned(groups=2, bonus=0.5)
    curriculum.set_options(**{"env_args/1/bonus": 0.7})
    assert curriculum.task_info(0) == {"env_args/0/bonus": 0.5, "env_args/1/bonus": 0.7}
    # Policies are compared within the run: there is no one value that runs could exchange.
    assert not [name for name in curriculum.tunable_options() if name.startswith("env_args")]


@pytest.mark.parametrize(
    "options", [{"env_args/bonus": 51.0}, {"env_args/bonus": "much"}, {"env_args/size": 1.0}, {"speed": 2}]
)
def test_options_that_cannot_be_change_nothing(options):
    curriculum = tuned()
    before = curriculum.state_dict()
    with pytest.raises(UsageError):
        curriculum.set_options(**{"temperature": 0.5, **options})
    assert same(curriculum.state_dict(), before)


def test_arguments_keep_their_sign():
    assert argument_range(-2.0) == (-200.0, -0.02)
    assert argument_range(2.0) == (0.02, 200.0)


def test_the_arguments_are_saved():
    curriculum, again = tuned(), tuned()
    curriculum.set_options(**{"env_args/bonus": 0.7, "temperature": 0.5})
    state = curriculum.state_dict()
    assert not list(not_plain(state))
    again.load_state_dict(state)
    assert again.get_options() == curriculum.get_options()
    for wrong in ({"bonus": 1.0}, {**state["arguments"], "env_args/bonus": math.nan}, None):
        with pytest.raises(StateError, match="arguments"):
            again.load_state_dict({**state, "arguments": wrong})
    assert same(again.state_dict(), state)


# --- the environments' side ----------------------------------------------------------------------------------


def batch_of(synced, path, args, prefixes):
    seats = ((0, 1),) * len(prefixes)
    batch = build(Job(EnvSource(path, args), seats, 1, synced.components, tuned=prefixes))
    batch.reset()
    return batch


def play(batch, actions, steps):
    for _ in range(steps):
        batch.step(np.array([actions] * batch.shape.envs))


def test_environments_are_made_anew_with_their_next_episode():
    with make_local_curriculum(tuned()) as synced:
        batch = batch_of(synced, SCORED, ARGUMENTS, ("env_args/",))
        play(batch, [2, 0], 1)
        assert batch.frame.rewards.tolist() == [[0.5, -0.5]]
        synced.set_options(**{"env_args/bonus": 2.0, "env_args/weight": 7.4})
        play(batch, [2, 0], 3)
        assert batch.frame.rewards.tolist() == [[0.5, -0.5]]  # not in the middle of an episode
        play(batch, [2, 0], 6)  # the next task was drawn before the change
        assert batch.frame.ended.all()
        assert batch.frame.objectives.tolist() == [[15.0, 0.0]]
        play(batch, [2, 0], 5)
        assert batch.frame.rewards.tolist() == [[2.0, -2.0]]
        assert batch.frame.objectives.tolist() == [[35.0, 0.0]]  # a whole number stays one
        batch.close()


def test_each_environment_follows_its_own_group():
    with make_local_curriculum(tuned(groups=2, bonus=0.5)) as synced:
        batch = batch_of(synced, SCORED, {"bonus": 0.5}, ("env_args/0/", "env_args/1/"))
        synced.set_options(**{"env_args/1/bonus": 0.75})
        play(batch, [2, 0], 11)
        assert batch.frame.rewards[:, 0].tolist() == [0.5, 0.75]
        batch.close()


def test_turn_based_environments_too():
    args = {"turns": {"x": 1, "y": 2}, "price": 2.0}
    with make_local_curriculum(tuned(price=2.0)) as synced:
        batch = batch_of(synced, RECKONED, args, ("env_args/",))
        synced.set_options(**{"env_args/price": 3.0})
        seen = []
        for _ in range(9):
            seen.append(batch.frame.observations[0, 1, 0])
            play(batch, [1, 1], 1)
            if batch.frame.ended.all():
                seen.append(batch.frame.objectives[0].tolist())
        # Everybody's last turn is the first and the third of an episode.
        assert seen == [2.0] * 3 + [[2.0, 6.0]] + [2.0, 2.0, 2.0] + [[2.0, 6.0]] + [3.0] * 3 + [[3.0, 9.0]]
        batch.close()


def test_arguments_that_change_what_a_run_is_made_of_are_refused():
    with make_local_curriculum(tuned(wide=1)) as synced:
        batch = batch_of(synced, SCORED, {"wide": 1}, ("env_args/",))
        synced.set_options(**{"env_args/wide": 2})
        with pytest.raises(ConfigError, match="pbt_env_args"):
            play(batch, [1, 1], 15)
        batch.close()


def test_environments_in_mid_episode_go_on_with_their_arguments():
    with make_local_curriculum(tuned()) as synced:
        batch = batch_of(synced, SCORED, ARGUMENTS, ("env_args/",))
        synced.set_options(**{"env_args/bonus": 2.0})
        play(batch, [2, 0], 12)
        state, curriculum = batch.state_dict(), synced.state_dict()
        play(batch, [2, 0], 3)
        expected = batch.frame.rewards.tolist(), batch.frame.objectives.tolist()
        batch.close()
    with make_local_curriculum(tuned()) as synced:
        synced.load_state_dict(curriculum)
        again = build(
            Job(EnvSource(SCORED, ARGUMENTS), ((0, 1),), 1, synced.components, tuned=("env_args/",))
        )
        again.load_state_dict(state)
        play(again, [2, 0], 3)
        assert (again.frame.rewards.tolist(), again.frame.objectives.tolist()) == expected
        assert expected == ([[2.0, -2.0]], [[15.0, 0.0]])
        again.close()


def test_who_says_nothing_has_no_objective():
    with make_local_curriculum(DomainRandomization(DiscreteTaskSpace(5), seed=0)) as synced:
        job = Job(EnvSource("tests.support.training:Ragged"), ((0, 1),), 1, synced.components)
        batch = build(job)
        batch.reset()
        play(batch, [2, 0], 5)
        assert batch.frame.ended.all()
        assert np.isnan(batch.frame.objectives).all()
        batch.close()


# --- settings ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"pbt": False}, "off"),
        ({"env_args": {}}, "no value"),
        ({"env_args": {"bonus": 0}}, "is 0"),
        ({"env_args": {"bonus": True}}, "is True"),
        ({"mapping": "random"}, "share environments"),
    ],
)
def test_arguments_that_cannot_be_tuned_are_refused(changes, why):
    given = {
        "env": SCORED,
        "env_args": {"bonus": 0.5},
        "num_policies": 2,
        "mapping": "env",
        "pbt": True,
        "pbt_env_args": ("bonus",),
    }
    assert TrainConfig.of(**given).argument_groups == 2
    with pytest.raises(ConfigError, match=why):
        TrainConfig.of(**{**given, **changes})


def test_names_are_written_and_read():
    given = TrainConfig.of(
        env=SCORED, env_args=ARGUMENTS, pbt=True, population="together", pbt_env_args=("bonus", "weight")
    )
    assert TrainConfig.from_yaml(given.to_yaml()) == given
    with pytest.raises(ConfigError, match="different names"):
        TrainConfig.from_yaml("pbt: {pbt_env_args: [bonus, bonus]}")


# --- for real ------------------------------------------------------------------------------------------------


def settings(out, **pbt):
    rules = {"pbt": True, "pbt_period": 900, "pbt_start": 0, "pbt_mutation_rate": 1.0, "pbt_reset_rate": 0.0}
    return dataclasses.replace(
        config(out),
        env=SCORED,
        env_args=ARGUMENTS,
        policies=PoliciesConfig(num_policies=3, mapping="env"),
        pbt=PBTConfig(**rules, pbt_objective="true_objective", pbt_env_args=("bonus", "weight"), **pbt),
    )


def rows_of(out):
    return read_history(out / "population.jsonl")


def test_policies_tune_their_environments(tmp_path):
    out = tmp_path / "run"
    watcher = run(settings(out))
    rows = rows_of(out)
    names = {"env_args/bonus", "env_args/weight", "learning_rate"}
    assert all(names <= set(row["settings"]) for row in rows)
    first = [row["settings"]["env_args/bonus"] for row in rows if row["member"] == 0]
    assert set(first) == {0.5}
    last = {row["member"]: row["settings"]["env_args/bonus"] for row in rows}
    assert len(set(last.values())) > 1
    # What the environment says of itself is what ranks: at most five steps are won, each three points at first.
    assert all(row["objective"] >= 0.0 for row in rows)
    assert max(row["objective"] for row in rows[:3]) <= 15.0
    options = watcher.trainer.population.within.settings
    assert [own["env_args/bonus"] for own in options] == [last[member] for member in range(3)]


def test_an_interrupted_run_tunes_alike(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(settings(whole))
    with pytest.raises(KeyboardInterrupt):
        run(settings(parts), stop_at=9)
    resume(parts)
    assert rows_of(parts) == rows_of(whole)
    assert (parts / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()


def member(tmp_path, name, bonus):
    """A run of a population of runs, before its first update."""
    rules = {"pbt": True, "pbt_period": 100, "pbt_start": 0, "pbt_mutation_rate": 1.0, "pbt_reset_rate": 0.0}
    given = TrainConfig.of(
        env=SCORED,
        env_args={"bonus": bonus},
        hidden=(8,),
        population=str(tmp_path / "population"),
        pbt_env_args=("bonus",),
        **rules,
    )
    (tmp_path / name).mkdir()
    learner = Learner(1, given.ppo)
    synced = make_local_curriculum(tuned(bonus=bonus))
    return PopulationHook(given, tmp_path / name, learner), learner, synced


def test_runs_tune_their_environments(tmp_path):
    first, second = member(tmp_path, "a", 0.5), member(tmp_path, "b", 1.0)
    for (hook, learner, synced), value in ((first, 5.0), (second, -5.0)):
        assert hook.after_update(learner, synced, (), 10, 1) == []
        play_episodes(hook, [value])
        hook.after_update(learner, synced, (), 100, 2)
    [row] = rows_of(tmp_path / "b")
    assert row["copied_from"] == "a"
    bonus = second[2].get_options()["env_args/bonus"]
    assert row["settings"]["curriculum/env_args/bonus"] == bonus
    assert 1.1 <= max(bonus / 0.5, 0.5 / bonus) <= 1.5  # the other's value, mutated
    assert first[2].get_options()["env_args/bonus"] == 0.5


def test_an_environment_that_says_nothing_cannot_be_ranked_by(tmp_path):
    silent = dataclasses.replace(
        settings(tmp_path / "run"),
        env="tests.support.training:Duel",
        env_args={},
        pbt=PBTConfig(pbt=True, pbt_period=400, pbt_start=0, pbt_objective="true_objective"),
    )
    with pytest.raises(ConfigError, match="has said nothing"):
        run(silent)

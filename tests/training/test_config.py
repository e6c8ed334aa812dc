import dataclasses
import inspect
import math
from dataclasses import fields

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from macurr.errors import ConfigError, MissingDependencyError
from macurr.training import (
    CurriculumConfig,
    EvaluationConfig,
    ModelConfig,
    PBTConfig,
    PoliciesConfig,
    PPOConfig,
    TrainConfig,
)
from macurr.training.config import DEFAULT_MINUTES, DEFAULT_STEPS, FORMAT_VERSION, settings_of

PARTS = {
    PPOConfig: "ppo",
    ModelConfig: "model",
    PoliciesConfig: "policies",
    PBTConfig: "pbt",
    CurriculumConfig: "tasks",
    EvaluationConfig: "evaluation",
}

# --- one setting by itself ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name", "value", "wanted"),
    [
        (TrainConfig, "steps", 0, "at least 1"),
        (TrainConfig, "steps", 10.5, "a whole number"),
        (TrainConfig, "steps", True, "a whole number"),
        (TrainConfig, "minutes", -1, "above 0"),
        (TrainConfig, "minutes", math.nan, "finite"),
        (TrainConfig, "workers", 0, "at least 1"),
        (TrainConfig, "transport", "ray", "'process', 'local'"),
        (TrainConfig, "engine", "slurm", "'processes', 'ray'"),
        (TrainConfig, "curriculum", "magic", "'plr', 'dr', 'joint'"),
        (TrainConfig, "opponents", None, "'pfsp', 'fsp', 'self', 'none'"),
        (TrainConfig, "env", "", "not empty"),
        (TrainConfig, "env_args", {1: 2}, "keywords"),
        (TrainConfig, "env_args", {"a": object}, "keywords"),
        (TrainConfig, "env_args", {"a": [{"b": {3}}]}, "keywords"),
        (TrainConfig, "async_rl", 1, "True or False, or None"),
        (TrainConfig, "device", "gpu", "'cuda:<number>'"),
        (TrainConfig, "device", "cuda:", "'cuda:<number>'"),
        (TrainConfig, "decorrelate", -1, "at least 0"),
        (TrainConfig, "checkpoint_minutes", -0.1, "at least 0"),
        (TrainConfig, "ppo", None, "a PPOConfig"),
        (TrainConfig, "evaluation", PPOConfig(), "an EvaluationConfig"),
        (PPOConfig, "gamma", 1.01, "at most 1"),
        (PPOConfig, "learning_rate", 0, "above 0"),
        (PPOConfig, "target_kl", -0.1, "or None"),
        (PPOConfig, "batch_size", 0, "at least 1"),
        (ModelConfig, "hidden", (), "positive whole numbers"),
        (ModelConfig, "hidden", (64, 0), "positive whole numbers"),
        (ModelConfig, "hidden", [64, 0.5], "a tuple"),
        (ModelConfig, "hidden", (True,), "positive whole numbers"),
        (ModelConfig, "recurrent", "rnn", "'lstm', 'gru'"),
        (PoliciesConfig, "num_policies", 0, "at least 1"),
        (PoliciesConfig, "mapping", "mine", "module:function"),
        (PoliciesConfig, "sides", "team", "'agent', 'role'"),
        (PBTConfig, "pbt_replace_fraction", 1.5, "at most 1"),
        (PBTConfig, "pbt_objective", "elo", "module:function"),
        (CurriculumConfig, "capacity", 1, "at least 2"),
        (EvaluationConfig, "seeds", 0, "at least 1"),
    ],
)
def test_what_cannot_be_used_is_named_with_what_can(kind, name, value, wanted):
    part = PARTS.get(kind)
    with pytest.raises(ConfigError, match=f"{name}=.*cannot be used") as error:
        TrainConfig(**({name: value} if part is None else {part: kind(**{name: value})}))
    assert wanted in str(error.value)


def test_functions_of_the_user_are_named_by_their_path():
    config = TrainConfig.of(num_policies=2, mapping="my.module:choose", pbt_objective="a:b.c")
    assert config.policies.mapping == "my.module:choose"


def test_every_setting_is_described_once():
    kinds = (TrainConfig, *PARTS)
    items = list(settings_of(TrainConfig))
    names = [item.name for item in items]
    assert len(set(names)) == len(names), "names are unique over the tree"
    assert not set(names) & {
        item.name for item in fields(TrainConfig) if item.name in set(PARTS.values())
    } - {"pbt"}
    assert len(items) + len(PARTS) == sum(len(fields(kind)) for kind in kinds)
    for item in items:
        assert item.group
        assert item.text[0].islower() or item.text.startswith(("PLR", "Adam")), item.text
        assert not item.text.endswith(".")
        assert item.check.holds(item.default), f"the default of {item.name} passes its check"
    for kind in kinds:
        described = inspect.getdoc(kind)
        assert all(f"\n    {field.name}: " in described for field in fields(kind))


# --- settings together -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chosen", "wanted"),
    [
        ({"transport": "local"}, "workers=2"),
        ({"engine": "ray", "transport": "local", "workers": 1}, "engine='ray'"),
        ({"ray_address": "10.0.0.1:6379"}, "for engine='ray'"),
        ({"splits": 3, "envs_per_worker": 64}, "2 or 4 would"),
        ({"splits": 9, "envs_per_worker": 8}, "4 or 8 would"),
        ({"recurrent": "lstm", "rollout": 1}, "a single step"),
        ({"recurrent": "gru", "rollout": 64, "batch_size": 100}, "such as 128"),
        ({"num_policies": 3}, "2 of num_policies=3 would never play"),
        ({"mapping": "role"}, "num_policies=1"),
        ({"num_policies": 5, "mapping": "env", "envs_per_worker": 2}, "1 of num_policies=5 would never play"),
        ({"opponents": "none", "curriculum": "joint"}, "nobody to draw"),
        ({"centralised_critic": True}, "centralised_critic=True"),
        ({"population": "there"}, "which is off"),
        ({"pbt": True}, "num_policies=1 is one"),
        ({"pbt": True, "num_policies": 2, "mapping": "role"}, "another part"),
        (
            {"pbt": True, "num_policies": 2, "mapping": "env", "pbt_perturb_min": 2, "pbt_perturb_max": 1.5},
            "above pbt_perturb_max=1.5",
        ),
    ],
)
def test_settings_that_do_not_go_together(chosen, wanted):
    with pytest.raises(ConfigError) as error:
        TrainConfig.of(**chosen)
    assert wanted in str(error.value)


@pytest.mark.parametrize(
    "chosen",
    [
        {"transport": "local", "workers": 1, "async_rl": True},
        {"engine": "ray", "ray_address": "auto"},
        {"splits": 4, "envs_per_worker": 8},
        {"envs_per_worker": 7},
        {"recurrent": "gru", "rollout": 64, "batch_size": 128},
        {"num_policies": 3, "mapping": "random"},
        {"num_policies": 2, "mapping": "role"},
        {"centralised_critic": True, "opponents": "none"},
        {"centralised_critic": True, "sides": "role"},
        {"pbt": True, "num_policies": 2, "mapping": "env"},
        {"pbt": True, "population": "there"},
        {"opponents": "none", "rollout": 1, "minibatches": 5, "envs_per_worker": 2},
    ],
)
def test_settings_that_do(chosen):
    config = TrainConfig.of(**chosen)
    assert {name: config.settings()[name] for name in chosen} == chosen


def test_bounds():
    assert (TrainConfig().max_steps, TrainConfig().max_minutes) == (DEFAULT_STEPS, DEFAULT_MINUTES)
    assert (TrainConfig(steps=5).max_steps, TrainConfig(steps=5).max_minutes) == (5, None)
    assert (TrainConfig(minutes=2).max_steps, TrainConfig(minutes=2).max_minutes) == (None, 2)


def test_what_follows_from_the_transport():
    local = TrainConfig(transport="local", workers=1)
    assert (TrainConfig().asynchronous, local.asynchronous) == (True, False)
    assert TrainConfig(async_rl=False).asynchronous is False
    assert (TrainConfig().num_splits, local.num_splits, TrainConfig(splits=2).num_splits) == (1, 1, 2)
    assert TrainConfig(transport="local", workers=1, splits=4).num_splits == 4


def test_what_is_only_written_differently_is_taken():
    config = TrainConfig.of(steps=2e6, hidden=[64, 32], env_args=None)
    assert config == TrainConfig.of(steps=2_000_000, hidden=(64, 32), env_args={})
    assert isinstance(config.steps, int), "steps are counted, and written, as whole numbers"


def test_settings_by_their_names_alone():
    config = TrainConfig.of(workers=3, gamma=0.5, hidden=(4,), pbt_period=7, seeds=2)
    assert (config.workers, config.ppo.gamma, config.model.hidden) == (3, 0.5, (4,))
    assert (config.pbt.pbt_period, config.evaluation.seeds) == (7, 2)
    assert TrainConfig.of(**config.settings()) == config
    with pytest.raises(TypeError, match="workrs"):
        TrainConfig.of(workrs=3)


# --- YAML --------------------------------------------------------------------------------------------------

OTHER = TrainConfig.of(
    env_args={"size": 5, "apples": (3, 4), "deep": [{"a": None}, "1e3", "yes", "# no", "two\nlines", ""]},
    minutes=0.5,
    opponents="none",
    async_rl=False,
    hidden=(8, 9),
    target_kl=0.1,
    pbt_replace_gap_absolute=1e-300,
    learning_rate=1 / 3,
    levels=3,
    out="a b: c",
    ray_address="x:\n y",
    engine="ray",
)


@pytest.mark.parametrize("config", [TrainConfig(), OTHER])
def test_settings_survive_yaml(config):
    assert TrainConfig.from_yaml(config.to_yaml()) == config


def test_plain_yaml_reads_it_too():
    data = yaml.safe_load(TrainConfig.of(env_args={"size": 5}, hidden=(8, 9)).to_yaml())
    assert data.pop("macurr_run") == FORMAT_VERSION
    tree = dataclasses.asdict(TrainConfig.of(env_args={"size": 5}))
    tree["model"]["hidden"], tree["pbt"]["pbt_env_args"] = [8, 9], []
    assert data == tree


_plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.text(), _plain, max_size=4), st.floats(1e-300, 1e300), st.text(min_size=1))
def test_any_plain_keywords_survive_yaml(env_args, rate, out):
    config = TrainConfig.of(env_args=env_args, learning_rate=rate, out=out)
    again = TrainConfig.from_yaml(config.to_yaml())
    assert again == config
    assert repr(again.env_args) == repr(dict(env_args)), "True is not 1, and a tuple no list"


def test_yaml_is_grouped_and_every_setting_explained():
    lines = TrainConfig().to_yaml().splitlines()
    assert max(map(len, lines)) <= 115
    for item in settings_of(TrainConfig):
        indent = "  " if item.part else ""
        (place,) = (i for i, line in enumerate(lines) if line.startswith(f"{indent}{item.name}: "))
        assert lines[place - 1].startswith(f"{indent}# ")
    assert [line for line in lines if line.startswith("# ---")][4] == "# --- the learner (PPO) ---"
    assert "  # memory between the steps of an episode; one of none, lstm, gru (default: none)" in lines


def test_a_part_of_the_settings_will_do():
    text = (
        "workers: 3\nsteps: 2e5  # as on the command line\nppo:\n  learning_rate: 1e-3\nmodel:\nenv_args:\n"
    )
    assert TrainConfig.from_yaml(text) == TrainConfig.of(workers=3, steps=200_000, learning_rate=1e-3)
    assert TrainConfig.from_yaml("") == TrainConfig()
    assert TrainConfig.from_yaml("model: {hidden: [3, 4]}").model.hidden == (3, 4)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("macurr_run: 1", "format 1; this macurr reads format 2"),
        ("workrs: 3", "workrs (did you mean workers?)"),
        ("gama: 3", "gama (did you mean ppo.gamma?)"),
        ("gamma: 0.9", "gamma (it stands below `ppo:`)"),
        ("model: {workers: 2}", "model.workers (it stands at the top level)"),
        ("polices: {}", "polices (did you mean policies?)"),
        ("workrs: 3\nppo: {qqqqq: 1}", "workrs (did you mean workers?); ppo.qqqqq. Correct"),
        ("3: 4", "do not exist: 3."),
        ("ppo: 3", "ppo: 3, where settings by name are wanted"),
        ("workers: 0", "workers=0 cannot be used"),
        ("workers: two", "workers='two' cannot be used: it must be a whole number"),
        ("workers: 1.5", "workers=1.5 cannot be used"),
        ("workers: [2]", "workers=[2] cannot be used"),
        ("anneal: 1", "anneal (it stands below"),
        ("ppo: {anneal: 1}", "anneal=1 cannot be used: it must be True or False"),
        ("model: {hidden: 3}", "hidden=3 cannot be used"),
        ("env_args: [1]", "env_args=[1] cannot be used"),
        ("env_args: {when: 2020-01-01}", "env_args="),
        ("workers: 2\nworkers: 3", "'workers' stands there twice in line 2"),
        ("ppo: {gamma: 1, gamma: 1}", "'gamma' stands there twice"),
        ("a: [", "in line 1"),
        ("a: !!python/object/apply:os.getcwd []", "not YAML"),
        ("? [1]\n: 2", "not YAML"),
        ("[]", "not the configuration"),
        ("7", "not the configuration"),
        ("\x00", "not YAML"),
        ("transport: local", "workers=2"),
    ],
)
def test_other_texts_are_refused(text, wanted):
    with pytest.raises(ConfigError) as error:
        TrainConfig.from_yaml(text, "my.yaml")
    assert wanted in str(error.value)
    assert "my.yaml" in str(error.value) or "transport" in wanted or "workers=2" in wanted
    assert "\n" not in str(error.value)


def test_without_pyyaml_the_extra_is_named(monkeypatch):
    import sys

    monkeypatch.delitem(sys.modules, "macurr.training.config.text", raising=False)
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(MissingDependencyError, match=r"macurr\[train\]"):
        TrainConfig().to_yaml()
    with pytest.raises(MissingDependencyError, match=r"macurr\[train\]"):
        TrainConfig.from_yaml("")

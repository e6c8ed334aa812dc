import json

import pytest

from macurr.errors import ConfigError
from macurr.training import CurriculumConfig, EvaluationConfig, ModelConfig, PPOConfig, TrainConfig
from macurr.training.config import DEFAULT_MINUTES, DEFAULT_STEPS


@pytest.mark.parametrize(
    ("kind", "name", "value", "wanted"),
    [
        (TrainConfig, "steps", 0, "at least 1"),
        (TrainConfig, "steps", 10.0, "a whole number"),
        (TrainConfig, "steps", True, "a whole number"),
        (TrainConfig, "minutes", -1, "above 0"),
        (TrainConfig, "minutes", float("nan"), "finite"),
        (TrainConfig, "workers", 0, "at least 1"),
        (TrainConfig, "transport", "ray", "'process', 'local'"),
        (TrainConfig, "curriculum", "magic", "'plr', 'dr', 'joint'"),
        (TrainConfig, "opponents", None, "'pfsp', 'fsp', 'self'"),
        (TrainConfig, "env", "", "not empty"),
        (TrainConfig, "env_args", {1: 2}, "keywords"),
        (TrainConfig, "ppo", None, "PPOConfig"),
        (PPOConfig, "gamma", 1.01, "at most 1"),
        (PPOConfig, "learning_rate", 0, "above 0"),
        (ModelConfig, "hidden", (), "positive whole numbers"),
        (ModelConfig, "hidden", (64, 0), "positive whole numbers"),
        (PPOConfig, "target_kl", -0.1, "or None"),
        (CurriculumConfig, "capacity", 1, "at least 2"),
        (EvaluationConfig, "seeds", 0, "at least 1"),
    ],
)
def test_what_cannot_be_used_is_named_with_what_can(kind, name, value, wanted):
    part = {
        PPOConfig: "ppo",
        ModelConfig: "model",
        CurriculumConfig: "tasks",
        EvaluationConfig: "evaluation",
    }.get(kind)
    with pytest.raises(ConfigError, match=f"{name}=.*cannot be used") as error:
        TrainConfig(**({name: value} if part is None else {part: kind(**{name: value})}))
    assert wanted in str(error.value)


def test_local_means_one_worker():
    with pytest.raises(ConfigError, match="workers=2"):
        TrainConfig(transport="local")


def test_a_batch_holds_its_minibatches():
    ppo = PPOConfig(rollout=1, minibatches=5)
    with pytest.raises(ConfigError, match="a batch of 4"):
        TrainConfig(workers=2, envs_per_worker=2, ppo=ppo)


def test_bounds():
    assert (TrainConfig().max_steps, TrainConfig().max_minutes) == (DEFAULT_STEPS, DEFAULT_MINUTES)
    assert (TrainConfig(steps=5).max_steps, TrainConfig(steps=5).max_minutes) == (5, None)
    assert (TrainConfig(minutes=2).max_steps, TrainConfig(minutes=2).max_minutes) == (None, 2)


def test_settings_survive_json():
    config = TrainConfig(
        env_args={"size": 5},
        minutes=0.5,
        model=ModelConfig(hidden=(8, 9)),
        ppo=PPOConfig(target_kl=0.1),
        tasks=CurriculumConfig(levels=3),
    )
    assert TrainConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"macurr_run": 99}, "format 99"),
        ({"stranger": 1}, r"unknown settings \['stranger'\]"),
        ({"ppo": {"stranger": 1}}, "unknown settings"),
        ({"ppo": 3}, "settings by name"),
        ({"workers": 0}, "workers=0"),
    ],
)
def test_other_settings_are_refused(change, wanted):
    text = json.dumps({**json.loads(TrainConfig().to_json()), **change})
    with pytest.raises(ConfigError, match=wanted):
        TrainConfig.from_json(text)


@pytest.mark.parametrize("text", ["", "[]", "{}", "7"])
def test_other_texts_are_refused(text):
    with pytest.raises(ConfigError):
        TrainConfig.from_json(text)

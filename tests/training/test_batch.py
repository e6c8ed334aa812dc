"""The arithmetic of batches: golden cases of Sample Factory's rule, without its rounding down."""

import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from macurr.errors import ConfigError
from macurr.training import PPOConfig, TrainConfig
from macurr.training.batch import batch_plan
from macurr.training.config import ModelConfig, PoliciesConfig


def config(
    size, minibatches, policies=1, *, workers=2, envs=8, rollout=32, asynchronous=False, recurrent="none"
):
    return TrainConfig(
        workers=workers,
        envs_per_worker=envs,
        async_rl=asynchronous,
        opponents="none",
        ppo=PPOConfig(batch_size=size, minibatches=minibatches, rollout=rollout),
        model=ModelConfig(recurrent=recurrent),
        policies=PoliciesConfig(num_policies=policies, mapping="random"),
    )


# 2 workers x 8 environments x 2 agents x 32 steps = 1024.
@pytest.mark.parametrize(
    ("size", "minibatches", "policies", "rounds"),
    [(512, 2, 1, 1), (2048, 1, 1, 2), (512, 1, 2, 1), (512, 2, 3, 3), (1024, 3, 3, 9), (1, 1024, 1, 1)],
)
def test_sizes_that_fit(size, minibatches, policies, rounds):
    plan = batch_plan(config(size, minibatches, policies), [2] * 16)
    assert (plan.total, plan.per_policy) == (1024, Fraction(1024, policies))
    assert (plan.wanted, plan.rounds) == (size * minibatches, rounds)
    assert plan.dataset == plan.rounds * plan.total


@pytest.mark.parametrize(
    ("size", "minibatches", "policies", "ratio", "near"),
    [
        (512, 3, 1, r"3/2 \(1\.5\)", "1024"),
        (256, 2, 1, r"1/2 \(0\.5\)", "512"),
        (1000, 1, 1, r"125/128 \(0\.9766\)", "1024"),
        (1100, 1, 1, r"275/256 \(1\.074\)", "1024 or 2048"),
        (300, 1, 3, r"225/256 \(0\.8789\)", "1024"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_with_the_sum(size, minibatches, policies, ratio, near):
    with pytest.raises(ConfigError, match="whole rounds") as error:
        batch_plan(config(size, minibatches, policies), [2] * 16)
    text = str(error.value)
    assert "2 workers x 8 environments x 2 learning agents x rollout=32 = 1024 samples" in text
    assert f"num_policies={policies}" in text
    assert f"= {size * minibatches} samples of each" in text
    assert re.search(f"S / R = {ratio}, and a whole number", text)
    assert f"batch_size={near} (" in text


def test_sides_of_different_sizes():
    # Three adversaries learn in one half of the environments, one agent in the other.
    learners = [3, 1] * 8
    assert batch_plan(config(512, 2), learners).total == 1024
    with pytest.raises(ConfigError, match=r"1 to 3 \(mean 2\) learning agents"):
        batch_plan(config(500, 2), learners)


def test_without_a_size_an_update_takes_what_a_round_gives():
    plan = batch_plan(config(None, 4, 3), [2] * 16)
    assert (plan.rounds, plan.wanted) == (1, 342)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_round_that_is_too_small_for_its_minibatches_is_refused(asynchronous):
    # 16 environments x 2 agents x 2 steps = 64, for each of 3 policies 21 and a third.
    assert batch_plan(config(None, 21, 3, rollout=2, asynchronous=asynchronous), [2] * 16).wanted == 22
    with pytest.raises(ConfigError, match=r"= 64 samples, which is R = 64/3 .*too small for minibatches=22"):
        batch_plan(config(None, 22, 3, rollout=2, asynchronous=asynchronous), [2] * 16)


def test_advice_for_policies_with_a_memory_is_of_whole_rollouts():
    # R = 3 x 32 = 96, of which 4 minibatches could have 24 or 48 samples; of whole rollouts, 96.
    with pytest.raises(ConfigError, match=r"batch_size=96 \(") as error:
        batch_plan(config(32, 4, workers=1, envs=3, recurrent="gru"), [1] * 3)
    assert "S / R = 4/3" in str(error.value)
    assert batch_plan(config(96, 4, workers=1, envs=3, recurrent="gru"), [1] * 3).rounds == 4


def test_asynchronous_datasets_have_any_size():
    plan = batch_plan(config(777, 1, asynchronous=True), [2] * 16)
    assert (plan.wanted, plan.dataset, plan.rounds) == (777, 777, 1)


@given(
    size=st.integers(1, 3000),
    minibatches=st.integers(1, 6),
    policies=st.integers(1, 5),
    rollout=st.integers(1, 64),
    learners=st.lists(st.integers(1, 4), min_size=1, max_size=6),
)
def test_the_advice_of_a_refusal_works(size, minibatches, policies, rollout, learners):
    def plan(value):
        chosen = config(value, minibatches, policies, workers=1, envs=len(learners), rollout=rollout)
        return batch_plan(chosen, learners)

    exact = Fraction(size * minibatches * policies, sum(learners) * rollout)
    if exact.denominator == 1:
        assert plan(size).rounds == exact
        return
    with pytest.raises(ConfigError) as error:
        plan(size)
    advised = str(error.value).split("that work: batch_size=")[1].split(" (")[0].split(" or ")
    sizes = [int(value) for value in advised]
    for value in sizes:
        assert plan(value).rounds >= 1
    assert sizes[-1] > size
    assert len(sizes) == 1 or sizes[0] < size
    if len(sizes) == 2:
        assert not any(_fits(plan, value) for value in range(sizes[0] + 1, min(sizes[1], sizes[0] + 50)))


def _fits(plan, value):
    try:
        plan(value)
    except ConfigError:
        return False
    return True

"""Policies: what they read, do and expect."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from macurr.errors import ConfigError, StateError, UsageError
from macurr.training import ModelConfig
from macurr.training.batches import Samples
from macurr.training.devices import resolve_device
from macurr.training.envs import EnvSource
from macurr.training.layers import tanh, tanh_layer
from macurr.training.layout import Layout
from macurr.training.networks import Torso
from macurr.training.policy import Policy, PolicySpec

HIDDEN = (8, 6)
AGENTS = 3


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def spec_of(kind="discrete", features=7, **extra):
    nvec = {"nvec": (2, 3)} if kind == "multidiscrete" else {}
    return PolicySpec(features, 5, kind, HIDDEN, agents=AGENTS, **nvec, **extra)


def seen(n, features=7, seed=0):
    """Observation rows whose last columns say which agent it is."""
    rows = torch.randn(n, features, generator=generator(seed))
    rows[:, -AGENTS:] = torch.eye(AGENTS)[torch.arange(n) % AGENTS]
    return rows


def pixels(n, image, seed=0):
    height, width, channels = image
    rows = torch.randint(0, 256, (n, height * width * channels + AGENTS), generator=generator(seed))
    rows[:, -AGENTS:] = torch.eye(AGENTS, dtype=torch.int64)[torch.arange(n) % AGENTS]
    return rows.to(torch.uint8)


def model(**given_):
    return ModelConfig(**{"hidden": (8,), "recurrent_size": 16, **given_})


# What fits an environment


def test_the_sizes_come_from_the_layout_and_the_model():
    source = EnvSource("macurr.envs.apple_race_v0", {})
    layout = Layout(source.make(), source.path)
    plain = PolicySpec.of(layout, model())
    assert (plain.features, plain.actions, plain.kind) == (layout.features, layout.actions, "discrete")
    assert (plain.agents, plain.central, plain.state_size) == (2, 0, 0)
    assert PolicySpec.of(layout, (8,)) == PolicySpec.of(layout, model(recurrent_size=128))
    rich = PolicySpec.of(layout, model(recurrent="lstm", centralised_critic=True, normalize_returns=True))
    assert rich.central == 2 * layout.features
    assert (rich.actor_state_size, rich.state_size) == (32, 64)
    assert PolicySpec.of(layout, model(recurrent="gru")).state_size == 32
    assert Policy(rich, generator()).returns is not None


def test_initial_weights_are_orthogonal_and_leave_the_global_generator_alone():
    before = torch.random.get_rng_state()
    policy = Policy(PolicySpec(6, 3, "discrete", (4,)), generator(1))
    assert torch.equal(before, torch.random.get_rng_state())
    weight = policy.actor[0].weight.detach()
    assert torch.allclose(weight @ weight.T, 2 * torch.eye(4), atol=1e-5)
    again = Policy(PolicySpec(6, 3, "discrete", (4,)), generator(1))
    assert all(torch.equal(a, b) for a, b in zip(policy.parameters(), again.parameters(), strict=True))
    with torch.no_grad():
        # The first policy is nearly uniform.
        outputs, _ = policy.actor(torch.randn(50, 6, generator=generator()))
    assert outputs.abs().max() < 0.1


# Acting


@pytest.mark.parametrize("kind", ["discrete", "multidiscrete", "continuous"])
@pytest.mark.parametrize("image", [None, (5, 4, 2)])
@pytest.mark.parametrize("normalised", [False, True])
def test_what_was_recorded_while_acting_is_computed_again_in_training(kind, image, normalised):
    features = 7 if image is None else 5 * 4 * 2 + AGENTS
    spec = spec_of(
        kind, features, image=image, normalize_observations=normalised, normalize_returns=normalised
    )
    policy = Policy(spec, generator())
    rows = seen(40) if image is None else pixels(40, image)
    if normalised:
        policy.returns.absorb(torch.randn(50, generator=generator()) * 9 + 4, policy.critic.last)
        if image is None:
            policy.normaliser.merge(3 * seen(60, seed=1) + 1)
    masks = torch.ones(40, 5, dtype=torch.bool)
    masks[::2, 0] = False
    step = policy.step(rows, masks, None, generator(3))
    batch = Samples(rows, masks, step.actions, step.log_probs, step.values, torch.zeros(40))
    log_probs, entropies, outputs = policy.evaluate(batch, batch.targets())
    assert torch.allclose(log_probs, step.log_probs, atol=1e-5)
    assert entropies.shape == (40,)
    values = outputs.detach() if policy.returns is None else policy.returns.denormalise(outputs.detach())
    assert torch.allclose(values, step.values, atol=1e-4)
    assert torch.allclose(policy.values(rows), step.values, atol=1e-5)
    actions, state = policy.act(rows, masks, None, generator(3))
    assert torch.equal(actions, step.actions)
    assert state is None is step.state
    assert not step.log_probs.requires_grad


def test_a_centralised_critic_reads_everybody_and_the_actor_only_itself():
    spec = spec_of(central=AGENTS * 7)
    policy = Policy(spec, generator())
    rows, everyone = seen(6), seen(6 * AGENTS, seed=1).view(6, -1)
    others, elsewhere = rows.clone(), seen(6 * AGENTS, seed=2).view(6, -1)
    others[:, :-AGENTS] += 1
    first = policy.step(rows, None, None, generator(), everyone)
    moved = policy.step(rows, None, None, generator(), elsewhere)
    assert torch.equal(first.log_probs, moved.log_probs)
    assert (first.values != moved.values).all()
    assert torch.equal(policy.values(others, central=everyone), first.values)
    swapped = rows.roll(1, dims=0)
    assert (policy.values(swapped, central=everyone) != first.values).all(), (
        "it knows whose value is asked for"
    )
    with pytest.raises(UsageError, match="central"):
        policy.step(rows, None, None, generator())


def test_the_dead_stay_zeros_for_a_centralised_critic_whatever_the_statistics():
    spec = spec_of(central=AGENTS * 7, normalize_observations=True)
    policy = Policy(spec, generator())
    rows, everyone = seen(4), seen(4 * AGENTS, seed=1).view(4, AGENTS, 7)
    everyone[:, 1, :-AGENTS] = 0
    policy.normaliser.merge(seen(50, seed=2) + 5)
    features = policy.encode(rows)
    read = policy._criticised(features, rows, everyone.flatten(1))
    assert (read[:, 7:14] == 0).all()
    assert (read[:, :4] != 0).all()
    assert torch.equal(read[:, -AGENTS:], rows[:, -AGENTS:])


# Images


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 4))
def test_there_is_a_network_for_images_of_every_size(height, width, channels):
    torso = Torso((height, width, channels), generator())
    out = torso(torch.zeros(2, height * width * channels, dtype=torch.uint8))
    assert out.shape == (2, torso.features)


def test_large_images_get_the_strides_of_the_atari_network():
    torso = Torso((84, 84, 4), generator())
    assert [tuple(layer.weight.shape) for layer in torso.convolutions] == [
        (32, 4, 8, 8),
        (64, 32, 4, 4),
        (64, 64, 3, 3),
    ]
    assert torso.linear.weight.shape == (512, 64 * 7 * 7)


@pytest.mark.parametrize(
    ("image", "places"), [((280, 480, 3), (12, 12)), ((84, 320, 1), (7, 12)), ((96, 96, 3), (8, 8))]
)
def test_the_weights_do_not_grow_with_the_image(image, places):
    torso = Torso(image, generator())
    height, width = places
    assert torso.linear.weight.shape == (torso.features, 64 * height * width)
    seen = torch.zeros(2, *image, dtype=torch.uint8)
    seen[1, -20:, -20:] = 255  # no corner is left out
    plain, marked = torso(seen.flatten(1))
    assert not torch.equal(plain, marked)


@pytest.mark.parametrize("image", [(7, 6, 3), (13, 12, 1), (36, 40, 2)])
def test_a_pixel_lands_where_the_image_has_it(image):
    torso = Torso(image, generator())
    height, width, channels = image
    picture = torch.randint(0, 256, (2, *image), generator=generator(), dtype=torch.uint8)
    rows = torch.zeros(2, channels, height, width)
    for y in range(height):
        for x in range(width):
            for c in range(channels):
                rows[:, c, y, x] = picture[:, y, x, c] / 255
    with torch.no_grad():
        for layer, (stride, padding) in zip(torso.convolutions, torso._strides, strict=True):
            rows = torch.relu(torch.nn.functional.conv2d(rows, layer.weight, layer.bias, stride, padding))
        wanted = torch.relu(torso.linear(rows.flatten(1)))
        assert torch.allclose(torso(picture.flatten(1)), wanted, atol=1e-5)


def test_images_are_read_as_shares_of_white_with_the_indicator_behind():
    image = (4, 4, 1)
    policy = Policy(spec_of(features=16 + AGENTS, image=image, normalize_observations=True), generator())
    assert policy.normaliser is None
    rows = pixels(5, image)
    features = policy.encode(rows)
    assert torch.equal(features[:, -AGENTS:], rows[:, -AGENTS:].float())
    assert policy.encoded == features.shape[1]


# Weights


def busy(spec, seed):
    """A policy whose statistics have moved."""
    policy = Policy(spec, generator(seed))
    policy.normaliser.merge(seen(30, seed=seed) * 4 + 2)
    policy.returns.absorb(torch.randn(30, generator=generator(seed)), policy.critic.last)
    return policy


FULL = spec_of(
    "continuous", normalize_observations=True, normalize_returns=True, recurrent="gru", recurrent_size=4
)


@pytest.mark.parametrize("way", ["arrays", "copy"])
def test_a_policy_with_another_s_weights_does_the_same(way):
    source, other = busy(FULL, 1), busy(FULL, 2)
    rows, state = seen(9), torch.randn(9, FULL.state_size, generator=generator())
    if way == "copy":
        other.copy_from(source)
    else:
        other.load_arrays(source.arrays())
    mine, theirs = (policy.step(rows, None, state, generator()) for policy in (source, other))
    for name in ("actions", "log_probs", "values", "state"):
        assert torch.equal(getattr(mine, name), getattr(theirs, name)), name
    arrays = source.arrays()
    with torch.no_grad():
        other.log_std.add_(1.0)
    assert np.array_equal(arrays["log_std"], source.arrays()["log_std"]), "they are copies"


def test_parameters_of_other_sizes_are_refused():
    policy = Policy(spec_of(), generator())
    arrays = policy.arrays()
    with pytest.raises(StateError, match="other settings of the model"):
        policy.load_arrays(Policy(spec_of("continuous"), generator()).arrays())
    with pytest.raises(StateError, match="cannot be copied"):
        policy.copy_from(Policy(spec_of("continuous"), generator()))
    assert all(np.array_equal(arrays[k], v) for k, v in policy.arrays().items())


# The fast tanh


@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=20))
def test_the_fast_tanh_is_tanh(numbers):
    rows = torch.tensor([numbers])
    assert torch.allclose(tanh(rows), rows.tanh(), atol=2.5e-7, rtol=0)
    assert torch.equal(rows, torch.tensor([numbers])), "its argument is left alone"


def test_a_tanh_layer_has_the_right_gradients():
    rows, weight, bias = (
        torch.randn(*shape, generator=generator(i), dtype=torch.float64, requires_grad=True)
        for i, shape in enumerate([(5, 4), (3, 4), (3,)])
    )
    assert torch.autograd.gradcheck(tanh_layer, (rows, weight, bias))
    with torch.no_grad():
        assert torch.allclose(tanh_layer(rows, weight, bias), torch.tanh(rows @ weight.T + bias), atol=1e-12)


# Devices


def test_devices_by_name(monkeypatch):
    assert resolve_device("cpu") == torch.device("cpu")
    with pytest.raises(ConfigError, match="is no device"):
        resolve_device("gpu please")
    with pytest.raises(ConfigError, match="CUDA"):
        resolve_device("meta")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == torch.device("cpu")
    with pytest.raises(ConfigError, match="finds no GPU"):
        resolve_device("cuda")


def test_devices_where_there_are_two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert resolve_device("auto") == resolve_device("cuda") == torch.device("cuda", 1)
    assert resolve_device("cuda:0") == torch.device("cuda", 0)
    with pytest.raises(ConfigError, match="2 GPUs"):
        resolve_device("cuda:2")

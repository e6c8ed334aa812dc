"""Networks in NumPy say what torch says, at any time and in any company."""

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from macurr.errors import PoolError
from macurr.training import Policy
from macurr.training.opponents import RANDOM, PolicyBank, snapshot_of
from macurr.training.plain import MOST_ROWS, Plain, Team, fits, forward
from macurr.training.policy import PolicySpec

KINDS = {
    "discrete": PolicySpec(6, 3, "discrete", (8, 5), agents=2),
    "multidiscrete": PolicySpec(6, 5, "multidiscrete", (8, 5), agents=2, nvec=(2, 3)),
    "continuous": PolicySpec(6, 2, "continuous", (8, 5), agents=2),
}
NAMES = ["discrete", "multidiscrete", "continuous"]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(spec, seed):
    """A policy whose every number is drawn, the statistics of what it sees too."""
    policy = Policy(spec, generator(seed))
    chance = generator(seed + 100)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=chance) / (4 * parameter.shape[-1] ** 0.5))
    if policy.normaliser is not None:
        policy.normaliser.merge(3 * torch.randn(40, spec.features, generator=chance) + seed)
    return policy


def by_torch(network, rows):
    """What a network says with gradients, which torch alone computes."""
    with torch.enable_grad():
        return network(rows)[0].detach()


def parameters(policy, rows):
    with torch.enable_grad():
        features = policy.encode(rows)
        return policy.parameters_of(policy.actor(features)[0]).detach()


class Listening:
    """A distribution that keeps the parameters that it is given."""

    def __init__(self, kind):
        self.kind, self.width, self.heard = kind, kind.width, None

    def sample(self, params, masks, chance):
        self.heard = params.clone()
        return self.kind.sample(params, masks, chance)


def listening(bank, spec):
    """The bank, and the ear that hears what its players said."""
    ear = Listening(spec.distribution)
    spec = replace(spec)
    object.__setattr__(spec, "distribution", ear)
    bank._spec = spec
    return ear


# One network


@pytest.mark.parametrize("hidden", [(), (8,), (64, 64), (128, 128)], ids=str)
@pytest.mark.parametrize("rows", [0, 1, 7, 64, MOST_ROWS])
def test_a_network_says_without_gradients_what_it_says_with_them(hidden, rows):
    policy = drawn(PolicySpec(6, 3, "discrete", hidden), 1)
    seen = 3 * torch.randn(rows, 6, generator=generator())
    for network in (policy.actor, policy.critic):
        assert len(network.arrays) == len(hidden) + 1
        with torch.no_grad():
            found, state = network(seen)
        assert state is None
        torch.testing.assert_close(found, by_torch(network, seen), atol=2e-6, rtol=1e-5)


def test_large_networks_and_many_rows_are_left_to_torch(monkeypatch):
    small, large = (Policy(PolicySpec(6, 3, "discrete", (n, n)), generator()) for n in (128, 256))
    assert small.actor.arrays
    assert not large.actor.arrays
    assert large.plain() is None
    assert fits([(np.zeros((128, 256), np.float32), np.zeros(256, np.float32))])
    assert not fits([(np.zeros((128, 257), np.float32), np.zeros(257, np.float32))])
    called = []
    monkeypatch.setattr(
        "macurr.training.networks.forward", lambda *given: called.append(1) or forward(*given)
    )
    with torch.no_grad():
        for policy, rows, calls in ((small, MOST_ROWS, 1), (small, MOST_ROWS + 1, 1), (large, 1, 1)):
            policy.actor(torch.zeros(rows, 6))
            assert len(called) == calls


@pytest.mark.parametrize("recurrent", ["lstm", "gru"])
def test_memories_and_images_are_left_to_torch(recurrent):
    policy = Policy(PolicySpec(6, 3, "discrete", (8,), recurrent=recurrent, recurrent_size=4), generator())
    assert not policy.actor.arrays
    assert policy.plain() is None
    assert not Policy(PolicySpec(6, 3, "discrete", (8,)), generator()).double().actor.arrays
    assert Policy(PolicySpec(26, 3, "discrete", (8,), agents=1, image=(5, 5, 1)), generator()).plain() is None


def _trained(policy):
    optimizer = torch.optim.SGD(policy.parameters(), lr=0.1)
    policy.actor(torch.ones(2, 6))[0].square().sum().backward()
    optimizer.step()
    return policy


CHANGES = {
    "training": _trained,
    "loading": lambda policy: policy.load_arrays(drawn(policy.spec, 9).arrays()) or policy,
    "copying": lambda policy: policy.copy_from(drawn(policy.spec, 9)) or policy,
    "deepcopy": lambda policy: _trained(copy.deepcopy(policy)),
    "pickling": lambda policy: _trained(pickle.loads(pickle.dumps(policy))),
    "moving": lambda policy: _trained(policy.double().float()),
    "sharing": lambda policy: _trained(policy.share_memory()),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_network_acts_by_the_weights_that_it_has_now(change):
    policy, seen = drawn(KINDS["discrete"], 1), torch.randn(4, 6, generator=generator())
    with torch.no_grad():
        before = policy.actor(seen)[0]
    policy = change(policy)
    with torch.no_grad():
        after = policy.actor(seen)[0]
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, by_torch(policy.actor, seen), atol=2e-6, rtol=1e-5)


def test_a_copy_that_is_trained_leaves_the_original_as_it_is():
    policy, seen = drawn(KINDS["discrete"], 1), torch.ones(2, 6)
    with torch.no_grad():
        before = policy.actor(seen)[0]
    _trained(copy.deepcopy(policy))
    with torch.no_grad():
        assert torch.equal(policy.actor(seen)[0], before)


def test_what_is_not_finite_passes_through_without_a_word():
    policy = drawn(replace(KINDS["discrete"], normalize_observations=True), 1)
    seen = torch.tensor([[float("nan")] * 6, [float("inf")] * 6, [3e38] * 6])
    with torch.no_grad():
        policy.actor.last.bias.fill_(float("inf"))
        policy.actor.last.weight.fill_(-3e38)
        assert not policy.actor(seen)[0].isfinite().all()
    team = Team([policy.plain()], [3])
    assert not np.isfinite(team.parameters(seen.numpy())).all()


# Teams


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_a_team_says_what_each_of_its_policies_says_alone(name, normalised):
    spec = replace(KINDS[name], normalize_observations=normalised)
    policies, counts = [drawn(spec, i) for i in range(4)], [3, 1, 20, 2]
    seen = 4 * torch.randn(sum(counts), 6, generator=generator())
    found = Team([policy.plain() for policy in policies], counts).parameters(seen.numpy())
    wanted = torch.cat(
        [parameters(policy, rows) for policy, rows in zip(policies, seen.split(counts), strict=True)]
    )
    assert found.shape == (26, spec.distribution.width)
    np.testing.assert_allclose(found, wanted.numpy(), atol=1e-6, rtol=1e-6)


def test_more_rows_than_a_product_may_have_are_computed_in_parts():
    policies = [drawn(PolicySpec(6, 3, "discrete", (128, 128)), i) for i in range(2)]
    counts = [17, 50]
    seen = torch.randn(67, 6, generator=generator())
    found = Team([policy.plain() for policy in policies], counts).parameters(seen.numpy())
    for policy, rows, own in zip(policies, seen.split(counts), np.split(found, [17]), strict=True):
        np.testing.assert_allclose(own, parameters(policy, rows).numpy(), atol=2e-6)


def test_what_a_policy_says_does_not_depend_on_who_else_is_in_its_team():
    plain = [drawn(KINDS["continuous"], i).plain() for i in range(5)]
    seen = np.random.default_rng(0).normal(size=(15, 6)).astype(np.float32)
    alone = Team([plain[2]], [4]).parameters(seen[5:9])
    assert np.array_equal(Team(plain, [2, 3, 4, 5, 1]).parameters(seen)[5:9], alone)
    assert np.array_equal(Team([plain[2], plain[0]], [4, 6]).parameters(seen[5:])[:4], alone)


@pytest.mark.parametrize("hidden", [(8, 5), (1, 1)], ids=str)
def test_a_plain_policy_is_a_copy(hidden):
    policy = drawn(PolicySpec(6, 1, "discrete", hidden), 1)
    plain, seen = policy.plain(), np.ones((1, 6), np.float32)
    before = Team([plain], [1]).parameters(seen)
    policy.load_arrays(drawn(policy.spec, 2).arrays())
    assert np.array_equal(Team([plain], [1]).parameters(seen), before)


def test_kinds_differ_where_arrays_do():
    spec = KINDS["discrete"]
    others = [
        replace(spec, hidden=(8,)),
        replace(spec, hidden=(5, 8)),
        replace(spec, normalize_observations=True),
        KINDS["continuous"],
    ]
    kinds = {Policy(one, generator()).plain().kind for one in (spec, *others)}
    assert len(kinds) == 5
    assert isinstance(Policy(spec, generator(1)).plain(), Plain)


# Banks


@pytest.mark.parametrize("name", NAMES)
def test_a_mixed_bank_plays_each_row_as_its_snapshot_would(name):
    spec = KINDS[name]
    own = [
        spec,
        spec,
        replace(spec, hidden=(7,)),
        replace(spec, recurrent="gru", recurrent_size=3),
        replace(spec, normalize_observations=True),
        replace(spec, hidden=(300, 300)),
        replace(spec, hidden=(7,)),
    ]
    policies = [[drawn(one, 2 * i), drawn(one, 2 * i + 1)] for i, one in enumerate(own)]
    bank = PolicyBank(spec, lambda number: snapshot_of(policies[number]))
    ear = listening(bank, spec)
    rng = np.random.default_rng(1)
    masks = torch.ones(60, spec.actions, dtype=torch.bool)
    for _ in range(3):
        ids, which = rng.integers(-1, 7, 60), rng.integers(0, 2, 60)
        seen = torch.from_numpy(rng.normal(size=(60, 6)).astype(np.float32))
        states = torch.from_numpy(rng.normal(size=(60, 3)).astype(np.float32))
        for _ in range(2):  # the second time who plays is known
            chance = int(rng.integers(1000))
            actions, after = bank.act(seen, masks, ids, which, states, generator(chance))
            assert torch.equal(actions, spec.distribution.sample(ear.heard, masks, generator(chance)))
            for row, (i, p) in enumerate(zip(ids, which, strict=True)):
                if i == RANDOM:
                    assert (ear.heard[row] == 0).all()
                    continue
                policy = policies[i][p]
                with torch.no_grad():
                    outputs, memory = policy.actor(
                        policy.encode(seen[[row]]), states[[row]] if own[i].recurrent == "gru" else None
                    )
                    wanted = policy.parameters_of(outputs)[0]
                torch.testing.assert_close(ear.heard[row], wanted, atol=1e-6, rtol=1e-5)
                kept = states[row] if memory is None else memory[0]
                torch.testing.assert_close(after[row], kept, atol=1e-6, rtol=1e-5)


def test_a_bank_plays_the_same_bit_by_bit_whatever_it_has_loaded():
    spec = KINDS["continuous"]
    snapshots = [snapshot_of([drawn(spec, i)]) for i in range(6)]
    few, many = (PolicyBank(spec, snapshots.__getitem__) for _ in range(2))
    zeros, seen = np.zeros(4, np.int64), torch.randn(4, 6, generator=generator())
    many.act(torch.zeros(6, 6), None, np.arange(6), np.zeros(6, np.int64), None, generator())
    ids = np.array([3, 1, 3, 1])
    for _ in range(2):
        one, other = (bank.act(seen, None, ids, zeros, None, generator(4))[0] for bank in (few, many))
        assert torch.equal(one, other)
        many.act(torch.zeros(4, 6), None, np.array([0, 1, 4, 5]), zeros, None, generator())


def test_the_least_recently_used_is_dropped_though_who_plays_is_known():
    spec, loaded = KINDS["discrete"], []

    def load(number):
        loaded.append(number)
        return snapshot_of([drawn(spec, number)])

    bank = PolicyBank(spec, load, capacity=2)

    def play(*ids):
        seen = torch.zeros(len(ids), 6)
        bank.act(seen, None, np.array(ids), np.zeros(len(ids), np.int64), None, generator())

    play(0, 1)
    play(1, 1)
    play(0, 0)
    assert loaded == [0, 1]
    play(2, 0)  # 1 was used longer ago than 0
    play(0, 2)
    assert loaded == [0, 1, 2]
    play(1, 1)
    assert loaded == [0, 1, 2, 1], "what was known of 1 went with it, and now 0 goes"
    play(2, 2)
    assert loaded == [0, 1, 2, 1]
    play(0, 2)
    assert loaded == [0, 1, 2, 1, 0]


def test_snapshots_are_read_again_where_more_play_than_are_kept():
    spec, loaded = KINDS["discrete"], []

    def load(number):
        loaded.append(number)
        return snapshot_of([drawn(spec, number)])

    bank, alone = PolicyBank(spec, load, capacity=1), PolicyBank(spec, load)
    seen, zeros, ids = torch.randn(3, 6, generator=generator()), np.zeros(3, np.int64), np.array([0, 1, 2])
    for _ in range(2):
        actions, _ = bank.act(seen, None, ids, zeros, None, generator(1))
        assert torch.equal(actions, alone.act(seen, None, ids, zeros, None, generator(1))[0])
    assert loaded == [0, 1, 2, 0, 1, 2, 0, 1, 2]


def test_a_policy_that_a_snapshot_has_not_is_refused_each_time():
    spec = KINDS["discrete"]
    bank = PolicyBank(spec, lambda number: snapshot_of([drawn(spec, number)]))
    for _ in range(2):
        with pytest.raises(PoolError, match="policy 1 was asked for"):
            bank.act(torch.zeros(2, 6), None, np.array([0, 0]), np.array([0, 1]), None, generator())

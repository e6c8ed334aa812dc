"""The bank: each row by its own policy of its own snapshot, with its own memory."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from macurr.errors import PoolError, StateError
from macurr.opponents import AgentPool
from macurr.training import Policy
from macurr.training.opponents import RANDOM, PolicyBank, policies_of, snapshot_of
from macurr.training.policy import PolicySpec

KINDS = {
    "discrete": PolicySpec(4, 3, "discrete", (8,)),
    "multidiscrete": PolicySpec(4, 5, "multidiscrete", (8,), nvec=(2, 3)),
    "continuous": PolicySpec(4, 2, "continuous", (8, 8)),
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def ints(*numbers):
    return np.array(numbers, np.int64)


def sure(spec, choice):
    """A policy that always does the same, whatever it sees: action `choice` of every part, or that number."""
    policy = Policy(spec, generator(choice))
    with torch.no_grad():
        last = policy.actor.last
        last.weight.zero_()
        last.bias.zero_()
        if spec.kind == "continuous":
            last.bias.fill_(float(choice))
            policy.log_std.fill_(-20.0)
        else:
            start = 0
            for n in spec.nvec or (spec.actions,):
                last.bias[start + choice % n] = 50.0
                start += n
    return policy


def wanted(spec, choice):
    if spec.kind == "continuous":
        return [float(choice)] * spec.actions
    return [choice % n for n in spec.nvec] if spec.nvec else choice % spec.actions


@pytest.mark.parametrize("spec", KINDS.values(), ids=KINDS)
def test_each_row_is_played_by_its_own_policy_of_its_own_snapshot(spec):
    # Snapshot i holds two policies, which choose i and i + 1.
    snapshots = {i: snapshot_of([sure(spec, i), sure(spec, i + 1)]) for i in range(3)}
    bank = PolicyBank(spec, snapshots.__getitem__)
    ids, policies = ints(2, 0, 0, 1, 2, 1, 0), ints(0, 1, 0, 1, 1, 0, 1)
    actions, states = bank.act(torch.zeros(7, 4), None, ids, policies, None, generator())
    assert states is None
    found = actions.tolist()
    for row, i, p in zip(found, ids, policies, strict=True):
        assert np.allclose(row, wanted(spec, int(i + p)), atol=1e-3)


def test_the_least_recently_used_snapshot_is_dropped_and_read_once_for_all_its_policies():
    spec, loaded = KINDS["discrete"], []

    def load(number):
        loaded.append(number)
        return snapshot_of([sure(spec, number), sure(spec, number)])

    bank = PolicyBank(spec, load, capacity=2)
    bank.act(torch.zeros(5, 4), None, ints(0, 0, 1, 2, 1), ints(0, 1, 0, 0, 1), None, generator())
    assert loaded == [0, 1, 2]
    bank.act(torch.zeros(2, 4), None, ints(1, 2), ints(0, 0), None, generator())
    assert loaded == [0, 1, 2]
    bank.act(torch.zeros(1, 4), None, ints(0), ints(1), None, generator())
    bank.act(torch.zeros(1, 4), None, ints(2), ints(1), None, generator())
    assert loaded == [0, 1, 2, 0], "1 was used longer ago than 2"


@pytest.mark.parametrize("kind", KINDS)
def test_a_snapshot_acts_as_the_policy_that_it_was_taken_of(kind, tmp_path):
    spec = replace(KINDS[kind], agents=1, normalize_observations=True, normalize_returns=True)
    policy = Policy(spec, generator(1))
    policy.normaliser.merge(torch.randn(50, 4, generator=generator()) * 3 + 2)
    pool = AgentPool(tmp_path)
    number = pool.add(snapshot_of([policy]), policies=1)
    bank = PolicyBank(spec, pool.get)
    seen = torch.randn(30, 4, generator=generator(2))
    masks = torch.ones(30, spec.actions, dtype=torch.bool)
    masks[::2, 0] = False
    actions, _ = bank.act(seen, masks, np.full(30, number), np.zeros(30, np.int64), None, generator(3))
    assert torch.equal(actions, policy.act(seen, masks, None, generator(3))[0])


def test_images_are_played_on():
    spec = PolicySpec(5 * 5 * 2 + 1, 3, "discrete", (8,), agents=1, image=(5, 5, 2))
    policy = Policy(spec, generator(1))
    seen = torch.randint(0, 256, (20, spec.features), generator=generator(2)).to(torch.uint8)
    bank = PolicyBank(spec, lambda i: snapshot_of([policy]))
    actions, _ = bank.act(seen, None, ints(*[4] * 20), ints(*[0] * 20), None, generator(3))
    assert torch.equal(actions, policy.act(seen, None, None, generator(3))[0])


# Memories


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_each_row_remembers_by_its_own_policy(kind):
    spec = PolicySpec(4, 2, "continuous", (8,), recurrent=kind, recurrent_size=3)
    policies = [Policy(spec, generator(i)) for i in range(2)]
    with torch.no_grad():
        for policy in policies:
            policy.log_std.fill_(-20.0)
    bank = PolicyBank(spec, lambda i: snapshot_of(policies))
    assert bank.state_size == spec.actor_state_size
    state, alone = bank.initial_state(4), policies[0].initial_state(4)
    mine = [policy.initial_state(4) for policy in policies]
    who = ints(0, 1, 1, 0)
    assert alone.shape == (4, spec.state_size)
    for t in range(3):
        seen = torch.randn(4, 4, generator=generator(t))
        before = state.clone()
        actions, after = bank.act(seen, None, ints(7, 7, 7, 7), who, state, generator())
        assert torch.equal(state, before), "the states given are left alone"
        state = after
        for p, policy in enumerate(policies):
            chosen, mine[p] = policy.act(seen, None, mine[p], generator())
            rows = who == p
            assert torch.allclose(actions[rows], chosen[rows], atol=1e-5)
            assert torch.allclose(state[rows], mine[p][rows, : bank.state_size], atol=1e-6)
    assert (mine[0][:, bank.state_size :] == 0).all(), "acting alone leaves the critic's memory"


def test_policies_with_and_without_a_memory_and_of_other_depths_meet():
    plain = PolicySpec(4, 3, "discrete", (8,))
    snapshots = {
        0: snapshot_of([sure(plain, 0)]),
        1: snapshot_of([sure(PolicySpec(4, 3, "discrete", (16, 4), recurrent="lstm", recurrent_size=5), 1)]),
        2: snapshot_of([sure(PolicySpec(4, 3, "discrete", (), recurrent="gru", recurrent_size=2), 2)]),
        3: sure(plain, 1).arrays(),  # of a run with one policy, whose arrays bear no policy's name
    }
    bank = PolicyBank(plain, snapshots.__getitem__)
    ids, states = ints(0, 1, 2, 3, 1, RANDOM), torch.zeros(6, 10)
    actions, after = bank.act(torch.ones(6, 4), None, ids, ints(0, 0, 0, 0, 0, 0), states, generator())
    assert actions[:5].tolist() == [0, 1, 2, 1, 1]
    used = (after != 0).tolist()
    assert used[0] == used[3] == used[5] == [False] * 10
    assert used[1] == used[4] == [True] * 10
    assert used[2] == [True] * 2 + [False] * 8
    for narrow in (None, torch.zeros(6, 9)):
        with pytest.raises(PoolError, match="Snapshot 1 remembers 10"):
            bank.act(torch.ones(6, 4), None, ids, ints(0, 0, 0, 0, 0, 0), narrow, generator())


# Chance


def test_random_is_uniform_over_what_is_allowed():
    bank = PolicyBank(KINDS["discrete"], lambda i: {})
    masks = torch.tensor([True, False, True]).repeat(3000, 1)
    actions, _ = bank.act(
        torch.zeros(3000, 4), masks, np.full(3000, RANDOM), np.zeros(3000), None, generator()
    )
    assert torch.bincount(actions, minlength=3).tolist() == pytest.approx([1500, 0, 1500], abs=120)


def test_random_parts_are_uniform_and_random_numbers_are_standard_normal():
    nobody, first = np.full(3000, RANDOM), np.zeros(3000, np.int64)
    parts, _ = PolicyBank(KINDS["multidiscrete"], dict).act(
        torch.zeros(3000, 4), None, nobody, first, None, generator()
    )
    assert torch.bincount(parts[:, 0]).tolist() == pytest.approx([1500] * 2, abs=120)
    assert torch.bincount(parts[:, 1]).tolist() == pytest.approx([1000] * 3, abs=120)
    numbers, _ = PolicyBank(KINDS["continuous"], dict).act(
        torch.zeros(3000, 4), None, nobody, first, None, generator()
    )
    assert (numbers.mean().item(), numbers.std().item()) == pytest.approx((0, 1), abs=0.05)


def test_nobody_to_play_is_nothing_to_do():
    bank = PolicyBank(KINDS["continuous"], dict)
    actions, _ = bank.act(torch.zeros(0, 4), None, ints(), ints(), None, generator())
    assert actions.shape == (0, 2)


# Snapshots


def test_the_policies_of_a_snapshot_come_back_in_order():
    policies = [sure(KINDS["discrete"], i) for i in range(12)]
    found = policies_of(snapshot_of(policies))
    assert len(found) == 12
    for policy, arrays in zip(policies, found, strict=True):
        own = policy.arrays()
        assert arrays.keys() == own.keys()
        assert all(np.array_equal(arrays[name], own[name]) for name in own)
    broken = {
        name: array for name, array in snapshot_of(policies[:3]).items() if not name.startswith("policy_1.")
    }
    with pytest.raises(StateError, match="policy_1"):
        policies_of(broken)


def test_snapshots_that_do_not_fit_are_refused_by_their_number():
    spec = KINDS["discrete"]
    snapshots = {
        0: snapshot_of([sure(spec, 0)]),
        5: snapshot_of([sure(PolicySpec(9, 3, "discrete", (8,)), 0)]),
        6: {"policy_0.something": np.zeros(3)},
        7: {},
    }
    bank = PolicyBank(spec, snapshots.__getitem__)
    for number in (5, 6, 7):
        with pytest.raises(PoolError, match=f"Snapshot {number} is of another architecture"):
            bank.act(torch.zeros(1, 4), None, ints(number), ints(0), None, generator())
    for policy in (1, -1):
        with pytest.raises(PoolError, match=f"holds 1 policies; policy {policy} "):
            bank.act(torch.zeros(1, 4), None, ints(0), ints(policy), None, generator())

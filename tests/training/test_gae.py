"""Advantages: by hand, by the curriculum's own formula, and by brute force over each stream's acts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from macurr.curricula.plr.scores import gae_advantages
from macurr.training.gae import advantages


def column(*values, dtype=np.float32):
    return np.array(values, dtype)[:, None]


def test_by_hand():
    # delta_1 = 2 + 0.5 * 4 - 3 = 1, delta_0 = 1 + 0.5 * 3 - 2 = 0.5; A_0 = 0.5 + 0.5 * 0.5 * 1.
    out = advantages(
        column(1, 2), column(2, 3), column(0, 0, dtype=bool), np.array([4], np.float32), 0.5, 0.5
    )
    assert out[:, 0].tolist() == [0.75, 1.0]


def test_nothing_flows_over_the_end_of_an_episode():
    # The first episode ends with step 0: A_0 = 1 - 2. The second: A_1 = 2 + 0.5 * 4 - 3.
    out = advantages(
        column(1, 2), column(2, 3), column(1, 0, dtype=bool), np.array([4], np.float32), 0.5, 0.5
    )
    assert out[:, 0].tolist() == [-1.0, 1.0]


@given(
    data=st.lists(st.tuples(st.floats(-5, 5, width=32), st.floats(-5, 5, width=32)), min_size=1, max_size=12),
    last=st.floats(-5, 5, width=32),
    gamma=st.floats(0, 1),
    trace=st.floats(0, 1),
)
def test_agrees_with_the_curriculum_s_own_formula(data, last, gamma, trace):
    rewards, values = (np.array(part, np.float32) for part in zip(*data, strict=True))
    dones = np.zeros(len(data), bool)[:, None]
    out = advantages(rewards[:, None], values[:, None], dones, np.array([last], np.float32), gamma, trace)
    wanted = gae_advantages(rewards, values, last, gamma=gamma, gae_lambda=trace)
    assert out[:, 0] == pytest.approx(wanted, abs=2e-3)


def test_a_turn_based_game_by_hand():
    # Two acts, at 0 and 2; the other player's turns pay, too, and the last of them ends the game.
    out = advantages(
        column(1, 10, 2, 20),
        column(3, 99, 5, 99),
        column(0, 0, 0, 1, dtype=bool),
        np.array([77], np.float32),
        0.5,
        0.5,
        valid=column(1, 0, 1, 0, dtype=bool),
    )
    # A_2 = 22 - 5; A_0 = 11 + 0.5 * 5 - 3 + 0.25 * 17.
    assert out[:, 0].tolist() == [14.75, 0, 17, 0]


def test_what_is_paid_after_an_agent_s_death_goes_to_its_last_act():
    # It dies with step 1 in a game that goes on to step 3; the next game begins with step 4.
    out = advantages(
        column(0, 1, 4, 8, 2),
        column(0, 3, 0, 0, 1),
        column(0, 1, 0, 1, 0, dtype=bool),
        np.array([6], np.float32),
        0.5,
        1.0,
        valid=column(1, 1, 0, 0, 1, dtype=bool),
        starts=column(1, 0, 0, 0, 1, dtype=bool),
    )
    # A_4 = 2 + 0.5 * 6 - 1; A_1 = 13 - 3; A_0 = 0.5 * 3 - 0 + 0.5 * 10.
    assert out[:, 0].tolist() == [6.5, 10, 0, 0, 4]


def test_what_is_paid_before_the_first_act_of_an_episode_is_not_the_last_one_s():
    # Step 0 ends its game; in the next one the other player begins, and step 1 pays 8 for nothing.
    given_ = (
        column(1, 8, 2),
        column(0, 0, 3),
        column(1, 0, 0, dtype=bool),
        np.zeros(1, np.float32),
        0.5,
        1.0,
    )
    valid, starts = column(1, 0, 1, dtype=bool), column(1, 1, 0, dtype=bool)
    assert advantages(*given_, valid=valid, starts=starts)[:, 0].tolist() == [1, 0, -1]
    assert advantages(*given_, valid=valid)[:, 0].tolist() == [9, 0, -1], "without starts nobody can know"


def by_brute_force(rewards, values, dones, last, gamma, trace, valid, starts):
    """One stream: the acts gathered first, then the sums as they are written in the paper."""
    steps = len(rewards)
    acts = [t for t in range(steps) if valid[t]]
    paid, over = {}, {}
    for i, t in enumerate(acts):
        until = acts[i + 1] if i + 1 < len(acts) else steps
        mine = [t, *range(t + 1, until)]
        fresh = [u for u in mine[1:] if starts[u]] + ([until] if until < steps and starts[until] else [])
        mine = [u for u in mine if not fresh or u < fresh[0]]
        paid[t] = sum(float(rewards[u]) for u in mine)
        over[t] = bool(fresh) or any(dones[u] for u in mine)
    out = np.zeros(steps)
    following = {
        t: float(values[acts[i + 1]]) if i + 1 < len(acts) else float(last) for i, t in enumerate(acts)
    }
    deltas = {t: paid[t] + gamma * following[t] * (not over[t]) - float(values[t]) for t in acts}
    for i, t in enumerate(acts):
        weight = 1.0
        for u in acts[i:]:
            out[t] += weight * deltas[u]
            if over[u]:
                break
            weight *= gamma * trace
    return out


@given(
    data=st.lists(
        st.tuples(
            st.floats(-5, 5, width=32),
            st.floats(-5, 5, width=32),
            st.booleans(),
            st.booleans(),
            st.booleans(),
        ),
        min_size=1,
        max_size=14,
    ),
    last=st.floats(-5, 5, width=32),
    gamma=st.floats(0, 1),
    trace=st.floats(0, 1),
)
def test_agrees_with_brute_force_over_each_stream_s_acts(data, last, gamma, trace):
    rewards, values, dones, valid, ends = (np.array(part) for part in zip(*data, strict=True))
    # An episode begins where one ended for everybody; an agent may be done before.
    starts = np.concatenate([[True], ends[:-1]])
    dones = dones | ends
    given_ = (rewards, values, dones, last, gamma, trace, valid, starts)
    wanted = by_brute_force(*given_)
    out = advantages(
        rewards.astype(np.float32)[:, None],
        values.astype(np.float32)[:, None],
        dones[:, None],
        np.array([last], np.float32),
        gamma,
        trace,
        valid=valid[:, None],
        starts=starts[:, None],
    )
    assert out.dtype == np.float32
    assert out[:, 0] == pytest.approx(wanted, abs=5e-3)
    assert (out[~valid] == 0).all()


def test_streams_are_apart_and_where_all_act_valid_changes_nothing():
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=(2, 20, 5)).astype(np.float32)
    dones, last = rng.random((20, 5)) < 0.2, rng.normal(size=5).astype(np.float32)
    plain = advantages(rewards, values, dones, last, 0.9, 0.8)
    assert np.array_equal(plain, advantages(rewards, values, dones, last, 0.9, 0.8, np.ones_like(dones)))
    valid = rng.random((20, 5)) < 0.6
    together = advantages(rewards, values, dones, last, 0.9, 0.8, valid)
    for s in range(5):
        alone = advantages(rewards[:, [s]], values[:, [s]], dones[:, [s]], last[[s]], 0.9, 0.8, valid[:, [s]])
        assert np.array_equal(together[:, [s]], alone)

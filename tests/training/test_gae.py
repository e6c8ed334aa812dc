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

"""Rollouts collected from groups of environments."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from macurr import errors, make_local_curriculum, make_multiprocessing_curriculum
from macurr.curricula import Constant
from macurr.errors import ConfigError, CurriculumError, StateError, TransportError, UsageError
from macurr.spaces import DiscreteTaskSpace
from macurr.training.config import ModelConfig
from macurr.training.rollout import NOBODY, merged
from tests.support.collecting import constant, rig, source

TAG = "mpe2.simple_tag_v3"
SPREAD = "mpe2.simple_spread_v3"
ARRAYS = (
    "observations",
    "actions",
    "rewards",
    "dones",
    "values",
    "valid",
    "starts",
    "log_probs",
    "policies",
    "versions",
    "last_values",
    "cut_steps",
    "cut_streams",
    "cut_values",
)


def level_only(level=3):
    return Constant(DiscreteTaskSpace(9), level)


def one(name, steps, **options):
    with make_local_curriculum(constant()) as synced, rig(source(name), synced, steps, **options) as made:
        [rollout] = made.collect()
        return rollout, made


def test_one_rollout_by_hand():
    rollout, made = one("Duel", 7)
    assert rollout.observations.shape == (7, 4, 6)
    # Seats alternate: left sees the time in its first feature, right one-hot; both are indicated.
    assert rollout.observations[2, 0].tolist() == [2, 0.5, 0, 0, 1, 0]
    assert rollout.observations[2, 1].tolist() == [0, 0, 1, 0, 0, 1]
    assert rollout.valid.all()
    assert np.flatnonzero(rollout.dones[:, 0]).tolist() == [4]
    assert np.flatnonzero(rollout.starts[:, 0]).tolist() == [0, 5]
    # Two seats of each environment: the learner's and that of the opponent of its task.
    assert made.bank.ids == [3] * 4 * 7
    assert [(e.env, e.step, e.opponent, e.level, e.length) for e in rollout.episodes] == [
        (i, 4, 3, 7, 5) for i in range(4)
    ]
    assert (rollout.samples, rollout.env_steps) == (28, 28)
    for episode in rollout.episodes:
        assert episode.contested
        assert episode.others_return == -episode.learner_return
        assert episode.returns == (episode.learner_return,)
        assert rollout.rewards[:5, episode.env].sum() == pytest.approx(episode.learner_return, abs=1e-5)
        assert episode.outcome == np.sign(episode.learner_return)
    # All were truncated at the fifth step: what they saw last is worth something.
    assert rollout.cut_steps.tolist() == [4] * 4
    assert rollout.cut_streams.tolist() == [0, 1, 2, 3]
    last = torch.tensor([[5, 0.5, 0, 0, 1, 0], [0, 1, 0, 0, 0, 1]] * 2, dtype=torch.float32)
    wanted = made.live.policies[0].values(last).numpy()
    assert np.allclose(rollout.cut_values, wanted)
    estimates = rollout.advantages(0.9, 0.95)
    delta = rollout.rewards[4] + 0.9 * wanted - rollout.values[4]
    assert np.allclose(estimates[4], delta, atol=1e-6)
    assert np.allclose(rollout.last_values, made.live.policies[0].values(torch.tensor(_seen_at(2))).numpy())


def _seen_at(t):
    left, right = [t, 0.5, 0, 0, 1, 0], [*np.eye(4)[t], 0, 1]
    return np.array([left, right] * 2, np.float32)


def test_the_right_player_has_only_two_of_three_actions():
    rollout, _ = one("Duel", 40)
    assert set(rollout.actions[:, 0].tolist()) == {0, 1, 2}
    assert set(rollout.actions[:, 1].tolist()) == {0, 1}
    assert rollout.masks[:, 1].tolist() == [[True, True, False]] * 40


def test_action_masks_are_kept_by_everybody():
    rollout, _ = one("Masked", 12)  # the environment asserts them
    assert rollout.masks[:3, 0].tolist() == [[True, False], [False, True], [True, False]]


def test_continuous_actions_reach_the_environment_as_members_of_their_spaces():
    rollout, _ = one("Reacher", 12)
    assert rollout.actions.shape == (12, 4, 2)
    assert np.isfinite(rollout.log_probs).all()


def test_steps_after_an_agent_s_death_are_no_data():
    rollout, _ = one("Ragged", 10)
    left, right = rollout.valid[:, 0], rollout.valid[:, 1]
    assert left.all()
    assert right.tolist() == ([True] * 2 + [False] * 3) * 2
    # It died by the rules: its last value is not bootstrapped, and nothing of the next episode flows in. What it is
    # paid after its death belongs to its last step.
    estimates = rollout.advantages(0.9, 0.95)
    delta = rollout.rewards[1:5, 1].sum() - rollout.values[1, 1]
    assert estimates[1, 1] == pytest.approx(delta, abs=1e-6)
    assert (estimates[2:5, 1] == 0).all()
    assert (rollout.log_probs[~rollout.valid] == 0).all()
    assert rollout.starts[:, 1].tolist() == ([True] + [False] * 4) * 2
    assert [e.length for e in rollout.episodes] == [5] * 8


def test_several_learners_of_an_environment_are_streams_of_their_own():
    seats = [(0, 1, 2), (3,), (0, 1, 2)]
    with (
        make_local_curriculum(constant()) as synced,
        rig(source(TAG), synced, 26, envs=3, seats=seats, policies=2, mapping="role") as made,
    ):
        [rollout] = made.collect()
    assert rollout.env_of.tolist() == [0, 0, 0, 1, 2, 2, 2]
    assert rollout.agent_of.tolist() == [0, 1, 2, 3, 0, 1, 2]
    # Adversaries by policy 0, the one they chase by policy 1; so with the opponents.
    assert rollout.policies[0].tolist() == [0, 0, 0, 1, 0, 0, 0]
    assert made.bank.policies[:5] == [1, 0, 0, 0, 1]
    assert rollout.samples == 26 * 7
    assert rollout.env_steps == 26 * 3
    first, chased, _ = rollout.episodes
    assert (first.policies, chased.policies) == ((0, 0, 0), (1,))
    assert len(first.returns) == 3
    assert first.learner_return == pytest.approx(np.mean(first.returns))
    assert chased.others_return == pytest.approx(rollout.episodes[1].others_return)
    assert rollout.rewards[:25, 0].sum() == pytest.approx(first.returns[0], rel=1e-4)


def test_where_everybody_learns_nobody_is_played_by_the_past():
    with (
        make_local_curriculum(level_only()) as synced,
        rig(
            source(SPREAD),
            synced,
            25,
            envs=2,
            seats=[(0, 1, 2)] * 2,
            alone=True,
            model=ModelConfig(hidden=(8,), centralised_critic=True),
        ) as made,
    ):
        [rollout] = made.collect()
    assert made.bank.ids == []
    assert [(e.opponent, e.level, e.contested, e.others_return) for e in rollout.episodes] == [
        (NOBODY, 3, False, 0.0)
    ] * 2
    # The centralised critic sees the rows of all agents of an environment.
    assert rollout.central.shape == (25, 2, 3 * made.layout.features)
    assert rollout.central_of.tolist() == [0, 0, 0, 1, 1, 1]
    assert np.array_equal(rollout.central[7, 1], rollout.observations[7, 3:].ravel())
    whole = torch.from_numpy(rollout.central[7][rollout.central_of])
    again = made.live.policies[0].values(torch.from_numpy(rollout.observations[7]), None, whole)
    assert np.allclose(again.numpy(), rollout.values[7])


def test_policies_change_between_episodes_only():
    with (
        make_local_curriculum(constant()) as synced,
        rig(source("Duel"), synced, 32, envs=6, policies=3, mapping="random", episodes=2) as made,
    ):
        made.live.versions[:] = [10, 20, 30]
        [rollout] = made.collect()
    changes = rollout.policies[1:] != rollout.policies[:-1]
    assert changes.any()
    assert not (changes & ~rollout.starts[1:]).any()
    assert np.array_equal(rollout.versions, 10 * (rollout.policies.astype(int) + 1))
    for number, policy in enumerate(made.live.policies):
        rows = rollout.policies == number
        assert rows.any()
        assert np.allclose(
            policy.values(torch.from_numpy(rollout.observations[rows])).numpy(), rollout.values[rows]
        )
    for episode in rollout.episodes:
        assert episode.policies == (rollout.policies[episode.step, episode.env],)
        assert rollout.version_of(episode) == 10 * (episode.policies[0] + 1)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_memories_begin_anew_with_every_episode(kind):
    model = ModelConfig(hidden=(8,), recurrent=kind, recurrent_size=4)
    with make_local_curriculum(constant()) as synced, rig(source("Duel"), synced, 7, model=model) as made:
        first, second = made.collect(2)
    policy = made.live.policies[0]
    assert not first.state0.any()
    assert second.state0.any(), "the second rollout begins in mid-episode"
    # Replayed step by step, the policy expects what it expected.
    for rollout in (first, second):
        state = torch.from_numpy(rollout.state0)
        for t in range(7):
            state = state * torch.from_numpy(~rollout.starts[t])[:, None]
            seen = torch.from_numpy(rollout.observations[t])
            step = policy.step(seen, None, state, torch.Generator())
            assert np.allclose(step.values.numpy(), rollout.values[t], atol=1e-6)
            state = step.state
    # So do the opponents': they count their steps here, five an episode.
    assert [int(states[0, 0]) for states in made.bank.states] == [0, 1, 2, 3, 4] * 2 + [0, 1, 2, 3]


def test_turns_leave_out_those_who_wait():
    with (
        make_local_curriculum(constant()) as synced,
        rig(source("pettingzoo.classic.connect_four_v3"), synced, 50) as made,
    ):
        [rollout] = made.collect()
    first = rollout.valid[:, 0]
    assert first[0]
    assert first[1:].sum() < 40
    assert not (first[1:] & first[:-1] & ~rollout.starts[1:, 0]).any(), "nobody moves twice in a row"
    assert rollout.masks[rollout.valid].any(axis=1).all()
    estimates = rollout.advantages(1.0, 1.0)
    for episode in rollout.episodes:
        steps = slice(0, episode.step + 1)
        acted = np.flatnonzero(rollout.valid[steps, episode.env])
        last = acted[-1]
        # With gamma = lambda = 1 the last move's return is what the game brought, whoever ended it.
        got = estimates[last, episode.env] + rollout.values[last, episode.env]
        assert got == pytest.approx(episode.learner_return, abs=1e-5)


def test_workers_collect_what_this_process_collects():
    with make_local_curriculum(constant()) as synced, rig(source("Duel"), synced, 7, envs=3) as made:
        [here] = made.collect()
    with (
        make_multiprocessing_curriculum(constant()) as synced,
        rig(source("Duel"), synced, 7, envs=3, local=False) as made,
    ):
        [there] = made.collect()
    for name in ARRAYS:
        assert np.array_equal(getattr(here, name), getattr(there, name)), name
    assert here.episodes == there.episodes


def test_every_group_plays_exactly_as_many_rollouts_as_asked():
    with (
        make_multiprocessing_curriculum(constant()) as synced,
        rig(source("Duel"), synced, 6, workers=2, splits=2, local=False) as made,
    ):
        rollouts = made.collect(3)
        assert [rollout.number for rollout in rollouts] == [0, 1, 2, 3] * 3
        assert not made.collector.busy
        assert made.collector.idle
        assert made.collector.take_steps() == 3 * 6 * 8
        whole = merged(made.collect())
    assert whole.env_of.tolist() == list(range(8))
    # Eighteen steps are behind them: three episodes and three steps of the fourth.
    assert np.flatnonzero(whole.starts[:, 5]).tolist() == [2]
    assert whole.valid.shape == (6, 8)


def test_merged_rollouts_are_their_parts_side_by_side():
    model = ModelConfig(hidden=(8,), recurrent="gru", recurrent_size=4, centralised_critic=True)
    seats = [(0, 1), (0, 1)] * 2
    with (
        make_local_curriculum(level_only()) as synced,
        rig(source("Duel"), synced, 7, splits=2, seats=seats, alone=True, model=model) as made,
    ):
        parts = made.collect(2)
    whole = merged(parts)
    assert whole.env_of.tolist() == [0, 0, 1, 1, 2, 2, 3, 3] * 2
    for at, part in enumerate(parts):
        columns = slice(4 * at, 4 * at + 4)
        for name in ("observations", "values", "policies", "starts"):
            assert np.array_equal(getattr(whole, name)[:, columns], getattr(part, name))
        assert np.array_equal(whole.state0[columns], part.state0)
        assert np.array_equal(whole.central[:, whole.central_of[columns]], part.central[:, part.central_of])
    pieces = [part.advantages(0.9, 0.8) for part in parts]
    assert np.array_equal(whole.advantages(0.9, 0.8), np.concatenate(pieces, axis=1))


def test_environments_start_one_after_the_other_and_none_of_it_is_data():
    with make_local_curriculum(constant()) as synced, rig(source("Duel"), synced, 4, warm_up=8) as made:
        [rollout] = made.collect()
    # They started after 0, 2, 4 and 6 of 8 steps; episodes are 5 steps long.
    assert [np.flatnonzero(rollout.starts[:, env]).tolist() for env in range(4)] == [[2], [], [1], [3]]
    assert [(e.env, e.length) for e in made.collector.strays] == [(0, 5), (1, 5)]
    assert [(e.env, e.step, e.length) for e in rollout.episodes] == [
        (2, 0, 5),
        (0, 1, 5),
        (3, 2, 5),
        (1, 3, 5),
    ]


def test_who_has_not_started_remembers_nothing():
    model = ModelConfig(hidden=(8,), recurrent="gru", recurrent_size=4)
    with (
        make_local_curriculum(constant()) as synced,
        rig(source("Duel"), synced, 7, model=model, warm_up=8) as made,
    ):
        [rollout] = made.collect()
    for env, start in enumerate((0, 2, 4, 6)):
        # Opponents count their steps here, five an episode.
        counts = [int(states[env, 0]) for states in made.bank.states]
        assert counts == [0] * start + [t % 5 for t in range(15 - start)]
    # The last one has played two steps, of which it alone remembers.
    policy, state = made.live.policies[0], None
    for t in (0, 1):
        seen = torch.from_numpy(rollout.observations[3 + t, 3:4])
        state = policy.step(seen, None, state, torch.Generator()).state
    assert rollout.starts[3, 3]
    assert np.allclose(rollout.state0[3], state.numpy()[0], atol=1e-6)


def test_a_pause_stops_everybody_where_they_are():
    with (
        make_multiprocessing_curriculum(constant()) as synced,
        rig(source("Duel"), synced, 6, splits=2, local=False) as made,
    ):
        found = []
        while len(found) < 3:
            found += made.collector.pump()
        made.collector.paused = True
        while made.collector.busy:
            found += made.collector.pump()
        made.collector.take_steps()
        assert made.collector.pump() == []
        assert made.collector.take_steps() == 0
        made.collector.paused = False
        more = []
        while len(more) < 4:
            more += made.collector.pump()
        for rollout in (*found, *more):
            assert rollout.valid.all()
            assert (rollout.log_probs < 0).all()


def test_environments_that_were_lost_begin_anew():
    with (
        make_multiprocessing_curriculum(constant()) as synced,
        rig(source("Duel"), synced, 7, workers=2, splits=2, local=False, restarts=1) as made,
    ):
        made.collect()
        process = made.vector.groups[2].process
        os.kill(process._process.pid, signal.SIGKILL)
        rollouts = made.collect(2)
        assert [rollout.number for rollout in rollouts] == [0, 1, 2, 3] * 2
        assert made.collector.restarted == 1
        lost = [rollout for rollout in rollouts[:4] if rollout.starts[0].all()]
        assert [rollout.number for rollout in lost] == [2, 3]
        for rollout in rollouts:
            assert (rollout.log_probs < 0).all()
        os.kill(made.vector.groups[0].process._process.pid, signal.SIGKILL)
        with pytest.raises(TransportError, match=r"1 workers.*worker_restarts=1"):
            made.collect()


def test_a_collector_goes_on_from_its_state():
    def go(rounds, state=None):
        with (
            make_local_curriculum(constant()) as synced,
            rig(
                source("Duel"),
                synced,
                7,
                splits=2,
                policies=2,
                mapping="random",
                episodes=1,
                reset=state is None,
            ) as made,
        ):
            if state is not None:
                synced.load_state_dict(state["curriculum"])
                assert made.collector.load_state_dict(state["collector"])
            before = made.collect(rounds - 1) if rounds > 1 else []
            kept = {"curriculum": synced.state_dict(), "collector": made.collector.state_dict(whole=True)}
            return before, kept, made.collect()

    _, kept, wanted = go(3)
    _, _, got = go(1, kept)
    for one_, other in zip(wanted, got, strict=True):
        for name in ARRAYS:
            assert np.array_equal(getattr(one_, name), getattr(other, name)), name
        assert one_.episodes == other.episodes


def test_a_state_of_other_groups_is_refused():
    with make_local_curriculum(constant()) as synced, rig(source("Duel"), synced, 7, splits=2) as made:
        state = made.collector.state_dict(whole=True)
    refused = pytest.raises(StateError, match="2 groups")
    with make_local_curriculum(constant()) as synced, rig(source("Duel"), synced, 7) as made, refused:
        made.collector.load_state_dict(state)


@pytest.mark.parametrize("local", [True, False])
def test_an_exception_in_an_environment_names_it_its_task_and_the_place(local):
    make = make_local_curriculum if local else make_multiprocessing_curriculum
    failed = pytest.raises(ConfigError)
    with (
        make(constant(level=5)) as synced,
        rig(source("Failing"), synced, 7, local=local) as made,
        failed as error,
    ):
        made.collect()
    text = str(error.value)
    assert "Failing failed on task [3, 5] with FloatingPointError: the lever broke" in text
    assert 'raise FloatingPointError("the lever broke")' in text


def test_a_worker_that_dies_is_noticed_at_once():
    died = pytest.raises(TransportError, match=r"Worker 0 \(process \d+\) died with status 7")
    with (
        make_multiprocessing_curriculum(constant()) as synced,
        rig(source("Dying"), synced, 7, local=False) as made,
        died,
    ):
        made.collect()


def test_a_failing_curriculum_reaches_the_learner():
    class Broken(Constant):
        def update_on_episode(self, *args, **kwargs):
            raise ZeroDivisionError("no score")

    space = constant().task_space
    broken = Broken(space, space.make([0, 0]))
    failed = pytest.raises(CurriculumError, match="no score")
    with (
        make_multiprocessing_curriculum(broken) as synced,
        rig(source("Duel"), synced, 20, local=False) as made,
        failed,
    ):
        made.collect()


def test_errors_of_workers_keep_their_kind():
    known = [name for name in dir(errors) if name.endswith(("Error", "Lost"))]
    assert {"ConfigError", "CurriculumError", "CurriculumLost", "TransportError"} <= set(known)


def test_a_rollout_needs_a_reset():
    refused = pytest.raises(UsageError, match="reset")
    with (
        make_local_curriculum(constant()) as synced,
        rig(source("Duel"), synced, 1, reset=False) as made,
        refused,
    ):
        made.collect()


def test_workers_import_neither_torch_nor_ray():
    code = (
        "import sys, macurr.training.worker; "
        "sys.exit(bool({'torch', 'ray', 'matplotlib', 'rich', 'tensorboard'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0

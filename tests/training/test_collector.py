"""Environments in groups, and rollouts collected from them."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from macurr import errors, make_local_curriculum, make_multiprocessing_curriculum
from macurr.curricula import Constant
from macurr.errors import ConfigError, CurriculumError, TransportError, UsageError
from macurr.spaces import DiscreteTaskSpace, TupleTaskSpace
from macurr.training.collector import Collector
from macurr.training.envs import EnvSource
from macurr.training.layout import Layout
from macurr.training.matches import Arena, seat_matches
from macurr.training.opponents import RANDOM, PolicyBank
from macurr.training.policy import Policy, PolicySpec
from macurr.training.stepping import FrameShape
from macurr.training.vector import VectorEnv
from macurr.training.worker import Job

HERE = "tests.support.training:"


def source(name, **args):
    return EnvSource(HERE + name, args)


def layout_of(src):
    return Layout(src.make(), src.path)


def constant(opponent=3, level=7):
    space = TupleTaskSpace([DiscreteTaskSpace(9), DiscreteTaskSpace(9)], names=["agent", "env"])
    return Constant(space, space.make([opponent, level]))


class Recording:
    """A bank whose opponents always play the same, and that remembers who played."""

    def __init__(self, spec, action=1):
        self.spec, self.action, self.ids = spec, action, []

    def act(self, rows, masks, ids, generator):
        self.ids.extend(ids.tolist())
        return PolicyBank(self.spec, dict).act(rows, masks, np.full(len(ids), RANDOM), generator)


def collecting(src, synced, steps, local=True, envs=4, workers=1):
    layout = layout_of(src)
    seats = [i % len(layout.agents) for i in range(envs * workers)]
    jobs = [Job(src, tuple(seats[w * envs : (w + 1) * envs]), 2, synced.components) for w in range(workers)]
    generator = torch.Generator().manual_seed(0)
    policy = Policy(PolicySpec.of(layout, (8,)), generator)
    bank = Recording(policy.spec)
    with VectorEnv(jobs, [FrameShape.of(layout, envs, 2)] * workers, local=local) as vector:
        collector = Collector(vector.groups, seats, layout, policy, bank, generator)
        collector.reset()
        return collector.collect(steps, 0.9), policy, bank, collector


def test_one_rollout_by_hand():
    with make_local_curriculum(constant()) as synced:
        rollout, policy, bank, _ = collecting(source("Duel"), synced, 7)
    assert rollout.observations.shape == (7, 4, 6)
    # Seats alternate: left sees the time in its first feature, right one-hot; both are indicated.
    assert rollout.observations[2, 0].tolist() == [2, 0.5, 0, 0, 1, 0]
    assert rollout.observations[2, 1].tolist() == [0, 0, 1, 0, 0, 1]
    assert rollout.valid.all()
    assert np.flatnonzero(rollout.dones[:, 0]).tolist() == [4]
    # Two seats of each environment: the learner's and that of the opponent of its task.
    assert bank.ids == [3] * 4 * 7
    assert [(e.env, e.step, e.opponent, e.level, e.length) for e in rollout.episodes] == [
        (i, 4, 3, 7, 5) for i in range(4)
    ]
    for episode in rollout.episodes:
        assert episode.others_return == -episode.learner_return
        column = rollout.rewards[:5, episode.env].copy()
        with torch.no_grad():
            last = [[5, 0.5, 0, 0, 1, 0], [0, 1, 0, 0, 0, 1]][episode.env % 2]
            column[4] -= 0.9 * policy.value(torch.tensor([last], dtype=torch.float32)).item()
        assert column.sum() == pytest.approx(episode.learner_return, abs=1e-5)
        assert episode.outcome == np.sign(episode.learner_return)


def test_the_right_player_has_only_two_of_three_actions():
    with make_local_curriculum(constant()) as synced:
        rollout, *_ = collecting(source("Duel"), synced, 40)
    assert set(rollout.actions[:, 0].tolist()) == {0, 1, 2}
    assert set(rollout.actions[:, 1].tolist()) == {0, 1}
    assert rollout.masks[:, 1].tolist() == [[True, True, False]] * 40


def test_action_masks_are_kept_by_everybody():
    with make_local_curriculum(constant()) as synced:
        rollout, *_ = collecting(source("Masked"), synced, 12)  # the environment asserts them
    assert rollout.masks[:3, 0].tolist() == [[True, False], [False, True], [True, False]]


def test_continuous_actions_reach_the_environment_as_members_of_their_spaces():
    with make_local_curriculum(constant()) as synced:
        rollout, *_ = collecting(source("Reacher"), synced, 12)
    assert rollout.actions.shape == (12, 4, 2)
    assert np.isfinite(rollout.log_probs).all()


def test_steps_after_an_agent_s_death_are_no_data():
    with make_local_curriculum(constant()) as synced:
        rollout, *_ = collecting(source("Ragged"), synced, 10)
    left, right = rollout.valid[:, 0], rollout.valid[:, 1]
    assert left.all()
    assert right.tolist() == ([True] * 2 + [False] * 3) * 2
    # It died by the rules: its last value is not bootstrapped, and nothing of the next episode flows in.
    estimates = rollout.advantages(0.9, 0.95)
    delta = rollout.rewards[1, 1] - rollout.values[1, 1]
    assert estimates[1, 1] == pytest.approx(delta, abs=1e-6)
    samples = rollout.samples(estimates)
    assert len(samples) == rollout.valid.sum() == 2 * 10 + 2 * 4
    assert [e.length for e in rollout.episodes] == [5] * 8


def test_workers_collect_what_this_process_collects():
    with make_local_curriculum(constant()) as synced:
        here, *_ = collecting(source("Duel"), synced, 7, envs=3)
    with make_multiprocessing_curriculum(constant()) as synced:
        there, *_ = collecting(source("Duel"), synced, 7, local=False, envs=3)
    for name in ("observations", "actions", "rewards", "dones", "values", "valid", "last_values"):
        assert np.array_equal(getattr(here, name), getattr(there, name)), name
    assert here.episodes == there.episodes


@pytest.mark.parametrize("local", [True, False])
def test_an_exception_in_an_environment_names_it_its_task_and_the_place(local):
    make = make_local_curriculum if local else make_multiprocessing_curriculum
    with make(constant(level=5)) as synced, pytest.raises(ConfigError) as error:
        collecting(source("Failing"), synced, 7, local=local)
    text = str(error.value)
    assert "Failing failed on task [3, 5] with FloatingPointError: the lever broke" in text
    assert 'raise FloatingPointError("the lever broke")' in text


def test_a_worker_that_dies_is_noticed_at_once():
    died = pytest.raises(TransportError, match=r"Worker 0 \(process \d+\) died with status 7")
    with make_multiprocessing_curriculum(constant()) as synced, died:
        collecting(source("Dying"), synced, 7, local=False)


def test_a_failing_curriculum_reaches_the_learner():
    class Broken(Constant):
        def update_on_episode(self, *args, **kwargs):
            raise ZeroDivisionError("no score")

    space = constant().task_space
    broken = Broken(space, space.make([0, 0]))
    failed = pytest.raises(CurriculumError, match="no score")
    with make_multiprocessing_curriculum(broken) as synced, failed:
        collecting(source("Duel"), synced, 20, local=False)


def test_errors_of_workers_keep_their_kind():
    known = [name for name in dir(errors) if name.endswith(("Error", "Lost"))]
    assert {"ConfigError", "CurriculumError", "CurriculumLost", "TransportError"} <= set(known)


def test_a_rollout_needs_a_reset():
    with make_local_curriculum(constant()) as synced:
        src = source("Duel")
        layout = layout_of(src)
        job = Job(src, (0,), 2, synced.components)
        policy = Policy(PolicySpec.of(layout, (4,)), torch.Generator())
        with VectorEnv([job], [FrameShape.of(layout, 1, 2)], local=True) as vector:
            collector = Collector(
                vector.groups, [0], layout, policy, Recording(policy.spec), torch.Generator()
            )
            with pytest.raises(UsageError, match="reset"):
                collector.collect(1, 0.9)


def test_workers_import_neither_torch_nor_ray():
    code = (
        "import sys, macurr.training.worker; "
        "sys.exit(bool({'torch', 'ray', 'matplotlib', 'rich', 'tensorboard'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_seats_and_pairs_of_matches():
    matches = seat_matches([(10, 20), (30, 40)], [5, 6], 2)
    assert matches.players.tolist() == [[10, 20], [20, 10]] * 2 + [[30, 40], [40, 30]] * 2
    assert matches.seeds.tolist() == [5, 5, 6, 6] * 2
    assert seat_matches([(1, 2)], [0], 3).players.tolist() == [[1, 2, 2], [2, 1, 2], [2, 2, 1]]


@pytest.mark.parametrize("workers", [0, 2])
def test_every_match_is_played_once_by_its_own_players(workers):
    src = source("Duel")
    layout = layout_of(src)
    spec = PolicySpec.of(layout, (4,))
    # Player i always plays action i; left wins with the higher action, right has actions 0 and 1 only.
    policies = {i: Policy(spec, torch.Generator()) for i in range(3)}
    with torch.no_grad():
        for i, policy in policies.items():
            policy.actor[-1].weight.zero_()
            policy.actor[-1].bias.copy_(torch.eye(3)[i] * 60)
    arena = Arena(src, layout, PolicyBank(spec, lambda i: policies[i].arrays()), torch.Generator(), workers)
    pairs = [(2, 1), (1, 0), (0, 1), (1, 1)]
    told = []
    returns = arena.play(seat_matches(pairs, range(3), 2), lambda done, total: told.append((done, total)))
    left = returns.reshape(4, 3, 2, 2)
    assert left[0, :, 0].tolist() == [[5, -5]] * 3  # 2 on the left beats 1
    assert left[1, :, 0].tolist() == [[5, -5]] * 3
    assert left[1, :, 1].tolist() == [[-5, 5]] * 3  # and from the right seat
    assert left[2, :, 0].tolist() == [[-5, 5]] * 3
    assert left[3].tolist() == [[[0, 0]] * 2] * 3
    assert told[-1] == (24, 24)


def test_nothing_to_play_is_refused():
    src = source("Duel")
    layout = layout_of(src)
    arena = Arena(src, layout, PolicyBank(PolicySpec.of(layout, (4,)), dict), torch.Generator(), 0)
    with pytest.raises(UsageError, match="no matches"):
        arena.play(seat_matches([], [1], 2))

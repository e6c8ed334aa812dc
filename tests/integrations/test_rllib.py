"""PPO of RLlib on real env runners under a curriculum: levels, scores, opponents, a kill, a checkpoint."""

import itertools
import os
import pickle
import shutil
import signal
import time
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from ray.rllib.callbacks.callbacks import RLlibCallback

from macurr import (
    DiscreteTaskSpace,
    StateError,
    UsageError,
    make_multiprocessing_curriculum,
    make_ray_curriculum,
)
from macurr.curricula import DomainRandomization, FictitiousSelfPlay, PrioritizedLevelReplay
from macurr.envs import apple_race_v0
from macurr.integrations.rllib import curriculum_ppo, make_curriculum_callback
from macurr.opponents import AgentPool
from macurr.wrappers import DualCurriculumWrapper, MultiagentSharedCurriculumWrapper, SeedTaskWrapper

pytestmark = [
    pytest.mark.xdist_group("ray"),
    pytest.mark.timeout(180),
    pytest.mark.usefixtures("ray_on_two_cpus"),
]

SEATS = ("player_0", "player_1")
LEVELS, CAPACITY = 30, 2
GAMMA, LAMBDA = 0.97, 0.9


def make_env(context):
    return SeedTaskWrapper(apple_race_v0.parallel_env(size=5, apples=3, max_cycles=20))


def seat(context):
    """One runner's environments learn in the first seat, the other's in the second."""
    return [SEATS[context.worker_index % 2]]


class Ledger(DualCurriculumWrapper):
    """Writes down what reaches the curriculum."""

    def __init__(self, *parts):
        super().__init__(*parts)
        self.results, self.scored, self.specs = [], [], {}

    def register_env(self, env_id, spec):
        super().register_env(env_id, spec)
        self.specs[env_id] = spec

    def update_on_episode(self, episode_return, length, task, progress, env_id=None):
        super().update_on_episode(episode_return, length, task, progress, env_id)
        [learner] = self.specs[env_id].learners
        self.results.append((tuple(task), episode_return[learner], length))

    def update_on_demand(self, metrics):
        super().update_on_demand(metrics)
        self.scored.append(metrics["rollout"])


class Witness(RLlibCallback):
    """Logs, from the env runners, each episode's task and the modules that played it."""

    def on_episode_end(self, *, episode, env, env_index, metrics_logger, **kwargs):
        own = env.envs[env_index].unwrapped
        seats = {
            "learner" if agent in own.learners else "other": episode.module_for(agent) for agent in SEATS
        }
        seen = (os.getpid(), own.task.agent, own.task.env, seats["learner"], seats["other"])
        metrics_logger.log_value("witness", seen, reduce="item_series")


def build(path, serve=make_multiprocessing_curriculum):
    """A curriculum over a pool, and an algorithm that trains under it."""
    pool = AgentPool(path, capacity=CAPACITY)
    levels = PrioritizedLevelReplay(
        DiscreteTaskSpace(LEVELS), rho=0.0, gamma=GAMMA, gae_lambda=LAMBDA, seed=0
    )
    rivals = FictitiousSelfPlay(pool, decay=1.0, seed=1)
    ledger = Ledger(levels, rivals)
    curriculum = serve(ledger)
    config = curriculum_ppo(make_env, curriculum, learners=seat, pool=pool, snapshot_every=2)
    config = (
        config.callbacks([config.callbacks_class, Witness])
        .env_runners(num_env_runners=2, num_envs_per_env_runner=2, num_cpus_per_env_runner=0.4)
        .fault_tolerance(delay_between_env_runner_restarts_s=0.0)  # who raises dies at once, and is counted
        .training(train_batch_size_per_learner=240, minibatch_size=60, num_epochs=1, lr=1e-3)
    )
    algorithm = config.build_algo()
    return SimpleNamespace(**locals())


def on_runners(run, function):
    return run.algorithm.env_runner_group.foreach_env_runner(function, local_env_runner=False)


def opponents_here(run):
    """By runner: the opponents' modules and their weights."""
    return on_runners(
        run,
        lambda runner: {name: module.get_state() for name, module in runner.module.items() if name != "main"},
    )


def settle(run, episodes):
    """Wait until the curriculum has got as many results as RLlib has seen episodes."""
    deadline = time.monotonic() + 20
    while len(run.ledger.results) < episodes and time.monotonic() < deadline:
        time.sleep(0.01)


def episodes_of(rollout):
    """The episodes of a rollout: task, return, length, score."""
    ends = np.flatnonzero(rollout["terminations"] | rollout["truncations"]) + 1
    for start, end in itertools.pairwise([0, *ends]):
        rewards, values = rollout["rewards"][start:end, 0], rollout["values"][start:end, 0]
        final = rollout["final_values"][end - 1, 0]
        deltas = rewards + GAMMA * np.append(values[1:], final) - values
        trace = [
            np.sum(deltas[t:] * (GAMMA * LAMBDA) ** np.arange(end - start - t)) for t in range(end - start)
        ]
        yield tuple(rollout["tasks"][start][0]), rewards.sum(), end - start, np.abs(trace).mean()


@pytest.fixture(scope="module")
def trained(ray_on_two_cpus, tmp_path_factory):
    """Seven iterations with everything on; a checkpoint after the last."""
    run = build(tmp_path_factory.mktemp("pool"))
    run.iterations, run.witnessed, run.modules = [], [], []
    for _ in range(7):
        result = run.algorithm.train()
        run.iterations.append(result)
        run.witnessed.append(result["env_runners"]["witness"])
        run.modules.append([set(modules) for modules in opponents_here(run)])
    run.weights = opponents_here(run)
    settle(run, sum(len(seen) for seen in run.witnessed))
    run.checkpoint = tmp_path_factory.mktemp("checkpoint")
    run.algorithm.save_to_path(run.checkpoint)
    run.state = run.curriculum.state_dict()
    yield run
    run.algorithm.stop()
    run.curriculum.close()


# --- Training ----------------------------------------------------------------------------------------------


def test_the_curriculum_is_told_of_every_episode(trained):
    played = Counter((agent, level) for seen in trained.witnessed for _, agent, level, _, _ in seen)
    assert Counter(task for task, _, _ in trained.ledger.results) == played
    assert len({pid for seen in trained.witnessed for pid, *_ in seen}) == 2


def test_scores_are_those_of_the_episodes_and_levels_played(trained):
    scored = [episode for rollout in trained.ledger.scored for episode in episodes_of(rollout)]
    assert Counter((task, round(total, 4), length) for task, total, length, _ in scored) == Counter(
        (task, round(total, 4), length) for task, total, length in trained.ledger.results
    )
    expected = {task[1]: score for task, _, _, score in scored}  # alpha is 1: the last score stays
    levels = trained.levels.scores
    assert set(np.flatnonzero(np.isfinite(levels))) == set(expected)
    np.testing.assert_allclose(levels[list(expected)], list(expected.values()), rtol=1e-9)


def test_the_critic_has_something_to_say(trained):
    values = np.concatenate([rollout["values"] for rollout in trained.ledger.scored])
    assert len(np.unique(values)) > 0.9 * len(values)


def test_tasks_say_who_plays_the_other_seat(trained):
    for seen in trained.witnessed:
        for _, snapshot, _, learner, other in seen:
            assert (learner, other) == ("main", f"opponent_{snapshot}")
    assert {snapshot for seen in trained.witnessed for _, snapshot, *_ in seen} >= {0, 1, 2}


def test_modules_come_and_go_with_the_pool(trained):
    # Snapshots 0 (untrained) and one after iterations 2, 4 and 6; the pool keeps the latest two.
    assert trained.pool.ids == [2, 3]
    wanted = [{0}, {0, 1}, {0, 1}, {1, 2}, {1, 2}, {2, 3}, {2, 3}]
    for ids, runners, seen in zip(wanted, trained.modules, [*trained.witnessed[1:], []], strict=True):
        played = {other for *_, other in seen}  # before the next change
        assert runners[0] == runners[1] >= {f"opponent_{snapshot}" for snapshot in ids} | played
    assert not any("opponent_0" in modules for modules in trained.modules[-1]), "long since let go"


def test_modules_hold_their_snapshots_weights(trained):
    for modules in trained.weights:
        for snapshot in trained.pool.ids:
            for name, array in trained.pool.get(snapshot).items():
                np.testing.assert_array_equal(modules[f"opponent_{snapshot}"][name], array)
    first, second = (trained.pool.get(snapshot) for snapshot in trained.pool.ids)
    assert any(not np.array_equal(first[name], second[name]) for name in first), "main has learned in between"


def test_payoffs_are_filled_from_the_results(trained):
    ids = trained.pool.ids
    games, wins = Counter(), Counter()
    for (snapshot, _), total, _ in trained.ledger.results:
        games[snapshot] += 1
        wins[snapshot] += (np.sign(total) + 1) / 2
    assert trained.rivals.payoffs.games("learner", ids).tolist() == [games[snapshot] for snapshot in ids]
    for snapshot in ids:
        if games[snapshot]:
            rate = trained.rivals.payoffs.win_rate("learner", snapshot)
            assert rate == pytest.approx(wins[snapshot] / games[snapshot])


def test_results_hold_the_curriculums_metrics_and_no_raw_data(trained):
    last = trained.iterations[-1]
    assert last["curriculum"]["agent/pool_size"] == 2.0
    assert last["curriculum"]["sync/envs"] == 4.0
    assert trained.algorithm.metrics.peek(("curriculum", "agent/pool_size")) == 2.0
    assert "curriculum_episodes" not in last["learners"]["__all_modules__"]
    assert set(last["learners"]) == {"__all_modules__", "main"}, "nobody trains opponents"


# --- Faults and checkpoints --------------------------------------------------------------------------------


def test_a_restored_algorithm_goes_on(trained, tmp_path):
    run = build(shutil.copytree(trained.path, tmp_path / "pool"))  # the other one goes on with its own
    try:
        run.algorithm.restore_from_path(trained.checkpoint)
        assert run.algorithm.iteration == 7
        np.testing.assert_array_equal(run.levels.scores, trained.levels.scores)
        games = [each.rivals.payoffs.games("learner", [0, 1, 2, 3]).tolist() for each in (run, trained)]
        assert games[0] == games[1] != [0, 0, 0, 0]
        state = run.curriculum.state_dict()
        assert state["outstanding"] == trained.state["outstanding"] != []
        [weights] = {pickle.dumps(main) for main in on_runners(run, lambda r: r.module["main"].get_state())}
        old = trained.algorithm.learner_group.get_weights(["main"])["main"]
        for name, array in pickle.loads(weights).items():
            np.testing.assert_array_equal(array, old[name])
        result = run.algorithm.train()  # the eighth: another snapshot
        assert result["training_iteration"] == 8
        assert run.pool.ids == [3, 4]
        out = Counter(tuple(task) for task in trained.state["outstanding"])
        started = Counter((agent, level) for _, agent, level, *_ in result["env_runners"]["witness"])
        assert out & started, "tasks that were out are played first"
        for _, snapshot, _, learner, other in result["env_runners"]["witness"]:
            assert (learner, other) == ("main", f"opponent_{snapshot}")
        with pytest.raises(UsageError, match="just been built"):
            run.algorithm.restore_from_path(trained.checkpoint)
    finally:
        run.algorithm.stop()
        run.curriculum.close()


def test_training_survives_the_death_of_a_runner(trained):
    algorithm, before = trained.algorithm, set(trained.ledger.specs)
    aborted = trained.curriculum.metrics()["sync/aborted_episodes"]
    os.kill(on_runners(trained, lambda runner: os.getpid())[0], signal.SIGKILL)
    deadline = time.monotonic() + 120  # a new process imports torch and RLlib
    restarts = 0
    while not restarts and time.monotonic() < deadline:
        restarts = algorithm.train()["fault_tolerance"]["num_remote_worker_restarts"]
    result = algorithm.train()
    assert restarts == result["fault_tolerance"]["num_remote_worker_restarts"] == 1, "the other one lives"
    assert len({pid for pid, *_ in result["env_runners"]["witness"]}) == 2
    for _, snapshot, _, learner, other in result["env_runners"]["witness"]:
        assert (learner, other) == ("main", f"opponent_{snapshot}")
    new = set(trained.ledger.specs) - before
    assert len(new) == 2, "its environments are new ones to the curriculum"
    assert {trained.ledger.specs[env_id].learners for env_id in new} <= {("player_0",), ("player_1",)}
    metrics = trained.curriculum.metrics()
    assert metrics["sync/envs"] == 4.0
    assert 0 <= metrics["sync/aborted_episodes"] - aborted <= 2
    modules = opponents_here(trained)
    assert set(modules[0]) == set(modules[1]) >= {f"opponent_{snapshot}" for snapshot in trained.pool.ids}


# --- Other ways to build it --------------------------------------------------------------------------------


def test_agents_that_all_learn_on_this_process_alone():
    levels = PrioritizedLevelReplay(DiscreteTaskSpace(4), rho=0.0, alpha=0.5, seed=0)
    with make_multiprocessing_curriculum(MultiagentSharedCurriculumWrapper(levels)) as curriculum:
        config = curriculum_ppo(make_env, curriculum).env_runners(num_env_runners=0)
        config = config.training(train_batch_size_per_learner=80, minibatch_size=40, num_epochs=1)
        algorithm = config.build_algo()
        for _ in range(2):
            result = algorithm.train()
        algorithm.stop()
        assert set(result["env_runners"]["num_module_steps_sampled"]) == {"main"}
        assert 0 < np.isfinite(levels.scores).sum() <= 4
        assert result["curriculum"]["sync/envs"] == 1.0


def test_a_curriculum_in_an_actor(tmp_path):
    run = build(tmp_path, serve=lambda ledger: make_ray_curriculum(ledger, "rllib", timeout=30))
    try:
        for _ in range(3):
            result = run.algorithm.train()
        assert {snapshot for _, snapshot, *_ in result["env_runners"]["witness"]} <= {0, 1}
        for _, snapshot, _, learner, other in result["env_runners"]["witness"]:
            assert (learner, other) == ("main", f"opponent_{snapshot}")
        assert result["curriculum"]["env/seen_fraction"] > 0.0
        assert run.pool.ids == [0, 1]
        state = run.algorithm.get_state()["curriculum"]
        assert state["type"] == "CurriculumHost"
        # Its name says where it is, so the callback finds it from anywhere, as where a Tuner runs the algorithm.
        factory = pickle.loads(pickle.dumps(make_curriculum_callback(run.curriculum, pool=run.pool)))
        assert factory().curriculum.metrics()["agent/pool_size"] == 2.0
    finally:
        run.algorithm.stop()
        run.curriculum.close()


def test_the_state_of_another_curriculum_is_refused(trained):
    callback = trained.algorithm.callbacks[0]
    with (
        make_multiprocessing_curriculum(DomainRandomization(DiscreteTaskSpace(3))) as other,
        pytest.raises(StateError),
    ):
        make_curriculum_callback(other)().set_state(trained.algorithm, callback.get_state())

"""The parts of the RLlib integration, without a Ray cluster: the environment, the mapping, episodes and scores."""

import copy
import pickle
from contextlib import ExitStack
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
from gymnasium import spaces
from pettingzoo import ParallelEnv
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.ppo.ppo_catalog import PPOCatalog
from ray.rllib.algorithms.ppo.torch.default_ppo_torch_rl_module import DefaultPPOTorchRLModule
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.env.env_context import EnvContext
from ray.rllib.env.multi_agent_episode import MultiAgentEpisode
from ray.rllib.evaluation.postprocessing import Postprocessing
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger

from macurr import DiscreteTaskSpace, TupleTaskSpace, UsageError, make_local_curriculum
from macurr.curricula import Constant, DomainRandomization, PrioritizedLevelReplay
from macurr.integrations.rllib import (
    CurriculumPPOLearner,
    EpisodeAssembler,
    EpisodePart,
    EpisodeTag,
    FinishedEpisode,
    RLlibCurriculumEnv,
    TaskMapping,
    curriculum_ppo,
    make_curriculum_callback,
    make_rllib_env,
    score_messages,
)
from macurr.integrations.rllib.modules import OpponentModules
from macurr.opponents import AgentPool
from macurr.wrappers import MultiagentIndependentCurriculumWrapper, MultiagentSharedCurriculumWrapper
from tests.support.scripts import assert_succeeded, run_python

GAMMA, LAMBDA = 0.9, 0.8


class Script(ParallelEnv):
    """Plays a script: for each step, who terminates and who is truncated. Rewards are 1, 2, ... times the agent's."""

    metadata: ClassVar = {"name": "script", "render_modes": []}
    render_mode = None

    def __init__(self, *steps, agents=("a", "b")):
        self.possible_agents = list(agents)
        self.steps = steps
        self.resets = 0

    def observation_space(self, agent):
        return spaces.Box(-100.0, 100.0, (2,), np.float32)

    def action_space(self, agent):
        return spaces.Discrete(2)

    def reset(self, seed=None, options=None):
        self.resets += 1
        self.agents, self.time, self.task = list(self.possible_agents), 0, options["task"]
        return self._see(self.agents), {agent: {} for agent in self.agents}

    def step(self, actions):
        terminated, truncated = self.steps[self.time]
        self.time += 1
        acted = self.agents
        self.agents = [agent for agent in acted if agent not in terminated + truncated]
        return (
            self._see(acted),
            {agent: float(self.time * (1 + self.possible_agents.index(agent))) for agent in acted},
            {agent: agent in terminated for agent in acted},
            {agent: agent in truncated for agent in acted},
            {agent: {"note": self.time} for agent in acted},
        )

    def _see(self, agents):
        return {agent: np.array([self.time, ord(agent)], np.float32) for agent in agents}


@pytest.fixture
def curriculum():
    with make_local_curriculum(DomainRandomization(DiscreteTaskSpace(7), seed=0)) as synced:
        yield synced


def make_env(curriculum, *steps, **kwargs):
    return make_rllib_env(lambda context: Script(*steps), curriculum.components, **kwargs)(EnvContext({}, 1))


def play(env, cut_at=None):
    """One episode, as RLlib's env runner records it; in two parts where it is cut after so many steps."""
    roles = {"a": "main", "b": "other"}
    episode = MultiAgentEpisode(agent_to_module_mapping_fn=lambda agent, episode, **kwargs: roles[agent])
    parts = [episode]
    observations, infos = env.reset()
    episode.add_env_reset(observations=observations, infos=infos)
    while not episode.is_done:
        actions = dict.fromkeys(env.agents, 1)
        observations, rewards, terminateds, truncateds, infos = env.step(actions)
        episode.add_env_step(
            observations, actions, rewards, infos, terminateds=terminateds, truncateds=truncateds
        )
        if episode.env_t == cut_at:
            episode = episode.cut()
            parts.append(episode)
    return parts if cut_at else episode


# --- The environment ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "ends"),
    [
        ([("", ""), ("ab", "")], {"a": "terminated", "b": "terminated"}),
        ([("", ""), ("", "ab")], {"a": "truncated", "b": "truncated"}),
        ([("", ""), ("a", "b")], {"a": "terminated", "b": "truncated"}),
        ([("a", ""), ("", "b")], {"a": "terminated", "b": "truncated"}),
        ([("", "a"), ("b", "")], {"a": "truncated", "b": "terminated"}),
        ([("", "a"), ("", "b")], {"a": "truncated", "b": "truncated"}),
    ],
)
def test_every_ending_closes_the_episode_and_is_told_by_agent(curriculum, steps, ends):
    episode = play(make_env(curriculum, *steps))
    # Who terminated gets no value for what follows; who was truncated does.
    assert {agent: own.is_terminated for agent, own in episode.agent_episodes.items()} == {
        agent: end == "terminated" for agent, end in ends.items()
    }
    assert all(own.is_done for own in episode.agent_episodes.values())
    assert {agent: len(own) for agent, own in episode.agent_episodes.items()} == {
        agent: 1 + next(t for t, flags in enumerate(steps) if agent in "".join(flags)) for agent in "ab"
    }
    assert curriculum.metrics()["sync/episodes"] == 1


def test_infos_say_whose_episode_a_step_is(curriculum):
    env = make_env(curriculum, ("", ""), ("a", ""), ("", "b"))
    for number in range(2):
        episode = play(env)
        for agent, length in (("a", 2), ("b", 3)):
            tags = [info["macurr"] for info in episode.agent_episodes[agent].get_infos()]
            assert [tag.ended for tag in tags] == [False] * length + [True]
            assert {(tag.env_id, tag.number, tag.task) for tag in tags} == {(0, number, env.task)}
    assert [info.get("note") for info in episode.agent_episodes["b"].get_infos()] == [None, 1, 2, 3]


def test_nothing_is_reset_before_rllib_asks(curriculum):
    env = make_env(curriculum, ("ab", ""))
    assert env.get_observation_space("a").shape == (2,)
    assert env.get_action_space("b").n == 2
    assert env.env.unwrapped.resets == 0
    assert curriculum.metrics()["sync/envs"] == 0
    env.reset()
    env.close()
    assert curriculum.metrics()["sync/envs"] == 0


def test_an_env_that_goes_on_for_finished_agents_is_silenced(curriculum):
    class Chatty(Script):
        """Returns observations, rewards and flags of agents that are finished, as some environments do."""

        def step(self, actions):
            _, rewards, terminations, truncations, infos = super().step(actions)
            everybody = dict.fromkeys(self.possible_agents)
            rewards = {agent: rewards.get(agent, -9.0) for agent in everybody}
            terminations = {agent: terminations.get(agent, True) for agent in everybody}
            truncations = {agent: truncations.get(agent, False) for agent in everybody}
            return self._see(everybody), rewards, terminations, truncations, infos

    creator = make_rllib_env(lambda context: Chatty(("a", ""), ("b", "")), curriculum.components)
    episode = play(creator(EnvContext({}, 1)))
    assert episode.agent_episodes["a"].get_rewards() == [1.0]
    assert episode.agent_episodes["b"].get_rewards() == [2.0, 4.0]


def test_learners_may_depend_on_the_place_of_the_env(curriculum):
    creator = make_rllib_env(
        lambda context: Script(("ab", "")),
        curriculum.components,
        learners=lambda context: ["ab"[(context.worker_index + context.vector_index) % 2]],
    )
    # gymnasium.make copies the creator for each environment.
    made = [copy.deepcopy(creator)(EnvContext({}, worker)) for worker in (1, 1, 2)]
    assert [env.learners for env in made] == [("b",), ("a",), ("a",)]


def test_an_env_without_a_curriculum_is_refused():
    with pytest.raises(UsageError, match="connected to no curriculum"):
        RLlibCurriculumEnv(Script(("ab", "")))


# --- Which module plays ------------------------------------------------------------------------------------

MODULES = dict.fromkeys(["main", "opponent_3", "opponent_5"])


def mapped(env, modules=MODULES):
    """A new episode in `env`, and its modules, asked for where RLlib asks."""
    mapping = TaskMapping()
    episode = MultiAgentEpisode(agent_to_module_mapping_fn=mapping)
    make_callback_for(mapping).on_episode_created(
        episode=episode, env=SimpleNamespace(envs=[env]), env_index=0, rl_module=modules
    )
    observations, infos = env.reset()
    episode.add_env_reset(observations=observations, infos=infos)
    return episode, {agent: own.module_id for agent, own in episode.agent_episodes.items()}


def make_callback_for(mapping):
    with make_local_curriculum(DomainRandomization(DiscreteTaskSpace(2))) as synced:
        return make_curriculum_callback(synced, mapping=mapping)()


@pytest.fixture
def opponents_env():
    """Makes an environment whose task is always the same opponent and level."""
    space = TupleTaskSpace([DiscreteTaskSpace(9), DiscreteTaskSpace(4)], names=["agent", "env"])
    with ExitStack() as opened:

        def make(task, learners=("a",)):
            synced = opened.enter_context(make_local_curriculum(Constant(space, space.make(task))))
            return make_env(synced, ("", ""), ("ab", ""), learners=learners)

        yield make


@pytest.mark.parametrize(
    ("task", "learners", "modules"),
    [
        ((3, 0), ["a"], {"a": "main", "b": "opponent_3"}),
        ((5, 1), ["b"], {"a": "opponent_5", "b": "main"}),
        ((3, 0), None, {"a": "main", "b": "main"}),
        ((8, 0), ["a"], {"a": "main", "b": "opponent_5"}),  # not here: the nearest in age
        ((4, 0), ["a"], {"a": "main", "b": "opponent_5"}),  # of two, the younger
    ],
)
def test_the_task_of_the_reset_says_which_modules_play(opponents_env, task, learners, modules):
    assert mapped(opponents_env(task, learners))[1] == modules


def test_the_learner_plays_where_there_is_no_opponent_at_all(opponents_env):
    assert mapped(opponents_env((3, 0)), modules={"main": None})[1] == {"a": "main", "b": "main"}


def test_a_cut_episode_keeps_its_modules_and_travels(opponents_env):
    episode, modules = mapped(opponents_env((3, 0)))
    rest = pickle.loads(pickle.dumps(episode.cut()))
    assert {agent: rest.module_for(agent) for agent in "ab"} == modules


def test_episodes_of_no_environment_are_the_learners():
    assert TaskMapping(learner="me")("a", MultiAgentEpisode()) == "me"


def test_snapshots_are_told_by_their_modules_names():
    mapping = TaskMapping()
    assert mapping.snapshots(["main", "opponent_12", "opponent_3", "opponent_x", "other_4"]) == [3, 12]
    assert mapping.module_of(12) == "opponent_12"


def test_environments_without_a_curriculum_are_the_learners():
    mapping = TaskMapping()
    episode = MultiAgentEpisode(agent_to_module_mapping_fn=mapping)
    plain = SimpleNamespace(unwrapped=Script(("ab", "")))
    make_callback_for(mapping).on_episode_created(
        episode=episode, env=SimpleNamespace(envs=[plain]), env_index=0, rl_module={}
    )
    assert [episode.module_for(agent) for agent in "ab"] == ["main", "main"]


def test_opponents_steps_are_left_out_of_samples(opponents_env):
    mapping = TaskMapping()
    episode, _ = mapped(opponents_env((3, 0)))
    make_callback_for(mapping).on_sample_end(samples=[episode])
    assert set(episode.agent_episodes) == {"a"}


# --- Episodes ----------------------------------------------------------------------------------------------


def part(number, agent, start, rewards, *, ended=False, terminated=False, task=0, final_value=0.5, env_id=0):
    values = np.arange(len(rewards)) + 10.0 * start
    tag = EpisodeTag(env_id, number, task, ended)
    return EpisodePart(tag, agent, start, np.array(rewards, float), values, final_value, terminated)


def test_parts_of_episodes_are_put_together():
    assembler = EpisodeAssembler()
    assert assembler.add([part(0, "a", 0, [1.0, 2.0]), part(0, "b", 0, [5.0])]) == []
    [a] = assembler.add([part(0, "a", 2, [3.0], ended=True, task=4)])
    assert (a.task, a.agent, a.rewards.tolist(), a.values.tolist()) == (4, "a", [1, 2, 3], [0, 1, 20])
    assert (a.final_value, a.terminated) == (0.5, False)
    [b] = assembler.add([part(0, "b", 1, [6.0], ended=True, terminated=True)])
    assert (b.rewards.tolist(), b.final_value, b.terminated) == ([5, 6], 0.0, True)


def test_parts_of_one_batch_may_come_in_any_order():
    parts = [part(0, "a", 2, [3.0], ended=True), part(1, "a", 0, [9.0]), part(0, "a", 0, [1.0, 2.0])]
    [episode] = EpisodeAssembler().add(parts)
    assert episode.rewards.tolist() == [1, 2, 3]


@pytest.mark.parametrize("missing", [0, 1])
def test_an_episode_with_a_missing_part_is_left_out(missing):
    parts = [part(0, "a", 0, [1.0]), part(0, "a", 1, [2.0]), part(0, "a", 2, [3.0], ended=True)]
    del parts[missing]
    assembler = EpisodeAssembler()
    assert [assembler.add([one]) for one in parts] == [[], []]
    [other] = assembler.add([part(1, "a", 0, [4.0], ended=True)])
    assert other.rewards.tolist() == [4.0]


def test_open_episodes_are_bounded(monkeypatch):
    monkeypatch.setattr("macurr.integrations.rllib.episodes.MOST_OPEN", 2)
    assembler = EpisodeAssembler()
    assembler.add([part(number, "a", 0, [1.0]) for number in range(3)])
    assert assembler.add([part(0, "a", 1, [1.0], ended=True)]) == []
    assert len(assembler.add([part(2, "a", 1, [1.0], ended=True)])) == 1


# --- Scores ------------------------------------------------------------------------------------------------


def advantages(rewards, values, final_value, gamma, lam):
    """Generalised advantages, by the sum that defines them (Schulman et al. 2016, equation 16)."""
    after = [*values[1:], final_value]
    deltas = [r + gamma * v_next - v for r, v, v_next in zip(rewards, values, after, strict=True)]
    return [sum((gamma * lam) ** k * delta for k, delta in enumerate(deltas[t:])) for t in range(len(deltas))]


def random_episode(rng, task, terminated, agent="a"):
    n = int(rng.integers(1, 6))
    final = 0.0 if terminated else float(rng.normal())
    return FinishedEpisode(task, agent, rng.normal(size=n), rng.normal(size=n), final, terminated)


@pytest.mark.parametrize("wrap", [lambda plr: plr, MultiagentSharedCurriculumWrapper])
def test_levels_get_the_scores_of_their_episodes(wrap):
    rng = np.random.default_rng(3)
    episodes = [random_episode(rng, task, bool(task % 2)) for task in (4, 1, 2, 1)]
    plr = PrioritizedLevelReplay(DiscreteTaskSpace(6), gamma=GAMMA, gae_lambda=LAMBDA, alpha=0.3)
    [message] = score_messages(episodes)
    wrap(plr).update_on_demand(message)
    expected = dict.fromkeys((4, 1, 2), 0.0)
    for e in episodes:
        score = np.mean(np.abs(advantages(e.rewards, e.values, e.final_value, GAMMA, LAMBDA)))
        expected[e.task] = 0.7 * expected[e.task] + 0.3 * score
    assert np.flatnonzero(np.isfinite(plr.scores)).tolist() == [1, 2, 4]
    np.testing.assert_allclose(plr.scores[[4, 1, 2]], list(expected.values()))


def test_each_agents_own_curriculum_gets_its_part():
    rng = np.random.default_rng(5)
    episodes = [random_episode(rng, {"a": 1, "b": 3}, True, agent) for agent in "ab"]
    own = {agent: PrioritizedLevelReplay(DiscreteTaskSpace(5)) for agent in "ab"}
    both = MultiagentIndependentCurriculumWrapper(own, ["a", "b"])
    for message in score_messages(episodes):
        both.update_on_demand(message)
    assert {agent: np.flatnonzero(np.isfinite(plr.scores)).tolist() for agent, plr in own.items()} == {
        "a": [1],
        "b": [3],
    }


def test_no_episodes_make_no_message():
    assert score_messages([]) == []


@pytest.fixture(scope="module")
def learner():
    config = (
        PPOConfig()
        .environment("script", observation_space=Script().observation_space("a"))
        .environment(action_space=Script().action_space("a"))
        .learners(learner_class=CurriculumPPOLearner)
        .multi_agent(
            policies={"main", "other"}, policy_mapping_fn=TaskMapping(), policies_to_train=["main", "other"]
        )
        .training(gamma=GAMMA, lambda_=LAMBDA)
    )
    box, choice = Script().observation_space("a"), Script().action_space("a")
    return config.build_learner(spaces={"main": (box, choice), "other": (box, choice)})


def test_the_learner_reports_what_its_advantages_are_made_of(learner, curriculum):
    env = make_env(curriculum, ("", ""), ("", ""), ("a", "b"))
    whole, (first, second) = play(env), play(env, cut_at=1)
    for episode in (whole, first, second):
        episode.to_numpy()
    seen = {
        (number, agent, own.t_started): own.get_observations()
        for number, episode in ((0, whole), (1, first), (1, second))
        for agent, own in episode.agent_episodes.items()
    }
    metrics = MetricsLogger(root=True)
    batch = learner._learner_connector(
        rl_module=learner.module, batch={}, episodes=[whole, first, second], shared_data={}, metrics=metrics
    )
    parts = metrics.peek(("__all_modules__", "curriculum_episodes"))
    assert len(parts) == len(seen) == 6
    for name in ("main", "other"):
        targets = []
        for one in [one for one in parts if {"a": "main", "b": "other"}[one.agent] == name]:
            observations = seen[one.tag.number, one.agent, one.start]
            values = (
                learner.module[name]
                .compute_values({Columns.OBS: torch.tensor(observations)})
                .detach()
                .numpy()
            )
            np.testing.assert_allclose([*one.values, one.final_value], values, rtol=1e-4, atol=1e-6)
            final = 0.0 if one.terminated else one.final_value
            own = np.array(advantages(one.rewards, one.values, final, GAMMA, LAMBDA)) + one.values
            targets.append(own)
        rows = batch[name][Columns.LOSS_MASK].numpy()
        np.testing.assert_allclose(
            batch[name][Postprocessing.VALUE_TARGETS].numpy()[rows],
            np.concatenate(targets),
            rtol=1e-4,
            atol=1e-5,
        )
    ended = {(one.tag.number, one.agent, one.start): (one.tag.ended, one.terminated) for one in parts}
    assert ended == {
        (0, "a", 0): (True, True),
        (0, "b", 0): (True, False),
        (1, "a", 0): (False, False),
        (1, "b", 0): (False, False),
        (1, "a", 1): (True, True),
        (1, "b", 1): (True, False),
    }
    episodes = EpisodeAssembler().add(parts)
    assert [(e.agent, e.rewards.tolist()) for e in episodes] == [("a", [1, 2, 3]), ("b", [2, 4, 6])] * 2


# --- Modules -----------------------------------------------------------------------------------------------


def fake_algorithm():
    """An algorithm with one env runner, whose modules are RLlib's own."""
    spec = RLModuleSpec(
        module_class=DefaultPPOTorchRLModule,
        observation_space=Script().observation_space("a"),
        action_space=Script().action_space("a"),
        inference_only=True,
        catalog_class=PPOCatalog,
    )
    runner = SimpleNamespace(module=MultiRLModuleSpec(rl_module_specs={"main": spec}).build())
    group = SimpleNamespace(foreach_env_runner=lambda function, **kwargs: [function(runner)])
    learners = SimpleNamespace(
        get_state=lambda components, inference_only: {
            "learner": {"rl_module": {"main": runner.module["main"].get_state()}}
        }
    )
    return SimpleNamespace(
        env_runner_group=group, eval_env_runner_group=None, learner_group=learners, runner=runner
    )


def test_modules_follow_the_pool_and_stay_while_they_are_played(tmp_path):
    algorithm, pool = fake_algorithm(), AgentPool(tmp_path, capacity=2)
    modules, here = OpponentModules(pool, TaskMapping()), algorithm.runner.module
    for number in range(3):
        with torch.no_grad():
            for parameter in here["main"].parameters():
                parameter.add_(1.0)
        assert modules.add_snapshot(algorithm, number) == number
        modules.follow(algorithm, {0} if number == 2 else ())
    assert pool.ids == [1, 2]
    assert modules.gone == {0}
    assert set(here.keys()) == {"main", "opponent_0", "opponent_1", "opponent_2"}
    newest, before = here["opponent_2"].get_state(), here["opponent_1"].get_state()
    for name, parameter in here["main"].named_parameters():
        array = parameter.detach().numpy()
        np.testing.assert_array_equal(newest[name], array)
        np.testing.assert_allclose(before[name], array - 1.0, rtol=1e-5, atol=1e-6)
    modules.follow(algorithm, ())
    assert set(here.keys()) == {"main", "opponent_1", "opponent_2"}


def test_a_stand_in_stays_for_the_episode_that_it_plays(opponents_env, tmp_path):
    algorithm, pool = fake_algorithm(), AgentPool(tmp_path, capacity=1)
    modules, here = OpponentModules(pool, TaskMapping()), algorithm.runner.module
    modules.add_snapshot(algorithm, 0)
    modules.follow(algorithm, ())
    env = opponents_env((8, 0))  # its snapshot is not here: the nearest stands in
    assert mapped(env, here)[1] == {"a": "main", "b": "opponent_0"}
    modules.add_snapshot(algorithm, 1)
    modules.follow(algorithm, {8})
    assert set(here.keys()) == {"main", "opponent_0", "opponent_1"}, "the episode goes on"
    modules.restore(algorithm.env_runner_group, [1])  # an env runner that was out of reach for a while
    modules.follow(algorithm, {8})
    assert set(here.keys()) == {"main", "opponent_0", "opponent_1"}
    assert mapped(env, here)[1] == {"a": "main", "b": "opponent_1"}
    modules.follow(algorithm, {8})
    assert set(here.keys()) == {"main", "opponent_1"}, "it is over"


def test_a_runner_that_starts_anew_gets_all_modules(tmp_path):
    algorithm, pool = fake_algorithm(), AgentPool(tmp_path)
    modules = OpponentModules(pool, TaskMapping())
    modules.add_snapshot(algorithm, 0)
    modules.follow(algorithm, ())
    fresh = fake_algorithm()
    modules.restore(fresh.env_runner_group, [1])
    assert set(fresh.runner.module.keys()) == {"main", "opponent_0"}
    for name, array in pool.get(0).items():
        np.testing.assert_array_equal(fresh.runner.module["opponent_0"].get_state()[name], array)


def test_snapshots_that_are_out_but_lost_have_no_module(tmp_path):
    algorithm, pool = fake_algorithm(), AgentPool(tmp_path)
    modules = OpponentModules(pool, TaskMapping())
    modules.add_snapshot(algorithm, 0)
    modules.follow(algorithm, {7})  # a checkpoint's task; its snapshot is long gone
    assert set(algorithm.runner.module.keys()) == {"main", "opponent_0"}


# --- What is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["ray", "ray.rllib", "torch"])
def test_without_rllib_the_extra_is_named(missing, tmp_path):
    code = f"""
import sys
sys.modules[{missing!r}] = None
import macurr.integrations
from macurr.errors import MissingDependencyError
try:
    import macurr.integrations.rllib
except MissingDependencyError as error:
    print(error)
"""
    result = run_python(["-c", code], cwd=tmp_path)
    assert_succeeded(result)
    assert "pip install 'macurr[rllib]'" in result.stdout


def test_a_callback_needs_a_synced_curriculum(curriculum, tmp_path):
    with pytest.raises(UsageError, match="needs a synced curriculum"):
        make_curriculum_callback(DomainRandomization(DiscreteTaskSpace(2)))
    with pytest.raises(UsageError, match="pool is the AgentPool"):
        make_curriculum_callback(curriculum, pool=tmp_path)
    with pytest.raises(UsageError, match="at least 1"):
        curriculum_ppo(lambda context: Script(), curriculum, snapshot_every=0)


def test_the_curriculum_stays_in_its_process(curriculum):
    factory = make_curriculum_callback(curriculum)
    assert copy.deepcopy(factory)().curriculum is curriculum  # RLlib copies its config
    with pytest.raises(UsageError, match="did not come along"):
        _ = pickle.loads(pickle.dumps(factory))().curriculum

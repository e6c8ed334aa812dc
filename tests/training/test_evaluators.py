"""Evaluators give the numbers of the networks that they ask, and leave these as they were."""

import copy
import itertools

import gymnasium
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import nn
from torch.distributions import Categorical, Normal

from macurr import DiscreteTaskSpace, EnvSpec, StepBatch, UsageError, make_local_curriculum
from macurr.curricula import PrioritizedLevelReplay
from macurr.training import RecurrentTorchEvaluator, SB3Evaluator, TorchEvaluator
from macurr.wrappers import GymnasiumSyncWrapper
from tests.support.scripted import LadderEnv

SEEN = np.linspace(-1.0, 1.0, 20).reshape(5, 4).astype(np.float32)


class Agent(nn.Module):
    """As CleanRL writes them: a trunk, an actor and a critic. `mask` rules actions out."""

    def __init__(self, actions=3, mask=None):
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(4, 8), nn.Tanh())
        self.actor, self.critic = nn.Linear(8, actions), nn.Linear(8, 1)
        self.mask = torch.zeros(actions) if mask is None else torch.tensor(mask)

    def logits(self, x):
        return self.actor(self.network(x)) + self.mask

    def get_value(self, x):
        return self.critic(self.network(x))

    def get_action_and_value(self, x, action=None):
        chances = Categorical(logits=self.logits(x))
        action = chances.sample() if action is None else action
        return action, chances.log_prob(action), chances.entropy(), self.get_value(x)


class Continuous(nn.Module):
    """CleanRL's agent for continuous actions."""

    def __init__(self):
        super().__init__()
        self.actor_mean, self.critic = nn.Linear(4, 2), nn.Linear(4, 1)

    def get_value(self, x):
        return self.critic(x)

    def get_action_and_value(self, x, action=None):
        chances = Normal(self.actor_mean(x), 1.0)
        action = chances.sample() if action is None else action[:, None]
        return action, chances.log_prob(action).sum(1), chances.entropy().sum(1), self.critic(x)


class TestTorch:
    def test_a_cleanrl_agent_is_asked_as_it_stands(self):
        agent = Agent()
        evaluator = TorchEvaluator(agent)
        x = torch.tensor(SEEN)
        np.testing.assert_allclose(evaluator.values(SEEN), agent.get_value(x).detach().ravel(), rtol=1e-6)
        expected = agent.logits(x).softmax(1).detach()
        found = evaluator.action_distributions(SEEN)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        np.testing.assert_allclose(found.sum(axis=1), 1.0, rtol=1e-12)
        assert found.dtype == evaluator.values(SEEN).dtype == np.float64
        assert evaluator.values(SEEN[:1]).shape == (1,)
        assert evaluator.action_distributions(SEEN[:1]).shape == (1, 3)

    def test_what_an_agent_does_after_its_actor_is_heeded(self):
        agent = Agent(mask=[0.0, -torch.inf, 0.0])
        found = TorchEvaluator(agent).action_distributions(SEEN)
        assert (found[:, 1] == 0.0).all()
        np.testing.assert_allclose(found.sum(axis=1), 1.0)

    def test_actor_and_critic_are_enough(self):
        agent = nn.Module()
        agent.actor, agent.critic = nn.Linear(4, 3), nn.Linear(4, 1)
        evaluator = TorchEvaluator(agent)
        x = torch.tensor(SEEN)
        np.testing.assert_allclose(evaluator.values(SEEN), agent.critic(x).detach().ravel(), rtol=1e-6)
        expected = agent.actor(x).softmax(1).detach()
        np.testing.assert_allclose(evaluator.action_distributions(SEEN), expected, rtol=1e-5)

    def test_a_value_beside_the_action_is_enough(self):
        class Joint(nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = Agent()
                self.actor = self.inner.actor

            def get_action_and_value(self, x, action=None):
                return self.inner.get_action_and_value(x, action)

        agent = Joint()
        expected = agent.inner.get_value(torch.tensor(SEEN)).detach().ravel()
        np.testing.assert_allclose(TorchEvaluator(agent).values(SEEN), expected, rtol=1e-6)

    def test_names_and_functions_say_what_to_ask(self):
        agent, x = Agent(), torch.tensor(SEEN)
        by_name = TorchEvaluator(agent, values="get_value", action_distributions="logits")
        by_function = TorchEvaluator(
            agent,
            values=lambda x: 2 * agent.get_value(x)[:, 0],
            action_distributions=lambda x: Categorical(logits=agent.logits(x)),
        )
        values = agent.get_value(x).detach().ravel()
        np.testing.assert_allclose(by_name.values(SEEN), values, rtol=1e-6)
        np.testing.assert_allclose(by_function.values(SEEN), 2 * values, rtol=1e-6)
        for evaluator in (by_name, by_function):
            expected = agent.logits(x).softmax(1).detach()
            np.testing.assert_allclose(evaluator.action_distributions(SEEN), expected, rtol=1e-5)

    def test_everything_is_left_as_it_was(self):
        agent = Agent()
        agent.network.add_module("dropout", nn.Dropout(0.9))
        agent.critic.eval()  # frozen, while the rest trains
        before = [part.training for part in agent.modules()]
        weights = {name: value.clone() for name, value in agent.state_dict().items()}
        state = torch.get_rng_state()
        evaluator = TorchEvaluator(agent)
        answers = [(evaluator.values(SEEN), evaluator.action_distributions(SEEN)) for _ in range(2)]
        assert np.array_equal(answers[0][0], answers[1][0])  # no dropout
        assert np.array_equal(answers[0][1], answers[1][1])
        assert torch.equal(torch.get_rng_state(), state)
        assert [part.training for part in agent.modules()] == before
        assert True in before
        assert False in before
        assert all(torch.equal(weights[name], value) for name, value in agent.state_dict().items())
        assert all(parameter.grad is None for parameter in agent.parameters())
        assert torch.is_grad_enabled()

    def test_modes_come_back_after_an_error(self):
        agent = Agent()
        with pytest.raises(RuntimeError):
            TorchEvaluator(agent).values(SEEN[:, :2])
        assert all(part.training for part in agent.modules())

    def test_the_mode_is_left_alone_on_request(self):
        modes = []
        agent = Agent()
        agent.network.register_forward_hook(lambda *_: modes.append(agent.network.training))
        TorchEvaluator(agent).values(SEEN)
        TorchEvaluator(agent, switch_mode=False).values(SEEN)
        assert modes == [False, True]

    def test_observations_become_what_the_module_takes(self):
        double, half = Agent().double(), Agent()
        pixels = np.arange(20, dtype=np.uint8).reshape(5, 4)
        expected = double.get_value(torch.tensor(pixels, dtype=torch.float64)).detach().ravel()
        np.testing.assert_allclose(TorchEvaluator(double).values(pixels), expected, rtol=1e-12)
        scaled = TorchEvaluator(half, prepare=lambda seen: seen / 255.0)
        expected = half.get_value(torch.tensor(pixels / 255.0, dtype=torch.float32)).detach().ravel()
        np.testing.assert_allclose(scaled.values(pixels), expected, rtol=1e-6)
        table = nn.Embedding(9, 1)
        indices = np.array([3, 1])
        evaluator = TorchEvaluator(table, values=table, dtype=torch.long)
        np.testing.assert_allclose(evaluator.values(indices), table.weight.detach()[indices, 0])

    def test_observations_that_do_not_stack_are_stacked_by_their_parts(self):
        agent = Agent()
        seen = [{"left": row[:2], "right": (row[2:3], float(row[3]))} for row in SEEN]

        def joined(x):
            return agent.get_value(torch.cat([x["left"], x["right"][0], x["right"][1][:, None]], 1))

        found = TorchEvaluator(agent, values=joined).values(seen)
        np.testing.assert_allclose(found, TorchEvaluator(agent).values(SEEN), rtol=1e-6)

    def test_observations_that_may_not_be_written_are_read(self):
        frozen = SEEN.copy()
        frozen.flags.writeable = False  # torch warns of such arrays, and warnings are errors here
        np.testing.assert_array_equal(
            TorchEvaluator(Agent()).values(frozen), TorchEvaluator(Agent()).values(SEEN)
        )

    def test_a_continuous_policy_has_values_and_no_probabilities(self):
        agent = Continuous()
        assert TorchEvaluator(agent).values(SEEN).shape == (5,)
        with pytest.raises(UsageError, match="A continuous policy has no action probabilities"):
            TorchEvaluator(agent).action_distributions(SEEN)
        with pytest.raises(UsageError, match=r"sum to .*A continuous policy"):
            TorchEvaluator(agent, actions=2).action_distributions(SEEN)
        named = TorchEvaluator(agent, action_distributions=lambda x: Normal(agent.actor_mean(x), 1.0))
        with pytest.raises(UsageError, match="a Normal, not a Categorical"):
            named.action_distributions(SEEN)

    def test_a_wrong_number_of_actions_is_noticed(self):
        with pytest.raises(UsageError, match="probabilities of 2 actions sum to"):
            TorchEvaluator(Agent(), actions=2).action_distributions(SEEN)

    def test_what_cannot_be_asked_is_refused(self):
        bare = nn.Linear(4, 3)
        with pytest.raises(UsageError, match=r"Linear has no get_value.*values="):
            TorchEvaluator(bare).values(SEEN)
        with pytest.raises(UsageError, match="neither get_action_and_value nor actor"):
            TorchEvaluator(bare).action_distributions(SEEN)
        with pytest.raises(UsageError, match=r"shape \(5, 3\) for 5 observations"):
            TorchEvaluator(bare, values=bare).values(SEEN)
        with pytest.raises(UsageError, match=r"shape \(5,\) for 5 observations"):
            TorchEvaluator(bare, action_distributions=lambda x: bare(x)[:, 0]).action_distributions(SEEN)
        with pytest.raises(UsageError, match=r"values='critc'.*Agent"):
            TorchEvaluator(Agent(), values="critc")
        with pytest.raises(UsageError, match=r"needs a torch\.nn\.Module"):
            TorchEvaluator(lambda x: x)
        with pytest.raises(UsageError, match="actions"):
            TorchEvaluator(Agent(), actions=0)


class Memory(nn.Module):
    """As CleanRL writes an agent with an LSTM."""

    def __init__(self, layer=nn.LSTM):
        super().__init__()
        torch.manual_seed(1)
        self.lstm = layer(4, 6)
        for name, weights in self.lstm.named_parameters():
            nn.init.constant_(weights, 0.1) if "bias" in name else nn.init.orthogonal_(weights, 1.5)
        self.actor, self.critic = nn.Linear(6, 3), nn.Linear(6, 1)

    def get_states(self, x, state, done):
        parts = state if isinstance(state, tuple) else (state,)
        width = parts[0].shape[1]
        rows = []
        for step, over in zip(x.reshape(-1, width, 4), done.reshape(-1, width), strict=True):
            kept = tuple((1.0 - over).view(1, -1, 1) * part for part in parts)
            row, after = self.lstm(step[None], kept if isinstance(state, tuple) else kept[0])
            parts = after if isinstance(after, tuple) else (after,)
            rows.append(row)
        return torch.cat(rows).flatten(0, 1), parts if isinstance(state, tuple) else parts[0]

    def get_value(self, x, state, done):
        return self.critic(self.get_states(x, state, done)[0])

    def get_action_and_value(self, x, state, done, action=None):
        hidden, state = self.get_states(x, state, done)
        chances = Categorical(logits=self.actor(hidden))
        action = chances.sample() if action is None else action
        return action, chances.log_prob(action), chances.entropy(), self.critic(hidden), state

    def whole(self, episode):
        """Values and probabilities of an episode in one go."""
        with torch.no_grad():
            hidden, _ = self.lstm(torch.as_tensor(np.asarray(episode, np.float32))[:, None])
            return self.critic(hidden[:, 0])[:, 0].numpy(), self.actor(hidden[:, 0]).softmax(1).numpy()


BOTH = ("values", "action_distributions")


def an_episode(seed, length):
    return np.random.default_rng(seed).normal(size=(length, 4)).astype(np.float32)


def pieces(episode, cuts):
    edges = sorted({0, *(cut % len(episode) for cut in cuts), len(episode)})
    return [(start, episode[start:stop]) for start, stop in itertools.pairwise(edges)]


class TestRecurrent:
    @given(st.integers(1, 9), st.lists(st.integers(0, 8), max_size=4), st.sampled_from([nn.LSTM, nn.GRU]))
    def test_cuts_change_nothing(self, length, cuts, layer):
        agent, episode = Memory(layer), an_episode(2, length)
        evaluator = RecurrentTorchEvaluator(agent)
        found = [
            evaluator.answer(BOTH, piece, stream=0, starts_episode=start == 0)
            for start, piece in pieces(episode, cuts)
        ]
        values, chances = agent.whole(episode)
        np.testing.assert_allclose(np.concatenate([f["values"] for f in found]), values, atol=1e-6)
        np.testing.assert_allclose(
            np.concatenate([f["action_distributions"] for f in found]), chances, atol=1e-6
        )

    def test_streams_are_apart_and_episodes_start_anew(self):
        agent = Memory()
        evaluator = RecurrentTorchEvaluator(agent)
        first, second = an_episode(3, 6), an_episode(4, 6)

        def values(piece, stream, starts):
            return evaluator.answer(["values"], piece, stream=stream, starts_episode=starts)["values"]

        for episode in (first, second):  # the second overwrites an episode that never ended
            own = [values(episode[:2], "a", True)]
            values(second[::-1][:3].copy(), "b", True)
            own.append(values(episode[2:], "a", False))
            np.testing.assert_allclose(np.concatenate(own), agent.whole(episode)[0], atol=1e-6)
        assert evaluator.streams == 2
        evaluator.forget("a")
        evaluator.forget("nobody")
        assert evaluator.streams == 1
        np.testing.assert_allclose(values(first, "a", False), agent.whole(first)[0], atol=1e-6)

    def test_memory_matters_here(self):
        # Else the tests above could not fail.
        agent, episode = Memory(), an_episode(3, 6)
        assert np.abs(agent.whole(episode)[0][2:] - agent.whole(episode[2:])[0]).max() > 0.01

    def test_an_answer_that_is_not_finite_moves_nothing(self):
        agent, episode = Memory(), an_episode(5, 4)

        def forward(x, state, done):
            hidden, state = agent.get_states(x, state, done)
            return agent.critic(hidden), None, state

        evaluator = RecurrentTorchEvaluator(agent, forward=forward)
        evaluator.answer(["values"], episode[:2], stream=0, starts_episode=True)
        broken = episode[2:].copy()
        broken[0, 0] = np.nan
        bad = evaluator.answer(["values"], broken, stream=0, starts_episode=False)
        assert np.isnan(bad["values"]).any()
        with pytest.raises(RuntimeError):
            evaluator.answer(["values"], episode[2:, :3], stream=0, starts_episode=False)
        good = evaluator.answer(["values"], episode[2:], stream=0, starts_episode=False)
        np.testing.assert_allclose(good["values"], agent.whole(episode)[0][2:], atol=1e-6)

    def test_a_function_is_asked_instead(self):
        agent, episode = Memory(), an_episode(6, 5)

        def forward(x, state, done):
            hidden, state = agent.get_states(x, state, done)
            return agent.critic(hidden), agent.actor(hidden), state

        evaluator = RecurrentTorchEvaluator(agent, forward=forward)
        found = evaluator.answer(BOTH, episode, stream=0, starts_episode=True)
        np.testing.assert_allclose(found["values"], agent.whole(episode)[0], atol=1e-6)
        np.testing.assert_allclose(found["action_distributions"], agent.whole(episode)[1], atol=1e-6)
        blind = RecurrentTorchEvaluator(agent, forward=lambda *asked: (forward(*asked)[0], None, asked[1]))
        with pytest.raises(UsageError, match="gives no action_distributions"):
            blind.answer(BOTH, episode, stream=0, starts_episode=True)
        assert blind.streams == 0

    def test_values_of_a_continuous_policy_with_memory(self):
        agent, episode = Memory(), an_episode(7, 5)
        values, _ = agent.whole(episode)
        del agent.actor
        agent.get_action_and_value = None
        evaluator = RecurrentTorchEvaluator(agent)
        found = [
            evaluator.answer(["values"], piece, stream=0, starts_episode=start == 0)["values"]
            for start, piece in pieces(episode, [2])
        ]
        np.testing.assert_allclose(np.concatenate(found), values, atol=1e-6)
        with pytest.raises(UsageError, match="A continuous policy"):
            evaluator.answer(BOTH, episode, stream=0, starts_episode=True)

    def test_the_initial_state_can_be_learned(self):
        agent, episode = Memory(), an_episode(8, 3)
        state = tuple(nn.Parameter(torch.full((1, 1, 6), value)) for value in (0.5, -0.5))
        expected = agent.get_value(torch.tensor(episode), state, torch.zeros(3)).detach().ravel()
        for initial in (state, lambda: state):
            evaluator = RecurrentTorchEvaluator(agent, initial_state=initial)
            found = evaluator.answer(["values"], episode, stream=0, starts_episode=True)["values"]
            np.testing.assert_allclose(found, expected, atol=1e-6)

    def test_what_cannot_be_asked_is_refused(self):
        evaluator = RecurrentTorchEvaluator(Memory())
        for question in BOTH:
            with pytest.raises(UsageError, match=r"answer\("):
                getattr(evaluator, question)(SEEN)
        with pytest.raises(UsageError, match="0 recurrent layers"):
            RecurrentTorchEvaluator(Agent())
        forgetful = nn.Module()
        forgetful.lstm = nn.LSTM(4, 6)
        with pytest.raises(UsageError, match="Pass forward="):
            RecurrentTorchEvaluator(forgetful).answer(["values"], SEEN, stream=0, starts_episode=True)
        memory = Memory()
        complete = memory.get_action_and_value
        memory.get_action_and_value = lambda *asked, action: complete(*asked, action=action)[:4]
        with pytest.raises(UsageError, match="returns 4 values"):
            RecurrentTorchEvaluator(memory).answer(["values"], SEEN, stream=0, starts_episode=True)


def batch(episode, start, stop, env_id=0, task=0):
    """Steps of a recorded episode of observations; each step pays its number, and the last is truncated."""
    steps, last = stop - start, stop == len(episode) - 1
    ends = np.arange(steps)[:, None] == steps - 1
    return StepBatch(
        task=task,
        env_id=env_id,
        agents=("agent_0",),
        rewards=np.arange(start, stop, dtype=np.float32)[:, None],
        terminations=np.zeros((steps, 1), bool),
        truncations=ends & last,
        active=np.ones((steps, 1), bool),
        observations={"agent_0": episode[start:stop]},
        final_observations={"agent_0": episode[stop]},
        infos=(),
        progress=None,
        starts_episode=start == 0,
        ends_episode=last,
        single_agent=True,
    )


def value_l1(rewards, values):
    """The mean size of the advantages of steps with these rewards between these values, written out."""
    advantage, total = 0.0, 0.0
    for t in reversed(range(len(rewards))):
        advantage = rewards[t] + 0.9 * values[t + 1] - values[t] + 0.9 * 0.8 * advantage
        total += abs(advantage)
    return total / len(rewards)


class TestLevelReplay:
    def make(self, evaluator, strategy="value_l1"):
        levels = PrioritizedLevelReplay(
            DiscreteTaskSpace(3), strategy=strategy, gamma=0.9, gae_lambda=0.8, evaluator=evaluator, seed=0
        )
        for env_id in (0, 1):
            levels.register_env(env_id, EnvSpec(("agent_0",), ("agent_0",), single_agent=True))
        return levels

    def test_a_policy_with_memory_scores_as_in_its_rollout(self):
        agent = Memory()
        levels = self.make(RecurrentTorchEvaluator(agent))
        first, second = an_episode(9, 8), an_episode(10, 6)
        levels.update_on_step_batch(batch(first, 0, 3))
        levels.update_on_step_batch(batch(second, 0, 4, env_id=1, task=1))
        levels.update_on_step_batch(batch(first, 3, 7))
        levels.update_on_step_batch(batch(second, 4, 5, env_id=1, task=1))
        for task, episode in enumerate((first, second)):
            expected = value_l1(np.arange(len(episode) - 1), agent.whole(episode)[0])
            assert levels.scores[task] == pytest.approx(expected, abs=1e-5)

    def test_streams_are_forgotten_with_their_episodes_and_environments(self):
        evaluator = RecurrentTorchEvaluator(Memory())
        levels, episode = self.make(evaluator), an_episode(11, 8)

        def begin():
            levels.update_on_step_batch(batch(episode, 0, 3))
            assert evaluator.streams == 1

        begin()
        levels.update_on_step_batch(batch(episode, 3, 7))  # its end
        assert evaluator.streams == 0
        begin()
        levels.update_on_abort(0, env_id=0)
        assert evaluator.streams == 0
        begin()
        levels.unregister_env(0)
        assert evaluator.streams == 0

    def test_curricula_that_share_an_evaluator_keep_their_streams_apart(self):
        agent = Memory()
        evaluator = RecurrentTorchEvaluator(agent)
        shared, alone = [self.make(evaluator) for _ in range(2)], self.make(RecurrentTorchEvaluator(agent))
        episodes = an_episode(12, 8), an_episode(13, 8)
        for start, stop in ((0, 3), (3, 7)):  # both call their environment 0
            for levels, episode in zip(shared, episodes, strict=True):
                levels.update_on_step_batch(batch(episode, start, stop))
        alone.update_on_step_batch(batch(episodes[0], 0, 7))
        assert shared[0].scores[0] == pytest.approx(alone.scores[0])

    def test_a_copy_goes_on_by_itself(self):
        levels, episode = self.make(RecurrentTorchEvaluator(Memory())), an_episode(15, 8)
        levels.update_on_step_batch(batch(episode, 0, 3))
        copied = copy.deepcopy(levels)
        levels.update_on_step_batch(batch(episode, 3, 7))
        copied.update_on_step_batch(batch(episode, 3, 7))
        assert np.isfinite(levels.scores[0])
        assert copied.scores[0] == levels.scores[0]

    def test_single_steps_go_on_with_the_memory(self):
        agent, episode = Memory(), an_episode(14, 5)
        levels = self.make(RecurrentTorchEvaluator(agent))
        for t in range(1, 5):
            levels.update_on_step(0, episode[t], 1.0, False, t == 4, {}, 0.0, env_id=0)
        values = agent.whole(episode[1:])[0]  # the first observation is never told
        assert levels.scores[0] == pytest.approx(value_l1([1.0] * 3, values), abs=1e-5)

    @pytest.mark.parametrize("strategy", ["value_l1", "policy_entropy"])
    def test_environments_feed_a_torch_agent(self, strategy):
        class Two(Agent):
            def __init__(self):
                super().__init__()
                self.network = nn.Sequential(nn.Linear(2, 8), nn.Tanh())

        levels = PrioritizedLevelReplay(
            DiscreteTaskSpace(4), strategy=strategy, evaluator=TorchEvaluator(Two()), seed=0
        )
        with make_local_curriculum(levels) as synced:
            env = GymnasiumSyncWrapper(LadderEnv(), synced.components, batch_size=2, buffer_size=0)
            for _ in range(8):
                env.reset()
                over = False
                while not over:
                    _, _, terminated, truncated, _ = env.step(0)
                    over = terminated or truncated
            env.close()
        assert np.isfinite(levels.scores).all()


class Spot(gymnasium.Env):
    """Two steps of looking; the observation is of the space that is wanted."""

    def __init__(self, space, actions):
        self.observation_space, self.action_space = space, actions

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.t = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        self.t += 1
        return self.observation_space.sample(), 1.0, False, self.t == 2, {}


FOUR = gymnasium.spaces.Box(-1, 1, (4,), np.float32)
THREE = gymnasium.spaces.Discrete(3)
SMALL = {"net_arch": [8]}


def ppo(env, policy="MlpPolicy"):
    return PPO(policy, env, n_steps=8, batch_size=8, n_epochs=1, seed=0, device="cpu", policy_kwargs=SMALL)


class TestStableBaselines:
    def test_a_model_gives_its_values_and_probabilities(self):
        model = ppo(Spot(FOUR, THREE)).learn(16)
        model.policy.set_training_mode(True)
        evaluator, x = SB3Evaluator(model), torch.tensor(SEEN)
        with torch.no_grad():
            values = model.policy.predict_values(x)[:, 0].numpy()
            chances = model.policy.get_distribution(x).distribution.probs.numpy()
        np.testing.assert_allclose(evaluator.values(SEEN), values, rtol=1e-6)
        np.testing.assert_allclose(evaluator.action_distributions(SEEN), chances, rtol=1e-5)
        assert all(part.training for part in model.policy.modules())
        with pytest.raises(UsageError, match="task_success"):
            evaluator.task_success([0])

    def test_observations_are_normalised_as_the_model_has_them(self):
        normalised = VecNormalize(DummyVecEnv([lambda: Spot(FOUR, THREE)]))
        model = ppo(normalised).learn(16)
        seen = normalised.normalize_obs(SEEN)
        assert np.abs(seen - SEEN).max() > 0.1
        values = model.policy.predict_values(torch.tensor(seen, dtype=torch.float32)).detach()[:, 0].numpy()
        np.testing.assert_allclose(SB3Evaluator(model).values(SEEN), values, rtol=1e-5)

    def test_mappings_arrive_as_lists(self):
        space = gymnasium.spaces.Dict({"a": FOUR, "b": gymnasium.spaces.Discrete(2)})
        model = ppo(Spot(space, THREE), "MultiInputPolicy")
        seen = [{"a": row, "b": i % 2} for i, row in enumerate(SEEN)]
        stacked = {"a": SEEN, "b": np.arange(5) % 2}
        values = model.policy.predict_values(model.policy.obs_to_tensor(stacked)[0]).detach()[:, 0].numpy()
        np.testing.assert_allclose(SB3Evaluator(model).values(seen), values, rtol=1e-6)

    @pytest.mark.parametrize(
        ("actions", "name"),
        [(FOUR, "Normal"), (gymnasium.spaces.MultiDiscrete([2, 3]), "list")],
    )
    def test_other_actions_have_no_probabilities(self, actions, name):
        evaluator = SB3Evaluator(ppo(Spot(FOUR, actions)))
        assert evaluator.values(SEEN).shape == (5,)
        with pytest.raises(UsageError, match=f"is a {name}, not a Categorical"):
            evaluator.action_distributions(SEEN)

    def test_models_without_such_a_policy_are_refused(self):
        model = DQN("MlpPolicy", Spot(FOUR, THREE), buffer_size=10, policy_kwargs=SMALL, device="cpu")
        with pytest.raises(UsageError, match="actor-critic policy"):
            SB3Evaluator(model)
        with pytest.raises(UsageError, match="actor-critic policy"):
            SB3Evaluator(None)
        model = ppo(Spot(FOUR, THREE))
        model.policy.lstm_actor = nn.LSTM(4, 4)
        with pytest.raises(UsageError, match="RecurrentTorchEvaluator"):
            SB3Evaluator(model)

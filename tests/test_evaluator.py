"""What a curriculum may ask of a policy: the questions, playing tasks, and doing so beside training."""

import threading

import gymnasium
import numpy as np
import pytest
from pettingzoo import ParallelEnv

from macurr import (
    BackgroundEvaluation,
    DiscreteTaskSpace,
    Evaluator,
    FunctionEvaluator,
    Seat,
    TaskError,
    TaskEvaluator,
    UsageError,
    make_local_curriculum,
    make_multiprocessing_curriculum,
)
from macurr.curricula import Learnability, LearningProgress
from macurr.wrappers import GymnasiumSyncWrapper, OptionsTaskWrapper, PettingZooSyncWrapper, TaskWrapper
from tests.support.ragged import LIVES
from tests.support.ragged import RaggedEnv as PaidByLife
from tests.support.scripted import LadderEnv, RaggedEnv

# --- the questions -----------------------------------------------------------------------------------------


class TestQuestions:
    @pytest.mark.parametrize("question", ["values", "action_distributions", "task_success"])
    def test_what_is_not_defined_is_refused_by_name(self, question):
        for evaluator in (Evaluator(), FunctionEvaluator()):
            with pytest.raises(UsageError, match=rf"{type(evaluator).__name__} does not answer {question}\("):
                getattr(evaluator, question)([1, 2])

    def test_functions_answer(self):
        evaluator = FunctionEvaluator(
            values=lambda seen: seen[:, :1],
            action_distributions=lambda seen: np.full((len(seen), 2), 0.5),
            task_success=lambda tasks, episodes: [task / 10 / episodes for task in tasks],
        )
        seen = np.arange(6.0).reshape(3, 2)
        assert evaluator.values(seen).tolist() == [0.0, 2.0, 4.0]
        assert evaluator.values(seen[:1]).tolist() == [0.0]
        assert evaluator.action_distributions(seen).shape == (3, 2)
        assert evaluator.task_success([1, 10], 2).tolist() == [0.05, 0.5]

    @pytest.mark.parametrize("answer", [[0.5], [0.5, 0.5, 0.5], 0.5, [[0.5], [0.5]]])
    def test_other_numbers_of_rates_are_refused(self, answer):
        evaluator = FunctionEvaluator(task_success=lambda tasks, episodes: answer)
        with pytest.raises(UsageError, match="2 inputs"):
            evaluator.task_success([0, 1])

    @pytest.mark.parametrize("rate", [-0.1, 1.5, np.nan])
    def test_rates_that_are_none_are_refused(self, rate):
        evaluator = FunctionEvaluator(task_success=lambda tasks, episodes: [rate])
        with pytest.raises(UsageError, match="from 0 to 1"):
            evaluator.task_success([0])

    def test_a_policy_without_memory_answers_what_it_is_asked(self):
        evaluator = FunctionEvaluator(values=lambda seen: seen)
        found = evaluator.answer(["values"], np.array([1.0, 2.0]), stream="x", starts_episode=False)
        assert list(found) == ["values"]
        assert found["values"].tolist() == [1.0, 2.0]
        with pytest.raises(UsageError, match="action_distributions"):
            evaluator.answer(["action_distributions"], np.ones(2), stream="x", starts_episode=True)
        with pytest.raises(UsageError, match="does not answer mood"):
            evaluator.answer(["values", "mood"], np.ones(2), stream="x", starts_episode=True)


# --- playing tasks -----------------------------------------------------------------------------------------


class CoinEnv(gymnasium.Env):
    """Throws coins seeded by the reset; the task is how many in a row have to be guessed, by always saying 1."""

    observation_space = gymnasium.spaces.Box(0, 100, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, fails_on=None, fails_in="step"):
        self.fails_on, self.fails_in = fails_on, fails_in
        self.seeds, self.closed = [], False

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seeds.append(seed)
        self.task, self.t = options["task"], 0
        self._fail("reset")
        return np.array([self.task, 0], np.float32), {}

    def step(self, action):
        self.t += 1
        self._fail("step")
        right = int(self.np_random.integers(2)) == action
        won = right and self.t == self.task
        return np.array([self.task, self.t], np.float32), float(won), won or not right, False, {}

    def _fail(self, where):
        if (self.task, where) == (self.fails_on, self.fails_in):
            raise ZeroDivisionError("the coin fell off the table")

    def close(self):
        self.closed = True


def coins(seed, task):
    """Whether an episode on this task and seed is won, from the same random numbers."""
    rng = gymnasium.utils.seeding.np_random(seed)[0]
    return all(int(rng.integers(2)) == 1 for _ in range(task))


def ones(observations, seats):
    return np.ones(len(seats), int)


class TestPlaying:
    def test_rates_are_those_of_the_seeded_episodes(self):
        env = CoinEnv()
        with TaskEvaluator([env], ones, seed=3) as evaluator:
            found = evaluator.evaluate([1, 2, 5], episodes=40)
        seeds = np.array(env.seeds).reshape(3, 40)
        won = np.array(
            [[coins(int(seed), task) for seed in row] for task, row in zip([1, 2, 5], seeds, strict=True)]
        )
        np.testing.assert_allclose(found.success, won.mean(axis=1))
        assert 0.0 < found.success[1] < found.success[0] < 1.0
        assert found.returns["agent_0"].tolist() == found.by_agent["agent_0"].tolist()
        assert found.metrics() == {"tasks": [1, 2, 5], "task_success": found.success.tolist(), "episodes": 40}
        assert len(set(env.seeds)) == 120
        assert env.closed

    @pytest.mark.parametrize("number", [2, 3, 7])
    def test_the_number_of_environments_changes_nothing(self, number):
        alone = TaskEvaluator([CoinEnv()], ones, seed=5).evaluate([3, 1, 2], episodes=6)
        several = TaskEvaluator([CoinEnv() for _ in range(number)], ones, seed=5).evaluate([3, 1, 2], 6)
        assert several.success.tolist() == alone.success.tolist()
        assert several.lengths.tolist() == alone.lengths.tolist()

    def test_calls_go_on_unless_they_are_given_a_seed(self):
        env = CoinEnv()
        evaluator = TaskEvaluator([env], ones, seed=0)
        for seed in (None, None, 9, 9):
            evaluator.evaluate([4], episodes=3, seed=seed)
        first, second, third, fourth = np.array(env.seeds).reshape(4, 3).tolist()
        assert first != second
        assert third == fourth != first

    def test_everybody_who_is_to_act_is_asked_at_once(self):
        asked = []

        def act(observations, seats):
            asked.append((observations.copy(), list(seats)))
            return [0] * len(seats)

        TaskEvaluator([RaggedEnv(), RaggedEnv()], act).evaluate([4, 5, 9])
        assert RaggedEnv().lives(4) == {"x": 4, "y": 4, "z": 4}
        assert RaggedEnv().lives(5) == {"x": 1, "y": 2, "z": 3}
        observations, seats = asked[0]
        assert observations.tolist() == [[4, 0]] * 3 + [[5, 0]] * 3
        assert seats == [Seat(env, agent, True) for env in (0, 1) for agent in "xyz"]
        old = [Seat(0, agent, False) for agent in "xyz"]
        assert asked[1][1] == [*old, Seat(1, "y", False), Seat(1, "z", False)]
        assert asked[2][1] == [*old, Seat(1, "z", False)]
        observations, seats = asked[3]
        assert observations.tolist() == [[4, 3]] * 3 + [[9, 0]] * 3
        assert seats == [*old, *(Seat(1, agent, True) for agent in "xyz")]

    def test_each_agent_has_its_own_account(self):
        env, task = RaggedEnv(), 6
        told = []

        def success(episode_return, length, completion):
            told.append((episode_return, length, completion))
            return 1.0 if length >= 3 else 0.0

        found = TaskEvaluator([env], ones, success=success, learners=["z", "x"]).evaluate([task])
        lives = env.lives(task)
        expected = {a: sum(env.reward(task, a, t + 1) for t in range(lives[a])) for a in "zx"}
        assert {agent: own[0] for agent, own in found.returns.items()} == pytest.approx(expected)
        assert told == [(pytest.approx(expected[a]), lives[a], 0.0) for a in "zx"]
        own = {a: float(lives[a] >= 3) for a in "zx"}
        assert found.metrics(by_agent=True)["task_success"] == [own]
        assert found.success[0] == np.mean(list(own.values()))
        assert found.lengths[0] == max(lives.values())

    def test_success_is_a_positive_return_or_a_completed_task(self):
        found = TaskEvaluator([PaidByLife()], ones).evaluate([0])
        assert found.success[0] == 1.0
        unpaid = TaskEvaluator([PaidByLife()], ones, success=lambda gained, length, done: done).evaluate([0])
        assert unpaid.lengths[0] == max(LIVES.values())
        assert unpaid.success[0] == 1.0  # everybody's life is over at its end
        # A return of 0 is none, and neither is half a task.
        half = [({"a": (0.0, False, False)}, {"a": 0.5}), ({"a": (0.0, True, False)}, {"a": 0.5})]
        assert TaskEvaluator([Told(half)], ones).evaluate([0]).success[0] == 0.0
        whole = [half[0], ({"a": (-1.0, True, False)}, {"a": 1.0})]
        assert TaskEvaluator([Told(whole)], ones).evaluate([0]).success[0] == 1.0

    def test_an_agent_that_takes_no_part_counts_in_nothing(self):
        played = [({"a": (1.0, True, False)}, {})]
        found = TaskEvaluator([Told(played)], ones).evaluate([0])
        assert found.success[0] == 1.0
        assert np.isnan(found.by_agent["b"][0])
        assert np.isnan(found.returns["b"][0])

    def test_episodes_are_cut_at_the_limit(self):
        found = TaskEvaluator([LadderEnv(completion=True)], ones, max_steps=7).evaluate([0, 1])
        assert found.lengths.tolist() == [7.0, 7.0]

    def test_tasks_are_decoded_by_their_space(self):
        space = DiscreteTaskSpace(["easy", "hard"])
        seen = []

        class Named(TaskWrapper):
            def change_task(self, task):
                seen.append(task)

        evaluator = TaskEvaluator([Named(LadderEnv())], ones, task_space=space)
        assert evaluator.evaluate([1, 0]).tasks == (1, 0)
        assert seen == ["hard", "easy"]
        with pytest.raises(TaskError):
            evaluator.evaluate([0, 2])
        assert seen == ["hard", "easy"]

    def test_no_tasks_are_no_results(self):
        assert TaskEvaluator([CoinEnv()], ones).task_success([]).shape == (0,)

    def test_curricula_take_the_results(self):
        space = DiscreteTaskSpace(3)
        found = TaskEvaluator([PaidByLife()], ones, learners=["a", "b"]).evaluate([2, 0], episodes=2)
        learnability = Learnability(space)
        learnability.update_on_demand(found.metrics(by_agent=True))
        assert learnability.score(2) == 0.0
        assert learnability.score(1) is None
        progress = LearningProgress(space, online=False)
        progress.update_on_demand(found.metrics())
        assert progress.success_rate(0) == 1.0


class Told(ParallelEnv):
    """Agents "a" and "b"; each step is who acts with (reward, terminated, truncated), and who completed how much."""

    metadata = {"name": "told_v0"}  # noqa: RUF012  # as PettingZoo declares it
    possible_agents = ["a", "b"]  # noqa: RUF012

    def __init__(self, steps):
        self.steps = steps

    def observation_space(self, agent):
        return gymnasium.spaces.Discrete(9)

    def action_space(self, agent):
        return gymnasium.spaces.Discrete(2)

    def reset(self, seed=None, options=None):
        self.t = 0
        self.agents = list(self.steps[0][0]) if self.steps else []
        return dict.fromkeys(self.agents, 0), {}

    def step(self, actions):
        turns, completed = self.steps[self.t]
        self.t += 1
        self.agents = list(self.steps[self.t][0]) if self.t < len(self.steps) else []
        told = ({agent: turn[i] for agent, turn in turns.items()} for i in range(3))
        return dict.fromkeys(turns, self.t), *told, {a: {"task_completion": c} for a, c in completed.items()}


class TestRefusals:
    @pytest.mark.parametrize("fails_in", ["reset", "step"])
    def test_a_failure_names_environment_and_task(self, fails_in):
        envs = [CoinEnv(), CoinEnv(fails_on=8, fails_in=fails_in)]
        evaluator = TaskEvaluator(envs, ones)
        with pytest.raises(
            TaskError, match=r"environment 1, at step 0 of task 8.*ZeroDivisionError"
        ) as raised:
            evaluator.evaluate([5, 8])
        assert isinstance(raised.value.__cause__, ZeroDivisionError)
        envs[1].fails_on = None
        assert evaluator.evaluate([1, 1], episodes=2).success.shape == (2,)

    def test_a_reward_that_is_none_is_refused(self):
        with pytest.raises(TaskError, match="a reward of nan"):
            TaskEvaluator([Told([({"a": (np.nan, True, False)}, {})])], ones).evaluate([0])

    def test_whoever_is_to_act_sees_something(self):
        env = Told([({"a": (0.0, False, False)}, {}), ({"b": (0.0, True, False)}, {})])
        with pytest.raises(TaskError, match="'b', who is to act, no observation"):
            TaskEvaluator([env], ones).evaluate([0])

    def test_an_episode_without_agents_is_over(self):
        found = TaskEvaluator([Told([])], ones).evaluate([0])
        assert np.isnan(found.success[0])
        assert found.lengths[0] == 0

    @pytest.mark.parametrize("actions", [[1], [1, 1, 1], 1, np.int64(1), None, {"a": 1, "b": 1}])
    def test_another_number_of_actions_is_refused(self, actions):
        envs = [CoinEnv(), CoinEnv()]
        with pytest.raises(UsageError, match="one action for each of 2 observations"):
            TaskEvaluator(envs, lambda observations, seats: actions).evaluate([3, 3])

    def test_what_the_policy_raises_is_left_alone(self):
        with pytest.raises(KeyError, match="weights"):
            TaskEvaluator([CoinEnv()], lambda observations, seats: {}["weights"]).evaluate([3])

    @pytest.mark.parametrize("value", [-0.5, 1.5, np.nan])
    def test_a_success_is_from_0_to_1(self, value):
        with pytest.raises(TaskError, match="from 0 to 1"):
            TaskEvaluator([CoinEnv()], ones, success=lambda *told: value).evaluate([1])

    def test_episodes_and_limits_are_positive(self):
        with pytest.raises(UsageError, match="episodes=0"):
            TaskEvaluator([CoinEnv()], ones).evaluate([1], episodes=0)
        with pytest.raises(UsageError, match="max_steps"):
            TaskEvaluator([CoinEnv()], ones, max_steps=0)

    def test_environments_are_there_and_apart(self):
        env = CoinEnv()
        for envs in ([], [env, env]):
            with pytest.raises(UsageError, match="each an object of its own"):
                TaskEvaluator(envs, ones)
        with pytest.raises(UsageError, match="same agents"):
            TaskEvaluator([CoinEnv(), PaidByLife()], ones)
        with pytest.raises(UsageError, match="must be one or more of the agents"):
            TaskEvaluator([PaidByLife()], ones, learners=["nobody"])

    def test_an_environment_has_to_be_one_that_takes_tasks(self):
        class Deaf(LadderEnv):
            def reset(self):
                return super().reset()

        with pytest.raises(UsageError, match="takes neither new_task nor options"):
            TaskEvaluator([Deaf()], ones)
        vector = gymnasium.vector.SyncVectorEnv([LadderEnv])
        with pytest.raises(UsageError, match="must be a PettingZoo ParallelEnv or a gymnasium"):
            TaskEvaluator([vector], ones)
        vector.close()

    def test_an_environment_that_trains_is_not_played_on(self):
        with make_local_curriculum(LearningProgress(DiscreteTaskSpace(3))) as synced:
            single = gymnasium.wrappers.TimeLimit(GymnasiumSyncWrapper(LadderEnv(), synced.components), 9)
            several = OptionsTaskWrapper(PettingZooSyncWrapper(RaggedEnv(), synced.components))
            for env in (single, several):
                with pytest.raises(UsageError, match="connected to a curriculum"):
                    TaskEvaluator([env], ones)


# --- beside training ---------------------------------------------------------------------------------------


class Gate:
    """An evaluation that waits to be let through, and keeps what it was given."""

    def __init__(self):
        self.begun, self.open, self.seen = threading.Semaphore(0), threading.Semaphore(0), []

    def __call__(self, weights):
        self.seen.append(weights)
        self.begun.release()
        assert self.open.acquire(timeout=20)
        if weights == "bad":
            raise ZeroDivisionError("bad weights")
        return {"task_success": [0.5, 1.0]}


@pytest.fixture
def threads():
    """No test may leave an evaluation's thread behind."""
    yield
    assert "macurr-evaluation" not in [thread.name for thread in threading.enumerate()]


@pytest.fixture
def progress(threads):
    return LearningProgress(DiscreteTaskSpace(2), online=False)


@pytest.fixture
def synced(progress):
    with make_local_curriculum(progress) as synced:
        yield synced


class TestBackground:
    def test_training_goes_on_and_requests_become_one(self, progress, synced):
        gate, weights = Gate(), {"now": "first"}
        with BackgroundEvaluation(synced, gate, snapshot=lambda: weights["now"]) as background:
            background.request()
            assert gate.begun.acquire(timeout=20)
            assert background.running
            assert "macurr-evaluation" in [thread.name for thread in threading.enumerate()]
            assert not background.wait(timeout=0.0)
            for weights["now"] in ("second", "third", "fourth"):
                background.request()
            weights["now"] = "never asked for"
            gate.open.release(2)
            assert background.wait()
            assert not background.running
            assert background.completed == 2
            assert progress.success_rate(0) == 0.5
        assert gate.seen == ["first", "fourth"]

    def test_closing_finishes_what_runs_and_drops_the_rest(self, progress, synced):
        gate = Gate()
        with BackgroundEvaluation(synced, gate) as background:
            background.request()
            assert gate.begun.acquire(timeout=20)
            background.request()
            gate.open.release()
        assert gate.seen == [None]
        assert progress.success_rate(1) == 1.0
        background.close()
        with pytest.raises(UsageError, match="closed"):
            background.request()

    @pytest.mark.parametrize("call", ["request", "wait", "close"])
    def test_an_error_is_raised_once_by_the_next_call(self, synced, call):
        gate, weights = Gate(), ["good", "bad"]
        with BackgroundEvaluation(synced, gate, snapshot=weights.pop) as background:
            background.request()
            assert gate.begun.acquire(timeout=20)
            gate.open.release()
            while background.running:
                threading.Event().wait(0.001)
            with pytest.raises(ZeroDivisionError, match="bad weights"):
                getattr(background, call)()
            assert background.completed == 0
            if call != "close":
                gate.open.release()
                background.request()
                assert background.wait()
                assert background.completed == 1

    def test_an_error_drops_what_was_asked_for_after_it(self, synced):
        gate, weights = Gate(), ["good", "bad"]
        with BackgroundEvaluation(synced, gate, snapshot=weights.pop) as background:
            background.request()
            assert gate.begun.acquire(timeout=20)
            background.request()
            gate.open.release(2)
            with pytest.raises(ZeroDivisionError):
                background.wait()
            assert gate.seen == ["bad"]

    def test_an_error_at_the_end_of_the_block_is_raised(self, synced):
        background = BackgroundEvaluation(synced, lambda _: {"task_success": [1.0]})
        with pytest.raises(TaskError, match="2 tasks"), background:  # the curriculum's own
            background.request()

    def test_the_error_of_the_block_comes_first(self, synced, caplog):
        background = BackgroundEvaluation(synced, lambda _: 1 / 0)
        with pytest.raises(KeyError, match="training"), background:
            _request_and_fail(background)
        assert "An evaluation failed as well" in caplog.text

    def test_a_snapshot_that_fails_asks_for_nothing(self, synced):
        with BackgroundEvaluation(synced, lambda _: {}, snapshot=lambda: 1 / 0) as background:
            with pytest.raises(ZeroDivisionError):
                background.request()
            assert not background.running

    def test_a_bare_curriculum_is_refused(self, progress):
        with pytest.raises(UsageError, match="synced curriculum"):
            BackgroundEvaluation(progress, lambda _: {})


def _request_and_fail(background):
    background.request()
    raise KeyError("training")


# --- all of it ---------------------------------------------------------------------------------------------


class Stairs(gymnasium.Env):
    """A task is a number of stairs; a policy of some skill climbs that many, then falls."""

    observation_space = gymnasium.spaces.Box(0, 100, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(100)

    def reset(self, *, seed=None, options=None):
        self.task, self.t = (options or {}).get("task", 0), 0
        return np.array([self.task, 0], np.float32), {}

    def step(self, action):
        self.t += 1
        fell = int(action) < self.t
        done = not fell and self.t > self.task
        return np.array([self.task, self.t], np.float32), float(done), done, fell, {}


def climbs(weights):
    """A policy that says its skill."""
    return lambda observations, seats: np.full(len(seats), weights["skill"])


@pytest.mark.parametrize("make", [make_local_curriculum, make_multiprocessing_curriculum])
def test_learning_progress_by_evaluation_beside_training(make, threads):
    space = DiscreteTaskSpace(8)
    progress = LearningProgress(space, online=False, exploration=0.0, ema_alpha=0.5, seed=0)
    weights, playing = {"skill": 2}, {"skill": 0}
    evaluator = TaskEvaluator([Stairs() for _ in range(3)], climbs(playing))

    def evaluate(copied):
        playing.update(copied)
        return evaluator.evaluate(space.tasks, episodes=2).metrics()

    with make(progress) as synced, BackgroundEvaluation(synced, evaluate, weights.copy) as background:
        env = GymnasiumSyncWrapper(Stairs(), synced.components, buffer_size=0)
        drawn = []
        for skill in (2, 2, 5):
            weights["skill"] = skill
            background.request()
            weights["skill"] = 99  # the learner's next update, which the evaluation must not see
            assert background.wait()
        for _ in range(60):
            _, info = env.reset()
            drawn.append(info["task"])
            done = False
            while not done:
                _, _, terminated, truncated, _ = env.step(99)
                done = terminated or truncated
        # Skill 2 climbs tasks 0 and 1, skill 5 those up to 4: where there is progress, and there alone.
        rates = [progress.success_rate(task) for task in range(8)]
        assert rates == [1.0, 1.0, 0.5, 0.5, 0.5, 0.0, 0.0, 0.0]
        gains = [progress.learning_progress(task) for task in range(8)]
        assert [gain > 0 for gain in gains] == [False] * 2 + [True] * 3 + [False] * 3
        np.testing.assert_allclose(progress.distribution()[5:], 0.0)
        assert set(drawn) <= {0, 1, 2, 3, 4}
        assert np.bincount(drawn, minlength=8)[2:5].sum() > 30
        env.close()
    evaluator.close()

"""Opponents inside the environment: who plays whom, what the learners see of it, and what the curriculum hears."""

import copy
import multiprocessing
import pickle
import warnings
from collections import Counter

import cloudpickle
import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from pettingzoo.classic.tictactoe import tictactoe
from pettingzoo.test import api_test, parallel_api_test
from supersuit import concat_vec_envs_v1, pettingzoo_env_to_vec_env_v1

from macurr import DictTaskSpace, DiscreteTaskSpace, make_local_curriculum, make_multiprocessing_curriculum
from macurr.curricula import Constant, DomainRandomization, FictitiousSelfPlay, SelfPlay
from macurr.envs import apple_race_v0
from macurr.errors import PoolError, TaskError, UsageError
from macurr.opponents import AgentPool
from macurr.wrappers import (
    AECOpponentWrapper,
    AECSyncWrapper,
    DualCurriculumWrapper,
    GymnasiumSyncWrapper,
    OpponentWrapper,
    PettingZooSyncWrapper,
    SeedTaskWrapper,
    SingleLearnerEnv,
)
from tests.support.envs import CompletionEnv, ScriptEnv, TinyEnv
from tests.wrappers.test_aec import Toll

GOES_ON, DIES = (1.0, False, False), (2.0, True, False)


class Recorder(TinyEnv):
    """Remembers what everybody did; three steps an episode; an agent is paid its own action."""

    def __init__(self, length=3):
        super().__init__()
        self.length, self.played, self.options = length, [], []

    def reset(self, seed=None, options=None):
        self.options.append(options)
        self.agents, self.t = list(self.possible_agents), 0
        return self._seen(), {a: {} for a in self.agents}

    def step(self, actions):
        self.played.append(dict(actions))
        self.t += 1
        acting, over = self.agents, self.t >= self.length
        self.agents = [] if over else acting
        paid = {a: float(actions[a]) for a in acting}
        return (
            self._seen(),
            paid,
            dict.fromkeys(acting, over),
            dict.fromkeys(acting, False),
            {a: {} for a in acting},
        )

    def _seen(self):
        return {a: np.array([i, self.t], np.float32) for i, a in enumerate(self.possible_agents)}


def constant(parameters):
    """Always the snapshot's own action."""
    return lambda observation, agent: int(parameters["action"])


def dice(parameters, rng):
    return lambda observation, agent: int(rng.integers(3))


class Counting:
    """A policy with a memory: the number of its actions in this episode."""

    def __init__(self, parameters):
        self.count = 7

    def reset(self):
        self.count = 0

    def __call__(self, observation, agent):
        self.count += 1
        return self.count


@pytest.fixture
def pool(tmp_path):
    pool = AgentPool(tmp_path / "pool")
    for action in range(3):
        pool.add({"action": np.array(action)})
    return pool


def rollout(env, actions=0, **reset):
    observations, _ = env.reset(**reset)
    steps = []
    while env.agents:
        steps.append(env.step(dict.fromkeys(env.agents, actions)))
    return observations, steps


# --- who plays whom ---------------------------------------------------------------------------------------------


def test_the_task_is_everybodys_opponent(pool):
    env = OpponentWrapper(Recorder(), pool, constant, learners=["b"])
    observations, steps = rollout(env, options={"task": 2, "other": 5})
    assert env.possible_agents == ["b"]
    assert list(observations) == ["b"]
    assert env.env.played == [{"a": 2, "b": 0, "c": 2}] * 3
    assert env.opponents == {"a": 2, "c": 2}
    assert [len(part) for step in steps for part in step] == [1] * 15
    # The id is used up: a task wrapper beneath would take it for a level.
    assert env.env.options == [{"other": 5}]


@pytest.mark.parametrize("task", [(1, 2), [1, 2], np.array([1, 2]), {"a": 1, "c": 2, "b": 0}])
def test_every_seat_may_have_its_own_opponent(pool, task):
    env = OpponentWrapper(Recorder(), pool, constant, learners=["b"])
    rollout(env, options={"task": task})
    assert env.env.played == [{"a": 1, "b": 0, "c": 2}] * 3


def test_agent_part_of_a_dual_task_comes_from_the_sync_wrapper(pool):
    dual = DualCurriculumWrapper(
        DomainRandomization(DiscreteTaskSpace(50), seed=1), FictitiousSelfPlay(pool, seed=2)
    )
    with make_local_curriculum(dual) as curriculum:
        base = Recorder()
        synced = PettingZooSyncWrapper(base, curriculum.components, learners=["a"])
        env = OpponentWrapper(synced, pool.path, constant)
        met = Counter()
        for _ in range(30):
            env.reset()
            task = synced.task
            assert env.opponents == {"b": task.agent, "c": task.agent}
            assert base.options[-1]["task"].env == task.env
            met[task.agent] += 1
            while env.agents:
                env.step({"a": 1})
                assert base.played[-1] == {"a": 1, "b": task.agent, "c": task.agent}
        env.close()
    assert sorted(met) == [0, 1, 2]


def test_the_curriculum_hears_the_results_of_all_seats(pool):
    curriculum = FictitiousSelfPlay(pool, decay=1.0, seed=0)
    with make_local_curriculum(curriculum) as synced:
        env = OpponentWrapper(
            PettingZooSyncWrapper(Recorder(), synced.components, learners=["a"]), pool, constant
        ).as_gymnasium()
        met = Counter()
        for _ in range(20):
            env.reset()
            met[env.env.opponents["b"]] += 1
            while not env.step(1)[2]:
                pass
        env.close()
    # The learner always plays 1 and is paid it: it beats snapshot 0, draws with 1 and loses to 2.
    counts = [tuple(curriculum.payoffs.counts("learner", i)) for i in range(3)]
    assert counts == [(met[0], 0, 0), (0, met[1], 0), (0, 0, met[2])]


def test_learners_are_those_of_the_sync_wrapper(pool):
    with make_local_curriculum(SelfPlay(pool)) as synced:
        inner = PettingZooSyncWrapper(Recorder(), synced.components, learners=["c", "a"])
        assert OpponentWrapper(inner, pool, constant).possible_agents == ["a", "c"]
        assert OpponentWrapper(inner, pool, constant, learners=["c", "a"]).possible_agents == ["a", "c"]
        with pytest.raises(UsageError, match="wrong side"):
            OpponentWrapper(inner, pool, constant, learners=["a"])


def test_several_learners_share_an_episode(pool):
    env = OpponentWrapper(Recorder(), pool, constant, learners=["c", "a"])
    _, steps = rollout(env, 1, options={"task": 2})
    assert env.env.played == [{"a": 1, "b": 2, "c": 1}] * 3
    assert [list(step[1]) for step in steps] == [["a", "c"]] * 3
    with pytest.raises(UsageError, match="has one agent"):
        env.as_gymnasium()


def test_task_that_changes_in_mid_episode_changes_the_opponents(pool):
    class Sequence(Constant):
        def _sample(self, k):
            self.drawn = getattr(self, "drawn", -1) + 1
            return [self.drawn % 3] * k

    with make_local_curriculum(Sequence(DiscreteTaskSpace(3), 0)) as synced:
        inner = PettingZooSyncWrapper(
            CompletionEnv(), synced.components, learners=["a"], buffer_size=0, change_task_on_completion=True
        )
        env = OpponentWrapper(inner, pool, constant)
        env.reset()
        seated = []
        while env.agents:
            env.step({"a": 0})
            seated.append(env.opponents["b"])
    # Three agents complete a task within four steps; the tenth step ends the episode.
    assert seated == [0, 0, 0, 1, 1, 1, 1, 2, 2, 2]


def test_a_task_that_changes_begins_the_opponents_once(pool):
    class Sequence(Constant):
        def _sample(self, k):
            self.drawn = getattr(self, "drawn", -1) + 1
            return [self.drawn % 3] * k

    counts = []

    class Noting(Counting):
        def __call__(self, observation, agent):
            counts.append(super().__call__(observation, agent))
            return 0

    with make_local_curriculum(Sequence(DiscreteTaskSpace(3), 0)) as synced:
        inner = PettingZooSyncWrapper(
            CompletionEnv(), synced.components, learners=["a"], buffer_size=0, change_task_on_completion=True
        )
        rollout(OpponentWrapper(inner, pool, Noting))
    # One policy plays two seats at each of ten steps; the task changes after the fourth and the eighth, as above.
    assert counts == [*range(1, 9), *range(1, 9), *range(1, 5)]


def test_opponents_act_on_what_they_have_just_seen(pool):
    def clock(parameters):
        return lambda observation, agent: int(observation[1])

    env = OpponentWrapper(Recorder(), pool, clock, learners=["a"])
    rollout(env, options={"task": 0})
    assert [moves["b"] for moves in env.unwrapped.played] == [0, 1, 2]


# --- who lives, who dies ---------------------------------------------------------------------------------------


def scripted(steps, **options):
    return ScriptEnv([steps], **options)


def test_opponents_finish_an_episode_that_has_no_learner_left(pool):
    script = [
        {"a": GOES_ON, "b": GOES_ON},
        {"a": DIES, "b": GOES_ON},
        {"b": GOES_ON},
        {"b": DIES},
    ]
    for play_out, episodes in ((True, 1), (False, 0)):
        with make_local_curriculum(SelfPlay(pool)) as synced:
            inner = PettingZooSyncWrapper(scripted(script), synced.components, learners=["a"])
            env = OpponentWrapper(inner, pool, constant, play_out=play_out)
            observations, steps = rollout(env)
            assert list(observations) == ["a"]
            assert [step[1] for step in steps] == [{"a": 1.0}, {"a": 2.0}]
            assert [step[2] for step in steps] == [{"a": False}, {"a": True}]
            assert inner.env.t == (4 if play_out else 2)
            assert synced.metrics()["sync/episodes"] == episodes
            env.reset()
            env.close()


def test_dead_opponents_are_not_asked(pool):
    script = [{"a": GOES_ON, "b": DIES, "c": GOES_ON}, {"a": GOES_ON, "c": GOES_ON}, {"a": DIES, "c": DIES}]
    env = OpponentWrapper(scripted(script), pool, constant, learners=["a"])
    assert len(rollout(env, options={"task": 0})[1]) == 3  # ScriptEnv checks who acts


def test_an_opponent_that_comes_back_plays_on_alone(pool):
    script = [
        {"a": GOES_ON, "b": DIES},
        {"a": GOES_ON, "b": GOES_ON},
        {"b": GOES_ON},
        {"a": DIES, "b": DIES},
    ]
    env = OpponentWrapper(scripted(script), pool, constant, learners=["a"])
    _, steps = rollout(env, options={"task": 0})
    assert [step[1] for step in steps] == [{"a": 1.0}, {"a": 1.0}, {"a": 2.0}]


def test_learner_that_falls_silent_sees_one_long_step(pool):
    script = [
        {"b": GOES_ON, "c": GOES_ON},  # the learner comes late
        {"a": (4.0, False, False), "b": GOES_ON},
        {"b": GOES_ON},
        {"a": (5.0, True, False), "b": DIES},
    ]
    env = OpponentWrapper(scripted(script), pool, constant, learners=["a"])
    observations, steps = rollout(env, options={"task": 0})
    assert observations["a"].tolist() == [0, 1]
    assert [(step[0]["a"].tolist(), step[1]["a"], step[2]["a"]) for step in steps] == [
        ([0, 3], 4.0, False),
        ([0, 4], 5.0, True),
    ]


class Gift(Recorder):
    """Pays "a" 10 while only "b" acts, in the first step; "a" acts in the second."""

    def reset(self, seed=None, options=None):
        seen, infos = super().reset(seed, options)
        self.agents = ["b"]
        return {"b": seen["b"]}, infos

    def step(self, actions):
        self.t += 1
        last = self.t == max(2, self.length)
        self.agents = [] if last else ["a", "b"]
        over = {"a": last, "b": last}
        paid = {"a": 10.0 if self.t == 1 else 1.0, "b": 0.0}
        return self._seen(), paid, over, dict.fromkeys(over, False), {}


def test_what_is_paid_before_the_first_action_is_not_lost(pool):
    env = OpponentWrapper(Gift(length=2), pool, constant, learners=["a"])
    _, steps = rollout(env, options={"task": 0})
    assert [step[1] for step in steps] == [{"a": 11.0}]
    assert [step[1] for step in rollout(env, options={"task": 0})[1]] == [{"a": 11.0}]
    # And it is not paid again.
    env = OpponentWrapper(Gift(length=4), pool, constant, learners=["a"])
    assert [step[1]["a"] for step in rollout(env, options={"task": 0})[1]] == [11.0, 1.0, 1.0]


class Early(Recorder):
    """Over before "a" can act, but for every third episode."""

    def reset(self, seed=None, options=None):
        seen, _ = super().reset(seed, options)
        if len(self.options) % 3:
            self.agents = ["b"]
        return {a: seen[a] for a in self.agents}, {a: {} for a in self.agents}

    def step(self, actions):
        if "a" in self.agents:
            return super().step(actions)
        self.agents = []
        return {}, {"b": 1.0}, {"b": True}, {"b": False}, {"b": {}}


def test_single_learner_env_skips_episodes_without_a_turn(pool):
    env = OpponentWrapper(Early(), pool, constant, learners=["a"]).as_gymnasium()
    observation, _ = env.reset(seed=3, options={"task": 1})
    assert observation.tolist() == [0, 0]
    assert len(env.env.env.options) == 3

    class Never(Early):
        def reset(self, seed=None, options=None):
            self.options = []
            return super().reset(seed, options)

    env = OpponentWrapper(Never(), pool, constant, learners=["a"]).as_gymnasium()
    with pytest.raises(UsageError, match="no turn in any of 100"):
        env.reset(options={"task": 1})


# --- policies ---------------------------------------------------------------------------------------------------


def test_policies_are_built_once_and_the_oldest_go_first(pool):
    built = []

    def policy(parameters):
        built.append(int(parameters["action"]))
        return constant(parameters)

    env = OpponentWrapper(Recorder(1), pool, policy, learners=["b", "c"], cache_size=2)
    for task in (0, 1, 0, 2, 0, 1):
        rollout(env, options={"task": task})
    assert built == [0, 1, 2, 1]


def test_policy_with_a_memory_is_reset(pool):
    env = OpponentWrapper(Recorder(), pool, Counting, learners=["b", "c"])
    for _ in range(2):
        rollout(env, options={"task": 0})
    assert [played["a"] for played in env.env.played] == [1, 2, 3] * 2


def dice_rolls(env, **reset):
    env.env.played.clear()
    rollout(env, options={"task": 0}, **reset)
    return [played["a"] for played in env.env.played]


def test_random_policies_follow_the_seed(pool):
    env = OpponentWrapper(Recorder(40), pool, dice, learners=["b", "c"])
    first = dice_rolls(env, seed=5)
    assert set(first) == {0, 1, 2}
    assert dice_rolls(env) != first
    assert dice_rolls(env, seed=5) == first
    assert dice_rolls(env, seed=6) != first


def test_copies_draw_their_own_random_numbers_unless_seeded(pool):
    env = OpponentWrapper(Recorder(40), pool, dice, learners=["b", "c"])
    one, other = (pickle.loads(pickle.dumps(env)) for _ in range(2))
    assert dice_rolls(one) != dice_rolls(other)
    assert dice_rolls(copy.deepcopy(env), seed=1) == dice_rolls(one, seed=1)
    seeded = [OpponentWrapper(Recorder(40), pool, dice, learners=["b"], seed=4) for _ in range(2)]
    assert dice_rolls(seeded[0]) == dice_rolls(pickle.loads(pickle.dumps(seeded[1])))


def _forked_rolls(env, pipe):
    pipe.send(dice_rolls(env))


def test_forked_copies_draw_their_own_random_numbers(pool):
    env = OpponentWrapper(Recorder(40), pool, dice, learners=["b", "c"])
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other tests may have left threads
        children = [context.Process(target=_forked_rolls, args=(env, theirs)) for _ in range(2)]
        for child in children:
            child.start()
    rolls = [ours.recv() for _ in children]
    for child in children:
        child.join()
    assert rolls[0] != rolls[1]


# --- faults -----------------------------------------------------------------------------------------------------


def test_misuse_is_explained(pool, tmp_path):
    with pytest.raises(UsageError, match="learners"):
        OpponentWrapper(Recorder(), pool, constant)
    for learners in (["a", "b", "c"], [], ["z"], ["a", "z"], "a"):
        with pytest.raises(UsageError, match="learners"):
            OpponentWrapper(Recorder(), pool, constant, learners=learners)
    with pytest.raises(UsageError, match="AECOpponentWrapper"):
        OpponentWrapper(tictactoe.env(), pool, constant, learners=["player_1"])
    with pytest.raises(UsageError, match="Use OpponentWrapper"):
        AECOpponentWrapper(Recorder(), pool, constant, learners=["a"])
    with pytest.raises(UsageError, match="policy is a function"):
        OpponentWrapper(Recorder(), pool, "greedy", learners=["a"])
    with pytest.raises(UsageError, match="cache_size"):
        OpponentWrapper(Recorder(), pool, constant, learners=["a"], cache_size=0)
    with pytest.raises(PoolError, match="nowhere"):
        OpponentWrapper(Recorder(), tmp_path / "nowhere", constant, learners=["a"])
    with pytest.raises(UsageError, match="one agent"):
        SingleLearnerEnv(Recorder())


@pytest.mark.parametrize("task", ["first", (0, 1, 2), {"a": 0}, 0.5, None, [[0, 1]], np.array([0.5, 1])])
def test_tasks_that_name_no_opponents_are_refused(pool, task):
    env = OpponentWrapper(Recorder(), pool, constant, learners=["b"])
    with pytest.raises(UsageError if task is None else TaskError, match="task"):
        env.reset(options={"task": task})


def test_faults_of_an_episode_are_clear_and_leave_the_wrapper_whole(pool):
    env = OpponentWrapper(Recorder(), pool, constant, learners=["b"])
    with pytest.raises(UsageError, match="No task"):
        env.reset()
    with pytest.raises(PoolError, match="9"):
        env.reset(options={"task": 9})
    env.reset(options={"task": 1})
    with pytest.raises(UsageError, match=r"\['a'\] are played from the pool"):
        env.step({"a": 0, "b": 0})
    with pytest.raises(UsageError, match="must return a function"):
        OpponentWrapper(Recorder(), pool, lambda parameters: 3, learners=["b"]).reset(options={"task": 0})
    single = OpponentWrapper(Recorder(1), pool, constant, learners=["b"]).as_gymnasium()
    with pytest.raises(UsageError, match="reset"):
        single.step(0)
    single.reset(options={"task": 1})
    assert single.step(2)[1:4] == (2.0, True, False)
    with pytest.raises(UsageError, match="reset"):
        single.step(0)


# --- other people's checks ------------------------------------------------------------------------------------


def race(components, pool, learner=0, levels=True):
    env = apple_race_v0.parallel_env()
    learners = [env.possible_agents[learner]]
    env = SeedTaskWrapper(env, 50) if levels else env
    return OpponentWrapper(PettingZooSyncWrapper(env, components, learners=learners), pool, constant)


def levels_and_opponents(pool):
    return DualCurriculumWrapper(
        DomainRandomization(DiscreteTaskSpace(50), seed=1), FictitiousSelfPlay(pool, seed=2)
    )


def test_parallel_api_test_passes_through(pool):
    with make_local_curriculum(levels_and_opponents(pool)) as curriculum:
        parallel_api_test(race(curriculum.components, pool), num_cycles=200)
        assert curriculum.metrics()["sync/episodes"] > 0


def test_gymnasium_checker_passes_through(pool):
    # One and the same task, as the checker compares episodes of the same seed.
    tasks = DualCurriculumWrapper(Constant(DiscreteTaskSpace(50), 7), SelfPlay(pool))
    with make_local_curriculum(tasks) as curriculum:
        env = race(curriculum.components, pool, learner=1).as_gymnasium()
        check_env(env, skip_render_check=True)
        env.close()


def test_gymnasium_vectors_of_both_seats(pool):
    with make_local_curriculum(levels_and_opponents(pool)) as curriculum:
        envs = gymnasium.vector.SyncVectorEnv(
            [
                lambda seat=seat: race(curriculum.components, pool, learner=seat % 2).as_gymnasium()
                for seat in range(4)
            ]
        )
        observations, _ = envs.reset(seed=0)
        for _ in range(150):
            observations, rewards, *_ = envs.step(envs.action_space.sample())
        assert observations.shape[0] == len(rewards) == 4
        assert curriculum.metrics()["agent/opponents_met"] == 3
        assert curriculum.metrics()["sync/aborted_episodes"] == 0
        envs.close()


def test_supersuit_clones_play_over_the_process_transport(pool):
    with make_multiprocessing_curriculum(levels_and_opponents(pool)) as curriculum:
        env = race(curriculum.components, pool.path)
        envs = concat_vec_envs_v1(pettingzoo_env_to_vec_env_v1(env), 2, num_cpus=2, base_class="gymnasium")
        envs.reset(seed=0)
        for _ in range(120):
            envs.step(np.array([envs.action_space.sample() for _ in range(2)]).reshape(2, -1)[:, 0])
        envs.close()
        metrics = curriculum.metrics()
    assert metrics["sync/episodes"] > 0


def test_gymnasium_sync_wrapper_may_stand_outside(pool):
    curriculum = FictitiousSelfPlay(pool, decay=1.0, seed=0)
    with make_local_curriculum(curriculum) as synced:
        inner = OpponentWrapper(Recorder(), pool, constant, learners=["a"]).as_gymnasium()
        env = GymnasiumSyncWrapper(inner, synced.components)
        for _ in range(6):
            env.reset()
            assert inner.env.opponents["b"] == env.task
            while not env.step(1)[2]:
                pass
        env.close()
    # Only the learner's return is known here, and 3 is more than 0.
    assert curriculum.win_rates(pool.ids).tolist() == [
        1.0 if curriculum.payoffs.games("learner", [i])[0] else 0.5 for i in range(3)
    ]
    assert sum(curriculum.payoffs.games("learner", pool.ids)) == 6


def test_cloudpickled_wrapper_reopens_the_pool(pool):
    env = OpponentWrapper(
        Recorder(), pool, lambda p: lambda observation, agent: int(p["action"]), learners=["b"]
    )
    env.reset(options={"task": 0})
    clone = cloudpickle.loads(cloudpickle.dumps(env))
    new = pool.add({"action": np.array(2)})
    rollout(clone, options={"task": new})
    assert clone.env.played == [{"a": 2, "b": 0, "c": 2}] * 3


# --- turns ------------------------------------------------------------------------------------------------------


def legal(parameters, rng):
    def act(observation, agent):
        return int(rng.choice(np.flatnonzero(observation["action_mask"])))

    return act


def one(parameters):
    return lambda observation, agent: 1


def test_opponents_turns_are_part_of_the_learners(pool):
    env = AECOpponentWrapper(Toll({"a": 2, "b": 3, "c": 1}), pool, one, learners=["b"])
    env.reset(options={"task": 0})
    heard = []
    for agent in env.agent_iter():
        observation, reward, terminated, truncated, _ = env.last()
        heard.append((agent, int(observation[0]), reward, env.rewards["b"], terminated))
        env.step(None if terminated or truncated else 3)
    # a | b (3) c a | b (3) | b (3): every turn of another costs b ten.
    assert heard == [
        ("b", 1, -10.0, -10.0, False),
        ("b", 4, 3.0 - 20.0, 3.0 - 20.0, False),
        ("b", 5, 3.0, 3.0, False),
        ("b", 6, 3.0, 3.0, True),
    ]
    assert env.agents == []
    assert env.env.agents == []


@pytest.mark.parametrize("truncate", [(), ("b",)])
def test_dead_opponents_take_their_empty_step(pool, truncate):
    env = AECOpponentWrapper(Toll({"a": 3, "b": 1}, truncate), pool, one, learners=["a"])
    env.reset(options={"task": 0})
    turns = 0
    for _ in env.agent_iter():
        _, _, terminated, truncated, _ = env.last()
        turns += not (terminated or truncated)
        env.step(None if terminated or truncated else 3)
    assert (turns, env.env.agents) == (3, [])


def test_dead_learner_leaves_the_opponents_to_finish(pool):
    with make_local_curriculum(SelfPlay(pool)) as synced:
        inner = AECSyncWrapper(Toll({"a": 1, "b": 4}), synced.components, learners=["a"])
        env = AECOpponentWrapper(inner, pool, one).as_gymnasium()
        env.reset()
        _, reward, terminated, truncated, _ = env.step(5)
        assert (terminated, truncated) == (True, False)
        assert env.env.env.env.clock == 5
        assert synced.metrics()["sync/episodes"] == 1
        assert reward == pytest.approx(5.0)


def test_tictactoe_from_both_seats_as_gymnasium(pool):
    curriculum = FictitiousSelfPlay(pool, decay=1.0, seed=0)
    with make_local_curriculum(curriculum) as synced:
        results = []
        for seat in ("player_1", "player_2"):
            env = AECOpponentWrapper(
                AECSyncWrapper(tictactoe.env(), synced.components, learners=[seat]), pool, legal
            ).as_gymnasium()
            for game in range(10):
                observation, _ = env.reset(seed=game)
                assert observation["observation"].sum() == (seat == "player_2")
                over = False
                while not over:
                    move = int(np.flatnonzero(observation["action_mask"])[0])
                    observation, reward, over, _, _ = env.step(move)
                results.append(reward)
            env.close()
        counts = np.sum([curriculum.payoffs.counts("learner", i) for i in pool.ids], axis=0)
    assert counts.tolist() == [results.count(1), results.count(0), results.count(-1)]
    assert min(counts[0], counts[2]) > 0


def test_aec_api_test_passes_through(pool):
    with make_local_curriculum(SelfPlay(pool)) as synced:
        env = AECOpponentWrapper(
            AECSyncWrapper(tictactoe.raw_env(), synced.components, learners=["player_2"]), pool, legal
        )
        with warnings.catch_warnings():
            # About the board's dtype and shape, which are the game's own.
            warnings.simplefilter("ignore", UserWarning)
            api_test(env, num_cycles=200)


def test_dict_tasks_without_opponents_are_told_apart(pool):
    space = DictTaskSpace({"speed": DiscreteTaskSpace(3)})
    with make_local_curriculum(Constant(space, {"speed": 1})) as synced:
        env = OpponentWrapper(
            PettingZooSyncWrapper(Recorder(), synced.components, learners=["a"]), pool, constant
        )
        with pytest.raises(TaskError, match="speed"):
            env.reset()

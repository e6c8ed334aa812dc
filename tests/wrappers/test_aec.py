"""Turn-based environments: whose reward is whose, when an episode is over, and that nothing else changes."""

from typing import ClassVar

import gymnasium
import numpy as np
import pytest
from pettingzoo.classic.connect_four import connect_four
from pettingzoo.classic.tictactoe import tictactoe
from pettingzoo.test import api_test, seed_test
from pettingzoo.utils import aec_to_parallel

from macurr import DiscreteTaskSpace, EpisodeAborted, TaskProgress, UsageError, make_local_curriculum
from macurr.curricula import Constant, DomainRandomization
from macurr.wrappers import AECSyncWrapper
from tests.support.ledger import Ledger, finished
from tests.support.turns import Toll


def play(env, moves, go_on=False):
    """One episode by a list of moves, by agent or in order of play; stops at the first done unless told otherwise."""
    env.reset(seed=1)
    queues = {agent: list(own) for agent, own in moves.items()} if isinstance(moves, dict) else None
    rest = None if queues else list(moves)
    for agent in env.agent_iter():
        over = env.terminations[agent] or env.truncations[agent]
        if over and not go_on:
            return
        env.step(None if over else (rest.pop(0) if queues is None else queues[agent].pop(0)))


@pytest.fixture
def connected():
    """Serves a ledger and connects an environment to it."""
    opened = []

    def connect(env, fields=("rewards", "dones", "observations"), **options):
        curriculum = Ledger(fields=fields)
        opened.append(make_local_curriculum(curriculum))
        return curriculum, AECSyncWrapper(env, opened[-1].components, **options)

    yield connect
    for synced in opened:
        synced.close()


@pytest.mark.parametrize("fields", [(), ("rewards", "dones"), ("rewards", "dones", "observations", "infos")])
@pytest.mark.parametrize("make", [tictactoe.env, connect_four.env])
@pytest.mark.filterwarnings("ignore::UserWarning")  # what these environments themselves are warned about
def test_conformance_tests_pass_through(make, fields, connected):
    curriculum, env = connected(make(), fields)
    api_test(env, num_cycles=60)
    env.close()
    assert finished(curriculum.told[0])
    with make_local_curriculum(Constant(DiscreteTaskSpace(3), 2)) as same:
        seed_test(lambda: AECSyncWrapper(make(), same.components), num_cycles=40)


# Both win in the fourth column-stack of their own: player_0 drops 0, player_1 drops 1.
FIRST_WINS = [0, 1, 0, 1, 0, 1, 0]
SECOND_WINS = [0, 1, 2, 1, 0, 1, 2, 1]


@pytest.mark.parametrize("go_on", [False, True], ids=["stops at the first done", "takes the empty steps too"])
@pytest.mark.parametrize(
    ("moves", "first"), [(FIRST_WINS, 1.0), (SECOND_WINS, -1.0)], ids=["first wins", "second wins"]
)
@pytest.mark.parametrize("fields", [(), ("rewards", "dones", "observations")])
def test_winner_and_loser_of_connect_four_are_both_paid(moves, first, go_on, fields, connected):
    curriculum, env = connected(connect_four.env(), fields)
    for _ in range(2):
        play(env, moves, go_on)
    results = [episode.result for episode in finished(curriculum.told[0])]
    assert [result.task for result in results] == [0, 1]
    for result in results:
        assert result.episode_return == {"player_0": first, "player_1": -first}
        assert result.length == len(moves)
    assert curriculum.aborted() == []


def test_tictactoe_draw_and_illegal_move(connected):
    curriculum, env = connected(tictactoe.env())
    play(env, [0, 1, 2, 4, 3, 5, 7, 6, 8])  # 0 2 3 7 8 against 1 4 5 6: no line of three
    play(env, [4, 4])  # the second player takes an occupied square
    draw, illegal = (episode.result for episode in finished(curriculum.told[0]))
    assert (draw.episode_return, draw.length) == ({"player_1": 0.0, "player_2": 0.0}, 9)
    assert (illegal.episode_return, illegal.length) == ({"player_1": 0.0, "player_2": -1.0}, 2)


def rows(batches, agent):
    """The agent's own steps: reward, terminated, truncated, what it saw before, and at the very end after."""
    parts = [batch.agent(agent) for batch in batches]
    seen = [row for part in parts for row in part.observations.get(agent, [])]
    return (
        np.concatenate([part.rewards[:, 0] for part in parts]).tolist(),
        np.concatenate([part.terminations[:, 0] for part in parts]).tolist(),
        np.concatenate([part.truncations[:, 0] for part in parts]).tolist(),
        np.ravel(seen).tolist(),
        parts[-1].final_observations[agent].tolist(),
    )


@pytest.mark.parametrize("batch_size", [1, 2, 128])
def test_what_the_others_moves_cost_an_agent_belongs_to_its_own_last_step(batch_size, connected):
    curriculum, env = connected(Toll({"a": 2, "b": 2}, truncate=("b",)), batch_size=batch_size)
    play(env, {"a": [1, 3], "b": [2, 4]}, go_on=True)
    (episode,) = finished(curriculum.told[0])
    # a: 1 - 20, then 3 - 40. b: paid -10 before it ever acted; then -10 + 2 - 30, then 4.
    assert rows(episode.batches, "a") == ([-19.0, 3.0], [False, True], [False, False], [0.0, 2.0], [3.0])
    assert rows(episode.batches, "b") == ([-38.0, 4.0], [False, False], [False, True], [1.0, 3.0], [4.0])
    assert episode.result.episode_return == {"a": -16.0, "b": -34.0}
    assert episode.result.length == 4
    if batch_size == 1:
        assert [batch.active.tolist() for batch in episode.batches] == [
            [[True, False]],
            [[True, False]],
            [[False, True]],
            [[False, True]],
        ]


def test_agents_that_die_early_or_never_act(connected):
    curriculum, env = connected(Toll({"a": 1, "b": 3, "c": 1}))
    play(env, {"a": [1], "b": [2, 3, 4], "c": [5]}, go_on=True)
    (episode,) = finished(curriculum.told[0])
    # a acts and is gone: what follows costs it nothing. c acts once after b's first move.
    assert rows(episode.batches, "a")[:2] == ([1.0], [True])
    assert rows(episode.batches, "b")[:2] == ([-10.0 + 2.0 - 50.0, 3.0, 4.0], [False, False, True])
    assert rows(episode.batches, "c")[:2] == ([-10.0 - 20.0 + 5.0], [True])
    assert episode.result.episode_return == {"a": 1.0, "b": -51.0, "c": -25.0}
    assert episode.result.length == 5


class Walkover(Toll):
    """The first move ends the game: the others have lost without a turn."""

    def step(self, action):
        super().step(action)
        self.terminations = dict.fromkeys(self.agents, True)


def test_an_agent_that_never_acted_has_its_return_and_no_step(connected):
    curriculum, env = connected(Walkover({"a": 2, "b": 2}))
    play(env, [3])
    (episode,) = finished(curriculum.told[0])
    assert episode.result.episode_return == {"a": 3.0, "b": -30.0}
    assert episode.result.length == 1
    assert episode.batches[0].active.tolist() == [[True, False]]


def test_a_reset_in_mid_game_gives_the_task_back_and_reports_no_result(connected):
    curriculum, env = connected(Toll({"a": 3, "b": 3}), buffer_size=0)
    env.reset()
    env.reset()  # a throw-away reset: the task stays
    for action in (1, 2, 3):
        env.step(action)
    env.reset()
    assert env.env.options == {"task": 1}
    env.close()
    batch, aborted, _ = curriculum.told[0]
    # Only what is over is a step: b's turn and a's second are not.
    assert (batch.task, batch.rewards.tolist(), batch.ends_episode) == (0, [[-19.0, 0.0]], False)
    assert aborted == EpisodeAborted(0, 0)
    assert curriculum.aborted() == [0, 1]
    assert finished(curriculum.told[0]) == []


class Chatty(Toll):
    """Tells how far each agent has come."""

    def step(self, action):
        agent = self.agent_selection
        super().step(action)
        if agent in self.infos:
            self.infos[agent]["task_completion"] = 1 - self.left[agent] / self.turns[agent]


def test_progress_follows_the_steps_that_led_to_it_and_the_last_batch_ends_the_episode(connected):
    curriculum, env = connected(Chatty({"a": 2, "b": 2}), remove_keys=["task"])
    play(env, {"a": [1, 3], "b": [2, 4]}, go_on=True)
    told = [
        message.progress if isinstance(message, TaskProgress) else type(message).__name__
        for message in curriculum.told[0]
    ]
    # A turn is over when its agent acts again or is dead, so the first two reports find no finished step.
    assert told == [
        {"a": 0.5, "b": 0.0},
        {"a": 0.5, "b": 0.5},
        "StepBatch",
        {"a": 1.0, "b": 0.5},
        "StepBatch",
        {"a": 1.0, "b": 1.0},
        "EpisodeResult",
    ]
    (episode,) = finished(curriculum.told[0])
    assert [len(batch) for batch in episode.batches] == [2, 2]


def test_task_reaches_the_environment_and_the_infos(connected):
    _, env = connected(Toll({"a": 1, "b": 1}))
    for task in range(3):
        env.reset(seed=5, options={"mine": True})
        assert env.env.options == {"mine": True, "task": task}
        assert (env.task, env.env_id) == (task, 0)
        assert [env.infos[agent]["task"] for agent in env.agents] == [task, task]
        env.step(0)
        assert env.infos["b"]["task"] == task
        env.step(None)
        env.step(0)
    _, silent = connected(Toll({"a": 1, "b": 1}), info_keys=False)
    silent.reset()
    assert silent.infos == {"a": {}, "b": {}}


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: aec_to_parallel(Board()), "PettingZooSyncWrapper"),
        (lambda: gymnasium.make("CartPole-v1"), "needs a PettingZoo AECEnv"),
    ],
)
def test_other_kinds_of_environments_are_refused(make, match):
    with (
        make_local_curriculum(DomainRandomization(DiscreteTaskSpace(2))) as synced,
        pytest.raises(UsageError, match=match),
    ):
        AECSyncWrapper(make(), synced.components)


class Board(Toll):
    """A game that PettingZoo lets be converted to simultaneous moves."""

    metadata: ClassVar = {**Toll.metadata, "is_parallelizable": True}

    def __init__(self):
        super().__init__({"a": 1, "b": 1})

"""Turn-based environments in batches: whose turn it is, who is paid, who is out, and what the curriculum hears."""

import numpy as np
import pytest
from pettingzoo.classic import tictactoe_v3

from macurr import ConfigError, DiscreteTaskSpace, make_local_curriculum, make_multiprocessing_curriculum
from macurr.curricula import Constant
from macurr.training.envs import EnvSource, make_env
from macurr.training.frames import FrameShape
from macurr.training.layout import Layout
from macurr.training.vector import VectorEnv
from macurr.training.worker import Job, build
from tests.support.ledger import Ledger, finished
from tests.support.training import Duel
from tests.support.turns import Toll

CONNECT_FOUR = "pettingzoo.classic.connect_four_v3"
TICTACTOE = "pettingzoo.classic.tictactoe_v3"
TOLL = "tests.support.turns:Toll"
BOTH = ((0, 1),)


def scheduled(path, seats=BOTH, seeds=(0,), **args):
    batch = build(Job(EnvSource(path, args), seats, 1, schedules=(tuple(enumerate(seeds)),) * len(seats)))
    batch.reset()
    return batch


def play(batch, moves):
    """Plays moves in the first environment by whoever's turn it is; yields the last sights of each step."""
    for move in moves:
        actions = np.zeros(batch.frame.alive.shape, np.int64)
        actions[0, np.flatnonzero(batch.frame.alive[0])] = move
        yield batch.step(actions)


@pytest.mark.parametrize(
    ("moves", "paid"),
    [([0, 1, 0, 1, 0, 1, 0], [1, -1]), ([0, 1, 2, 1, 0, 1, 2, 1], [-1, 1])],
    ids=["first", "second"],
)
def test_winner_and_loser_of_connect_four_are_paid_at_once(moves, paid):
    batch = scheduled(CONNECT_FOUR)
    frame = batch.frame
    for _ in range(2):
        for t, finals in enumerate(play(batch, moves[:-1]), 1):
            assert frame.alive[0].tolist() == [t % 2 == 0, t % 2 == 1]
            assert frame.rewards.tolist() == [[0, 0]]
            assert not frame.ended.any()
            assert len(finals.envs) == 0
        assert [len(finals.envs) for finals in play(batch, moves[-1:])] == [0]
        assert frame.rewards.tolist() == [paid]
        assert frame.terminated.tolist() == [[True, True]]
        assert not frame.truncated.any()
        assert frame.ended.all()
        assert frame.alive.tolist() == [[True, False]]
        assert not frame.observations[0, :, :84].any()  # an empty board again


@pytest.mark.parametrize(
    ("name", "args"), [("WithMasks", {}), ("TurnsWithMasks", {"turns": {"x": 1, "y": 1}})]
)
def test_masks_that_nobody_would_read_are_refused(name, args):
    place = EnvSource(f"{__name__}:{name}", args)
    with (
        make_local_curriculum(Constant(DiscreteTaskSpace(2), 0)) as synced,
        pytest.raises(ConfigError, match=r"WithMasks gives the action mask of '\w+' in its infos, .*Wrap it"),
    ):
        build(Job(place, BOTH, 1, synced.components)).reset()


class WithMasks(Duel):
    """Says in infos what is allowed."""

    def reset(self, seed=None, options=None):
        seen, infos = super().reset(seed, options)
        return seen, {agent: {**info, "action_mask": np.ones(2, np.int8)} for agent, info in infos.items()}


class TurnsWithMasks(Toll):
    """The same in turns."""

    def reset(self, seed=None, options=None):
        super().reset(seed, options)
        self.infos = {agent: {"action_mask": np.ones(2, np.int8)} for agent in self.agents}


def test_both_see_the_board_and_only_who_is_to_move_has_a_mask():
    batch = scheduled(CONNECT_FOUR)
    list(play(batch, [3] * 5))
    frame = batch.frame
    boards = frame.observations[0, :, :84].reshape(2, 6, 7, 2)
    assert boards[:, :, 3, 0].sum(axis=1).tolist() == [3, 2]  # one's own pieces
    assert boards[:, :, 3, 1].sum(axis=1).tolist() == [2, 3]
    assert frame.alive[0].tolist() == [False, True]
    assert frame.masks.all()
    list(play(batch, [3]))
    assert frame.alive[0].tolist() == [True, False]
    assert frame.masks[0].astype(int).tolist() == [[1, 1, 1, 0, 1, 1, 1], [1] * 7]


def test_an_illegal_move_costs_who_makes_it():
    batch = scheduled(TICTACTOE)
    list(play(batch, [4, 4]))
    assert batch.frame.rewards.tolist() == [[0, -1]]
    assert batch.frame.ended.all()


def test_a_batch_plays_what_the_bare_game_plays():
    batch = scheduled(TICTACTOE)
    frame, layout = batch.frame, batch.layout
    bare = tictactoe_v3.env()
    rng = np.random.default_rng(0)
    results = set()
    for _ in range(30):
        bare.reset(seed=0)
        returns = np.zeros(2)
        while True:
            k = int(np.flatnonzero(frame.alive[0])[0])
            agent = bare.agent_selection
            assert layout.agents[k] == agent
            rows, masks = layout.indicator(), layout.masks.copy()
            for other in range(2):
                layout.encode(other, bare.observe(layout.agents[other]), rows[other], None)
            layout.encode(k, bare.observe(agent), rows[k], masks[k])
            assert np.array_equal(frame.observations[0], rows)
            assert np.array_equal(frame.masks[0], masks)
            move = rng.choice(np.flatnonzero(frame.masks[0, k]))
            list(play(batch, [move]))
            bare.step(move)
            returns += frame.rewards[0]
            over = all(bare.terminations.values())
            assert frame.ended[0] == over
            if over:
                break
        # PettingZoo's own account of what each agent was paid.
        assert returns.tolist() == [bare._cumulative_rewards[a] for a in layout.agents]
        results.add(tuple(returns))
    assert results == {(1, -1), (-1, 1), (0, 0)}


def test_agents_leave_one_by_one_and_are_paid_as_long_as_they_are_in():
    batch = scheduled(TOLL, ((0, 1),), turns={"x": 2, "y": 1, "z": 2}, truncate=["y"])
    frame = batch.frame
    told = []
    for _ in range(2):
        for finals in play(batch, [1, 2, 3, 4, 5]):
            told.append(
                (
                    frame.rewards[0].tolist(),
                    frame.alive[0].tolist(),
                    frame.terminated[0].tolist(),
                    frame.truncated[0].tolist(),
                    [(int(k), row[0]) for k, row in zip(finals.agents, finals.observations, strict=True)],
                    bool(frame.ended[0]),
                )
            )
    nobody, x, y, z = [False] * 3, [True, False, False], [False, True, False], [False, False, True]
    assert told == 2 * [
        ([1, -10, -10], y, nobody, nobody, [], False),
        ([-20, 2, -20], z, nobody, y, [(1, 2.0)], False),
        ([-30, 0, 3], x, nobody, nobody, [], False),
        ([4, 0, -40], z, x, nobody, [], False),
        ([0, 0, 5], x, z, nobody, [], True),
    ]


def test_who_is_out_sees_nothing():
    batch = scheduled(TOLL, turns={"x": 2, "y": 1, "z": 2})
    seen = [batch.frame.observations[0, :, 0].tolist() for _ in play(batch, [1, 2, 3, 4])]
    assert seen == [[1, 1, 1], [2, 0, 2], [3, 0, 3], [0, 0, 4]]


@pytest.mark.parametrize("seats", [((0,), (1,)), ((0, 1), (0, 1))])
def test_the_curriculum_hears_what_the_frames_tell(seats):
    curriculum = Ledger(fields=("rewards", "dones"))
    with make_local_curriculum(curriculum) as synced:
        batch = build(Job(EnvSource(TICTACTOE), seats, 1, synced.components))
        batch.reset()
        rng = np.random.default_rng(0)
        sums, lengths, played = np.zeros((2, 2)), np.zeros(2, int), [[], []]
        tasks = batch.frame.tasks[:, 0].copy()
        for _ in range(60):
            legal = batch.frame.masks * rng.random(batch.frame.masks.shape)
            batch.step(legal.argmax(axis=2))
            sums += batch.frame.rewards
            lengths += 1
            for i in np.flatnonzero(batch.frame.ended):
                played[i].append(
                    (tasks[i], dict(zip(batch.layout.agents, sums[i].tolist(), strict=True)), lengths[i])
                )
                sums[i] = lengths[i] = 0
            tasks = batch.frame.tasks[:, 0].copy()
        for i in range(2):
            results = [episode.result for episode in finished(curriculum.told[i])]
            assert [(r.task, r.episode_return, r.length) for r in results] == played[i]
            assert len(results) > 5
            assert curriculum.specs[i].learners == tuple(batch.layout.agents[k] for k in seats[i])
        assert curriculum.aborted() == []
        batch.close()


def test_the_task_is_the_seed():
    space = DiscreteTaskSpace(100)
    with make_local_curriculum(Constant(space, 42)) as synced:
        source = EnvSource("tests.support.turns:Seeded", {"turns": {"x": 1, "y": 1}})
        batch = build(Job(source, BOTH, 1, synced.components))
        batch.reset()
        assert batch.frame.tasks.tolist() == [[42]]
        assert batch.frame.observations[0, :, 0].tolist() == [42, 42]
        batch.close()
    batch = scheduled("tests.support.turns:Seeded", seeds=(7, 8), turns={"x": 1, "y": 1})
    seen = batch.frame.observations[0, 1]  # y's row
    seeds = [seen[0], *(seen[0] for _ in play(batch, [0] * 6))]
    assert seeds == [7, 7, 8, 8, 7, 7, 8]


def test_workers_play_what_this_process_plays():
    source = EnvSource(CONNECT_FOUR)
    shape = FrameShape.of(Layout(source.make(), CONNECT_FOUR), 2, 1)

    def told(local):
        make = make_local_curriculum if local else make_multiprocessing_curriculum
        rng, frames = np.random.default_rng(0), []
        with make(Constant(DiscreteTaskSpace(9), 3)) as synced:
            jobs = [Job(source, ((0,), (1,)), 1, synced.components)]
            with VectorEnv(jobs, [shape], local=local) as vector:
                group = vector.groups[0]
                group.reset()
                for _ in range(40):
                    frame, _ = group.frame()
                    frames.append(bytes(frame.buffer))
                    group.act((frame.masks * rng.random(frame.masks.shape)).argmax(axis=2))
                group.frame()
        return frames

    assert told(True) == told(False)


def test_who_is_out_and_keeps_its_turn_is_an_error():
    batch = scheduled("tests.support.turns:Stuck", turns={"x": 1, "y": 2})
    with pytest.raises(ConfigError, match=r"empty steps of all who are out of tests\.support.* turn of 'x'"):
        list(play(batch, [1]))


def test_modules_with_both_kinds_give_the_parallel_one():
    assert not Layout(make_env("pettingzoo.classic.rps_v2"), "rps").turns
    assert Layout(make_env("pettingzoo.classic.rps_v2:env"), "rps").turns
    assert Layout(make_env(CONNECT_FOUR), "connect four").turns
    with pytest.raises(ConfigError, match=r"'json' has no parallel_env\(\) or env\(\)"):
        make_env("json")

"""Batches of environments: every agent's rows, ends and last sights, whatever an environment does with its agents."""

import sys

import numpy as np
import pytest
from pettingzoo import ParallelEnv

from macurr import ConfigError, DiscreteTaskSpace, make_local_curriculum
from macurr.curricula import Constant
from macurr.training.envs import EnvSource
from macurr.training.layout import Layout
from macurr.training.stepping import EnvBatch
from macurr.training.worker import Job, build
from macurr.wrappers import PettingZooSyncWrapper
from tests.support.envs import ScriptEnv
from tests.support.ledger import Ledger, finished
from tests.support.training import Duel, butterfly

HERE = "tests.support.training:"
EVERYBODY = ((0, 1),)


def scheduled(path, seats, seeds, **args):
    """A batch of environments that play the given seeds, one list for each."""
    schedules = tuple(tuple(enumerate(own)) for own in seeds)
    return build(Job(EnvSource(path, args), seats, 1, schedules=schedules))


def duels(name, seats=EVERYBODY, **args):
    batch = scheduled(HERE + name, seats, [[0]] * len(seats), **args)
    batch.reset()
    return batch


def zeros(batch):
    return np.zeros(
        (batch.shape.envs, batch.shape.agents, *batch.layout.action_shape), batch.layout.action_dtype
    )


def test_a_frame_and_the_last_sights_by_hand():
    batch = duels("Duel", seats=((0, 1), (1,)))
    frame = batch.frame
    assert frame.observations[0].tolist() == [[0, 0.5, 0, 0, 1, 0], [1, 0, 0, 0, 0, 1]]
    actions = np.array([[2, 0], [0, 1]])
    for t in range(1, 5):
        finals = batch.step(actions)
        assert frame.rewards.tolist() == [[1, -1], [-1, 1]]
        assert frame.observations[:, 0, 0].tolist() == [t, t]
        assert frame.alive.all()
        assert not frame.ended.any()
        assert len(finals.envs) == 0
    finals = batch.step(actions)
    assert frame.ended.all()
    assert frame.truncated.all()
    assert not frame.terminated.any()
    assert (finals.envs.tolist(), finals.agents.tolist()) == ([0, 0, 1], [0, 1, 1])
    assert finals.observations.tolist() == [[5, 0.5, 0, 0, 1, 0], [0, 1, 0, 0, 0, 1], [0, 1, 0, 0, 0, 1]]
    # What is seen now is the next episode's.
    assert frame.observations[0].tolist() == [[0, 0.5, 0, 0, 1, 0], [1, 0, 0, 0, 0, 1]]
    batch.step(actions)
    assert not frame.ended.any()
    assert not frame.truncated.any()


def history(batch, steps):
    """What each step told of the first environment: by step, "t" terminated, "u" truncated, "a" alive, "." neither."""
    told, frame = [], batch.frame
    for _ in range(steps):
        batch.step(zeros(batch))
        told.append(
            "".join(
                "t" if term else "u" if trunc else "a" if alive else "."
                for term, trunc, alive in zip(
                    frame.terminated[0], frame.truncated[0], frame.alive[0], strict=True
                )
            )
            + ("!" if frame.ended[0] else "")
        )
    return told


@pytest.mark.parametrize("name", ["Ragged", "Listed"])
def test_agents_that_end_one_by_one_end_once(name):
    batch = duels(name)
    assert history(batch, 10) == ["aa", "at", "a.", "a.", "ua!"] * 2


@pytest.mark.parametrize("name", ["Ragged", "Listed"])
def test_the_dead_see_nothing_but_who_they_are(name):
    batch = duels(name)
    for t in range(1, 5):
        batch.step(zeros(batch))
        assert batch.frame.observations[0, 1].tolist() == (
            [0, 1, 0, 0, 0, 1] if t < 2 else [0, 0, 0, 0, 0, 1]
        )


def test_who_is_paid_after_its_death_is_paid():
    batch = duels("Listed")
    paid = []
    for _ in range(5):
        batch.step(zeros(batch))
        paid.append(batch.frame.rewards[0, 1])
    assert paid == [0, 0, 0, 1, 0]


def test_masks_of_the_dead_allow_what_they_have():
    batch = duels("Masked")
    mask = batch.frame.masks
    assert mask[0].tolist() == [[True, False]] * 2
    batch.step(zeros(batch))
    assert mask[0].tolist() == [[False, True]] * 2
    batch._members[0]._place.clear(1)
    assert mask[0].tolist() == [[False, True], [True, True]]


ON, DIES, CUT = (1.0, False, False), (2.0, True, False), (3.0, False, True)
SCRIPTS = {
    "a late comer": ([{"a": ON}, {"a": ON, "b": ON}, {"a": CUT, "b": CUT}], ["aa.", "aa.", "uua!"]),
    "nobody at the end": ([{"a": ON, "b": ON}, {"a": DIES, "b": ON}, {"b": DIES}], ["aa.", "ta.", ".ta!"]),
    "back from the dead": (
        [{"a": ON, "b": ON}, {"a": DIES, "b": ON}, {"b": ON}, {"a": ON, "b": ON}, {"a": CUT, "b": CUT}],
        ["aa.", "ta.", "aa.", "aa.", "uu.!"],
    ),
    "both ways at once": ([{"a": (0.0, True, True), "b": CUT}], ["tu.!"]),
    "gone without a word": ([{"a": ON, "b": ON}, {"b": ON}], [".a.", "aa.!"]),
}


@pytest.mark.parametrize("loose", [False, True])
@pytest.mark.parametrize("script", SCRIPTS)
def test_agents_come_and_go(script, loose):
    episode, told = SCRIPTS[script]
    batch = scheduled("tests.support.envs:ScriptEnv", ((0,),), [[0]], episodes=[episode], loose=loose)
    batch.reset()
    first = "".join("a" if agent in episode[0] else "." for agent in "abc")
    # The step that ends an episode tells who acts in the next.
    last = "".join(new if old in "a." else old for old, new in zip(told[-1], first, strict=False)) + "!"
    assert history(batch, 2 * len(told)) == [*told[:-1], last] * 2


@pytest.mark.parametrize("name", ["Ragged", "Listed", "Duel"])
def test_the_curriculum_hears_of_every_episode_once(name):
    curriculum = Ledger(fields=())
    with make_local_curriculum(curriculum) as synced:
        batch = build(Job(EnvSource(HERE + name), EVERYBODY * 3, 1, synced.components))
        batch.reset()
        sums, played = np.zeros((3, 2)), [[], [], []]
        for _ in range(15):
            batch.step(zeros(batch))
            sums += batch.frame.rewards
            for i in np.flatnonzero(batch.frame.ended):
                played[i].append(dict(zip(("left", "right"), sums[i].tolist(), strict=True)))
                sums[i] = 0.0
        for i in range(3):
            results = [episode.result for episode in finished(curriculum.told[i])]
            assert [result.episode_return for result in results] == played[i]
            assert [result.length for result in results] == [5, 5, 5]
        assert curriculum.aborted() == []
        batch.close()


def test_held_environments_stand_still():
    batch = duels("Duel", seats=((0,), (0,), (0,)))
    held = np.array([True, False, True])
    batch.step(np.full((3, 2), 1), held)
    frame = batch.frame
    assert frame.observations[:, 0, 0].tolist() == [0, 1, 0]
    for _ in range(4):
        finals = batch.step(np.array([[2, 0]] * 3), held)
    assert frame.ended.tolist() == [False, True, False]
    assert finals.envs.tolist() == [1]
    assert frame.rewards.tolist() == [[0, 0], [1, -1], [0, 0]]
    assert frame.alive.all()
    batch.step(np.array([[2, 0]] * 3))
    assert frame.observations[:, 0, 0].tolist() == [1, 1, 1]
    assert frame.rewards[:, 0].tolist() == [1, 1, 1]


def test_actions_of_several_parts_reach_the_environment():
    batch = duels("Levers")
    assert batch.layout.nvec == (2, 3, 2)
    rng = np.random.default_rng(0)
    for _ in range(20):  # the environment checks that they are members of its spaces
        left, right = rng.integers(0, [2, 3, 2]), [*rng.integers(0, 2, 2), 0]
        batch.step(np.array([[left, right]]))
        assert batch.frame.rewards[0, 0] == np.sign(sum(left) + 1 - sum(right))


# Real environments: a batch gives what the bare environment gives.


def replayed(env: ParallelEnv, layout, seed, actions):
    """What a bare environment tells an episode's agents, worked out the plain way."""
    seen, _ = env.reset(seed=seed)
    out = set()
    for row in actions:
        acts = {a: layout.decode(k, row[k]) for k, a in enumerate(layout.agents) if a in env.agents}
        seen, rewards, terminations, truncations, _ = env.step(acts)
        ends = {a for a in rewards if terminations[a] or truncations[a]}
        yield seen, rewards, terminations, ends - out, set(env.agents) - ends
        out |= ends
        if not env.agents:
            return


REAL = {
    "apple race": ("macurr.envs.apple_race_v0", {"max_cycles": 20}),
    "tag": ("mpe2.simple_tag_v3", {"max_cycles": 8}),
    "zombies": (
        butterfly("knights_archers_zombies"),
        {"max_zombies": 40, "line_death": True, "max_cycles": 200},
    ),
    "pong": (butterfly("cooperative_pong"), {"max_cycles": 6}),
}


@pytest.mark.parametrize("name", REAL)
@pytest.mark.filterwarnings("ignore:.*render method without:UserWarning")  # pong paints what it sees
def test_a_batch_tells_what_the_bare_environment_tells(name):
    path, args = REAL[name]
    bare = EnvSource(path, args).make()
    agents = bare.possible_agents
    batch = scheduled(path, (tuple(range(len(agents))),), [[5, 6]], **args)
    batch.reset()
    layout, frame = batch.layout, batch.frame
    assert frame.observations.dtype == (np.uint8 if name == "pong" else np.float32)
    rng = np.random.default_rng(1)
    for seed in (5, 6):
        plays = rng.integers(0, layout.masks.sum(axis=1), (200, len(agents)))
        deaths = 0
        for row, told in zip(plays, replayed(bare, layout, seed, plays), strict=False):
            finals = batch.step(row[None])
            deaths += check_step(frame, finals, layout, told)
        assert deaths == len(agents)
        assert frame.ended[0]
    batch.close()
    bare.close()


def check_step(frame, finals, layout, told):
    seen, rewards, terminations, ends, living = told
    cut = dict(zip(finals.agents.tolist(), finals.observations, strict=True))
    for k, agent in enumerate(layout.agents):
        assert frame.rewards[0, k] == np.float32(rewards.get(agent, 0.0))
        assert frame.terminated[0, k] == (agent in ends and terminations[agent])
        assert frame.truncated[0, k] == (agent in ends and not terminations[agent])
        row = layout.indicator()[k]
        if agent in seen and (agent in living or frame.truncated[0, k]):
            layout.encode(k, seen[agent], row, None)
        if frame.truncated[0, k]:
            assert np.array_equal(cut[k], row)
        elif living:
            assert frame.alive[0, k] == (agent in living)
            assert np.array_equal(frame.observations[0, k], row)
    return len(ends)


def test_they_walk_out_one_by_one():
    path, args = REAL["zombies"]
    batch = scheduled(path, ((0,),), [[1]], **args)
    batch.reset()
    rng = np.random.default_rng(0)
    deaths = []
    while not batch.frame.ended[0]:
        walks = rng.random((1, 4)) < [1.0, 0.8, 0.7, 0.6]  # forwards, or not at all
        batch.step(np.where(walks, 0, 5))
        deaths.append(int(batch.frame.terminated.sum()))
    assert sum(deaths) == 4
    assert np.count_nonzero(deaths) > 1
    batch.close()


# What cannot be used.


class Deserted(ScriptEnv):
    """Nobody comes to its second episode."""

    def reset(self, seed=None, options=None):
        seen, infos = super().reset(seed, options)
        if self.episode:
            self.agents, seen, infos = [], {}, {}
        return seen, infos


def test_an_episode_without_agents_is_refused():
    with make_local_curriculum(Ledger(fields=())) as synced:
        env = PettingZooSyncWrapper(Deserted([[{"a": DIES}]]), synced.components)
        batch = EnvBatch([env], [(0,)], Layout(env, "the desert"), 1)
        batch.reset()
        with pytest.raises(ConfigError, match=r"reset\(\) of the desert gave no agents"):
            batch.step(np.zeros((1, 3), np.int64))


def test_what_an_environment_raises_names_it_its_task_and_the_place():
    batch = duels("Failing")
    batch.step(zeros(batch))
    batch.step(zeros(batch))
    with pytest.raises(
        ConfigError, match=r"Failing failed on task \[0\] with FloatingPointError: the lever broke"
    ) as error:
        batch.step(zeros(batch))
    assert 'raise FloatingPointError("the lever broke")' in str(error.value)


class Leaving(Duel):
    """Wants to end the program."""

    def step(self, actions):
        sys.exit(3)


def test_an_environment_does_not_end_the_program():
    batch = scheduled(f"{__name__}:Leaving", EVERYBODY, [[0]])
    batch.reset()
    with pytest.raises(ConfigError, match=r"Leaving failed on task \[0\] with SystemExit: 3"):
        batch.step(zeros(batch))


class NoStart(Duel):
    """Cannot begin its second episode."""

    def reset(self, seed=None, options=None):
        if seed == 77:
            raise FloatingPointError("the lever is stuck")
        return super().reset(seed, options)


def test_what_is_raised_at_the_beginning_of_an_episode_is_not_said_of_the_one_before():
    batch = scheduled(f"{__name__}:NoStart", EVERYBODY, [[5, 77]], length=1)
    batch.reset()
    with pytest.raises(
        ConfigError,
        match=r"NoStart failed at the beginning of an episode with FloatingPointError: the lever is stuck",
    ):
        batch.step(zeros(batch))


def test_a_beginning_that_fails_is_told_with_its_task():
    with make_local_curriculum(Constant(DiscreteTaskSpace(100), 77)) as synced:
        job = Job(EnvSource(f"{__name__}:NoStart"), EVERYBODY, 1, synced.components)
        with pytest.raises(
            ConfigError, match=r"failed at the beginning of an episode of task \[77\] with Floating"
        ):
            build(job).reset()

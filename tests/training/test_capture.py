"""Environments saved in mid-episode: what goes on elsewhere is what would have gone on here, to the last bit."""

import pickle

import numpy as np
import pytest

from macurr import (
    DiscreteTaskSpace,
    EpisodeAborted,
    StateError,
    StepBatch,
    UsageError,
    make_local_curriculum,
    make_multiprocessing_curriculum,
)
from macurr.curricula import DomainRandomization
from macurr.training.envs import EnvSource
from macurr.training.layout import Layout
from macurr.training.vector import LocalGroup
from macurr.training.worker import Job
from tests.support.training import butterfly

HERE = "tests.support.training:"
FIELDS = frozenset({"rewards", "dones", "observations", "infos", "progress"})
SEEDS = 1000

pytestmark = pytest.mark.filterwarnings("ignore:.*render method without:UserWarning")


class Listener(DomainRandomization):
    """Draws levels by chance and writes down all that it is told."""

    def __init__(self, fields=FIELDS):
        super().__init__(DiscreteTaskSpace(SEEDS), seed=5)
        self.fields = frozenset(fields)
        self.told = []

    @property
    def requires_step_updates(self):
        return bool(self.fields)

    @property
    def step_fields(self):
        return self.fields

    def register_env(self, env_id, spec):
        super().register_env(env_id, spec)
        self.told.append(("hello", env_id, spec))

    def update_on_step_batch(self, batch):
        super().update_on_step_batch(batch)
        self.told.append(batch)

    def update_on_episode(self, *args, **kwargs):
        super().update_on_episode(*args, **kwargs)
        self.told.append((args, kwargs))

    def update_on_abort(self, task, env_id=None):
        super().update_on_abort(task, env_id)
        self.told.append(EpisodeAborted(task, env_id))


def plain(thing):
    """Anything that a curriculum is told, as something that can be compared."""
    if isinstance(thing, StepBatch):
        return [plain(getattr(thing, name)) for name in StepBatch.__slots__]
    if isinstance(thing, dict):
        return {key: plain(value) for key, value in thing.items()}
    if isinstance(thing, list | tuple):
        return [plain(value) for value in thing]
    return (str(thing.dtype), thing.tolist()) if isinstance(thing, np.ndarray) else thing


def begun(source, synced, envs=3):
    agents = len(Layout(source.make(), "x").agents)
    seats = tuple((i % agents, (i + 1) % agents) for i in range(envs))
    return LocalGroup(Job(source, seats, 1, synced.components))


def actions(group, t):
    """Legal actions that depend on the step alone."""
    layout, frame = group._batch.layout, group.frame()[0]
    rng = np.random.default_rng(t)
    chosen = rng.random((*frame.alive.shape, layout.actions)) + layout.masks
    if layout.masked:
        chosen *= frame.masks
    if layout.kind == "continuous":
        return chosen.astype(np.float32)
    if layout.kind == "multidiscrete":
        parts = np.split(chosen, np.cumsum(layout.nvec)[:-1], axis=-1)
        return np.stack([part.argmax(axis=-1) for part in parts], axis=-1)
    return chosen.argmax(axis=-1)


def play(group, steps):
    """What each step gives, as bytes and lists."""
    told = []
    for t in steps:
        group.act(actions(group, t))
        told.append(snapshot(group))
    return told


def snapshot(group):
    frame, finals = group.frame()
    return bytes(frame.buffer), finals.envs.tolist(), finals.agents.tolist(), finals.observations.tolist()


def straight(source, steps, fields):
    listener = Listener(fields)
    with make_local_curriculum(listener) as synced:
        group = begun(source, synced)
        group.reset()
        frames = play(group, range(steps))
        result = frames, plain(listener.told), synced.state_dict(), synced.metrics()
        group.close()
    return result


def interrupted(source, steps, fields, cuts):
    """The same, but with everything thrown away and loaded elsewhere before each of the steps `cuts`."""
    frames, told, saved, first = [], [], None, 0
    for cut in [*cuts, steps]:
        listener = Listener(fields)
        with make_local_curriculum(listener) as synced:
            if saved is None:
                group = begun(source, synced)
                group.reset()
            else:
                synced.load_state_dict(saved[0])
                group = begun(source, synced)
                group.load_state_dict(saved[1])
                assert snapshot(group) == frames[-1]
                listener.told.clear()  # that it knows of the environments again
            frames += play(group, range(first, cut))
            told += plain(listener.told)
            # Through bytes, as through a file.
            saved = pickle.loads(pickle.dumps((synced.state_dict(), group.state_dict())))
            result = frames, told, synced.state_dict(), synced.metrics()
            group.close()
        first = cut
    return result


CASES = {
    "duel": (HERE + "Duel", {}, 23, [7, 8]),
    "long episodes, of which a part was sent": (HERE + "Duel", {"length": 300}, 310, [140, 299, 300]),
    "the dead": (HERE + "Ragged", {}, 20, [3, 9, 14]),
    "the dead that are listed": (HERE + "Listed", {}, 20, [3, 9]),
    "several parts": (HERE + "Levers", {}, 12, [6]),
    "coordinates": (HERE + "Reacher", {}, 12, [6]),
    "turns": ("pettingzoo.classic.connect_four_v3", {}, 60, [5, 30]),
    "turns of the dying": (
        "tests.support.turns:Toll",
        {"turns": {"x": 3, "y": 1, "z": 2}, "truncate": ["z"]},
        20,
        [3, 9],
    ),
    "apple race": ("macurr.envs.apple_race_v0", {"max_cycles": 12}, 40, [5, 17]),
    "tag": ("mpe2.simple_tag_v3", {"max_cycles": 10}, 25, [3, 14]),
    "zombies": (
        butterfly("knights_archers_zombies"),
        {"line_death": True, "max_cycles": 90},
        110,
        [60],
    ),
    "pong": (butterfly("cooperative_pong"), {"max_cycles": 8}, 12, [5]),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_taken_up_goes_on_as_if_nothing_had_happened(case):
    path, args, steps, cuts = CASES[case]
    source = EnvSource(path, args)
    fields = {"rewards", "dones"} if case in {"zombies", "pong"} else FIELDS
    frames, told, state, metrics = straight(source, steps, fields)
    again = interrupted(source, steps, fields, cuts)
    assert again[0] == frames
    assert again[1] == told
    assert timeless(again[2]) == timeless(state)
    assert timeless(again[3]) == timeless(metrics)
    assert any(step[0] != frames[0][0] for step in frames)


def timeless(state):
    """A state without the seconds that environments have waited."""
    if isinstance(state, dict):
        return {name: timeless(value) for name, value in state.items() if "wait" not in name}
    return plain(state)


def test_a_curriculum_that_reads_no_steps_counts_returns_once():
    source = EnvSource(HERE + "Duel")
    assert interrupted(source, 12, (), [3, 8])[:2] == straight(source, 12, ())[:2]


@pytest.mark.parametrize("path", [HERE + "Duel", "pettingzoo.classic.tictactoe_v3"])
def test_schedules_go_on_where_they_were(path):
    def made():
        return LocalGroup(Job(EnvSource(path), ((0,),) * 2, 1, schedules=(((0, 4), (1, 5)), ((7, 6),))))

    whole, half = made(), made()
    whole.reset()
    half.reset()
    frames = play(whole, range(30))
    assert play(half, range(17)) == frames[:17]
    rest = made()
    rest.load_state_dict(half.state_dict())
    assert play(rest, range(17, 30)) == frames[17:]


def test_what_cannot_be_pickled_is_not_captured():
    with make_local_curriculum(Listener(())) as synced:
        group = begun(EnvSource(HERE + "Unpicklable"), synced)
        group.reset()
        assert group.state_dict() is None
        group.close()


def test_only_a_curriculum_of_this_process_lets_go_of_episodes():
    with make_multiprocessing_curriculum(Listener(())) as synced:
        group = begun(EnvSource(HERE + "Duel"), synced)
        group.reset()
        with pytest.raises(UsageError, match="local curriculum"):
            group.state_dict()
        group.close()


@pytest.fixture
def saved():
    with make_local_curriculum(Listener(())) as synced:
        group = begun(EnvSource(HERE + "Duel"), synced)
        group.reset()
        play(group, range(3))
        yield synced.state_dict(), group.state_dict()
        group.close()


def damaged(state, **changes):
    return {**state, "batch": {**state["batch"], **changes}}


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (lambda state: {**state, "type": "EnvBatch"}, "belongs to EnvBatch"),
        (lambda state: {"type": "LocalGroup", "batch": state["batch"]}, "lacks"),
        (lambda state: damaged(state, shape=[3, 2, 6, 0, 2]), "sizes"),
        (lambda state: damaged(state, frame=np.zeros(3, np.uint8)), "sizes"),
        (lambda state: damaged(state, pickled=np.zeros(9, np.uint8)), "cannot be read again"),
    ],
)
def test_damaged_states_change_nothing(saved, damage, match):
    curriculum, state = saved
    with make_local_curriculum(Listener(())) as synced:
        synced.load_state_dict(curriculum)
        group = begun(EnvSource(HERE + "Duel"), synced)
        with pytest.raises(StateError, match=match):
            group.load_state_dict(damage(state))
        group.load_state_dict(state)
        play(group, range(3, 10))
        group.close()


def test_tasks_that_the_curriculum_does_not_have_are_refused(saved):
    _, state = saved
    with make_local_curriculum(Listener(())) as synced:
        group = begun(EnvSource(HERE + "Duel"), synced)
        with pytest.raises(StateError, match="no such task to hand out"):
            group.load_state_dict(state)
        group.close()


def test_an_episode_is_not_taken_up_in_the_middle_of_another(saved):
    curriculum, state = saved
    with make_local_curriculum(Listener(())) as synced:
        synced.load_state_dict(curriculum)
        group = begun(EnvSource(HERE + "Duel"), synced)
        group.reset()
        with pytest.raises(UsageError, match="before the first reset"):
            group.load_state_dict(state)
        group.close()

"""Letters to the actor, without Ray: whatever dies when, each is applied once, in order, or counted as lost."""

import contextlib
import inspect
import pickle
from collections import defaultdict

import cloudpickle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from macurr import StateError, TransportError, UsageError
from macurr.messages import EnvSpec, EpisodeResult
from macurr.persistence import load_state, save_state
from macurr.testing import TraceCurriculum
from macurr.transports.base import SyncedCurriculum
from macurr.transports.encoding import encode
from macurr.transports.ray.actor import CurriculumActor
from macurr.transports.ray.courier import Courier
from macurr.transports.ray.learner import CHANGES
from macurr.transports.ray.messages import Settings
from macurr.transports.ray.saver import Saving
from macurr.transports.wire import pack

SPEC = EnvSpec(("left", "right"), ("left",))


class Place:
    """Where an actor lives and dies; stands in for Ray's way to it, which calls again after a failure."""

    def __init__(self, path, letters=1000, run="0" * 32, resume=False, worker_timeout=1e9):
        self.saving = Saving(str(path), letters, 1e9, run, resume)
        self.settings = Settings(10.0, 64, worker_timeout, saves=True)
        self.parcel = cloudpickle.dumps(TraceCurriculum())
        self.faults = []
        self.actor = self._born(restarted=False)

    def _born(self, *, restarted):
        return CurriculumActor(self.parcel, None, self.settings, self.saving, restarted)

    def kill(self):
        self.actor = self._born(restarted=True)

    def ask(self, method, *args, patience=None):
        fault = self.faults.pop() if self.faults else None
        if fault == "killed before":
            self.kill()
        if fault in {"killed after", "reply lost"}:
            getattr(self.actor, method)(*args)
            if fault == "killed after":
                self.kill()
        return getattr(self.actor, method)(*args)

    def state(self):
        return self.actor.read("state", cloudpickle.dumps(((), {}))).value()

    def metrics(self):
        return self.actor.read("metrics", cloudpickle.dumps(((), {}))).value()

    def calls(self, kind):
        calls = pickle.loads(self.state()["curriculum"]["calls"].tobytes())
        return [what for name, what in calls if name == kind]


class Player:
    """A process with one environment that finishes one episode in each letter, and asks for the next task."""

    def __init__(self, place, name):
        self.courier = Courier(place, name, saves=True)
        reply = self.courier.bring(pack("hello", 1, SPEC, 1))
        ((_, ((self.env_id, _),)),) = reply.answers.welcomes
        reply = self.courier.bring(pack("request", self.env_id, 1, True, None))
        ((_, self.task, *_),) = reply.answers.tasks
        self.finished = []

    def play(self):
        result = EpisodeResult(self.task, self.env_id, {"left": 1.0, "right": 0.0}, 3, {})
        frames = pack("updates", self.env_id, None, 0, encode(result))
        frames += pack("request", self.env_id, 1, True, None)
        reply = self.courier.bring(frames)
        assert reply.failure is None
        assert reply.refusals == ()
        self.finished.append(self.task)
        ((env_id, self.task, *_),) = reply.answers.tasks
        assert env_id == self.env_id


FAULTS = st.lists(st.sampled_from(["killed before", "killed after", "reply lost", None]), max_size=3)
MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("play"), st.integers(0, 2), FAULTS),
        st.tuples(st.just("look"), st.integers(0, 2), FAULTS),
        st.tuples(st.just("save"), st.integers(0, 2), st.just([])),
        st.tuples(st.just("restart"), st.integers(0, 2), FAULTS),
        st.tuples(st.just("kill"), st.just(0), st.just([])),
    ),
    max_size=25,
)


def make_move(place, players, dead, move, i):
    if move == "play":
        players[i].play()
    elif move == "look":
        players[i].courier.bring(b"")
    elif move == "save":
        players[i].courier.bring(b"", last=True)
    elif move == "restart":
        dead.append(players[i])
        players[i] = Player(place, f"worker {i}")
    else:
        place.kill()


@given(moves=MOVES, letters=st.integers(1, 9))
def test_every_letter_is_applied_once_or_counted(tmp_path_factory, moves, letters):
    place = Place(tmp_path_factory.mktemp("run") / "checkpoint", letters)
    players, dead = [Player(place, f"worker {i}") for i in range(3)], []
    for move, i, faults in moves:
        place.faults = list(faults)
        make_move(place, players, dead, move, i)
    place.faults = []
    for player in players:
        player.courier.bring(b"")
    arrived = defaultdict(list)
    for result in place.calls("episode"):
        arrived[result.env_id].append(result.task)
    # Who lives has lost nothing, and the curriculum knows what it is playing.
    assert [arrived[player.env_id] for player in players] == [player.finished for player in players]
    assert {tuple(place.actor._host.envs[player.env_id].outstanding) for player in players} == {
        (player.task,) for player in players
    }
    # Who has died has lost the last it told, and it is known how much.
    assert all(player.finished[: len(arrived[player.env_id])] == arrived[player.env_id] for player in dead)
    lost = sum(len(player.finished) - len(arrived[player.env_id]) for player in dead)
    assert place.metrics()["updates_lost"] == lost
    ids = [player.env_id for player in [*players, *dead]]
    assert len(set(ids)) == len(ids)


def test_a_restart_between_two_letters_is_not_noticed(tmp_path):
    place = Place(tmp_path / "checkpoint", letters=1)
    player = Player(place, "worker")
    for _ in range(5):
        player.play()
        place.kill()
    assert [result.task for result in place.calls("episode")] == player.finished == [0, 1, 2, 3, 4]
    metrics = place.metrics()
    assert metrics["restarts"] == 5
    assert metrics["exchanges_resent"] == 0
    assert metrics["episodes"] == 5


def test_what_came_after_the_checkpoint_comes_again(tmp_path):
    place = Place(tmp_path / "checkpoint", letters=4)
    player = Player(place, "worker")  # two letters
    for _ in range(5):
        player.play()
    assert place.metrics()["checkpoints"] == 2  # at the start, and after four letters; three came later
    place.kill()
    assert [result.task for result in place.calls("episode")] == [0, 1]
    assert place.metrics()["exchanges_lost"] == 3
    player.play()
    assert [result.task for result in place.calls("episode")] == [0, 1, 2, 3, 4, 5]
    assert place.metrics()["exchanges_resent"] == 3
    assert place.metrics()["exchanges_lost"] == 0


def test_a_process_that_takes_the_place_of_another_gives_its_tasks_back(tmp_path):
    place = Place(tmp_path / "checkpoint")
    first = Player(place, "worker")
    second = Player(place, "worker")
    assert (first.env_id, second.env_id) == (0, 1)
    assert [abort.task for abort in place.calls("abort")] == [0]
    with pytest.raises(AssertionError):
        first.play()
    reply = first.courier.bring(b"")
    assert "Another process has taken the place of worker worker" in reply.failure.message
    second.play()
    assert place.metrics()["envs"] == 1


@pytest.mark.parametrize("killed", [False, True])
def test_a_worker_that_was_silent_for_too_long_gives_its_tasks_back_and_may_return(killed, tmp_path):
    place = Place(tmp_path / "checkpoint", letters=1, worker_timeout=10.0)
    slow, other = Player(place, "slow"), Player(place, "other")
    workers = place.actor._workers
    workers.by_name["slow"].heard -= 11.0
    workers._swept -= 11.0
    other.play()
    assert place.metrics()["envs"] == 1
    assert [abort.env_id for abort in place.calls("abort")] == [slow.env_id]
    if killed:
        place.kill()
    slow.play()
    other.courier.bring(b"")
    assert place.metrics()["envs"] == 2
    assert [result.env_id for result in place.calls("episode")] == [other.env_id, slow.env_id]


def test_ids_are_not_given_again_after_a_restart(tmp_path):
    place = Place(tmp_path / "checkpoint", letters=1000)
    first = Player(place, "a")
    place.kill()  # the file knows nothing of that player
    second = Player(place, "b")
    first.play()
    second.play()
    assert first.env_id != second.env_id
    many = Courier(place, "c", saves=True).bring(pack("hello", 1, SPEC, 600))
    given = {env_id for env_id, _ in many.answers.welcomes[0][1]}
    place.kill()
    assert Player(place, "d").env_id not in {*given, first.env_id, second.env_id}


@pytest.mark.parametrize("applied", [False, True])
def test_a_letter_that_was_given_up_on_is_delivered_before_the_next(applied, tmp_path):
    class Lost(Exception):
        pass

    place = Place(tmp_path / "checkpoint")
    learner = Courier(place, "learner", saves=True)
    ask = place.ask

    def never(method, *args, patience=None):
        if applied:
            ask(method, *args)
        raise Lost

    for n, way in ((1, ask), (2, never), (3, never), (4, ask)):
        place.ask = way
        with contextlib.suppress(Lost):
            learner.bring(pack("learn", cloudpickle.dumps(("update_on_demand", ({"n": n},), {}))))
    assert [told["n"] for told in place.calls("demand")] == [1, 2, 3, 4]
    place.kill()
    learner.bring(pack("learn", cloudpickle.dumps(("update_on_demand", ({"n": 5},), {}))))
    assert [told["n"] for told in place.calls("demand")] == [1, 2, 3, 4, 5]


def test_a_letter_that_asks_for_too_much_is_refused_to_its_environment_alone(tmp_path):
    place = Place(tmp_path / "checkpoint")
    player, thief = Player(place, "worker"), Courier(place, "thief", saves=True)
    reply = thief.bring(pack("request", player.env_id, 1, True, None))
    ((env_id, refusal),) = reply.refusals
    assert (env_id, refusal.name) == (player.env_id, "TransportError")
    assert "This worker has the environments []" in refusal.message
    reply = thief.bring(pack("hello", 7, EnvSpec(("agent_0",), ("agent_0",), True), 1))
    assert reply.refusals == ()
    player.play()


def test_a_failure_over_the_tasks_of_a_worker_that_is_gone_is_told(tmp_path):
    place = Place(tmp_path / "checkpoint", worker_timeout=10.0)
    gone, other = Player(place, "gone"), Player(place, "other")
    other.courier.bring(pack("learn", cloudpickle.dumps(("update_on_demand", ({"fail_on": "abort"},), {}))))
    workers = place.actor._workers
    workers.by_name["gone"].heard -= 11.0
    workers._swept -= 11.0
    failure = other.courier.bring(b"").failure
    assert failure.name == "CurriculumError"
    assert "boom in abort" in failure.message
    assert gone.courier.bring(b"").failure == failure


def test_every_call_of_the_learner_is_known_to_change_something_or_not():
    asking = {"sample", "task_info", "distribution", "normalize", "metrics"}
    asking |= {"get_options", "tunable_options", "check_options"}
    own = {"close", "link_metrics", "state_dict", "load_state_dict"}
    methods = {name for name, _ in inspect.getmembers(SyncedCurriculum, inspect.isfunction)}
    passed_on = {name for name in vars(SyncedCurriculum) if name in methods and not name.startswith("_")}
    assert passed_on == asking | CHANGES | own


# --- files -------------------------------------------------------------------------------------------------


def refusal(place):
    with pytest.raises((UsageError, StateError)) as caught:
        place.actor.settings().value()
    return str(caught.value)


def test_another_run_is_resumed_only_if_that_was_said(tmp_path):
    path = tmp_path / "checkpoint"
    place = Place(path, run="1" * 32)
    player = Player(place, "worker")
    player.play()
    player.courier.bring(b"", last=True)
    assert "of another run" in refusal(Place(path, run="2" * 32))
    resumed = Place(path, run="3" * 32, resume=True)
    assert [result.task for result in resumed.calls("episode")] == [0]
    assert Player(resumed, "worker").task == 1  # it was out when that run ended
    assert resumed.metrics()["restarts"] == 0
    resumed.kill()
    assert resumed.metrics()["restarts"] == 1


def test_a_checkpoint_that_is_gone_is_told_to_everybody(tmp_path):
    place = Place(tmp_path / "checkpoint")
    player = Player(place, "worker")
    (tmp_path / "checkpoint").unlink()
    place.kill()
    assert "every node shares" in refusal(place)
    assert "every node shares" in player.courier.bring(b"").failure.message
    assert place.actor.stop() == []
    assert not place.actor.hand_over().ok


def test_an_older_file_in_its_place_is_a_gap_that_is_told(tmp_path):
    path = tmp_path / "checkpoint"
    place = Place(path, letters=1)
    player = Player(place, "worker")
    older = path.read_bytes()
    player.play()
    player.play()
    path.write_bytes(older)
    place.kill()
    with pytest.raises(TransportError, match=r"knows 2 letters of this worker; letters 3 to 4 .* are lost"):
        player.play()


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "checkpoint"
    place = Place(path)
    Player(place, "worker").courier.bring(b"", last=True)
    state = load_state(path)
    for change in ({"type": "x"}, {"envs": {"0": {}}}, {"workers": {"w": 3}}, {"lost": {"w": 3}}):
        save_state(path, {**state, **change})
        place.kill()
        assert "checkpoint" in refusal(place).lower()
    save_state(path, state)
    place.kill()
    assert place.metrics()["envs"] == 1


def test_a_disk_that_is_full_costs_checkpoints_and_nothing_else(tmp_path, caplog):
    folder = tmp_path / "gone"
    folder.mkdir()
    place = Place(folder / "checkpoint", letters=1)
    player = Player(place, "worker")
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    player.play()
    player.play()
    assert "could not be written" in caplog.text
    assert place.metrics()["checkpoints_failed"] == 2
    assert player.courier.kept_bytes > 0
    folder.mkdir()
    player.play()
    assert player.courier.kept_bytes == 0
    place.kill()
    player.play()
    assert [result.task for result in place.calls("episode")] == player.finished

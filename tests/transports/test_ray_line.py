"""Direct connections to the actor, without Ray: what they carry, what breaks them, and who may come in."""

import itertools
import pickle
import socket
import threading
import time
from types import SimpleNamespace

import cloudpickle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from macurr import TransportError
from macurr.messages import EnvSpec, EpisodeResult
from macurr.testing import TraceCurriculum
from macurr.transports.encoding import encode
from macurr.transports.ray import line as lines
from macurr.transports.ray.actor import CurriculumActor
from macurr.transports.ray.courier import Courier
from macurr.transports.ray.line import Line
from macurr.transports.ray.messages import Letter, Settings, packed
from macurr.transports.wire import open_socket, pack

SPEC = EnvSpec(("left", "right"), ("left",))
HERE = "127.0.0.1"
pytestmark = pytest.mark.timeout(60)


def until(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


class Place:
    """Where an actor lives; stands in for Ray's way to it, and counts how often that is gone."""

    def __init__(self, curriculum=None, ip=HERE):
        self.actor = CurriculumActor(
            cloudpickle.dumps(TraceCurriculum() if curriculum is None else curriculum),
            None,
            Settings(10.0, 64, 1e9, saves=False),
        )
        self.calls = []
        self.connected = True
        self.lines = []
        if ip is not None:
            self.actor.listen(ip)

    def ask(self, method, *args, patience=None):
        self.calls.append(method)
        return getattr(self.actor, method)(*args)

    def door(self):
        return self.ask("settings").value().door

    def line(self):
        return self.kept(Line(self.door, lambda: self.connected))

    def kept(self, line):
        self.lines.append(line)
        return line

    def metrics(self):
        return self.actor.read("metrics", cloudpickle.dumps(((), {}))).value()

    def episodes(self):
        state = self.actor.read("state", cloudpickle.dumps(((), {}))).value()
        calls = pickle.loads(state["curriculum"]["calls"].tobytes())
        return [what.task for name, what in calls if name == "episode"]

    def close(self):
        outcome = self.actor.hand_over()
        for line in self.lines:
            line.close()
        return outcome


@pytest.fixture
def place():
    place = Place()
    yield place
    place.close()


class Player:
    """A process with one environment, whose first letter goes by Ray, and the others on its line if it can."""

    def __init__(self, place, line=None, name="worker"):
        self.line = place.line() if line is None else line
        self.courier = Courier(place, name, saves=False, line=self.line)
        ((_, ((self.env_id, _),)),) = self.say(pack("hello", 1, SPEC, 1)).answers.welcomes
        self.tasks = []

    def say(self, frames):
        reply = self.courier.bring(frames)
        assert reply.failure is None
        assert reply.refusals == ()
        self.courier.mend()
        return reply

    def play(self, info=None):
        """Begin an episode and finish it."""
        ((_, task, *_),) = self.say(pack("request", self.env_id, 1, True, None)).answers.tasks
        result = EpisodeResult(task, self.env_id, {"left": 1.0, "right": 0.0}, 3, info or {})
        self.say(pack("updates", self.env_id, None, 0, encode(result)))
        self.tasks.append(task)


def test_letters_go_on_the_line_once_there_is_one(place):
    player = Player(place)
    assert place.calls == ["exchange", "settings"]
    for _ in range(3):
        player.play()
    player.say(b"")
    assert place.calls == ["exchange", "settings"]
    assert place.episodes() == player.tasks == [0, 1, 2]
    player.courier.close()
    assert not player.line.open
    player.play()
    assert place.calls[2] == "exchange"
    assert place.metrics()["exchanges"] == 9


def test_a_letter_of_many_reads_and_its_reply(place):
    player = Player(place)
    result = EpisodeResult(0, player.env_id, {"left": 1.0, "right": 0.0}, 3, {"picture": bytes(3_000_000)})
    reply = player.say(
        pack("request", player.env_id, 5000, True, None)
        + pack("updates", player.env_id, None, 0, encode(result))
    )
    assert [task for _, task, *_ in reply.answers.tasks] == list(range(5000))
    assert place.episodes() == [0]
    assert place.calls == ["exchange", "settings"]


class Flaky(Line):
    """A line that breaks where it is told to."""

    def __init__(self, place, faults):
        super().__init__(place.door, lambda: True)
        self.place, self.faults = place, faults

    def ask(self, parcel):
        fault = self.faults.pop() if self.faults else None
        if fault == "cut before":
            self._sock.shutdown(socket.SHUT_RDWR)
        if fault == "reply lost":
            super().ask(parcel)
            self.close()
        if fault == "half a letter":
            self._sock.sendall(pack("letter", parcel)[:-5])
            self._sock.shutdown(socket.SHUT_RDWR)
        return super().ask(parcel)


FAULTS = st.lists(st.sampled_from(["cut before", "reply lost", "half a letter", None]), max_size=8)


@settings(max_examples=25)
@given(faults=st.lists(FAULTS, min_size=2, max_size=2))
def test_wherever_a_line_breaks_each_letter_is_applied_once(faults):
    place = Place()
    players = [Player(place, place.kept(Flaky(place, [])), f"worker {i}") for i in range(2)]
    for player, some in zip(players, faults, strict=True):
        player.line.faults = list(some)
    for player in players * 4:
        player.play()
    assert all(player.line.open for player in players)  # it is mended each time
    heard = iter(place.episodes())
    assert list(heard) == [task for pair in zip(*(p.tasks for p in players), strict=True) for task in pair]
    metrics = place.metrics()
    assert metrics["exchanges"] == 2 * (1 + 2 * 4)
    assert metrics["exchanges_repeated"] == sum(some.count("reply lost") for some in faults)
    place.close()


class Stuck(TraceCurriculum):
    """Takes its time over an episode."""

    go = threading.Event()

    def update_on_episode(self, *args, **kwargs):
        super().update_on_episode(*args, **kwargs)
        assert self.go.wait(20)


def test_a_slow_actor_is_waited_for_and_a_dead_one_is_not(monkeypatch):
    monkeypatch.setattr(lines, "LATE", 0.02)
    place = Place(Stuck())
    player = Player(place)
    thread = threading.Thread(target=player.play)
    thread.start()
    until(lambda: place.calls.count("settings") > 3)  # Ray says again and again that it lives
    assert place.calls.count("exchange") == 1
    Stuck.go.set()
    thread.join()
    assert player.line.open
    assert place.episodes() == [0]
    # As after the death of a node: no reply comes, the connection stands, and Ray knows another actor.
    Stuck.go.clear()
    replies = []
    result = EpisodeResult(0, player.env_id, {"left": 1.0, "right": 0.0}, 3, {})
    courier, frames = player.courier, pack("updates", player.env_id, None, 0, encode(result))
    letter = Letter("worker", courier._incarnation, courier._seq + 1, frames)
    thread = threading.Thread(target=lambda: replies.append(player.line.ask(packed(letter))))
    thread.start()
    dead, place.actor = place.actor, Place().actor
    thread.join()
    assert replies == [None]
    assert not player.line.open
    place.actor.hand_over()
    Stuck.go.set()
    dead.hand_over()


def test_who_does_not_hold_the_key_is_not_let_in(place):
    address = place.door()
    with pytest.raises(TransportError, match="does not fit"):
        open_socket(address._replace(key=bytes(32)), 5.0)
    stranger = socket.create_connection(address.place)
    stranger.sendall(pack("letter", b"x") * 10)
    stranger.settimeout(5.0)
    while stranger.recv(1000):  # the challenge, then the end
        pass
    stranger.close()
    player = Player(place)
    player.play()
    assert place.episodes() == [0]


def test_what_is_no_letter_ends_the_connection_and_nothing_else(place):
    for frame in (pack("hello"), pack("letter", b"no pickle"), pack("letter")):
        peer = open_socket(place.door(), 5.0)
        peer.sendall(frame)
        assert peer.recv(100) == b""
        peer.close()
    Player(place).play()
    assert place.episodes() == [0]


@pytest.mark.parametrize("ip", [None, "203.0.113.7"], ids=["not wanted", "no such address"])
def test_without_a_door_letters_go_by_ray_and_it_is_rarely_asked_for(ip, monkeypatch, caplog):
    place = Place(ip=ip)
    assert ("cannot listen" in caplog.text) == (ip is not None)
    clock = itertools.count()
    monkeypatch.setattr(lines, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    player = Player(place)
    for _ in range(30):
        player.play()
    assert place.episodes() == player.tasks
    assert place.calls.count("exchange") == 61
    assert 1 <= place.calls.count("settings") <= 4
    place.close()


def test_a_process_that_left_ray_does_not_go_on_by_its_line(place, monkeypatch):
    monkeypatch.setattr(lines, "LOOK", 0.0)
    player = Player(place)
    player.play()
    place.connected = False
    player.say(b"")
    assert place.calls[-2:] == ["exchange", "settings"]  # Ray's port says what is the matter


def test_the_door_is_shut_before_the_curriculum_is_handed_over(place):
    player = Player(place)
    player.play()
    host, metrics = place.close().value()
    assert metrics["episodes"] == 1
    assert host.counters.episodes == 1
    assert place.door() is None
    assert player.line.ask(b"") is None

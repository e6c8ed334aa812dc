"""What every transport promises, as a class of tests to subclass."""

from __future__ import annotations

import copy
import pickle
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import numpy as np

from macurr.curriculum import Curriculum
from macurr.errors import CurriculumError, CurriculumLost, TaskError, TransportError, UsageError
from macurr.messages import EnvSpec, EpisodeAborted, StepBatch, Update
from macurr.spaces import BoxTaskSpace, DictTaskSpace, DiscreteTaskSpace, TupleTaskSpace
from macurr.testing.episodes import random_episode
from macurr.testing.nested import raises, same, through_files
from macurr.testing.probes import ProbeEnv, TraceCurriculum, play
from macurr.transports.base import Link, SyncedCurriculum
from macurr.wrappers import PettingZooSyncWrapper

__all__ = ["TransportTests"]

SPEC = EnvSpec(("left", "right"), ("left",))
SINGLE = EnvSpec(("agent_0",), ("agent_0",), single_agent=True)
ALL_FIELDS = frozenset({"rewards", "dones", "observations", "infos", "progress"})
SECONDS = 20.0


class TransportTests:
    """Subclass it, define `make` (and `run_apart` where there are other processes), and pytest runs the checks.

    Attributes:
        deterministic: Whether updates are applied at once, so that equal calls give equal tasks.
        serializes: Whether messages are pickled on their way.
        apart: Whether environments may live in other processes; then `run_apart` has to be defined.
    """

    deterministic: bool = False
    serializes: bool = True
    apart: bool = True

    def make(self, curriculum: Curriculum, **options: Any) -> SyncedCurriculum:
        """Serve a curriculum; `options` are those that all transports have (`max_envs`)."""
        raise NotImplementedError(f"{type(self).__name__} has to define make(curriculum, **options).")

    def run_apart(self, function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Call a function in other processes, once for each tuple of arguments, all at the same time."""
        raise NotImplementedError(f"{type(self).__name__} has to define run_apart, or set apart = False.")

    # Messages

    def test_messages_arrive_intact_and_in_order(self) -> None:
        """Whatever is sent arrives equal, in the order in which it was sent."""
        with self.make(TraceCurriculum(fields=ALL_FIELDS)) as synced:
            link = synced.components.connect(SPEC)
            sent = _episodes(link, SPEC, 5)
            for update in sent:
                link.send(update)
            _settle(link)
            _compare(sent, TraceCurriculum.heard(synced, "steps", "progress", "episode", "abort"))

    def test_single_agent_messages_arrive_intact(self) -> None:
        """Plain values of single-agent environments stay plain."""
        with self.make(TraceCurriculum(fields=ALL_FIELDS, single_agent=True)) as synced:
            link = synced.components.connect(SINGLE)
            sent = _episodes(link, SINGLE, 2)
            for update in sent:
                link.send(update)
            _settle(link)
            _compare(sent, TraceCurriculum.heard(synced, "steps", "progress", "episode", "abort"))

    def test_big_observations_arrive_intact(self) -> None:
        """A batch of several megabytes, larger than any socket's buffer, arrives whole."""
        with self.make(TraceCurriculum(fields=ALL_FIELDS)) as synced:
            link = synced.components.connect(SPEC)
            batch = next(u for u in _episodes(link, SPEC, 1) if isinstance(u, StepBatch))
            images = np.arange(len(batch) * 1_000_000, dtype=np.uint32).reshape(len(batch), 1000, 1000)
            big = _with(batch, observations={"left": images, "right": [{"a": (1, "x")}] * len(batch)})
            link.send(big)
            link.send(batch)
            _settle(link)
            _compare([big, batch], TraceCurriculum.heard(synced, "steps"))

    def test_tasks_keep_their_form(self) -> None:
        """Tasks of every kind of space arrive encoded and decoded, named tuples with their names."""
        levels = DiscreteTaskSpace(["easy", "hard"])
        named = TupleTaskSpace([DiscreteTaskSpace(3), levels], names=["agent", "env"])
        for space, task, decoded in (
            (levels, 1, "hard"),
            (named, (2, 1), (2, "hard")),
            (
                DictTaskSpace({"a": levels, "b": DiscreteTaskSpace(2)}),
                {"a": 0, "b": 1},
                {"a": "easy", "b": 1},
            ),
            (
                BoxTaskSpace([0, 0], [1, 2]),
                np.array([0.5, 1.5], np.float32),
                np.array([0.5, 1.5], np.float32),
            ),
        ):
            with self.make(_Fixed(space, task)) as synced:
                link = synced.components.connect(SPEC)
                link.request(1, start=True)
                got = link.task()
                assert same(got.encoded, space.check(task)), f"The encoded task is {task}; got {got.encoded}."
                assert same(got.decoded, decoded), f"The decoded task is {decoded}; got {got.decoded}."
                if space is named:
                    assert got.decoded.env == "hard", "A named tuple keeps its names."
                    assert got.encoded._fields == ("agent", "env"), "A named tuple keeps its names."

    def test_what_cannot_be_sent_is_refused_and_disturbs_nothing(self) -> None:
        """Where messages are pickled, an info that cannot be is refused by name, and the link goes on."""
        if not self.serializes:
            return
        with self.make(TraceCurriculum(fields=ALL_FIELDS)) as synced:
            link, other = synced.components.connect(SPEC), synced.components.connect(SPEC)
            sent = _episodes(link, SPEC, 1)
            batch = next(update for update in sent if isinstance(update, StepBatch))
            for secret in (threading.Lock(), (n for n in range(3))):
                infos = ({"left": {"fine": 1, "secret": secret}},) * len(batch)
                promise = "An info that cannot be pickled is refused."
                with raises(TransportError, promise, "secret", type(secret).__name__, "remove_keys"):
                    link.send(_with(batch, infos=infos))
            for update in sent:
                link.send(update)
            _settle(link)
            _compare(sent, TraceCurriculum.heard(synced, "steps", "progress", "episode", "abort"))
            _settle(other)

    # Environments

    def test_env_ids_are_never_used_again(self) -> None:
        """Each connection gets an id of its own, also after others have closed."""
        with self.make(TraceCurriculum()) as synced:
            links = [synced.components.connect(SPEC) for _ in range(3)]
            links[1].close()
            links[2].close()
            links[2].close()
            _wait_for(synced, "sync/envs", 1)
            links += [synced.components.connect(SPEC) for _ in range(3)]
            ids = [link.env_id for link in links]
            assert len(set(ids)) == 6, f"Every environment has its own id, for ever; got {ids}."
            registered = [env_id for env_id, _ in TraceCurriculum.heard(synced, "register")]
            assert registered == ids, f"Every environment is registered once; got {registered}."

    def test_tasks_are_fetched_as_far_ahead_as_asked(self) -> None:
        """`buffer_size` b: the task of episode n is drawn when episode n - b begins; with 0, after its results."""
        for ahead in (0, 1, 2):
            with self.make(TraceCurriculum()) as synced:
                played = play(synced.components, 6, buffer_size=ahead)
                _wait_for(synced, "sync/envs", 0)
                assert [task for _, task in played] == list(range(6)), (
                    "Tasks arrive in the order of their draw."
                )
                finished, before = 0, []
                for kind, _ in TraceCurriculum.calls_of(synced):
                    finished += kind == "episode"
                    before += [finished] if kind == "sample" else []
                latest = [max(0, n - ahead) for n in range(6 + ahead)]
                assert len(before) == 6 + ahead, f"{ahead} tasks are kept in stock; {len(before)} drawn."
                assert all(a <= b for a, b in zip(before, latest, strict=True)), (
                    "Draws are made that far ahead."
                )
                if ahead == 0 or self.deterministic:
                    assert before == latest, f"Results known at each draw: {latest}; got {before}."

    def test_every_copy_of_an_env_is_an_env_of_its_own(self) -> None:
        """A wrapped environment can be cloned at any time; each clone gets its own id and its own tasks."""
        with self.make(TraceCurriculum()) as synced:
            original = PettingZooSyncWrapper(ProbeEnv(), synced.components, buffer_size=0)
            dump = cloudpickle.dumps(original)
            envs = [original, cloudpickle.loads(dump), cloudpickle.loads(dump), copy.deepcopy(original)]
            for env in envs:
                env.reset()
                env.step(dict.fromkeys(env.agents, 0))
            running = cloudpickle.loads(cloudpickle.dumps(original))
            assert running.env_id is None, "A copy of a running environment has not connected."
            assert running.task is None, "A copy of a running environment has no task yet."
            running.reset()
            envs.append(running)
            ids, tasks = [env.env_id for env in envs], [env.task for env in envs]
            assert len(set(ids)) == 5, f"Every clone has its own id; got {ids}."
            assert len(set(tasks)) == 5, f"Every clone has its own tasks; got {tasks}."
            while original.agents:
                original.step(dict.fromkeys(original.agents, 0))
            original.reset()
            results = TraceCurriculum.heard(synced, "episode")
            assert [(r.env_id, r.task) for r in results] == [(ids[0], tasks[0])], (
                "Cloning a running environment leaves it in peace."
            )
            for env in envs:
                env.close()

    def test_closing_an_env_gives_its_tasks_back(self) -> None:
        """An environment that closes in mid-episode aborts it; its stock goes back, too."""
        with self.make(TraceCurriculum()) as synced:
            env = PettingZooSyncWrapper(ProbeEnv(), synced.components, buffer_size=2)
            env.reset()
            env.step(dict.fromkeys(env.agents, 0))
            _wait_for(synced, "sync/tasks_outstanding", 3)
            env.close()
            env.close()
            _wait_for(synced, "sync/envs", 0)
            back = [abort.task for abort in TraceCurriculum.heard(synced, "abort")]
            assert back == [0, 1, 2], f"The played task and the stock go back; got {back}."
            assert TraceCurriculum.heard(synced, "unregister") == [0], "The environment is unregistered once."
            assert not TraceCurriculum.heard(synced, "episode"), "An aborted episode has no result."
            assert synced.metrics()["sync/tasks_outstanding"] == 0, "No task is out when no environment is."

    def test_only_the_first_envs_send_steps(self) -> None:
        """With `max_envs=n`, step fields are asked of the first n environments only."""
        with self.make(TraceCurriculum(fields=frozenset({"rewards"})), max_envs=2) as synced:
            fields = [synced.components.connect(SPEC).step_fields for _ in range(4)]
            assert fields == [{"rewards"}] * 2 + [frozenset()] * 2, (
                f"Two environments send steps; got {fields}."
            )

    def test_several_curricula_live_side_by_side(self) -> None:
        """Each curriculum has its own environments, ids and tasks."""
        with self.make(TraceCurriculum()) as one, self.make(TraceCurriculum(DiscreteTaskSpace(2))) as other:
            first, second = one.components.connect(SPEC), other.components.connect(SPEC)
            for link in (first, second) * 2:
                _settle(link)
            _settle(first)
            assert (first.env_id, second.env_id) == (0, 0), "Ids are counted by curriculum."
            assert TraceCurriculum.heard(one, "sample") == [0, 1, 2], "Tasks do not mix."
            assert TraceCurriculum.heard(other, "sample") == [0, 1], "Tasks do not mix."

    def test_many_processes_play_at_once(self) -> None:
        """Environments in several processes are served together; each one's results arrive complete, in order."""
        if not self.apart:
            return
        with self.make(TraceCurriculum(fields=frozenset({"rewards"}))) as synced:
            played = self.run_apart(play, [(synced.components, 5, length) for length in (2, 3, 4)])
            _wait_for(synced, "sync/envs", 0)
            results = TraceCurriculum.heard(synced, "episode")
            batches = TraceCurriculum.heard(synced, "steps")
        for length, pairs in zip((2, 3, 4), played, strict=True):
            ids = {env_id for env_id, _ in pairs}
            assert len(ids) == 1, "An environment keeps its id."
            for kind, messages in (("results", results), ("steps", batches)):
                mine = [message for message in messages if message.env_id in ids]
                assert [m.task for m in mine] == [task for _, task in pairs], f"All {kind} arrive, in order."
            assert {r.length for r in results if r.env_id in ids} == {length}, "Results are intact."
        tasks = [task for pairs in played for _, task in pairs]
        assert len(set(tasks)) == len(tasks), "No task is handed out twice."

    # Failure

    def test_a_failing_curriculum_is_reported_to_everybody(self) -> None:
        """What the curriculum raises reaches every environment and the learner, with its cause."""
        for call in ("sample", "steps", "episode", "register"):
            with self.make(TraceCurriculum(fields=frozenset({"rewards"}))) as synced:
                link, other = synced.components.connect(SPEC), synced.components.connect(SPEC)
                _settle(other)
                synced.update_on_demand({"fail_on": call})
                promise = f"An environment learns what went wrong in {call}."
                with raises(CurriculumError, promise, "TraceCurriculum", "ValueError", f"boom in {call}"):
                    if call == "register":
                        synced.components.connect(SPEC)
                    for update in _episodes(link, SPEC, 1):
                        link.send(update)
                    _settle(link)
                with raises(CurriculumError, "Every environment learns it.", f"boom in {call}"):
                    _settle(other)
                for use in (synced.sample, synced.state_dict, synced.distribution):
                    with raises(
                        CurriculumError, "The learner learns it at every call.", f"boom in {call}"
                    ) as caught:
                        use()
                    assert caught[0].__cause__ is not None, "The original exception is the cause."
                with raises(CurriculumError, "Who connects now learns it, too.", f"boom in {call}"):
                    _settle(synced.components.connect(SPEC))
                link.close()
                other.close()

    def test_a_refused_env_disturbs_nobody(self) -> None:
        """An environment that the curriculum cannot work with gets UsageError; the others play on."""
        with self.make(TraceCurriculum(single_agent=True)) as synced:
            link = synced.components.connect(SINGLE)
            _settle(link)
            with raises(UsageError, "The curriculum's refusal arrives.", "MultiagentSharedCurriculumWrapper"):
                synced.components.connect(SPEC)
            _settle(link)
            _settle(synced.components.connect(SINGLE))
            assert TraceCurriculum.heard(synced, "sample") == [0, 1, 2], "The others are served as before."

    def test_a_learners_mistake_is_its_own(self) -> None:
        """What the learner passes in wrongly raises there, and the environments play on."""
        with self.make(TraceCurriculum()) as synced:
            link = synced.components.connect(SPEC)
            with raises(TaskError, "The learner's mistake is raised where it is made."):
                synced.update_on_episode({"left": float("nan")}, 3, 0, {})
            with raises(TaskError, "The learner's mistake is raised where it is made."):
                synced.update_on_episode({"left": 0.0}, 3, -5, {})
            _settle(link)

    # Opening and closing

    def test_close_applies_everything_that_was_sent(self) -> None:
        """`close()` returns when all updates sent before have been applied; the curriculum can still be read."""
        synced = self.make(TraceCurriculum(fields=ALL_FIELDS))
        link = synced.components.connect(SPEC)
        sent = _episodes(link, SPEC, 10)
        for update in sent:
            link.send(update)
        synced.close()
        synced.close()
        heard = [
            what
            for kind, what in TraceCurriculum.calls_of(synced)
            if kind in {"steps", "progress", "episode"}
        ]
        _compare([update for update in sent if not isinstance(update, EpisodeAborted)], heard)

    def test_a_closed_curriculum_says_so(self) -> None:
        """After `close()`, environments get CurriculumLost, old and new ones."""
        with self.make(TraceCurriculum()) as synced:
            link = synced.components.connect(SPEC)
            _settle(link)
        with raises(CurriculumLost, "A connected environment learns that the curriculum is closed."):
            _settle(link)
        with raises(CurriculumLost, "A new environment learns that the curriculum is closed."):
            synced.components.connect(SPEC)
        link.close()

    def test_a_curriculum_pickles_as_its_handle(self) -> None:
        """A synced curriculum that is captured by mistake pickles as its components, never as a copy."""
        with self.make(TraceCurriculum()) as synced:
            for handle in (pickle.loads(pickle.dumps(synced)), cloudpickle.loads(cloudpickle.dumps(synced))):
                assert not isinstance(handle, Curriculum), "Pickling gives no copy of the curriculum."
                _settle(handle.connect(SPEC))
            env = PettingZooSyncWrapper(ProbeEnv(), synced)
            env.reset()
            env.close()
            drawn = TraceCurriculum.heard(synced, "sample")
            assert drawn[:3] == [0, 1, 2], "All handles lead to the same curriculum."

    # State

    def test_tasks_that_are_out_are_handed_out_again_first(self) -> None:
        """A state saved while tasks are out hands them out again after it is loaded, before new ones."""
        with self.make(TraceCurriculum()) as synced:
            env = PettingZooSyncWrapper(ProbeEnv(), synced.components, buffer_size=2)
            env.reset()
            while env.agents:
                env.step(dict.fromkeys(env.agents, 0))
            env.reset()
            env.step(dict.fromkeys(env.agents, 0))
            _wait_for(synced, "sync/tasks_drawn", 4)
            _wait_for(synced, "sync/episodes", 1)
            state = through_files(synced.state_dict())
            env.close()
        with self.make(TraceCurriculum()) as resumed:
            resumed.load_state_dict(state)
            tasks = [task for _, task in play(resumed.components, 5, buffer_size=0)]
            assert tasks == [1, 2, 3, 4, 5], f"Tasks 1 to 3 were out, 4 is new; got {tasks}."
            assert resumed.metrics()["sync/episodes"] > 1, "Counters go on."

    def test_state_is_loaded_before_envs_connect_or_not_at_all(self) -> None:
        """While environments are connected, loading a state is refused and changes nothing."""
        with self.make(TraceCurriculum()) as synced:
            state = synced.state_dict()
            link = synced.components.connect(SPEC)
            _settle(link)
            with raises(UsageError, "No state is loaded under connected environments.", "connected"):
                synced.load_state_dict(state)
            _settle(link)
            assert TraceCurriculum.heard(synced, "sample") == [0, 1], "The curriculum goes on where it was."

    def test_the_same_calls_give_the_same_tasks(self) -> None:
        """A deterministic transport repeats a run exactly, resumed or not."""
        if not self.deterministic:
            return
        with self.make(TraceCurriculum()) as one, self.make(TraceCurriculum()) as other:
            runs = [play(served.components, 7) for served in (one, other)]
            assert runs[0] == runs[1], "Equal calls give equal tasks."
            assert same(one.state_dict()["curriculum"]["rng"], other.state_dict()["curriculum"]["rng"])

    # The learner's calls

    def test_the_learner_reaches_the_curriculum(self) -> None:
        """The synced curriculum passes the learner's calls on and adds the link's own metrics."""
        with self.make(TraceCurriculum(DiscreteTaskSpace(["a", "b"]))) as synced:
            synced.update_on_demand({"scores": np.arange(3), "fail_on": ""})
            assert synced.sample(3) == [0, 1, 0], "sample is passed on."
            (heard,) = TraceCurriculum.heard(synced, "demand")
            assert same(heard["scores"], np.arange(3)), "update_on_demand is passed on."
            assert synced.task_space.decode(1) == "b", "The task space is that of the curriculum."
            metrics = synced.metrics()
            wanted = {"sync/envs", "sync/updates_applied", "sync/tasks_outstanding", "sync/lag_mean"}
            assert wanted <= set(metrics), (
                f"The link's metrics are there; {wanted - set(metrics)} are missing."
            )
            assert all(isinstance(value, float) for value in metrics.values()), "Metrics are floats."


class _Fixed(Curriculum):
    """Always one task, of any kind of space."""

    def __init__(self, space: Any, task: Any) -> None:
        super().__init__(space)
        self.task = space.check(task)

    def _sample(self, k: int) -> list[Any]:
        return [self.task] * k


def _episodes(link: Link, spec: EnvSpec, n: int) -> list[Update]:
    """Messages of n episodes, cut into batches differently, with an aborted one at the end."""
    rng = np.random.default_rng(n)
    updates: list[Update] = []
    for i in range(n):
        cuts = ((), (1,), (1, 2))[i % 3]
        updates += random_episode(i, link.env_id, spec, rng, ALL_FIELDS, cuts, 4)
    return [*updates, EpisodeAborted(n, link.env_id)]


def _settle(link: Link) -> None:
    """Wait until everything that was sent has been applied: a task for now is drawn after it."""
    link.request(1, start=True)
    link.task()


def _wait_for(synced: SyncedCurriculum, metric: str, value: float) -> None:
    """Wait for what happens in another thread or process."""
    deadline = time.monotonic() + SECONDS
    while (now := synced.metrics()[metric]) != value:
        assert time.monotonic() < deadline, f"{metric} becomes {value} in {SECONDS:g} s; it is {now}."
        time.sleep(0.002)


def _with(batch: StepBatch, **changes: Any) -> StepBatch:
    return StepBatch(**{**{name: getattr(batch, name) for name in StepBatch.__slots__}, **changes})


def _compare(sent: Sequence[Any], heard: Sequence[Any]) -> None:
    assert len(heard) == len(sent), f"{len(sent)} messages were sent, {len(heard)} have arrived."
    for i, (one, other) in enumerate(zip(sent, heard, strict=True)):
        assert type(one) is type(other), (
            f"Message {i} was a {type(one).__name__}; got a {type(other).__name__}."
        )
        for name in type(one).__slots__:
            assert same(getattr(one, name), getattr(other, name)), f"{name} of message {i} has changed."

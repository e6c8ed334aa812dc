"""What every transport promises, as a class of tests to subclass."""

from __future__ import annotations

import copy
import threading

import cloudpickle  # type: ignore[import-untyped]
import numpy as np

from macurr.curricula import PrioritizedLevelReplay
from macurr.errors import TransportError, UsageError
from macurr.messages import StepBatch
from macurr.spaces import BoxTaskSpace, DictTaskSpace, DiscreteTaskSpace, TupleTaskSpace
from macurr.testing.links import ALL_FIELDS, SINGLE, SPEC, Fixed, changed, compare, episodes, settle, wait_for
from macurr.testing.nested import raises, same
from macurr.testing.probes import ProbeEnv, TraceCurriculum, play
from macurr.testing.recovery import RecoveryChecks
from macurr.wrappers import MultiagentSharedCurriculumWrapper, PettingZooSyncWrapper

__all__ = ["TransportTests"]


class TransportTests(RecoveryChecks):
    """Subclass it, define `make` (and `run_apart` where there are other processes), and pytest runs the checks.

    Attributes:
        deterministic: Whether updates are applied at once, so that equal calls give equal tasks.
        serializes: Whether messages are pickled on their way.
        apart: Whether environments may live in other processes; then `run_apart` has to be defined.
    """

    # Messages

    def test_messages_arrive_intact_and_in_order(self) -> None:
        """Whatever is sent arrives equal, in the order in which it was sent."""
        with self.make(TraceCurriculum(fields=ALL_FIELDS)) as synced:
            link = synced.components.connect(SPEC)
            sent = episodes(link, SPEC, 5)
            for update in sent:
                link.send(update)
            settle(link)
            compare(sent, TraceCurriculum.heard(synced, "steps", "progress", "episode", "abort"))

    def test_single_agent_messages_arrive_intact(self) -> None:
        """Plain values of single-agent environments stay plain."""
        with self.make(TraceCurriculum(fields=ALL_FIELDS, single_agent=True)) as synced:
            link = synced.components.connect(SINGLE)
            sent = episodes(link, SINGLE, 2)
            for update in sent:
                link.send(update)
            settle(link)
            compare(sent, TraceCurriculum.heard(synced, "steps", "progress", "episode", "abort"))

    def test_big_observations_arrive_intact(self) -> None:
        """A batch of several megabytes, larger than any socket's buffer, arrives whole."""
        with self.make(TraceCurriculum(fields=ALL_FIELDS)) as synced:
            link = synced.components.connect(SPEC)
            batch = next(u for u in episodes(link, SPEC, 1) if isinstance(u, StepBatch))
            images = np.arange(len(batch) * 1_000_000, dtype=np.uint32).reshape(len(batch), 1000, 1000)
            big = changed(batch, observations={"left": images, "right": [{"a": (1, "x")}] * len(batch)})
            link.send(big)
            link.send(batch)
            settle(link)
            compare([big, batch], TraceCurriculum.heard(synced, "steps"))

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
            with self.make(Fixed(space, task)) as synced:
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
            sent = episodes(link, SPEC, 1)
            batch = next(update for update in sent if isinstance(update, StepBatch))
            for secret in (threading.Lock(), (n for n in range(3))):
                infos = ({"left": {"fine": 1, "secret": secret}},) * len(batch)
                promise = "An info that cannot be pickled is refused."
                with raises(TransportError, promise, "secret", type(secret).__name__, "remove_keys"):
                    link.send(changed(batch, infos=infos))
            for update in sent:
                link.send(update)
            settle(link)
            compare(sent, TraceCurriculum.heard(synced, "steps", "progress", "episode", "abort"))
            settle(other)

    # The learner

    def test_options_can_be_changed(self) -> None:
        """What of the curriculum may change can be read and set by the learner, in both ways, or is refused."""
        levels = PrioritizedLevelReplay(DiscreteTaskSpace(4), temperature=1.0, seed=0)
        with self.make(MultiagentSharedCurriculumWrapper(levels)) as synced:
            assert synced.get_options()["temperature"] == 1.0, "get_options tells the present values."
            assert "temperature" in synced.tunable_options(), "tunable_options tells what to tune."
            synced.set_options(temperature=0.5)
            synced.update_on_demand({"options": {"staleness_coef": 0.25}})
            found = synced.get_options()
            assert (found["temperature"], found["staleness_coef"]) == (0.5, 0.25), "Options are set."
            with raises(UsageError, "Wrong options are refused.", "temperature"):
                synced.set_options(temperature=-1.0, staleness_coef=0.5)
            assert synced.get_options() == found, "Refused options change nothing."
            settle(synced.components.connect(SPEC))

    # Environments

    def test_env_ids_are_never_used_again(self) -> None:
        """Each connection gets an id of its own, also after others have closed."""
        with self.make(TraceCurriculum()) as synced:
            links = [synced.components.connect(SPEC) for _ in range(3)]
            links[1].close()
            links[2].close()
            links[2].close()
            wait_for(synced, "sync/envs", 1)
            links += [synced.components.connect(SPEC) for _ in range(3)]
            ids = [link.env_id for link in links]
            assert len(set(ids)) == 6, f"Every environment has its own id, for ever; got {ids}."
            registered = [env_id for env_id, _ in TraceCurriculum.heard(synced, "register")]
            assert registered == ids, f"Every environment is registered once; got {registered}."

    def test_tasks_are_fetched_as_far_ahead_as_asked(self) -> None:
        """`buffer_size` b: the task of episode n is drawn before episode n - b begins; with 0, at its own reset."""
        for ahead in (0, 1, 2):
            with self.make(TraceCurriculum()) as synced:
                played = play(synced.components, 6, buffer_size=ahead)
                wait_for(synced, "sync/envs", 0)
                assert [task for _, task in played] == list(range(6)), (
                    "Tasks arrive in the order of their draw."
                )
                finished, before = 0, []
                for kind, _ in TraceCurriculum.calls_of(synced):
                    finished += kind == "episode"
                    before += [finished] if kind == "sample" else []
                # Where there is a stock, the next task is asked for in one message with an episode's result.
                drawn = 6 + ahead + bool(ahead)
                latest = [max(0, n - ahead) for n in range(drawn)]
                assert len(before) == drawn, f"{ahead} tasks are kept in stock; {len(before)} drawn."
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
            wait_for(synced, "sync/tasks_outstanding", 3)
            env.close()
            env.close()
            wait_for(synced, "sync/envs", 0)
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
                settle(link)
            settle(first)
            assert (first.env_id, second.env_id) == (0, 0), "Ids are counted by curriculum."
            assert TraceCurriculum.heard(one, "sample") == [0, 1, 2], "Tasks do not mix."
            assert TraceCurriculum.heard(other, "sample") == [0, 1], "Tasks do not mix."

    def test_many_processes_play_at_once(self) -> None:
        """Environments in several processes are served together; each one's results arrive complete, in order."""
        if not self.apart:
            return
        with self.make(TraceCurriculum(fields=frozenset({"rewards"}))) as synced:
            played = self.run_apart(play, [(synced.components, 5, length) for length in (2, 3, 4)])
            wait_for(synced, "sync/envs", 0)
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

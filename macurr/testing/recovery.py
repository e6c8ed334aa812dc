"""What every transport promises of failures, endings and resumed runs."""

from __future__ import annotations

import pickle

import cloudpickle  # type: ignore[import-untyped]

from macurr.curriculum import Curriculum
from macurr.errors import CurriculumError, CurriculumLost, TaskError, UsageError
from macurr.messages import EpisodeAborted
from macurr.testing.links import (
    ALL_FIELDS,
    SINGLE,
    SPEC,
    TransportSubject,
    compare,
    episodes,
    settle,
    wait_for,
)
from macurr.testing.nested import raises, same, through_files
from macurr.testing.probes import ProbeEnv, TraceCurriculum, play
from macurr.wrappers import PettingZooSyncWrapper


class RecoveryChecks(TransportSubject):
    """The part of `TransportTests` that is about failure, closing and state."""

    # Failure

    def test_a_failing_curriculum_is_reported_to_everybody(self) -> None:
        """What the curriculum raises reaches every environment and the learner, with its cause."""
        for call in ("sample", "steps", "episode", "register"):
            with self.make(TraceCurriculum(fields=frozenset({"rewards"}))) as synced:
                link, other = synced.components.connect(SPEC), synced.components.connect(SPEC)
                settle(other)
                synced.update_on_demand({"fail_on": call})
                promise = f"An environment learns what went wrong in {call}."
                with raises(CurriculumError, promise, "TraceCurriculum", "ValueError", f"boom in {call}"):
                    if call == "register":
                        synced.components.connect(SPEC)
                    for update in episodes(link, SPEC, 1):
                        link.send(update)
                    settle(link)
                with raises(CurriculumError, "Every environment learns it.", f"boom in {call}"):
                    settle(other)
                for use in (synced.sample, synced.state_dict, synced.distribution):
                    with raises(
                        CurriculumError, "The learner learns it at every call.", f"boom in {call}"
                    ) as caught:
                        use()
                    assert caught[0].__cause__ is not None, "The original exception is the cause."
                with raises(CurriculumError, "Who connects now learns it, too.", f"boom in {call}"):
                    settle(synced.components.connect(SPEC))
                link.close()
                other.close()

    def test_a_refused_env_disturbs_nobody(self) -> None:
        """An environment that the curriculum cannot work with gets UsageError; the others play on."""
        with self.make(TraceCurriculum(single_agent=True)) as synced:
            link = synced.components.connect(SINGLE)
            settle(link)
            with raises(UsageError, "The curriculum's refusal arrives.", "MultiagentSharedCurriculumWrapper"):
                synced.components.connect(SPEC)
            settle(link)
            settle(synced.components.connect(SINGLE))
            assert TraceCurriculum.heard(synced, "sample") == [0, 1, 2], "The others are served as before."

    def test_a_learners_mistake_is_its_own(self) -> None:
        """What the learner passes in wrongly raises there, and the environments play on."""
        with self.make(TraceCurriculum()) as synced:
            link = synced.components.connect(SPEC)
            with raises(TaskError, "The learner's mistake is raised where it is made."):
                synced.update_on_episode({"left": float("nan")}, 3, 0, {})
            with raises(TaskError, "The learner's mistake is raised where it is made."):
                synced.update_on_episode({"left": 0.0}, 3, -5, {})
            settle(link)

    # Opening and closing

    def test_close_applies_everything_that_was_sent(self) -> None:
        """`close()` returns when all updates sent before have been applied; the curriculum can still be read."""
        synced = self.make(TraceCurriculum(fields=ALL_FIELDS))
        link = synced.components.connect(SPEC)
        sent = episodes(link, SPEC, 10)
        for update in sent:
            link.send(update)
        synced.close()
        synced.close()
        heard = [
            what
            for kind, what in TraceCurriculum.calls_of(synced)
            if kind in {"steps", "progress", "episode"}
        ]
        compare([update for update in sent if not isinstance(update, EpisodeAborted)], heard)

    def test_a_closed_curriculum_says_so(self) -> None:
        """After `close()`, environments get CurriculumLost, old and new ones."""
        with self.make(TraceCurriculum()) as synced:
            link = synced.components.connect(SPEC)
            settle(link)
        with raises(CurriculumLost, "A connected environment learns that the curriculum is closed."):
            settle(link)
        with raises(CurriculumLost, "A new environment learns that the curriculum is closed."):
            synced.components.connect(SPEC)
        link.close()

    def test_a_curriculum_pickles_as_its_handle(self) -> None:
        """A synced curriculum that is captured by mistake pickles as its components, never as a copy."""
        with self.make(TraceCurriculum()) as synced:
            for handle in (pickle.loads(pickle.dumps(synced)), cloudpickle.loads(cloudpickle.dumps(synced))):
                assert not isinstance(handle, Curriculum), "Pickling gives no copy of the curriculum."
                settle(handle.connect(SPEC))
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
            wait_for(synced, "sync/tasks_drawn", 4)
            wait_for(synced, "sync/episodes", 1)
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
            settle(link)
            with raises(UsageError, "No state is loaded under connected environments.", "connected"):
                synced.load_state_dict(state)
            settle(link)
            assert TraceCurriculum.heard(synced, "sample") == [0, 1], "The curriculum goes on where it was."

    def test_the_same_calls_give_the_same_tasks(self) -> None:
        """A deterministic transport repeats a run exactly, resumed or not."""
        if not self.deterministic:
            return
        with self.make(TraceCurriculum()) as one, self.make(TraceCurriculum()) as other:
            runs = [play(served.components, 7) for served in (one, other)]
            assert runs[0] == runs[1], "Equal calls give equal tasks."
            assert same(one.state_dict()["curriculum"]["rng"], other.state_dict()["curriculum"]["rng"])

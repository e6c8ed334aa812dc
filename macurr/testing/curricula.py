"""What every curriculum promises, as a class of tests to subclass."""

from __future__ import annotations

import copy
import math
import pickle
from contextlib import suppress
from typing import Any

import numpy as np

from macurr.errors import TaskError, UsageError
from macurr.testing.episodes import apply_update, random_episode
from macurr.testing.nested import leaves, not_plain, raises, replaced, same, through_files
from macurr.testing.options import OptionChecks
from macurr.testing.subjects import (
    ONE_AGENT,
    TWO_AGENTS,
    Writer,
    deviation,
    fields_of,
    global_state,
)

__all__ = ["ONE_AGENT", "TWO_AGENTS", "CurriculumTests"]


class CurriculumTests(OptionChecks):
    """Subclass it, define `make`, and pytest runs the checks.

    Only `make` has to be defined; `spec`, `drive`, `bad_demands` and the attributes are there to be overridden.

    Attributes:
        episodes: How many episodes a curriculum is driven through before it is looked at. Enough for it to have
            left its random start behind.
        draws: How many tasks are drawn to compare frequencies with `distribution()`; 0 leaves that check out.
        same_in_single_steps: Whether steps may also come one at a time by `update_on_step`, with the same
            result. By default, whether the class defines both that and `update_on_step_batch`.
        tolerance: How far floats may be apart where they have been added up in another order.

    Example:
        >>> from macurr import DiscreteTaskSpace
        >>> from macurr.curricula import DomainRandomization
        >>> class TestUniform(CurriculumTests):
        ...     def make(self, seed):
        ...         return DomainRandomization(DiscreteTaskSpace(10), seed=seed)
        >>> TestUniform().test_same_seed_gives_same_tasks()
    """

    # Sampling

    def test_samples_lie_in_the_space(self) -> None:
        """`sample(k)` returns a list of k encoded tasks, fresh and after updates."""
        curriculum = self._connected(self.make(0))
        for _ in range(2):
            for k in (1, 2, 7):
                tasks = curriculum.sample(k)
                assert isinstance(tasks, list), f"sample({k}) returns a list; got {type(tasks).__name__}."
                assert len(tasks) == k, f"sample({k}) returns {k} tasks; got {len(tasks)}."
                strangers = [task for task in tasks if not curriculum.task_space.contains(task)]
                assert not strangers, f"Samples lie in {curriculum.task_space!r}; got {strangers}."
            assert len(curriculum.sample()) == 1, "sample() returns one task."
            self.drive(curriculum, self.episodes, np.random.default_rng(0))

    def test_same_seed_gives_same_tasks(self) -> None:
        """Built with the same seed and told the same things, two curricula choose the same tasks."""
        one, other = self._driven(1), self._driven(1)
        assert same(one.sample(50), other.sample(50)), "The same seed and updates give the same tasks."

    def test_distribution_is_what_is_sampled(self) -> None:
        """`distribution()` holds the probabilities of the next draw: they sum to one and are met by `sample`."""
        curriculum = self._driven(2)
        if curriculum.distribution() is None:
            return
        n = curriculum.task_space.num_tasks or 0
        drawn, expected = np.zeros(n), np.zeros(n)
        for _ in range(self.draws):
            probabilities = self._probabilities(curriculum)
            position = curriculum.task_space.index(curriculum.sample()[0])
            assert probabilities[position] > 0, "A task of probability 0 is not drawn."
            drawn[position] += 1
            expected += probabilities
        z = deviation(drawn, expected)
        assert z < 4, f"sample() meets distribution(): drawn {drawn}, expected {expected} (z={z:.1f})."

    # State

    def test_resumes_where_it_was_saved(self) -> None:
        """Saved, and loaded into a fresh one, a curriculum goes on as if nothing had happened."""
        original = self._driven(3)
        restored = self.make(99)
        restored.load_state_dict(copy.deepcopy(original.state_dict()))
        self._agree(original, self._connected(restored), "A loaded curriculum goes on like the saved one")

    def test_state_is_plain_and_survives_files(self) -> None:
        """A state is a nest of dicts, lists, numbers, strings and arrays: it goes through JSON and npz."""
        original = self._driven(4)
        state = original.state_dict()
        strange = list(not_plain(state))
        assert not strange, f"A state holds only plain values and arrays; here is {strange}."
        restored = self.make(99)
        restored.load_state_dict(through_files(state))
        self._agree(original, self._connected(restored), "A state read back from files is the same")

    def test_state_is_independent_of_the_curriculum(self) -> None:
        """Taking a state changes nothing, and what happens later changes neither a state taken nor one loaded."""
        original, untouched = self._driven(5), self._driven(5)
        state = original.state_dict()
        kept = copy.deepcopy(state)
        assert same(state, original.state_dict()), "state_dict() changes nothing."
        restored = self.make(99)
        restored.load_state_dict(state)
        self._agree(original, untouched, "state_dict() changes nothing")
        self.drive(self._connected(restored), self.episodes, np.random.default_rng(6))
        assert same(state, kept), "A state keeps its values while the curriculum goes on."

    def test_wrong_state_is_refused(self) -> None:
        """A state that does not belong here, or is damaged anywhere, raises StateError and changes nothing."""
        # Another one's state: whatever of it was loaded before the refusal shows.
        curriculum, state = self._driven(7), self._driven(107).state_dict()
        strangers: tuple[Any, ...] = (None, 3, [], {}, {**state, "type": "SomethingElse"})
        for wrong in strangers:
            self._refuses(curriculum, wrong, f"{type(wrong).__name__} is no state")
        for key in state:
            lacking = {name: value for name, value in state.items() if name != key}
            self._refuses(curriculum, lacking, f"the state lacks {key!r}")

    def test_damaged_state_is_refused(self) -> None:
        """A state in which any one value has been replaced by another kind of value raises StateError."""
        curriculum, state = self._driven(8), self._driven(108).state_dict()
        damageable = [(path, value) for path, value in leaves(state) if value is not None]
        for i in np.unique(np.linspace(0, len(damageable) - 1, 60).astype(int)):
            path, value = damageable[i]
            damaged = replaced(state, path, 3 if isinstance(value, str) else "damaged")
            self._refuses(curriculum, damaged, f"the value at {list(path)} is damaged")

    def test_survives_pickle(self) -> None:
        """A curriculum can be pickled, and its copy goes on the same."""
        original = self._driven(9)
        self._agree(original, pickle.loads(pickle.dumps(original)), "A pickled curriculum goes on the same")

    # Updates

    def test_unknown_tasks_and_impossible_results_are_refused(self) -> None:
        """An unknown task, a return that is not finite or a negative length raises TaskError, nothing else."""
        curriculum, twin = self._driven(10), self._driven(10)
        task = curriculum.sample()[0]
        twin.sample()
        one, nothing = self._valued(curriculum, 1.0), self._valued(curriculum, 0.0)
        before = curriculum.state_dict()
        for result, length, where in (
            (one, 5, "no such task"),
            (self._valued(curriculum, math.nan), 5, task),
            (self._valued(curriculum, -math.inf), 5, task),
            (one, -1, task),
        ):
            wrong = f"update_on_episode({result}, {length}, {where!r})"
            with raises(TaskError, f"{wrong} raises TaskError."):
                curriculum.update_on_episode(result, length, where, nothing, env_id=0)
            assert same(before, curriculum.state_dict()), f"The refused {wrong} leaves no trace."
        for demand in self.bad_demands(curriculum):
            with raises(TaskError, f"update_on_demand({demand}) raises TaskError."):
                curriculum.update_on_demand(demand)
            assert same(before, curriculum.state_dict()), f"A refused update {demand} leaves no trace."
        self._agree(curriculum, twin, "After refused updates a curriculum goes on as if they had not come")

    def test_steps_of_an_unknown_task_do_no_harm(self) -> None:
        """Steps and progress of an unknown task are refused with TaskError or ignored; nothing changes."""
        curriculum = self._driven(11)
        before = curriculum.state_dict()
        updates = random_episode(
            "no such task", 0, self.spec(curriculum), np.random.default_rng(0), self._fields(curriculum)
        )
        for update in updates[:-1]:
            with suppress(TaskError):
                apply_update(curriculum, update)
            assert same(before, curriculum.state_dict()), (
                f"A {type(update).__name__} of an unknown task leaves no trace."
            )

    def test_foreign_environments_are_refused(self) -> None:
        """A result of an environment that is not registered is an error and leaves no trace."""
        curriculum = self._driven(12)
        spec, rng = self.spec(curriculum), np.random.default_rng(0)
        task = curriculum.sample()[0]
        *_, result = random_episode(task, 7, spec, rng, self._fields(curriculum))
        before = curriculum.state_dict()
        with raises(UsageError, "A result of a foreign environment raises UsageError."):
            apply_update(curriculum, result)
        assert same(before, curriculum.state_dict()), "A result of a foreign environment leaves no trace."

    def test_environments_come_and_go(self) -> None:
        """Aborted episodes, departures, also of those that never came, and new arrivals break nothing."""
        curriculum = self._driven(12)
        spec, rng = self.spec(curriculum), np.random.default_rng(0)
        curriculum.update_on_abort(curriculum.sample()[0], env_id=0)
        for env_id in (7, 0):
            curriculum.unregister_env(env_id)
        curriculum.register_env(0, spec)
        curriculum.register_env(2, spec)
        self.drive(curriculum, 4, rng)

    def test_a_batch_may_be_cut_anywhere(self) -> None:
        """An episode's steps have the same effect in one batch and in several."""
        whole, cut = self._driven(13), self._driven(13)
        if not whole.requires_step_updates:
            return
        for length, cuts in ((7, (1,)), (6, (3, 5)), (5, (1, 2, 3, 4)), (1, ())):
            self._episode_to(whole, length, ())
            self._episode_to(cut, length, cuts)
        self._agree(whole, cut, "Batches may be cut anywhere", self.tolerance)

    def test_a_batch_equals_its_steps(self) -> None:
        """Where a curriculum takes both, a batch has the effect of its steps one at a time."""
        batched, singly = self._driven(14), self._driven(14)
        if not batched.requires_step_updates or not self._takes_single_steps(batched):
            return
        for length in (6, 1):
            self._episode_to(batched, length, ())
            self._episode_to(singly, length, (), one_by_one=True)
        self._agree(batched, singly, "A batch equals its steps", self.tolerance)

    def test_does_not_change_what_it_is_given(self) -> None:
        """Messages are read, never written: their arrays may be read-only, their dicts stay as they are."""
        curriculum = self._driven(15)
        spec, rng = self.spec(curriculum), np.random.default_rng(0)
        for _ in range(5):
            task = curriculum.sample()[0]
            updates = random_episode(task, 0, spec, rng, self._fields(curriculum))
            fields = [fields_of(update) for update in updates]
            kept = copy.deepcopy(fields)
            for update in updates:
                apply_update(curriculum, update)
            assert same(fields, kept), "A curriculum does not change the messages it is given."

    def test_single_agent_curricula_refuse_several_agents(self) -> None:
        """A curriculum of one agent's plain values refuses other environments and names the cure."""
        curriculum = self.make(0)
        if curriculum.single_agent:
            promise = "A single-agent curriculum refuses a multi-agent environment."
            with raises(UsageError, promise, "MultiagentSharedCurriculumWrapper"):
                curriculum.register_env(0, TWO_AGENTS)

    # Manners

    def test_metrics_are_finite_floats(self) -> None:
        """`metrics()` maps names to finite floats, fresh and after updates, and `log_metrics` writes them."""
        curriculum = self._connected(self.make(16))
        for _ in range(2):
            metrics = curriculum.metrics()
            strange = [
                (name, value)
                for name, value in metrics.items()
                if not (isinstance(name, str) and isinstance(value, float) and math.isfinite(value))
            ]
            assert not strange, f"metrics() maps strings to finite floats; got {strange}."
            writer = Writer()
            curriculum.log_metrics(writer, step=1, log_n_tasks=2)
            missing = [name for name in metrics if f"curriculum/{name}" not in writer.scalars]
            assert not missing, f"log_metrics writes every metric; {missing} are missing."
            self.drive(curriculum, self.episodes, np.random.default_rng(16))

    def test_leaves_global_state_alone(self) -> None:
        """Randomness comes from the curriculum's own generator; NumPy's global settings are never touched."""
        before = global_state()
        curriculum = self._driven(17)
        curriculum.sample(3)
        curriculum.distribution()
        curriculum.metrics()
        self.make(18).load_state_dict(curriculum.state_dict())
        assert same(before, global_state()), (
            "random, np.random and np.geterr() are as they were before the curriculum was used."
        )

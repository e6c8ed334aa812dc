"""The base class: what a curriculum does before anybody has taught it anything."""

import logging

import numpy as np
import pytest

from macurr import (
    Curriculum,
    CurriculumWrapper,
    DiscreteTaskSpace,
    EnvSpec,
    StateError,
    TaskError,
    UsageError,
)
from macurr.curricula import DomainRandomization, Mixture
from macurr.testing import CurriculumTests, TraceCurriculum, random_episode
from macurr.testing.nested import same
from macurr.wrappers import DualCurriculumWrapper

SPEC = EnvSpec(("a", "b"), ("a",))


class Cycle(Curriculum):
    """Tasks in order."""

    def __init__(self, n, **options):
        super().__init__(DiscreteTaskSpace(n), **options)
        self.drawn = 0

    def _sample(self, k):
        self.drawn += k
        return [n % self.task_space.num_tasks for n in range(self.drawn - k, self.drawn)]

    def distribution(self):
        weights = np.arange(1.0, 1.0 + self.task_space.num_tasks)
        return weights / weights.sum()


class Writer:
    def __init__(self):
        self.written = []

    def add_scalar(self, tag, scalar_value, global_step=None):
        self.written.append((tag, scalar_value, global_step))


def test_a_random_start_comes_first():
    curriculum = Cycle(1000, seed=0, random_start_tasks=5)
    tasks = [task for k in (2, 1, 4) for task in curriculum.sample(k)]
    assert tasks[5:] == [0, 1]
    expected = np.random.default_rng(0)
    assert tasks[:5] == [int(expected.integers(1000)) for _ in range(5)]
    assert curriculum.sample(2) == [2, 3]


def test_a_seed_may_be_a_generator():
    rng = np.random.default_rng(3)
    assert Cycle(2, seed=rng).rng is rng


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: DomainRandomization(5), r"task space such as DiscreteTaskSpace\(200\); got 5"),
        (lambda: Cycle(5, random_start_tasks=-1), "random_start_tasks must be 0 or more; got -1"),
        (lambda: CurriculumWrapper(3), "wraps a Curriculum; got 3"),
        (lambda: Curriculum(DiscreteTaskSpace(2)).sample(), r"defines neither sample\(k\) nor _sample\(k\)"),
        (lambda: Cycle(2).normalize(1.0, 0), "record_stats=True"),
    ],
)
def test_misuse_is_named(make, match):
    with pytest.raises(UsageError, match=match):
        make()


def test_nothing_is_asked_of_environments_by_default():
    curriculum = Cycle(3)
    assert not curriculum.requires_step_updates
    assert curriculum.step_fields == frozenset()

    class Stepping(Cycle):
        requires_step_updates = True

    assert Stepping(3).step_fields == {"rewards", "dones"}


def test_batches_are_handed_on_step_by_step():
    heard = []

    class Listener(Cycle):
        def update_on_step(self, task, obs, reward, term, trunc, info, progress, env_id=None):
            heard.append((task, reward, term, env_id))

    fields = frozenset({"rewards"})
    (batch, *_) = random_episode(2, 5, SPEC, np.random.default_rng(0), fields, length=3)
    Listener(3).update_on_step_batch(batch)
    assert [(task, env_id) for task, _, _, env_id in heard] == [(2, 5)] * 3
    assert [reward for _, reward, _, _ in heard] == [step.reward for step in batch.steps()]
    assert heard[-1][2] == {"a": True, "b": True}


@pytest.mark.parametrize(
    ("episode_return", "length", "task", "match"),
    [
        ({"a": 1.0}, 3, 7, "Task 7 is not in"),
        ({"a": float("nan")}, 3, 0, "not finite"),
        (float("inf"), 3, 0, "not finite"),
        ({"a": 1.0}, -1, 0, "length -1 on task 0 is negative"),
    ],
)
def test_impossible_results_are_refused(episode_return, length, task, match):
    curriculum = Cycle(3, record_stats=True)
    before = curriculum.state_dict()
    with pytest.raises(TaskError, match=match):
        curriculum.update_on_episode(episode_return, length, task, {}, env_id=0)
    assert same(curriculum.state_dict(), before)


def test_statistics_are_kept_on_request():
    curriculum = Cycle(3, record_stats=True)
    for value in (0.0, 4.0):
        curriculum.update_on_episode({"a": value, "b": value}, 5, 1, {})
    assert curriculum.stats.task(1).mean == 2.0
    assert curriculum.normalize(6.0, 1) == 3.0
    assert Cycle(3).stats is None


def test_entropy_is_in_nats():
    assert DomainRandomization(DiscreteTaskSpace(8)).metrics() == {"entropy": pytest.approx(np.log(8))}

    class Sure(Cycle):
        def distribution(self):
            return np.array([1.0, 0.0])

    assert Sure(2).metrics() == {"entropy": 0.0}
    assert Curriculum(DiscreteTaskSpace(2)).metrics() == {}


def test_the_likeliest_tasks_are_logged_by_name():
    writer = Writer()
    Cycle(4, task_names=["one", "two", "three"]).log_metrics(writer, step=9, log_n_tasks=2)
    assert writer.written[1:] == [
        ("curriculum/probability/3", 0.4, 9),
        ("curriculum/probability/three", pytest.approx(0.3), 9),
    ]
    assert writer.written[0][0] == "curriculum/entropy"
    named = DomainRandomization(DiscreteTaskSpace(["easy", "hard"]))
    assert [named.task_name(i) for i in range(2)] == ["easy", "hard"]


def test_wandb_gets_one_call():
    class Run:
        logged = None

        def log(self, scalars, step=None):
            self.logged = (scalars, step)

    run = Run()
    Cycle(2).log_metrics(run, step=4)
    assert run.logged == ({"curriculum/entropy": pytest.approx(0.6365, abs=1e-4)}, 4)


@pytest.mark.parametrize("writer", [object(), type("Broken", (), {"add_scalar": lambda *a: 1 / 0})()])
def test_a_writer_that_fails_does_not_end_the_training(writer, caplog):
    with caplog.at_level(logging.ERROR, "macurr"):
        Cycle(2).log_metrics(writer)
    assert "Could not log the metrics of Cycle" in caplog.text


def test_states_of_other_classes_and_versions_are_refused():
    curriculum = Cycle(3, record_stats=True)
    with pytest.raises(StateError, match="belongs to DomainRandomization; Cycle needs one of its own kind"):
        curriculum.load_state_dict(DomainRandomization(DiscreteTaskSpace(3)).state_dict())
    with pytest.raises(StateError, match=r"lacks \['stats'\]"):
        curriculum.load_state_dict(Cycle(3).state_dict())
    with pytest.raises(StateError, match="belongs to list"):
        curriculum.load_state_dict([])
    for wrong in (-1, True, 1.5, "3"):
        with pytest.raises(StateError, match="0 or more"):
            curriculum.load_state_dict({**curriculum.state_dict(), "started": wrong})


def test_a_single_agent_curriculum_names_the_wrappers():
    class Single(Cycle):
        single_agent = True

    with pytest.raises(UsageError) as caught:
        Single(2).register_env(3, SPEC)
    for name in (
        "Single",
        "environment 3",
        "['a', 'b']",
        "MultiagentSharedCurriculumWrapper",
        "MultiagentIndependentCurriculumWrapper",
        "DualCurriculumWrapper",
    ):
        assert name in str(caught.value)
    Single(2).register_env(3, EnvSpec(("agent_0",), ("agent_0",), single_agent=True))


# --- the wrapper -------------------------------------------------------------------------------------------


def test_a_wrapper_passes_everything_on():
    trace = TraceCurriculum(DiscreteTaskSpace(5), fields=frozenset({"rewards"}))
    wrapper = CurriculumWrapper(trace)
    wrapper.register_env(1, SPEC)
    assert wrapper.requires_step_updates
    assert wrapper.step_fields == {"rewards"}
    assert wrapper.task_space is trace.task_space
    assert wrapper.sample(2) == [0, 1]
    rng = np.random.default_rng(0)
    for update in random_episode(0, 1, SPEC, rng, wrapper.step_fields):
        kind = type(update).__name__
        if kind == "StepBatch":
            wrapper.update_on_step_batch(update)
        elif kind == "TaskProgress":
            wrapper.update_task_progress(0, update.progress, env_id=1)
        else:
            wrapper.update_on_episode(update.episode_return, update.length, 0, update.progress, env_id=1)
    wrapper.update_on_abort(1, env_id=1)
    wrapper.update_on_demand({"x": 1})
    wrapper.unregister_env(1)
    kinds = [kind for kind, _ in trace.calls]
    assert kinds == [
        "register", "sample", "sample", "steps", "progress", "episode", "abort", "demand", "unregister"
    ]  # fmt: skip
    stepping = CurriculumWrapper(_Stepper(DiscreteTaskSpace(2)))
    stepping.update_on_step(1, {}, {"a": 1.0}, {}, {}, {}, {}, env_id=4)
    assert stepping.curriculum.heard == [(1, 4)]


class _Stepper(DomainRandomization):
    def __init__(self, space):
        super().__init__(space)
        self.heard = []

    def update_on_step(self, task, *step, env_id=None):
        self.heard.append((task, env_id))


class TestCurriculumWrapper(CurriculumTests):
    def make(self, seed):
        return CurriculumWrapper(DomainRandomization(DiscreteTaskSpace(6), seed=seed, record_stats=True))


def test_a_curriculum_says_what_it_is_and_what_it_is_made_of():
    space = DiscreteTaskSpace(7)
    levels, others = DomainRandomization(space), DomainRandomization(DiscreteTaskSpace(["easy", "hard"]))
    assert repr(levels) == "DomainRandomization(DiscreteTaskSpace(7))"
    assert repr(CurriculumWrapper(levels)) == f"CurriculumWrapper({levels!r})"
    assert repr(Mixture([levels, DomainRandomization(space)])) == f"Mixture([{levels!r}, {levels!r}])"
    assert (
        repr(DualCurriculumWrapper(levels, others))
        == f"DualCurriculumWrapper(agent={others!r}, env={levels!r})"
    )
    # An error message may show one whose constructor never came to its end.
    for kind in (Cycle, CurriculumWrapper, Mixture, DualCurriculumWrapper):
        assert repr(kind.__new__(kind)) == f"{kind.__name__}(...)"

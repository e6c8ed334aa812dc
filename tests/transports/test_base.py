"""A served curriculum is a curriculum: all that the learner calls reaches the real one."""

import inspect

import numpy as np
import pytest

from macurr import Curriculum, DiscreteTaskSpace, EnvSpec, make_local_curriculum
from macurr.curricula import DomainRandomization
from macurr.testing import CurriculumTests, random_episode
from macurr.transports.base import Components, Link

SPEC = EnvSpec(("a", "b"), ("a",))


class TestServed(CurriculumTests):
    test_survives_pickle = None  # it pickles as its handle, by design

    def make(self, seed):
        curriculum = DomainRandomization(
            DiscreteTaskSpace(["a", "b", "c"]), seed=seed, record_stats=True, random_start_tasks=3
        )
        return make_local_curriculum(curriculum)


class Listener(DomainRandomization):
    """Remembers by what name and with what arguments it was called."""

    def __init__(self):
        super().__init__(DiscreteTaskSpace(3), seed=0, task_names=["x", "y", "z"], record_stats=True)
        self.heard = []


def _listen(name):
    def method(self, *args, **kwargs):
        self.heard.append((name, args, kwargs))
        return {"metrics": {"m": 1.0}, "task_info": {"i": 2.0}, "sample": [1], "normalize": 0.5}.get(name)

    return method


STEP = (1, {}, {"a": 1.0}, {"a": False}, {"a": False}, {}, {})
CALLS = {
    "register_env": ((4, SPEC), {}),
    "unregister_env": ((4,), {}),
    "sample": ((1,), {}),
    "task_info": ((1,), {}),
    "distribution": ((), {}),
    "update_on_step": (STEP, {"env_id": 4}),
    "update_on_step_batch": (
        (random_episode(1, 4, SPEC, np.random.default_rng(0), frozenset({"rewards"}))[0],),
        {},
    ),
    "update_on_episode": (({"a": 1.0}, 3, 1, {}), {"env_id": 4}),
    "update_on_abort": ((1, 4), {}),
    "update_task_progress": ((1, {"a": 0.5}, 4), {}),
    "update_on_demand": (({"scores": [1.0]},), {}),
    "normalize": ((2.0, 1), {}),
    "get_options": ((), {}),
    "tunable_options": ((), {}),
    "check_options": ((), {"temperature": 1.0}),
    "set_options": ((), {"temperature": 1.0}),
    "metrics": ((), {}),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls_are_passed_on(name):
    curriculum = type("Heard", (Listener,), {name: _listen(name)})()
    args, kwargs = CALLS[name]
    with make_local_curriculum(curriculum) as synced:
        answer = getattr(synced, name)(*args, **kwargs)
    assert curriculum.heard == [(name, args, kwargs)]
    expected = {"task_info": {"i": 2.0}, "sample": [1], "normalize": 0.5}.get(name)
    assert answer["m"] == 1.0 if name == "metrics" else answer == expected


def test_no_method_of_a_curriculum_is_forgotten():
    # These are the base class's own work, done by means of the others, or the host's.
    kept = {"check_env", "check_episode", "log_metrics", "task_name", "state_dict", "load_state_dict"}
    public = {
        name for name, _ in inspect.getmembers(Curriculum, inspect.isfunction) if not name.startswith("_")
    }
    assert public - kept == set(CALLS)


def test_what_a_curriculum_is_can_be_read():
    class Stepping(Listener):
        requires_step_updates = True
        step_fields = frozenset({"infos"})
        single_agent = True

    curriculum = Stepping()
    with make_local_curriculum(curriculum) as synced:
        assert synced.requires_step_updates
        assert synced.step_fields == {"infos"}
        assert synced.single_agent
        assert synced.task_names == ("x", "y", "z")
        assert synced.stats is curriculum.stats
        assert synced.rng is curriculum.rng
        assert synced.task_name(2) == "z"


def test_logs_are_about_both_sides():
    written = []

    class Writer:
        def add_scalar(self, tag, scalar_value, global_step=None):
            written.append(tag)

    with make_local_curriculum(Listener()) as synced:
        synced.log_metrics(Writer(), step=1, log_n_tasks=1)
    assert {"curriculum/entropy", "curriculum/sync/envs", "curriculum/probability/x"} <= set(written)


def test_links_and_handles_keep_their_protocols():
    with make_local_curriculum(Listener()) as synced:
        assert isinstance(synced.components, Components)
        assert isinstance(synced.components.connect(SPEC), Link)

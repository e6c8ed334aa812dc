"""The local transport: direct calls in one process."""

import gc
import multiprocessing

import pytest

from macurr import CurriculumLost, DiscreteTaskSpace, UsageError, make_local_curriculum
from macurr.curricula import DomainRandomization
from macurr.testing import ProbeEnv, TraceCurriculum, TransportTests
from macurr.testing.probes import play
from macurr.wrappers import PettingZooSyncWrapper
from tests.support.processes import FORK, in_child


@pytest.mark.timeout(60)
class TestLocal(TransportTests):
    deterministic = True
    serializes = False
    apart = False

    def make(self, curriculum, **options):
        return make_local_curriculum(curriculum, **options)


def test_a_run_repeats_exactly_and_so_does_a_resumed_one():
    def run(synced, episodes):
        return [task for _, task in play(synced.components, episodes, buffer_size=0)]

    def make():
        return make_local_curriculum(DomainRandomization(DiscreteTaskSpace(1000), seed=3))

    with make() as whole:
        expected = run(whole, 20)
    with make() as first:
        begun = run(first, 8)
        state = first.state_dict()
    with make() as second:
        second.load_state_dict(state)
        assert begun + run(second, 12) == expected


@FORK
@pytest.mark.timeout(60)
def test_a_forked_child_is_refused_with_the_cure():
    with make_local_curriculum(TraceCurriculum()) as synced:
        connected = PettingZooSyncWrapper(ProbeEnv(), synced.components)
        connected.reset()
        for env in (connected, PettingZooSyncWrapper(ProbeEnv(), synced.components)):
            kind, message = in_child(env.reset)
            assert kind == "UsageError"
            assert "make_multiprocessing_curriculum" in message
        while connected.agents:
            connected.step(dict.fromkeys(connected.agents, 0))
        assert [r.task for r in TraceCurriculum.heard(synced, "episode")] == [0]


@pytest.mark.timeout(60)
def test_a_spawned_child_is_refused_with_the_cure():
    context = multiprocessing.get_context("spawn")
    with make_local_curriculum(TraceCurriculum()) as synced, context.Pool(1) as pool:
        with pytest.raises(UsageError, match="make_multiprocessing_curriculum"):
            pool.apply(play, (synced.components, 1))
        pool.close()
        pool.join()


def test_a_deleted_curriculum_is_lost():
    components = make_local_curriculum(TraceCurriculum()).components
    gc.collect()
    with pytest.raises(CurriculumLost, match="Keep the object"):
        PettingZooSyncWrapper(ProbeEnv(), components).reset()


def test_a_closed_link_says_so():
    with make_local_curriculum(TraceCurriculum()) as synced:
        env = PettingZooSyncWrapper(ProbeEnv(), synced.components)
        env.reset()
        env.close()
        with pytest.raises(UsageError, match="reset"):
            env.step({"left": 0, "right": 0})
        env.reset()
        assert env.env_id == 1

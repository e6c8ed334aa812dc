"""Many environments, and programs that are interrupted."""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

import macurr
from macurr.testing import ProbeEnv, TraceCurriculum
from macurr.wrappers import PettingZooSyncWrapper
from tests.support.scripts import ROOT

PROCESSES, ENVS, EPISODES = 8, 32, 3


def play_many(components, pipe):
    envs = [PettingZooSyncWrapper(ProbeEnv(length=4), components) for _ in range(ENVS)]
    for _ in range(EPISODES):
        for env in envs:
            env.reset()
        while envs[0].agents:
            for env in envs:
                env.step(dict.fromkeys(env.agents, 0))
    pipe.send(([env.env_id for env in envs], sorted({"torch", "ray", "matplotlib"} & set(sys.modules))))
    for env in envs:
        env.close()


@pytest.mark.timeout(90)
def test_256_environments_in_8_processes():
    context = multiprocessing.get_context("spawn")
    trace = TraceCurriculum(fields=frozenset({"rewards", "dones"}))
    with macurr.make_multiprocessing_curriculum(trace) as synced:
        workers = []
        for _ in range(PROCESSES):
            ours, theirs = context.Pipe()
            worker = context.Process(target=play_many, args=(synced.components, theirs))
            worker.start()
            workers.append((worker, ours))
        answers = [pipe.recv() for _, pipe in workers]
        for worker, pipe in workers:
            worker.join()
            pipe.close()
    ids = [env_id for own, _ in answers for env_id in own]
    assert sorted(ids) == list(range(PROCESSES * ENVS))
    assert [heavy for _, heavy in answers] == [[]] * PROCESSES
    results = TraceCurriculum.heard(synced, "episode")
    finished = [result.env_id for result in results if hasattr(result, "length")]
    assert sorted(finished) == sorted(ids * EPISODES)
    steps = TraceCurriculum.heard(synced, "steps")
    assert sum(len(batch) for batch in steps) == PROCESSES * ENVS * EPISODES * 4


PROGRAM = """
    import multiprocessing, sys, time

    import macurr
    from macurr.curricula import DomainRandomization
    from macurr.testing import ProbeEnv
    from macurr.wrappers import PettingZooSyncWrapper


    def work(components, ready):
        env = PettingZooSyncWrapper(ProbeEnv(length=4), components)
        try:
            while True:
                env.reset()
                while env.agents:
                    env.step(dict.fromkeys(env.agents, 0))
                ready.set()
        finally:
            env.close()


    if __name__ == "__main__":
        context = multiprocessing.get_context("spawn")
        levels = DomainRandomization(macurr.DiscreteTaskSpace(5), seed=0)
        with macurr.make_multiprocessing_curriculum(levels) as curriculum:
            events = [context.Event() for _ in range(2)]
            for event in events:
                context.Process(target=work, args=(curriculum.components, event)).start()
            for event in events:
                event.wait()
            print("ready", flush=True)
            time.sleep(60)
"""


@pytest.mark.timeout(60)
@pytest.mark.parametrize("pause", [0.0, 0.05])
def test_an_interrupted_program_ends_at_once_and_leaves_nobody_behind(pause, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM), encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, str(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        assert process.stdout.readline() == b"ready\n"
        begun = time.monotonic()
        for _ in range(2):
            os.killpg(process.pid, signal.SIGINT)
            time.sleep(pause)
        assert process.wait(timeout=20) != 0
        assert time.monotonic() - begun < 20
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and _alive(process.pid):
            time.sleep(0.01)
        assert not _alive(process.pid)
    finally:
        process.stdout.close()
        if _alive(process.pid):
            os.killpg(process.pid, signal.SIGKILL)


def _alive(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True

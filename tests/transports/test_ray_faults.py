"""Ray's processes and nodes are killed: training goes on, and it is known to the letter what was lost."""

import itertools
import os
import signal
import time
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from macurr import CurriculumLost, make_ray_curriculum
from macurr.testing import ProbeEnv, TraceCurriculum
from macurr.wrappers import RaySyncWrapper
from tests.support.nodes import QUICK
from tests.support.scripts import ROOT

pytestmark = [
    pytest.mark.xdist_group("ray"),
    pytest.mark.timeout(120),
    pytest.mark.usefixtures("nodes"),
]
NAMES = map("faulty-{}".format, itertools.count())
SECONDS = 60.0  # for what takes one or two, on a machine that has other things to do


@pytest.fixture(scope="module")
def nodes():
    """A cluster to which nodes can be added, and from which they can be taken by force."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        head = {"num_cpus": 2, "include_dashboard": False, "resources": {"home": 1}, **QUICK}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        ray.init(address=cluster.address, log_to_driver=False, configure_logging=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def add_node(nodes, **resources):
    handler = signal.getsignal(signal.SIGTERM)
    node = nodes.add_node(num_cpus=1, resources=resources)
    signal.signal(signal.SIGTERM, handler)  # Ray puts its own in its place
    return node


def until(condition, seconds=SECONDS):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@ray.remote(num_cpus=0, resources={"home": 0.01})
class EnvWorker:
    """Steps one environment, and writes down after each episode how many were told and how many acknowledged."""

    def __init__(self, name, log, **options):
        self.env = RaySyncWrapper(ProbeEnv(), name, **options)
        self.log = Path(log)
        self.finished = []

    def pid(self):
        return os.getpid()

    def play(self, episodes, pause=0.0):
        """The environment's id, and the tasks of all episodes that it has finished."""
        for _ in range(episodes):
            self.env.reset()
            task = self.env.task
            time.sleep(pause)
            while self.env.agents:
                self.env.step(dict.fromkeys(self.env.agents, 0))
            self.finished.append(task)
            with self.log.open("a") as log:
                log.write(f"{len(self.finished)} {len(self.finished) - self.under_way()}\n")
        return self.env.env_id, self.finished

    def settled(self):
        """Whether everything that was told has been acknowledged."""
        return self.under_way() == 0

    def connected(self):
        """Whether letters go to the actor without Ray's calls."""
        line = self.env._client._link._agent._courier._line
        return line is not None and line.open

    def close(self):
        self.env.close()

    def under_way(self):
        return self.env._client._link.under_way


def told(log):
    """How many episodes a worker has told of, and how many of them were acknowledged."""
    whole, _, _ = log.read_text().rpartition("\n")
    finished, acknowledged = whole.rpartition("\n")[2].split()
    return int(finished), int(acknowledged)


def kill(pid):
    os.kill(pid, signal.SIGKILL)


def episodes_of(synced, env_id):
    return [result.task for result in TraceCurriculum.heard(synced, "episode") if result.env_id == env_id]


def assert_complete(synced, played):
    """Every episode of every environment has arrived, once and in order."""
    for env_id, tasks in played:
        assert episodes_of(synced, env_id) == tasks


def make(curriculum, name, **options):
    return make_ray_curriculum(curriculum, name, timeout=SECONDS, **options)


# --- workers -----------------------------------------------------------------------------------------------


def test_a_worker_that_is_killed_harms_nobody_and_its_tasks_go_back(tmp_path):
    name = next(NAMES)
    with make(TraceCurriculum(), name, worker_timeout=5.0) as synced:
        victim, survivor = (EnvWorker.remote(name, tmp_path / who) for who in ("victim", "survivor"))
        victims, _ = ray.get(victim.play.remote(1))
        ray.get(survivor.play.remote(1))
        pid, endless = ray.get(victim.pid.remote()), victim.play.remote(1_000_000)
        until(lambda: told(tmp_path / "victim")[0] > 20)
        kill(pid)
        with pytest.raises(ray.exceptions.ActorDiedError):
            ray.get(endless)
        played = ray.get(survivor.play.remote(20))
        until(lambda: ray.get(survivor.settled.remote()))
        assert_complete(synced, [played])
        until(lambda: synced.metrics()["sync/envs"] == 1)
        finished, acknowledged = told(tmp_path / "victim")
        assert acknowledged <= len(episodes_of(synced, victims)) <= finished + 1
        ray.get(survivor.close.remote())
        until(lambda: synced.metrics()["sync/envs"] == 0)
    ended = [end.task for end in TraceCurriculum.heard(synced, "episode", "abort")]
    assert sorted(ended) == TraceCurriculum.heard(
        synced, "sample"
    )  # each was played or came back, none twice


def test_a_worker_that_ray_restarts_takes_its_own_place_at_once(tmp_path):
    name = next(NAMES)
    with make(TraceCurriculum(), name, worker_timeout=1e6) as synced:
        worker = EnvWorker.options(max_restarts=1, max_task_retries=-1).remote(name, tmp_path / "log")
        first, tasks = ray.get(worker.play.remote(3))
        until(lambda: ray.get(worker.settled.remote()))
        kill(ray.get(worker.pid.remote()))
        second, later = ray.get(worker.play.remote(3))
        assert (first, second) == (0, 1)
        assert synced.metrics()["sync/envs"] == 1
        assert synced.metrics()["sync/workers"] == 1
        assert {abort.env_id for abort in TraceCurriculum.heard(synced, "abort")} == {first}
        assert not set(tasks) & set(later)
        assert_complete(synced, [(first, tasks)])
        ray.kill(worker)


# --- the actor ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direct", [True, False])
def test_the_actor_is_killed_again_and_again_and_nothing_is_lost(direct, tmp_path):
    name = next(NAMES)
    trace, path = TraceCurriculum(fields=frozenset({"rewards"})), tmp_path / "checkpoint"
    # The first kill comes long before the first 50 messages: something has to be sent again.
    options = {"checkpoint": path, "checkpoint_every": 50, "checkpoint_seconds": 1e6}
    with make(trace, name, direct=direct, **options) as synced:
        workers = [EnvWorker.remote(name, tmp_path / str(i), buffer_size=i) for i in range(2)]
        ray.get([worker.play.remote(1) for worker in workers])
        running = [worker.play.remote(150, pause=0.01) for worker in workers]
        for times in (1, 2):
            synced.update_on_demand({"time": times})
            kill(synced.health()["pid"])
            until(lambda times=times: synced.health()["restarts"] == times)
            before = synced.metrics()["sync/episodes"]
            until(lambda before=before: synced.metrics()["sync/episodes"] > before + 10)
        played = ray.get(running)
        assert ray.get([worker.connected.remote() for worker in workers]) == [direct] * 2
        assert [len(tasks) for _, tasks in played] == [151, 151]
        synced.update_on_demand({"time": 3})
        ray.get([worker.close.remote() for worker in workers])
        until(lambda: synced.metrics()["sync/envs"] == 0)
        assert_complete(synced, played)
        assert [told["time"] for told in TraceCurriculum.heard(synced, "demand")] == [1, 2, 3]
        metrics = synced.metrics()
        assert metrics["sync/restarts"] == 2
        assert metrics["sync/exchanges_lost"] == metrics["sync/updates_lost"] == 0
        assert metrics["sync/exchanges_resent"] > 0
        steps = TraceCurriculum.heard(synced, "steps")
        assert sum(len(batch) for batch in steps) == 3 * 302
    assert synced.metrics()["sync/restarts"] == 2


def test_a_worker_that_dies_with_the_actor_takes_along_what_is_counted(tmp_path):
    name = next(NAMES)
    path, log = tmp_path / "checkpoint", tmp_path / "log"
    options = {"checkpoint": path, "checkpoint_every": 10, "checkpoint_seconds": 1e6}
    with make(TraceCurriculum(), name, **options) as synced:
        worker = EnvWorker.remote(name, log, buffer_size=0)
        env_id, tasks = ray.get(worker.play.remote(33))
        until(lambda: ray.get(worker.settled.remote()))
        assert synced.metrics()["sync/episodes"] == 33
        kill(ray.get(worker.pid.remote()))
        kill(synced.health()["pid"])
        until(lambda: synced.health()["restarts"] == 1)
        kept = episodes_of(synced, env_id)
        assert kept == tasks[: len(kept)]
        metrics = synced.metrics()
        assert metrics["sync/episodes"] == len(kept)
        assert metrics["sync/updates_lost"] == 33 - len(kept)
        assert metrics["sync/exchanges_lost"] <= 10


def test_without_a_checkpoint_the_end_of_the_actor_is_told_to_everybody(tmp_path):
    name = next(NAMES)
    synced = make(TraceCurriculum(), name)
    worker = EnvWorker.remote(name, tmp_path / "log")
    ray.get(worker.play.remote(1))
    kill(synced.health()["pid"])
    with pytest.raises(CurriculumLost, match="checkpoint="):
        synced.sample()
    with pytest.raises(CurriculumLost, match="gone for good"):
        ray.get(worker.play.remote(100))
    synced.close()
    ray.kill(worker)


# --- nodes -------------------------------------------------------------------------------------------------


def test_the_node_of_the_actor_is_killed_and_training_goes_on_where_there_is_another(nodes, tmp_path):
    name = next(NAMES)
    second = add_node(nodes, place=1)
    where = {"resources": {"place": 0.5}}
    options = {"checkpoint": tmp_path / "checkpoint", "checkpoint_every": 7, "actor_options": where}
    with make(TraceCurriculum(), name, **options) as synced:
        workers = [EnvWorker.remote(name, tmp_path / str(i)) for i in range(2)]
        lost = EnvWorker.options(resources={"place": 0.01}).remote(name, tmp_path / "lost")
        ray.get([worker.play.remote(1) for worker in [*workers, lost]])
        running = [worker.play.remote(100, pause=0.005) for worker in workers]
        doomed = lost.play.remote(1_000_000)
        until(lambda: synced.metrics()["sync/episodes"] > 20)
        nodes.remove_node(second, allow_graceful=False)
        add_node(nodes, place=1)
        until(lambda: synced.health()["restarts"] == 1)
        played = ray.get(running)
        with pytest.raises(ray.exceptions.RayActorError):
            ray.get(doomed)
        ray.get([worker.close.remote() for worker in workers])
        assert_complete(synced, played)
        # The worker of that node is gone with it: what it had told since the checkpoint is lost, and counted.
        (env_id,) = {0, 1, 2} - {env_id for env_id, _ in played}
        _, acknowledged = told(tmp_path / "lost")
        kept, metrics = len(episodes_of(synced, env_id)), synced.metrics()
        assert metrics["sync/restarts"] == 1
        assert acknowledged - kept <= metrics["sync/updates_lost"] <= acknowledged - kept + 4

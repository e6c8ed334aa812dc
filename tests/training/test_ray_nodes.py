"""Training across the nodes of a Ray cluster."""

from pathlib import Path

import pytest

from macurr.training import TrainConfig, train
from macurr.training.ray_engine import RayEnv
from macurr.training.rundir import read_csv
from macurr.training.status import Listener
from tests.support.nodes import QUICK

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(180)]


def _node_of(_):
    import ray

    return ray.get_runtime_context().get_node_id()


@pytest.fixture(scope="module")
def two_nodes():
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))  # Ray's workers import the tests
        head = {"num_cpus": 1, "include_dashboard": False, **QUICK}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        node = cluster.add_node(num_cpus=1)
    yield cluster, node
    cluster.shutdown()


def test_workers_on_two_nodes_and_a_node_that_goes(two_nodes, tmp_path, monkeypatch):
    import ray

    cluster, node = two_nodes
    opened, nodes = [], []
    find_room = RayEnv._find_room
    monkeypatch.setattr(RayEnv, "_find_room", lambda env: (opened.append(env), find_room(env)))

    class Watch(Listener):
        def updated(self, status):
            if status.update == 2 and not nodes:
                actors = [group.worker.actor for group in opened[0].groups]
                where = [a.__ray_call__.remote(_node_of) for a in actors]
                nodes.extend(ray.get(where))
                cluster.remove_node(node, allow_graceful=False)
                cluster.add_node(num_cpus=1)

    config = TrainConfig.of(
        engine="ray",
        ray_address=cluster.address,
        steps=16 * 16 * 8,
        envs_per_worker=8,
        rollout=16,
        seeds=4,
        matrix_seeds=1,
        report=False,
        tensorboard=False,
        out=str(tmp_path / "run"),
    )
    result = train(config, Watch())
    assert len(set(nodes)) == 2, "a worker on each node"
    assert result.status.steps >= 16 * 16 * 8
    assert sum(read_csv(result.run.metrics)["episodes"]) > 0
    assert not ray.is_initialized(), "a connection that the run made is closed with it"

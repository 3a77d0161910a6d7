"""Machines of a cluster that vanish, are drained or freeze while they render: the command ends with 0 all the same."""

import os
import signal
import subprocess
import sys
import time

import pytest

from batchgen.storage.store import Store
from tests.storm import Damage, count, quiet_pixels, storm_job

PATIENCE_S = 600


@pytest.fixture
def cluster():
    """A head that renders nothing, and two nodes, on loopback."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    yield cluster
    cluster.shutdown()


def vanish(cluster, node):
    cluster.remove_node(node, allow_graceful=False)


def drain(cluster, node):
    """As a spot machine that is told, and gone ten seconds later."""
    said = [
        "--reason",
        "DRAIN_NODE_REASON_PREEMPTION",
        "--reason-message",
        "spot",
        "--deadline-remaining-seconds",
        "10",
    ]
    ray = os.path.join(os.path.dirname(sys.executable), "ray")
    command = [ray, "drain-node", "--address", cluster.address, "--node-id", node.node_id, *said]
    subprocess.run(command, check=True, capture_output=True, text=True)
    time.sleep(10)
    cluster.remove_node(node, allow_graceful=False)


def freeze(cluster, node):
    os.kill(node.all_processes["raylet"][0].process.pid, signal.SIGSTOP)


@pytest.mark.parametrize("strike", [vanish, drain, freeze])
def test_a_machine_is_lost(cluster, tmp_path, strike):
    section = {"address": cluster.address, "num_cpus": 1, "renderers": {"min_size": 2, "max_size": 2}}
    job = storm_job(tmp_path, str(tmp_path / "run"), cluster=section)
    store = Store.open(str(tmp_path / "run"))
    command = [sys.executable, "-m", "batchgen", "render", str(job)]
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    began = time.monotonic()
    while len(list(store.list("data"))) < 10:
        assert driver.poll() is None, driver.stdout.read()
        assert time.monotonic() - began < PATIENCE_S
        time.sleep(0.2)
    strike(cluster, next(iter(cluster.worker_nodes)))
    output, _ = driver.communicate(timeout=PATIENCE_S)
    assert driver.returncode == 0, output
    damage = Damage()
    count(store, quiet_pixels(tmp_path), damage)
    assert damage == Damage()

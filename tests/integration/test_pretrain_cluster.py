"""Beyond one machine: a node is lost in the middle of a run, and one comes back. `pytest -m slow`."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster
from safetensors.torch import load_file

from tests.integration import jobs
from tests.integration.pretraining import checkpoints, command, log, pretrain

pytestmark = pytest.mark.slow

NODE = {"num_cpus": 2, "object_store_memory": 150 * 1024**2}
ELASTIC = ["workers.num_workers=2", "workers.min_workers=1"]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head that only drives, and one node with room for a worker and its reading."""
    found = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": NODE["object_store_memory"]}
    )
    found.add_node(**NODE)
    yield found
    found.shutdown()


def start(cluster: Cluster, uri: Path, *overrides: str) -> subprocess.Popen[bytes]:
    address = f"cluster.address={cluster.address}"
    with (uri.parent / "output").open("wb") as output:
        return subprocess.Popen(
            command(uri, *ELASTIC, address, *overrides), cwd=jobs.ROOT, stdout=output, stderr=subprocess.STDOUT
        )


def num_workers(uri: Path) -> list[float]:
    """Of every update that is in a checkpoint."""
    return [line["num_workers"] for line in log(uri)] if (uri / "log.jsonl").exists() else []


def test_a_lost_node_costs_the_updates_since_the_last_checkpoint(cluster: Cluster, tmp_path: Path) -> None:
    """The run goes on with one worker, to the weights of a run that always had one."""
    whole, uri = tmp_path / "whole", tmp_path / "shrunk"
    assert pretrain(whole).returncode == 0
    second = cluster.add_node(**NODE)
    with start(cluster, uri) as running:
        jobs.wait_until(lambda: bool(checkpoints(uri)), running)
        cluster.remove_node(second, allow_graceful=False)
    assert running.returncode == 0, (tmp_path / "output").read_text()
    assert num_workers(uri)[0] == 2
    assert num_workers(uri)[-1] == 1
    assert [line["update"] for line in log(uri)] == list(range(1, 41))
    expected, found = (load_file(run / "checkpoints/update-000000040/model.safetensors") for run in (whole, uri))
    for key, one in found.items():
        assert float((one - expected[key]).norm()) <= 1e-4 * float(expected[key].norm()) + 1e-6, key


def test_a_new_node_gets_a_worker(cluster: Cluster, tmp_path: Path) -> None:
    """Ray Train looks for more room once a minute."""
    uri = tmp_path / "grown"
    with start(cluster, uri, "pretrain.num_updates=100000") as running:
        jobs.wait_until(lambda: bool(checkpoints(uri)), running)
        cluster.add_node(**NODE)
        jobs.wait_until(lambda: 2 in num_workers(uri), running, timeout_s=240)
        running.terminate()
    seen = num_workers(uri)
    assert seen[0] == 1
    assert seen[-1] == 2
    assert [line["update"] for line in log(uri)] == list(range(1, len(seen) + 1))

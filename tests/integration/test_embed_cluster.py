"""A node of the cluster is killed in the middle of a run, which goes on with what is left."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from w2vb_ray.errors import ExitCode

from . import jobs

STORE_BYTES = 150 * 1024**2


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head that only drives, and two workers: each holds one encoder, and what is left when one goes is not enough
    for both."""
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": STORE_BYTES})
    for _ in range(2):
        found.add_node(num_cpus=2, object_store_memory=STORE_BYTES, memory=4 * 1024**3)
    yield found
    found.shutdown()


def test_killed_node_costs_nothing(cluster: Cluster, tmp_path: Path) -> None:
    rows = [
        {"utterance_id": f"{copy}-{row['path']}", **row, "path": str(jobs.SAMPLE / row["path"])}
        for copy in range(4)
        for row in jobs.sample_rows()
    ]
    manifest = jobs.write_manifest(tmp_path / "manifest.tsv", rows)
    more = f"""  commit_files: 2
plan: {{unit_utterances: 8}}
cluster: {{address: "{cluster.address}", num_encoders: 2, cpus_per_encoder: 1}}
"""
    conf = jobs.write_conf(tmp_path / "conf.yaml", manifest, tmp_path / "sink", more)
    driver = jobs.start(conf, tmp_path / "log")
    jobs.wait_until(lambda: jobs.num_batches(tmp_path / "sink") >= 3, driver)
    cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
    code = driver.wait(timeout=200)
    assert code == ExitCode.DONE, (tmp_path / "log").read_text()
    assert jobs.ids(jobs.table(tmp_path / "sink", "utterances")) == sorted(row["utterance_id"] for row in rows)
    assert jobs.table(tmp_path / "sink", "rejects").num_rows == 0

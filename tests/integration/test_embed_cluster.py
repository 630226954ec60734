"""Beyond one machine: a node of the cluster is killed in the middle of a run, a disk is full. `pytest -m slow`."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from w2vb_ray.errors import ExitCode

from . import jobs

pytestmark = pytest.mark.slow

STORE_BYTES = 150 * 1024**2


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    return [
        {"utterance_id": f"{copy}-{row['path']}", **row, "path": str(jobs.SAMPLE / row["path"])}
        for copy in range(4)
        for row in jobs.sample_rows()
    ]


def assert_all_embedded_once(sink: Path, rows: list[dict[str, str]]) -> None:
    assert jobs.ids(jobs.table(sink, "utterances")) == sorted(row["utterance_id"] for row in rows)
    assert jobs.table(sink, "rejects").num_rows == 0


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head that only drives, and two workers with an encoder each; without one of them there is room for one."""
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": STORE_BYTES})
    for _ in range(2):
        found.add_node(num_cpus=2, object_store_memory=STORE_BYTES, memory=4 * 1024**3)
    yield found
    found.shutdown()


def test_killed_node_costs_nothing(cluster: Cluster, rows: list[dict[str, str]], tmp_path: Path) -> None:
    manifest = jobs.write_manifest(tmp_path / "manifest.tsv", rows)
    more = f"""  commit_files: 2
plan: {{unit_utterances: 8}}
cluster: {{address: "{cluster.address}", num_encoders: 2, cpus_per_encoder: 1}}
"""
    conf = jobs.write_conf(tmp_path / "conf.yaml", manifest, tmp_path / "sink", more)
    driver = jobs.start(conf, tmp_path / "log")
    jobs.wait_until(lambda: jobs.num_batches(tmp_path / "sink") >= 3, driver)
    cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
    assert driver.wait(timeout=200) == ExitCode.DONE, (tmp_path / "log").read_text()
    assert_all_embedded_once(tmp_path / "sink", rows)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "none", str(folder)]
    if os.geteuid() or subprocess.run(mount, check=False).returncode:
        pytest.skip("mounting a tmpfs is not possible here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_full_disk_is_one_message_and_the_next_run_goes_on(
    disk: Path, rows: list[dict[str, str]], tmp_path: Path
) -> None:
    manifest = jobs.write_manifest(tmp_path / "manifest.tsv", rows)
    more = "  commit_files: 2\nplan: {unit_utterances: 8}\n"
    conf = jobs.write_conf(tmp_path / "conf.yaml", manifest, disk / "sink", more)
    failed = jobs.run(conf)
    assert failed.returncode == ExitCode.USER_ERROR, failed.stderr
    assert "No space left on device" in failed.stderr
    assert "run the same command again" in failed.stderr
    assert "Traceback" not in failed.stderr.partition("error: ")[2]
    committed = jobs.ids(jobs.table(disk / "sink", "utterances"))
    assert 0 < len(set(committed)) == len(committed) < len(rows)

    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
    assert jobs.run(conf).returncode == ExitCode.DONE
    assert_all_embedded_once(disk / "sink", rows)

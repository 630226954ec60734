"""`ray job submit` to a real cluster of one node, token authentication on: the README's command line."""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from deltalake import DeltaTable

ROOT = Path(__file__).parents[2]
RAY = Path(sys.executable).with_name("ray")
DASHBOARD = "http://127.0.0.1:28265"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Environment of a client of a running head node."""
    path = f"{RAY.parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    environment.pop("RAY_ADDRESS", None)
    start = [str(RAY), "start", "--head", "--port=26379", "--dashboard-port=28265", "--num-cpus=5", "--num-gpus=1"]
    subprocess.run([*start, "--disable-usage-stats"], env=environment, check=True, capture_output=True, timeout=120)
    yield environment
    subprocess.run([str(RAY), "stop", "--force"], env=environment, check=True, capture_output=True, timeout=120)


def submit(environment: dict[str, str], *entrypoint: str) -> subprocess.CompletedProcess[str]:
    command = [str(RAY), "job", "submit", "--address", DASHBOARD, "--working-dir", ".", "--", *entrypoint]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=280)


def test_the_job_runs_on_the_cluster_that_it_was_submitted_to(cluster: dict[str, str], tmp_path: Path) -> None:
    places = [f"source.uri={ROOT / 'tests/data/speech/manifest.tsv'}", f"sink.uri={tmp_path / 'sink'}"]
    encoder = ["encoder.device=cpu", "cluster.gpus_per_encoder=1", "cluster.cpus_per_encoder=2"]
    entrypoint = ["python", "-m", "jobs.embed", "conf/embed/demo.yaml", *places, *encoder]
    done = submit(cluster, *entrypoint)
    assert done.returncode == 0, done.stdout + done.stderr
    assert DeltaTable(str(tmp_path / "sink/utterances")).count() == 144
    again = submit(cluster, *entrypoint)
    assert "nothing to do" in again.stdout, again.stdout + again.stderr


def test_a_cluster_that_is_too_small_says_so(cluster: dict[str, str], tmp_path: Path) -> None:
    places = [f"source.uri={ROOT / 'tests/data/speech/manifest.tsv'}", f"sink.uri={tmp_path / 'sink'}"]
    done = submit(cluster, "python", "-m", "jobs.embed", "conf/embed/demo.yaml", *places, "cluster.num_encoders=7")
    assert "the cluster cannot hold the job: 7 encoder(s)" in done.stdout + done.stderr
    assert done.returncode != 0


def test_a_client_without_the_token_is_turned_away(cluster: dict[str, str]) -> None:
    done = submit({**cluster, "RAY_AUTH_TOKEN": "0" * 64}, "python", "-c", "print('in')")
    assert done.returncode != 0
    assert "in\n" not in done.stdout

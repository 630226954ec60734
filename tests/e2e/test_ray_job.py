"""`ray job submit` to a real cluster of one node, token authentication on: the README's command line."""

import json
import os
import re
import secrets
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from deltalake import DeltaTable

ROOT = Path(__file__).parents[2]
RAY = Path(sys.executable).with_name("ray")
DASHBOARD = "http://127.0.0.1:28265"
METRICS = "http://127.0.0.1:28266/metrics"
GRAFANA = ROOT / "conf/deploy/grafana-embed.json"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Environment of a client of a running head node."""
    path = f"{RAY.parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    environment.pop("RAY_ADDRESS", None)
    start = [str(RAY), "start", "--head", "--port=26379", "--dashboard-port=28265", "--num-cpus=5", "--num-gpus=1"]
    start += ["--metrics-export-port=28266", "--disable-usage-stats"]
    subprocess.run(start, env=environment, check=True, capture_output=True, timeout=120)
    yield environment
    subprocess.run([str(RAY), "stop", "--force"], env=environment, check=True, capture_output=True, timeout=120)


def submit(environment: dict[str, str], *entrypoint: str) -> subprocess.CompletedProcess[str]:
    command = [str(RAY), "job", "submit", "--address", DASHBOARD, "--working-dir", ".", "--", *entrypoint]
    deadline = time.monotonic() + 60
    while True:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=280
        )
        starting = "No available agent to submit job" in done.stderr  # on a busy machine it comes after the head
        if not starting or time.monotonic() > deadline:
            return done
        time.sleep(2)


def test_the_job_runs_on_the_cluster_that_it_was_submitted_to(cluster: dict[str, str], tmp_path: Path) -> None:
    places = [f"source.uri={ROOT / 'tests/data/speech/manifest.tsv'}", f"sink.uri={tmp_path / 'sink'}"]
    encoder = ["encoder.device=cpu", "cluster.gpus_per_encoder=1", "cluster.cpus_per_encoder=2"]
    entrypoint = ["python", "-m", "jobs.embed", "conf/embed/demo.yaml", *places, *encoder]
    done = submit(cluster, *entrypoint)
    assert done.returncode == 0, done.stdout + done.stderr
    assert DeltaTable(str(tmp_path / "sink/utterances")).count() == 144
    again = submit(cluster, *entrypoint)
    assert "nothing to do" in again.stdout, again.stdout + again.stderr


def exported() -> dict[str, float]:
    """What Prometheus would read of our metrics: name (with the label that is ours) -> sum."""
    found: dict[str, float] = {}
    with urllib.request.urlopen(METRICS, timeout=10) as reply:
        for line in reply.read().decode().splitlines():
            if match := re.match(r"(ray_w2vb_\w+)\{(.*)\} (\S+)$", line):
                reason = re.search(r'reason="(\w+)"', match[2])
                name = f"{match[1]} {reason[1]}" if reason else match[1]
                found[name] = found.get(name, 0.0) + float(match[3])
    return found


def test_prometheus_reads_what_was_committed(cluster: dict[str, str], tmp_path: Path) -> None:
    source = tmp_path / "speech"
    source.mkdir()
    for file in sorted((ROOT / "tests/data/speech/eng").iterdir())[:3]:
        (source / file.name).write_bytes(file.read_bytes())
    (source / "empty.wav").write_bytes(b"")
    places = [f"source.uri={source}", f"sink.uri={tmp_path / 'sink'}", "sink.max_reject_fraction=1"]
    encoder = ["encoder.device=cpu", "cluster.gpus_per_encoder=1", "cluster.cpus_per_encoder=2"]
    before = exported()
    done = submit(cluster, "python", "-m", "jobs.embed", "conf/embed/demo.yaml", *places, *encoder)
    assert done.returncode == 0, done.stdout + done.stderr
    (report,) = (tmp_path / "sink/_runs").glob("*/report.json")
    audio_s = json.loads(report.read_text())["audio_hours"] * 3600
    deadline = time.monotonic() + 60
    while "ray_w2vb_rejects_total empty" not in exported() and time.monotonic() < deadline:
        time.sleep(1)  # Ray hands metrics over every few seconds
    after = exported()
    gained = {name: value - before.get(name, 0.0) for name, value in after.items()}
    assert gained["ray_w2vb_utterances_total"] == 3
    assert gained["ray_w2vb_rejects_total empty"] == 1
    assert gained["ray_w2vb_audio_seconds_total"] == pytest.approx(audio_s)
    assert gained["ray_w2vb_commit_seconds_count"] >= 1
    names = {name.split()[0] for name in after} | {"ray_w2vb_padded_seconds_total"}  # nothing was padded here
    asked = set(re.findall(r"ray_w2vb_\w+", GRAFANA.read_text(encoding="utf-8")))
    assert asked <= names, "the dashboard asks for what nobody exports"


def test_a_cluster_that_is_too_small_says_so(cluster: dict[str, str], tmp_path: Path) -> None:
    places = [f"source.uri={ROOT / 'tests/data/speech/manifest.tsv'}", f"sink.uri={tmp_path / 'sink'}"]
    done = submit(cluster, "python", "-m", "jobs.embed", "conf/embed/demo.yaml", *places, "cluster.num_encoders=7")
    assert "the cluster cannot hold the job: 7 encoder(s)" in done.stdout + done.stderr
    assert done.returncode != 0


def test_a_client_without_the_token_is_turned_away(cluster: dict[str, str]) -> None:
    done = submit({**cluster, "RAY_AUTH_TOKEN": "0" * 64}, "python", "-c", "print('in')")
    assert done.returncode != 0
    assert "in\n" not in done.stdout

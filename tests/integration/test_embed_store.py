"""The job from a failing store into a failing store: complete, right, and not much slower."""

import os
import subprocess
import time

import pytest

from tests.faults.proxy import FaultyStore
from w2vb_ray import storage
from w2vb_ray.errors import ExitCode

from . import jobs

FAULTS = {"*": {"slow_down": 0.015, "reset": 0.015, "lost_reply": 0.01, "hang": 0.01}}  # 5 % of all requests


@pytest.fixture
def store(clean_aws, endpoint, monkeypatch):
    for name, value in {"ACCESS_KEY_ID": "testing", "SECRET_ACCESS_KEY": "testing", "REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    with FaultyStore(endpoint, seed=1) as store:
        monkeypatch.setenv("AWS_ENDPOINT_URL", store.endpoint)
        yield store


def embed(sink: str, *more: str) -> "subprocess.CompletedProcess[str]":
    places = ["source.uri=s3://flaky-corpus/audio", f"sink.uri=s3://{sink}/tables", "encoder.checkpoint=embedded"]
    return jobs.run("conf/embed/s3.yaml", *places, "cluster.address=local", "plan.unit_utterances=8", *more)


def test_five_percent_of_requests_fail_and_nothing_is_lost(store: FaultyStore) -> None:
    fs = storage.filesystem("s3://flaky-corpus")
    fs.mkdir("flaky-corpus")
    fs.mkdir("flaky-sink")
    expected = jobs.sample_rows()
    for row in expected:
        fs.pipe_file(f"flaky-corpus/audio/{row['path']}", (jobs.SAMPLE / row["path"]).read_bytes())
    store.faults = FAULTS
    started = time.monotonic()
    done = embed("flaky-sink")
    print(f"{time.monotonic() - started:.1f} s, {store.num_requests} requests, {dict(store.counts)}")  # noqa: T201
    assert done.returncode == ExitCode.DONE, done.stderr
    assert sum(store.counts.values()) >= 5
    store.faults = {}
    rows = jobs.table("s3://flaky-sink/tables", "utterances")
    assert sorted(rows["audio_uri"].to_pylist()) == sorted(f"s3://flaky-corpus/audio/{row['path']}" for row in expected)


@pytest.mark.skipif("W2VB_TEST_S3_ENDPOINT" in os.environ, reason="needs a store that checks no signature")
def test_a_store_that_overwrites_is_refused_before_anything_is_written(endpoint, store, monkeypatch) -> None:
    with FaultyStore(endpoint, drop_headers=["If-None-Match"]) as careless:
        monkeypatch.setenv("AWS_ENDPOINT_URL", careless.endpoint)
        fs = storage.filesystem("s3://careless-sink")
        fs.mkdir("careless-sink")
        done = embed("careless-sink")
        assert done.returncode == ExitCode.USER_ERROR
        assert "sink.single_writer=true" in done.stderr
        assert "Traceback" not in done.stderr
        assert fs.find("careless-sink") == []

"""A store that fails, lies or changes under us: what is read is right or rejected, what is written is there once."""

import json
import os
import random
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.faults.proxy import FaultyStore
from w2vb_ray import storage
from w2vb_ray.audio.fetch import NUM_ATTEMPTS, fetch
from w2vb_ray.embed.probe import check_conditional_put
from w2vb_ray.errors import AudioRejected, RejectReason, SinkError

from . import jobs

NUM_OBJECTS = 150
PART_BYTES = 5 * 1024**2  # the least that S3 takes
NO_CHECKSUM = {"request_checksum_calculation": "when_required"}  # so that only the etag says what the bytes should be

on_moto = pytest.mark.skipif(
    "W2VB_TEST_S3_ENDPOINT" in os.environ, reason="needs a store that checks no signature and encrypts with any key"
)


@pytest.fixture
def store(clean_aws, endpoint):
    """A proxy in front of the store, without faults so far."""
    with FaultyStore(endpoint, seed=3) as store:
        yield store


@pytest.fixture
def options(store):
    return {"key": "testing", "secret": "testing", "endpoint_url": store.endpoint}


@pytest.fixture
def bucket(request, options):
    """A bucket with the same name each time: faults depend on paths."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_"))[-60:].strip("-")
    storage.filesystem(f"s3://{name}", options).mkdir(name)
    return name


class Corpus:
    """Objects with random bytes, and the versions that a listing gives them."""

    def __init__(self, bucket, options, num_objects, **client):
        self.fs = storage.filesystem(f"s3://{bucket}", {**options, "config_kwargs": client})
        self.data = {f"{bucket}/{i}": random.Random(i).randbytes(3000 + i) for i in range(num_objects)}
        for path, data in self.data.items():
            self.fs.pipe_file(path, data)
        self.versions = {path: storage.version_of(info) for path, info in self.fs.find(bucket, detail=True).items()}

    def fetch(self, path):
        """The object's bytes, or why not."""
        expected_bytes, version = len(self.data[path]), self.versions[path]
        try:
            return fetch(self.fs, path, expected_bytes=expected_bytes, max_bytes=10**6, version=version)
        except AudioRejected as rejected:
            return rejected.reason

    def fetch_all(self):
        with ThreadPoolExecutor(16) as threads:
            return dict(zip(self.data, threads.map(self.fetch, self.data), strict=True))


@pytest.mark.parametrize("client", [NO_CHECKSUM, {}], ids=["etag", "checksum"])
def test_no_truncated_or_corrupt_body_passes(store, bucket, options, client):
    corpus = Corpus(bucket, options, NUM_OBJECTS, **client)
    store.faults = {"get": dict.fromkeys(("short", "corrupt", "torn", "cut"), 0.08)}
    found = corpus.fetch_all()
    assert [path for path, data in corpus.data.items() if found[path] not in (data, RejectReason.UNREADABLE)] == []
    assert list(found.values()).count(RejectReason.UNREADABLE) <= 3  # five faults in a row
    assert min(store.counts["get", fault] for fault in ("short", "corrupt", "torn", "cut")) >= 8


@pytest.mark.parametrize("fault", ["short", "corrupt", "torn", "reset", "error"])
def test_what_fails_each_time_is_unreadable(store, bucket, options, fault, monkeypatch):
    monkeypatch.setattr("w2vb_ray.audio.fetch.BACKOFF_S", 0.0)
    client = {"retries": {"total_max_attempts": 1}, **NO_CHECKSUM}
    corpus = Corpus(bucket, options, 1, **client)
    store.faults = {"get": {fault: 1.0}}
    assert set(corpus.fetch_all().values()) == {RejectReason.UNREADABLE}
    assert store.counts["get", fault] >= NUM_ATTEMPTS


def test_a_busy_store_costs_time_and_nothing_else(store, bucket, options):
    corpus = Corpus(bucket, options, NUM_OBJECTS)
    store.hang_s = 60.0  # never waited for
    store.faults = {"get": {"slow_down": 0.02, "error": 0.02, "reset": 0.02, "lost_reply": 0.02, "hang": 0.01}}
    assert corpus.fetch_all() == corpus.data
    assert len(store.counts) == 5


def test_another_version_is_rejected_as_changed(bucket, options, store):
    corpus = Corpus(bucket, options, 2)
    first, second = corpus.data
    corpus.fs.pipe_file(first, corpus.data[first][::-1])  # as long as before
    assert corpus.fetch_all() == {first: RejectReason.CHANGED, second: corpus.data[second]}


@on_moto
def test_etags_that_are_no_md5_do_not_reject(bucket, options, store):
    corpus = Corpus(bucket, options, 2, **NO_CHECKSUM)
    plain, encrypted = corpus.data
    corpus.fs.pipe_file(encrypted, corpus.data[encrypted], ServerSideEncryption="aws:kms")
    store.faults = {"get": {"corrupt": 1.0}}  # bytes that do not match the etag: only the store can know why
    assert corpus.fetch(encrypted) not in (corpus.data[encrypted], RejectReason.UNREADABLE)
    assert corpus.fetch(plain) == RejectReason.UNREADABLE
    num_bytes = len(corpus.data[plain])
    assert fetch(corpus.fs, plain, expected_bytes=num_bytes, max_bytes=num_bytes, etag_is_md5=False)


def test_an_object_that_was_uploaded_in_parts(bucket, options):
    fs, path, data = storage.filesystem(f"s3://{bucket}", options), f"{bucket}/parts", b"x" * 2 * PART_BYTES
    fs.pipe_file(path, data, chunksize=PART_BYTES)
    version = storage.version_of(fs.info(path))
    assert version.endswith("-2")
    assert fetch(fs, path, expected_bytes=len(data), max_bytes=2**30, version=version) == data


def test_a_store_that_keeps_conditions_passes_the_probe(store, bucket, options):
    sink = f"s3://{bucket}/tables"
    store.faults = {"commit": {"slow_down": 0.2, "lost_reply": 0.2}}
    for run in range(10):
        check_conditional_put(sink, options, f"run-{run}")
    assert store.counts["commit", "lost_reply"] >= 1
    assert storage.filesystem(sink, options).find(bucket) == []


@on_moto
def test_a_store_that_overwrites_is_refused(endpoint, bucket, options):
    with FaultyStore(endpoint, {"commit": {"lost_reply": 0.2}}, drop_headers=["If-None-Match"]) as careless:
        for run in range(5):
            with pytest.raises(SinkError, match=r"ignores conditional writes.*sink\.single_writer=true"):
                check_conditional_put(f"s3://{bucket}/t", {**options, "endpoint_url": careless.endpoint}, f"run-{run}")


def test_a_sink_that_cannot_be_written_to_is_one_clear_line(options):
    with pytest.raises(SinkError, match="cannot be written to") as error:
        check_conditional_put("s3://no-such-bucket/tables", options, "run")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("num_bytes", [1000, PART_BYTES + 1000], ids=["one put", "in parts"])
def test_outputs_whose_replies_are_lost_are_there_once(store, bucket, options, num_bytes):
    options["default_block_size"] = PART_BYTES
    store.faults = {kind: {"lost_reply": 0.25, "slow_down": 0.1} for kind in ("put", "post")}
    for number in range(4):
        with storage.atomic_output(f"s3://{bucket}/{number}", options) as file:
            file.write(b"x" * num_bytes)
    fs = storage.filesystem(f"s3://{bucket}", options)
    sizes = {path: info["size"] for path, info in fs.find(bucket, detail=True).items()}
    assert sizes == {f"{bucket}/{number}": num_bytes for number in range(4)}
    assert [fault for _, fault in store.counts].count("lost_reply") == (1 if num_bytes < PART_BYTES else 2)


COMMITS = """
import json, sys
from tests.unit.embed.sink import LAYOUTS
from w2vb_ray.embed.claim import Claim
from w2vb_ray.embed.tables import REJECTS, UTTERANCES, DataFile, Table, add_action, open_tables

uri, options = sys.argv[1], json.loads(sys.argv[2])
claim = Claim(open_tables(uri, options), "run", 600)
assert claim.create_missing(LAYOUTS)
for name in "abcdefghij":
    file = add_action(DataFile(f"language=eng/{name}.parquet", "eng", 1, 100))
    claim.commit_batch({UTTERANCES: [file], REJECTS: [file]})
claim.release()
for name in (UTTERANCES, REJECTS):
    found = Table(name, uri, options)
    print(*sorted(file.path for file in found.files()))
    print([commit.get("w2vb.kind") for commit in found.delta.history()].count("batch"))
"""


def test_commits_whose_replies_are_lost_count_once(store, bucket, options):
    """In a process of its own: delta-rs holds the interpreter's lock while it waits, and the store needs it here."""
    store.faults = {"commit": {"lost_reply": 0.2, "slow_down": 0.1, "reset": 0.1}, "get": {"reset": 0.05}}
    arguments = [f"s3://{bucket}/tables", json.dumps({**options, "region": "us-east-1"})]
    command = [sys.executable, "-c", COMMITS, *arguments]
    done = subprocess.run(command, cwd=jobs.ROOT, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    paths = " ".join(f"language=eng/{name}.parquet" for name in "abcdefghij")
    assert done.stdout.split("\n") == [paths, "10", paths, "10", ""]
    assert store.counts["commit", "lost_reply"] >= 3

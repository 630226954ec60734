"""Maintenance of tables on S3, with and without object versions, against a real endpoint."""

import io
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from typing import Any

import boto3
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.embed.sink import LAYOUTS_WITH_FRAMES
from w2vb_ray.config.maintain import MaintainConfig
from w2vb_ray.embed.claim import Claim
from w2vb_ray.embed.tables import FRAMES, REJECTS, UTTERANCES, DataFile, Table, add_action, new_file, open_tables
from w2vb_ray.maintain.compact import compact
from w2vb_ray.maintain.forget import forget
from w2vb_ray.maintain.history import BucketHistory
from w2vb_ray.maintain.vacuum import vacuum

READY_S = 60.0
LANGUAGES = ("eng", "ə x/y%")
DIMENSION = 8


class Bucket:
    """A sink in a bucket of its own."""

    def __init__(self, endpoint: str, *, versioned: bool) -> None:
        secrets = {"key": "testing", "secret": "testing"}
        self.options = {"endpoint_url": endpoint, "region": "us-east-1", **secrets}
        self.name = f"sink-{uuid.uuid4().hex[:8]}"
        self.uri = f"s3://{self.name}/some/tables"
        self.client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )
        self.client.create_bucket(Bucket=self.name)
        if versioned:
            self.client.put_bucket_versioning(Bucket=self.name, VersioningConfiguration={"Status": "Enabled"})

    def tables(self) -> dict[str, Table]:
        return open_tables(self.uri, self.options)

    def embed(self, run_id: str, ids: dict[str, list[str]]) -> None:
        """What a run leaves: one file per table and language, committed as one batch."""
        tables = self.tables()
        claim = Claim(tables, run_id, 120.0)
        assert not tables[UTTERANCES].exists or claim.take()
        assert claim.create_missing(LAYOUTS_WITH_FRAMES)
        actions: dict[str, Any] = {}
        for name in (UTTERANCES, FRAMES, REJECTS):
            for language, of_language in ids.items():
                rows = rows_of(
                    tables[name], [id_.replace("run", "not") for id_ in of_language] if name == REJECTS else of_language
                )
                path = new_file(language, run_id)
                num_bytes = tables[name].write(path, [rows], rows.schema)
                file = DataFile(path, language, rows.num_rows, num_bytes)
                actions.setdefault(name, []).append(add_action(file))
        claim.commit_batch(actions)
        claim.release()

    def contents(self) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = {}
        for name, table in self.tables().items():
            rows = [{**row, "language": f.language} for f in table.files() for row in table.read(f.path).to_pylist()]
            found[name] = sorted(rows, key=lambda row: row["utterance_id"])
        return found

    def live(self) -> set[str]:
        return {f"some/tables/{name}/{file.path}" for name, table in self.tables().items() for file in table.files()}

    def versions(self) -> Iterator[tuple[str, str, bool]]:
        for page in self.client.get_paginator("list_object_versions").paginate(Bucket=self.name):
            for version in page.get("Versions", []):
                yield version["Key"], version["VersionId"], version["IsLatest"]
            for marker in page.get("DeleteMarkers", []):
                yield marker["Key"], marker["VersionId"], False

    def data_files(self) -> set[str]:
        return {key for key, _, _ in self.versions() if key.endswith(".parquet") and "_delta_log" not in key}

    def config(self, action: str, **sections: Any) -> MaintainConfig:
        maintain = {"action": action, "dry_run": False, **sections.pop("maintain", {})}
        sink = {"uri": self.uri, "storage": self.options}
        return MaintainConfig.model_validate({"maintain": maintain, "sink": sink, **sections})


def rows_of(table: Table, ids: list[str]) -> pa.Table:
    rng = np.random.default_rng(len(ids))
    columns = pa.schema([field for field in table.columns if field.name != "language"])
    rows = [
        {
            "utterance_id": id_,
            "audio_uri": f"s3://corpus/{id_}.wav",
            "reason": "empty",
            "embedding": rng.standard_normal(DIMENSION).astype(np.float32).tolist(),
        }
        for id_ in ids
    ]
    return pa.Table.from_pylist(rows, schema=columns)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """A server in a process of its own: delta-rs keeps Python's lock while it waits for some of its answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + READY_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
                break
            except OSError:
                assert server.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(timeout=30)


@pytest.fixture
def bucket(request: pytest.FixtureRequest, endpoint: str, clean_aws: None) -> Bucket:
    bucket = Bucket(endpoint, versioned=getattr(request, "param", False))
    for run in ("run1", "run2"):
        bucket.embed(run, {language: [f"{run}-{language}-{n}" for n in range(3)] for language in LANGUAGES})
    return bucket


def test_compact_and_vacuum(bucket: Bucket) -> None:
    before = bucket.contents()
    merges = compact(bucket.config("compact"), bucket.tables(), "m1")
    assert len(merges) == 3 * len(LANGUAGES)
    assert bucket.contents() == before
    merged = bucket.data_files() - bucket.live()
    assert len(merged) == 2 * 3 * len(LANGUAGES)
    orphan = "some/tables/utterances/language=%C9%99%20x%2Fy%25/orphan.parquet"
    bucket.client.put_object(Bucket=bucket.name, Key=orphan, Body=b"x" * 10)
    elsewhere = [f"some/{place}.parquet" for place in ("tables/_runs/a", "tables_more/b", "tables/utterances2/c")]
    for key in elsewhere:
        bucket.client.put_object(Bucket=bucket.name, Key=key, Body=b"x")
    for key in (orphan, "other/part.bin"):  # moto says that every upload began in 2010
        bucket.client.create_multipart_upload(Bucket=bucket.name, Key=key)

    week = vacuum(bucket.config("vacuum", maintain={"dry_run": True}), bucket.tables(), "m2")
    assert (week.files, week.num_uploads) == ([], 1)
    done = vacuum(bucket.config("vacuum", maintain={"retention_h": 0}), bucket.tables(), "m2")
    assert {f"some/tables/{file.table}/{file.path}" for file in done.files} == merged | {orphan}
    assert sum(file.num_bytes for file in done.files) > 10
    uploads = bucket.client.list_multipart_uploads(Bucket=bucket.name).get("Uploads", [])
    assert [upload["Key"] for upload in uploads] == ["other/part.bin"]
    assert bucket.contents() == before
    listing = bucket.client.list_objects_v2(Bucket=bucket.name)["Contents"]
    held = {entry["Key"] for entry in listing if "_delta_log" not in entry["Key"]}
    assert held == bucket.live() | set(elsewhere)
    assert BucketHistory(bucket.uri, bucket.options).old_versions() == []  # a bucket without versions has one of each


@pytest.mark.parametrize("bucket", [True], indirect=True, ids=["versioned"])
def test_nothing_of_what_is_forgotten_is_left_in_any_version(bucket: Bucket) -> None:
    gone = ["run1-eng-1", "run2-ə x/y%-0", "not1-ə x/y%-2"]
    compact(bucket.config("compact"), bucket.tables(), "m1")
    vacuum(bucket.config("vacuum", maintain={"retention_h": 0}), bucket.tables(), "m2")  # leaves old versions
    report = "some/tables/_runs/run1/report.json"
    bucket.client.put_object(Bucket=bucket.name, Key=report, Body=b'{"example": "s3://corpus/run1-eng-1.wav"}')
    bucket.client.put_object(Bucket=bucket.name, Key=report, Body=b"{}")
    bucket.client.put_object(Bucket=bucket.name, Key="other/run1-eng-1.txt", Body=b"x")
    bucket.client.delete_object(Bucket=bucket.name, Key="other/run1-eng-1.txt")
    others = [entry for entry in bucket.versions() if entry[0].startswith("other/")]
    before = bucket.contents()

    section = {"column": "audio_uri", "values": [f"s3://corpus/{id_}.wav" for id_ in gone]}
    dry = forget(bucket.config("forget", maintain={"dry_run": True}, forget=section), bucket.tables(), "m3")
    done = forget(bucket.config("forget", forget=section), bucket.tables(), "m3")
    assert dry.num_rows == done.num_rows == {UTTERANCES: 2, FRAMES: 2, REJECTS: 1}
    after = bucket.contents()
    assert after == {name: [row for row in rows if row["utterance_id"] not in gone] for name, rows in before.items()}

    kept = [entry for entry in bucket.versions() if entry[0].startswith("some/")]
    assert all(latest for _, _, latest in kept)
    assert bucket.data_files() == bucket.live()
    assert [entry for entry in bucket.versions() if entry[0].startswith("other/")] == others
    for key, version, _ in kept:
        body = bucket.client.get_object(Bucket=bucket.name, Key=key, VersionId=version)["Body"].read()
        text = body.decode(errors="replace")
        if key.endswith(".parquet"):
            text += repr(pq.read_table(io.BytesIO(body)).to_pylist())
        assert not [id_ for id_ in gone if id_ in text], key
    again = forget(bucket.config("forget", forget=section), bucket.tables(), "m4")
    assert (sum(again.num_rows.values()), again.files) == (0, [])

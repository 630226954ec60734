"""Lists of recordings, listings in ranges and S3 Inventory reports on S3, against moto's server on this machine."""

import csv
import gzip
import hashlib
import io
import json
import logging
import os
import uuid
from datetime import UTC, datetime, timedelta
from urllib.parse import quote_plus

import boto3
import pyarrow as pa
import pyarrow.orc as pa_orc
import pyarrow.parquet as pq
import pytest
import s3fs

from w2vb_ray import storage
from w2vb_ray.config.sections import SourceSection
from w2vb_ray.errors import SourceError
from w2vb_ray.source import build_inventory, s3_pages

ODD = ["a b.wav", "p+l=u&s#.wav", "100%.wav", "%20.wav", "qu?.wav", "żółć.wav", "-dash.wav"]


@pytest.fixture
def settings(endpoint, clean_aws):
    return {"endpoint_url": endpoint, "region": "us-east-1", "key": "testing", "secret": "testing"}


@pytest.fixture
def client(endpoint, clean_aws):
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
    return boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys)


@pytest.fixture
def put(client):
    """Write objects into a new bucket, and say what it is called."""

    def put(objects, bucket=None):
        if bucket is None:
            bucket = f"bucket-{uuid.uuid4().hex[:8]}"
            client.create_bucket(Bucket=bucket)
        for key, body in objects.items():
            client.put_object(Bucket=bucket, Key=key, Body=body)
        return bucket

    return put


def _read(uri, settings, **more):
    inventory = build_inventory(SourceSection(uri=uri, storage=settings, **more))
    inventory.table.validate(full=True)
    return inventory, inventory.table.to_pylist()


@pytest.fixture
def small_pages(monkeypatch):
    """Pages of a few keys, from the same store; gives the arguments of each."""
    asked = []
    call = s3fs.S3FileSystem.call_s3

    def call_s3(self, method, **kwargs):
        asked.append(kwargs)
        return call(self, method, MaxKeys=4, **kwargs)

    monkeypatch.setattr(s3fs.S3FileSystem, "call_s3", call_s3)
    return asked


@pytest.mark.parametrize("layout", ["flat", "folders", "nested", "mixed", "odd", "one", "empty"])
def test_a_listing_in_ranges_finds_what_one_chain_finds(layout, put, settings, small_pages, monkeypatch):
    monkeypatch.setattr(s3_pages, "NUM_RANGES", 5)
    keys = {
        "flat": [f"{number:02}.wav" for number in range(30)],
        "folders": [f"{letter}/{number}.wav" for letter in "abcdefg" for number in range(5)],
        "nested": [f"x/{letter}/y/{number}.wav" for letter in "abc" for number in range(9)],
        "mixed": ["a", "a/", "a/b", "a/b/c.wav", "a-/d", "b.wav", "b/c", *(f"b/{n}/d" for n in range(9)), "z", "z0/x"],
        "odd": [f"{folder}/{name}" for folder in ("ü", "a b", "#") for name in ODD],
        "one": ["1.wav"],
        "empty": [],
    }[layout]
    bucket = put({f"root/{key}": key.encode() for key in keys} | {"root2/x": b"", "roo": b""})
    fs = storage.filesystem(f"s3://{bucket}", settings)
    found = list(s3_pages.objects(fs, f"{bucket}/root"))
    assert sorted(key for key, _ in found) == sorted(keys)
    assert all(info["Size"] == len(key.encode()) for key, info in found)
    assert len(list(s3_pages.objects(fs, bucket))) == len(keys) + 2
    if layout == "folders":
        starts = {kwargs["StartAfter"] for kwargs in small_pages if "StartAfter" in kwargs}
        assert len(starts) >= 4, "one chain after the other"


@pytest.mark.skipif("W2VB_TEST_S3_ENDPOINT" in os.environ, reason="counts the lines of moto's log")
def test_one_page_is_one_request(put, settings, caplog):
    bucket = put({f"root/{letter}/{number}.wav": b"1" for letter in "abc" for number in range(3)})
    fs = storage.filesystem(f"s3://{bucket}", settings)
    caplog.clear()
    with caplog.at_level(logging.INFO, "werkzeug"):
        assert len(list(s3_pages.objects(fs, f"{bucket}/root"))) == 9
    assert len(caplog.records) == 1


def test_lists_of_recordings(put, settings):
    audio = {f"audio/{name}": b"1234" for name in ODD}
    cut = {"start": 0, "duration": 1.0, "channel": 0, "supervisions": []}
    cuts = [
        cut | {"id": name, "recording": {"id": "r", "sources": [{"type": "file", "source": f"../audio/{name}"}]}}
        for name in ODD
    ]
    header = "client_id\tpath\tsentence\tlocale\n"
    bucket = put(
        {
            **audio,
            "kaldi/wav.scp": "".join(f"u{i} ../audio/{name}\n" for i, name in enumerate(ODD)).encode(),
            "kaldi/text": b"u0 hello\n",
            "lhotse/cuts.jsonl.gz": gzip.compress("\n".join(map(json.dumps, cuts)).encode()),
            "nemo/m.json": "\n".join(json.dumps({"audio_filepath": f"../audio/{name}"}) for name in ODD).encode(),
            "cv/de/validated.tsv": (header + "".join(f"c\t{name}\ts\tde\n" for name in ODD)).encode(),
            **{f"cv/de/clips/{name}": b"1234" for name in ODD},
        }
    )
    for place, source_format in (
        ("kaldi", "kaldi"),
        ("lhotse/cuts.jsonl.gz", "lhotse"),
        ("nemo/m.json", "nemo"),
        ("cv", "common_voice"),
        ("cv/de", "common_voice"),
        ("cv/de/validated.tsv", "common_voice"),
        ("audio", "folder"),
    ):
        inventory, rows = _read(f"s3://{bucket}/{place}", settings)
        assert inventory.format == source_format
        folder = "cv/de/clips" if source_format == "common_voice" else "audio"
        assert sorted(row["audio_uri"] for row in rows) == sorted(f"s3://{bucket}/{folder}/{name}" for name in ODD)
        assert {(row["source_bytes"], row["reason"]) for row in rows} == {(4, None)}


def test_other_buckets_only_where_config_says_so(put, settings, tmp_path, caplog):
    other = put({"in/a.wav": b"12", "out/b.wav": b"123"})
    paths = [f"s3://{other}/in/a.wav", f"s3://{other}/in/../out/b.wav", f"s3://{other}/out/b.wav", "/etc/hostname"]
    bucket = put({"m.csv": ("path\n" + "\n".join(paths)).encode()})
    caplog.clear()
    with caplog.at_level(logging.INFO, "werkzeug"):
        _, rows = _read(f"s3://{bucket}/m.csv", settings)
    assert [row["reason"] for row in rows] == ["forbidden"] * 4
    assert other not in caplog.text
    _, rows = _read(f"s3://{bucket}/m.csv", settings, allowed_uris=[f"s3://{other}/in/"])
    assert [row["reason"] for row in rows] == [None, *["forbidden"] * 3]
    assert rows[0]["source_bytes"] == 2


def test_young_objects_wait(put, settings):
    bucket = put({"a.wav": b"1", "m.csv": b"path\na.wav\n"})
    for place in ("", "/m.csv", "/a.wav"):
        (batch,) = build_inventory(
            SourceSection(uri=f"s3://{bucket}{place}", storage=settings, min_age_s=600)
        ).batches()
        assert (batch.table.num_rows, batch.num_waiting) == (0, 1)


SCHEMA = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate, ETag, StorageClass"


def _report(bucket, rows, file_format):
    """Rows as S3 writes them -> `manifest.json` and its data file; see the S3 user guide."""
    if file_format == "CSV":
        text = io.StringIO()
        lines = [[bucket, quote_plus(row["key"], safe="/"), *list(row.values())[1:], "STANDARD"] for row in rows]
        csv.writer(text, quoting=csv.QUOTE_ALL).writerows(
            [str(cell).lower() if isinstance(cell, bool) else cell for cell in line] for line in lines
        )
        data, name, schema = gzip.compress(text.getvalue().encode()), "data/x.csv.gz", SCHEMA
    else:
        stamps = [datetime.fromisoformat(row["last_modified_date"]) for row in rows]
        table = pa.table(
            {
                "bucket": [bucket] * len(rows),
                **{name: [row[name] for row in rows] for name in rows[0] if name != "last_modified_date"},
                "last_modified_date": pa.array(stamps, pa.timestamp("ms", "UTC")),
            }
        )
        sink = io.BytesIO()
        (pq if file_format == "Parquet" else pa_orc).write_table(table, sink)
        data, name, schema = sink.getvalue(), f"data/x.{file_format.lower()}", "message s3.inventory {}"
    manifest = {
        "sourceBucket": bucket,
        "destinationBucket": "arn:aws:s3:::reports",
        "version": "2016-11-30",
        "fileFormat": file_format,
        "fileSchema": schema,
        "files": [{"key": f"p/{bucket}/id/{name}", "size": len(data), "MD5checksum": hashlib.md5(data).hexdigest()}],
    }
    return manifest, {f"p/{bucket}/id/{name}": data}


def _row(key, **more):
    written = datetime.now(UTC) - timedelta(days=1)
    return {
        "key": key,
        "version_id": "v",
        "is_latest": True,
        "is_delete_marker": False,
        "size": 4,
        "last_modified_date": written.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "e_tag": "5d41402abc4b2a76b9719d911017c592-2",
        **more,
    }


@pytest.mark.parametrize("file_format", ["CSV", "Parquet", "ORC"])
def test_a_report_of_s3_inventory_stands_for_the_listing(file_format, put, settings, caplog):
    bucket = put({})
    young = datetime.now(UTC).isoformat(timespec="milliseconds")
    names = [*ODD, "line\nbreak.wav"]
    rows = [
        *(_row(f"root/deu/{name}") for name in names),
        _row("root/nan/b.mp3"),
        _row("root/young.wav", last_modified_date=young),
        _row("root/readme.txt"),
        _row("root/", size=0),
        _row("root/.hidden/h.wav"),
        _row("root2/other.wav"),
        _row("root/old.wav", is_latest=False),
        _row("root/deleted.wav", is_delete_marker=True, size=None, e_tag=None),
    ]
    manifest, files = _report(bucket, rows, file_format)
    place = f"p/{bucket}/id/2026-01-01T01-00Z/manifest.json"
    reports = put({**files, place: json.dumps(manifest).encode()})
    more = {"inventory_uri": f"s3://{reports}/{place}", "min_age_s": 600}
    caplog.clear()
    with caplog.at_level(logging.INFO, "werkzeug"):
        inventory, found = _read(f"s3://{bucket}/root", settings, language="path:{language}/", **more)
    assert inventory.format == "folder"
    assert inventory.num_skipped == 1
    uris = [f"s3://{bucket}/root/deu/{name}" for name in names] + [f"s3://{bucket}/root/nan/b.mp3"]
    assert sorted(row["audio_uri"] for row in found) == sorted(uris)
    assert {(row["source_bytes"], row["source_version"]) for row in found} == {(4, rows[0]["e_tag"])}
    assert {row["language"] for row in found} == {"deu", "nan"}
    assert sum(batch.num_waiting for batch in inventory.batches()) == 1
    assert "list-type" not in caplog.text
    assert f'"GET /{bucket}' not in caplog.text
    assert f'"HEAD /{bucket}' not in caplog.text
    glob = _read(f"s3://{bucket}/**/*.mp3", settings, **more)[1]
    assert [row["audio_uri"] for row in glob] == [f"s3://{bucket}/root/nan/b.mp3"]


def test_a_copied_report_and_reports_that_are_wrong(put, settings, tmp_path):
    bucket = put({})
    manifest, files = _report(bucket, [_row("a.wav")], "CSV")
    (tmp_path / "data").mkdir()
    (tmp_path / "2026").mkdir()
    (tmp_path / "data/x.csv.gz").write_bytes(next(iter(files.values())))

    def read(uri=f"s3://{bucket}", **changes):
        (tmp_path / "2026/manifest.json").write_text(json.dumps(manifest | changes))
        return _read(uri, settings, inventory_uri=str(tmp_path / "2026/manifest.json"))[1]

    assert [row["audio_uri"] for row in read()] == [f"s3://{bucket}/a.wav"]
    with pytest.raises(SourceError, match=r"lists the bucket .*, but `source\.uri` is in other"):
        read("s3://other/x")
    with pytest.raises(SourceError, match=r"lists S3 buckets, but `source\.uri` is /local"):
        read("/local")
    with pytest.raises(SourceError, match="has no column for etag; add Size, ETag"):
        read(fileSchema=SCHEMA.replace("ETag", "Owner"))
    with pytest.raises(SourceError, match="in the format XML"):
        read(fileFormat="XML")
    with pytest.raises(SourceError, match=r"is not the manifest\.json of an S3 Inventory report"):
        read(files=None)
    with pytest.raises(SourceError, match="another MD5 checksum"):
        read(files=[manifest["files"][0] | {"MD5checksum": "0"}])
    with pytest.raises(SourceError, match=r"`source\.inventory_uri`: .*gone\.csv does not exist"):
        read(files=[{"key": "data/gone.csv"}])
    (tmp_path / "data/x.csv.gz").write_bytes(b"\x1f\x8bdamaged")
    with pytest.raises(SourceError, match="is damaged"):
        read(files=[{"key": "data/x.csv.gz"}])
    with pytest.raises(SourceError, match=r"`source\.format` is manifest"):
        _read(f"s3://{bucket}/m.csv", settings, format="manifest", inventory_uri="s3://b/manifest.json")

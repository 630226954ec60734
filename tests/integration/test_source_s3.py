"""Sources on S3, against moto's server on this machine."""

import io
import uuid

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from w2vb_ray import storage
from w2vb_ray.config.sections import SourceSection
from w2vb_ray.errors import SourceError
from w2vb_ray.source import build_inventory

SECRETS = {"key": "testing", "secret": "testing"}


@pytest.fixture(params=["options", "environment"])
def settings(request, endpoint, monkeypatch):
    """Credentials and address through `source.storage`, or through the environment."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    if request.param == "options":
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        return {"endpoint_url": endpoint, "region": "us-east-1", **SECRETS}
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    return {}


@pytest.fixture
def bucket(endpoint, settings):
    name = f"bucket-{uuid.uuid4().hex[:8]}"
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )
    client.create_bucket(Bucket=name)
    return client, name


def _read(uri, settings, **more):
    inventory = build_inventory(SourceSection(uri=uri, storage=settings, **more))
    inventory.table.validate(full=True)
    return inventory, {row["audio_uri"]: row for row in inventory.table.to_pylist()}


def test_folder_glob_file_and_new_objects(bucket, settings):
    client, name = bucket
    odd = ["deu/a b#%?.wav", "nan/é +&.FLAC", "no/x/c.opus", "deu/readme.txt", ".x/h.wav", "_delta_log/z.wav"]
    for key in odd:
        client.put_object(Bucket=name, Key=f"root/{key}", Body=key.encode())
    client.put_object(Bucket=name, Key="root/deu/", Body=b"")
    client.put_object(Bucket=name, Key="root2/other.wav", Body=b"x")
    root = f"s3://{name}/root"
    inventory, rows = _read(root + "/", settings, language="path:{language}/")
    assert set(rows) == {f"{root}/{key}" for key in odd[:3]}
    assert inventory.num_skipped == 1
    assert {row["language"] for row in rows.values()} == {"deu", "nan", "no"}
    for key in odd[:3]:
        etag = client.head_object(Bucket=name, Key=f"root/{key}")["ETag"].strip('"')
        row = rows[f"{root}/{key}"]
        assert (row["source_version"], row["source_bytes"]) == (etag, len(key.encode()))
    assert set(_read(f"s3://{name}/**/*.wav", settings)[1]) == {f"{root}/{odd[0]}", f"s3://{name}/root2/other.wav"}
    single = f"{root}/{odd[0]}"
    assert _read(single, settings)[1][single]["source_version"] == rows[single]["source_version"]
    client.put_object(Bucket=name, Key="root/deu/new.wav", Body=b"new")
    assert len(_read(root, settings)[1]) == 4


def test_manifest_beside_its_audio_is_listed_and_looked_up(bucket, settings):
    client, name = bucket
    for number in range(60):
        client.put_object(Bucket=name, Key=f"m/clips/{number}.mp3", Body=b"x" * number)
    client.put_object(Bucket=name, Key="m/one/a.mp3", Body=b"xyz")
    paths = [*(f"clips/{number}.mp3" for number in range(60)), "one/a.mp3", "one/gone.mp3", "clips/gone.mp3"]
    text = "path\tlocale\n" + "".join(f"{path}\tno\n" for path in paths)
    client.put_object(Bucket=name, Key="m/train.tsv", Body=text.encode())
    _, rows = _read(f"s3://{name}/m/train.tsv", settings)
    sizes = [rows[f"s3://{name}/m/{path}"]["source_bytes"] for path in paths]
    assert sizes == [*range(60), 3, None, None]
    etag = client.head_object(Bucket=name, Key="m/one/a.mp3")["ETag"].strip('"')
    assert rows[f"s3://{name}/m/one/a.mp3"]["source_version"] == etag


def test_parquet_parts(bucket, settings):
    client, name = bucket
    for part in range(2):
        buffer = io.BytesIO()
        pq.write_table(pa.table({"audio": [f"{part}.wav"], "source_version": ["v"]}), buffer)
        client.put_object(Bucket=name, Key=f"parts/p{part}.parquet", Body=buffer.getvalue())
    _, rows = _read(f"s3://{name}/parts", settings, format="manifest")
    assert set(rows) == {f"s3://{name}/parts/0.wav", f"s3://{name}/parts/1.wav"}


def test_errors_are_one_line(bucket, settings):
    _, name = bucket
    for uri in (f"s3://{name}/nothing", f"s3://{name}-absent/x", f"s3://{name}/m.csv", f"s3://{name}/*.wav"):
        with pytest.raises(SourceError, match="does not exist or is empty") as error:
            _read(uri, settings)
        assert "\n" not in str(error.value)
    with pytest.raises(SourceError, match="cannot be read"):
        _read("s3://", settings)


def test_an_address_where_nothing_listens(endpoint, settings):
    options = {**SECRETS, "endpoint_url": "http://127.0.0.1:9", "config_kwargs": {"retries": {"max_attempts": 0}}}
    with pytest.raises(SourceError, match="cannot be read"):
        _read("s3://bucket/x", options)


def test_denied_access(bucket, settings, monkeypatch):
    _, name = bucket

    def denied(*_args, **_kwargs):
        raise PermissionError("Access Denied")

    monkeypatch.setattr(type(storage.filesystem(f"s3://{name}", settings)), "call_s3", denied)
    with pytest.raises(SourceError, match=r"access to .* is denied.*check the credentials"):
        _read(f"s3://{name}/x", settings)


def test_writes(bucket, settings):
    client, name = bucket
    storage.write_atomic(f"s3://{name}/small", b"1", settings)
    with storage.atomic_output(f"s3://{name}/large", settings) as file:
        file.write(b"x" * (6 * 1024**2))
    assert client.head_object(Bucket=name, Key="large")["ContentLength"] == 6 * 1024**2
    for num_bytes in (10, 60 * 1024**2):  # in the buffer, and with parts already sent
        with pytest.raises(RuntimeError, match="half way"):
            _fail_half_way(f"s3://{name}/failed", num_bytes, settings)
    keys = [entry["Key"] for entry in client.list_objects_v2(Bucket=name)["Contents"]]
    assert sorted(keys) == ["large", "small"]
    assert not client.list_multipart_uploads(Bucket=name).get("Uploads")


def _fail_half_way(uri, num_bytes, settings):
    with storage.atomic_output(uri, settings) as file:
        file.write(b"x" * num_bytes)
        raise RuntimeError("half way")

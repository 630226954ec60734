import os
import stat
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from w2vb_ray import storage
from w2vb_ray.errors import ConfigError


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("/a/b/", "/a/b"),
        ("file:///a/b", "/a/b"),
        ("/a//b/../c", "/a/c"),
        ("/a/50%20 #?", "/a/50%20 #?"),
        ("s3://bucket/prefix/", "s3://bucket/prefix"),
        ("s3://bucket/", "s3://bucket"),
        ("memory://", "memory://"),
    ],
)
def test_one_spelling_per_place(uri, expected):
    assert storage.normalise(uri) == expected


def test_home_and_relative_paths_become_absolute(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/home/x")
    monkeypatch.chdir(tmp_path)
    assert storage.normalise("~/a") == "/home/x/a"
    assert storage.normalise("a") == str(tmp_path / "a")


def test_local_is_told_from_remote():
    assert storage.is_local("/a")
    assert storage.is_local("file:///a")
    assert storage.is_local("a:b")
    assert not storage.is_local("s3://a")
    assert not storage.is_local("S3://a")


def test_join():
    assert storage.join("s3://b/", "/c/", "d") == "s3://b/c/d"
    assert storage.join("/", "a") == "/a"
    assert storage.join("memory://", "a") == "memory://a"


@pytest.mark.parametrize("uri", ["nosuch://x/y", "gs://x/y"])
def test_unusable_protocols_name_the_uri(uri):
    with pytest.raises(ConfigError, match=uri):
        storage.filesystem(uri)


def test_options_the_driver_does_not_take_are_named():
    with pytest.raises(ConfigError, match="max_concurrency"):
        storage.filesystem("s3://b", {"max_concurrency": "many"})


def test_a_misspelled_s3_option_is_named_before_the_first_request():
    with pytest.raises(ConfigError, match=r"unknown storage options \['regoin'\]; S3 takes .*region"):
        storage.filesystem("s3://b", {"regoin": "eu-west-1"})


def test_s3_region_and_no_listing_cache():
    fs = storage.filesystem("s3://b/x", {"region": "eu-west-1", "client_kwargs": {"verify": False}})
    assert fs.client_kwargs == {"region_name": "eu-west-1", "verify": False}
    assert not fs.dircache.use_listings_cache


@pytest.mark.parametrize("like", ["memory://a/b", "s3://a/b"])
def test_listed_paths_come_back_in_the_form_of_the_source(like):
    fs = storage.filesystem(like)
    path = storage.fs_path(like + "/c d#.wav", fs)
    assert storage.full_uri(fs, path, like) == like + "/c d#.wav"
    other = storage.fs_path(like.replace("/b", "/other"), fs)
    assert storage.full_uri(fs, other, like) == like.replace("/b", "/other")


def test_version_is_the_etag_however_it_is_spelled():
    for key in ("etag", "ETag", "e_tag"):
        assert storage.version_of({key: '"abc"', "size": 1, "VersionId": "v"}) == "abc"
    assert storage.version_of({"etag": 'W/"abc"'}) == "abc"


def test_version_without_etag_is_the_same_from_every_side(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"123")
    info = storage.filesystem(str(file)).info(str(file))
    status = file.stat()
    assert storage.version_of(info) == storage.version_of({"size": 3, "mtime_ns": status.st_mtime_ns})
    os.utime(file, ns=(0, status.st_mtime_ns + 1000))
    assert storage.version_of({"size": 3, "mtime_ns": file.stat().st_mtime_ns}) != storage.version_of(info)


def test_version_does_not_depend_on_the_time_zone():
    moment = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
    there = moment.astimezone(timezone(timedelta(hours=9)))
    versions = {storage.version_of({"size": 1, "LastModified": when}) for when in (moment, there)}
    assert versions == {"1-1767323045000678000"}


def test_write_atomic_creates_parents_and_replaces(tmp_path):
    place = tmp_path / "a" / "b.json"
    storage.write_atomic(str(place), b"old")
    storage.write_atomic(f"file://{place}", b"new")
    assert place.read_bytes() == b"new"
    assert [path.name for path in place.parent.iterdir()] == ["b.json"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(place.stat().st_mode) == 0o666 & ~umask


def test_output_appears_only_when_complete(tmp_path):
    place = tmp_path / f"{'é' * 110}.parquet"
    with storage.atomic_output(str(place)) as file:
        file.write(b"x")
        assert not list(tmp_path.glob("*.parquet"))
        assert len(list(tmp_path.iterdir())) == 1
    assert place.read_bytes() == b"x"


def _fail_half_way(uri: str) -> None:
    with storage.atomic_output(uri) as file:
        file.write(b"half")
        raise KeyboardInterrupt


def test_failed_output_leaves_the_old_file_and_nothing_else(tmp_path):
    place = tmp_path / "a.parquet"
    place.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        _fail_half_way(str(place))
    assert place.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [place]


def test_remote_writes():
    storage.write_atomic("memory://w2vb-storage/a", b"1")
    with storage.atomic_output("memory://w2vb-storage/b") as file:
        file.write(b"2")
    fs = storage.filesystem("memory://")
    assert fs.cat_file("/w2vb-storage/a") + fs.cat_file("/w2vb-storage/b") == b"12"


@pytest.fixture(autouse=True)
def no_endpoint(monkeypatch):
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)


def test_an_endpoint_of_the_environment_counts(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert storage.filesystem("s3://b").endpoint_url == "http://127.0.0.1:1"
    assert storage.delta_options("s3://b", {}) == {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ALLOW_HTTP": "true",
        "AWS_CONDITIONAL_PUT": "etag",
        "TIMEOUT": "5s",
    }
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:2")
    assert storage.filesystem("s3://b").endpoint_url == "http://127.0.0.1:2"


def test_delta_options_of_s3():
    options = {
        "endpoint_url": "http://127.0.0.1:9000",
        "key": "k",
        "secret": "s",
        "token": "t",
        "client_kwargs": {"region_name": "eu-west-1"},
    }
    assert storage.delta_options("s3://b/t", options) == {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9000",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "k",
        "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_SESSION_TOKEN": "t",
        "AWS_REGION": "eu-west-1",
        "AWS_CONDITIONAL_PUT": "etag",
        "TIMEOUT": "5s",
    }
    assert storage.delta_options("s3://b", {"client_kwargs": {"endpoint_url": "https://x"}, "anon": True}) == {
        "AWS_ENDPOINT_URL": "https://x",
        "AWS_SKIP_SIGNATURE": "true",
        "AWS_CONDITIONAL_PUT": "etag",
        "TIMEOUT": "5s",
    }
    assert storage.delta_options("s3://b", {"region": "us-east-2"}) == {
        "AWS_REGION": "us-east-2",
        "AWS_CONDITIONAL_PUT": "etag",
        "TIMEOUT": "5s",
    }


@pytest.mark.parametrize(("read_timeout", "timeout"), [(60, "60s"), (2.5, "2.5s"), (None, None)])
def test_delta_waits_as_long_as_config_says(read_timeout, timeout):
    found = storage.delta_options("s3://b/t", {"config_kwargs": {"read_timeout": read_timeout}})
    assert found.get("TIMEOUT") == timeout


def test_delta_options_elsewhere():
    assert storage.delta_options(str(Path("/a")), {"key": "k"}) == {}
    assert storage.delta_options("az://c/t", {"account_name": "n", "nested": {}, "flag": True}) == {
        "account_name": "n",
        "flag": "true",
    }

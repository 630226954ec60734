import os

import pyarrow as pa
import pytest
from pydantic import ValidationError

from w2vb_ray import storage
from w2vb_ray.config.sections import SourceSection
from w2vb_ray.source import build_inventory, versions
from w2vb_ray.source.allowed import Allowed


def _allowed(uri, *more, **settings):
    return Allowed.by(SourceSection(uri=uri, allowed_uris=list(more), **settings))


def _may(allowed, uri):
    """Both ways of asking agree."""
    reason, detail = (column.to_pylist() for column in allowed.refusals(pa.array([uri, "", uri])))
    assert [reason[1], detail[1], reason[0], detail[0]] == [None, None, reason[2], detail[2]]
    assert (allowed.refusal(uri) is None) == (reason[0] is None)
    assert reason[0] in (None, "forbidden")
    return reason[0] is None


@pytest.mark.parametrize(
    "uri",
    [
        "s3://bucket/any/key.wav",
        "S3://bucket/a.wav",
        "s3a://bucket/a.wav",
        "s3://bucket/a..b/..c/d...wav",
        "s3://bucket/a b#%20?é\n.wav",
        "s3://other/pre/a.wav",
        "https://host/path/a.wav?token=1",
        "https://HOST/path/%20a.wav",
    ],
)
def test_the_own_store_and_what_is_added(uri):
    assert _may(_allowed("s3://bucket/m.csv", "s3://other/pre/", "https://host/path"), uri)


@pytest.mark.parametrize(
    "uri",
    [
        "s3://bucket2/a.wav",
        "s3://bucke/a.wav",
        "s3://bucket.evil/a.wav",
        "s3://other/prefix/a.wav",
        "s3://other/a.wav",
        "s3://other/pre/../a.wav",
        "s3://other/pre/..",
        "s3://other/pre/%2e%2e/a.wav",
        "gs://bucket/a.wav",
        "http://host/path/a.wav",
        "https://host/pathology/a.wav",
        "https://host/path/../a.wav",
        "https://host/path/%2e%2e/a.wav",
        "https://host/path/.%2E/a.wav",
        "https://host/path/%252e%252e/a.wav",
        "https://host/path/..%2fa.wav",
        "https://host/path\\..\\a.wav",
        "https://host@evil/path/a.wav",
        "https://user:host@evil/path/a.wav",
        "https://host:8443/path/a.wav",
        "https://host.evil/path/a.wav",
        "https://host?/path/a.wav",
        "https://evil#host/path/a.wav",
        "http://169.254.169.254/latest/meta-data/",
        "/etc/passwd",
        "file:///etc/passwd",
        "relative.wav",
        "simplecache::s3://bucket/a.wav",
        "s3://bucket/simplecache::s3://bucket/a.wav",
        "zip://a.wav::s3://bucket/a.zip",
        "filecache::http://evil/a",
        "github://org:repo@main/a.wav",
        "memory://bucket/a.wav",
    ],
)
def test_everything_else_is_forbidden(uri):
    assert not _may(_allowed("s3://bucket/m.csv", "s3://other/pre/", "https://host/path/"), uri)


def test_a_local_list_may_name_any_local_file_and_no_other(tmp_path):
    allowed = _allowed(str(tmp_path / "m.csv"))
    for uri in ("/etc/hostname", str(tmp_path / "a#?%.wav"), str(tmp_path / "../a::b.wav")):
        assert _may(allowed, uri)
    for uri in ("s3://bucket/a.wav", "http://host/a.wav", f"{tmp_path}/simplecache::s3://bucket/a.wav"):
        assert not _may(allowed, uri)


def test_a_link_does_not_lead_out_of_an_allowed_folder(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.wav").touch()
    (tmp_path / "secret.wav").touch()
    os.symlink(tmp_path / "secret.wav", tmp_path / "in/link.wav")
    os.symlink(tmp_path, tmp_path / "in/up")
    allowed = _allowed("s3://bucket/m.csv", str(tmp_path / "in"))
    assert _may(allowed, f"{tmp_path}/in/a.wav")
    assert _may(allowed, f"file://{tmp_path}/in/./a.wav")
    for name in ("in/link.wav", "in/up/secret.wav", "in/../secret.wav", "inner/a.wav"):
        assert not _may(allowed, f"{tmp_path}/{name}")


def test_the_root_that_config_names_and_a_repository_of_the_hub():
    assert _may(_allowed("/data/m.csv", audio_root="s3://audio/x"), "s3://audio/x/a.wav")
    hub = _allowed("hf://datasets/org/name/m.csv")
    assert _may(hub, "hf://datasets/org/name/audio/a.wav")
    assert not _may(hub, "hf://datasets/org/other/a.wav")
    assert not _may(hub, "hf://datasets/org/name2/a.wav")


@pytest.mark.parametrize("uri", ["", "s3://", "https:///x", "relative/", "simplecache::s3://b/", "*"])
def test_prefixes_that_would_allow_everything(uri):
    with pytest.raises(ValidationError, match="must be URLs with a bucket or host, or absolute paths"):
        SourceSection(uri="/x", allowed_uris=[uri])


def test_nothing_is_asked_of_a_place_that_is_not_allowed(tmp_path, monkeypatch):
    asked = []
    stat = versions.Versions.stat
    monkeypatch.setattr(
        versions.Versions, "stat", lambda self, uris: asked.extend(uris.to_pylist()) or stat(self, uris)
    )
    (tmp_path / "a.wav").write_bytes(b"1")
    (tmp_path / "m.csv").write_text("path,id\na.wav,a\nhttp://127.0.0.1:9/b.wav,b\ns3://bucket/c.wav,c\n")
    (tmp_path / "metadata.csv").write_text("file_name\na.wav\nhttp://127.0.0.1:9/b.wav\n")
    rows = build_inventory(SourceSection(uri=str(tmp_path / "m.csv"))).table.to_pylist()
    assert [row["reason"] for row in rows] == [None, "forbidden", "forbidden"]
    assert "add its bucket, host or folder to source.allowed_uris" in rows[1]["detail"]
    assert [(row["source_version"], row["source_bytes"]) for row in rows[1:]] == [("", None)] * 2
    rows = build_inventory(SourceSection(uri=str(tmp_path))).table.to_pylist()
    assert sorted((row["audio_uri"], row["reason"]) for row in rows) == [
        (str(tmp_path / "a.wav"), None),
        ("http://127.0.0.1:9/b.wav", "forbidden"),
    ]
    assert asked == [str(tmp_path / "a.wav")]


def test_options_of_the_source_go_to_no_other_store():
    options = {"key": "k", "secret": "hunter2"}
    assert storage.options_for("s3a://x/y", "s3://b", options) == options
    assert storage.options_for("https://host/y", "s3://b", options) == {}
    assert storage.options_for("/x", "file:///y", options) == options

"""Tars and tables with audio inside, on S3: what is listed, what is fetched, and what of it is checked."""

import uuid
from collections import Counter

import fsspec
import numpy as np
import pyarrow as pa
import pytest
from s3fs import S3FileSystem

from w2vb_ray import schema
from w2vb_ray.audio import fetch
from w2vb_ray.audio.decode import decode
from w2vb_ray.config.sections import AudioSection, SourceSection
from w2vb_ray.embed.read import read_unit
from w2vb_ray.source import build_inventory

from . import containers

Store = fsspec.AbstractFileSystem


@pytest.fixture
def settings(clean_aws: None, endpoint: str) -> dict[str, str]:
    return {"endpoint_url": endpoint, "key": "testing", "secret": "testing"}


@pytest.fixture
def store(settings: dict[str, str]) -> Store:
    return fsspec.filesystem("s3", **settings, use_listings_cache=False)


@pytest.fixture
def bucket(store: Store) -> str:
    name = f"containers-{uuid.uuid4().hex[:8]}"
    store.mkdir(name)
    rows = containers.clips()
    for number in range(2):
        store.pipe_file(f"{name}/tars/shard-{number:06d}.tar", containers.webdataset(rows[number::2]))
        store.pipe_file(f"{name}/tables/data/train-{number}.parquet", containers.parquet(rows[number::2]))
    return name


def unit_of(section: SourceSection) -> pa.Table:
    """All of a source, as planning would make it."""
    table = build_inventory(section).table
    for field in schema.PLANNED:
        if field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    return table


def read(unit: pa.Table, section: SourceSection) -> list[dict]:
    return read_unit(unit, section, AudioSection()).to_pylist()


SOURCES = {"tars/shard-{000000..000001}.tar": "webdataset", "tables": "parquet"}


@pytest.mark.parametrize("place", SOURCES)
def test_members_of_remote_containers_are_those_of_the_files(place: str, bucket: str, settings: dict[str, str]) -> None:
    section = SourceSection(uri=f"s3://{bucket}/{place}", storage=settings)
    assert build_inventory(section).format == SOURCES[place]
    found = {row["clip"]: row for row in read(unit_of(section), section)}
    assert len(found) == len(containers.clips())
    for row in containers.clips():
        expected = decode(containers.audio(row), row["path"], AudioSection())
        got = found[row["path"]]
        assert got["reason"] is None
        np.testing.assert_array_equal(np.frombuffer(got["waveform"], expected.waveform.dtype), expected.waveform)


def test_few_requests_serve_many_members(
    bucket: str, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: Counter[str] = Counter()
    original = S3FileSystem._call_s3

    async def counting(self: S3FileSystem, method: str, *args: object, **kwargs: object) -> object:
        counts[method] += 1
        return await original(self, method, *args, **kwargs)

    monkeypatch.setattr(S3FileSystem, "_call_s3", counting)
    section = SourceSection(uri=f"s3://{bucket}/tars", format="webdataset", storage=settings)
    unit = unit_of(section)
    assert counts["get_object"] <= 2 * 3  # the tars are smaller than what is read ahead, once that has grown
    counts.clear()
    read(unit, section)
    assert counts == {"get_object": 2, "head_object": 4}, "one range a tar, its version before and after"


@pytest.mark.parametrize("place", ["tars", "tables"])
def test_a_container_that_is_replaced_is_changed(
    place: str, bucket: str, settings: dict[str, str], store: Store
) -> None:
    section = SourceSection(uri=f"s3://{bucket}/{place}", storage=settings)
    unit = unit_of(section)
    assert {version for version in unit["source_version"].to_pylist() if "-" in version} == set(), "etags"
    replaced = store.find(f"{bucket}/{place}")[0]
    store.pipe_file(replaced, store.cat_file(replaced) + b"\0" * 512)
    reasons = {(row["audio_uri"].rpartition("#")[0], row["reason"]) for row in read(unit, section)}
    assert {reason for uri, reason in reasons if uri == f"s3://{replaced}"} == {"changed"}
    assert {reason for uri, reason in reasons if uri != f"s3://{replaced}"} == {None}


@pytest.mark.parametrize("place", ["tars", "tables"])
def test_answers_that_are_cut_short_are_never_taken(
    place: str, bucket: str, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """s3fs hands a short body of a range on in silence."""
    section = SourceSection(uri=f"s3://{bucket}/{place}", storage=settings)
    unit = unit_of(section)
    monkeypatch.setattr(fetch, "BACKOFF_S", 0.0)
    cut = {"left": 2}
    original = S3FileSystem._cat_file

    async def cutting(self: S3FileSystem, *args: object, **kwargs: object) -> bytes:
        data = await original(self, *args, **kwargs)
        cut["left"] -= 1
        return data[: len(data) // 2] if cut["left"] >= 0 else data

    with monkeypatch.context() as patch:
        patch.setattr(S3FileSystem, "_cat_file", cutting)
        S3FileSystem.clear_instance_cache()  # an instance keeps the methods that it was made with
        assert {row["reason"] for row in read(unit, section)} == {None}
        cut["left"] = 10**6
        assert {row["reason"] for row in read(unit, section)} == {"unreadable"}
    S3FileSystem.clear_instance_cache()

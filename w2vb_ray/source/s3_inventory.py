"""An S3 Inventory report in place of a listing: `manifest.json` and its CSV, Parquet or ORC files -> entries.

A bucket of 10^8 objects takes hours to list, and S3 writes such a report every day. What it names may be gone or
overwritten by now: the pipeline finds that out when it reads.
"""

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, cast
from urllib.parse import unquote_plus

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.orc as pa_orc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from w2vb_ray import storage
from w2vb_ray.config.sections import SourceSection
from w2vb_ray.errors import SourceError
from w2vb_ray.source import listing
from w2vb_ray.source.access import readable

_KEY = "`source.inventory_uri`"
_COLUMNS = {
    "key": "key",
    "size": "size",
    "etag": "etag",
    "e_tag": "etag",
    "lastmodifieddate": "modified",
    "last_modified_date": "modified",
    "islatest": "is_latest",
    "is_latest": "is_latest",
    "isdeletemarker": "is_delete_marker",
    "is_delete_marker": "is_delete_marker",
}
_NEEDED = ("key", "size", "etag")


class _DataFile(BaseModel):
    key: str
    checksum: str = Field(default="", alias="MD5checksum")


class _Manifest(BaseModel):
    """The parts of `manifest.json` that are read."""

    model_config = ConfigDict(extra="ignore")
    source_bucket: str = Field(alias="sourceBucket")
    file_format: str = Field(alias="fileFormat")
    file_schema: str = Field(alias="fileSchema")
    files: list[_DataFile]


def locate(section: SourceSection) -> listing.Place:
    """The folder or glob of `source.uri`, by its name alone: the report stands for the store."""
    if not storage.same_protocol(section.uri, "s3://"):
        raise SourceError(f"{_KEY} lists S3 buckets, but `source.uri` is {section.uri}; leave it out.")
    return listing.by_name(storage.normalise(section.uri))


def walk(place: listing.Place, section: SourceSection) -> Iterator[listing.Entry]:
    """All visible objects under the place's root, as the report has them; not yet filtered by its pattern.

    Raises:
        SourceError: the report cannot be read, is damaged, lacks a column, or is of another bucket.
    """
    uri = storage.normalise(section.inventory_uri or "")
    manifest = _read_manifest(uri, section)
    bucket = place.root.partition("://")[2].partition("/")[0]
    if manifest.source_bucket != bucket:
        raise SourceError(
            f"{_KEY}: {uri} lists the bucket {manifest.source_bucket}, but `source.uri` is in {bucket}; "
            "name the report of that bucket, or leave it out to list the bucket itself."
        )
    prefix = place.root.partition("://")[2][len(bucket) :].lstrip("/")
    prefix = f"{prefix}/" if prefix else ""
    for file in manifest.files:
        for batch in _batches(_data(uri, file, section), manifest, uri):
            yield from listing.visible(_current(batch, prefix), place.root)


def _read_manifest(uri: str, section: SourceSection) -> _Manifest:
    try:
        return _Manifest.model_validate(json.loads(_get(uri, section)))
    except (ValueError, ValidationError) as err:
        raise SourceError(
            f"{_KEY}: {uri} is not the manifest.json of an S3 Inventory report ({str(err).splitlines()[0]})."
        ) from err


def _get(uri: str, section: SourceSection) -> bytes:
    fs = storage.filesystem(uri, storage.options_for(uri, section.uri, section.storage))
    with readable(uri, _KEY):
        return cast(bytes, fs.cat_file(storage.fs_path(uri, fs)))


def _data(uri: str, file: _DataFile, section: SourceSection) -> bytes:
    """The bytes of one data file: its key counts from the bucket that holds the report; a copy elsewhere keeps
    `data/` beside the folder of `manifest.json`."""
    if storage.is_local(uri):
        place = storage.join(uri.rsplit("/", 2)[0], "data", file.key.rpartition("/")[2])
    else:
        place = storage.join("/".join(uri.split("/", 3)[:3]), file.key)
    data = _get(place, section)
    if file.checksum and hashlib.md5(data, usedforsecurity=False).hexdigest() != file.checksum:
        raise SourceError(f"{_KEY}: {place} has another MD5 checksum than its manifest.json says; fetch it again.")
    return data


def _batches(data: bytes, manifest: _Manifest, uri: str) -> Iterator[pa.RecordBatch]:
    """Record batches with our names for the columns."""
    try:
        match manifest.file_format.upper():
            case "CSV":
                yield from (_renamed(batch, uri) for batch in _csv(data, manifest.file_schema))
            case "PARQUET":
                file = pq.ParquetFile(pa.BufferReader(data))
                yield from (_renamed(batch, uri) for batch in file.iter_batches())
            case "ORC":
                stripes = pa_orc.ORCFile(pa.BufferReader(data))
                yield from (_renamed(stripes.read_stripe(i), uri) for i in range(stripes.nstripes))
            case other:
                raise SourceError(f"{_KEY}: {uri} is in the format {other}; CSV, Parquet and ORC are read.")
    except (pa.ArrowInvalid, OSError, EOFError, zlib.error) as err:
        raise SourceError(f"{_KEY}: a data file of {uri} is damaged ({err}).") from err


def _csv(data: bytes, schema: str) -> Iterator[pa.RecordBatch]:
    names = [name.strip() for name in schema.split(",")]
    if data.startswith(b"\x1f\x8b"):
        data = gzip.decompress(data)
    if not data:
        return
    reader = pa_csv.open_csv(
        pa.BufferReader(data),
        pa_csv.ReadOptions(column_names=names),
        pa_csv.ParseOptions(newlines_in_values=True),
        pa_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False),
    )
    for batch in reader:
        keys = pa.array([unquote_plus(key) for key in batch.column(names.index("Key")).to_pylist()], pa.string())
        yield batch.set_column(names.index("Key"), "Key", keys)


def _renamed(batch: pa.RecordBatch, uri: str) -> pa.RecordBatch:
    found = {_COLUMNS[name.lower()]: batch.column(name) for name in batch.schema.names if name.lower() in _COLUMNS}
    if missing := [name for name in _NEEDED if name not in found]:
        raise SourceError(
            f"{_KEY}: the report {uri} has no column for {', '.join(missing)}; add Size, ETag and, for "
            "`source.min_age_s`, LastModifiedDate to the inventory configuration."
        )
    return pa.RecordBatch.from_pydict(found)


def _current(batch: pa.RecordBatch, prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Keys relative to the prefix, with entries as a listing has them; not those of old versions and delete markers."""
    for row in batch.to_pylist():
        if (
            row["key"].startswith(prefix)
            and _true(row.get("is_latest", True))
            and not _true(row.get("is_delete_marker"))
        ):
            modified = _moment(row.get("modified"))
            yield (
                row["key"][len(prefix) :],
                {"Size": int(row["size"] or 0), "ETag": row["etag"], "LastModified": modified},
            )


def _true(value: object) -> bool:
    return value is True or str(value).lower() == "true"


def _moment(value: object) -> datetime | None:
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    return datetime.fromisoformat(str(value)) if value else None

"""CSV, TSV, JSON lines and Parquet files -> Arrow tables, every value as it stands in the file.

CSV follows RFC 4180; TSV is never quoted, a quote character is data (as in Common Voice). Text cells stay text: `007`,
`NA` and `nan` (Min Nan Chinese) are what they are, and an empty cell is an empty string.
"""

import gzip
import io
import zlib
from collections.abc import Mapping
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from w2vb_ray import storage
from w2vb_ray.errors import SourceError
from w2vb_ray.source import delimited, jsonl
from w2vb_ray.source.access import readable

_KINDS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",  # what NeMo calls its manifests
}
_GZIP_MAGIC = b"\x1f\x8b"


def kind_of(uri: str) -> str | None:
    """`parquet`, `csv`, `tsv` or `jsonl` by the end of the name (`.gz` allowed behind a text one), else None."""
    name = uri.lower()
    if name.endswith(".gz"):
        kind = _kind(name.removesuffix(".gz"))
        return None if kind == "parquet" else kind
    return _kind(name)


def _kind(name: str) -> str | None:
    return next((kind for suffix, kind in _KINDS.items() if name.endswith(suffix)), None)


def read(uri: str, options: Mapping[str, Any], convert: jsonl.Convert | None = None) -> pa.Table:
    """One file as a table; text formats give string columns, without rows for an empty file.

    Args:
        uri: a name that is of no known kind is read as JSON lines.
        options: fsspec options of its store.
        convert: what to make of each object of JSON lines.

    Raises:
        SourceError: the file cannot be read, or a line of it is malformed (with its number).
    """
    fs = storage.filesystem(uri, options)
    with readable(uri):
        file = cast(BinaryIO, fs.open(storage.fs_path(uri, fs), "rb"))
        with file:
            if kind_of(uri) == "parquet":
                return _read_parquet(file, uri)
            data = file.read()
    return _read_text(data, uri, convert)


def _read_parquet(file: BinaryIO, uri: str) -> pa.Table:
    try:
        return pq.ParquetFile(file).read()
    except pa.ArrowInvalid as err:
        raise SourceError(f"{uri} is not a readable Parquet file: {err}.") from err


def _read_text(data: bytes, uri: str, convert: jsonl.Convert | None = None) -> pa.Table:
    if data.startswith(_GZIP_MAGIC):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as err:
            raise SourceError(f"{uri} is not a whole gzip file: {err}.") from err
    match kind_of(uri):
        case "csv":
            return delimited.parse(data, uri, delimiter=",", quoted=True)
        case "tsv":
            return delimited.parse(data, uri, delimiter="\t", quoted=False)
        case _:
            return jsonl.parse(io.BytesIO(data), uri, convert)


def column_names(uri: str, options: Mapping[str, Any]) -> list[str]:
    """The header of a CSV, TSV or Parquet file, or the keys of the first JSON line; empty if there is none.

    Raises:
        SourceError: the file cannot be read.
    """
    fs = storage.filesystem(uri, options)
    with readable(uri):
        file = cast(BinaryIO, fs.open(storage.fs_path(uri, fs), "rb"))
        with file:
            if kind_of(uri) == "parquet":
                return _parquet_names(file, uri)
            first_line = _first_line(file)
    try:
        if kind_of(uri) == "jsonl":
            return jsonl.parse([first_line], uri).column_names
        return _read_text(first_line, uri).column_names
    except SourceError:
        return []


def _first_line(file: BinaryIO) -> bytes:
    zipped = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    file.seek(0)
    try:
        return gzip.GzipFile(fileobj=file).readline() if zipped else file.readline()
    except (OSError, EOFError, zlib.error):
        return b""


def _parquet_names(file: BinaryIO, uri: str) -> list[str]:
    try:
        return pq.read_schema(file).names
    except pa.ArrowInvalid as err:
        raise SourceError(f"{uri} is not a readable Parquet file: {err}.") from err

"""CSV, TSV, JSON lines and Parquet files -> Arrow tables, every value as it stands in the file.

CSV follows RFC 4180; TSV is never quoted, a quote character is data (as in Common Voice). Text cells stay text: `007`,
`NA` and `nan` (Min Nan Chinese) are what they are, and an empty cell is an empty string.
"""

import gzip
import io
import os
import shutil
import tempfile
import weakref
import zlib
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol, cast

import pyarrow as pa
import pyarrow.parquet as pq

from w2vb_ray import storage
from w2vb_ray.errors import SourceError
from w2vb_ray.source import delimited, jsonl
from w2vb_ray.source.access import readable
from w2vb_ray.source.unify import common_types, conform

_KINDS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",  # what NeMo calls its manifests
}
BLOCK_ROWS = 131_072
_GZIP_MAGIC = b"\x1f\x8b"
_COPY_BYTES = 1024**2


def kind_of(uri: str) -> str | None:
    """`parquet`, `csv`, `tsv` or `jsonl` by the end of the name (`.gz` allowed behind a text one), else None."""
    name = uri.lower()
    if name.endswith(".gz"):
        kind = _kind(name.removesuffix(".gz"))
        return None if kind == "parquet" else kind
    return _kind(name)


def _kind(name: str) -> str | None:
    return next((kind for suffix, kind in _KINDS.items() if name.endswith(suffix)), None)


class Blocks(Protocol):
    """One file as tables of a bounded number of rows, or of bytes; reading it costs no more memory than that."""

    @property
    def schema(self) -> pa.Schema:
        """Of every block."""
        ...

    def read(self, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """The file from its beginning, all columns unless named.

        Raises:
            SourceError: the file cannot be read, or a line of it is malformed (with its number).
        """
        ...


def read(uri: str, options: Mapping[str, Any]) -> pa.Table:
    """One file as a table; text formats give string columns, without rows for an empty file.

    Raises:
        SourceError: the file cannot be read, or a line of it is malformed (with its number).
    """
    blocks = open_blocks(uri, options)
    return pa.concat_tables([blocks.schema.empty_table(), *blocks.read()])


def open_blocks(uri: str, options: Mapping[str, Any], convert: jsonl.Convert | None = None) -> Blocks:
    """One file, ready to be read block by block, and again. Text formats are copied to this machine first.

    Args:
        uri: a name of no known kind is read as JSON lines.
        options: fsspec options of its store.
        convert: what to make of each object of JSON lines.

    Raises:
        SourceError: the file cannot be read, or a line of it is malformed (with its number).
    """
    match kind_of(uri):
        case "parquet":
            return _ParquetBlocks(uri, options)
        case "csv":
            return _DelimitedBlocks(uri, _local_copy(uri, options), ",")
        case "tsv":
            return _DelimitedBlocks(uri, _local_copy(uri, options), "\t")
        case _:
            return _JsonBlocks(uri, _local_copy(uri, options), convert)


class _ParquetBlocks:
    def __init__(self, uri: str, options: Mapping[str, Any]) -> None:
        self._uri, self._options = uri, options
        with self._open() as file:
            self.schema: pa.Schema = file.schema_arrow

    def read(self, columns: list[str] | None = None) -> Iterator[pa.Table]:
        with self._open() as file:
            # Arrow's own threads may call a Python file while the interpreter ends, which aborts the process.
            for batch in file.iter_batches(BLOCK_ROWS, columns=columns, use_threads=False):
                yield pa.Table.from_batches([batch])

    @contextmanager
    def _open(self) -> Generator[pq.ParquetFile, None, None]:
        fs = storage.filesystem(self._uri, self._options)
        with readable(self._uri), cast(BinaryIO, fs.open(storage.fs_path(self._uri, fs), "rb")) as file:
            try:
                yield pq.ParquetFile(file)
            except pa.ArrowInvalid as err:
                raise SourceError(f"{self._uri} is not a readable Parquet file: {err}.") from err


class _DelimitedBlocks:
    def __init__(self, uri: str, copy: "_Copy", delimiter: str) -> None:
        self._copy = copy
        self._file = delimited.Delimited(copy.open, uri, delimiter, quoted=delimiter == ",")
        self.schema = pa.schema([pa.field(cell, pa.string()) for cell in self._file.header])

    def read(self, columns: list[str] | None = None) -> Iterator[pa.Table]:
        return self._file.blocks(columns)


class _JsonBlocks:
    """Types are known at the end of a file only, so it is parsed once, into chunks on disk."""

    def __init__(self, uri: str, copy: "_Copy", convert: jsonl.Convert | None) -> None:
        self._chunks = _Copy.temporary()
        schemas: list[pa.Schema] = []
        with copy.open() as file, pa.OSFile(self._chunks.path, "wb") as out:
            for table in jsonl.chunks(io.BufferedReader(cast(Any, file)), uri, convert):
                schemas.append(table.schema)
                with pa.ipc.new_stream(out, table.schema) as stream:
                    stream.write_table(table)
        self._num_chunks = len(schemas)
        self.schema = common_types(schemas)

    def read(self, columns: list[str] | None = None) -> Iterator[pa.Table]:
        schema = self.schema if columns is None else pa.schema([self.schema.field(name) for name in columns])
        with self._chunks.open() as file:
            for _ in range(self._num_chunks):
                yield conform(pa.ipc.open_stream(file).read_all(), schema)


@dataclass(frozen=True)
class _Copy:
    """A file on this machine."""

    path: str

    @classmethod
    def temporary(cls) -> "_Copy":
        """An empty file that goes away with this object."""
        handle, path = tempfile.mkstemp(prefix="w2vb-manifest-")
        os.close(handle)
        copy = cls(path)
        weakref.finalize(copy, os.unlink, path)
        return copy

    def open(self) -> pa.NativeFile:
        return pa.OSFile(self.path)


def _local_copy(uri: str, options: Mapping[str, Any]) -> _Copy:
    """The file as it is where it is local and not compressed, else a copy."""
    fs = storage.filesystem(uri, options)
    with readable(uri), cast(BinaryIO, fs.open(storage.fs_path(uri, fs), "rb")) as file:
        is_gzip = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        if storage.is_local(uri) and not is_gzip:
            return _Copy(storage.fs_path(uri, fs))
        file.seek(0)
        copy = _Copy.temporary()
        with open(copy.path, "wb") as out:
            if not is_gzip:
                shutil.copyfileobj(file, out, _COPY_BYTES)
                return copy
            try:
                with gzip.open(file) as unzipped:
                    shutil.copyfileobj(unzipped, out, _COPY_BYTES)
            except (OSError, EOFError, zlib.error) as err:
                raise SourceError(f"{uri} is not a whole gzip file: {err}.") from err
        return copy


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
        delimiter = "," if kind_of(uri) == "csv" else "\t"
        return delimited.parse(first_line, uri, delimiter=delimiter, quoted=delimiter == ",").column_names
    except SourceError:
        return []


def _first_line(file: BinaryIO) -> bytes:
    is_gzip = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    file.seek(0)
    try:
        return gzip.GzipFile(fileobj=file).readline() if is_gzip else file.readline()
    except (OSError, EOFError, zlib.error):
        return b""


def _parquet_names(file: BinaryIO, uri: str) -> list[str]:
    try:
        return pq.read_schema(file).names
    except pa.ArrowInvalid as err:
        raise SourceError(f"{uri} is not a readable Parquet file: {err}.") from err

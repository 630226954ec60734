"""The Delta tables under `sink.uri`: create, read, and turn files into log actions. Knows nothing of runs or claims."""

import json
import re
import time
import uuid
from collections.abc import Generator, Iterable, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Field
from deltalake._internal import RemoveAction
from deltalake.exceptions import DeltaError, TableNotFoundError
from deltalake.transaction import AddAction

from w2vb_ray import schema, storage
from w2vb_ray.errors import SinkError, W2vbError

UTTERANCES, FRAMES, REJECTS = "utterances", "frames", "rejects"
PARTITION = ["language"]
READ_THREADS = 16  # files are small; a store answers slowly


@dataclass(frozen=True, slots=True)
class DataFile:
    """One Parquet file of a table. `path` is relative to the table, as it stands in the store."""

    path: str
    language: str
    num_rows: int
    num_bytes: int


@dataclass(frozen=True, slots=True)
class Layout:
    """What a table is created with: its columns, and the properties that say what made it."""

    columns: pa.Schema
    properties: Mapping[str, str]


class Table:
    """One Delta table, at the snapshot it was last loaded at.

    Args:
        name: `utterances`, `frames` or `rejects`.
        sink_uri: folder that holds the tables.
        options: fsspec options of the sink's store.
    """

    def __init__(self, name: str, sink_uri: str, options: Mapping[str, Any]) -> None:
        self.name = name
        self.uri = storage.join(sink_uri, name)
        self._options = dict(options)
        self._delta_options = storage.delta_options(sink_uri, options)
        self.delta: DeltaTable | None = None
        self.reload()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "delta": None}  # travels without its snapshot, to open files by name

    def reload(self) -> None:
        """Load the newest snapshot; `delta` stays None where there is no table yet."""
        try:
            self.delta = DeltaTable(self.uri, storage_options=self._delta_options)
        except TableNotFoundError:
            self.delta = None

    @property
    def exists(self) -> bool:
        """Whether the loaded snapshot is of a table."""
        return self.delta is not None

    @property
    def version(self) -> int:
        """Version of the snapshot, -1 where there is no table."""
        return -1 if self.delta is None else self.delta.version()

    def create(self, layout: Layout, commit: CommitProperties) -> None:
        """Make the table with its first commit. Raises DeltaError when it exists."""
        self.delta = DeltaTable.create(
            self.uri,
            layout.columns,
            partition_by=PARTITION,
            name=self.name,
            configuration=dict(layout.properties),
            storage_options=self._delta_options,
            commit_properties=commit,
            raise_if_key_not_exists=False,  # our own `w2vb.*` properties are not in delta-rs's list
        )

    @property
    def properties(self) -> dict[str, str]:
        """Table properties of the snapshot, empty where there is no table."""
        return {} if self.delta is None else dict(self.delta.metadata().configuration)

    @property
    def columns(self) -> pa.Schema:
        """Arrow schema of the snapshot."""
        return pa.schema(self._loaded().schema().to_arrow())

    def add_columns(self, fields: Sequence[pa.Field], commit: CommitProperties) -> None:
        """Extend the schema; rows written before read as null."""
        added = [Field.from_arrow(field) for field in fields]
        self._loaded().alter.add_columns(added, commit_properties=commit)

    def append(self, actions: list[AddAction | RemoveAction], commit: CommitProperties) -> None:
        """One transaction.

        Raises:
            CommitFailedError: delta-rs's, when another commit of the same scope came between.
            W2vbError: a file that it takes out is not there, so its rows are in another one now.
        """
        delta = self._loaded()
        if removed := {action.path for action in actions if isinstance(action, RemoveAction)}:
            self.check_live(removed)  # delta-rs looks only at what came after the snapshot
        delta.create_write_transaction(
            actions, mode="append", schema=delta.schema(), partition_by=PARTITION, commit_properties=commit
        )

    def restore(self, version: int, commit: CommitProperties) -> None:
        """Make the rows those of an earlier version, with a new commit."""
        self._loaded().restore(version, commit_properties=commit)

    def files(self) -> list[DataFile]:
        """The live files of the snapshot."""
        if self.delta is None:
            return []
        rows = pa.table(self.delta.get_add_actions(flatten=True))
        return [
            DataFile(unquote(path), language, num_rows, num_bytes)
            for path, language, num_rows, num_bytes in zip(
                rows["path"].to_pylist(),
                rows["partition.language"].to_pylist(),
                rows["num_records"].to_pylist(),
                rows["size_bytes"].to_pylist(),
                strict=True,
            )
        ]

    def check_live(self, paths: Set[str]) -> None:
        """Raise W2vbError when a file is not, or no longer, part of the snapshot."""
        if not paths <= {file.path for file in self.files()}:
            raise W2vbError(
                f"something else rewrote files of {self.uri} since this run planned, so the rows that it replaces are "
                "not where they were; run the same command again"
            )

    def num_rows(self) -> int:
        """Live rows of the snapshot, from the log alone."""
        return sum(file.num_rows for file in self.files())

    def scan(self, columns: list[str]) -> pa.Table:
        """Columns (strings) of every live row, and `file`: the path of the file that holds it."""
        files = self.files()
        if not files:
            return pa.table({name: pa.array([], pa.string()) for name in [*columns, "file"]})
        with ThreadPoolExecutor(READ_THREADS) as threads:
            tables = list(threads.map(lambda file: self.read(file.path, columns), files))
        places = [
            table.append_column("file", pa.array([file.path], pa.string()).take(pa.array([0] * table.num_rows)))
            for file, table in zip(files, tables, strict=True)
        ]
        return pa.concat_tables(places, promote_options="default")  # files may differ in what cannot be null

    def read(self, file: str, columns: list[str] | None = None) -> pa.Table:
        """Stored columns of one file, all unless named (`language` stands in its path only)."""
        with self.open(file) as stored:
            # Arrow's own threads may call a Python file while the interpreter ends, which aborts the process.
            return stored.read(columns, use_threads=False)

    def fetch(self, file: str) -> bytes:
        """One file as it is stored."""
        filesystem = storage.filesystem(self.uri, self._options)
        return cast(bytes, filesystem.cat_file(storage.fs_path(storage.join(self.uri, file), filesystem)))

    @contextmanager
    def open(self, file: str) -> Generator[pq.ParquetFile, None, None]:
        """One file, to be read piece by piece."""
        filesystem = storage.filesystem(self.uri, self._options)
        with filesystem.open(storage.fs_path(storage.join(self.uri, file), filesystem), "rb") as stored:
            yield pq.ParquetFile(stored, page_checksum_verification=True)

    def write(self, file: str, row_groups: Iterable[pa.Table], columns: pa.Schema) -> int:
        """Write one file, which no commit names yet, and return its size in bytes."""
        return write_row_groups(row_groups, columns, storage.join(self.uri, file), self._options)

    def _loaded(self) -> DeltaTable:
        if self.delta is None:
            raise SinkError(f"there is no table at {self.uri}")
        return self.delta


def open_tables(sink_uri: str, options: Mapping[str, Any]) -> dict[str, Table]:
    """The three tables by name, whether they exist yet or not.

    Raises:
        SinkError: the store does not answer, or not to us.
    """
    try:
        return {name: Table(name, sink_uri, options) for name in (UTTERANCES, FRAMES, REJECTS)}
    except (DeltaError, OSError) as err:
        raise SinkError(f"the tables under sink.uri ({sink_uri}) cannot be opened: {first_line(err)}") from err


def first_line(err: BaseException) -> str:
    """What a store's error says first; the rest is its own traceback."""
    return f"{type(err).__name__}: {str(err).strip().partition(chr(10))[0]}"


def one_line(err: BaseException) -> str:
    """All of a store's error; delta-rs gives each cause a line of its own, with an arrow in colour."""
    return " ".join(re.sub(r"\x1b\[\d+m", "", str(err)).split())


def partition_path(language: str) -> str:
    """Hive directory of a language; what is not a plain character in a path is percent-encoded."""
    return f"language={quote(language, safe='')}"


def new_file(language: str, run_id: str) -> str:
    """Path, in its table, of a file that was never there before."""
    return f"{partition_path(language)}/{run_id}-{uuid.uuid4().hex}.parquet"


def add_action(file: DataFile, *, data_change: bool = True) -> AddAction:
    """Log action that makes a file part of its table; `data_change=False` where its rows are only moved."""
    return AddAction(
        path=file.path,
        size=file.num_bytes,
        partition_values={"language": file.language},
        modification_time=int(time.time() * 1000),
        data_change=data_change,
        stats=json.dumps({"numRecords": file.num_rows}),
    )


def remove_action(file: DataFile, *, data_change: bool = True) -> RemoveAction:
    """Log action that takes a file out of its table; the file itself stays until a vacuum."""
    return RemoveAction(
        path=file.path,
        data_change=data_change,
        deletion_timestamp=int(time.time() * 1000),
        size=file.num_bytes,
        partition_values={"language": file.language},
    )


def write_parquet(rows: pa.Table, uri: str, options: Mapping[str, Any]) -> int:
    """Write one file of a table and return its size in bytes."""
    return write_row_groups([rows], rows.schema, uri, options)


def write_row_groups(row_groups: Iterable[pa.Table], columns: pa.Schema, uri: str, options: Mapping[str, Any]) -> int:
    """Write one file of a table as its rows come, and return its size in bytes.

    Vectors are stored BYTE_STREAM_SPLIT + zstd without dictionary: with their 10 mantissa bits that is 7.06 MiB for
    4096 x 1024, against 13.6 for unrounded float32.
    """
    plain = [field.name for field in columns if pa.types.is_string(field.type)]
    make_writer: Any = pq.ParquetWriter  # its stubs know no column lists
    with storage.atomic_output(uri, options) as out:
        with make_writer(
            out,
            columns,
            compression="zstd",
            use_dictionary=plain,
            use_byte_stream_split=_float_leaves(columns),
            write_page_checksum=True,  # a store may change bytes, and rows that are kept are read and written again
        ) as writer:
            for rows in row_groups:
                writer.write_table(rows, row_group_size=rows_per_group(columns))
        return out.tell()


def rows_per_group(columns: pa.Schema) -> int:
    """Rows in one row group at most: a row of frames is megabytes."""
    return 64 if any(field.type == schema.FRAMES for field in columns) else 8192


def _float_leaves(columns: pa.Schema) -> list[str]:
    """Parquet paths of the floats inside list columns."""
    leaves: list[str] = []
    for field in columns:
        path, kind = field.name, field.type
        while pa.types.is_list(kind):
            path, kind = f"{path}.list.element", kind.value_type
        if path != field.name and pa.types.is_floating(kind):
            leaves.append(path)
    return leaves

"""The Delta tables under `sink.uri`: create, read, and turn files into log actions. Knows nothing of runs or claims."""

import json
import time
from collections.abc import Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
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
_READ_THREADS = 16  # files are small; a store answers slowly


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
        with ThreadPoolExecutor(_READ_THREADS) as threads:
            tables = list(threads.map(lambda file: self.read(file.path, columns), files))
        places = [
            table.append_column("file", pa.array([file.path], pa.string()).take(pa.array([0] * table.num_rows)))
            for file, table in zip(files, tables, strict=True)
        ]
        return pa.concat_tables(places)

    def read(self, file: str, columns: list[str] | None = None) -> pa.Table:
        """Stored columns of one file, all unless named (`language` stands in its path only)."""
        filesystem = storage.filesystem(self.uri, self._options)
        with filesystem.open(storage.fs_path(storage.join(self.uri, file), filesystem), "rb") as stored:
            # Arrow's own threads may call a Python file while the interpreter ends, which aborts the process.
            return pq.ParquetFile(stored).read(columns, use_threads=False)

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


def partition_path(language: str) -> str:
    """Hive directory of a language; what is not a plain character in a path is percent-encoded."""
    return f"language={quote(language, safe='')}"


def add_action(file: DataFile) -> AddAction:
    """Log action that makes a file part of its table."""
    return AddAction(
        path=file.path,
        size=file.num_bytes,
        partition_values={"language": file.language},
        modification_time=int(time.time() * 1000),
        data_change=True,
        stats=json.dumps({"numRecords": file.num_rows}),
    )


def remove_action(file: DataFile) -> RemoveAction:
    """Log action that takes a file out of its table; the file itself stays until a vacuum."""
    return RemoveAction(
        path=file.path,
        data_change=True,
        deletion_timestamp=int(time.time() * 1000),
        size=file.num_bytes,
        partition_values={"language": file.language},
    )


def write_parquet(rows: pa.Table, uri: str, options: Mapping[str, Any]) -> int:
    """Write one file of a table and return its size in bytes.

    Vectors are stored BYTE_STREAM_SPLIT + zstd without dictionary: with their 10 mantissa bits that is 7.06 MiB for
    4096 x 1024, against 13.6 for unrounded float32.
    """
    plain = [field.name for field in rows.schema if pa.types.is_string(field.type)]
    with storage.atomic_output(uri, options) as out:
        write: Any = pq.write_table  # its stubs know no column lists
        write(
            rows,
            out,
            compression="zstd",
            use_dictionary=plain,
            use_byte_stream_split=_float_leaves(rows.schema),
            row_group_size=64 if any(field.type == schema.FRAMES for field in rows.schema) else 8192,
        )
        return out.tell()


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

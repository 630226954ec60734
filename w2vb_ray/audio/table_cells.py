"""Table files that hold audio (Parquet, Arrow): their parts, their other columns, and single cells of audio.

A part is what is read at once: a row group of Parquet, known by its number, or a record batch of Arrow, known by the
byte where it begins. Of Parquet only the columns that are asked for are fetched, cells of audio some MiB at a time;
Arrow batches are read whole. Knows nothing of inventories.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, cast

import pyarrow as pa
import pyarrow.parquet as pq

from w2vb_ray.arrow import pc
from w2vb_ray.audio.ranges import RangeFile, Ranges
from w2vb_ray.errors import AudioRejected, RejectReason

BYTES = "bytes"
_BUFFER_BYTES = 4 * 1024**2  # of a column chunk at a time
_BATCH_BYTES = 16 * 1024**2
_MAX_BATCH_ROWS = 256
_ARROW_MAGIC = b"ARROW1\0\0"  # of the file format, which wraps the stream format
_UNREADABLE = (pa.ArrowException, OSError, EOFError, UnicodeDecodeError)


class Part(NamedTuple):
    """What is read at once.

    Args:
        address: see the module.
        num_rows: of it.
        table: (num_rows) its columns without audio bytes; no rows where there is no such column.
        cell_bytes: mean size of its audio cells.
        is_null: (N) bool, which cells have no audio; None where that is not known without reading them.
    """

    address: int
    num_rows: int
    table: pa.Table
    cell_bytes: int
    is_null: pa.Array | None


class TableFile(Protocol):
    """One file, Parquet or Arrow."""

    schema: pa.Schema

    def parts(self, audio: str) -> Iterator[Part]:
        """All parts in order, with every column that holds no binary values; audio's fields as `<audio>_<field>`."""
        ...

    def cells(self, audio: str, address: int, rows: Sequence[int]) -> list[bytes | None]:
        """Audio of some rows of a part, in the order given."""
        ...


def open_table(ranges: Ranges) -> TableFile:
    """A file of either kind.

    Raises:
        AudioRejected: `undecodable` when it is neither, or what `Ranges.read` raises.
    """
    try:
        magic = ranges.read(0, min(8, ranges.num_bytes))
        is_parquet, start = magic.startswith(b"PAR1"), len(magic) * (magic == _ARROW_MAGIC)
        file = _Parquet(ranges) if is_parquet else _Arrow(ranges, start)
        for field in file.schema:
            _check_name(field)
        return file
    except _UNREADABLE as err:
        raise _malformed(ranges, err) from err


def _check_name(field: pa.Field) -> None:
    """Raises UnicodeDecodeError for a name that is no UTF-8, which a damaged file may have anywhere."""
    len(field.name)
    for index in range(field.type.num_fields):
        _check_name(field.type.field(index))


def holds_audio(dtype: pa.DataType) -> bool:
    """Whether a column is `struct<bytes, …>` or plain binary."""
    if pa.types.is_struct(dtype):
        where = dtype.get_field_index(BYTES)
        return where >= 0 and _is_bytes(dtype.field(where).type)
    return _is_bytes(dtype)


def _is_bytes(dtype: pa.DataType) -> bool:
    types = pa.types
    return types.is_binary(dtype) or types.is_large_binary(dtype) or types.is_binary_view(dtype)


def _has_bytes(dtype: pa.DataType) -> bool:
    return _is_bytes(dtype) or any(_has_bytes(dtype.field(i).type) for i in range(dtype.num_fields))


def _malformed(ranges: Ranges, err: Exception) -> AudioRejected:
    return AudioRejected(RejectReason.UNDECODABLE, f"{ranges.path} is not a readable Parquet or Arrow file: {err}")


def _audio_bytes(column: pa.Array) -> pa.Array:
    return pc.struct_field(column, BYTES) if pa.types.is_struct(column.type) else column


def _flattened(table: pa.Table, audio: str) -> pa.Table:
    """The fields of the audio column as columns of their own, under free names."""
    if audio not in table.column_names:
        return table
    struct = table[audio]
    table = table.drop_columns([audio])
    for index in range(struct.type.num_fields):
        field = struct.type.field(index).name
        name = f"{audio}_{field}"
        while name in table.column_names:
            name += "_"
        table = table.append_column(name, pc.struct_field(struct, field))
    return table


class _Parquet:
    def __init__(self, ranges: Ranges) -> None:
        self._ranges = ranges
        file = pa.PythonFile(RangeFile(ranges), mode="r")
        self._file = pq.ParquetFile(file, buffer_size=_BUFFER_BYTES, pre_buffer=False)
        self.schema: pa.Schema = self._file.schema_arrow

    def parts(self, audio: str) -> Iterator[Part]:
        names = [field.name for field in self.schema if not _has_bytes(field.type)]
        dtype = self.schema.field(audio).type
        if pa.types.is_struct(dtype):
            fields = [dtype.field(index) for index in range(dtype.num_fields)]
            names += [f"{audio}.{field.name}" for field in fields if not _has_bytes(field.type)]
        try:
            for number in range(self._file.num_row_groups):
                rows = self._file.read_row_group(number, columns=names, use_threads=False)
                rows.validate(full=True)  # texts that are no UTF-8 would be found where nobody can tell whose they are
                yield self._part(number, _flattened(rows, audio), audio)
        except _UNREADABLE as err:
            raise _malformed(self._ranges, err) from err

    def _part(self, number: int, rows: pa.Table, audio: str) -> Part:
        group = self._file.metadata.row_group(number)
        chunks = [group.column(index) for index in range(group.num_columns)]
        chunk = next(chunk for chunk in chunks if chunk.path_in_schema == self._leaf(audio))
        num_rows = group.num_rows
        statistics = chunk.statistics if chunk.is_stats_set else None
        num_nulls = statistics.null_count if statistics is not None and statistics.has_null_count else None
        if num_nulls is not None and 0 < num_nulls < num_rows:
            is_null = pa.concat_arrays([cells.is_null() for cells in self._batches(number, audio)])
        else:
            is_null = None if num_nulls is None else pa.repeat(num_nulls > 0, num_rows)
        return Part(number, num_rows, rows, chunk.total_uncompressed_size // max(num_rows, 1), is_null)

    def _leaf(self, audio: str) -> str:
        return f"{audio}.{BYTES}" if pa.types.is_struct(self.schema.field(audio).type) else audio

    def _batches(self, number: int, audio: str) -> Iterator[pa.Array]:
        """The cells of a row group, a bounded number of bytes at a time."""
        group = self._file.metadata.row_group(number)
        mean = max(group.total_byte_size // max(group.num_rows, 1), 1)
        batches = self._file.iter_batches(
            batch_size=min(max(_BATCH_BYTES // mean, 1), _MAX_BATCH_ROWS),
            row_groups=[number],
            columns=[self._leaf(audio)],
            use_threads=False,
        )
        return (_audio_bytes(batch.column(0)) for batch in batches)

    def cells(self, audio: str, address: int, rows: Sequence[int]) -> list[bytes | None]:
        wanted, found, start = set(rows), dict[int, bytes | None](), 0
        try:
            for cells in self._batches(address, audio):
                found.update({row: cells[row - start].as_py() for row in wanted & {*range(start, start + len(cells))}})
                start += len(cells)
                if len(found) == len(wanted):
                    break
            return [found[row] for row in rows]
        except (*_UNREADABLE, KeyError, IndexError) as err:
            raise _malformed(self._ranges, err) from err


class _Arrow:
    def __init__(self, ranges: Ranges, start: int) -> None:
        self._ranges = ranges
        self._file = pa.PythonFile(RangeFile(ranges), mode="r")
        self._file.seek(start)
        self.schema: pa.Schema = pa.ipc.read_schema(self._file)
        self._first = cast(int, self._file.tell())

    def parts(self, audio: str) -> Iterator[Part]:
        names = [field.name for field in self.schema if not _has_bytes(field.type)]
        address = self._first
        try:
            while (batch := self._batch(address)) is not None:
                following = self._file.tell()
                cells = _audio_bytes(batch[audio])
                mean = cells.nbytes // max(len(cells), 1)
                yield Part(address, batch.num_rows, self._others(batch, names, audio), mean, cells.is_null())
                address = following
        except _UNREADABLE as err:
            raise _malformed(self._ranges, err) from err

    def _others(self, batch: pa.RecordBatch, names: list[str], audio: str) -> pa.Table:
        table, column = pa.table(batch.select(names)), batch[audio]
        if not pa.types.is_struct(column.type):
            return table
        fields = [field.name for field in column.type if not _has_bytes(field.type)]
        values = [pc.struct_field(column, field) for field in fields]
        return _flattened(table.append_column(audio, pc.make_struct(*values, field_names=fields)), audio)

    def _batch(self, address: int) -> pa.RecordBatch | None:
        self._file.seek(address)
        try:
            message = pa.ipc.read_message(self._file)
        except EOFError:
            return None
        batch = pa.ipc.read_record_batch(message, self.schema)
        batch.validate(full=True)  # offsets that lead outside a buffer would end the process
        return batch

    def cells(self, audio: str, address: int, rows: Sequence[int]) -> list[bytes | None]:
        try:
            batch = self._batch(address)
            if batch is None:
                raise EOFError(f"no record batch at byte {address}")
            cells = _audio_bytes(batch[audio])
            return [cells[row].as_py() for row in rows]
        except (*_UNREADABLE, IndexError) as err:
            raise _malformed(self._ranges, err) from err

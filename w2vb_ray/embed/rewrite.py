"""Rows of some files of a table -> one new file, as a stream: what goes in may be larger than memory.

A changed recording, compaction and erasure all do this, each with other rows in mind. The new file is an orphan until
somebody commits it. Knows nothing of commits.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import pyarrow as pa
import pyarrow.parquet as pq

from w2vb_ray.arrow import pc
from w2vb_ray.embed.tables import PARTITION, DataFile, Table, new_file, rows_per_group
from w2vb_ray.errors import W2vbError

_GROUP_BYTES = 64 * 1024**2  # in memory; 64 rows of frames of long recordings would be far more
_SMALL_BYTES = 8 * 1024**2
_TOGETHER = 16
_ALL = pa.array([], pa.string())


def _nothing() -> None:
    pass


def rewrite(
    table: Table,
    files: Sequence[DataFile],
    run_id: str,
    *,
    without: pa.Array = _ALL,
    between: Callable[[], None] = _nothing,
) -> DataFile | None:
    """Write the rows of files of one language to a new file, in order.

    Args:
        table: whose files they are.
        files: one or more, of the same language.
        run_id: goes into the new file's name; the rows keep theirs.
        without: ids of rows to leave out.
        between: called between two row groups, to renew a claim.

    Returns:
        The new file; None when no row is left.
    """
    columns = _columns(table, files)
    num_rows = 0

    def counted() -> Iterator[pa.Table]:
        nonlocal num_rows
        for rows in _row_groups(table, files, columns, without):
            num_rows += rows.num_rows
            between()
            yield rows

    row_groups = counted()
    first = next(row_groups, None)
    if first is None:
        return None
    path = new_file(files[0].language, run_id)
    num_bytes = table.write(path, chain([first], row_groups), columns)
    return DataFile(path, files[0].language, num_rows, num_bytes)


def check_same(
    table: Table,
    files: Sequence[DataFile],
    made: DataFile,
    *,
    without: pa.Array = _ALL,
    between: Callable[[], None] = _nothing,
) -> None:
    """Read a rewritten file back and compare it with what it was made of, value by value.

    Raises:
        W2vbError: they differ.
    """
    columns = _columns(table, files)
    expected = _row_groups(table, files, columns, without)
    found = _row_groups(table, [made], columns, _ALL)
    for row_group, again in _in_step(expected, found):
        between()
        if not _same(row_group, again):
            raise W2vbError(
                f"{table.uri}/{made.path} does not hold the rows that were written to it; nothing of it was committed, "
                "and the files that it was made of are as they were. Check the store, then run the same command again"
            )


def _columns(table: Table, files: Sequence[DataFile]) -> pa.Schema:
    """Columns of the table as the newest of the files has them, which may be stricter about nulls, and its metadata."""
    with table.open(files[-1].path) as stored:
        found = stored.schema_arrow
    fields = [field for field in table.columns if field.name not in PARTITION]
    fields = [found.field(field.name) if field.name in found.names else field for field in fields]
    return pa.schema(fields, metadata=found.metadata)


def _row_groups(table: Table, files: Sequence[DataFile], columns: pa.Schema, without: pa.Array) -> Iterator[pa.Table]:
    """Rows of all files in order, in pieces that are neither too many rows nor too many bytes."""
    most = rows_per_group(columns)
    waiting: list[pa.Table] = []
    num_rows = num_bytes = 0
    for stored in _stored(table, files):
        # As in `Table.read`, no threads of Arrow's own. One row of frames may be hours.
        for batch in stored.iter_batches(batch_size=most // 64, use_threads=False):
            rows = _fitted(pa.Table.from_batches([batch]), columns)
            rows = rows.filter(pc.invert(pc.is_in(rows["utterance_id"], without))) if len(without) else rows
            waiting.append(rows)
            num_rows, num_bytes = num_rows + rows.num_rows, num_bytes + rows.nbytes
            if num_rows >= most or num_bytes >= _GROUP_BYTES:
                yield pa.concat_tables(waiting)
                waiting, num_rows, num_bytes = [], 0, 0
    if num_rows:
        yield pa.concat_tables(waiting)


def _stored(table: Table, files: Sequence[DataFile]) -> Iterator[pq.ParquetFile]:
    """The files one by one; small ones are fetched together, because a store answers slowly."""

    def fetch(file: DataFile) -> bytes | None:
        return table.fetch(file.path) if file.num_bytes <= _SMALL_BYTES else None

    with ThreadPoolExecutor(_TOGETHER) as threads:
        for start in range(0, len(files), _TOGETHER):
            some = files[start : start + _TOGETHER]
            for file, content in zip(some, threads.map(fetch, some), strict=True):
                if content is not None:
                    yield pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
                else:
                    with table.open(file.path) as stored:
                        yield stored


def _fitted(rows: pa.Table, columns: pa.Schema) -> pa.Table:
    """The rows with all columns; those that they lack are null, as readers of the table see them."""
    missing = {
        field.name: pa.nulls(rows.num_rows, field.type) for field in columns if field.name not in rows.schema.names
    }
    found = {name: rows[name] for name in rows.column_names}
    return pa.Table.from_arrays([{**found, **missing}[name] for name in columns.names], schema=columns)


def _in_step(left: Iterator[pa.Table], right: Iterator[pa.Table]) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Two streams of rows cut at the same places; the longer one's rest has nothing beside it."""
    streams, heads = (left, right), [pa.table({}), pa.table({})]
    while True:
        heads = [head if head.num_rows else next(stream, head) for head, stream in zip(heads, streams, strict=True)]
        num_rows = min(head.num_rows for head in heads) or max(head.num_rows for head in heads)
        if not num_rows:
            return
        yield heads[0].slice(0, num_rows), heads[1].slice(0, num_rows)
        heads = [head.slice(num_rows) for head in heads]


def _same(left: pa.Table, right: pa.Table) -> bool:
    if left.column_names != right.column_names or left.num_rows != right.num_rows:
        return False
    columns = zip(left.columns, right.columns, strict=True)
    return all(one.equals(two) or repr(one.to_pylist()) == repr(two.to_pylist()) for one, two in columns)  # NaN != NaN

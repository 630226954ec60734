"""Rows of a table that fit a description, and the files that hold them. Only a few columns are read, file by file."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from w2vb_ray.embed.tables import DataFile, Table

_THREADS = 8  # each holds the columns of one file
_AHEAD = 64  # files whose found rows may wait


def find_rows(
    table: Table, columns: Sequence[str], matches: Callable[[pa.Table], pa.Array], between: Callable[[], None]
) -> Iterator[tuple[DataFile, pa.Table]]:
    """Files with some matching rows, and those rows.

    Args:
        table: an existing table, or one that does not exist and has no rows.
        columns: what is read, `language` too if it is wanted; a column that a file lacks is null in it.
        matches: (N,) booleans for N rows; called from several threads.
        between: called now and then, to renew a claim.
    """

    def look(file: DataFile) -> tuple[DataFile, pa.Table]:
        rows = _read(table, file, columns)
        return file, rows.filter(matches(rows))

    files = table.files()
    with ThreadPoolExecutor(_THREADS) as threads:
        for start in range(0, len(files), _AHEAD):
            between()
            for file, rows in threads.map(look, files[start : start + _AHEAD]):
                if rows.num_rows:
                    yield file, rows


def ids_by_file(found: Iterator[tuple[DataFile, pa.Table]]) -> dict[str, list[str]]:
    """Path -> ids of the rows that were found in it."""
    return {file.path: rows["utterance_id"].to_pylist() for file, rows in found}


def _read(table: Table, file: DataFile, columns: Sequence[str]) -> pa.Table:
    stored = table.read(file.path, [name for name in columns if name != "language"])
    nothing = pa.nulls(stored.num_rows, pa.string())
    language = pa.array([file.language], pa.string()).take(pa.array([0] * stored.num_rows, pa.int64()))
    found: Mapping[str, pa.Array | pa.ChunkedArray] = {
        **dict.fromkeys(columns, nothing),
        **{name: stored[name] for name in stored.column_names},
        **({"language": language} if "language" in columns else {}),
    }
    return pa.table({name: found[name] for name in columns})

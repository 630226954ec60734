"""JSON lines -> Arrow, with the types that the values have and no guessing from text."""

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, cast

import pyarrow as pa

from w2vb_ray.errors import SourceError
from w2vb_ray.source.unify import texts, unify

_CHUNK_ROWS = 50_000  # what is held as Python objects at a time
_ARROW_ERRORS = (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError)


def parse(lines: Iterable[bytes], name: str) -> pa.Table:
    """JSON objects, one a line -> a table with every key that occurs, in order of first sight.

    Integers and floats together are floats; a key with values of several types holds JSON text (strings as they are).

    Raises:
        SourceError: a line that is not a JSON object in UTF-8, with `name` and its number.
    """
    return tabulate(_objects(lines, name))


def tabulate(rows: Iterator[dict[str, Any]]) -> pa.Table:
    """JSON objects -> the same table."""
    chunks: list[dict[str, pa.Array]] = []
    lengths: list[int] = []
    while chunk := list(islice(rows, _CHUNK_ROWS)):
        keys = dict.fromkeys(key for row in chunk for key in row)
        chunks.append({key: _array([row.get(key) for row in chunk]) for key in keys})
        lengths.append(len(chunk))
    keys = dict.fromkeys(key for chunk in chunks for key in chunk)
    columns = {
        key: unify([chunk.get(key, pa.nulls(num)) for chunk, num in zip(chunks, lengths, strict=True)]) for key in keys
    }
    return pa.table(columns)


def _objects(lines: Iterable[bytes], name: str) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
        except ValueError as err:  # bad UTF-8 is one too
            raise SourceError(f"{name}, line {number} is not JSON in UTF-8: {err}.") from err
        if not isinstance(row, dict):
            raise SourceError(f"{name}, line {number} is not a JSON object: {line[:40]!r}.")
        yield cast(dict[str, Any], row)


def _array(values: list[Any]) -> pa.Array:
    try:
        array = pa.array(values)
    except _ARROW_ERRORS:
        return texts(values)
    return array if _is_storable(array.type) else texts(values)


def _is_storable(dtype: pa.DataType) -> bool:
    """Parquet has no struct without fields."""
    if pa.types.is_list(dtype):
        return _is_storable(dtype.value_type)
    if pa.types.is_struct(dtype):
        return dtype.num_fields > 0 and all(_is_storable(field.type) for field in dtype.fields)
    return True

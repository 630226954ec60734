"""JSON lines -> Arrow, with the types that the values have and no guessing from text."""

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeAlias, cast

import pyarrow as pa

from w2vb_ray.errors import SourceError
from w2vb_ray.source.unify import stack, texts

Convert: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]

_CHUNK_ROWS = 50_000  # what is held as Python objects at a time
_ARROW_ERRORS = (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError)


def parse(lines: Iterable[bytes], name: str, convert: Convert | None = None) -> pa.Table:
    """JSON objects, one a line -> a table with every key that occurs, in order of first sight.

    Integers and floats together are floats; a key with values of several types holds JSON text (strings as they are).

    Args:
        lines: of the file.
        name: what errors call it.
        convert: what to make of each object before it becomes a row.

    Raises:
        SourceError: a line that is not a JSON object in UTF-8, with `name` and its number.
    """
    return stack(list(chunks(lines, name, convert)))


def chunks(lines: Iterable[bytes], name: str, convert: Convert | None = None) -> Iterator[pa.Table]:
    """The same in pieces of some thousand lines; each has the keys seen so far, in the types of its own values."""
    rows = objects(lines, name)
    return tabulated(rows if convert is None else map(convert, rows))


def tabulated(rows: Iterator[dict[str, Any]]) -> Iterator[pa.Table]:
    """The same of JSON objects."""
    keys: dict[str, None] = {}
    while chunk := list(islice(rows, _CHUNK_ROWS)):
        keys |= dict.fromkeys(key for row in chunk for key in row)
        yield pa.table({key: _array([row.get(key) for row in chunk]) for key in keys})


def objects(lines: Iterable[bytes], name: str) -> Iterator[dict[str, Any]]:
    """The object of every line that is not blank. Raises SourceError like `parse`."""
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

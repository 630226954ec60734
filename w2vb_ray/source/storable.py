"""Arrow types that Delta Lake cannot hold -> the nearest that it can."""

import json
from collections.abc import Callable, Iterable
from typing import Any

import pyarrow as pa

from w2vb_ray.arrow import pc
from w2vb_ray.source.rows import Column

_types = pa.types
_Rule = tuple[Callable[[pa.DataType], bool], Callable[[Any], pa.DataType]]
_ARROW_ERRORS = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError)


def _is_text(dtype: pa.DataType) -> bool:
    return _types.is_large_string(dtype) or _types.is_string_view(dtype)


def _is_bytes(dtype: pa.DataType) -> bool:
    return _types.is_large_binary(dtype) or _types.is_binary_view(dtype) or _types.is_fixed_size_binary(dtype)


def _is_list(dtype: pa.DataType) -> bool:
    views = _types.is_list_view(dtype) or _types.is_large_list_view(dtype)
    return views or _types.is_list(dtype) or _types.is_large_list(dtype) or _types.is_fixed_size_list(dtype)


def _is_small_decimal(dtype: pa.DataType) -> bool:
    return _types.is_decimal32(dtype) or _types.is_decimal64(dtype)


def _struct(dtype: pa.StructType) -> pa.DataType:
    fields = [pa.field(field.name, storable_type(field.type), field.nullable) for field in dtype.fields]
    return pa.struct(fields) if fields else pa.string()


def _map(dtype: pa.MapType) -> pa.DataType:
    return pa.map_(storable_type(dtype.key_type), storable_type(dtype.item_type))


def _timestamp(dtype: pa.TimestampType) -> pa.DataType:
    return pa.timestamp("us", "UTC" if dtype.tz else None)


def _keep(dtype: pa.DataType) -> pa.DataType:
    return dtype


_RULES: tuple[_Rule, ...] = (
    (lambda dtype: isinstance(dtype, pa.BaseExtensionType), lambda dtype: storable_type(dtype.storage_type)),
    (_types.is_dictionary, lambda dtype: storable_type(dtype.value_type)),
    (_types.is_run_end_encoded, lambda dtype: storable_type(dtype.value_type)),
    (_is_text, lambda _: pa.string()),
    (_is_bytes, lambda _: pa.binary()),
    (_types.is_uint8, lambda _: pa.int16()),
    (_types.is_uint16, lambda _: pa.int32()),
    (_types.is_uint32, lambda _: pa.int64()),
    (_types.is_uint64, lambda _: pa.int64()),
    (_types.is_float16, lambda _: pa.float32()),
    (_types.is_date64, lambda _: pa.date32()),
    (_is_small_decimal, lambda dtype: pa.decimal128(dtype.precision, dtype.scale)),
    (_types.is_timestamp, _timestamp),
    (_types.is_map, _map),
    (_is_list, lambda dtype: pa.list_(storable_type(dtype.value_type))),
    (_types.is_struct, _struct),
    (_types.is_boolean, _keep),
    (_types.is_integer, _keep),
    (_types.is_floating, _keep),
    (_types.is_date32, _keep),
    (_types.is_decimal128, _keep),
    (_types.is_binary, _keep),
)


def storable_type(dtype: pa.DataType) -> pa.DataType:
    """The type that holds the same values in a Delta table; string for what has no counterpart (times, durations)."""
    return next((rule(dtype) for applies, rule in _RULES if applies(dtype)), pa.string())


def storable(table: pa.Table, columns: pa.Schema | None = None) -> pa.Table:
    """The table with every column in a type that Delta Lake holds.

    Timestamps are cut to microseconds. Unsigned 64-bit numbers beyond int64, and nested values that fit no type, are
    text.

    Args:
        table: some or all rows of a source.
        columns: what `storable_schema` found for the whole source. Unset: the table is all of it.
    """
    if columns is None:
        return pa.table([_convert(column) for column in table.columns], names=table.column_names)
    arrays = [
        _texts(column) if pa.types.is_string(field.type) and not _is_texts(column.type) else _convert(column)
        for column, field in zip(table.columns, columns, strict=True)
    ]
    return pa.table(arrays, schema=columns)


def storable_schema(columns: pa.Schema, read: Callable[[list[str]], Iterable[pa.Table]]) -> pa.Schema:
    """The types that `storable` gives the columns of a source that is read in pieces.

    Args:
        columns: as the source has them.
        read: pieces of some of its columns; asked only for those whose values decide.
    """
    stored = {column.name: storable_type(column.type) for column in columns}
    doubtful = [column.name for column in columns if not _always_fits(column.type)]
    for table in read(doubtful) if doubtful else ():
        for name in doubtful:
            if pa.types.is_string(_convert(table[name]).type):
                stored[name] = pa.string()
    return pa.schema(list(stored.items()))


def _always_fits(dtype: pa.DataType) -> bool:
    """Whether no value of the type can be beyond what `storable_type` has for it."""
    if _types.is_dictionary(dtype):
        return _always_fits(dtype.value_type)
    beyond = _types.is_nested(dtype) or _types.is_uint64(dtype) or _types.is_timestamp(dtype)
    return storable_type(dtype) in (dtype, pa.string()) or not beyond


def _is_texts(dtype: pa.DataType) -> bool:
    """Whether text is the type's own form, and not what is left for values that fit nowhere."""
    return pa.types.is_string(storable_type(dtype))


def _convert(column: pa.ChunkedArray) -> Column:
    target = storable_type(column.type)
    if column.type == target:
        return column
    if _types.is_duration(column.type):  # Arrow would write a number without its unit
        return _texts(column.cast(pa.duration("us"), safe=False))
    try:
        return pc.cast(column, options=pc.CastOptions(target, allow_time_truncate=True))
    except _ARROW_ERRORS:
        pass  # Arrow has no such cast, or a value does not fit
    try:
        return pa.array(column.to_pylist(), target)
    except _ARROW_ERRORS:
        return _texts(column)


def _texts(column: Column) -> pa.Array:
    return pa.array([_text(value) for value in column.to_pylist()], pa.string())


def _text(value: object) -> str | None:
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, default=str)
    return None if value is None else str(value)


def as_text(column: Column) -> Column:
    """A column of any type as strings; booleans and numbers as JSON writes them, nested values as JSON."""
    if pa.types.is_string(column.type):
        return column
    if not pa.types.is_nested(column.type):
        try:
            return column.cast(pa.string())
        except _ARROW_ERRORS:
            pass  # durations and the like
    return _texts(column)

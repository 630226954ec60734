"""Chunks and tables with different types or columns, brought together without losing a value."""

import json
from typing import Any

import pyarrow as pa

from w2vb_ray.source.rows import flat


def texts(values: list[Any]) -> pa.Array:
    """Values of any types as a string array: strings as they are, nulls null, everything else as JSON."""
    return pa.array([json_text(value) for value in values], pa.string())


def json_text(value: object) -> str | None:
    """A value as text: strings as they are, everything else as JSON."""
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text.encode("utf-8", "replace").decode("utf-8")  # JSON may escape half a surrogate pair


def stack(tables: list[pa.Table]) -> pa.Table:
    """Tables with different columns one below the other; what a table lacks is null."""
    names = dict.fromkeys(name for table in tables for name in table.column_names)
    return pa.table({name: unify([_chunk(table, name) for table in tables]) for name in names})


def _chunk(table: pa.Table, name: str) -> pa.Array:
    if name not in table.column_names:
        return pa.nulls(table.num_rows)
    return flat(table[name])


def unify(arrays: list[pa.Array]) -> pa.ChunkedArray:
    """Chunks of one column, brought to one type; text when they have none in common."""
    common: pa.DataType | None = pa.null()
    for dtype in {array.type for array in arrays}:
        common = None if common is None else _common_type(common, dtype)
    if common is None:
        return pa.chunked_array([texts(array.to_pylist()) for array in arrays], pa.string())
    return pa.chunked_array([_as_type(array, common) for array in arrays], common)


def _as_type(array: pa.Array, dtype: pa.DataType) -> pa.Array:
    if array.type == dtype:
        return array
    return pa.nulls(len(array), dtype) if pa.types.is_null(array.type) else pa.array(array.to_pylist(), dtype)


def _common_type(one: pa.DataType, two: pa.DataType) -> pa.DataType | None:
    types = pa.types
    if one == two or types.is_null(two):
        return one
    if types.is_null(one):
        return two
    numbers = [types.is_integer(dtype) or types.is_floating(dtype) for dtype in (one, two)]
    if all(numbers):
        return pa.float64() if types.is_floating(one) or types.is_floating(two) else pa.int64()
    if types.is_list(one) and types.is_list(two):
        value = _common_type(one.value_type, two.value_type)
        return None if value is None else pa.list_(value)
    if types.is_struct(one) and types.is_struct(two):
        return _common_struct(one, two)
    return None


def _common_struct(one: pa.StructType, two: pa.StructType) -> pa.DataType | None:
    merged = {field.name: field.type for field in one.fields}
    for field in two.fields:
        dtype = _common_type(merged.get(field.name, pa.null()), field.type)
        if dtype is None:
            return None
        merged[field.name] = dtype
    return pa.struct(merged)

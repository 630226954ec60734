"""Chunks and tables with different types or columns, brought together without losing a value."""

import json
from collections.abc import Iterable
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
    types = common_types(table.schema for table in tables)
    return pa.concat_tables([conform(table, types) for table in tables]) if tables else pa.table({})


def common_types(schemas: Iterable[pa.Schema]) -> pa.Schema:
    """Every column that occurs, in order of first sight, in one type; text where the types have none in common."""
    found: dict[str, dict[pa.DataType, None]] = {}
    for columns in schemas:
        for column in columns:
            found.setdefault(column.name, {})[column.type] = None
    return pa.schema([pa.field(name, _fold(types)) for name, types in found.items()])


def _fold(types: Iterable[pa.DataType]) -> pa.DataType:
    common: pa.DataType | None = pa.null()
    for dtype in types:
        common = None if common is None else _common_type(common, dtype)
    return pa.string() if common is None else common


def conform(table: pa.Table, columns: pa.Schema) -> pa.Table:
    """The table with these columns, in types that `common_types` found for it and others; what it lacks is null."""
    arrays = [
        _as_type(flat(table[column.name]), column.type)
        if column.name in table.column_names
        else pa.nulls(table.num_rows, column.type)
        for column in columns
    ]
    return pa.Table.from_arrays(arrays, schema=columns)


def _as_type(array: pa.Array, dtype: pa.DataType) -> pa.Array:
    if array.type == dtype:
        return array
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), dtype)
    return texts(array.to_pylist()) if pa.types.is_string(dtype) else pa.array(array.to_pylist(), dtype)


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

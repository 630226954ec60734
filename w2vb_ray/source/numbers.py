"""Numeric fields of a manifest, which may stand as text."""

import pyarrow as pa

from w2vb_ray.arrow import pc
from w2vb_ray.errors import SourceError
from w2vb_ray.source.rows import Column

_INT32_MAX = 2**31 - 1


def floats(column: Column, field: str, uri: str, first_row: int = 0) -> Column:
    """Numbers, or text that is one, as float64; blank text is null, `nan` stays NaN.

    Raises:
        SourceError: a value that is no number, with its row.
    """
    if pa.types.is_string(column.type):
        trimmed = pc.utf8_trim_whitespace(column)
        column = pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed)
    elif pa.types.is_boolean(column.type):
        raise SourceError(f"`{field}` of {uri} is {column.type}, not a number; set `source.columns.{field}`.")
    try:
        return column.cast(pa.float64())
    except pa.ArrowNotImplementedError as err:
        raise SourceError(f"`{field}` of {uri} is {column.type}, not a number; set `source.columns.{field}`.") from err
    except pa.ArrowInvalid:
        return pa.array([_float(value, row, field, uri) for row, value in enumerate(column.to_pylist(), first_row + 1)])


def _float(value: object, row: int, field: str, uri: str) -> float | None:
    if value is None:
        return None
    try:
        return float(str(value))
    except ValueError as err:
        raise SourceError(f"{uri}, row {row} (without the header): `{field}` is {value!r}, not a number.") from err


def integers(column: Column, field: str, uri: str, first_row: int = 0) -> Column:
    """Like `floats`, as int32; null where a value is no positive whole number."""
    values = floats(column, field, uri, first_row)
    return pc.if_else(_fits(values), values, pa.scalar(None, pa.float64())).cast(pa.int32())


def _fits(values: Column) -> Column:
    in_range = pc.and_(pc.greater_equal(values, 1), pc.less_equal(values, _INT32_MAX))
    return pc.and_(in_range, pc.equal(pc.floor(values), values))

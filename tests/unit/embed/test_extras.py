import pyarrow as pa
import pytest

from w2vb_ray.embed.extras import align_extras
from w2vb_ray.errors import SinkError

from .rows import inventory


def source(**own):
    """An inventory of two rows with these own columns."""
    table = inventory([{"id": "a"}, {"id": "b"}], own=()).select(list(range(10)))
    for name, column in own.items():
        table = table.append_column(name, column)
    return table


def stored(**own):
    return pa.schema([pa.field("utterance_id", pa.string()), *(pa.field(name, kind) for name, kind in own.items())])


def test_equal_new_and_absent_columns_stay_as_they_are():
    table = source(text=pa.array(["x", "y"]), age=pa.array([1, 2]))
    for columns in (stored(), stored(text=pa.string(), age=pa.int64()), stored(gone=pa.bool_())):
        assert align_extras(table, columns, "sink").equals(table)


@pytest.mark.parametrize(
    ("column", "wanted", "values"),
    [
        (pa.array([1, 2], pa.int32()), pa.int64(), [1, 2]),
        (pa.array([1, None], pa.int64()), pa.int32(), [1, None]),
        (pa.array([1, 2]), pa.string(), ["1", "2"]),
        (pa.array(["1", "2"]), pa.int64(), [1, 2]),
        (pa.array([1.0, 2.0]), pa.int64(), [1, 2]),
        (pa.nulls(2), pa.string(), [None, None]),
        (pa.array([["x"], []]), pa.list_(pa.string()), [["x"], []]),
    ],
)
def test_what_converts_without_loss_is_converted(column, wanted, values):
    table = align_extras(
        source(before=pa.array([0, 0]), own=column, after=pa.array([1, 1])), stored(own=wanted), "sink"
    )
    assert table.column_names[-3:] == ["before", "own", "after"]
    assert (table["own"].type, table["own"].to_pylist()) == (wanted, values)


@pytest.mark.parametrize(
    ("column", "wanted"),
    [
        (pa.array(["x", "2"]), pa.int64()),
        (pa.array([1.5, 2.0]), pa.int64()),
        (pa.array([2**40, 1]), pa.int32()),
        (pa.array([{"a": 1}, {"a": 2}]), pa.int64()),
        (pa.array([["x"], []]), pa.int64()),
    ],
)
def test_what_does_not_is_refused_with_both_types(column, wanted):
    with pytest.raises(SinkError) as caught:
        align_extras(source(own=column), stored(own=wanted), "s3://b/tables")
    for part in ("'own'", str(column.type), str(wanted), "s3://b/tables", "rename it in the source"):
        assert part in str(caught.value)


def test_fixed_columns_are_not_touched():
    table = source()
    assert align_extras(table, pa.schema([pa.field("start_s", pa.string())]), "sink").equals(table)

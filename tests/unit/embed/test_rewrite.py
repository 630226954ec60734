import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from w2vb_ray.embed import rewrite as module
from w2vb_ray.embed.rewrite import check_same, rewrite
from w2vb_ray.embed.tables import FRAMES, UTTERANCES, DataFile, Layout, add_action, new_file
from w2vb_ray.errors import W2vbError
from w2vb_ray.schema import frames_schema, utterances_schema

from .sink import VECTORS, Driver

OWN = pa.schema([("text", pa.string()), ("snr", pa.float64()), ("tags", pa.list_(pa.string()))])
METADATA = {b"w2vb.pooling": b"mean"}


@pytest.fixture
def tables(tmp_path):
    driver = Driver(tmp_path, "r1")
    layouts = {
        UTTERANCES: Layout(utterances_schema(VECTORS, OWN), {}),
        FRAMES: Layout(frames_schema(VECTORS), {}),
    }
    assert driver.hold({**layouts, "rejects": layouts[UTTERANCES]})
    return driver.tables


def utterances(ids, columns=OWN, seed=0):
    rng = np.random.default_rng(seed)
    rows = [
        {
            "utterance_id": id_,
            "embedding": rng.standard_normal(4).astype(np.float32).tolist(),
            "snr": math.nan if number % 3 else number / 7,
            "tags": [id_, None][: number % 3] if number % 4 else None,
        }
        for number, id_ in enumerate(ids)
    ]
    schema = utterances_schema(VECTORS, columns)
    return pa.Table.from_pylist(rows, schema=schema.remove(schema.get_field_index("language")))


def frames(ids, num_frames=3):
    rows = [{"utterance_id": id_, "frames": [[float(n)] * 4 for n in range(num_frames)]} for id_ in ids]
    schema = frames_schema(VECTORS)
    return pa.Table.from_pylist(rows, schema=schema.remove(schema.get_field_index("language")))


def stored(table, rows, language="eng"):
    rows = rows.replace_schema_metadata(METADATA)
    path = new_file(language, "r1")
    return DataFile(path, language, rows.num_rows, table.write(path, [rows], rows.schema))


def read(table, file):
    return pq.ParquetFile(f"{table.uri}/{file.path}")


def same(left, right):
    return repr(left.to_pylist()) == repr(right.to_pylist())  # NaN and all


@pytest.mark.parametrize("small_bytes", [8 * 1024**2, 0])
def test_rows_of_all_files_come_in_order_and_value_by_value(tables, monkeypatch, small_bytes):
    monkeypatch.setattr(module, "_SMALL_BYTES", small_bytes)
    table = tables[UTTERANCES]
    parts = [utterances([f"{number}-{row}" for row in range(7)], seed=number) for number in range(20)]
    files = [stored(table, part, language="ə x/y%") for part in parts]
    made = rewrite(table, files, "r2")
    assert (made.language, made.num_rows) == ("ə x/y%", 140)
    assert made.path.startswith("language=%C9%99%20x%2Fy%25/r2-")
    assert made.num_bytes == len(table.fetch(made.path))
    found = table.read(made.path)
    assert same(found, pa.concat_tables(parts))
    assert found.schema.equals(parts[0].schema)
    check_same(table, files, made)


def test_a_column_that_came_later_is_null_before(tables):
    table = tables[UTTERANCES]
    early = utterances(["a"], columns=OWN.remove(1))
    late = utterances(["b", "c"])
    files = [stored(table, early), stored(table, late)]
    made = rewrite(table, files, "r2")
    check_same(table, files, made)
    found = table.read(made.path)
    assert found.column_names == late.column_names
    assert repr(found["snr"].to_pylist()) == "[None, 0.0, nan]"


def test_encoding_and_metadata_stay(tables):
    for name, rows, column in (
        (UTTERANCES, utterances(["a", "b"]), "embedding.list.element"),
        (FRAMES, frames(["a", "b"]), "frames.list.element.list.element"),
    ):
        table = tables[name]
        old = stored(table, rows)
        for file in (old, rewrite(table, [old, old], "r2")):
            found = read(table, file)
            group = found.metadata.row_group(0)
            chunks = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
            assert "BYTE_STREAM_SPLIT" in chunks[column].encodings
            assert {chunk.compression for chunk in chunks.values()} == {"ZSTD"}
            assert "RLE_DICTIONARY" in chunks["utterance_id"].encodings
            assert "RLE_DICTIONARY" not in chunks[column].encodings
            assert found.schema_arrow.metadata == METADATA


def test_what_cannot_be_null_stays_so_and_tables_of_both_kinds_are_read(tables):
    table = tables[UTTERANCES]
    rows = utterances(["a", "b"])
    strict = rows.cast(rows.schema.set(0, rows.schema.field(0).with_nullable(False)))
    old = stored(table, strict)
    made = rewrite(table, [old], "r2", without=pa.array(["a"]))
    assert read(table, made).schema_arrow.equals(read(table, old).schema_arrow, check_metadata=True)
    table.append([add_action(made), add_action(stored(table, utterances(["c"])))], None)
    table.reload()
    assert sorted(table.scan(["utterance_id"])["utterance_id"].to_pylist()) == ["b", "c"]


def test_small_row_groups_become_full_ones(tables):
    table = tables[FRAMES]
    files = [stored(table, frames([f"{number}-{row}" for row in range(50)])) for number in range(4)]
    made = rewrite(table, files, "r2")
    metadata = read(table, made).metadata
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [64, 64, 64, 8]


def test_long_rows_make_short_row_groups(tables, monkeypatch):
    monkeypatch.setattr(module, "_GROUP_BYTES", 1)
    table = tables[FRAMES]
    made = rewrite(table, [stored(table, frames(["a", "b"]))], "r2")
    assert read(table, made).metadata.num_row_groups == 2


def test_between_is_called_for_every_row_group(tables):
    calls = []
    table = tables[FRAMES]
    files = [stored(table, frames([str(row) for row in range(150)]))]
    made = rewrite(table, files, "r2", between=lambda: calls.append(1))
    assert len(calls) == 3
    check_same(table, files, made, between=lambda: calls.append(1))
    assert len(calls) == 6


def test_rows_are_left_out_by_id(tables):
    table = tables[UTTERANCES]
    rows = utterances(list("abcdef"))
    old = stored(table, rows)
    gone = pa.array(["a", "e", "not there"])
    made = rewrite(table, [old], "r2", without=gone)
    check_same(table, [old], made, without=gone)
    assert same(table.read(made.path), rows.take([1, 2, 3, 5]))
    assert made.num_rows == 4


def test_no_row_left_is_no_file(tables):
    table = tables[UTTERANCES]
    old = stored(table, utterances(["a", "b"]))
    assert rewrite(table, [old], "r2", without=pa.array(["b", "a"])) is None
    assert len(list(Path(table.uri).rglob("*.parquet"))) == 1


def changed(rows, name, value):
    columns = {**{column: rows[column].to_pylist() for column in rows.column_names}}
    columns[name][1] = value
    return pa.table(columns, schema=rows.schema)


@pytest.mark.parametrize(
    "made",
    [
        lambda rows: rows.slice(1),
        lambda rows: rows.slice(0, 2),
        lambda rows: pa.concat_tables([rows, rows.slice(2)]),
        lambda rows: rows.take([1, 0, 2]),
        lambda rows: changed(rows, "text", "?"),
        lambda rows: changed(rows, "embedding", [0.0, 1.0, 2.0, 3.0]),
        lambda rows: changed(rows, "snr", None),
        lambda rows: changed(rows, "tags", []),
    ],
)
def test_a_file_that_is_not_what_it_was_made_of_is_found(tables, made):
    table = tables[UTTERANCES]
    rows = utterances(list("abc"))
    old = stored(table, rows)
    check_same(table, [old], stored(table, rows))
    with pytest.raises(W2vbError, match="does not hold the rows that were written to it; nothing of it was committed"):
        check_same(table, [old], stored(table, made(rows)))

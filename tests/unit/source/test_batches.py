"""A source that is read in pieces is the source that is read whole."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from w2vb_ray.config.sections import SourceSection
from w2vb_ray.errors import SourceError
from w2vb_ray.source import build_inventory, delimited, inventory, jsonl, tabular

SMALL = 3  # rows of a piece


def make_small(patch):
    """Blocks, batches and chunks of a few rows."""
    patch.setattr(tabular, "BLOCK_ROWS", SMALL)
    patch.setattr(inventory, "BATCH_ROWS", SMALL)
    patch.setattr(jsonl, "_CHUNK_ROWS", SMALL)
    patch.setattr(delimited, "_BLOCK_BYTES", 256)


@pytest.fixture
def small_pieces(monkeypatch):
    """The same for a whole test."""
    make_small(monkeypatch)


def read(uri, **settings):
    """The inventory, its rows by id, and how many rows each batch has."""
    found = build_inventory(SourceSection(uri=str(uri), **settings))
    batches = list(found.batches())
    assert len({batch.table.schema for batch in batches}) == 1
    assert all(len(batch.keys) == batch.table.num_rows for batch in batches)
    return found, {row["utterance_id"]: row for row in found.table.to_pylist()}, [b.table.num_rows for b in batches]


def write(folder, kind, rows):
    """Dicts with the same keys -> a manifest; text formats get text."""
    uri = folder / f"m.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), uri, row_group_size=4)
    elif kind == "jsonl":
        uri.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        lines = [
            ",".join("" if cell is None else str(cell) for cell in line) for line in [rows[0], *map(dict.values, rows)]
        ]
        uri.write_text("\n".join(lines) + "\n")
    return uri


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_every_row_is_there_once(tmp_path, small_pieces, kind):
    rows = [{"path": f"/{i}.wav", "source_version": f"v{i}", "id": f"u{i}", "text": f"t{i}"} for i in range(40)]
    _, found, sizes = read(write(tmp_path, kind, rows))
    assert [found[f"u{i}"]["text"] for i in range(40)] == [f"t{i}" for i in range(40)]
    assert sum(sizes) == 40
    assert len(sizes) > 3
    assert max(sizes) < 20


def test_a_folder_comes_in_batches_too(tmp_path, small_pieces):
    for i in range(10):
        (tmp_path / f"{i}.wav").write_bytes(b"x" * i)
    _, found, sizes = read(tmp_path)
    assert sizes == [3, 3, 3, 1]
    assert {row["source_bytes"] for row in found.values()} == set(range(10))


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
@settings(max_examples=25)
@given(ids=st.lists(st.sampled_from(["a", "b", "a#2", "b#3"]), min_size=1, max_size=20))
def test_ids_that_repeat_far_apart(tmp_path_factory, kind, ids):
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        rows = [{"path": f"/{i}.wav", "source_version": "v", "id": id_} for i, id_ in enumerate(ids)]
        found, by_id, _ = read(write(tmp_path_factory.mktemp("m"), kind, rows))
    assert len(by_id) == len(ids) == found.table.num_rows
    first = {id_: ids.index(id_) for id_ in ids}
    assert all(by_id[id_]["audio_uri"] == f"/{row}.wav" for id_, row in first.items())
    assert set(found.duplicates.to_pylist()) == by_id.keys() - first.keys()
    assert [batch.repeated for batch in found.batches()] == sorted(batch.repeated for batch in found.batches())


def test_json_types_hold_for_the_whole_file(tmp_path, small_pieces):
    odd = [1, 2, 3, 4, 5, 6, "seven", [8]]
    number = [1, 2, 3, 4, 5, 6, 7, 8.5]
    late = [None, None, None, None, {"a": 1}, None, {"b": "x"}, None]
    rows = [
        {"path": f"/{i}.wav", "source_version": "v", "id": i, "odd": odd[i], "number": number[i], "late": late[i]}
        for i in range(8)
    ]
    found, by_id, sizes = read(write(tmp_path, "jsonl", rows))
    assert len(sizes) == 3
    assert found.table.schema.field("odd").type == pa.string()
    assert [by_id[str(i)]["odd"] for i in range(8)] == ["1", "2", "3", "4", "5", "6", "seven", "[8]"]
    assert [by_id[str(i)]["number"] for i in range(8)] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.5]
    assert [by_id[str(i)]["late"] for i in (0, 4, 6)] == [None, {"a": 1, "b": None}, {"a": None, "b": "x"}]


def test_numbers_beyond_int64_make_the_whole_column_text(tmp_path, small_pieces):
    values = pa.array([1, 2, 3, 4, 2**63, 6, 7, 8], pa.uint64())
    fits = pa.array(range(8), pa.uint64())
    table = pa.table({"path": [f"/{i}.wav" for i in range(8)], "source_version": ["v"] * 8, "n": values, "fits": fits})
    pq.write_table(table, tmp_path / "m.parquet")
    found, _, sizes = read(tmp_path / "m.parquet")
    assert len(sizes) == 3
    assert (found.table.schema.field("n").type, found.table.schema.field("fits").type) == (pa.string(), pa.int64())
    assert sorted(found.table["n"].to_pylist()) == sorted(str(value) for value in values.to_pylist())


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
@pytest.mark.parametrize("last", [0.0, 1.5])
def test_offsets_make_segments_in_every_piece(tmp_path, small_pieces, kind, last):
    rows = [{"path": f"/{i}.wav", "source_version": "v", "offset": 0.0, "duration": 2.0} for i in range(10)]
    rows[-1]["offset"] = last
    found, _, _ = read(write(tmp_path, kind, rows))
    starts = [row["start_s"] for row in sorted(found.table.to_pylist(), key=lambda row: row["audio_uri"])]
    assert starts == [0.0] * 9 + [last]


def test_parts_with_other_columns_and_types(tmp_path, small_pieces):
    parts = tmp_path / "parts"
    parts.mkdir()
    for number, own in enumerate([{"n": [1, 2]}, {"n": [1.5, None], "only": ["x", "y"]}, {"n": ["a", "b"]}]):
        names = [f"/{number}-{i}.wav" for i in range(2)]
        pq.write_table(pa.table({"path": names, "source_version": ["v", "v"], **own}), parts / f"{number}.parquet")
    found, _, sizes = read(parts, format="manifest")
    rows = {row["audio_uri"]: row for row in found.table.to_pylist()}
    assert sum(sizes) == 6
    assert [rows[f"/{i}-0.wav"]["n"] for i in range(3)] == ["1", "1.5", "a"]
    assert [rows[f"/{i}-0.wav"]["only"] for i in range(3)] == [None, "x", None]


def test_an_offset_in_a_later_part_only(tmp_path, small_pieces):
    for number, own in enumerate([{}, {"offset": [0.0, 1.0], "duration": [2.0, 2.0]}]):
        folder = tmp_path / "parts" / f"lang=l{number}"
        folder.mkdir(parents=True)
        names = [f"/{number}-{i}.wav" for i in range(2)]
        pq.write_table(pa.table({"path": names, "source_version": ["v", "v"], **own}), folder / "0.parquet")
    found, _, _ = read(tmp_path / "parts", format="manifest")
    rows = {row["audio_uri"]: (row["start_s"], row["end_s"], row["language"]) for row in found.table.to_pylist()}
    assert rows == {
        "/0-0.wav": (None, None, "l0"),
        "/0-1.wav": (None, None, "l0"),
        "/1-0.wav": (0.0, 2.0, "l1"),
        "/1-1.wav": (1.0, 3.0, "l1"),
    }


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_row_in_an_error_is_counted_from_the_beginning(tmp_path, small_pieces, kind):
    rows = [{"path": "/a.wav", "source_version": "v", "start": str(i)} for i in range(60)]
    rows[50]["start"] = "soon"
    with pytest.raises(SourceError, match=r"row 51 .*`start_s` is 'soon', not a number"):
        read(write(tmp_path, kind, rows))


def test_a_malformed_line_far_down_is_named(tmp_path, small_pieces):
    (tmp_path / "m.csv").write_text("path,source_version\n" + "/a.wav,v\n" * 100 + "/a.wav,v,w\n" + "/a.wav,v\n" * 100)
    with pytest.raises(SourceError, match=r"m\.csv, line 102 has 3 cells, but the header has 2"):
        read(tmp_path / "m.csv")


def test_a_source_that_changes_is_read_anew(tmp_path):
    uri = write(tmp_path, "csv", [{"path": "/a.wav", "source_version": "v"}])
    found = build_inventory(SourceSection(uri=str(uri)))
    assert [batch.table.num_rows for batch in found.batches()] == [1]
    uri.write_text(uri.read_text() + "/b.wav,v\n")
    assert [batch.table.num_rows for batch in found.batches()] == [2]

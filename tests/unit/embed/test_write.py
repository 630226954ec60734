import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from w2vb_ray import schema
from w2vb_ray.embed.write import WriteTask, num_by_length, rounded, write_units
from w2vb_ray.errors import SinkError

from .rows import encoded, packed

LANGUAGES = ["eng", "a b", "x/y", "ə", "50%", "nan", "no", "a=b", "..", "language=x", "%2F", "a&b#?", "C:\\x", "und"]


@pytest.fixture
def write(tmp_path):
    """Units of encoded rows -> the descriptor, with the folder of the tables."""

    def write(*units, layers=(4,)):
        made = {"w2vb.pooling": "mean", "w2vb.checkpoint": "ə"}
        task = WriteTask(str(tmp_path), {}, schema.Vectors(layers), "run-1", made)
        rows = [packed(unit, number) for number, unit in enumerate(units)]
        table = write_units(pa.concat_tables(rows, promote_options="permissive"), task)
        assert table.schema.equals(schema.DESCRIPTOR)
        (descriptor,) = table.to_pylist()
        return descriptor

    write.folder = tmp_path
    return write


def files(write, descriptor, table):
    """Path -> rows of every file that the descriptor names for a table, language added as readers would."""
    return {
        file["path"]: pq.read_table(write.folder / table / file["path"], partitioning=None)
        for file in descriptor["files"]
        if file["table"] == table
    }


def ids(tables):
    return sorted(id_ for table in tables for id_ in table["utterance_id"].to_pylist())


def test_one_file_per_table_and_language(write):
    rows = [
        {"id": "a", "language": "eng"},
        {"id": "b", "language": "no"},
        {"id": "c", "language": "eng", "reason": "empty"},
        {"id": "d", "language": "eng"},
    ]
    descriptor = write(encoded(rows), encoded([{"id": "e", "language": "no"}, {"id": "f", "reason": "too_short"}]))
    found = {(file["table"], file["language"]): file for file in descriptor["files"]}
    assert {key: file["num_rows"] for key, file in found.items()} == {
        ("utterances", "eng"): 2,
        ("utterances", "no"): 2,
        ("rejects", "eng"): 2,
    }
    assert len(descriptor["files"]) == 3
    assert descriptor["units"] == [0, 1]
    assert ids(files(write, descriptor, "utterances").values()) == ["a", "b", "d", "e"]
    assert ids(files(write, descriptor, "rejects").values()) == ["c", "f"]
    on_disk = {str(path.relative_to(write.folder)) for path in write.folder.rglob("*") if path.is_file()}
    assert on_disk == {f"{file['table']}/{file['path']}" for file in descriptor["files"]}
    for file in descriptor["files"]:
        assert (write.folder / file["table"] / file["path"]).stat().st_size == file["num_bytes"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_any_language_is_one_directory_that_readers_understand(write, language):
    descriptor = write(encoded([{"id": "a", "language": language}]))
    (file,) = descriptor["files"]
    assert file["language"] == language
    assert file["path"].count("/") == 1
    assert (write.folder / "utterances" / file["path"]).is_file()
    partitioning = pyarrow.dataset.partitioning(pa.schema([("language", pa.string())]), flavor="hive")
    table = pyarrow.dataset.dataset(write.folder / "utterances", partitioning=partitioning).to_table()
    assert table["language"].to_pylist() == [language]
    assert "language" not in pq.read_schema(write.folder / "utterances" / file["path"]).names


@pytest.mark.parametrize("layers", [[4], [0, 12]])
def test_columns_are_those_of_the_schema_in_its_order(write, layers):
    rows = encoded([{"id": "a"}, {"id": "b", "reason": "empty"}], layers=layers, frames=True)
    descriptor = write(rows, layers=layers)
    expected = {
        "utterances": schema.utterances_schema(schema.Vectors(layers), pa.schema([("text", pa.string())])),
        "frames": schema.frames_schema(schema.Vectors(layers)),
        "rejects": schema.REJECTS,
    }
    for table, columns in expected.items():
        (stored,) = files(write, descriptor, table).values()
        assert stored.schema.remove_metadata().equals(
            pa.schema([field for field in columns if field.name != "language"])
        )
        assert stored["run_id"].to_pylist() == ["run-1"]
    assert files(write, descriptor, "utterances").popitem()[1]["text"].to_pylist() == ["text of a"]
    assert files(write, descriptor, "rejects").popitem()[1].select(["reason", "detail"]).to_pylist() == [
        {"reason": "empty", "detail": "why"}
    ]


def test_vectors_are_stored_rounded_and_whole(write):
    vectors = np.random.default_rng(1).standard_normal((5, 16)).astype(np.float32)
    rows = [{"id": f"u{i}", "embedding": vector, "language": "ab"[i % 2]} for i, vector in enumerate(vectors)]
    rows.insert(2, {"id": "bad", "reason": "empty", "language": "a"})
    found = {}
    for table in files(write, write(encoded(rows)), "utterances").values():
        found |= dict(zip(table["utterance_id"].to_pylist(), table["embedding"].to_pylist(), strict=True))
    assert found == {f"u{i}": rounded(vector).tolist() for i, vector in enumerate(vectors)}


def test_encodings_in_the_parquet_metadata(write):
    # Fewer distinct values than rows: a dictionary would be taken wherever it is allowed.
    same = np.linspace(-1, 1, 64, dtype=np.float32)
    rows = encoded([{"id": f"u{i}", "embedding": same} for i in range(50)], dimension=64, frames=True)
    descriptor = write(rows)
    for name, vectors in (("utterances", "embedding.list.element"), ("frames", "frames.list.element.list.element")):
        (file,) = [file for file in descriptor["files"] if file["table"] == name]
        metadata = pq.read_metadata(write.folder / name / file["path"])
        columns = {}
        for index in range(metadata.num_columns):
            column = metadata.row_group(0).column(index)
            columns[column.path_in_schema] = column
        assert {column.compression for column in columns.values()} == {"ZSTD"}
        assert "BYTE_STREAM_SPLIT" in columns[vectors].encodings
        assert not columns[vectors].has_dictionary_page
        assert columns["run_id"].has_dictionary_page
        assert metadata.metadata[b"w2vb.pooling"] == b"mean"
        assert metadata.metadata[b"w2vb.checkpoint"] == "ə".encode()


@pytest.mark.parametrize("layers", [[4], [0, 4]])
def test_frames_have_their_shape_and_their_values(write, layers):
    rows = [
        {"id": "a", "num_frames": 2},
        {"id": "r", "reason": "empty"},
        {"id": "b", "num_frames": 5},
        {"id": "c", "num_frames": 1},
    ]
    unit = encoded(rows, layers=layers, frames=True)
    (stored,) = files(write, write(unit, layers=layers), "frames").values()
    assert stored.select(["utterance_id", "num_frames", "frame_rate_hz"]).to_pylist() == [
        {"utterance_id": id_, "num_frames": num_frames, "frame_rate_hz": 50.0}
        for id_, num_frames in (("a", 2), ("b", 5), ("c", 1))
    ]
    for name in schema.Vectors(layers).frames:
        raw = [np.frombuffer(matrix, np.float32).reshape(-1, 8) for matrix in unit[name].to_pylist() if matrix]
        assert [np.array(matrix).shape for matrix in stored[name].to_pylist()] == [(2, 8), (5, 8), (1, 8)]
        for matrix, expected in zip(stored[name].to_pylist(), raw, strict=True):
            np.testing.assert_array_equal(np.array(matrix, np.float32), rounded(expected))


def test_a_unit_of_rejects_beside_one_with_frames(write):
    all_rejected = encoded([{"id": "r", "reason": "empty"}])  # the encoder kept no frames: there were none
    for units in (
        [all_rejected, encoded([{"id": "a"}], frames=True)],
        [encoded([{"id": "a"}], frames=True), all_rejected],
    ):
        descriptor = write(*units)
        assert ids(files(write, descriptor, "frames").values()) == ["a"]
        assert ids(files(write, descriptor, "rejects").values()) == ["r"]
    assert {file["table"] for file in write(all_rejected)["files"]} == {"rejects"}


def test_an_own_column_that_looks_like_frames_is_just_a_column(write):
    unit = encoded([{"id": "a"}]).append_column("frames_per_buffer", pa.array([b"x"], pa.large_binary()))
    descriptor = write(unit)
    assert {file["table"] for file in descriptor["files"]} == {"utterances"}


def test_counts(write):
    rows = [
        {"id": "a"},
        {"id": "b"},
        {"id": "c", "language": "no"},
        {"id": "d", "reason": "empty"},
        {"id": "e", "reason": "empty"},
        {"id": "f", "reason": "too_long"},
    ]
    descriptor = write(encoded(rows[:3]), encoded(rows[3:]))
    outcomes = {(o["language"], o["reason"]): (o["count"], o["audio_s"]) for o in descriptor["outcomes"]}
    assert outcomes == {
        ("eng", None): (2, 3.0),
        ("no", None): (1, 1.5),
        ("eng", "empty"): (2, None),
        ("eng", "too_long"): (1, None),
    }
    assert (descriptor["num_frames"], descriptor["num_padding_frames"], descriptor["encode_s"]) == (20, 4, 1.0)
    assert descriptor["encode_started"] == 999.0  # of the first of its units
    assert descriptor["read_s"] == 0.5
    assert descriptor["write_s"] > 0
    assert descriptor["num_by_length"] == num_by_length(np.full(3, 1.5))


def test_lengths_fall_into_bins_whose_upper_edge_is_outside():
    lengths = num_by_length(np.array([0.03, 0.5, 0.999, 1.0, 3600.0, 10_000.0]))
    assert lengths[:3] == [1, 2, 1]
    assert lengths[-1] == 2
    assert len(lengths) == len(schema.LENGTH_EDGES_S) + 1
    assert num_by_length(np.array([])) == [0] * len(lengths)


def test_what_a_commit_takes_out(write):
    held = {"in_utterances": True, "in_rejects": True}
    rows = [
        {"id": "new"},
        {"id": "again", **held},
        {"id": "was_rejected", "in_rejects": True},
        {"id": "now_bad", **held, "reason": "empty"},
        {"id": "hiccup", **held, "reason": "unreadable"},
        {"id": "moved", **held, "reason": "changed"},
        {"id": "new_bad", "reason": "empty"},
    ]
    descriptor = write(encoded(rows))
    # A store that would not answer now says nothing against the vector of yesterday.
    assert sorted(descriptor["replaced_utterances"]) == ["again", "now_bad"]
    assert sorted(descriptor["replaced_rejects"]) == ["again", "hiccup", "moved", "now_bad", "was_rejected"]


def test_nothing_has_a_name_used_before(write):
    unit = encoded([{"id": "a"}])
    paths = {file["path"] for _ in range(5) for file in write(unit)["files"]}
    assert len(paths) == 5
    assert all(path.startswith("language=eng/run-1-") for path in paths)


def test_nothing_is_left_of_a_write_that_fails(write, monkeypatch):
    write_table = pq.ParquetWriter.write_table

    def fail(writer, rows, **options):
        write_table(writer, rows, **options)
        raise OSError("disk full")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", fail)
    with pytest.raises(SinkError, match=r"cannot be written: .*disk full"):
        write(encoded([{"id": "a"}]))
    assert [path for path in write.folder.rglob("*") if path.is_file()] == []
